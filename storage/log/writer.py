"""The work of one commit: several appends, one transaction, one fsync.

Everything here runs in one worker thread at a time. What the writer knows of the log in memory (the head, the
tree, the heads of streams) is changed only after the commit that made it true.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from tidelog.events.bodies import BodyRef, find_references
from tidelog.events.canonical import encode
from tidelog.events.codec import bodies_of, decode_event, encode_envelope
from tidelog.events.digest import Digest
from tidelog.events.envelope import ENVELOPE_BYTES_MAX, Envelope, decode_envelope
from tidelog.events.merkle import TILE_WIDTH, TreeBuilder, leaf_hash
from tidelog.events.moment import Time, is_time
from tidelog.events.names import EventId, StreamName, is_uuid7, stream_name
from tidelog.events.typed import decoder
from tidelog.events.vocabulary.base import Event
from tidelog.storage.connection import translate
from tidelog.storage.errors import (
    AppendError,
    BodyConflictError,
    BodyMissingError,
    CauseUnknownError,
    EventIdReusedError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFailedError,
    StoreFullError,
    VersionConflictError,
)
from tidelog.storage.log import (
    Recorded,
)
from tidelog.storage.log.catalog import Catalog, CatalogChanges, Held, begin_writing, id_bytes
from tidelog.storage.log.compression import StoredBody
from tidelog.storage.log.open_files import OpenFiles
from tidelog.storage.log.prepare import PreparedAppend, PreparedEvent, PreparedStream
from tidelog.storage.log.reader import tree_of
from tidelog.storage.log.tile_index import TILE_INDEXES, entries_of
from tidelog.storage.log.tile_macs import Derived, full_tiles

CHECKPOINT_INTERVAL = 10_000
"""Events after which the writer keeps a signed checkpoint beside them."""
_INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class _Transaction:
    """What the appends of one commit have added so far."""

    def __init__(self, position: int, time: Time, tree: TreeBuilder, tile: Sequence[Derived], catalog: Catalog) -> None:
        self.position = position
        self.time = time
        self.tree = tree
        self.tile = [*tile]
        self.catalog = CatalogChanges(catalog)
        self.rows: list[tuple[int, str, bytes, bytes, int, int, int, int | None, int | None]] = []
        self.recorded: dict[int, Recorded] = {}
        self.checkpoint: int | None = None


class LogWriter:
    """The one writer of a log.

    `clock` gives the present time; the log's times never decrease, whatever it says.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Callable[[], Time]) -> None:
        self._db = connection
        self._path = path
        self._clock = clock
        self._failure: StoreFailedError | None = None
        self._files = OpenFiles(path)
        self.sign: Callable[[TreeBuilder], str] | None = None
        """Signs a checkpoint of a tree; set when the log's key is known."""
        self.mac_key: bytes | None = None
        """Makes the MACs of tiles; set when the log's key is known."""
        self._tile: Sequence[Derived] = ()
        """The rows of the last tile that were made here. What others wrote, or the disk kept, is not vouched for."""
        self.head, self._time = self._last_event()
        self._catalog = Catalog(connection)
        self._tree = tree_of(connection, self.head)
        self._checkpoint = self._last_checkpoint()

    @property
    def tree(self) -> TreeBuilder:
        """The Merkle tree over all that is committed. Not to be changed."""
        return self._tree

    def commit(self, appends: Sequence[PreparedAppend]) -> list[tuple[Recorded, ...] | StoreError]:
        """Makes appends durable in one transaction; the outcome of each, in order.

        An append that is refused does not keep the others from being made, and neither does one for which
        there is no room.
        """
        if self._failure is not None:
            return [self._failure] * len(appends)
        try:
            if (fault := self._files.fault()) is not None:
                return self._fail(fault, appends)
            return self._commit(appends)
        except sqlite3.Error as error:
            refusal = translate(error, self._path)
            if isinstance(refusal, StoreBusyError):
                return [refusal] * len(appends)
            if isinstance(refusal, StoreFullError):
                return [refusal] if len(appends) == 1 else [self.commit([append])[0] for append in appends]
            return self._fail(str(refusal), appends)
        except Exception as error:  # noqa: BLE001 - a defect of ours: the producers are told, and no more is written
            return self._fail(f"a commit ended in {error!r}", appends)

    def _fail(self, why: str, appends: Sequence[PreparedAppend]) -> list[tuple[Recorded, ...] | StoreError]:
        """Ends the writer: what is on the disk can only be told by opening it again."""
        self._failure = StoreFailedError(self._path.parent, why)
        return [self._failure] * len(appends)

    def _commit(self, appends: Sequence[PreparedAppend]) -> list[tuple[Recorded, ...] | StoreError]:
        transaction = self._begin(max(self._time, self._clock()))
        outcomes: list[tuple[Recorded, ...] | StoreError] = []
        try:
            if len(appends) > 1:
                begin_writing(self._db)
            for append in appends:
                try:
                    outcomes.append(self._append(transaction, append))
                except AppendError as refusal:
                    outcomes.append(refusal)
            self._write(transaction)
        except BaseException:
            self._rollback()
            raise
        self._end(transaction)
        return outcomes

    def _begin(self, time: Time) -> _Transaction:
        return _Transaction(self.head, time, self._tree.copy(), self._tile, self._catalog)

    def _end(self, transaction: _Transaction) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise
        self.head, self._time, self._tree = transaction.position, transaction.time, transaction.tree
        self._tile = transaction.tile
        self._checkpoint = transaction.checkpoint or self._checkpoint
        self._catalog.keep(transaction.catalog)

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _append(self, transaction: _Transaction, append: PreparedAppend) -> tuple[Recorded, ...]:
        """Adds one append to a transaction; every refusal comes before the first change."""
        events = append.events
        repeated = self._repeated(transaction, events)
        if repeated is not None:
            return repeated
        self._check_versions(transaction, append.streams)
        self._check_causes(transaction, events)
        self._add_bodies(transaction, append)
        return tuple(self._record(transaction, event) for event in events)

    def _repeated(self, transaction: _Transaction, events: Sequence[PreparedEvent]) -> tuple[Recorded, ...] | None:
        """The answer to an append that was made before, None for a new one."""
        if all(event.new.id is None or transaction.catalog.is_new(event.id) for event in events):
            return None  # the log has just made the ids, or nobody else has had them yet
        found = [self._find(transaction, event.id) for event in events]
        known = [recorded for recorded in found if recorded is not None]
        if not known:
            return None
        for event, recorded in zip(events, found, strict=True):
            if recorded is None:
                raise EventIdReusedError(
                    known[0].envelope.id, known[0].envelope.position, "other events of this append are not"
                )
            if not _same(event, recorded.envelope):
                raise EventIdReusedError(event.id, recorded.envelope.position, "with other content")
        return tuple(known)

    def _find(self, transaction: _Transaction, event_id: EventId) -> Recorded | None:
        position = transaction.catalog.position(event_id)
        if position is None:
            return None
        recorded = transaction.recorded.get(position)
        if recorded is not None:
            return recorded
        row = self._db.execute("SELECT envelope FROM events WHERE position = ?", (position,)).fetchone()
        raw = row[0].encode()
        return Recorded(raw, decoder(Envelope)(raw))

    def _check_versions(self, transaction: _Transaction, parts: Sequence[PreparedStream]) -> None:
        versions: dict[StreamName, int] = {}
        for part in parts:
            version = versions.get(part.stream)
            if version is None:
                head = transaction.catalog.stream(part.stream)
                version = head[1] if head else 0
            if part.expected is not None and part.expected != version:
                raise VersionConflictError(part.stream, part.expected, version)
            versions[part.stream] = version + len(part.events)

    def _check_causes(self, transaction: _Transaction, events: Sequence[PreparedEvent]) -> None:
        own: set[EventId] = set()
        for event in events:
            cause = event.new.cause
            if cause is not None and cause not in own and transaction.catalog.position(cause) is None:
                raise CauseUnknownError(event.type, cause)
            own.add(event.id)

    def _add_bodies(self, transaction: _Transaction, append: PreparedAppend) -> None:
        new: dict[Digest, StoredBody] = {}
        for body in append.bodies:
            held = transaction.catalog.held(body.digest)
            if held is None:
                new[body.digest] = body
            elif body.secret and held.stored != body.stored:
                raise BodyConflictError(body.digest, "under another ciphertext")
        for event in append.events:
            for reference in event.bodies:
                own = new.get(reference.digest)
                held = transaction.catalog.held(reference.digest) if own is None else Held(own.stored, own.size)
                _check_reference(event.type, reference, held)
        if new:
            begin_writing(self._db)
            self._db.executemany("INSERT INTO bodies VALUES (?, ?, ?, ?, ?)", (body.row for body in new.values()))
            transaction.catalog.bodies.update((digest, Held(body.stored, body.size)) for digest, body in new.items())

    def _record(self, transaction: _Transaction, event: PreparedEvent) -> Recorded:
        """Gives an event its place, and adds it."""
        number, version = transaction.catalog.stream(event.stream) or (transaction.catalog.new_stream(event.stream), 0)
        envelope = event.envelope(transaction.position + 1, version + 1, transaction.time)
        return self._add(transaction, Recorded(encode_envelope(envelope), envelope), number)

    def _add(self, transaction: _Transaction, recorded: Recorded, stream: int) -> Recorded:
        """Adds an event's row and its leaf."""
        raw, envelope = recorded.raw, recorded.envelope
        leaf = leaf_hash(raw)
        kind = transaction.catalog.type(envelope.type)
        correlation = transaction.catalog.correlation(envelope.run, envelope.trace)
        cause = None if envelope.cause is None else transaction.catalog.position(envelope.cause)
        derived = (id_bytes(envelope.id), stream, envelope.version, kind, correlation, cause)
        transaction.rows.append((envelope.position, raw.decode(), leaf, *derived))
        transaction.tile.append(derived)
        for entry in entries_of(envelope.position, kind, correlation, cause):
            transaction.catalog.add_entry(entry)
        transaction.tree.add(leaf)
        transaction.position, transaction.time = envelope.position, envelope.time
        transaction.catalog.add_event(envelope, stream)
        transaction.recorded[envelope.position] = recorded
        return recorded

    def adopt(self, entries: Sequence[bytes], bodies: Sequence[StoredBody]) -> None:
        """Adds events of another store of this log, byte for byte, in one transaction.

        What an append would refuse is refused here too: whoever signed it, a log that holds it is none of ours.

        Raises:
            StoreCorruptError: when one is no event, or does not go on from the one before it.
            StoreError: when they cannot be kept.
        """
        transaction = self._begin(self._time)
        try:
            try:
                begin_writing(self._db)
                for body in bodies:
                    if transaction.catalog.held(body.digest) is not None:
                        raise StoreCorruptError(f"body {body.digest}", "it stands there twice")
                    self._db.execute("INSERT INTO bodies VALUES (?, ?, ?, ?, ?)", body.row)
                    transaction.catalog.bodies[body.digest] = Held(body.stored, body.size)
                for entry in entries:
                    self._adopt(transaction, entry)
                self._write(transaction)
            except BaseException:
                self._rollback()
                raise
            self._end(transaction)
        except sqlite3.Error as error:
            raise translate(error, self._path) from None

    def _adopt(self, transaction: _Transaction, entry: bytes) -> None:
        name = f"event {transaction.position + 1}"
        if len(entry) > ENVELOPE_BYTES_MAX:
            raise StoreCorruptError(name, f"it has {len(entry)} bytes; {ENVELOPE_BYTES_MAX} is the most")
        try:
            envelope = decode_envelope(entry)
            canonical = encode(msgspec.json.decode(entry))
            _check_names(envelope)
            _check_references(decode_event(envelope))
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise StoreCorruptError(name, str(error)) from None
        head = transaction.catalog.stream(envelope.stream)
        due = transaction.position + 1, (head[1] if head else 0) + 1
        if canonical != entry:
            raise StoreCorruptError(name, "it is not in canonical form")
        if (envelope.position, envelope.version) != due:
            raise StoreCorruptError(name, f"position and version are not {due[0]} and {due[1]}")
        if envelope.time < transaction.time:
            raise StoreCorruptError(name, f"its time is before {transaction.time}")
        if transaction.catalog.position(envelope.id) is not None:
            raise StoreCorruptError(name, f"its id {envelope.id} stands before it")
        if envelope.cause is not None and transaction.catalog.position(envelope.cause) is None:
            raise StoreCorruptError(name, f"its cause {envelope.cause} does not stand before it")
        for digest, size, ciphertext in find_references(entry):
            held = transaction.catalog.held(Digest(digest.decode()))
            if held is None or held.size != int(size) or ciphertext not in (b"", held.stored.encode()):
                raise StoreCorruptError(name, f"the body {digest.decode()} that it names is not there")
        number = head[0] if head else transaction.catalog.new_stream(envelope.stream)
        self._add(transaction, Recorded(entry, envelope), number)

    def _write(self, transaction: _Transaction) -> None:
        is_due = transaction.position - self._checkpoint >= CHECKPOINT_INTERVAL
        nodes = transaction.tree.drain()
        if len(transaction.rows) > 1 or transaction.catalog.tile_entries or nodes or is_due:
            begin_writing(self._db)
        self._db.executemany(_INSERT_EVENT, transaction.rows)
        for index in TILE_INDEXES if transaction.catalog.tile_entries else ():
            entries = [
                (entry.key, entry.tile) for entry in transaction.catalog.tile_entries if entry.table == index.table
            ]
            if entries:
                self._db.executemany(f"INSERT OR IGNORE INTO {index.table} VALUES (?, ?)", entries)
        if nodes:
            self._db.executemany("INSERT INTO nodes VALUES (?, ?, ?)", nodes)
            if self.mac_key is not None:
                macs = full_tiles(self.mac_key, nodes, transaction.tile, transaction.position)
                self._db.executemany("INSERT INTO tile_macs VALUES (?, ?)", macs)
            rest = min(len(transaction.tile), transaction.position % TILE_WIDTH)
            transaction.tile = transaction.tile[len(transaction.tile) - rest :]
        if is_due:
            transaction.checkpoint = self._write_checkpoint(transaction.tree)

    def drop_macs(self) -> None:
        """Drops the MACs of tiles, which another key made: nobody here could hold them against anything."""
        self._db.execute("DELETE FROM tile_macs")

    def keep_checkpoint(self) -> None:
        """Keeps a signed checkpoint of the log as it is, if there is none yet. A disk that is full is no error."""
        if self._failure is None and self._checkpoint < self.head:
            try:
                self._checkpoint = self._write_checkpoint(self._tree)
            except sqlite3.Error as error:
                if error.sqlite_errorname != "SQLITE_FULL":
                    raise translate(error, self._path) from None

    def empty_write_ahead_log(self) -> None:
        """Moves what is committed to the database itself, so that the log is one file also where a reader stays.

        Where a reader is in the midst of reading, it is left to SQLite.
        """
        if self._failure is None:
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _write_checkpoint(self, tree: TreeBuilder) -> int:
        if self.sign is not None:
            self._db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (tree.size, self.sign(tree)))
        return tree.size

    def _last_checkpoint(self) -> int:
        size: int = self._db.execute("SELECT coalesce(max(size), 0) FROM checkpoints").fetchone()[0]
        return size

    def _last_event(self) -> tuple[int, Time]:
        row = self._db.execute("SELECT position, envelope FROM events ORDER BY position DESC LIMIT 1").fetchone()
        if row is None:
            return 0, Time("")
        return row[0], decoder(Envelope)(row[1]).time


