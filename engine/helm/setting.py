r"""Helm's `--set` syntax: `a.b=1,c[0].d={x,y},e\.f=text`, put into values that are there.

As `helm.sh/helm/v4/pkg/strvals` reads it, with what follows from how it does: a value may hold further keys behind a
comma, and maps and lists that are there are changed in place.
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tidelog.engine.helm.errors import ValuesError

Values: TypeAlias = dict[str, Any]
Scalar: TypeAlias = str | int | float | bool | None
Change: TypeAlias = Callable[[Scalar], Scalar]
"""What is put in the place of a value that is no map and no list."""

INDEX_MAX: Final = 65_536
DEPTH_MAX: Final = 30
_INT_MAX: Final = 2**63
_DIGITS_MAX: Final = 4_000
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_integer: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)


class _End(Exception):
    """The text ended; what was read till then stands."""


class _NoList(Exception):
    """No `{` stands here."""


def as_it_is(value: Scalar) -> Scalar:
    """Puts nothing else in its place."""
    return value


def set_at(values: Values, text: str, *, as_text: bool = False, change: Change = as_it_is) -> None:
    """Sets what `text` says. In place.

    Args:
        values: to be changed.
        text: `path=value`, and more behind commas.
        as_text: whether `true`, `1` and `null` are texts.
        change: what is set instead of each value.

    Raises:
        ValuesError: when it cannot be read, or does not fit what is there; it quotes nothing of it.
    """
    parser = _Parser(text, change, as_text=as_text)
    try:
        while True:
            parser.key(values, 0)
    except _End:
        return
    except RecursionError:
        raise ValuesError("more lists within one another than can be read") from None


class _Parser:
    def __init__(self, text: str, change: Change, *, as_text: bool) -> None:
        self._text = text
        self._change = change
        self._at = 0
        self._as_text = as_text

    def _read(self) -> str:
        if self._at >= len(self._text):
            raise _End
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, stops: str) -> tuple[str, str]:
        """The text before the next of `stops`, and that one; an empty one at the end."""
        found = []
        try:
            while (character := self._read()) not in stops:
                found.append(self._read() if character == "\\" else character)
        except _End:
            return "".join(found), ""
        return "".join(found), character

    def key(self, data: Values, depth: int) -> None:
        name, last = self._until("=[,.")
        match last:
            case "":
                if not name:
                    raise _End
                raise ValuesError("a key has no value")
            case "[":
                self._indexed(data, name, depth)
            case "=":
                self._assigned(data, name)
            case ",":
                raise ValuesError("a key has no value (it cannot end with a comma)")
            case _:
                self._nested(data, name, depth + 1)

    def _indexed(self, data: Values, name: str, depth: int) -> None:
        index = self._index()
        found = data.get(name, [])
        if not isinstance(found, list):
            raise ValuesError("an index stands where the values have no list")
        ended = False
        try:
            found = self._item(found, index, depth)
        except _ItemEnd as end:
            found, ended = end.found, True
        _set(data, name, found)
        if ended:
            raise _End

    def _assigned(self, data: Values, name: str) -> None:
        try:
            _set(data, name, self._list())
        except _End:
            _set(data, name, "")
            raise
        except _NoList:
            _set(data, name, self._typed(self._until(",")[0]))

    def _nested(self, data: Values, name: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise ValuesError(f"more than {DEPTH_MAX} keys within one another")
        inner = data.get(name, {})
        if not isinstance(inner, dict):
            raise ValuesError("a key stands below what is no map in the values")
        try:
            self.key(inner, depth)
        except _End:
            if inner:
                _set(data, name, inner)
            raise
        if not inner:
            raise ValuesError("a map has no value")
        _set(data, name, inner)

    def _index(self) -> int:
        text, last = self._until("]")
        if not last:
            raise _End
        if len(text) > _DIGITS_MAX or not _integer.fullmatch(text) or not -_INT_MAX <= int(text) < _INT_MAX:
            raise ValuesError("an index is no number")
        return int(text)

    def _item(self, found: list[Any], index: int, depth: int) -> list[Any]:
        if index < 0:
            raise ValuesError("an index is negative")
        rest, last = self._until("[.=")
        if rest:
            raise ValuesError("something stands behind an index that is no key")
        match last:
            case "":
                raise _ItemEnd(found)
            case "=":
                try:
                    value: Any = self._list()
                except _End:
                    return _put(found, index, "")
                except _NoList:
                    value = self._typed(self._until(",")[0])
                return _put(found, index, value)
            case "[":
                return self._item_of_list(found, index, depth)
            case _:
                return self._item_of_map(found, index, depth)

    def _item_of_list(self, found: list[Any], index: int, depth: int) -> list[Any]:
        try:
            following = self._index()
        except _End:
            raise _ItemEnd(found) from None
        inner = found[index] if index < len(found) and found[index] is not None else []
        if not isinstance(inner, list):
            raise ValuesError("an index stands where the values have no list")
        try:
            inner = self._item(inner, following, depth)
        except _ItemEnd:
            raise _ItemEnd(found) from None
        return _put(found, index, inner)

    def _item_of_map(self, found: list[Any], index: int, depth: int) -> list[Any]:
        inner: Values = {}
        if index < len(found):
            if not isinstance(found[index], dict):
                found[index] = {}
            inner = found[index]
        try:
            self.key(inner, depth)
        except _End:
            raise _ItemEnd(found) from None
        return _put(found, index, inner)

    def _list(self) -> list[Any]:
        if self._read() != "{":
            self._at -= 1
            raise _NoList
        items = []
        while True:
            text, last = self._until(",}")
            if not last:
                raise ValuesError("a list does not end with a brace")
            items.append(self._typed(text))
            if last == "}":
                if self._text[self._at : self._at + 1] == ",":
                    self._at += 1
                return items

    def _typed(self, text: str) -> Scalar:
        return self._change(self._read_as(text))

    def _read_as(self, text: str) -> Scalar:
        if self._as_text:
            return text
        lower = text.lower()
        if lower in _WORDS:
            return _WORDS[lower]
        if text == "0":
            return 0
        if text[:1] not in {"", "0"} and len(text) <= _DIGITS_MAX and _integer.fullmatch(text):
            number = int(text)
            return number if -_INT_MAX <= number < _INT_MAX else text
        return text


class _ItemEnd(Exception):
    """The text ended within an item of a list."""

    def __init__(self, found: list[Any]) -> None:
        super().__init__()
        self.found = found


def _set(data: Values, name: str, value: Any) -> None:
    if name:
        data[name] = value


def _put(found: list[Any], index: int, value: Any) -> list[Any]:
    if index > INDEX_MAX:
        raise ValuesError(f"an index is greater than {INDEX_MAX}")
    if len(found) <= index:
        found = [*found, *[None] * (index + 1 - len(found))]
    found[index] = value
    return found
