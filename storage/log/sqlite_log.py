"""The event log on SQLite, for asyncio.

`open_log` is for the one writer of a store, `read_log` for any number of readers, in the same or other
processes, while the writer writes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import msgspec

from tidelog.events.bodies import Body
from tidelog.events.digest import Digest
from tidelog.events.moment import Time, time_of
from tidelog.storage.errors import StoreClosedError, StoreNotFoundError
from tidelog.storage.layout import Layout
from tidelog.storage.log import ExpectedVersion, NewEvent, Query, Recorded, StreamAppend
from tidelog.storage.log.commit import GroupCommit
from tidelog.storage.log.compression import StoredBody, pack
from tidelog.storage.log.identity import LogIdentity
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.prepare import prepare
from tidelog.storage.log.reader import LogReader
from tidelog.storage.to_the_end import run_to_the_end

READERS_MAX = 4
"""Connections that read at once for one log; further reads wait."""
POLL_INTERVAL_S = 0.1
"""How soon a subscription in another process sees what the writer wrote."""
PREPARE_ON_LOOP_BYTES_MAX = 65_536
"""Larger bodies are compressed in a worker thread."""

P = ParamSpec("P")
T = TypeVar("T")


def utc_now() -> Time:
    """The present time, of the system's clock."""
    return time_of(datetime.now(UTC))


class SqliteLogReader:
    """Reads a log. Made by `read_log`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._closed = False
        self._readers: list[LogReader] = []
        self._limiter = anyio.CapacityLimiter(READERS_MAX)

    async def read(self, query: Query) -> AsyncIterator[Recorded]:
        """The events that are in the log now and fulfil `query`, in order; never more than a page in memory."""
        head = await self.head()
        query = msgspec.structs.replace(query, until=head if query.until is None else min(head, query.until))
        after = query.after
        while query.until is not None and after < query.until:
            page, after = await self._run(LogReader.next_page, msgspec.structs.replace(query, after=after))
            for recorded in page:
                yield recorded

    async def subscribe(self, query: Query) -> AsyncIterator[Recorded]:
        """The events that fulfil `query`: first those that are there, then each as it comes, until cancelled.

        A reader may be as slow as it likes: nothing is kept for it but its position.
        """
        after = query.after
        while query.until is None or after < query.until:
            await self.wait_beyond(after)
            page, after = await self._run(self._live_page, msgspec.structs.replace(query, after=after))
            for recorded in page:
                yield recorded

    async def wait_beyond(self, position: int) -> None:
        """Waits until the log has an event after a position."""
        # Another process writes, and SQLite has no way to tell: it can only be asked.
        while await self.head() <= position:  # noqa: ASYNC110
            await anyio.sleep(POLL_INTERVAL_S)

    async def last(self, query: Query) -> Recorded | None:
        """The last event that fulfils `query`."""
        return await self._run(LogReader.last, query)

    async def head(self) -> int:
        """The position of the last event; 0 for an empty log."""
        return await self._run(LogReader.head)

    async def body(self, digest: Digest) -> Body:
        """A body, checked; see `EventLog.body`."""
        return await self._run(LogReader.body, digest)

    async def position_at(self, time: Time) -> int:
        """The last position whose time is not after `time`; 0 when there is none."""
        return await self._run(LogReader.position_at, time)

    @staticmethod
    def _live_page(reader: LogReader, query: Query) -> tuple[list[Recorded], int]:
        """The next page, with the position to go on from; never past what the log has."""
        head = reader.head()
        until = head if query.until is None else min(head, query.until)
        return reader.next_page(msgspec.structs.replace(query, until=max(until, query.after)))

    async def _run(self, function: Callable[Concatenate[LogReader, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        if self._closed:
            raise StoreClosedError(self.layout.directory)
        return await anyio.to_thread.run_sync(lambda: self._read(function, *arguments, **named), limiter=self._limiter)

    def _read(self, function: Callable[Concatenate[LogReader, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        try:
            reader = self._readers.pop()
        except IndexError:
            reader = LogReader(self.layout.log)
        try:
            return function(reader, *arguments, **named)
        finally:
            self._readers.append(reader)
            if self._closed:  # meanwhile: whoever comes last closes what is there
                self._close_idle()

    def close_readers(self) -> None:
        """Ends reading; `read_log` and `open_log` do it when their block ends."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()