def _check_names(envelope: Envelope) -> None:
    """Refuses names and times that no append would have made.

    Raises:
        ValueError: when one is malformed.
    """
    stream_name(envelope.stream)
    for name in (envelope.id, envelope.run, envelope.trace, envelope.cause):
        if name is not None and not is_uuid7(name):
            raise ValueError(f"{name!r} is no UUID of version 7")
    for time in (envelope.time, envelope.occurred):
        if time is not None and not is_time(time):
            raise ValueError(f"{time!r} is no time of the log")


def _check_references(event: Event) -> None:
    """Refuses references to bodies that no append would have made.

    Raises:
        ValueError: when one is malformed.
    """
    for reference in bodies_of(event):
        if not reference.binds:
            raise ValueError(f"{reference.digest!r} names no body: a secret one has a keyed digest and `stored`")


def _check_reference(name: str, reference: BodyRef, held: Held | None) -> None:
    if held is None:
        raise BodyMissingError(name, reference.digest)
    if reference.size != held.size:
        raise BodyConflictError(reference.digest, f"with {held.size} bytes, and not {reference.size}")
    if reference.secret and reference.stored != held.stored:
        raise BodyConflictError(reference.digest, "under another ciphertext")


def _same(event: PreparedEvent, recorded: Envelope) -> bool:
    """Whether what the producer gave is what was recorded."""
    new = event.new
    return (
        event.stream == recorded.stream
        and event.type == recorded.type
        and event.schema == recorded.schema
        and memoryview(event.data) == memoryview(recorded.data)
        and new.actor == recorded.actor
        and (new.occurred, new.run, new.trace, new.cause)
        == (recorded.occurred, recorded.run, recorded.trace, recorded.cause)
    )
