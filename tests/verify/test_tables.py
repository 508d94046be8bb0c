"""Both ways in which a verification reads a database give the same."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from tidelog.storage.connection import LOG
from tidelog.storage.errors import NotAStoreError, StoreNotFoundError
from tidelog.storage.proofs.tables import LoneTables, SharedTables, Tables, open_tables, version_of


@pytest.fixture(params=[False, True], ids=["shared", "alone"])
def tables(store: Path, request: pytest.FixtureRequest) -> Iterator[Tables]:
    with closing(open_tables(store / "log.db", LOG, alone=request.param)) as opened:
        assert isinstance(opened, LoneTables if request.param else SharedTables)
        yield opened


def test_rows_come_whole_and_in_batches(tables: Tables) -> None:
    statement = "SELECT position, leaf, CAST(envelope AS BLOB), cause FROM events ORDER BY position"
    rows = tables.rows(statement)
    assert [row[0] for row in rows] == list(range(1, 601))
    assert {tuple(map(type, row[:3])) for row in rows} == {(int, bytes, bytes)}
    batches = list(tables.batches(statement, 256))
    assert [len(batch) for batch in batches] == [256, 256, 88]
    assert list(chain.from_iterable(batches)) == rows


def test_values_are_bound(tables: Tables) -> None:
    statement = "SELECT position FROM events WHERE position BETWEEN ? AND ?"
    assert tables.rows(statement, (3, 4)) == [(3,), (4,)]
    assert tables.rows(statement, (4, None)) == []


def test_the_version_is_that_of_the_file(tables: Tables) -> None:
    assert version_of(tables) == LOG.version


def test_nothing_can_be_written(tables: Tables) -> None:
    with pytest.raises(sqlite3.DatabaseError, match="readonly"):
        tables.rows("DELETE FROM events")


def test_an_error_is_one_of_sqlite3(tables: Tables) -> None:
    with pytest.raises(sqlite3.DatabaseError, match="no such table"):
        tables.rows("SELECT * FROM nowhere")
    with pytest.raises(sqlite3.DatabaseError, match="no such table"):
        next(tables.batches("SELECT * FROM nowhere", 10))


def test_a_damaged_text_can_be_read_as_bytes(store: Path) -> None:
    with closing(sqlite3.connect(store / "log.db")) as database, database:
        database.execute("UPDATE streams SET name = CAST(x'ff41' AS TEXT) WHERE number = 1")
    for alone in (False, True):
        with closing(open_tables(store / "log.db", LOG, alone=alone)) as tables:
            assert tables.rows("SELECT CAST(name AS BLOB) FROM streams WHERE number = 1") == [(b"\xffA",)]


@pytest.mark.parametrize("alone", [False, True])
def test_what_is_no_store_is_refused(tmp_path: Path, *, alone: bool) -> None:
    with pytest.raises(StoreNotFoundError):
        open_tables(tmp_path / "log.db", LOG, alone=alone)
    (tmp_path / "log.db").write_text("anything")
    with pytest.raises(NotAStoreError):
        open_tables(tmp_path / "log.db", LOG, alone=alone)


def test_a_name_that_looks_like_an_address_is_a_name(store: Path) -> None:
    odd = store.rename(store.with_name("50% off?mode=rwc#x"))
    with closing(open_tables(odd / "log.db", LOG, alone=True)) as tables:
        assert tables.rows("SELECT count(*) FROM events") == [(600,)]
