"""Verification of one part of a store: a range of events, the bodies, or the structure of a file."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from tidelog.events.bodies import find_references
from tidelog.events.envelope import Actor
from tidelog.events.merkle import TILE_WIDTH, fold, leaf_hashes
from tidelog.storage.connection import LOG, VIEWS, connect_to_read, version_of
from tidelog.storage.errors import StoreCorruptError, StoreError
from tidelog.storage.log.compression import unpack
from tidelog.storage.log.reader import stored_body
from tidelog.storage.proofs.verify_names import ID_BYTES, Known, text_of
from tidelog.storage.proofs.verify_versions import Versions

FINDINGS_MAX = 100
"""Faults that are told of one part; after that it is damaged beyond listing."""
LOG_FILE, VIEWS_FILE = "log.db", "views.db"
MAPPED_BYTES_MAX = 2**40

Row: TypeAlias = tuple[int, bytes, bytes, bytes, int, int, int, int | None, int | None]


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written."""

    what: str
    """`event 12`, `body sha256:…`, `tile/1/000`, `checkpoint 10000`, `log.db, index events_id`, …"""
    problem: str


class Part(msgspec.Struct, frozen=True):
    """What is to be verified: events, all bodies, or the file's structure."""

    kind: str
    first: int = 0
    last: int = 0
    """Positions, both included; a part of events begins where a tile does."""


class PartResult(msgspec.Struct, kw_only=True):
    """What was found in a part."""

    part: Part
    findings: list[Finding] = []
    count: int = 0
    """Events or bodies that were read."""
    roots: list[bytes | None] = []
    """Of each full tile of leaves, re-derived; None where an event could not be read."""
    rest: list[bytes] | None = []
    """The leaves after the last full tile; None where an event could not be read."""
    times: tuple[str, str] | None = None
    """Of the first and the last event."""
    streams: dict[str, tuple[int, int]] = {}
    """The first and the last version of each stream."""
    lost: int = 0
    """Events that were named as missing or altered, less those by which a gap in a stream's versions is explained."""

    def explains(self, version: int, previous: int) -> bool:
        """Whether events that are lost explain why one version follows another; each explains one gap."""
        gap = version - previous - 1
        if not 0 < gap <= self.lost:
            return False
        self.lost -= gap
        return True


class Header(msgspec.Struct, kw_only=True, gc=False):
    """What an envelope says that a column says too, or that its neighbours must agree with."""

    id: str
    position: int
    stream: str
    time: str
    type: str
    version: int
    run: str | None = None
    trace: str | None = None
    cause: str | None = None
    actor: Actor
    schema: int
    data: msgspec.Raw


class _Columns(NamedTuple):
    """Rows of events, turned: one tuple a column."""

    position: tuple[int, ...]
    envelope: tuple[bytes, ...]
    leaf: tuple[bytes, ...]
    id: tuple[bytes, ...]
    stream: tuple[int, ...]
    version: tuple[int, ...]
    type: tuple[int, ...]
    correlation: tuple[int | None, ...]
    cause: tuple[int | None, ...]


class Claims(NamedTuple):
    """Headers of events, turned: one tuple a field."""

    id: tuple[str, ...]
    position: tuple[int, ...]
    stream: tuple[str, ...]
    time: tuple[str, ...]
    type: tuple[str, ...]
    version: tuple[int, ...]
    run: tuple[str | None, ...]
    trace: tuple[str | None, ...]
    cause: tuple[str | None, ...]
    actor: tuple[Actor, ...]
    schema: tuple[int, ...]
    data: tuple[msgspec.Raw, ...]


_decode = msgspec.json.Decoder(Header).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_fields_of = msgspec.structs.astuple
_references_in = re.compile(rb'\{"digest":"[^}]*\}').findall
"""What may name a body: found at once in all data of a tile, and looked at when it is new."""
_ROWS = (
    "SELECT position, envelope, leaf, id, stream, version, type, correlation, cause FROM events "
    "WHERE position BETWEEN ? AND ? ORDER BY position"
)


def _columns_of(rows: Sequence[Row]) -> _Columns:
    return _Columns(*zip(*rows, strict=True)) if rows else _Columns(*[()] * len(_Columns._fields))


def _claims_of(headers: Sequence[Header]) -> Claims:
    return Claims(*zip(*map(_fields_of, headers), strict=True)) if headers else Claims(*[()] * len(Claims._fields))


def _ids_as(column: tuple[bytes, ...], claims: tuple[str, ...]) -> tuple[bytes | None, ...]:
    """What a column of ids should hold by what the envelopes say; as a rule, what it holds."""
    if b"".join(column).hex() == "".join(claims).replace("-", "") and set(map(len, column)) == {ID_BYTES}:
        return column
    return tuple(map(_id_bytes, claims))


