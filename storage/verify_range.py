"""Verification of a part of the log: a worker process that is given parts on stdin and answers on stdout.

A process, because a million hashes keep a core busy, and because a damaged file may bring a reader down: the
parent then still knows which part it was.
"""

import gc
import re
import sqlite3
import sys
from collections.abc import Iterator
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from tidelog.events.merkle import TILE_WIDTH, fold
from tidelog.storage.compression import unpack
from tidelog.storage.connection import connect_to_read
from tidelog.storage.errors import StoreCorruptError
from tidelog.storage.reader import stored_body

FINDINGS_MAX = 100
"""Faults that are told of one part; after that it is damaged beyond listing."""
KNOWN_BODIES_MAX = 100_000
RECENT_IDS_MAX = 65_536

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


class Header(msgspec.Struct, gc=False):
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


_decode = msgspec.json.Decoder(Header).decode
_claims = attrgetter(*Claims._fields)
# A reference to a body, in the canonical form in which every event has it.
_references = re.compile(
    rb'\{"digest":"((?:hmac-)?sha256:[0-9a-f]{64})"(?:,"secret":true)?,"size":\d+(?:,"stored":"([^"]*)")?\}'
).findall


class EventsVerifier:
    """Verifies a range of events: hashes, columns, order, and the presence of the bodies that they name."""

    def __init__(self, connection: sqlite3.Connection, part: Part) -> None:
        self._db = connection
        self._part = part
        self.result = PartResult(part=part)
        self._streams = self._names("streams")
        self._types = self._names("types")
        self._correlations: dict[tuple[str | None, str | None], int | None] = {}
        self._recent: dict[str, int] = {}
        self._bodies: set[tuple[bytes, bytes]] = set()
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
        leaves = [sha256(b"\0" + row[1]).digest() for row in rows]
        whole = len(rows) == last - first + 1 and self._check_rows(rows, leaves)
        if len(rows) < last - first + 1:
            self._name_missing(first, last, rows)
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
            return self._db.execute(statement, (first, last)).fetchall()
        except sqlite3.DatabaseError:
            return [row for position in range(first, last + 1) for row in self._fetch_one(statement, position)]

    def _fetch_one(self, statement: str, position: int) -> list[Row]:
        try:
            return self._db.execute(statement, (position, position)).fetchall()
        except sqlite3.DatabaseError as error:
            self._found(f"event {position}", f"cannot be read: {error}")
            return []

    def _check_rows(self, rows: list[Row], leaves: list[bytes]) -> bool:
        """Whether the envelopes of a tile are those that were hashed; its root is then known."""
        columns = _Columns(*zip(*rows, strict=True))
        try:
            headers = [_decode(envelope) for envelope in columns.envelope]
        except msgspec.DecodeError:
            headers = []
        if not headers or columns.leaf != tuple(leaves):
            self._name_altered(rows, leaves)
            return False
        claims = Claims(*zip(*map(_claims, headers), strict=True))
        self._check_columns(columns, claims)
        self._check_order(claims)
        self._check_bodies(columns)
        return True

    def _check_columns(self, columns: _Columns, claims: Claims) -> None:
        """Whether the columns hold what the envelopes say. A tile at a time: the loops are those of `map`."""
        self._recent.update(zip(claims.id, claims.position, strict=True))
        self._load_correlations(columns.correlation)
        pairs = zip(claims.run, claims.trace, strict=True)
        wrong = {
            "position": columns.position != claims.position,
            "id": b"".join(columns.id).hex() != "".join(claims.id).replace("-", ""),
            "stream": columns.stream != tuple(map(self._streams.get, claims.stream)),
            "version": columns.version != claims.version,
            "type": columns.type != tuple(map(self._types.get, claims.type)),
            "correlation": columns.correlation != tuple(map(self._correlations.get, pairs)),
            "cause": columns.cause != tuple(map(self._position, claims.cause)),
        }
        if any(wrong.values()):
            self._name_columns(columns, claims, [name for name, is_wrong in wrong.items() if is_wrong])

    def _check_order(self, claims: Claims) -> None:
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
        for stream, version, position in zip(claims.stream, claims.version, claims.position, strict=True):
            previous_version = last.get(stream)
            if previous_version is None:
                first[stream] = version
            elif version != previous_version + 1:
                self._found(f"event {position}", f"its version in {stream} is {version}, after {previous_version}")
            last[stream] = version
        if len(self._recent) > RECENT_IDS_MAX:
            self._recent = dict(zip(claims.id, claims.position, strict=True))

    def _check_bodies(self, columns: _Columns) -> None:
        """Whether every body that an event names is there, once for each body."""
        named = set(_references(b"\n".join(columns.envelope)))
        for digest, stored in named - self._bodies:
            self._check_body(columns, digest, stored)
        if len(self._bodies) > KNOWN_BODIES_MAX:
            self._bodies.clear()
        self._bodies |= named

    def _check_body(self, columns: _Columns, digest: bytes, stored: bytes) -> None:
        found = self._db.execute("SELECT stored FROM bodies WHERE digest = ?", (digest.decode(),)).fetchone()
        if found is not None and stored in (b"", found[0]):
            return
        position = next(at for at, entry in zip(columns.position, columns.envelope, strict=True) if digest in entry)
        problem = f"missing; event {position} names it" if found is None else f"not what event {position} names"
        self._found(f"body {digest.decode()}", problem)

    def _name_altered(self, rows: list[Row], leaves: list[bytes]) -> None:
        for row, leaf in zip(rows, leaves, strict=True):
            if row[2] != leaf:
                self._found(f"event {row[0]}", "its envelope and its leaf hash do not belong together")

    def _name_columns(self, columns: _Columns, claims: Claims, names: list[str]) -> None:
        for index, position in enumerate(columns.position):
            derived = {
                "position": claims.position[index],
                "id": bytes.fromhex(claims.id[index].replace("-", "")),
                "stream": self._streams.get(claims.stream[index]),
                "version": claims.version[index],
                "type": self._types.get(claims.type[index]),
                "correlation": self._correlations.get((claims.run[index], claims.trace[index])),
                "cause": self._position(claims.cause[index]),
            }
            wrong = [name for name in names if getattr(columns, name)[index] != derived[name]]
            if wrong:
                self._found(f"event {position}", f"not what its envelope says: {', '.join(wrong)}")

    def _name_missing(self, first: int, last: int, rows: list[Row]) -> None:
        there = {row[0] for row in rows}
        unreadable = {finding.what for finding in self.result.findings}
        for position in range(first, last + 1):
            if position not in there and f"event {position}" not in unreadable:
                self._found(f"event {position}", "missing")

    def _load_correlations(self, numbers: tuple[int | None, ...]) -> None:
        """Makes known which run and trace the numbers of a tile stand for."""
        wanted = list({number for number in numbers if number is not None})
        marks = ", ".join("?" * len(wanted))
        self._correlations = {(None, None): None}
        for number, run, trace in self._db.execute(
            f"SELECT number, run, trace FROM correlations WHERE number IN ({marks})", wanted
        ):
            self._correlations[run.decode() or None, trace.decode() or None] = number

    def _position(self, event_id: str | None) -> int | None:
        if event_id is None:
            return None
        position = self._recent.get(event_id)
        if position is None:
            row = self._db.execute(
                "SELECT position FROM events WHERE id = ?", (bytes.fromhex(event_id.replace("-", "")),)
            ).fetchone()
            position = row and row[0]
        return position

    def _names(self, table: str) -> dict[str, int]:
        return {
            name.decode(errors="replace"): number
            for number, name in self._db.execute(f"SELECT number, name FROM {table}")
        }

    def _found(self, what: str, problem: str) -> None:
        self.result.findings.append(Finding(what, problem))


