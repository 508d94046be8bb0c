"""One at a time of those that are about the same thing."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import anyio


class Turns:
    """Locks by name; one is there for as long as somebody has it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, anyio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, name: Hashable) -> AsyncIterator[None]:
        """Waits for its turn, and has it while the block lasts."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = anyio.Lock()
        async with lock:
            yield
