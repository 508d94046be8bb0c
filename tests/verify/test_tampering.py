"""Whoever changes a store with SQL is found out, and what was changed is named."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import anyio
import pytest

from tests.verify.stores import file_hashes, make_store, verified
from tidelog.events.canonical import encode
from tidelog.events.merkle import leaf_hash
from tidelog.events.names import EventId, uuid7
from tidelog.events.note import Checkpoint, SignerKey, sign
from tidelog.storage.connection import LOG, connect_to_read
from tidelog.storage.layout import Layout
from tidelog.storage.log.identity import identity_of
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import utc_now
from tidelog.storage.log.tile_index import IN_TILE, TILE_INDEXES
from tidelog.storage.projections.projector import Past
from tidelog.storage.projections.view_store import ViewStore
from tidelog.storage.proofs.verify import Report
from tidelog.storage.proofs.verify_names import LISTED_MAX

NOT_SIGNED = "the first {} events are not those that were signed"
UNREAD = "cannot be held against the log: events before it could not be read"
SIGNED = (150, 300, 600)


def change(store: Path, *statements: str, file: str = "log.db") -> None:
    """Runs statements, each of which must change something."""
    with closing(sqlite3.connect(store / file, isolation_level=None)) as database:
        database.create_function("leaf", 1, lambda envelope: leaf_hash(envelope.encode()))
        for statement in statements:
            before = database.total_changes
            database.execute(statement)
            assert database.total_changes > before or statement.startswith(("DROP", "CREATE")), statement


def value(store: Path, statement: str) -> str:
    with closing(sqlite3.connect(store / "log.db")) as database:
        return str(database.execute(statement).fetchone()[0])


def findings(store: Path) -> list[tuple[str, str]]:
    report = verified(store)
    return [(finding.what, finding.problem) for finding in report.findings]


def test_a_store_that_nobody_touched_is_intact(store: Path) -> None:
    report = verified(store)
    reader = LogReader(Layout(store).log)
    try:
        expected = Report(
            events=600,
            bodies=reader.count("bodies"),
            root=reader.tree().root().hex(),
            checkpoints=3,
            findings=(),
        )
    finally:
        reader.close()
    assert report == expected
    assert report.intact
    assert report.bodies > 50


class Case(NamedTuple):
    name: str
    statements: tuple[str, ...]
    found: list[tuple[str, str]]


def signed(problem: str, *sizes: int) -> list[tuple[str, str]]:
    return [(f"checkpoint {size}", problem.format(size)) for size in sizes]


ALTER = 'UPDATE events SET envelope = replace(envelope, \'"name":"\', \'"name":"X\') WHERE position = {}'
REHASH = "UPDATE events SET leaf = leaf(envelope) WHERE position = {}"
APART = "its envelope and its leaf hash do not belong together"
RICH = "(SELECT max(position) FROM events WHERE correlation IS NOT NULL AND cause IS NOT NULL AND position < 300)"

EVENTS = [
    Case("an envelope", (ALTER.format(77),), [("event 77", APART), *signed(UNREAD, *SIGNED)]),
    Case(
        "a leaf",
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 277",),
        [("event 277", APART), *signed(UNREAD, 300, 600)],
    ),
    Case("an envelope after the last tile", (ALTER.format(599),), [("event 599", APART), *signed(UNREAD, 600)]),
    Case(
        "an envelope with its leaf",
        (ALTER.format(200), REHASH.format(200)),
        [("tile/1/000", "its hash 0 is altered"), *signed(NOT_SIGNED, 300, 600)],
    ),
    Case(
        "an envelope with its leaf, after the last tile",
        (ALTER.format(590), REHASH.format(590)),
        signed(NOT_SIGNED, 600),
    ),
    Case(
        "an envelope that is none, with its leaf",
        ("UPDATE events SET envelope = '{' WHERE position = 590", REHASH.format(590)),
        [("event 590", "its envelope cannot be read: Input data was truncated"), *signed(UNREAD, 600)],
    ),
    Case(
        "deleted", ("DELETE FROM events WHERE position = 300",), [("event 300", "missing"), *signed(UNREAD, 300, 600)]
    ),
    Case(
        "several deleted, which caused nothing",
        ("DELETE FROM events WHERE position IN (16, 18, 300)",),
        [("event 16", "missing"), ("event 18", "missing"), ("event 300", "missing"), *signed(UNREAD, *SIGNED)],
    ),
    Case(
        "the first deleted",
        ("DELETE FROM events WHERE position = 1",),
        [
            ("event 1", "missing"),
            *[(f"checkpoint {size}", "no signature by a known key; it is signed by {key}") for size in SIGNED],
        ],
    ),
]


@pytest.mark.parametrize("case", EVENTS, ids=[case.name for case in EVENTS])
def test_events_that_were_changed_are_named(store: Path, case: Case) -> None:
    reader = LogReader(Layout(store).log)
    identity = identity_of(reader)
    reader.close()
    assert identity
    key = f"{identity.origin}+{identity.verifier.id.hex()}"
    change(store, *case.statements)
    # Where the tree tells of a tile, its MAC does too: it covers the root.
    beside = ("no event has it", "its MAC of tile 0 is not that of the tile")
    found = [(what, problem) for what, problem in findings(store) if problem not in beside]
    assert found == [(what, problem.replace("{key}", key)) for what, problem in case.found]


def test_two_events_that_were_swapped_are_named(store: Path) -> None:
    for old, new in ((10, -1), (11, 10), (-1, 11)):
        change(store, f"UPDATE events SET position = {new} WHERE position = {old}")
    found = findings(store)
    assert ("event 10", "not what its envelope says: position") in found
    assert ("event 11", "not what its envelope says: position") in found
    assert ("tile/1/000", "its hash 0 is altered") in found


@pytest.mark.parametrize("column", ["stream", "version", "type", "id", "correlation", "cause"])
def test_columns_that_were_changed_are_named(store: Path, column: str) -> None:
    values = {"stream": "stream % 3 + 1", "type": "type % 3 + 1", "id": "zeroblob(16)", "cause": "1"}
    position = value(store, f"SELECT {RICH}")
    new = values.get(column, f"{column} + 1")
    change(store, f"UPDATE events SET {column} = {new} WHERE position = {position}")
    assert findings(store) == [(f"event {position}", f"not what its envelope says: {column}")]


def test_other_damage_beside_an_altered_event_is_named_too(store: Path) -> None:
    change(store, ALTER.format(77), "UPDATE events SET version = version + 1 WHERE position = 80")
    assert (findings(store))[:2] == [
        ("event 77", APART),
        ("event 80", "not what its envelope says: version"),
    ]


def test_events_cut_off_at_the_end_are_told_by_the_checkpoint_that_the_store_kept(store: Path) -> None:
    change(store, "DELETE FROM events WHERE position > 590")
    assert ("checkpoint 600", "it is of 600 events, the log has 590: its end was cut off") in findings(store)


def test_events_cut_off_at_the_end_are_told_by_a_checkpoint_that_was_kept_elsewhere(store: Path) -> None:
    """A thief who also removes the kept checkpoint, and all names, leaves a whole log behind: only shorter."""
    note = value(store, "SELECT note FROM checkpoints WHERE size = 600")
    change(
        store,
        "DELETE FROM events WHERE position > 550",
        "DELETE FROM checkpoints WHERE size > 550",
        "DELETE FROM correlations WHERE number NOT IN (SELECT correlation FROM events WHERE correlation NOT NULL)",
        *(
            f"DELETE FROM {index.table} WHERE NOT EXISTS "
            f"(SELECT 1 FROM events WHERE {IN_TILE} AND {index.of_event} = {index.table}.{index.key})"
            for index in TILE_INDEXES
        ),
    )
    (store / "views.db").unlink()
    assert (verified(store)).intact
    report = verified(store, checkpoint=note)
    assert [(finding.what, finding.problem) for finding in report.findings] == [
        ("the given checkpoint", "it is of 600 events, the log has 550: its end was cut off")
    ]


def forge(store: Path) -> None:
    """Adds an event as the log would, but for the signature."""
    envelope = json.loads(value(store, "SELECT envelope FROM events WHERE position = 600"))
    new = EventId(uuid7(1, b"0123456789"))
    envelope |= {"position": 601, "version": envelope["version"] + 1, "id": new}
    with closing(sqlite3.connect(store / "log.db")) as database:
        database.execute(
            "INSERT INTO events SELECT 601, ?, ?, ?, stream, version + 1, type, correlation, cause FROM events "
            "WHERE position = 600",
            (encode(envelope).decode(), leaf_hash(encode(envelope)), UUID(new).bytes),
        )
        database.commit()


def test_an_event_added_with_right_hashes_is_told_by_a_checkpoint_of_the_longer_log(
    store: Path, original: Path, tmp_path: Path
) -> None:
    real = Path(shutil.copytree(original, tmp_path / "real"))
    anyio.run(make_store, real, 2, (605,))
    note = value(real, "SELECT note FROM checkpoints WHERE size = 605")
    forge(store)
    report = verified(store)
    assert (report.events, report.findings) == (601, ()), "no signature covers it, and none does not"
    assert [(finding.what, finding.problem) for finding in verified(store, checkpoint=note).findings] == [
        ("the given checkpoint", "it is of 605 events, the log has 601: its end was cut off")
    ]


def test_an_event_added_with_right_hashes_is_told_by_a_checkpoint_of_as_many_events(
    store: Path, original: Path, tmp_path: Path
) -> None:
    real = Path(shutil.copytree(original, tmp_path / "real"))
    anyio.run(make_store, real, 2, (601,))
    note = value(real, "SELECT note FROM checkpoints WHERE size = 601")
    forge(store)
    assert [(finding.what, finding.problem) for finding in verified(store, checkpoint=note).findings] == [
        ("the given checkpoint", NOT_SIGNED.format(601))
    ]


def test_a_log_that_goes_on_otherwise_than_the_one_that_was_signed_is_told(store: Path, tmp_path: Path) -> None:
    """Two logs, alike up to 600, and both whole: the checkpoint of one does not fit the other."""
    kept = OpenStore(Layout(store), utc_now)
    note = kept.checkpoint()
    kept.close()
    change(store, ALTER.format(600), REHASH.format(600))
    change(store, "DELETE FROM checkpoints WHERE size = 600")
    (store / "views.db").unlink()
    assert (verified(store)).intact, "nothing in the store itself can show it"
    report = verified(store, checkpoint=note)
    assert [(finding.what, finding.problem) for finding in report.findings] == [
        ("the given checkpoint", NOT_SIGNED.format(600))
    ]


def test_a_checkpoint_kept_elsewhere_that_fits_adds_nothing(store: Path) -> None:
    note = value(store, "SELECT note FROM checkpoints WHERE size = 150")
    change(store, "DELETE FROM checkpoints")
    report = verified(store, checkpoint=note)
    assert (report.findings, report.checkpoints) == ((), 1)


def test_a_checkpoint_kept_elsewhere_must_be_signed_by_the_key_that_is_trusted(store: Path) -> None:
    note = value(store, "SELECT note FROM checkpoints WHERE size = 150")
    stranger = SignerKey("example.com/other", bytes(32)).verifier.text
    (finding,) = (verified(store, checkpoint=note, vkey=stranger)).findings
    assert finding.what == "the given checkpoint"
    assert finding.problem.startswith("no signature by a known key")


NODES = [
    ("UPDATE nodes SET hash = zeroblob(32) WHERE number = 1", "tile/1/000", "its hash 1 is altered"),
    ("UPDATE nodes SET hash = x'00' WHERE number = 0", "tile/1/000", "its hash 0 is altered"),
    ("DELETE FROM nodes WHERE number = 0", "tile/1/000", "its hash 0 is missing"),
    ("INSERT INTO nodes VALUES (1, 2, zeroblob(32))", "tile/1/000", "its hash 2 is unexpected"),
    ("INSERT INTO nodes VALUES (2, 0, zeroblob(32))", "tile/2/000", "its hash 0 is unexpected"),
    ("INSERT INTO nodes VALUES (0, 7, zeroblob(32))", "tile/0/000", "its hash 7 is unexpected"),
]


@pytest.mark.parametrize(("statement", "tile", "problem"), NODES)
def test_hashes_of_the_tree_that_were_changed_are_named(store: Path, statement: str, tile: str, problem: str) -> None:
    change(store, statement)
    assert findings(store) == [(tile, problem)]


@pytest.mark.parametrize("statement", ["INSERT INTO nodes VALUES (-1, 7, zeroblob(32))"])
def test_hashes_of_a_level_that_is_none_are_reported(store: Path, statement: str) -> None:
    change(store, statement)
    assert len(findings(store)) == 1


BODIES: list[tuple[str, int, str, list[str]]] = [
    ("data", 0, "data = zeroblob(length(data))", ["its stored bytes have another digest"]),
    ("data", 1, "data = zeroblob(length(data))", ["its stored bytes have another digest"]),
    ("data and its digest", 0, "data = x'00', stored = '{zero}'", ["error when determining content size"]),
    ("data and its digest", 1, "data = x'00', stored = '{zero}'", ["not what event {event} names"]),
    ("size", 0, "size = size + 1", ["not what event {event} names", "its content has another digest or size"]),
    ("size", 1, "size = size + 1", ["not what event {event} names"]),
    ("secrecy", 0, "secret = 1", ["whether it is secret is not what its digest says"]),
    ("secrecy", 1, "secret = 0", ["whether it is secret is not what its digest says"]),
    ("secrecy", 0, "secret = 7", ["its row does not say its size, or whether it is secret"]),
]
ZERO = "sha256:6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@pytest.mark.parametrize(("what", "secret", "changed", "problems"), BODIES)
def test_bodies_that_were_changed_are_named(
    store: Path, what: str, secret: int, changed: str, problems: list[str]
) -> None:
    digest = value(store, f"SELECT digest FROM bodies WHERE secret = {secret} LIMIT 1")
    event = value(store, f"SELECT min(position) FROM events WHERE instr(envelope, '{digest}')")
    change(store, f"UPDATE bodies SET {changed.replace('{zero}', ZERO)} WHERE digest = '{digest}'")
    assert findings(store) == [(f"body {digest}", problem.replace("{event}", event)) for problem in problems]


@pytest.mark.parametrize("secret", [0, 1])
def test_bodies_that_are_missing_are_named_with_an_event_that_names_them(store: Path, secret: int) -> None:
    digest = value(store, f"SELECT digest FROM bodies WHERE secret = {secret} LIMIT 1")
    event = value(store, f"SELECT min(position) FROM events WHERE instr(envelope, '{digest}')")
    change(store, f"DELETE FROM bodies WHERE digest = '{digest}'")
    assert findings(store) == [(f"body {digest}", f"missing; event {event} names it")]


def test_a_body_under_another_digest_is_named(store: Path) -> None:
    digest = value(store, "SELECT digest FROM bodies WHERE secret = 0 LIMIT 1")
    other = digest[:-4] + ("0000" if digest[-4:] != "0000" else "1111")
    change(store, f"UPDATE bodies SET digest = '{other}' WHERE digest = '{digest}'")
    assert {what for what, _ in findings(store)} == {f"body {digest}", f"body {other}"}


def test_a_kept_checkpoint_that_was_changed_is_named(store: Path) -> None:
    change(store, "UPDATE checkpoints SET note = replace(note, char(10) || '300', char(10) || '301') WHERE size = 300")
    ((what, problem),) = findings(store)
    assert what == "checkpoint 300"
    assert problem.startswith("bad signature of tidelog.dev/")


def test_a_kept_checkpoint_in_the_place_of_another_is_named(store: Path) -> None:
    change(store, "UPDATE checkpoints SET size = 301 WHERE size = 300")
    assert findings(store) == [("checkpoint 301", "it is one of 300 events")]


def test_a_kept_checkpoint_that_a_stranger_signed_is_named(store: Path) -> None:
    reader = LogReader(Layout(store).log)
    identity = identity_of(reader)
    root = reader.tree().root()
    reader.close()
    assert identity
    note = sign(Checkpoint(identity.origin, 600, root), SignerKey(identity.origin, b"s" * 32))
    change(store, f"UPDATE checkpoints SET note = '{note}' WHERE size = 600")
    ((what, problem),) = findings(store)
    assert what == "checkpoint 600"
    assert problem.startswith("no signature by a known key; it is signed by ")


@pytest.mark.parametrize("column", ["correlation", "cause"])
@pytest.mark.parametrize("number", ["1000000", "1"])
def test_a_correlation_or_cause_of_which_the_envelope_says_nothing_is_named(
    store: Path, column: str, number: str
) -> None:
    """Also one that leads nowhere: what is not there must not be taken for nothing."""
    position = value(store, f"SELECT max(position) FROM events WHERE {column} IS NULL AND position < 300")
    change(store, f"UPDATE events SET {column} = {number} WHERE position = {position}")
    assert findings(store) == [(f"event {position}", f"not what its envelope says: {column}")]


def test_a_cause_that_leads_as_far_before_the_log_as_the_right_one_stands_before_the_end_of_its_tile_is_named(
    store: Path,
) -> None:
    position = value(store, "SELECT max(position) FROM events WHERE cause IS NOT NULL AND position <= 512")
    change(store, f"UPDATE events SET cause = cause - 512 WHERE position = {position}")
    assert findings(store) == [(f"event {position}", "not what its envelope says: cause")]


def test_ids_of_which_one_has_a_byte_of_the_next_are_named(store: Path) -> None:
    first, second = (value(store, f"SELECT hex(id) FROM events WHERE position = {position}") for position in (20, 21))
    change(
        store,
        f"UPDATE events SET id = x'{first + second[:2]}' WHERE position = 20",
        f"UPDATE events SET id = x'{second[2:]}' WHERE position = 21",
    )
    named = [finding for finding in findings(store) if finding[1] == "not what its envelope says: id"]
    assert named == [("event 20", named[0][1]), ("event 21", named[0][1])]


@pytest.mark.parametrize(("table", "column"), [("streams", "stream"), ("types", "type")])
def test_a_name_that_was_changed_is_told_by_every_event_that_has_it(store: Path, table: str, column: str) -> None:
    number = value(store, f"SELECT {column} FROM events GROUP BY {column} HAVING count(*) BETWEEN 5 AND 60 LIMIT 1")
    positions = value(store, f"SELECT group_concat(position) FROM events WHERE {column} = {number}").split(",")
    change(store, f"UPDATE {table} SET name = name || 'x' WHERE number = {number}")
    problem = f"not what its envelope says: {column}"
    assert set(findings(store)) == {(f"event {at}", problem) for at in positions}


@pytest.mark.parametrize(
    ("table", "column"), [("streams", "stream"), ("types", "type"), ("correlations", "correlation")]
)
def test_a_name_that_is_missing_is_told_by_every_event_that_has_it(store: Path, table: str, column: str) -> None:
    few = f"GROUP BY {column} HAVING count(*) BETWEEN 2 AND 60 LIMIT 1"
    number = value(store, f"SELECT {column} FROM events WHERE {column} NOT NULL {few}")
    positions = value(store, f"SELECT group_concat(position) FROM events WHERE {column} = {number}").split(",")
    change(store, f"DELETE FROM {table} WHERE number = {number}")
    problem = f"not what its envelope says: {column}"
    assert set(findings(store)) == {(f"event {at}", problem) for at in positions}


@pytest.mark.parametrize("number", [-7, 0, LISTED_MAX - 1, LISTED_MAX, 2**40])
def test_whatever_number_a_stream_goes_by_its_versions_are_followed(store: Path, number: int) -> None:
    """The number is the store's own affair: nothing that is signed names it, and without MACs nothing knows it."""
    with closing(sqlite3.connect(store / "log.db", isolation_level=None)) as database:
        database.execute("DELETE FROM tile_macs")
    old = value(store, "SELECT stream FROM events WHERE position > 256 GROUP BY stream ORDER BY count(*) DESC LIMIT 1")
    change(store, f"UPDATE streams SET number = {number} WHERE number = {old}")
    change(store, f"UPDATE events SET stream = {number} WHERE stream = {old}")
    assert findings(store) == []
    position = int(value(store, f"SELECT max(position) FROM events WHERE stream = {number}"))
    version = json.loads(value(store, f"SELECT envelope FROM events WHERE position = {position}"))["version"]
    change(
        store,
        f"UPDATE events SET version = version + 5, envelope = replace(envelope, '\"version\":{version}}}', "
        f"'\"version\":{version + 5}}}') WHERE position = {position}",
        REHASH.format(position),
    )
    name = value(store, f"SELECT name FROM streams WHERE number = {number}")
    problem = f"its version in {name} is {version + 5}, after {version - 1}"
    assert (f"event {position}", problem) in findings(store)


