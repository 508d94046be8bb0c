"""Projections for asyncio: kept up with the log in the background, and read as of any moment."""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import StreamName
from tidelog.events.projection import Projection
from tidelog.events.projections import PROJECTIONS, ObjectVersion
from tidelog.storage.errors import StoreClosedError, StoreFullError
from tidelog.storage.layout import Layout
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import SqliteEventLog, SqliteLogReader
from tidelog.storage.projections.projector import Past, Projector
from tidelog.storage.projections.view_store import ViewStore
from tidelog.storage.to_the_end import run_to_the_end

Row = TypeVar("Row", bound=msgspec.Struct)
T = TypeVar("T")
FULL_RETRY_S = 5.0
"""How often it is tried again to keep the projections up with the log while the disk is full."""


class Views:
    """Reads projections; see `open_views` and `read_views`.

    A moment is a position of the log. Without one, the answer is of the log's head as it is now: what the
    projections' file does not have yet is folded on top of it.
    """

    def __init__(self, log: SqliteLogReader) -> None:
        self._log = log

    async def row(self, projection: Projection[Row], key: str, *, at: int | None = None) -> Row | None:
        """One row of a projection.

        Raises:
            MomentError: when the log has no position `at`.
        """
        position = await self._log.head() if at is None else at
        return await self._past(lambda past: past.row(projection, key, position))

    async def rows(self, projection: Projection[Row], *, at: int | None = None) -> dict[str, Row]:
        """All rows of a projection, by key, in the order of the keys.

        Raises:
            MomentError: when the log has no position `at`.
        """
        position = await self._log.head() if at is None else at
        rows = await self._past(lambda past: past.rows(projection, position))
        return dict(rows.items())

    async def object_at(self, stream: StreamName, occurred: Time, *, at: int | None = None) -> ObjectVersion | None:
        """The version of an object that was true at an outside time, by what the log knew at a position.

        Asked in both times: what do we now believe was running then, and what did we believe then?
        """
        position = await self._log.head() if at is None else at
        versions = await self._past(lambda past: past.versions(stream, position))
        known = [version for version in versions if version.occurred <= occurred]
        return max(known, key=lambda version: (version.occurred, version.position), default=None)

    async def position_at(self, time: Time) -> int:
        """The last position whose time is not after `time`; 0 when there is none."""
        return await self._log.position_at(time)

    async def _past(self, question: Callable[[Past], T]) -> T:
        return await anyio.to_thread.run_sync(_ask, self._log.layout, question)


class FollowedViews(Views):
    """Projections that are kept up with the log. Made by `open_views`."""

    def __init__(self, log: SqliteEventLog, projector: Projector) -> None:
        super().__init__(log)
        self._projector = projector
        self._lock = anyio.Lock()
        self._working = threading.Lock()
        """Held by the thread that has the projector: asyncio's own cancellation does not wait for it, closing must."""
        self._closed = False
        self._advanced = anyio.Event()
        self.position = 0
        """The position that every projection has reached."""

    async def wait_for(self, position: int) -> None:
        """Waits until every projection has reached a position."""
        while self.position < position:
            await self._advanced.wait()

    async def rebuild(self) -> None:
        """Throws the rows away and makes them again from the log."""
        await self._work(self._projector.rebuild)

    async def catch_up(self) -> None:
        """Folds all events that the projections do not have yet."""
        await self._work(self._projector.catch_up)

    async def digests(self) -> dict[str, Digest]:
        """The digest over all rows of each projection: the same events give the same."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self._alone, self._projector.digests)

    async def follow(self) -> None:
        """Keeps the projections up with the log, until cancelled; where the disk is full, as soon as there is room.

        They may lag: every question folds what they do not have. Whether there is room for the log, that tells itself.
        """
        while True:
            await self._log.wait_beyond(self.position)
            try:
                await self.catch_up()
            except StoreFullError:
                await anyio.sleep(FULL_RETRY_S)

    async def _work(self, work: Callable[[], None]) -> None:
        async with self._lock:
            self.position = await anyio.to_thread.run_sync(self._alone, lambda: self._reached(work))
            self._advanced.set()
            self._advanced = anyio.Event()

    def _reached(self, work: Callable[[], None]) -> int:
        """The position after some work."""
        work()
        return self._projector.position

    def _alone(self, work: Callable[[], T]) -> T:
        with self._working:
            if self._closed:
                raise StoreClosedError(self._log.layout.directory)
            return work()

    async def close(self) -> None:
        """Closes the projections; `open_views` does it when its block ends."""
        (await run_to_the_end(self._close)).raise_cancelled()

    def _close(self) -> None:
        with self._working:
            self._closed = True
            self._projector.close()


def _ask(layout: Layout, question: Callable[[Past], T]) -> T:
    """Asks the past a question, of one state of the log and of the projections' file."""
    log = LogReader(layout.log)
    views = None
    try:
        views = ViewStore.to_read(layout.views)
        if views is not None:
            views.begin_read()
        return question(Past(log, views))
    finally:
        if views is not None:
            views.close()
        log.close()


@asynccontextmanager
async def open_views(
    log: SqliteEventLog, projections: Sequence[Projection[Any]] = PROJECTIONS
) -> AsyncIterator[FollowedViews]:
    """Opens the projections of a log that is open to be written, and brings them up to its head.

    They are kept there while `FollowedViews.follow` runs, in a task of the caller's.

    Raises:
        StoreCorruptError: when their file is damaged; it can be deleted.
    """
    opened = await run_to_the_end(lambda: Projector.open(log.layout, projections))
    views = FollowedViews(log, opened.result)
    try:
        opened.raise_cancelled()
        await views.catch_up()
        yield views
    finally:
        await views.close()


def read_views(log: SqliteLogReader) -> Views:
    """Reads projections of a log, without keeping them up."""
    return Views(log)