def _id_bytes(event_id: str) -> bytes | None:
    try:
        return bytes.fromhex(event_id.replace("-", ""))
    except ValueError:
        return None


class EventsVerifier:
    """Verifies a range of events: hashes, columns, order, and the presence of the bodies that they name.

    It works on a tile at a time and, where nothing is wrong, without a loop over events in Python: whole columns are
    compared. Only what differs is looked at one by one, to be named.
    """

    def __init__(self, connection: sqlite3.Connection, part: Part, known: Known) -> None:
        self._db = connection
        self._part = part
        self._known = known
        self.result = PartResult(part=part)
        self._ids: list[str | None] = []
        """Of the part's events, from its first to the end of the tile."""
        self._versions = Versions()
        self._last_time = ""

    def run(self) -> PartResult:
        """Verifies all of it."""
        for first in range(self._part.first, self._part.last + 1, TILE_WIDTH):
            last = min(first + TILE_WIDTH - 1, self._part.last)
            self._tile(first, last)
            if len(self.result.findings) >= FINDINGS_MAX:
                self._found(
                    f"events {last + 1} to {self._part.last}",
                    "not looked at: too much is damaged before them",
                )
                self.result.rest = None
                break
        self.result.streams = self._versions.spans()
        return self.result

    def _tile(self, first: int, last: int) -> None:
        columns = self._fetch(first, last)
        count = len(columns.position)
        leaves = leaf_hashes(columns.envelope)
        if count < last - first + 1:
            self._name_missing(first, last, columns)
        columns, claims = self._intact(columns, leaves)
        lost = last - first + 1 - len(columns.position)
        self.result.lost += lost
        self._known.forget()
        if columns.position:
            self._add_ids(first, last, claims)
            self._check(columns, claims, f"events {first} to {last}")
        else:
            self._ids += [None] * lost
        self.result.count += count
        if last - first + 1 == TILE_WIDTH:
            self.result.roots.append(None if lost else fold(leaves))
        else:
            self.result.rest = None if lost else leaves

    def _fetch(self, first: int, last: int) -> _Columns:
        try:
            rows: list[Row] = self._db.execute(_ROWS, (first, last)).fetchall()
        except sqlite3.DatabaseError:
            rows = [row for position in range(first, last + 1) for row in self._fetch_one(position)]
        columns = _columns_of(rows)
        if {*map(type, columns.envelope), *map(type, columns.id)} <= {bytes}:
            return columns
        return _columns_of([row for row in rows if self._is_row(row)])

    def _is_row(self, row: Row) -> bool:
        """Whether envelope and id are bytes at all; where they are not, the event is named."""
        if type(row[1]) is bytes and type(row[3]) is bytes:
            return True
        self._found(f"event {row[0]}", "cannot be read: a column of its row holds another type")
        return False

    def _fetch_one(self, position: int) -> list[Row]:
        try:
            return self._db.execute(_ROWS, (position, position)).fetchall()
        except sqlite3.DatabaseError as error:
            self._found(f"event {position}", f"cannot be read: {error}")
            return []

    def _intact(self, columns: _Columns, leaves: list[bytes]) -> tuple[_Columns, Claims]:
        """The rows whose envelopes are those that were hashed, and what these say; the others are named."""
        try:
            headers = list(map(_decode, columns.envelope))
            if list(columns.leaf) == leaves:
                return columns, _claims_of(headers)
        except _UNREADABLE:
            pass
        intact, headers = [], []
        for row, leaf in zip(zip(*columns, strict=True), leaves, strict=True):
            if row[2] != leaf:
                self._found(f"event {row[0]}", "its envelope and its leaf hash do not belong together")
                continue
            try:
                headers.append(_decode(row[1]))
                intact.append(row)
            except _UNREADABLE as error:
                self._found(f"event {row[0]}", f"its envelope cannot be read: {error}")
        return _columns_of(intact), _claims_of(headers)

    def _add_ids(self, first: int, last: int, claims: Claims) -> None:
        """Keeps the ids of a tile, by the positions that the envelopes say."""
        if claims.position == tuple(range(first, last + 1)):
            self._ids += claims.id
        else:
            ids = dict(zip(claims.position, claims.id, strict=True))
            self._ids += [ids.get(position) for position in range(first, last + 1)]

    def _check(self, columns: _Columns, claims: Claims, name: str) -> None:
        """Whether rows agree with what their envelopes say, with each other and with the other tables."""
        try:
            streams = self._check_columns(columns, claims)
            self._check_times(claims)
            self._check_versions(streams, claims)
            self._check_bodies(columns, claims)
        except sqlite3.DatabaseError as error:
            self._found(name, f"cannot be held against the other tables: {error}")

    def _check_columns(self, columns: _Columns, claims: Claims) -> Sequence[int]:
        """Whether the columns hold what the envelopes say; returns the numbers of the streams."""
        known, db = self._known, self._db
        streams = known.streams.of(db, columns.stream)
        pairs: list[tuple[str, Sequence[object], Sequence[object]]] = [
            ("position", columns.position, claims.position),
            ("id", columns.id, _ids_as(columns.id, claims.id)),
            ("stream", streams, claims.stream),
            ("version", columns.version, claims.version),
            ("type", known.types.of(db, columns.type), claims.type),
            (
                "correlation",
                known.correlations.of(db, columns.correlation),
                tuple(zip(claims.run, claims.trace, strict=True)),
            ),
            ("cause", self._causes(columns, claims), claims.cause),
        ]
        wrong = [pair for pair in pairs if pair[1] != pair[2]]
        for index, position in enumerate(columns.position if wrong else ()):
            names = [name for name, column, claim in wrong if column[index] != claim[index]]
            if names:
                self._found(f"event {position}", f"not what its envelope says: {', '.join(names)}")
        if streams == claims.stream and set(map(type, columns.stream)) == {int}:
            return columns.stream
        return self._versions.numbers_of(db, claims.stream)

    def _causes(self, columns: _Columns, claims: Claims) -> tuple[object, ...]:
        """The ids of the events that are causes: as a rule, of this part."""
        ids, first = self._ids, self._part.first
        with suppress(IndexError, TypeError):
            causes = [None if at is None else ids[at - first] if at >= first else None for at in columns.cause]
            if (found := tuple(causes)) == claims.cause:
                return found
        self._known.ids.add(claims.position, claims.id)
        return self._known.ids.of(self._db, columns.cause)

    def _check_times(self, claims: Claims) -> None:
        """Whether times never decrease."""
        times = claims.time
        if times[0] < self._last_time or list(times) != sorted(times):
            previous = self._last_time
            for position, time in zip(claims.position, times, strict=True):
                if time < previous:
                    self._found(f"event {position}", f"its time {time} is before {previous}")
                previous = max(previous, time)
        self._last_time = times[-1]
        self.result.times = (self.result.times or times)[0], times[-1]

    def _check_versions(self, streams: Sequence[int], claims: Claims) -> None:
        """Whether versions have no gaps."""
        for index, previous in self._versions.follow(streams, claims.stream, claims.version):
            position, stream, version = claims.position[index], claims.stream[index], claims.version[index]
            if not self.result.explains(version, previous):
                self._found(f"event {position}", f"its version in {stream} is {version}, after {previous}")

    def _check_bodies(self, columns: _Columns, claims: Claims) -> None:
        """Whether every body that an event names is there, once for each reference."""
        known = self._known.references
        references = _references_in(b"\n".join(claims.data))
        if known.issuperset(references):
            return
        for reference in set(references) - known:
            for digest, size, stored in find_references(reference):
                self._check_body(columns, digest, int(size), stored)
            known.add(reference)

    def _check_body(self, columns: _Columns, digest: bytes, size: int, stored: bytes) -> None:
        found = self._db.execute("SELECT stored, size FROM bodies WHERE digest = ?", (digest.decode(),)).fetchone()
        if found is not None and stored in (b"", found[0]) and size == found[1]:
            return
        position = next(at for at, entry in zip(columns.position, columns.envelope, strict=True) if digest in entry)
        problem = f"missing; event {position} names it" if found is None else f"not what event {position} names"
        self._found(f"body {digest.decode()}", problem)

    def _name_missing(self, first: int, last: int, columns: _Columns) -> None:
        there = set(columns.position)
        unreadable = {finding.what for finding in self.result.findings}
        for position in range(first, last + 1):
            if position not in there and f"event {position}" not in unreadable:
                self._found(f"event {position}", "missing")

    def _found(self, what: str, problem: str) -> None:
        self.result.findings.append(Finding(what, problem))