@pytest.mark.parametrize("column", ["run", "trace"])
def test_a_run_or_trace_that_was_changed_is_told_by_every_event_that_has_it(store: Path, column: str) -> None:
    positions = value(store, "SELECT group_concat(position) FROM events WHERE correlation = 3").split(",")
    change(store, f"UPDATE correlations SET {column} = 'x' WHERE number = 3")
    expected = {(f"event {at}", "not what its envelope says: correlation") for at in positions}
    assert set(findings(store)) == expected


@pytest.mark.parametrize("table", ["streams", "types", "correlations"])
def test_names_that_no_event_has_are_reported(store: Path, table: str) -> None:
    values = "(999, 'x', 'y')" if table == "correlations" else "(999, 'x')"
    change(store, f"INSERT INTO {table} VALUES {values}")
    assert findings(store) == [(f"log.db, table {table}, row 999", "no event has it")]


TILE_TABLES = [("type_tiles", "type"), ("correlation_tiles", "correlation"), ("cause_tiles", "cause_tile")]


@pytest.mark.parametrize("tile", ["min(tile)", "max(tile)"])
@pytest.mark.parametrize(("table", "column"), TILE_TABLES)
def test_an_entry_of_an_index_of_tiles_that_is_missing_is_named(
    store: Path, table: str, column: str, tile: str
) -> None:
    at = int(value(store, f"SELECT {tile} FROM {table}"))
    key = int(value(store, f"SELECT {column} FROM {table} WHERE tile = {at} LIMIT 1"))
    change(store, f"DELETE FROM {table} WHERE {column} = {key} AND tile = {at}")
    assert (f"log.db, table {table}", f"its entry of {column} {key} in tile {at} is missing") in findings(store)


