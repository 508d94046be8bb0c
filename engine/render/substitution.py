r"""Post-build substitution: `${name}` and the functions of it (contract KS-058 to KS-067), traps included.

Text is read once from left to right into values, without regular expressions over it. What a function does is pure,
and what it makes is bounded.

The grammar, with what a first look would get wrong:

    text     ::= (character | "$$" | reference)*          "$$" gives "$"; "$name" stays
    reference::= "${" "#" name "}"                        length in bytes
               | "${" name "}"
               | "${" name (":=" | ":-" | ":?" | ":+" | "=") (plain | reference)* "}"     all five are defaults
               | "${" name ":" argument [":"+ argument] "}"
               | "${" name ("#" | "##" | "%" | "%%") argument "}"
               | "${" name ("/" | "//" | "/#" | "/%") argument "/"+ [argument] "}"
               | "${" name ("^" | "," | "^^" | ",,") "}"
    argument ::= plain | reference                        one of them, never both, never empty

In the arguments of "/", "\/" gives "/", "\\" gives "\" and "$$" gives "$"; in all others nothing is escaped. The
first argument of "/" ends at a slash only: "}" does not end it.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from tidelog.engine.render.errors import SubstitutionError
from tidelog.engine.render.globs import TooMuchWorkError, without_beginning, without_end

VERSION: Final = "1"
"""Raised when the same text and variables would give something else."""

NESTING_MAX: Final = 50
SIZE_MAX: Final = 16 * 1024 * 1024
"""Characters that one text may become."""

_name = re.compile(r"[_A-Za-z][_A-Za-z0-9]*", re.ASCII)
_decimal = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)

_BAD: Final = "bad substitution"
_NO_END: Final = "missing closing brace"
_NO_NAME: Final = "unable to parse variable name"
_NO_ARGUMENT: Final = "unable to parse substitution within function"


class Substituted(msgspec.Struct, frozen=True):
    """A text with its variables' values, and the variables that were looked up on the way."""

    text: str
    used: frozenset[str]
    made: frozenset[str] = frozenset()
    """What references became that looked up a secret variable: its value, or a part of it, or another case of it."""


def is_variable_name(name: str) -> bool:
    """Whether a variable may have that name (contract KS-060)."""
    return _name.fullmatch(name) is not None


def is_plain(text: str) -> bool:
    """Whether substitution would leave `text` as it is, whatever the variables are."""
    return "${" not in text and "$$" not in text


def substitute(
    text: str, variables: Mapping[str, str], *, strict: bool = True, secret: Collection[str] = frozenset()
) -> Substituted:
    """Puts the values of `variables` into `text`.

    Args:
        text: what the references stand in.
        variables: by name.
        strict: whether a variable that is not there, and has no default, is an error instead of empty.
        secret: names of variables whose values must not be seen.

    Raises:
        SubstitutionError: with the line in `text`; it quotes names, and never a value.
    """
    return _Substitution(text, variables, secret, strict=strict).run()