def verify_bodies(connection: sqlite3.Connection, part: Part) -> PartResult:
    """Verifies every body: its stored bytes, and for one that may be seen, its content."""
    result = PartResult(part=part)
    for number in _body_rows(connection, result):
        result.count += 1
        try:
            unpack(stored_body(connection.execute(_BODY, (number,)).fetchone()))
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
        names = {
            root: f"{kind.decode()} {name.decode()}"
            for kind, name, root in connection.execute("SELECT type, name, rootpage FROM sqlite_schema")
        }
        lines = [
            line.decode(errors="replace") for (line,) in connection.execute(f"PRAGMA integrity_check({FINDINGS_MAX})")
        ]
    except sqlite3.DatabaseError as error:
        names, lines = {}, [str(error)]
    for line in lines:
        if line != "ok":
            result.findings.append(Finding(*_named(line, file, names)))
    return result


def _named(line: str, file: str, names: dict[int, str]) -> tuple[str, str]:
    """Where a line of SQLite's integrity check points, and what it says."""
    tree = _tree(line)
    if tree is not None:
        root, rest = int(tree[1]), tree[2]
        return f"{file}, {names.get(root, f'tree {root}')}", rest
    index = _index(line)
    return (f"{file}, index {index[1]}" if index else file), line


_tree = re.compile(r"(?:\*\*\* in database main \*\*\*\s+)?(?:On tree page|Tree) (\d+) (.*)", re.DOTALL).search
_index = re.compile(r"(?:missing from|in|of) index (\w+)").search
_BODY = "SELECT digest, secret, size, stored, data FROM bodies WHERE rowid = ?"


def verify_part(directory: Path, part: Part) -> PartResult:
    """Verifies a part of the store in `directory`."""
    file = directory / ("views.db" if part.kind == "views" else "log.db")
    connection = connect_to_read(file)
    try:
        match part.kind:
            case "events":
                return EventsVerifier(connection, part).run()
            case "bodies":
                return verify_bodies(connection, part)
            case _:
                return verify_structure(connection, part, file.name)
    finally:
        connection.close()


def main() -> None:
    """Answers one part a line until stdin ends."""
    directory = Path(sys.argv[1])
    gc.disable()  # rows and headers hold no cycles, and there are millions of them
    for line in sys.stdin.buffer:
        result = verify_part(directory, msgspec.json.decode(line, type=Part))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
