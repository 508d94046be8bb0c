"""Ten thousand runs are answered a page at a time."""

import itertools
import tracemalloc
from itertools import islice
from pathlib import Path

import anyio
import pytest

from tests.questions.scenes import APPS, SHOP, Scene, revision, time
from tidelog.engine.views.archive import open_archive
from tidelog.engine.views.chronicle import last_events, scope_for
from tidelog.engine.views.explanations import explain
from tidelog.engine.views.histories import runs_of
from tidelog.engine.views.names import find
from tidelog.events.names import RunId
from tidelog.events.vocabulary import RunEnded, StageFailed
from tidelog.storage import ANY, NewEvent, StreamAppend, open_log, open_views
from tidelog.storage.log import Query
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.reader import LogReader

RUNS = 10_000
MEMORY_BYTES_MAX = 6 * 2**20
"""Of an answer that tells all runs; the stored events alone are more than twice that."""
EVENTS_READ_MAX = 4_096

pytestmark = pytest.mark.slow


async def _write(store: Path) -> None:
    scene = Scene()
    scene.declare(SHOP, url="https://git.example.com/shop")
    scene.declare(APPS, sourceRef={"kind": "GitRepository", "name": "shop"})
    scene.fetch(SHOP, "one", "Open the shop")
    seconds = itertools.count()
    async with open_log(store, clock=lambda: time(next(seconds))) as log:
        for told in scene._told:
            await log.append_all([told.append], bodies=told.bodies)
        for first in range(0, RUNS, 500):
            events = []
            for number in range(first, first + 500):
                run = RunId(new_id())
                failed = StageFailed(stage="apply", reason="Forbidden", final=False, message=f"no {number} {'x' * 500}")
                ended = RunEnded(outcome="succeeded", generation=1, revision=revision("one"))
                events += [NewEvent(failed, run=run), NewEvent(ended, run=run)]
            await log.append_all([StreamAppend(APPS, ANY, events)])
        async with open_views(log):
            pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scale") / "store"
    anyio.run(_write, directory)
    return directory


class _Counted:
    """How many envelopes were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        entries = LogReader.entries

        def counted(reader: LogReader, *arguments: object, **named: object) -> list[bytes]:
            found = entries(reader, *arguments, **named)  # type: ignore[arg-type]
            self.read += len(found)
            return found

        monkeypatch.setattr(LogReader, "entries", counted)


def test_the_last_runs_are_told_from_the_last_pages(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _Counted(monkeypatch)
    with open_archive(store) as archive:
        subject = find(archive, ("ks/apps",), None)
        runs = list(islice(runs_of(archive, subject), 20))
        assert [run.outcome for run in runs] == ["succeeded"] * 20
        assert explain(archive, subject).ready
        events = last_events(archive, scope_for(archive, subject), 0, 50)
        assert len(events) == 50
    assert counted.read < EVENTS_READ_MAX, "an index serves; the log is not read as a whole"


def test_all_runs_are_told_without_the_log_in_memory(store: Path) -> None:
    with open_archive(store) as archive:
        subject = find(archive, ("ks/apps",), None)
        tracemalloc.start()
        count = sum(1 for _ in runs_of(archive, subject))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        stored = sum(len(recorded.raw) for recorded in archive.events(Query()))
    assert count == RUNS
    assert peak < MEMORY_BYTES_MAX < stored / 2