def verify_bodies(connection: sqlite3.Connection, part: Part) -> PartResult:
    """Verifies every body: its stored bytes, and for one that may be seen, its content."""
    result = PartResult(part=part)
    for number in _body_rows(connection, result):
        result.count += 1
        try:
            row = connection.execute(_BODY, (number,)).fetchone()
            if row is None:
                raise StoreCorruptError(f"log.db, table bodies, row {number}", "it is not found again")
            unpack(stored_body(row))
        except StoreCorruptError as error:
            result.findings.append(Finding(error.what, error.why))
        except sqlite3.DatabaseError as error:
            result.findings.append(Finding(f"log.db, table bodies, row {number}", f"cannot be read: {error}"))
        if len(result.findings) >= FINDINGS_MAX:
            break
    return result


def _body_rows(connection: sqlite3.Connection, result: PartResult) -> Iterator[int]:
    try:
        for (number,) in connection.execute("SELECT rowid FROM bodies NOT INDEXED"):
            yield number
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding("log.db, table bodies", f"cannot be read to its end: {error}"))


def verify_structure(connection: sqlite3.Connection, part: Part, file: str) -> PartResult:
    """Verifies the pages of a database file, and that its indexes and tables agree."""
    result = PartResult(part=part)
    try:
        connection.execute("PRAGMA cell_size_check = OFF")  # the check at the end does the same, once
        names = {
            root: f"{text_of(kind)} {text_of(name)}"
            for kind, name, root in connection.execute("SELECT type, name, rootpage FROM sqlite_schema")
        }
        if file == LOG_FILE:
            _check_definitions(connection, result)
            _check_names(connection, result)
        answers = connection.execute(f"PRAGMA integrity_check({FINDINGS_MAX})").fetchall()
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding(file, str(error)))
        return result
    for line in "\n".join(text_of(answer) for (answer,) in answers).split("\n"):
        if line != "ok" and not line.startswith("***"):
            result.findings.append(Finding(file + _place(connection, line, names), line))
    return result


