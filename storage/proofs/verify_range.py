"""Verification of a range of events."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias, cast

import msgspec

from tidelog.events.bodies import find_references
from tidelog.events.envelope import Actor
from tidelog.events.merkle import TILE_WIDTH, fold, leaf_hashes
from tidelog.events.typed import decoder
from tidelog.storage.proofs.parts import FINDINGS_MAX, Finding, Part, PartResult
from tidelog.storage.proofs.tables import Tables
from tidelog.storage.proofs.verify_macs import TileMacs
from tidelog.storage.proofs.verify_names import ID_BYTES, Known
from tidelog.storage.proofs.verify_tiles import TileEntries, has_tile_indexes
from tidelog.storage.proofs.verify_versions import Versions

Row: TypeAlias = tuple[bytes, bytes, bytes, int, int, int, int | None, int | None, int]


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
    actor: msgspec.Raw
    data: msgspec.Raw


class _Columns(NamedTuple):
    """Rows of events, turned: one tuple a column."""

    envelope: tuple[bytes, ...]
    leaf: tuple[bytes, ...]
    id: tuple[bytes, ...]
    stream: tuple[int, ...]
    version: tuple[int, ...]
    type: tuple[int, ...]
    correlation: tuple[int | None, ...]
    cause: tuple[int | None, ...]
    position: tuple[int, ...]

    @property
    def derived(self) -> "tuple[Sequence[bytes | int | None], ...]":
        """Those that a tile's MAC covers."""
        return self[2:8]


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
    actor: tuple[msgspec.Raw, ...]
    data: tuple[msgspec.Raw, ...]