@pytest.mark.parametrize("tile", ["0", "1", "(SELECT max(position) - 1 FROM events) / 256", "1000000", "-1"])
@pytest.mark.parametrize(("table", "column"), TILE_TABLES)
def test_an_entry_of_an_index_of_tiles_that_no_event_calls_for_is_named(
    store: Path, table: str, column: str, tile: str
) -> None:
    at = int(value(store, f"SELECT {tile}"))
    change(store, f"INSERT INTO {table} VALUES (777, {at})")
    assert findings(store) == [
        (f"log.db, table {table}", f"its entry of {column} 777 in tile {at} is that of no event")
    ]


@pytest.mark.parametrize(("table", "column"), TILE_TABLES)
def test_an_entry_of_an_index_of_tiles_that_was_changed_is_named_twice(store: Path, table: str, column: str) -> None:
    key = int(value(store, f"SELECT max({column}) FROM {table} WHERE tile = 0"))
    change(store, f"UPDATE {table} SET {column} = 777 WHERE {column} = {key} AND tile = 0")
    assert {problem for _, problem in findings(store)} >= {
        f"its entry of {column} {key} in tile 0 is missing",
        f"its entry of {column} 777 in tile 0 is that of no event",
    }


DEFINITIONS = [
    (("DROP VIEW readable",), "log.db, view readable", "its definition is missing"),
    (("DROP INDEX events_stream",), "log.db, index events_stream", "its definition is missing"),
    (
        ("DROP INDEX events_stream", "CREATE INDEX events_stream ON events (version)"),
        "log.db, index events_stream",
        "its definition is altered",
    ),
    (
        ("DROP VIEW readable", "CREATE VIEW readable AS SELECT 1"),
        "log.db, view readable",
        "its definition is altered",
    ),
    (
        ("CREATE TRIGGER quiet AFTER INSERT ON events BEGIN DELETE FROM bodies; END",),
        "log.db, trigger quiet",
        "no log has triggers",
    ),
]


