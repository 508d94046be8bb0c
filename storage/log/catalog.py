"""What the writer has to know of the tables: the numbers of names, the places of ids, the sizes of bodies.

A `Catalog` remembers it between commits; `CatalogChanges` is how one transaction sees it, with what it has added.
"""

import sqlite3
from typing import Generic, NamedTuple, TypeVar

from tidelog.events.digest import Digest
from tidelog.events.envelope import Envelope
from tidelog.events.names import EventId, StreamName
from tidelog.storage.log.tile_index import TileEntry

CACHE_ENTRIES_MAX = 65_536
"""Entries of each of the caches."""

K = TypeVar("K")
V = TypeVar("V")


class Held(NamedTuple):
    """What the store has of a body: the digest of its stored bytes, and the size of its plaintext."""

    stored: Digest
    size: int


class _Cache(Generic[K, V]):
    """A bounded map of what the tables say. When it is full it is emptied: the tables still know."""

    def __init__(self) -> None:
        self._entries: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def update(self, entries: dict[K, V]) -> None:
        if not entries:
            return
        if len(self._entries) + len(entries) > CACHE_ENTRIES_MAX:
            self._entries.clear()
        self._entries.update(entries)


class Catalog:
    """What is committed, as far as it was asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.streams = _Cache[StreamName, tuple[int, int]]()
        self.positions = _Cache[EventId, int]()
        self.types = _Cache[str, int]()
        self.correlations = _Cache[tuple[str, str], int]()
        self.bodies = _Cache[Digest, Held]()
        self.tile_entries = _Cache[TileEntry, bool]()
        self.greatest: bytes = connection.execute("SELECT coalesce(max(id), x'') FROM events").fetchone()[0]
        """Of all ids of events: one that is greater needs no look at the table, and ids of now are."""

    def keep(self, changes: "CatalogChanges") -> None:
        """Takes what a transaction added, once that is committed."""
        self.greatest = changes.greatest
        self.streams.update(changes.streams)
        self.positions.update(changes.positions)
        self.types.update(changes.types)
        self.correlations.update(changes.correlations)
        self.bodies.update(changes.bodies)
        self.tile_entries.update(changes.tile_entries)


class CatalogChanges:
    """The catalog in one transaction. What it adds to the tables itself are the names' rows."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._db = catalog.connection
        self.greatest = catalog.greatest
        self.streams: dict[StreamName, tuple[int, int]] = {}
        self.positions: dict[EventId, int] = {}
        self.types: dict[str, int] = {}
        self.correlations: dict[tuple[str, str], int] = {}
        self.bodies: dict[Digest, Held] = {}
        self.tile_entries: dict[TileEntry, bool] = {}

    def position(self, event_id: EventId) -> int | None:
        """Where the event with an id stands."""
        position = self.positions.get(event_id) or self._catalog.positions.get(event_id)
        if position is None and not self.is_new(event_id):
            row = self._db.execute("SELECT position FROM events WHERE id = ?", (id_bytes(event_id),)).fetchone()
            position = row and row[0]
        return position

    def is_new(self, event_id: EventId) -> bool:
        """Whether an id is greater than all that are there, and so is none of them. Others may be new too."""
        return id_bytes(event_id) > self.greatest

    def held(self, digest: Digest) -> Held | None:
        """What the store has of a body."""
        held = self.bodies.get(digest) or self._catalog.bodies.get(digest)
        if held is None:
            row = self._db.execute("SELECT stored, size FROM bodies WHERE digest = ?", (digest,)).fetchone()
            if row is not None:
                held = self.bodies[digest] = Held(*row)
        return held

    def stream(self, name: StreamName) -> tuple[int, int] | None:
        """The number of a stream and the version of its last event; None when it has none yet."""
        head = self.streams.get(name) or self._catalog.streams.get(name)
        if head is None:
            row = self._db.execute("SELECT number FROM streams WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            last = self._db.execute(
                "SELECT version FROM events INDEXED BY events_stream WHERE stream = ? ORDER BY position DESC LIMIT 1",
                row,
            ).fetchone()
            head = self.streams[name] = row[0], last[0] if last else 0
        return head

    def new_stream(self, name: StreamName) -> int:
        """Gives a stream its number."""
        return self._insert("INSERT INTO streams (name) VALUES (?)", (name,))

    def type(self, name: str) -> int:
        """The number of a type of events."""
        number = self.types.get(name) or self._catalog.types.get(name)
        if number is None:
            row = self._db.execute("SELECT number FROM types WHERE name = ?", (name,)).fetchone()
            number = row[0] if row else self._insert("INSERT INTO types (name) VALUES (?)", (name,))
            self.types[name] = number
        return number

    def correlation(self, run: str | None, trace: str | None) -> int | None:
        """The number of a run and trace; None without both."""
        if run is None and trace is None:
            return None
        pair = run or "", trace or ""
        number = self.correlations.get(pair) or self._catalog.correlations.get(pair)
        if number is None:
            row = self._db.execute("SELECT number FROM correlations WHERE run = ? AND trace = ?", pair).fetchone()
            number = row[0] if row else self._insert("INSERT INTO correlations (run, trace) VALUES (?, ?)", pair)
            self.correlations[pair] = number
        return number

    def add_event(self, envelope: Envelope, stream: int) -> None:
        """Notes an event that is to be written, and the number of its stream."""
        self.streams[envelope.stream] = stream, envelope.version
        self.positions[envelope.id] = envelope.position
        self.greatest = max(self.greatest, id_bytes(envelope.id))

    def add_entry(self, entry: TileEntry) -> None:
        """Notes an entry of a coarse index that is to be written, unless it is there."""
        if self._catalog.tile_entries.get(entry) is None:
            self.tile_entries[entry] = True

    def _insert(self, statement: str, values: tuple[str, ...]) -> int:
        begin_writing(self._db)
        number = self._db.execute(statement, values).lastrowid
        if number is None:
            raise sqlite3.InternalError("SQLite gave no row number")
        return number


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begins a transaction, unless one has begun. One statement alone needs none: it is a commit of its own."""
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")


def id_bytes(event_id: EventId) -> bytes:
    """The 16 bytes of an id, as the tables have them."""
    return bytes.fromhex(event_id.replace("-", ""))