_decode = decoder(Header)
_decode_actor = decoder(Actor)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_fields_of = msgspec.structs.astuple
_references_in = re.compile(rb'(?s)\{"digest":"(?:sha256:.{64})?[^}]*\}').findall
"""What may name a body: found at once in all data of a tile, and looked at when it is new. The digest is leapt over."""
_COLUMNS = "CAST(envelope AS BLOB), leaf, id, stream, version, type, correlation, cause"
_FROM = "FROM events WHERE position BETWEEN ? AND ? ORDER BY position"
_ALL_ROWS = f"SELECT {_COLUMNS} {_FROM}"
"""Where there are as many rows as positions, they need not say their own."""
_ROWS = f"SELECT {_COLUMNS}, position {_FROM}"


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
    compared. Only what differs is looked at one by one, to be named. A tile that is known again by its MAC has the
    columns that were written with its envelopes, and few of these are decoded.
    """

    def __init__(self, tables: Tables, part: Part, known: Known, mac_key: bytes | None) -> None:
        self._tables = tables
        self._part = part
        self._known = known
        self.result = PartResult(part=part)
        self._macs = TileMacs(tables, self.result, mac_key)
        self._ids: list[str | None] = []
        """Of the part's events, from its first to the end of the tile."""
        self._versions = Versions()
        self._entries = TileEntries()
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
        self._check_entries()
        return self.result

    def _check_entries(self) -> None:
        """Whether the indexes of tiles have what the events call for."""
        try:
            if has_tile_indexes(self._tables):
                self.result.findings += self._entries.check(self._tables)
                self.result.tile_entries = dict(self._entries.found)
        except sqlite3.DatabaseError as error:
            self._found(f"events {self._part.first} to {self._part.last}", f"not to be found by tiles: {error}")

    def _tile(self, first: int, last: int) -> None:
        columns = self._fetch(first, last)
        count = len(columns.position)
        leaves = leaf_hashes(columns.envelope)
        root = fold(leaves) if count == TILE_WIDTH else None
        fits = root is not None and self._macs.fit(first, root, columns.derived)
        found = len(self.result.findings)
        if root is not None and fits and self._take(columns, leaves):
            self.result.count += count
            self.result.roots.append(root)
            return
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
        if root is not None and not fits and len(self.result.findings) == found:
            self._macs.tell(first)
        self.result.count += count
        if last - first + 1 == TILE_WIDTH:
            self.result.roots.append(None if lost else root)
        else:
            self.result.rest = None if lost else leaves

    def _take(self, columns: _Columns, leaves: list[bytes]) -> bool:
        """Takes in a tile that its MAC fits; False when it has to be looked at event by event for all that.

        What is left to be shown: that leaves, names and bodies, which stand elsewhere, are those of its envelopes,
        and that it goes on from the tile before it.
        """
        if list(columns.leaf) != leaves:
            return False
        self._known.forget()
        try:
            times = self._check_names(columns)
            if times is None or times[0] < self._last_time:
                return False
            streams = cast("Sequence[str]", self._known.streams.of(self._tables, columns.stream))  # as was just shown
            self._check_bodies(columns, columns.envelope)
        except (sqlite3.DatabaseError, *_UNREADABLE):
            return False
        self._ids += [None] * TILE_WIDTH
        self._entries.add(columns.position, columns.type, columns.correlation, columns.cause)
        self._note_times(*times)
        self._check_versions(columns.stream, columns.position, streams, columns.version)
        return True

    def _check_names(self, columns: _Columns) -> tuple[str, str] | None:
        """Whether numbers of a tile stand for the names that envelopes say; gives its first and last time.

        A number that was not seen yet is shown by one event that has it: by the MAC it was the same for all.
        """
        known, tables = self._known, self._tables
        numbers = columns.stream, columns.type, columns.correlation
        new = [set(column) - shown for column, shown in zip(numbers, known.shown, strict=True)]
        shown_by = {column.index(number) for column, some in zip(numbers, new, strict=True) for number in some}
        at = sorted({0, TILE_WIDTH - 1, *shown_by})
        claims = _claims_of([_decode(columns.envelope[index]) for index in at])
        right = (
            known.streams.of(tables, [columns.stream[index] for index in at]) == claims.stream
            and known.types.of(tables, [columns.type[index] for index in at]) == claims.type
            and known.correlations.of(tables, [columns.correlation[index] for index in at])
            == tuple(zip(claims.run, claims.trace, strict=True))
        )
        if not right:
            return None
        for some, shown in zip(new, known.shown, strict=True):
            shown.update(some)
        return claims.time[0], claims.time[-1]

    def _fetch(self, first: int, last: int) -> _Columns:
        with suppress(sqlite3.DatabaseError):
            rows = self._tables.rows(_ALL_ROWS, (first, last))
            if len(rows) == last - first + 1:
                columns = _Columns._make((*zip(*rows, strict=True), tuple(range(first, last + 1))))
                if {*map(type, columns.envelope), *map(type, columns.id)} == {bytes}:
                    return columns
        rows = [row for position in range(first, last + 1) for row in self._fetch_one(position)]
        return _columns_of([row for row in rows if self._is_row(row)])

    def _is_row(self, row: Row) -> bool:
        """Whether envelope and id are bytes at all; where they are not, the event is named."""
        if type(row[0]) is bytes and type(row[2]) is bytes:
            return True
        self._found(f"event {row[-1]}", "cannot be read: a column of its row holds another type")
        return False

    def _fetch_one(self, position: int) -> list[Row]:
        try:
            return self._tables.rows(_ROWS, (position, position))
        except sqlite3.DatabaseError as error:
            self._found(f"event {position}", f"cannot be read: {error}")
            return []

    def _intact(self, columns: _Columns, leaves: list[bytes]) -> tuple[_Columns, Claims]:
        """The rows whose envelopes are those that were hashed, and what these say; the others are named."""
        with suppress(*_UNREADABLE):
            claims = _claims_of(list(map(_decode, columns.envelope)))
            if list(columns.leaf) == leaves:
                self._check_actors(claims)
                return columns, claims
        intact, headers = [], []
        for row, leaf in zip(zip(*columns, strict=True), leaves, strict=True):
            if row[1] != leaf:
                self._found(f"event {row[-1]}", "its envelope and its leaf hash do not belong together")
                continue
            try:
                header = _decode(row[0])
                _decode_actor(header.actor)
            except _UNREADABLE as error:
                self._found(f"event {row[-1]}", f"its envelope cannot be read: {error}")
            else:
                headers.append(header)
                intact.append(row)
        return _columns_of(intact), _claims_of(headers)

    def _check_actors(self, claims: Claims) -> None:
        """Decodes the actors that were not seen yet: they are few, and found at once in those of a tile.

        Raises:
            msgspec.DecodeError: when one is none, or when they cannot be told apart.
        """
        known = self._known.actors
        actors = b"\n".join(claims.actor).split(b"\n")
        if not known.issuperset(actors):
            new = set(actors) - known
            for actor in new:
                _decode_actor(actor)
            known |= new

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
            self._check_versions(streams, claims.position, claims.stream, claims.version)
            self._check_bodies(columns, claims.data)
        except sqlite3.DatabaseError as error:
            self._found(name, f"cannot be held against the other tables: {error}")

    def _check_columns(self, columns: _Columns, claims: Claims) -> Sequence[int]:
        """Whether the columns hold what the envelopes say; returns the numbers of the streams."""
        known, tables = self._known, self._tables
        streams = known.streams.of(tables, columns.stream)
        pairs: list[tuple[str, Sequence[object], Sequence[object]]] = [
            ("position", columns.position, claims.position),
            ("id", columns.id, _ids_as(columns.id, claims.id)),
            ("stream", streams, claims.stream),
            ("version", columns.version, claims.version),
            ("type", known.types.of(tables, columns.type), claims.type),
            (
                "correlation",
                known.correlations.of(tables, columns.correlation),
                tuple(zip(claims.run, claims.trace, strict=True)),
            ),
            ("cause", self._causes(columns, claims), claims.cause),
        ]
        wrong = [pair for pair in pairs if pair[1] != pair[2]]
        if not wrong:
            self._entries.add(columns.position, columns.type, columns.correlation, columns.cause)
        for index, position in enumerate(columns.position if wrong else ()):
            names = [name for name, column, claim in wrong if column[index] != claim[index]]
            if names:
                self._found(f"event {position}", f"not what its envelope says: {', '.join(names)}")
        if streams == claims.stream and set(map(type, columns.stream)) == {int}:
            return columns.stream
        return self._versions.numbers_of(tables, claims.stream)

    def _causes(self, columns: _Columns, claims: Claims) -> tuple[object, ...]:
        """The ids of the events that are causes: as a rule, of this part."""
        ids, first = self._ids, self._part.first
        with suppress(IndexError, TypeError):
            causes = [None if at is None else ids[at - first] if at >= first else None for at in columns.cause]
            if (found := tuple(causes)) == claims.cause:
                return found
        self._known.ids.add(claims.position, claims.id)
        return self._known.ids.of(self._tables, columns.cause)

    def _check_times(self, claims: Claims) -> None:
        """Whether times never decrease."""
        times = claims.time
        if times[0] < self._last_time or list(times) != sorted(times):
            previous = self._last_time
            for position, time in zip(claims.position, times, strict=True):
                if time < previous:
                    self._found(f"event {position}", f"its time {time} is before {previous}")
                previous = max(previous, time)
        self._note_times(times[0], times[-1])

    def _note_times(self, first: str, last: str) -> None:
        self._last_time = last
        self.result.times = (self.result.times or (first,))[0], last

    def _check_versions(
        self, numbers: Sequence[int], positions: Sequence[int], streams: Sequence[str], versions: Sequence[int]
    ) -> None:
        """Whether versions have no gaps."""
        for index, previous in self._versions.follow(numbers, streams, versions):
            version = versions[index]
            if not self.result.explains(version, previous):
                problem = f"its version in {streams[index]} is {version}, after {previous}"
                self._found(f"event {positions[index]}", problem)

    def _check_bodies(self, columns: _Columns, texts: Sequence[bytes | msgspec.Raw]) -> None:
        """Whether every body that is named in texts of events is there, once for each reference."""
        known = self._known.references
        references = _references_in(b"\n".join(texts))
        if known.issuperset(references):
            return
        for reference in set(references) - known:
            for digest, size, stored in find_references(reference):
                self._check_body(columns, digest, int(size), stored)
            known.add(reference)

    def _check_body(self, columns: _Columns, digest: bytes, size: int, stored: bytes) -> None:
        statement = "SELECT CAST(stored AS BLOB), size FROM bodies WHERE digest = ?"
        found = next(iter(self._tables.rows(statement, (digest.decode(),))), None)
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