@pytest.mark.parametrize(("statements", "what", "problem"), DEFINITIONS)
def test_tables_indexes_and_views_that_are_not_as_they_were_made_are_named(
    store: Path, statements: tuple[str, ...], what: str, problem: str
) -> None:
    change(store, *statements)
    assert findings(store) == [(what, problem)]


def pages_of(store: Path, name: str) -> list[int]:
    """The offsets of the leaf pages of an index or table."""
    connection = connect_to_read(store / "log.db", LOG)
    try:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    finally:
        connection.close()
    data = (store / "log.db").read_bytes()
    page = data[(root - 1) * 4096 : root * 4096]
    if page[0] in (10, 13):
        return [(root - 1) * 4096]
    cells = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n]) for n in range(int.from_bytes(page[3:5]))]
    return [(int.from_bytes(page[cell : cell + 4]) - 1) * 4096 for cell in cells]


@pytest.mark.parametrize("index", ["events_id", "events_stream"])
def test_damage_in_an_index_is_named(store: Path, index: str) -> None:
    offset = pages_of(store, index)[0]
    with (store / "log.db").open("r+b") as file:
        file.seek(offset + 4090)
        byte = file.read(1)[0]
        file.seek(offset + 4090)
        file.write(bytes([byte ^ 1]))
    found = findings(store)
    assert found
    assert any(index in what for what, _ in found), found


