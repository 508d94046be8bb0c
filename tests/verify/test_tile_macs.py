"""A full tile is known again by a MAC; it spares work, and nothing that was changed hides behind it."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.verify.stores import History, Ticking, add_macs, fill, make_store, verified
from tidelog.storage.layout import Layout
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.sqlite_log import open_log, utc_now
from tidelog.storage.proofs import verify_range
from tidelog.storage.proofs.prover import Prover
from tidelog.storage.transfer import back_up, export_log, import_log, restore

WRONG = "not what its envelope says: {}"
NOT_ITS = "its MAC of tile 0 is not that of the tile"
TABLE = "log.db, table tile_macs"
FORGED = b"somebody else's key".ljust(32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 600 events that one writer wrote. Not to be changed."""
    directory = tmp_path_factory.mktemp("macs") / "store"
    anyio.run(partial(make_store, directory, 3, (600,), views=False))
    return directory


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The envelopes that a verification has decoded so far."""
    seen: list[bytes] = []
    decode: Callable[[bytes], verify_range.Header] = verify_range._decode

    def noting(envelope: bytes) -> verify_range.Header:
        seen.append(envelope)
        return decode(envelope)

    monkeypatch.setattr(verify_range, "_decode", noting)
    return seen


def change(store: Path, statement: str) -> None:
    with closing(sqlite3.connect(store / "log.db", isolation_level=None)) as database:
        assert database.execute(statement).rowcount > 0


def tiles(store: Path) -> list[int]:
    """The tiles that have a MAC."""
    with closing(sqlite3.connect(store / "log.db")) as database:
        return [tile for (tile,) in database.execute("SELECT tile FROM tile_macs ORDER BY tile")]


def findings(store: Path) -> list[tuple[str, str]]:
    return [(finding.what, finding.problem) for finding in verified(store).findings]


def test_a_tile_that_its_mac_fits_is_hardly_decoded(store: Path, decoded: list[bytes]) -> None:
    assert tiles(store) == [0, 1]
    assert verified(store).intact
    with_macs = len(decoded)
    decoded.clear()
    change(store, "DELETE FROM tile_macs")
    assert verified(store).intact
    assert len(decoded) == 600
    assert with_macs < 300


async def test_a_writer_vouches_for_no_tile_of_which_it_did_not_write_every_row(tmp_path: Path) -> None:
    history, clock = History(Random(1)), Ticking()
    found = []
    for size in (200, 600, 1_024, 1_300):
        async with open_log(tmp_path / "store", clock=clock) as log:
            await fill(log, history, size)
        found.append(await anyio.to_thread.run_sync(tiles, tmp_path / "store"))
    assert found == [[], [1], [1, 3], [1, 3, 4]]


@pytest.mark.parametrize("at_once", [1, 7, 300])
async def test_tiles_get_their_macs_however_many_events_a_commit_has(tmp_path: Path, at_once: int) -> None:
    async with open_log(tmp_path / "store", clock=Ticking()) as log:
        await fill(log, History(Random(2)), 520, at_once=at_once)
    assert await anyio.to_thread.run_sync(tiles, tmp_path / "store") == [0, 1]
    assert not await anyio.to_thread.run_sync(findings, tmp_path / "store")


@pytest.mark.parametrize("column", ["stream", "version", "type", "id", "correlation", "cause"])
def test_a_column_that_was_changed_with_its_mac_under_another_key_is_named(store: Path, column: str) -> None:
    values = {"id": "zeroblob(16)", "correlation": "1", "cause": "1"}
    with closing(sqlite3.connect(store / "log.db")) as database:
        rich = "SELECT max(position) FROM events WHERE correlation > 1 AND cause > 1 AND type > 1 AND position < 256"
        ((position,),) = database.execute(rich)
    change(store, f"UPDATE events SET {column} = {values.get(column, f'{column} - 1')} WHERE position = {position}")
    add_macs(store, [0], FORGED)
    assert findings(store) == [(f"event {position}", WRONG.format(column))]


def test_a_tile_in_the_place_of_another_with_its_mac_is_named(store: Path) -> None:
    change(store, "UPDATE events SET position = -position WHERE position <= 512")
    change(store, "UPDATE events SET position = (255 - position) % 512 + 1 WHERE position < 0")
    change(store, "UPDATE tile_macs SET tile = tile - 2")
    change(store, "UPDATE tile_macs SET tile = - 1 - tile")
    found = findings(store)
    assert any(what == "event 1" and problem.startswith(WRONG.format("position")) for what, problem in found)
    assert ("tile/1/000", "its hash 0 is altered") in found


@pytest.mark.parametrize("mac", ["zeroblob(32)", "(SELECT mac FROM tile_macs WHERE tile = 1)", "x'00'", "x''"])
def test_a_mac_that_was_changed_is_named(store: Path, mac: str) -> None:
    change(store, f"UPDATE tile_macs SET mac = {mac} WHERE tile = 0")
    assert findings(store) == [(TABLE, NOT_ITS)]


@pytest.mark.parametrize("tile", [-1, 2, 7, 2**62])
def test_a_mac_of_a_tile_that_is_not_there_is_named(store: Path, tile: int) -> None:
    change(store, f"UPDATE tile_macs SET tile = {tile} WHERE tile = 1")
    assert findings(store) == [(TABLE, f"it has one of tile {tile}, which is not there")]


@pytest.mark.parametrize(
    ("table", "column"), [("streams", "stream"), ("types", "type"), ("correlations", "correlation")]
)
def test_a_name_that_was_changed_is_told_by_every_event_that_has_it(store: Path, table: str, column: str) -> None:
    """The MAC covers numbers, and not what they stand for."""
    with closing(sqlite3.connect(store / "log.db")) as database:
        statement = f"SELECT {column} FROM events WHERE position BETWEEN 300 AND 400 AND {column} IS NOT NULL LIMIT 1"
        ((number,),) = database.execute(statement)
        events = database.execute(f"SELECT position FROM events WHERE {column} = {number} ORDER BY position").fetchall()
    name = "trace" if table == "correlations" else "name"
    change(store, f"UPDATE {table} SET {name} = 'another' WHERE number = {number}")
    named = [what for what, problem in findings(store) if problem == WRONG.format(column)]
    assert named == [f"event {position}" for (position,) in events]


def test_a_store_without_its_key_or_with_another_is_derived_anew(store: Path, decoded: list[bytes]) -> None:
    change(store, "UPDATE tile_macs SET mac = zeroblob(32)")  # nobody can tell, and nobody believes them
    for text in (b"ab" * 32, b"no key", None):
        if text is None:
            Layout(store).key.unlink()
        else:
            Layout(store).key.write_bytes(text)
        decoded.clear()
        assert verified(store).intact
        assert len(decoded) == 600


def test_who_holds_a_checkpoint_from_elsewhere_need_not_believe_who_has_the_key(store: Path) -> None:
    with closing(Prover(Layout(store))) as prover:
        note, vkey = prover.checkpoint(), prover.identity.vkey
    some = "SELECT max(position) FROM events WHERE cause BETWEEN 3 AND 200 AND position < 256"
    change(store, f"UPDATE events SET cause = 2 WHERE position = ({some})")
    add_macs(store, [0])
    told = [verified(store, checkpoint=note), verified(store, vkey=vkey)]
    assert [[finding.problem for finding in report.findings] for report in told] == [[WRONG.format("cause")]] * 2


def test_another_incarnation_drops_the_macs_of_the_one_before_and_makes_its_own(store: Path, tmp_path: Path) -> None:
    back_up(Layout(store), tmp_path / "backup")
    assert verified(tmp_path / "backup").intact
    restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    assert tiles(tmp_path / "restored") == []
    Layout(store).key.unlink()
    OpenStore(Layout(store), utc_now).close()
    assert tiles(store) == []

    async def go_on() -> None:
        async with open_log(store, clock=Ticking()) as log:
            await fill(log, History(Random(9)), 1_100)

    anyio.run(go_on)
    assert tiles(store) == [3]
    assert verified(store).intact


def test_an_import_has_no_macs_until_its_writer_makes_some(store: Path, tmp_path: Path) -> None:
    export_log(Layout(store), tmp_path / "export")
    import_log(tmp_path / "export", Layout(tmp_path / "imported"))
    assert tiles(tmp_path / "imported") == []
    assert verified(tmp_path / "imported").intact
