"""Keeping projections up with the log, and reading them as of any moment."""

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import msgspec

from tidelog.events.canonical import encode
from tidelog.events.codec import MalformedEventError
from tidelog.events.digest import Digest
from tidelog.events.envelope import decode_envelope
from tidelog.events.names import StreamName
from tidelog.events.projection import Fold, Projection, Rows
from tidelog.events.projections import OBJECT_VERSIONS, PROJECTIONS, ObjectVersion
from tidelog.events.vocabulary.base import BY_PAYLOAD
from tidelog.storage.errors import MomentError, StoreCorruptError
from tidelog.storage.layout import Layout, writer_lock
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader
from tidelog.storage.projections.view_store import START, Cursor, ViewStore, remove_views

SNAPSHOT_INTERVAL = 4_096
"""Events between snapshots: what reading a past moment folds at most. `VIEWS.version` is raised with it."""
BATCH_EVENTS = 1_024
"""Events folded in one transaction."""
ROWS_IN_MEMORY_MAX = 20_000
"""Rows of a projection that are kept in memory between transactions."""

Row = TypeVar("Row", bound=msgspec.Struct)


class Projector:
    """Folds a log into its projections' file. Blocks; for worker threads."""

    def __init__(self, log: LogReader, views: ViewStore, projections: Sequence[Projection[Any]]) -> None:
        self._log = log
        self._views = views
        self._projections = projections
        self._rows: dict[str, Rows[Any]] = {}
        self._forget()
        for projection in projections:
            if not self._follows(projection):
                views.reset(projection)

    @classmethod
    def open(cls, layout: Layout, projections: Sequence[Projection[Any]]) -> Self:
        """Opens the store's log to read and its projections' file to write."""
        log = LogReader(layout.log)
        try:
            views = ViewStore.to_write(layout.views)
        except BaseException:
            log.close()
            raise
        try:
            return cls(log, views, projections)
        except BaseException:
            views.close()
            log.close()
            raise

    def close(self) -> None:
        """Closes what `open` opened."""
        self._views.close()
        self._log.close()

    @property
    def position(self) -> int:
        """The position that every projection has reached."""
        return min(self._views.cursor(projection).position for projection in self._projections)

    @property
    def head(self) -> int:
        """The position of the log's last event."""
        return self._log.head()

    def advance(self) -> bool:
        """Folds the next events into the projections that lag furthest; False when there are none."""
        cursors = {projection.name: self._views.cursor(projection).position for projection in self._projections}
        position = min(cursors.values())
        ahead = [reached for reached in cursors.values() if reached > position]
        boundary = (position // SNAPSHOT_INTERVAL + 1) * SNAPSHOT_INTERVAL
        until = min([boundary, *ahead])
        entries = self._log.entries(Query(after=position, until=until), BATCH_EVENTS)
        if not entries:
            return False
        behind = [projection for projection in self._projections if cursors[projection.name] == position]
        try:
            reached = self._fold(behind, entries)
            changes = [(projection, self._rows[projection.name].take_changed()) for projection in behind]
            leaf = self._log.hashes(0, reached - 1, 1)[0]
            self._views.advance(changes, reached, leaf, snapshot=reached == boundary)
        except BaseException:
            # What was folded was not kept: the rows in memory are ahead of those in the file.
            self._forget()
            raise
        for projection in behind:
            if projection.append_only or len(self._rows[projection.name]) > ROWS_IN_MEMORY_MAX:
                self._rows[projection.name].forget()
        return True

    def _fold(self, projections: Sequence[Projection[Any]], entries: Sequence[bytes]) -> int:
        fold = Fold()
        for projection in projections:
            fold.add(projection, self._rows[projection.name])
        return _folded(fold, entries)

    def _forget(self) -> None:
        self._rows = {projection.name: self._rows_of(projection) for projection in self._projections}

    def catch_up(self) -> None:
        """Folds all events that the projections do not have yet."""
        while self.advance():
            pass

    def rebuild(self) -> None:
        """Throws the rows away and folds the log again from its beginning."""
        self.reset()
        self.catch_up()

    def reset(self) -> None:
        """Throws the rows away. Those who read meanwhile see the old rows, or none and fold the log."""
        for projection in self._projections:
            self._views.reset(projection)
        self._forget()

    def digests(self) -> dict[str, Digest]:
        """The digest over all rows of each projection."""
        return {projection.name: self._views.digest(projection) for projection in self._projections}

    def _rows_of(self, projection: Projection[Row]) -> Rows[Row]:
        if projection.append_only:
            return Rows()
        return Rows(lambda key: self._views.row(projection, key))

    def _follows(self, projection: Projection[Any]) -> bool:
        """Whether a projection's rows are of its present version, and of this log."""
        cursor = self._views.cursor(projection)
        if cursor == START:
            return False
        return _is_of(self._log, cursor)


def _open_or_replace(layout: Layout) -> Projector:
    """Opens the projections' file; one that is too damaged for that is thrown away."""
    try:
        return Projector.open(layout, PROJECTIONS)
    except StoreCorruptError:
        remove_views(layout.views)
        return Projector.open(layout, PROJECTIONS)


def rebuild(layout: Layout, progress: Callable[[int, int], None]) -> int:
    """Makes all projections of a store anew; returns the position that they reach.

    Raises:
        StoreBusyError: when a daemon keeps them.
    """
    with writer_lock(layout):
        projector = _open_or_replace(layout)
        try:
            projector.reset()
            head = projector.head
            while projector.advance():
                progress(projector.position, head)
            return projector.position
        finally:
            projector.close()


class Past:
    """Reads projections as of any position, with or without a projections' file. Blocks; for worker threads."""

    def __init__(self, log: LogReader, views: ViewStore | None) -> None:
        self._log = log
        self._views = views

    def rows(self, projection: Projection[Row], position: int) -> Rows[Row]:
        """All rows of a projection when the log was at `position`."""
        rows = Rows[Row]()
        base = self._load(projection, rows, self._checked(position))
        self._fold(projection, rows, Query(after=base, until=position))
        return rows

    def row(self, projection: Projection[Row], key: str, position: int) -> Row | None:
        """One row of a projection when the log was at `position`."""
        base, row = self._base_row(projection, key, self._checked(position))
        rows = Rows[Row]()
        if row is not None:
            rows.put(key, row)
        stream = key if projection.key_is_stream else None
        mention = None if projection.mention is None else encode(projection.mention(key))[1:-1]
        self._fold(projection, rows, Query(after=base, until=position, stream=stream), mention)
        return rows.get(key)

    def versions(self, stream: StreamName, position: int) -> list[ObjectVersion]:
        """Every version of an object that the log knew at `position`, in the order in which it learned them."""
        rows = Rows[ObjectVersion]()
        base = 0
        if self._views is not None:
            base = min(self._cursor(OBJECT_VERSIONS).position, self._checked(position))
        if self._views is not None and base > 0:
            for key, version in self._views.rows_where(OBJECT_VERSIONS, "object", stream):
                rows.put(key, version)
        self._fold(OBJECT_VERSIONS, rows, Query(after=base, until=position))
        return [row for _, row in rows.items() if row.object == stream and row.position <= position]

    def _base_row(self, projection: Projection[Row], key: str, position: int) -> tuple[int, Row | None]:
        """The nearest row that is kept, and the position at which it was so."""
        if self._views is None:
            return 0, None
        cursor = self._cursor(projection)
        if position >= cursor.position:
            return cursor.position, self._views.row(projection, key) if cursor != START else None
        if projection.append_only:
            return position, self._views.row(projection, key) if _position_of(key) <= position else None
        snapshot = _snapshot_before(position)
        return snapshot, self._views.row_at(projection, key, snapshot)

    def _load(self, projection: Projection[Row], rows: Rows[Row], position: int) -> int:
        """Puts the nearest rows that are kept; returns the position at which they were so."""
        if self._views is None:
            return 0
        cursor = self._cursor(projection)
        if cursor == START:
            return 0
        if position >= cursor.position or projection.append_only:
            base, kept = min(cursor.position, position), self._views.rows(projection)
        else:
            base = _snapshot_before(position)
            kept = self._views.rows_at(projection, base)
        for key, row in kept:
            if not projection.append_only or _position_of(key) <= position:
                rows.put(key, row)
        return base

    def _fold(self, projection: Projection[Row], rows: Rows[Row], query: Query, mention: bytes | None = None) -> None:
        """Folds the events of a query; of them, where `mention` is given, only those that hold it."""
        fold = Fold()
        fold.add(projection, rows)
        if projection.every is None and query.stream is None:
            names = tuple(BY_PAYLOAD[payload].name for payload in projection.handlers)
            query = msgspec.structs.replace(query, types=names)
        after = query.after
        while query.until is not None and after < query.until:
            entries = self._log.entries(msgspec.structs.replace(query, after=after))
            if not entries:
                return
            after = _folded(fold, entries, mention)

    def _cursor(self, projection: Projection[Any]) -> Cursor:
        """How far the file has come; `START` where it was folded from another log."""
        cursor = START if self._views is None else self._views.cursor(projection)
        return cursor if _is_of(self._log, cursor) else START

    def _checked(self, position: int) -> int:
        head = self._log.head()
        if not 0 <= position <= head:
            raise MomentError(f"the log has no position {position}: its last is {head}")
        return position


def _is_of(log: LogReader, cursor: Cursor) -> bool:
    """Whether a cursor stands in this log, and not in another that has such a position too."""
    return cursor.position == 0 or log.hashes(0, cursor.position - 1, 1) == [cursor.leaf]


def _folded(fold: Fold, entries: Sequence[bytes], mention: bytes | None = None) -> int:
    """Folds entries, where `mention` is given only those that hold it; returns the position of the last.

    Raises:
        StoreCorruptError: when one of them cannot be read.
    """
    try:
        fold.fold(entries if mention is None else (entry for entry in entries if mention in entry))
        return decode_envelope(entries[-1]).position
    except (msgspec.DecodeError, UnicodeDecodeError, MalformedEventError) as error:
        raise StoreCorruptError("an event", f"it cannot be folded: {error}") from error


def _snapshot_before(position: int) -> int:
    return position // SNAPSHOT_INTERVAL * SNAPSHOT_INTERVAL


def _position_of(key: str) -> int:
    """The position that the key of an append-only row ends in."""
    return int(key.rpartition("@")[2])
