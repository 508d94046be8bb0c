"""A store as it was at one moment, to be asked. Blocks; never more than a page of events in memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidelog.engine.moments import position_of
from tidelog.events.bodies import BodyRef
from tidelog.events.moment import Time, datetime_of, time_of
from tidelog.events.projection import Projection
from tidelog.storage.errors import BodyNotFoundError
from tidelog.storage.layout import Layout
from tidelog.storage.log import PAGE_EVENTS_MAX, Query, Recorded
from tidelog.storage.log.reader import LogReader
from tidelog.storage.projections.projector import Past
from tidelog.storage.projections.view_store import ViewStore

Row = TypeVar("Row", bound=msgspec.Struct)


class Archive:
    """A log and its projections as they were at `position`."""

    def __init__(self, log: LogReader, past: Past, position: int, now: datetime) -> None:
        self.log = log
        self.past = past
        self.position = position
        self.now = now
        """The time that ages are counted to: of the moment asked about."""
        self._rows: dict[str, Mapping[str, Any]] = {}

    def rows(self, projection: Projection[Row]) -> Mapping[str, Row]:
        """All rows of a projection, by key. Not for projections that grow with the log."""
        if projection.name not in self._rows:
            self._rows[projection.name] = dict(self.past.rows(projection, self.position).items())
        return self._rows[projection.name]

    def row(self, projection: Projection[Row], key: str) -> Row | None:
        """One row of a projection."""
        if projection.name in self._rows:
            row: Row | None = self._rows[projection.name].get(key)
            return row
        return self.past.row(projection, key, self.position)

    def events(self, query: Query) -> Iterator[Recorded]:
        """The events that fulfil a query, up to this moment, in the order of the log."""
        until = self._until(query)
        after = query.after
        while after < until:
            page, after = self.log.next_page(msgspec.structs.replace(query, after=after, until=until))
            yield from page

    def backwards(self, query: Query) -> Iterator[Recorded]:
        """The events that fulfil a query, up to this moment, the newest first."""
        until = self._until(query)
        while until > query.after:
            page = [
                recorded
                for part in self.log.last_pages(msgspec.structs.replace(query, until=until), PAGE_EVENTS_MAX)
                for recorded in part
            ]
            if not page:
                return
            yield from reversed(page)
            until = page[0].envelope.position - 1

    def last(self, query: Query) -> Recorded | None:
        """The last event that fulfils a query, up to this moment."""
        return self.log.last(msgspec.structs.replace(query, until=self._until(query)))

    def since(self, query: Query, time: Time) -> Iterator[Recorded]:
        """The events that fulfil a query and are not older than a time, in the order of the log."""
        just_before = time_of(datetime_of(time) - datetime.resolution)
        after = max(query.after, self.log.position_at(just_before))
        return self.events(msgspec.structs.replace(query, after=after))

    def event(self, position: int) -> Recorded | None:
        """The event at a position; None beyond this moment."""
        return self.log.event(position) if 0 < position <= self.position else None

    def body(self, reference: BodyRef | None) -> bytes | None:
        """The content of a body; None of one that is secret, or is not there."""
        if reference is None or reference.secret:
            return None
        try:
            return self.log.body(reference.digest).data
        except BodyNotFoundError:
            return None

    def _until(self, query: Query) -> int:
        return self.position if query.until is None else min(query.until, self.position)


@contextmanager
def open_archive(store: Path, moment: str | None = None, now: datetime | None = None) -> Iterator[Archive]:
    """The store at a moment, as people name it (see `engine.moments`); now, where none is given.

    Raises:
        StoreError: when there is no store that can be read.
        MalformedMomentError: when the text names no moment.
        MomentError: when the log has no such moment.
    """
    layout = Layout(store)
    clock = datetime.now(UTC) if now is None else now
    log = LogReader(layout.log)
    views = None
    try:
        views = ViewStore.to_read(layout.views)
        if views is not None:
            views.begin_read()
        position = log.head() if moment is None else position_of(moment, log, clock)
        if moment is not None and position:
            clock = datetime_of(log.time_at(position))
        yield Archive(log, Past(log, views), position, clock)
    finally:
        if views is not None:
            views.close()
        log.close()
