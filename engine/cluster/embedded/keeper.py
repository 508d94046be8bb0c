"""Keeps the objects of the embedded cluster in a file: what was written meanwhile goes there at once, in one commit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from tidelog.engine.cluster.embedded.backlog import Backlog
from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.store import Change, Key, Record, Store
from tidelog.engine.tasks import one_error
from tidelog.storage.cluster_objects import ClusterObjects, KeptObject, read_objects

BATCH_MAX: Final = 5_000
"""Changes that are written at once."""
GATHER_S: Final = 0.02
"""How long a commit may wait for those who keep on writing."""
ROUNDS: Final = 3
"""Of the event loop without another change, after which nobody is just about to write."""


@asynccontextmanager
async def keeping(store: Store, directory: Path) -> AsyncIterator[None]:
    """Fills an empty store from the file in a directory, and keeps it there while the block lasts.

    Raises:
        StoreError: when the file cannot be opened, or no longer be written.
    """
    file = await anyio.to_thread.run_sync(ClusterObjects.open, directory)
    is_whole = False
    try:
        objects = await anyio.to_thread.run_sync(file.read)
        version = await anyio.to_thread.run_sync(file.version)
        store.load([_loaded(one) for one in objects], version)
        keeper = _Keeper(store, file)
        try:
            with one_error():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(keeper.run)
                    yield
                    tasks.cancel_scope.cancel()
        finally:
            keeper.end()
            with anyio.CancelScope(shield=True):
                await keeper.flush()
                is_whole = True
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(file.close, is_whole=is_whole))


async def read_kept(directory: Path) -> Store:
    """A store with the objects that are kept in a directory, as of now; what is written to it is kept nowhere.

    Raises:
        StoreNotFoundError: when none ever were.
        StoreError: when they cannot be read.
    """
    objects, version = await anyio.to_thread.run_sync(read_objects, directory)
    store = Store()
    store.load([_loaded(one) for one in objects], version)
    return store


class _Keeper:
    def __init__(self, store: Store, file: ClusterObjects) -> None:
        self._store = store
        self._file = file
        self._backlog = Backlog(store.version)
        store.keeper = self._backlog
        self._writing = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)
        """Of its own: who holds those of all others may be waiting for what is written here."""

    async def run(self) -> None:
        try:
            while True:
                changed = self._store.changed
                while self._backlog:
                    await self._gather()
                    await self._write()
                await changed.wait()
        except anyio.get_cancelled_exc_class():
            self.end()
            raise

    def end(self) -> None:
        """Has nobody wait any more for what is kept at the very end, or not."""
        self._backlog.end()

    async def flush(self) -> None:
        while self._backlog:
            await self._write()

    async def _gather(self) -> None:
        """Waits for those who are just about to write: one commit takes as long for all of them as for one."""
        until, before = anyio.current_time() + GATHER_S, 0
        while len(self._backlog) > before and anyio.current_time() < until:
            before = len(self._backlog)
            for _ in range(ROUNDS):
                await anyio.lowlevel.checkpoint()

    async def _write(self) -> None:
        async with self._writing:
            changes = self._backlog.first(BATCH_MAX)
            kept = [_kept(*change) for change in changes]
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._file.write, kept, limiter=self._thread)
                self._backlog.drop(len(changes))  # and not before: what could not be written is for the next try


def _kept(place: Place, change: Change) -> KeptObject:
    record, key = change.record, change.record.key
    data = None if change.type == "DELETED" else record.data
    return KeptObject(*place, key.namespace, key.name, record.version, record.uid, data)


def _loaded(one: KeptObject) -> tuple[Place, Record]:
    return (one.group, one.plural), Record(Key(one.namespace, one.name), one.version, one.data or b"", one.uid)
