"""A text as it reads when what is escaped in it is read: JSON, Go and YAML escapes, percent-encoding, wrapped lines.

A secret value is looked for in every view, and where it is found is told in the text itself. So a filter needs to know
the value, and not how each tool escapes which characters.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

Decoded: TypeAlias = list[tuple[str, int]]
"""Characters, each with how many characters of the text it stands for."""

_backslash = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|(?:\\x[0-9a-fA-F]{2})+|(?:\\[0-3][0-7]{2})+|\\\r?\n[ \t]*|\\.",
    re.DOTALL,
)
_percent = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_line_break = re.compile(r"\r?\n[ \t]*")
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "e": "\x1b"}


class View:
    """A text, and where each of its characters stands in the text that it is a view of."""

    def __init__(self, text: str, parent: "View | None" = None, marks: "list[_Mark] | None" = None) -> None:
        self.text = text
        self._parent = parent
        self._marks = marks or []
        self._starts = [mark.start for mark in self._marks]

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """From where to where a part of this view, which is not empty, stands in the original text."""
        if self._parent is None:
            return start, end
        return self._parent.origin(self._place(start)[0], self._place(end - 1)[1])

    def _place(self, index: int) -> tuple[int, int]:
        mark = self._marks[bisect_right(self._starts, index) - 1]
        if mark.length is not None:
            return mark.origin, mark.origin + mark.length
        at = mark.origin + index - mark.start
        return at, at + 1


class _Mark(NamedTuple):
    """Where a stretch of a view begins: of characters that stand as they are, or of one that was escaped."""

    start: int
    origin: int
    length: int | None
    """Of the escape; None for a stretch that stands as it is."""


def views(text: str) -> Iterator[View]:
    """The text itself and the ways to read it; as many as there are kinds of escapes in it, and no more than 15."""
    plain = View(text)
    quoted = [plain, *_layers(plain, _unbackslashed)]
    for view in quoted:
        yield view
        yield from _layers(view, _unquoted)
        if "\n" in view.text:
            yield from filter(None, (_read(view, _line_break, _joined), _read(view, _line_break, _spaced)))


def _layers(view: View, read: Callable[[View], View | None]) -> list[View]:
    """A view read once and twice: JSON in JSON, a URL in a URL."""
    once = read(view)
    twice = read(once) if once else None
    return [found for found in (once, twice) if found]


def _unbackslashed(view: View) -> View | None:
    return _read(view, _backslash, _escape) if "\\" in view.text else None


def _unquoted(view: View) -> View | None:
    return _read(view, _percent, _percents) if "%" in view.text else None


def _read(view: View, escapes: re.Pattern[str], decode: Callable[[str], Decoded]) -> View | None:
    """The view with its escapes read; None when it has none."""
    parts: list[str] = []
    marks: list[_Mark] = []
    length = at = 0
    for match in escapes.finditer(view.text):
        if match.start() > at:
            parts.append(view.text[at : match.start()])
            marks.append(_Mark(length, at, None))
            length += match.start() - at
        at = match.start()
        for characters, width in decode(match.group()):
            if characters:
                parts.append(characters)
                marks.append(_Mark(length, at, width))
                length += len(characters)
            at += width
        at = match.end()
    if at == 0:
        return None
    if at < len(view.text):
        parts.append(view.text[at:])
        marks.append(_Mark(length, at, None))
    return View("".join(parts), view, marks)


def _escape(text: str) -> Decoded:
    kind = text[1]
    if kind == "x" and len(text) >= 4:
        return _bytes(bytes.fromhex(text.replace("\\x", "")), 4)
    if kind in "0123" and len(text) >= 4:
        return _bytes(bytes(int(octal, 8) for octal in text.split("\\")[1:]), 4)
    if kind in "uU" and len(text) > 2:
        return [(_code_points(text), len(text))]
    if kind in "\r\n":
        return [("", len(text))]
    return [(_SIMPLE.get(kind, kind), len(text))]


def _code_points(text: str) -> str:
    units = [int(unit, 16) for unit in re.split(r"\\[uU]", text)[1:]]
    if len(units) == 2:
        return chr(0x10000 + ((units[0] - 0xD800) << 10) + (units[1] - 0xDC00))
    return chr(units[0]) if units[0] <= 0x10FFFF else "\ufffd"


def _percents(text: str) -> Decoded:
    return _bytes(bytes.fromhex(text.replace("%", "")), 3)


def _bytes(data: bytes, width: int) -> Decoded:
    """The characters of escaped bytes: UTF-8, and where it is none, a lone surrogate a byte as Python has it."""
    text = data.decode("utf-8", "surrogateescape")
    return [(character, width * len(character.encode("utf-8", "surrogateescape"))) for character in text]


def _joined(text: str) -> Decoded:
    return [("", len(text))]


def _spaced(text: str) -> Decoded:
    return [(" ", len(text))]
