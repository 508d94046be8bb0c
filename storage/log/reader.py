"""Reading the log's tables. Everything here blocks, and runs in worker threads."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidelog.events.bodies import Body
from tidelog.events.digest import Digest
from tidelog.events.envelope import decode_envelope
from tidelog.events.merkle import HASH_BYTES, TILE_BITS, TILE_WIDTH, Subtree, TreeBuilder, frontier_of, subtrees
from tidelog.events.moment import Time
from tidelog.events.names import EventId
from tidelog.events.tiles import tile_path
from tidelog.storage.connection import LOG, FrozenConnection, connect_to_read, stamp_of, translate, version_of
from tidelog.storage.errors import (
    BodyNotFoundError,
    NotAStoreError,
    StoreBusyError,
    StoreCorruptError,
    StoreTooNewError,
)
from tidelog.storage.log import PAGE_EVENTS_MAX, Query, Recorded
from tidelog.storage.log.compression import StoredBody, unpack
from tidelog.storage.log.select import Select, Values, id_value, select_events
from tidelog.storage.log.tile_index import TILED_VERSION

T = TypeVar("T")


class LogReader:
    """A read-only view of the log at `path`: another process may go on writing it.

    Raises:
        StoreError: on opening, when there is no log that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = connect_to_read(self.path, LOG)
        try:
            version = version_of(connection)
            if version > LOG.version:
                raise StoreTooNewError(self.path.parent, version, LOG.version)
            if version == 0:
                raise NotAStoreError(self.path.parent, f"{self.path.name} holds no log")
            self._tiled = version >= TILED_VERSION
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, self.path) from None
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Closes the log; repeated calls do nothing."""
        self._db.close()

    def head(self) -> int:
        """The position of the last event; 0 for an empty log."""
        return self._one("SELECT coalesce(max(position), 0) FROM events")

    def entries(self, query: Query, limit: int = PAGE_EVENTS_MAX) -> list[bytes]:
        """Stored envelopes that fulfil `query`, the first `limit` of them in the order of the log."""
        entries = [row[0] for row in self._rows(*self._select(query, limit))]
        if not all(type(entry) is bytes for entry in entries):
            raise StoreCorruptError(str(self.path), "an envelope is no text")
        return entries

    def page(self, query: Query, limit: int = PAGE_EVENTS_MAX) -> list[Recorded]:
        """As `entries`, decoded.

        Raises:
            StoreCorruptError: when an envelope cannot be read.
        """
        return [_recorded(entry) for entry in self.entries(query, limit)]

    def next_page(self, query: Query, limit: int = PAGE_EVENTS_MAX) -> tuple[list[Recorded], int]:
        """As `page`, with the position after which the next page begins."""
        head = self.head() if query.until is None else query.until
        page = self.page(msgspec.structs.replace(query, until=head), limit)
        return page, page[-1].envelope.position if len(page) == limit else max(head, query.after)

    def last_page(self, query: Query, limit: int) -> list[Recorded]:
        """The last events that fulfil `query`, at most so many, in the order of the log."""
        return [_recorded(entry) for entry, *_ in reversed(self._rows(*self._select(query, limit, last=True)))]

    def last_pages(self, query: Query, count: int) -> Iterator[list[Recorded]]:
        """The last `count` events that fulfil `query`, in the order of the log, a page at a time."""
        until = self.head() if query.until is None else query.until
        query = msgspec.structs.replace(query, until=until)
        after = self._before_last(query, count)
        while after < until:
            page, after = self.next_page(msgspec.structs.replace(query, after=after))
            if page:
                yield page

    def _before_last(self, query: Query, count: int) -> int:
        """The position after which `count` events fulfil `query`, or as many as there are."""
        head = self.head()
        if count == 0:
            return head if query.until is None else query.until
        statement, values = self._select(query, min(count, head), last=True, columns="position")
        first: int | None = self._rows(f"SELECT min(position) FROM ({statement})", values)[0][0]
        return head if first is None else first - 1

    def last(self, query: Query) -> Recorded | None:
        """The last event that fulfils `query`."""
        page = self.last_page(query, 1)
        return page[0] if page else None

    def event(self, position: int) -> Recorded | None:
        """The event at a position."""
        page = self.page(Query(after=position - 1, until=position), 1)
        return page[0] if page else None

    def position_of(self, event_id: EventId) -> int | None:
        """The position of the event with this id."""
        rows = self._rows("SELECT position FROM events WHERE id = ?", (id_value(event_id),))
        return rows[0][0] if rows else None

    def position_at(self, time: Time) -> int:
        """The last position whose time is not after `time`; 0 when there is none.

        The times of a log never decrease, so the place is found by halving.
        """
        low, high = 0, self.head()
        while low < high:
            middle = (low + high + 1) // 2
            if self.time_at(middle) <= time:
                low = middle
            else:
                high = middle - 1
        return low

    def time_at(self, position: int) -> Time:
        """The time of the event at a position that the log has.

        Raises:
            StoreCorruptError: when it is missing.
        """
        event = self.event(position)
        if event is None:
            raise StoreCorruptError(f"event {position}", "it is missing")
        return event.envelope.time

    def stream_names(self) -> list[str]:
        """The names of all streams, sorted."""
        return [_text(row[0]) for row in self._rows("SELECT name FROM streams ORDER BY name")]

    def find_body(self, digest: Digest) -> StoredBody:
        """The row of a body, unchecked.

        Raises:
            BodyNotFoundError: when there is none.
        """
        rows = self._rows("SELECT digest, secret, size, stored, data FROM bodies WHERE digest = ?", (digest,))
        if not rows:
            raise BodyNotFoundError(digest)
        return stored_body(rows[0])

    def body(self, digest: Digest) -> Body:
        """A body, checked.

        Raises:
            BodyNotFoundError: when there is none.
            StoreCorruptError: when it is damaged.
        """
        return unpack(self.find_body(digest))

    def stored_bodies(self) -> Iterator[StoredBody]:
        """The rows of all bodies, unchecked, in the order of their digests."""
        statement = "SELECT digest, secret, size, stored, data FROM bodies ORDER BY digest"
        try:
            for row in self._ask(lambda db: db.execute(statement)):
                yield stored_body(row)
        except sqlite3.Error as error:
            raise translate(error, self.path) from None
        if self._reopen_if_written():
            raise StoreBusyError(self.path.parent, "a writer that came while it was being read")

    def count_bodies(self, beginning: bytes) -> int:
        """How many bodies are stored with this beginning: of secret ones, it names the key."""
        statement = "SELECT count(*) FROM bodies WHERE secret = 1 AND substr(data, 1, ?) = ?"
        return int(self._rows(statement, (len(beginning), beginning))[0][0])

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Stored hashes of a tile level: `count` of them from number `first`; level 0 are the leaves'."""
        return self._ask(lambda db: stored_hashes(db, level, first, count))

    def nodes(self, level: int) -> dict[int, bytes]:
        """All stored hashes of a tile level from 1 up, by number."""
        return dict(self._rows("SELECT number, hash FROM nodes WHERE level = ?", (level,)))

    def nodes_from(self, level: int) -> list[tuple[int, int]]:
        """The names (level, number) of all stored hashes of a level or above it."""
        return self._rows("SELECT level, number FROM nodes WHERE level >= ? OR level < 1", (level,))

    @property
    def subtree(self) -> Subtree:
        """The log's tree, for proofs. It raises StoreCorruptError where a stored hash is missing or none."""
        return _checked(subtrees(self.hashes))

    def tree(self) -> TreeBuilder:
        """The tree over all events, from what is stored of it.

        Raises:
            StoreCorruptError: when a stored hash is missing or none.
        """
        return TreeBuilder.from_frontier(frontier_of(self.head(), self.subtree))

    def checkpoints(self) -> list[tuple[int, str]]:
        """The signed checkpoints that the writer kept: (size, note)."""
        rows = self._rows("SELECT size, note FROM checkpoints ORDER BY size")
        return [(size, _text(note)) for size, note in rows]

    def copy_to(self, target: Path, pages: int, progress: Callable[[int, int], None] | None) -> None:
        """Copies the whole database as it is now, some `pages` at a time; others may go on writing it."""
        self._ask(lambda db: _copy(db, target, pages, progress))

    def count(self, table: str) -> int:
        """The number of rows of one of the log's tables."""
        return self._one(f"SELECT count(*) FROM {table}")

    def types(self) -> list[tuple[str, int]]:
        """Every event type that occurs, and how often."""
        rows = self._rows(
            "SELECT types.name, count(*) FROM events JOIN types ON types.number = events.type "
            "GROUP BY types.number ORDER BY types.name"
        )
        return [(_text(name), count) for name, count in rows]

    def _select(self, query: Query, limit: int, *, last: bool = False, columns: str = "envelope, position") -> Select:
        return select_events(query, limit, tiled=self._tiled, last=last, columns=columns)

    def _one(self, statement: str) -> int:
        value: int = self._rows(statement)[0][0]
        return value

    def _rows(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        return self._ask(lambda db: db.execute(statement, values).fetchall())

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Asks the file; and again, where it was taken for one that nobody changes and a writer has come."""
        while True:
            try:
                answer = question(self._db)
            except sqlite3.Error as error:
                if not self._reopen_if_written():
                    raise translate(error, self.path) from None
            else:
                if not self._reopen_if_written():
                    return answer

    def _reopen_if_written(self) -> bool:
        known = self._db
        if not isinstance(known, FrozenConnection) or stamp_of(self.path) == known.stamp:
            return False
        self._db = self._open()
        known.close()
        return True


def _copy(source: sqlite3.Connection, target: Path, pages: int, progress: Callable[[int, int], None] | None) -> None:
    copy = sqlite3.connect(target)
    try:
        source.execute("BEGIN")  # one moment: without it, the copy begins anew at every commit
        source.execute("SELECT 1 FROM sqlite_schema").fetchone()
        report = None if progress is None else lambda _, left, total: progress(total - left, total)
        source.backup(copy, pages=pages, progress=report)
        source.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise translate(error, target) from None
    finally:
        copy.close()


def stored_hashes(connection: sqlite3.Connection, level: int, first: int, count: int) -> list[bytes]:
    """See `LogReader.hashes`."""
    statement = (
        "SELECT hash FROM nodes WHERE level = ? AND number >= ? ORDER BY number LIMIT ?"
        if level
        else "SELECT leaf FROM events WHERE ? = 0 AND position > ? ORDER BY position LIMIT ?"
    )
    return [row[0] for row in connection.execute(statement, (level, first, count))]


def _text(value: object) -> str:
    """What a column of texts holds. `verify` names what is none; here it must only not bring the reader down."""
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)


def _checked(stored: Subtree) -> Subtree:
    def subtree(level: int, number: int) -> bytes:
        try:
            value = stored(level, number)
            if len(value) != HASH_BYTES:
                raise ValueError(f"a hash of {len(value)} bytes")
        except (ValueError, TypeError) as error:
            tile_level, bits = divmod(level, TILE_BITS)
            raise StoreCorruptError(tile_path(tile_level, (number << bits) // TILE_WIDTH), str(error)) from None
        return value

    return subtree


def tree_of(connection: sqlite3.Connection, size: int) -> TreeBuilder:
    """The tree over the first `size` events, from what is stored of it."""

    def row(level: int, first: int, count: int) -> Sequence[bytes]:
        return stored_hashes(connection, level, first, count)

    return TreeBuilder.from_frontier(frontier_of(size, _checked(subtrees(row))))


def _recorded(entry: bytes) -> Recorded:
    try:
        return Recorded(entry, decode_envelope(entry))
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise StoreCorruptError("an event", f"its envelope cannot be read: {error}") from None


def stored_body(row: Sequence[Any]) -> StoredBody:
    """The body in a row of (digest, secret, size, stored, data), unchecked but for the types of the columns.

    Raises:
        StoreCorruptError: when a column holds what it never does.
    """
    digest, secret, size, stored, data = row
    name = digest.decode(errors="replace") if isinstance(digest, bytes) else repr(digest)
    if not all(isinstance(value, bytes) for value in (digest, stored, data)):
        raise StoreCorruptError(f"body {name}", "a column of its row holds a number")
    if secret not in (0, 1) or not isinstance(size, int):
        raise StoreCorruptError(f"body {name}", "its row does not say its size, or whether it is secret")
    return StoredBody(
        Digest(name), secret=bool(secret), size=size, stored=Digest(stored.decode(errors="replace")), data=data
    )
