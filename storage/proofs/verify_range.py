"""Verification of one part of a store: a range of events, the bodies, or the structure of a file."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast
from uuid import UUID

import msgspec

from tidelog.events.bodies import find_references
from tidelog.events.envelope import Actor
from tidelog.events.merkle import TILE_WIDTH, fold, leaf_hashes
from tidelog.storage.connection import LOG, VIEWS, connect_to_read, version_of
from tidelog.storage.errors import StoreCorruptError, StoreError
from tidelog.storage.log.compression import unpack
from tidelog.storage.log.reader import stored_body

FINDINGS_MAX = 100
"""Faults that are told of one part; after that it is damaged beyond listing."""
LOG_FILE, VIEWS_FILE = "log.db", "views.db"
KNOWN_NAMES_MAX = 16_384
"""Entries of each table that a worker keeps in memory."""
KNOWN_REFERENCES_MAX = 100_000
MAPPED_BYTES_MAX = 2**40
ID_BYTES = 16
_MISSING = object()

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


_decode = msgspec.json.Decoder(Header).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_fields_of = msgspec.structs.astuple
_references_in = re.compile(rb'\{"digest":"[^}]*\}').findall
"""What may name a body: found at once in all envelopes of a tile, and looked at when it is new."""


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)


def _pair(run: object, trace: object) -> tuple[str | None, str | None]:
    return _text(run) or None, _text(trace) or None


def _id_text(column: object) -> str:
    return str(UUID(bytes=column)) if isinstance(column, bytes) and len(column) == ID_BYTES else _text(column)


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


class _Names:
    """What the numbers in a column of the events stand for, read from its table when it is first needed."""

    def __init__(self, statement: str, name: Callable[..., object], none: object = None) -> None:
        """`statement` selects rows by their number, `name` makes a name of the rest of one; `none` is that of NULL."""
        self._statement = statement
        self._name = name
        self._none = none
        self._known: dict[object, object] = {None: none}

    def of(self, connection: sqlite3.Connection, numbers: tuple[int | None, ...]) -> tuple[object, ...]:
        """The name of each; `_MISSING`, which no envelope can say, where the table has none."""
        names = tuple(map(self._known.get, numbers))
        if None in names and (new := set(numbers).difference(self._known)):
            self._read(connection, list(new))
            names = tuple(map(self._known.get, numbers))
        return names

    def _read(self, connection: sqlite3.Connection, numbers: list[int | None]) -> None:
        self._known.update(dict.fromkeys(numbers, _MISSING))
        marks = ", ".join("?" * len(numbers))
        for number, *columns in connection.execute(f"{self._statement} ({marks})", numbers):
            self._known[number] = self._name(*columns)

    def add(self, numbers: Sequence[int | None], names: Sequence[object]) -> None:
        """Makes names known."""
        self._known.update(zip(numbers, names, strict=True))

    def forget(self) -> None:
        """See `Known.forget`."""
        if len(self._known) > KNOWN_NAMES_MAX:
            self._known = {None: self._none}


class Known:
    """What a worker knows of the other tables, from one part to the next."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.streams = _Names("SELECT number, name FROM streams WHERE number IN", _text)
        self.types = _Names("SELECT number, name FROM types WHERE number IN", _text)
        self.correlations = _Names("SELECT number, run, trace FROM correlations WHERE number IN", _pair, (None, None))
        self.ids = _Names("SELECT position, id FROM events WHERE position IN", _id_text)
        """Of events, by position, for those that are a cause."""
        self.references: set[bytes] = set()
        """To bodies, as they stand in envelopes that were looked at."""

    def forget(self) -> None:
        """Keeps the memory small, and quick: what is needed again is read again."""
        for names in (self.streams, self.types, self.correlations, self.ids):
            names.forget()
        if len(self.references) > KNOWN_REFERENCES_MAX:
            self.references.clear()


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
        self._first_versions: dict[str, int] = {}
        self._last_versions: dict[str, int] = {}
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
        self.result.streams = {
            stream: (version, self._last_versions[stream]) for stream, version in self._first_versions.items()
        }
        return self.result

    def _tile(self, first: int, last: int) -> None:
        rows = self._fetch(first, last)
        leaves = leaf_hashes([row[1] for row in rows])
        if len(rows) < last - first + 1:
            self._name_missing(first, last, rows)
        intact, headers = self._intact(rows, leaves)
        whole = len(intact) == last - first + 1
        self.result.lost += last - first + 1 - len(intact)
        self._known.forget()
        if intact:
            self._check(intact, headers, f"events {first} to {last}")
        self.result.count += len(rows)
        if last - first + 1 == TILE_WIDTH:
            self.result.roots.append(fold(leaves) if whole else None)
        else:
            self.result.rest = leaves if whole else None

    def _fetch(self, first: int, last: int) -> list[Row]:
        statement = (
            "SELECT position, envelope, leaf, id, stream, version, type, correlation, cause FROM events "
            "WHERE position BETWEEN ? AND ? ORDER BY position"
        )
        try:
            rows: list[Row] = self._db.execute(statement, (first, last)).fetchall()
        except sqlite3.DatabaseError:
            rows = [row for position in range(first, last + 1) for row in self._fetch_one(statement, position)]
        if {type(row[1]) for row in rows} | {type(row[3]) for row in rows} <= {bytes}:
            return rows
        return [row for row in rows if self._is_row(row)]

    def _is_row(self, row: Row) -> bool:
        """Whether envelope and id are bytes at all; where they are not, the event is named."""
        if type(row[1]) is bytes and type(row[3]) is bytes:
            return True
        self._found(f"event {row[0]}", "cannot be read: a column of its row holds another type")
        return False

    def _fetch_one(self, statement: str, position: int) -> list[Row]:
        try:
            return self._db.execute(statement, (position, position)).fetchall()
        except sqlite3.DatabaseError as error:
            self._found(f"event {position}", f"cannot be read: {error}")
            return []

    def _intact(self, rows: list[Row], leaves: list[bytes]) -> tuple[list[Row], list[Header]]:
        """The rows whose envelopes are those that were hashed, and their headers; the others are named."""
        try:
            headers = [_decode(row[1]) for row in rows]
            if [row[2] for row in rows] == leaves:
                return rows, headers
        except _UNREADABLE:
            pass
        intact, headers = [], []
        for row, leaf in zip(rows, leaves, strict=True):
            if row[2] != leaf:
                self._found(f"event {row[0]}", "its envelope and its leaf hash do not belong together")
                continue
            try:
                headers.append(_decode(row[1]))
                intact.append(row)
            except _UNREADABLE as error:
                self._found(f"event {row[0]}", f"its envelope cannot be read: {error}")
        return intact, headers

    def _check(self, rows: list[Row], headers: list[Header], name: str) -> None:
        """Whether rows agree with what their envelopes say, with each other and with the other tables."""
        columns = _Columns(*zip(*rows, strict=True))
        claims = Claims(*zip(*map(_fields_of, headers), strict=True))
        try:
            streams = self._check_columns(columns, claims)
            self._check_order(claims, streams)
            self._check_bodies(columns)
        except sqlite3.DatabaseError as error:
            self._found(name, f"cannot be held against the other tables: {error}")

    def _check_columns(self, columns: _Columns, claims: Claims) -> tuple[str, ...]:
        """Whether the columns hold what the envelopes say; returns the streams."""
        known, db = self._known, self._db
        known.ids.add(claims.position, claims.id)
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
            ("cause", known.ids.of(db, columns.cause), claims.cause),
        ]
        wrong = [pair for pair in pairs if pair[1] != pair[2]]
        for index, position in enumerate(columns.position if wrong else ()):
            names = [name for name, column, claim in wrong if column[index] != claim[index]]
            if names:
                self._found(f"event {position}", f"not what its envelope says: {', '.join(names)}")
        # Those that were known already, where they are the same: a dictionary finds them sooner.
        return cast("tuple[str, ...]", streams) if streams == claims.stream else claims.stream

    def _check_order(self, claims: Claims, streams: tuple[str, ...]) -> None:
        """Whether times never decrease, and versions have no gaps."""
        times = claims.time
        if times[0] < self._last_time or list(times) != sorted(times):
            previous = self._last_time
            for position, time in zip(claims.position, times, strict=True):
                if time < previous:
                    self._found(f"event {position}", f"its time {time} is before {previous}")
                previous = max(previous, time)
        self._last_time = times[-1]
        self.result.times = (self.result.times or times)[0], times[-1]
        first, last = self._first_versions, self._last_versions
        for stream, version, position in zip(streams, claims.version, claims.position, strict=True):
            previous_version = last.get(stream)
            if previous_version is None:
                first[stream] = version
            elif version != previous_version + 1 and not self.result.explains(version, previous_version):
                self._found(f"event {position}", f"its version in {stream} is {version}, after {previous_version}")
            last[stream] = version

    def _check_bodies(self, columns: _Columns) -> None:
        """Whether every body that an event names is there, once for each reference."""
        known = self._known.references
        for reference in set(_references_in(b"\n".join(columns.envelope))) - known:
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

    def _name_missing(self, first: int, last: int, rows: list[Row]) -> None:
        there = {row[0] for row in rows}
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
            root: f"{_text(kind)} {_text(name)}"
            for kind, name, root in connection.execute("SELECT type, name, rootpage FROM sqlite_schema")
        }
        if file == LOG_FILE:
            _check_definitions(connection, result)
            _check_names(connection, result)
        answers = connection.execute(f"PRAGMA integrity_check({FINDINGS_MAX})").fetchall()
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding(file, str(error)))
        return result
    for line in "\n".join(_text(answer) for (answer,) in answers).split("\n"):
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
    there = {_text(name): None if sql is None else _text(sql) for name, sql in connection.execute(_DEFINITIONS)}
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
            name = next((known for known in names.values() if row and known.endswith(f" {_text(row[0])}")), None)
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