class _Substitution:
    def __init__(self, text: str, variables: Mapping[str, str], secret: Collection[str], *, strict: bool) -> None:
        self._text = text
        self._at = 0
        self._variables = variables
        self._secret = secret
        self._strict = strict
        self._used: set[str] = set()
        self._made: set[str] = set()
        self._is_secret = False
        """Whether the reference that is read, or one within it, looked up a secret variable."""
        self._begin = 0
        self._depth = 0

    def run(self) -> Substituted:
        """Everything outside references is copied in stretches, from one `$` to the next."""
        text, parts, size = self._text, list[str](), 0
        while (dollar := text.find("$", self._at)) >= 0:
            parts.append(text[self._at : dollar])
            following = text[dollar + 1 : dollar + 2]
            self._at = dollar + 1
            if following == "{":
                self._begin = dollar
                self._at = dollar + 2
                parts.append(self._outermost())
            else:
                parts.append("$")
                self._at += following == "$"
            size += len(parts[-1]) + len(parts[-2])
            self._bounded(size)
        parts.append(text[self._at :])
        return Substituted("".join(parts), frozenset(self._used), frozenset(self._made))

    def _outermost(self) -> str:
        self._is_secret = False
        value = self._reference()
        if self._is_secret and value:
            self._made.add(value)
        return value

    def _reference(self) -> str:
        """What the reference is worth whose `${` was just read."""
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise self._error(f"more than {NESTING_MAX} substitutions within one another")
        value = self._length() if self._peek() == "#" else self._of_name()
        self._depth -= 1
        return value

    def _length(self) -> str:
        self._at += 1
        name = self._read_name(_BAD)
        self._close()
        return str(len(self._value(name).encode()))

    def _of_name(self) -> str:
        name = self._read_name(_NO_NAME)
        following = self._peek()
        if following == ":":
            second = self._text[self._at + 1 : self._at + 2]
            if second in {"=", "-", "?", "+"}:
                return self._default(name, 2)
            if not second.isascii():  # as Flux has it
                raise self._error(_BAD)
            return self._slice(name)
        if following == "=":
            return self._default(name, 1)
        if following in {",", "^"}:
            return self._cased(name)
        if following == "/":
            return self._replaced(name)
        if following in {"#", "%"}:
            return self._trimmed(name, following)
        if following != "}":
            raise self._error(_NO_END)
        self._at += 1
        return self._value(name)

    def _default(self, name: str, operator: int) -> str:
        """Defaults are worked out before the variable is looked up: what is missing in one fails either way."""
        self._at += operator
        parts = []
        while self._peek() != "}":
            parts.append(self._argument("}"))
        self._at += 1
        self._look_up(name)
        return self._variables.get(name) or "".join(parts)

    def _slice(self, name: str) -> str:
        self._at += 1
        arguments = [self._argument(":}")]
        if self._peek() == ":":
            self._skip(":")
            arguments.append(self._argument("}"))
        self._close()
        return self._sliced(self._value(name), arguments)

    def _cased(self, name: str) -> str:
        operator = self._operator({",", "^"})
        self._close()
        value = self._value(name)
        match operator:
            case ",,":
                return _lower(value)
            case "^^":
                return _upper(value)
            case ",":
                return _lower(value[:1]) + value[1:]
            case "^":
                return _upper(value[:1]) + value[1:]
            case _:
                return value

    def _trimmed(self, name: str, sign: str) -> str:
        longest = len(self._operator({sign})) == 2
        pattern = self._argument("}")
        self._close()
        trim = without_beginning if sign == "#" else without_end
        try:
            return trim(self._value(name), pattern, longest=longest)
        except TooMuchWorkError:
            raise self._error(f"the value of {name!r} and the pattern are too long for one another") from None

    def _replaced(self, name: str) -> str:
        operator = "/"
        self._at += 1
        if self._peek() in {"/", "#", "%"}:
            operator += self._peek()
            self._at += 1
        arguments = [self._argument("/", escapes=True)]
        if self._peek() != "/":
            raise self._error(_BAD)
        self._skip("/")
        if self._peek() != "}":
            arguments.append(self._argument("}", escapes=True))
        self._close()
        value = self._value(name)
        if len(arguments) == 1:
            # As in Flux: without a replacement, `/` and `//` delete, and `/#` and `/%` do nothing.
            return self._replace(value, operator, arguments[0], "") if operator in {"/", "//"} else value
        return self._replace(value, operator, arguments[0], arguments[1])

    def _replace(self, value: str, operator: str, old: str, new: str) -> str:
        match operator:
            case "/#":
                return new + value.removeprefix(old) if value.startswith(old) else value
            case "/%":
                return value.removesuffix(old) + new if value.endswith(old) else value
            case "//":
                self._bounded(len(value) + value.count(old) * (len(new) - len(old)))
                return value.replace(old, new)
            case _:
                return value.replace(old, new, 1)

    def _sliced(self, value: str, arguments: Sequence[str]) -> str:
        """Positions and lengths are in bytes; what is no number gives the whole value."""
        if not all(map(_is_decimal, arguments)):
            # A position that counts is looked at before a length that does not, with the same result.
            return value if not _is_decimal(arguments[0]) or len(arguments) == 2 else ""
        data = value.encode()
        begin = int(arguments[0])
        if begin < 0:
            begin = max(0, len(data) + begin)
        end = len(data)
        if len(arguments) == 2 and begin + int(arguments[1]) < len(data):
            end = begin + int(arguments[1])
            if end < begin:
                raise self._error("a length below zero")
        try:
            return data[begin:end].decode()
        except UnicodeDecodeError:
            raise self._error("positions count bytes, and this one is within a character") from None

    def _look_up(self, name: str) -> None:
        self._used.add(name)
        self._is_secret = self._is_secret or name in self._secret

    def _value(self, name: str) -> str:
        self._look_up(name)
        value = self._variables.get(name)
        if value is not None:
            return value
        if self._strict:
            raise self._error(f'variable not set (strict mode): "{name}"', name)
        return ""

    def _argument(self, ends: str, *, escapes: bool = False) -> str:
        """One plain stretch up to a character of `ends`, or one reference."""
        if self._text.startswith("${", self._at):
            self._at += 2
            return self._reference()
        begin = self._at
        value = self._escaped(ends) if escapes else self._plain(ends)
        if self._at == begin:
            raise self._error(_NO_ARGUMENT)
        return value

    def _plain(self, ends: str) -> str:
        stops = [self._text.find(stop, self._at) for stop in (*ends, "${")]
        stop = min((at for at in stops if at >= 0), default=len(self._text))
        value = self._text[self._at : stop]
        self._at = stop
        return value

    def _escaped(self, ends: str) -> str:
        text, parts = self._text, list[str]()
        while self._at < len(text):
            pair = text[self._at : self._at + 2]
            if pair == "${":
                break
            if pair in {"$$", "\\/", "\\\\"}:
                parts.append(pair[1])
                self._at += 2
            elif pair[0] in ends:
                break
            else:
                parts.append(pair[0])
                self._at += 1
        return "".join(parts)

    def _read_name(self, problem: str) -> str:
        """Letters of any script may stand in a reference's name; a variable that has such a name cannot be."""
        begin, text = self._at, self._text
        while self._at < len(text) and (text[self._at] == "_" or _is_letter_or_digit(text[self._at])):
            self._at += 1
        if self._at == begin:
            raise self._error(problem)
        return text[begin : self._at]

    def _operator(self, signs: set[str]) -> str:
        begin = self._at
        while self._at - begin < 2 and self._peek() in signs:
            self._at += 1
        return self._text[begin : self._at]

    def _skip(self, character: str) -> None:
        while self._peek() == character:
            self._at += 1

    def _close(self) -> None:
        if self._peek() != "}":
            raise self._error(_BAD)
        self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _bounded(self, size: int) -> None:
        if size > SIZE_MAX:
            raise self._error(f"the text would grow beyond {SIZE_MAX} characters")

    def _error(self, problem: str, variable: str = "") -> SubstitutionError:
        return SubstitutionError(problem, self._text.count("\n", 0, self._begin) + 1, variable)


def _is_letter_or_digit(character: str) -> bool:
    return character.isalpha() or character.isdecimal()


def _is_decimal(text: str) -> bool:
    return _decimal.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def _upper(text: str) -> str:
    """Character by character: those that would become two stay."""
    return _mapped(text, str.upper)


def _lower(text: str) -> str:
    return _mapped(text, str.lower)


def _mapped(text: str, change: Callable[[str], str]) -> str:
    if text.isascii():
        return change(text)
    return "".join(changed if len(changed := change(character)) == 1 else character for character in text)