def _check_definitions(connection: sqlite3.Connection, result: PartResult) -> None:
    """Whether every table, index and view is defined as this release defines it."""
    if version_of(connection) != LOG.version:
        return
    from tidelog.storage.log.schema import migrate  # noqa: PLC0415 - brings sqlite-utils, which other parts do not need

    new = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(new)
        due = dict(new.execute(_DEFINITIONS))
    finally:
        new.close()
    there = {text_of(name): None if sql is None else text_of(sql) for name, sql in connection.execute(_DEFINITIONS)}
    result.findings += [
        Finding(f"{LOG_FILE}, {name}", "its definition is " + ("altered" if name in there else "missing"))
        for name, sql in due.items()
        if name not in there or there[name] != sql
    ]


def _check_names(connection: sqlite3.Connection, result: PartResult) -> None:
    """Whether every stream, type and correlation is that of an event."""
    for table, column in (("streams", "stream"), ("types", "type"), ("correlations", "correlation")):
        unused = f"SELECT number FROM {table} WHERE NOT EXISTS (SELECT 1 FROM events WHERE {column} = {table}.number)"
        result.findings += [
            Finding(f"{LOG_FILE}, table {table}, row {number}", "no event has it")
            for (number,) in connection.execute(f"{unused} LIMIT {FINDINGS_MAX}")
        ]


def _place(connection: sqlite3.Connection, line: str, names: dict[int, str]) -> str:
    """Where a line of SQLite's integrity check points: its table or index, and its page."""
    index, column, tree, page = _index(line), _column(line), _tree(line), _page(line)
    if index or column:
        return f", index {index[1]}" if index else f", table {column[1]}" if column else ""
    number = int(page[1]) if page else None
    name = names.get(int(tree[1])) if tree else names.get(number or 0)
    if name is None and number is not None:
        with suppress(sqlite3.Error):  # not every SQLite is built with this table
            row = connection.execute("SELECT name FROM dbstat WHERE pageno = ?", (number,)).fetchone()
            name = next((known for known in names.values() if row and known.endswith(f" {text_of(row[0])}")), None)
    return (f", {name}" if name else "") + (f", page {number}" if number is not None else "")


# The words differ between SQLite's versions: `On tree page 7 cell 2: …`, `Tree 7 page 9 cell 2: …`.
_tree = re.compile(r"^Tree (\d+)").search
_page = re.compile(r"[Pp]age (\d+)").search
_index = re.compile(r"(?:missing from|in|of) index (\w+)").search
_column = re.compile(r"value in (\w+)\.").search
_DEFINITIONS = "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE '\\_%' ESCAPE '\\'"
_BODY = "SELECT digest, secret, size, stored, data FROM bodies WHERE rowid = ?"


class PartVerifier:
    """Verifies parts of the store in `directory`, one after another.

    With `mapped`, files are read through memory, which is quicker; a file that is shorter than it says, or a disk that
    fails, then ends the process with a signal.
    """

    def __init__(self, directory: Path, *, mapped: bool = False) -> None:
        self._directory = directory
        self._mapped = mapped
        self._known = Known()

    def verify(self, part: Part) -> PartResult:
        """Verifies a part."""
        name, kind = (VIEWS_FILE, VIEWS) if part.kind == "views" else (LOG_FILE, LOG)
        file = self._directory / name
        try:
            connection = connect_to_read(file, kind)
        except StoreError as error:
            return PartResult(part=part, findings=[Finding(file.name, str(error))], rest=None)
        try:
            if self._mapped:
                connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
            match part.kind:
                case "events":
                    return EventsVerifier(connection, part, self._known).run()
                case "bodies":
                    return verify_bodies(connection, part)
                case _:
                    return verify_structure(connection, part, file.name)
        finally:
            connection.close()
