"""Texts and lists from outside, kept to what an event or a notice can hold."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

T = TypeVar("T")

JSON_BYTES_MAX = 6
"""Of one character, at worst: a control character is escaped."""


def cut(text: str, size: int, more: str = "…") -> str:
    """A text of which no more than `size` bytes of JSON are kept; where something is left out, it ends with `more`."""
    text = text.encode(errors="replace").decode()
    if len(text) * JSON_BYTES_MAX <= size or _size(text) <= size:
        return text
    room, shown = size - len(more.encode()), text[:size]
    while (over := _size(shown) - room) > 0:
        shown = shown[: len(shown) - max(1, over // JSON_BYTES_MAX)]
    return shown + more


def first_of(items: Iterable[T], size: int) -> tuple[T, ...]:
    """As many of some items as fit into so many bytes of JSON, from the first on."""
    kept: list[T] = []
    for item in items:
        size -= len(msgspec.json.encode(item)) + 1
        if size < 0:
            break
        kept.append(item)
    return tuple(kept)


def pages_of(items: Iterable[T], size: int) -> list[tuple[T, ...]]:
    """All of some items, in pages that fit into so many bytes of JSON each; an item that is larger has its own."""
    pages: list[list[T]] = []
    room = -1
    for item in items:
        needed = len(msgspec.json.encode(item)) + 1
        if needed > room:
            pages.append([])
            room = size
        pages[-1].append(item)
        room -= needed
    return [tuple(page) for page in pages]


def _size(text: str) -> int:
    """Bytes of a text in JSON, without its quotes."""
    return len(msgspec.json.encode(text)) - 2