class SqliteEventLog(SqliteLogReader):
    """Reads and writes a log. Made by `open_log`."""

    def __init__(self, layout: Layout, store: OpenStore) -> None:
        super().__init__(layout)
        self._store = store
        self._changed: anyio.Event | None = None
        """Set at the next commit; made by the first who waits for it."""
        self._commits = GroupCommit(store.writer.commit, self._announce, StoreClosedError(layout.directory))

    @property
    def identity(self) -> LogIdentity:
        """Which log it is."""
        return self._store.identity

    async def append(
        self,
        stream: str,
        expected: ExpectedVersion,
        events: Sequence[NewEvent],
        *,
        bodies: Sequence[Body] = (),
    ) -> tuple[Recorded, ...]:
        """Appends events to one stream; see `append_all`."""
        return await self.append_all([StreamAppend(stream, expected, events)], bodies=bodies)

    async def append_all(self, appends: Sequence[StreamAppend], *, bodies: Sequence[Body] = ()) -> tuple[Recorded, ...]:
        """Appends to several streams and stores `bodies`: all of it, or nothing; see `EventLog.append_all`."""
        if self._closed:
            raise StoreClosedError(self.layout.directory)
        return await self._commits.submit(prepare(appends, await _pack(bodies) if bodies else ()))

    async def head(self) -> int:
        """The position of the last event; 0 for an empty log."""
        if self._closed:
            raise StoreClosedError(self.layout.directory)
        return self._store.writer.head

    async def wait_beyond(self, position: int) -> None:
        """Waits until the log has an event after a position."""
        while True:
            # Taken before looking: what is committed in between will have set it.
            changed = self._changed = self._changed or anyio.Event()
            if await self.head() > position:
                return
            await changed.wait()

    async def close(self) -> None:
        """Makes the appends that wait, and closes the store; `open_log` does it when its block ends."""
        cancelled = await self._end_commits()
        self.close_readers()
        self._announce()
        closed = await run_to_the_end(self._store.close)
        closed.raise_cancelled()
        if cancelled is not None:
            raise cancelled

    async def _end_commits(self) -> asyncio.CancelledError | None:
        """Waits for the appends that wait, whoever cancels the task; returns the cancellation that came meanwhile."""
        cancelled = None
        while True:
            try:
                await self._commits.close()
            except asyncio.CancelledError as error:
                cancelled = error
            else:
                return cancelled

    def _announce(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def checkpoint(self) -> str:
        """A signed note (C2SP tlog-checkpoint) of the log as it is now."""
        if self._closed:
            raise StoreClosedError(self.layout.directory)
        return self._store.checkpoint()


async def _pack(bodies: Sequence[Body]) -> list[StoredBody]:
    if sum(len(body.data) for body in bodies) <= PREPARE_ON_LOOP_BYTES_MAX:
        return [pack(body) for body in bodies]
    return await anyio.to_thread.run_sync(lambda: [pack(body) for body in bodies])


@asynccontextmanager
async def open_log(
    directory: Path | str, *, create: bool = True, clock: Callable[[], Time] = utc_now
) -> AsyncIterator[SqliteEventLog]:
    """Opens the log of a store to write, and makes the store if there is none and `create` is set.

    Raises:
        StoreBusyError: when it is being written already.
        StoreError: when it cannot be opened; nothing was changed.
    """
    layout = Layout(directory)
    if not create and not await anyio.Path(layout.log).exists():
        raise StoreNotFoundError(layout.directory)
    opened = await run_to_the_end(lambda: OpenStore(layout, clock))
    if opened.cancelled is not None:
        await run_to_the_end(opened.result.close)
        raise opened.cancelled
    log = SqliteEventLog(layout, opened.result)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def read_log(directory: Path | str) -> AsyncIterator[SqliteLogReader]:
    """Opens the log of a store to read; another process may write it at the same time.

    Raises:
        StoreError: when there is none that can be read.
    """
    log = SqliteLogReader(Layout(directory))
    try:
        await log.head()
        yield log
    finally:
        log.close_readers()