VIEWS: list[tuple[str, str, str]] = [
    (
        "UPDATE actual SET row = replace(row, '\"uid\":\"uid-', '\"uid\":\"uid+') WHERE key = '{key}'",
        "actual",
        "projection actual, row {key}",
    ),
    ("UPDATE runs SET position = position - 1 WHERE key = '{key}'", "runs", "projection runs, row {key}"),
    ("UPDATE desired SET row = NULL WHERE key = '{key}'", "desired", "projection desired, row {key}"),
    ("UPDATE cursors SET position = 500 WHERE projection = 'runs'", "runs", "projection runs, cursor"),
    ("UPDATE cursors SET leaf = zeroblob(32) WHERE projection = 'actual'", "actual", "projection actual, cursor"),
    (
        "UPDATE object_versions SET row = replace(row, 'uid-', 'uid+') WHERE key = '{key}'",
        "object_versions",
        "projection object_versions, row {key}",
    ),
    (
        "UPDATE runs_history SET row = NULL WHERE key = '{key}'",
        "runs_history",
        "projection runs_history, row {key}",
    ),
]


@pytest.mark.parametrize(("statement", "table", "what"), VIEWS)
def test_projections_that_were_changed_are_named(store: Path, statement: str, table: str, what: str) -> None:
    with closing(sqlite3.connect(store / "views.db")) as database:
        key = database.execute(
            f"SELECT key FROM {table} WHERE row NOT NULL GROUP BY key HAVING count(*) = 1"
        ).fetchone()[0]
    change(store, statement.replace("{key}", key), file="views.db")
    ((named, problem),) = findings(store)
    assert named == what.replace("{key}", key)
    assert "its checksum differs" in problem


