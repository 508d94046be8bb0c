"""The changes of a store that are not kept yet: who has written waits for theirs, and who will, for room."""

from collections import deque
from itertools import islice
from typing import Final

import anyio

from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.store import Change

CHANGES_MAX: Final = 10_000
BYTES_MAX: Final = 64 << 20
"""How much may wait to be kept before nobody begins to write. What was begun is not held up: it may be more by that."""


class Backlog:
    """Changes in their order, until they are kept."""

    def __init__(self, version: int) -> None:
        """Of a store of which all is kept up to `version`."""
        self._changes: deque[tuple[Place, Change]] = deque()
        self._bytes = 0
        self._kept = version
        self._is_over = False
        self._moved = anyio.Event()
        """Set when more was kept, and then another."""

    def __len__(self) -> int:
        """How many changes are not kept."""
        return len(self._changes)

    def add(self, place: Place, change: Change) -> None:
        """Notes a change that is to be kept."""
        self._changes.append((place, change))
        self._bytes += len(change.record.data)

    def first(self, most: int) -> list[tuple[Place, Change]]:
        """The changes that are to be kept next."""
        return list(islice(self._changes, most))

    def drop(self, count: int) -> None:
        """Forgets the first changes: they are kept."""
        for _ in range(count):
            _, change = self._changes.popleft()
            self._bytes -= len(change.record.data)
            self._kept = change.record.version
        self._move()

    def end(self) -> None:
        """Nobody keeps anything any more: none is to wait."""
        self._is_over = True
        self._move()

    async def room(self) -> None:
        """Waits until more may be written."""
        while not self._is_over and (len(self._changes) >= CHANGES_MAX or self._bytes >= BYTES_MAX):
            await self._moved.wait()

    async def kept(self, version: int) -> None:
        """Waits until all changes up to a version are kept.

        Raises:
            ConnectionError: when nobody knows whether they will be.
        """
        while self._kept < version:
            if self._is_over:
                raise ConnectionError("the cluster ends before the change is kept")
            await self._moved.wait()

    def _move(self) -> None:
        done, self._moved = self._moved, anyio.Event()
        done.set()
