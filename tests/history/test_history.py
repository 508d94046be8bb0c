"""The log of every release opens, verifies, and folds to the rows that it folded to when it was written."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
import pytest

import tidelog
from tidelog.events.codec import UnknownEvent
from tidelog.events.projection import encode_row
from tidelog.events.projections import PROJECTIONS
from tidelog.events.vocabulary.base import BY_NAME
from tidelog.storage import Query, open_log, open_views, read_log, verify_store
from tidelog.storage.layout import Layout
from tidelog.storage.log.reader import LogReader
from tidelog.storage.projections.views import Views
from tidelog.storage.transfer import import_log

RELEASES = sorted(path.parent for path in Path(__file__).parent.glob("*/events.jsonl"))

pytestmark = pytest.mark.parametrize("release", RELEASES, ids=[path.name for path in RELEASES])


@pytest.fixture
def store(release: Path, tmp_path: Path) -> Path:
    """The release's store, as it left it."""
    (tmp_path / "store").mkdir()
    shutil.copy(release / "log.db", tmp_path / "store")
    return tmp_path / "store"


async def test_it_verifies(release: Path, store: Path) -> None:
    report = await verify_store(
        store, checkpoint=(release / "checkpoint").read_text(), vkey=(release / "vkey").read_text().strip()
    )
    assert report.findings == ()
    assert report.events == len((release / "events.jsonl").read_bytes().splitlines())


async def test_it_verifies_and_answers_alike_once_a_writer_has_brought_its_tables_to_those_of_this_release(
    release: Path, store: Path
) -> None:
    head = size(release)

    def asked() -> list[list[bytes]]:
        with closing(LogReader(Layout(store).log)) as reader:
            events = [recorded.envelope for recorded in reader.page(Query(until=head))]
            queries = [Query(until=head, types=(event.type,)) for event in events]
            queries += [Query(until=head, run=event.run) for event in events if event.run]
            queries += [Query(until=head, trace=event.trace) for event in events if event.trace]
            queries += [Query(until=head, cause=event.id) for event in events]
            return [reader.entries(query) for query in queries]

    before = await anyio.to_thread.run_sync(asked)
    async with open_log(store):
        pass
    assert await anyio.to_thread.run_sync(asked) == before
    assert (await verify_store(store)).findings == ()


async def test_it_folds_to_the_same_rows(release: Path, store: Path) -> None:
    expected = json.loads((release / "projections.json").read_text())
    async with open_log(store) as log, open_views(log) as views:
        await check_rows(views, release, expected)


async def test_every_event_is_known_and_reads_as_its_line_in_the_export(release: Path, store: Path) -> None:
    lines = (release / "events.jsonl").read_bytes().splitlines()
    async with read_log(store) as log:
        events = [recorded async for recorded in log.read(Query())]
    assert [recorded.raw for recorded in events] == lines
    assert not [recorded.envelope.type for recorded in events if isinstance(recorded.event, UnknownEvent)]


async def test_its_export_imports_to_the_same_rows(release: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "imported")
    await anyio.to_thread.run_sync(import_log, release, layout)
    expected = json.loads((release / "projections.json").read_text())
    async with open_log(layout.directory) as log, open_views(log) as views:
        await check_rows(views, release, expected)


def test_it_holds_every_event_type_that_its_release_had(release: Path) -> None:
    lines = (release / "events.jsonl").read_bytes().splitlines()
    held = {msgspec.json.decode(line)["type"] for line in lines}
    if release.name == tidelog.__version__:
        assert held >= set(BY_NAME) - {"LogRestored"}
    else:
        assert held <= set(BY_NAME)


async def check_rows(views: Views, release: Path, expected: dict[str, Any]) -> None:
    """Each projection that the release had; those that came later have nothing of it to be held against."""
    known = {projection.name: projection for projection in PROJECTIONS}
    for name, kept in expected.items():
        rows = await views.rows(known[name], at=size(release))
        assert {key: json.loads(encode_row(row)) for key, row in rows.items()} == kept


def size(release: Path) -> int:
    return len((release / "events.jsonl").read_bytes().splitlines())