WRONG_ROWS = {
    "changed": ("UPDATE actual SET row = replace(row, 'uid-', 'uid+')",),
    # A damaged page may lead to whole rows of another table.
    "another's": ("DELETE FROM actual", "INSERT INTO actual SELECT key, position, row, checksum FROM runs"),
}


@pytest.mark.parametrize("statements", WRONG_ROWS.values(), ids=WRONG_ROWS.keys())
def test_a_row_of_a_projection_that_is_not_what_was_written_is_not_answered_with(
    store: Path, statements: tuple[str, ...]
) -> None:
    from tidelog.events.projections import ACTUAL
    from tidelog.storage.errors import StoreCorruptError

    change(store, *statements, file="views.db")
    reader, views = LogReader(Layout(store).log), ViewStore.to_read(Layout(store).views)
    try:
        with pytest.raises(StoreCorruptError, match=r"projection actual, row .*: its checksum differs"):
            Past(reader, views).rows(ACTUAL, 600)
    finally:
        reader.close()
        assert views
        views.close()


def test_a_file_of_projections_that_is_none_is_named(store: Path) -> None:
    (store / "views.db").write_bytes(b"not a database at all" * 300)
    assert {what for what, _ in findings(store)} == {"views.db"}


def test_nothing_is_repaired(store: Path) -> None:
    change(store, ALTER.format(77), "DELETE FROM nodes WHERE number = 0", "DELETE FROM events WHERE position = 300")
    change(store, "UPDATE runs SET row = NULL", file="views.db")
    before = file_hashes(store)
    first = findings(store)
    assert findings(store) == first
    after = file_hashes(store)
    assert {name: after[name] for name in before} == before
