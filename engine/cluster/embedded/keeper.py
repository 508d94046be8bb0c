"""Keeps the objects of the embedded cluster in a file, a moment after they are written."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.store import Change, Key, Record, Store
from tidelog.engine.tasks import one_error
from tidelog.storage.cluster_objects import ClusterObjects, KeptObject, read_objects

BATCH_MAX: Final = 5_000
"""Changes that are written at once."""


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
        self._journal = store.follow()
        self._writing = anyio.Lock()

    async def run(self) -> None:
        while True:
            changed = self._store.changed
            await self.flush()
            await changed.wait()

    async def flush(self) -> None:
        async with self._writing:
            while self._journal:
                changes = list(islice(self._journal, BATCH_MAX))
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._file.write, [_kept(*change) for change in changes])
                    for _ in changes:  # and not before: what could not be written is written first by the next try
                        self._journal.popleft()


def _kept(place: Place, change: Change) -> KeptObject:
    record, key = change.record, change.record.key
    data = None if change.type == "DELETED" else record.data
    return KeptObject(*place, key.namespace, key.name, record.version, record.uid, data)


def _loaded(one: KeptObject) -> tuple[Place, Record]:
    return (one.group, one.plural), Record(Key(one.namespace, one.name), one.version, one.data or b"", one.uid)
