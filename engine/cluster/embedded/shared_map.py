"""A sorted map of which copies share what has not changed since: copy on write, a few hundred entries at a time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar

CHUNK_MAX: Final = 512
"""Entries that are copied together at most."""


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=_Ordered)
V = TypeVar("V")


class _Chunk(Generic[K, V]):
    """Some entries in order. Only the map that has the same `owner` may change it."""

    __slots__ = ("keys", "owner", "values")

    def __init__(self, owner: object, keys: list[K], values: list[V]) -> None:
        self.owner = owner
        self.keys = keys
        self.values = values


class SharedMap(Generic[K, V]):
    """A map, sorted by its keys. Values are shared by all copies, and so are not to be changed."""

    def __init__(self, items: Iterable[tuple[K, V]] = ()) -> None:
        """Of items that are in order."""
        self._owner = object()
        self._chunks: list[_Chunk[K, V]] = []
        self._firsts: list[K] = []
        """The first key of each chunk."""
        left = iter(items)
        while part := list(islice(left, CHUNK_MAX // 2)):
            self._chunks.append(_Chunk(self._owner, [key for key, _ in part], [value for _, value in part]))
            self._firsts.append(part[0][0])

    def __len__(self) -> int:
        return sum(len(chunk.keys) for chunk in self._chunks)

    def __contains__(self, key: K) -> bool:
        _, index, chunk = self._find(key)
        return chunk is not None and index < len(chunk.keys) and chunk.keys[index] == key

    def get(self, key: K) -> V | None:
        """The value of a key."""
        _, index, chunk = self._find(key)
        if chunk is not None and index < len(chunk.keys) and chunk.keys[index] == key:
            return chunk.values[index]
        return None

    def set(self, key: K, value: V) -> None:
        """Puts a value in."""
        number, index, chunk = self._find(key)
        if chunk is None:
            self._chunks.append(_Chunk(self._owner, [key], [value]))
            self._firsts.append(key)
            return
        chunk = self._own(number)
        if index < len(chunk.keys) and chunk.keys[index] == key:
            chunk.values[index] = value
            return
        chunk.keys.insert(index, key)
        chunk.values.insert(index, value)
        self._firsts[number] = chunk.keys[0]
        if len(chunk.keys) > CHUNK_MAX:
            self._split(number)

    def pop(self, key: K) -> V | None:
        """Takes a value out."""
        number, index, chunk = self._find(key)
        if chunk is None or index == len(chunk.keys) or chunk.keys[index] != key:
            return None
        chunk = self._own(number)
        del chunk.keys[index]
        if chunk.keys:
            self._firsts[number] = chunk.keys[0]
        else:
            del self._chunks[number], self._firsts[number]
        return chunk.values.pop(index)

    def items(self, start: K | None = None) -> Iterator[tuple[K, V]]:
        """The entries in order, from a key on."""
        number, index, _ = (0, 0, None) if start is None else self._find(start)
        for chunk in self._chunks[number:]:
            yield from islice(zip(chunk.keys, chunk.values, strict=False), index, None)
            index = 0

    def copy(self) -> "SharedMap[K, V]":
        """One with the same entries; what becomes of one is not seen in the other."""
        made: SharedMap[K, V] = SharedMap()
        made._chunks, made._firsts = list(self._chunks), list(self._firsts)
        self._owner = object()  # from now on, the chunks are nobody's
        return made

    def _find(self, key: K) -> tuple[int, int, _Chunk[K, V] | None]:
        """Where a key is, or belongs: the number of the chunk, the index in it, and the chunk."""
        if not self._chunks:
            return 0, 0, None
        number = max(0, bisect_right(self._firsts, key) - 1)
        chunk = self._chunks[number]
        return number, bisect_left(chunk.keys, key), chunk

    def _own(self, number: int) -> _Chunk[K, V]:
        """A chunk that may be changed."""
        chunk = self._chunks[number]
        if chunk.owner is not self._owner:
            chunk = self._chunks[number] = _Chunk(self._owner, list(chunk.keys), list(chunk.values))
        return chunk

    def _split(self, number: int) -> None:
        chunk = self._chunks[number]
        half = len(chunk.keys) // 2
        second = _Chunk(self._owner, chunk.keys[half:], chunk.values[half:])
        del chunk.keys[half:], chunk.values[half:]
        self._chunks.insert(number + 1, second)
        self._firsts.insert(number + 1, second.keys[0])
