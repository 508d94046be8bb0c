"""What Go's decoder says of a text that is no JSON, or another value than it should be (`encoding/json`)."""

import re
from typing import Any, Final, NoReturn

SEARCHED_MAX: Final = 64 << 10
"""Bytes: where a larger text ends to be JSON is not looked for."""
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_space = re.compile(r"[ \t\r\n]*")
_plain = re.compile(r'[^"\\\x00-\x1f]*')
_digits = re.compile(r"[0-9]+")
_MAP: Final = "map[string]interface {}"


def syntax_error(body: bytes) -> str:
    """Where a text ends to be JSON."""
    if len(body) > SEARCHED_MAX:
        return "invalid JSON"
    try:
        _Scanner(body.decode("latin-1")).scan()  # Go tells of bytes, too
    except _Unexpected as error:
        return str(error)
    except RecursionError:
        return "exceeded max depth"
    return "invalid JSON"


def mismatch(value: Any, wanted: str = _MAP) -> str:
    """That a value is of another type than is wanted."""
    kinds = {dict: "object", list: "array", str: "string", bool: "bool"}
    return f"json: cannot unmarshal {kinds.get(type(value), 'number')} into Go value of type {wanted}"


def mismatch_in(struct: str, field: str, value: Any) -> str:
    """As `mismatch`, of a text in a field of a struct."""
    return mismatch(value, "string").replace("Go value", f"Go struct field {struct}.{field}")


class _Unexpected(Exception):
    pass


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def scan(self) -> None:
        self._value()
        self._skip(_space)
        if self._at < len(self._text):
            self._refuse("after top-level value")

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is None:
            return False
        self._at = match.end()
        return True

    def _peek(self) -> str:
        self._skip(_space)
        return self._text[self._at : self._at + 1]

    def _refuse(self, where: str) -> NoReturn:
        # Where the text ends in the midst of one of these, Go looks whether they could end there.
        sign = self._text[self._at : self._at + 1] or (" " if " literal" in where and " string" not in where else "")
        if not sign:
            raise _Unexpected("unexpected end of JSON input")
        shown = {"'": r"'\''", '"': "'\"'"}.get(sign) or f"'{sign}'"
        if not sign.isprintable():
            shown = f"{sign!r}"
        raise _Unexpected(f"invalid character {shown} {where}")

    def _value(self) -> None:
        match self._peek():
            case "{":
                self._object()
            case "[":
                self._array()
            case '"':
                self._string()
            case "t" | "f" | "n" as first:
                self._literal(_LITERALS[first])
            case sign if sign == "-" or (sign and sign in "0123456789"):
                self._number()
            case _:
                self._refuse("looking for beginning of value")

    def _object(self) -> None:
        self._at += 1
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            if self._peek() != '"':
                self._refuse("looking for beginning of object key string")
            self._string()
            if self._peek() != ":":
                self._refuse("after object key")
            self._at += 1
            self._value()
            if self._ends("}", "after object key:value pair"):
                return

    def _array(self) -> None:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            self._value()
            if self._ends("]", "after array element"):
                return

    def _ends(self, end: str, where: str) -> bool:
        sign = self._peek()
        if sign not in (",", end):
            self._refuse(where)
        self._at += 1
        return sign == end

    def _string(self) -> None:
        self._at += 1
        while True:
            self._skip(_plain)
            sign = self._text[self._at : self._at + 1]
            if sign == '"':
                self._at += 1
                return
            if sign != "\\":
                self._refuse("in string literal")
            self._escape()

    def _escape(self) -> None:
        self._at += 1
        sign = self._text[self._at : self._at + 1]
        if not sign or sign not in '"\\/bfnrtu':
            self._refuse("in string escape code")
        self._at += 1
        for _ in range(4 if sign == "u" else 0):
            digit = self._text[self._at : self._at + 1]
            if not digit or digit not in "0123456789abcdefABCDEF":
                self._refuse(r"in \u hexadecimal character escape")
            self._at += 1

    def _literal(self, word: str) -> None:
        for expected in word[1:]:
            self._at += 1
            if self._text[self._at : self._at + 1] != expected:
                self._refuse(f"in literal {word} (expecting '{expected}')")
        self._at += 1

    def _number(self) -> None:
        if self._text[self._at] == "-":
            self._at += 1
        if self._text[self._at : self._at + 1] == "0":
            self._at += 1
        elif not self._skip(_digits):
            self._refuse("in numeric literal")
        if self._text[self._at : self._at + 1] == ".":
            self._at += 1
            if not self._skip(_digits):
                self._refuse("after decimal point in numeric literal")
        if self._text[self._at : self._at + 1] in ("e", "E"):
            self._at += 1
            if self._text[self._at : self._at + 1] in ("+", "-"):
                self._at += 1
            if not self._skip(_digits):
                self._refuse("in exponent of numeric literal")
