"""A label selector's text, understood and refused as the server does it (`k8s.io/apimachinery`, `pkg/labels`)."""

import re
from typing import Final, NamedTuple

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import formats
from tidelog.engine.cluster.embedded.selectors import Operator, Requirement
from tidelog.engine.cluster.embedded.statuses import bad_request

_WORD: Final = ""
"""The kind of a token that is none of the signs; the kind of the others is what they are."""
_END: Final = "end"
_SIGNS: Final = ("==", "!=", "=", "!", "(", ")", ",", "<", ">")
_token = re.compile(r"\s*([^\s=!(),<>]+|" + "|".join(map(re.escape, _SIGNS)) + ")", re.ASCII)
_OPERATORS: Final[dict[str, Operator]] = {
    "in": "in",
    "notin": "notin",
    "=": "=",
    "==": "=",
    "!=": "!=",
    ">": "gt",
    "<": "lt",
}
_whole = re.compile(r"[+-]?\d{1,19}", re.ASCII)


class _NoSelectorError(ValueError):
    """A text is no label selector."""


class _Token(NamedTuple):
    kind: str
    text: str


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of a label selector.

    Raises:
        StatusError: when it is none.
    """
    try:
        return _Parser(text).requirements()
    except _NoSelectorError as error:
        raise bad_request(str(error)) from None


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _token.finditer(text):
        word = match[1]
        found.append(_Token(word if word in _SIGNS else _WORD, word))
    return [*found, _Token(_END, "")]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def requirements(self) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        while self._next.kind != _END:
            if self._next.kind not in (_WORD, "!"):
                raise _NoSelectorError(f"found '{self._next.text}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except _NoSelectorError as error:
                raise _NoSelectorError(f"unable to parse requirement: {error}") from None
            token = self._take()
            if token.kind == _END:
                break
            if token.kind != ",":
                raise _NoSelectorError(f"found '{token.text}', expected: ',' or 'end of string'")
            if self._next.kind not in (_WORD, "!"):
                raise _NoSelectorError(f"found '{self._next.text}', expected: identifier after ','")
        return tuple(found)

    def _requirement(self) -> Requirement:
        token = self._take()
        is_not = token.kind == "!"
        if is_not:
            token = self._take()
        if token.kind != _WORD:
            raise _NoSelectorError(f"found '{token.text}', expected: identifier")
        key = token.text
        _check("", key, formats.qualified_name(key))
        if is_not:
            return Requirement(key, "!")
        if self._next.kind in (_END, ","):
            return Requirement(key, "exists")
        return self._compared(key)

    def _compared(self, key: str) -> Requirement:
        sign = self._take()
        operator = _OPERATORS.get(sign.text)
        if operator is None:
            raise _NoSelectorError(f"found '{sign.text}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._set() if operator in ("in", "notin") else (self._value(),)
        if operator in ("gt", "lt") and not _whole.fullmatch(values[0]):
            _check("values[0]", values[0], ["for 'Gt', 'Lt' operators, the value must be an integer"])
        wrong = [each for n, one in enumerate(values) for each in _wrong(f"values[{n}][{key}]", one)]
        if wrong:
            raise _NoSelectorError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
        return Requirement(key, operator, values)

    def _value(self) -> str:
        if self._next.kind in (_END, ","):
            return ""
        token = self._take()
        if token.kind != _WORD:
            raise _NoSelectorError(f"found '{token.text}', expected: identifier")
        return token.text

    def _set(self) -> tuple[str, ...]:
        token = self._take()
        if token.kind != "(":
            raise _NoSelectorError(f"found '{token.text}' expected: '('")
        if self._next.kind == ")":
            self._take()
            return ("",)
        if self._next.kind not in (_WORD, ","):
            raise _NoSelectorError(f"found '{self._next.text}', expected: ',', ')' or identifier")
        found = {self._item()}
        while (token := self._take()).kind == ",":
            found.add(self._item())
        if token.kind != ")":
            raise _NoSelectorError(f"found '{token.text}', expected: ',' or ')'")
        return tuple(sorted(found))

    def _item(self) -> str:
        if self._next.kind in (",", ")"):
            return ""
        token = self._take()
        if token.kind != _WORD:
            raise _NoSelectorError(f"found '{token.text}', expected: ',', or identifier")
        return token.text


def _wrong(path: str, value: str) -> list[str]:
    wrong = formats.label_value(value)
    return [f"{path}: {causes.invalid(path, value, '; '.join(wrong)).message}"] if wrong else []


def _check(path: str, value: str, wrong: list[str]) -> None:
    if wrong:
        told = causes.invalid(path, value, "; ".join(wrong)).message
        raise _NoSelectorError(f"{path or '<nil>'}: {told}")
