"""What is published is what Go's transparency-log packages expect, and what the log says."""

from pathlib import Path

import anyio.to_thread
import pytest

from tests.missing import go_program
from tidelog.events.merkle import TILE_WIDTH
from tidelog.events.tiles import entries_path, parse_entry_bundle, tile_path
from tidelog.events.vocabulary import Marked
from tidelog.storage import ANY, NewEvent, Query, open_log
from tidelog.storage.errors import StoreNotFoundError
from tidelog.storage.layout import Layout
from tidelog.storage.log.sqlite_log import SqliteEventLog
from tidelog.storage.proofs.publish import publish_tiles

ORACLE = Path(__file__).resolve().parents[1] / "oracles" / "tlog"
STREAM = "demo/apps/Deployment/default/web"


async def append(log: SqliteEventLog, count: int) -> None:
    for first in range(0, count, 500):
        await log.append(STREAM, ANY, [NewEvent(Marked(label=str(n))) for n in range(first, min(first + 500, count))])


async def publish(log: SqliteEventLog, directory: Path) -> None:
    await anyio.to_thread.run_sync(publish_tiles, log.layout, directory)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The oracle, built."""
    untested = "the published tiles are not held against its tlog packages"
    return go_program(tmp_path_factory.mktemp("oracle") / "tlog", ORACLE, untested)


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first build of the oracle fetches a module
async def test_go_accepts_a_log_at_every_kind_of_size(oracle: Path, tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        public = tmp_path / "public"
        for more in (0, 1, 254, 1, 300, 1_000, 70_000):
            await append(log, more)
            await publish(log, public)
            said = await anyio.run_process([oracle, log.identity.vkey, public], check=False)
            assert (said.returncode, said.stdout.decode()) == (0, f"{await log.head()} entries\n"), said.stderr


@pytest.mark.slow
async def test_go_refuses_an_entry_that_was_altered(oracle: Path, tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        await append(log, 20)
        await publish(log, tmp_path / "public")
        bundle = tmp_path / "public" / entries_path(0, 21)
        await anyio.Path(bundle).write_bytes((await anyio.Path(bundle).read_bytes()).replace(b'"7"', b'"8"'))
        said = await anyio.run_process([oracle, log.identity.vkey, tmp_path / "public"], check=False)
        assert said.returncode != 0
        assert b"entry 8 is not the one in the tree" in said.stderr


async def test_bundles_hold_the_envelopes_byte_for_byte(tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        await append(log, 300)
        await publish(log, tmp_path / "public")
        stored = [recorded.raw async for recorded in log.read(Query())]
    full = (tmp_path / "public" / entries_path(0)).read_bytes()
    rest = (tmp_path / "public" / entries_path(1, 45)).read_bytes()
    assert parse_entry_bundle(full) + parse_entry_bundle(rest) == stored
    assert (tmp_path / "public" / tile_path(1, 0, 1)).stat().st_size == 32


async def test_a_full_tile_is_written_once_and_a_checkpoint_every_time(tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        await append(log, TILE_WIDTH)
        await publish(log, tmp_path / "public")
        tile, checkpoint = tmp_path / "public" / tile_path(0, 0), tmp_path / "public" / "checkpoint"
        before = tile.stat().st_mtime_ns, checkpoint.read_text()
        await append(log, 1)
        await publish(log, tmp_path / "public")
        assert tile.stat().st_mtime_ns == before[0]
        assert checkpoint.read_text() != before[1]
        assert not [path for path in (tmp_path / "public").rglob("*") if "unfinished" in path.name]


def test_nothing_is_published_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="there is no Tidelog store"):
        publish_tiles(Layout(tmp_path / "nowhere"), tmp_path / "public")
