"""Projections: kept up, made again, and read as of any moment."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
import pytest

from tests.verify.stores import BEGIN, OBJECTS, History, fill, make_store, plain, verified
from tidelog.events.digest import Digest
from tidelog.events.moment import Time, time_of
from tidelog.events.names import StreamName
from tidelog.events.projection import Fold, Projection, Rows, encode_row
from tidelog.events.projections import ACTUAL, DESIRED, INVENTORY, OBJECT_VERSIONS, PROJECTIONS, RUNS
from tidelog.events.vocabulary import Marked, ObjectObserved, ObjectPruned
from tidelog.storage.errors import MomentError, StoreBusyError, StoreCorruptError
from tidelog.storage.layout import Layout
from tidelog.storage.log import ANY, NewEvent, Query
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import open_log, read_log
from tidelog.storage.projections import projector
from tidelog.storage.projections.projector import Past, Projector
from tidelog.storage.projections.view_store import ViewStore
from tidelog.storage.projections.views import open_views, read_views
from tidelog.storage.transfer import export_log, import_log

PATIENCE_S = 30
EVENTS = 300


@contextmanager
def projecting(store: Path, projections: Sequence[Projection[Any]] = PROJECTIONS) -> Iterator[Projector]:
    opened = Projector.open(Layout(store), projections)
    try:
        yield opened
    finally:
        opened.close()


def caught_up(store: Path, projections: Sequence[Projection[Any]] = PROJECTIONS) -> dict[str, Digest]:
    with projecting(store, projections) as projections_of_store:
        projections_of_store.catch_up()
        assert projections_of_store.position == projections_of_store.head
        return projections_of_store.digests()


def contents(store: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, as SQLite has them."""
    with closing(sqlite3.connect(store / "views.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: sorted(database.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


def encoded(rows: dict[str, Any]) -> bytes:
    return msgspec.json.encode(rows, order="sorted")


def folded(store: Path) -> list[dict[str, dict[str, bytes]]]:
    """The rows of each projection at each position, folded from the first event on: what is right."""
    reader = LogReader(Layout(store).log)
    try:
        entries = reader.entries(Query())
    finally:
        reader.close()
    rows: dict[str, Rows[Any]] = {projection.name: Rows() for projection in PROJECTIONS}
    fold = Fold()
    for projection in PROJECTIONS:
        fold.add(projection, rows[projection.name])
    states: list[dict[str, dict[str, bytes]]] = [{projection.name: {} for projection in PROJECTIONS}]
    for entry in entries:
        fold.fold([entry])
        states.append({name: {key: encode_row(row) for key, row in found.items()} for name, found in rows.items()})
    return states


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 300 random events, without projections. Not to be changed."""
    directory = tmp_path_factory.mktemp("views") / "store"
    anyio.run(partial(make_store, directory, 11, (EVENTS,), views=False))
    return directory


@pytest.fixture
def random_log(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "random"))


@pytest.fixture(scope="module")
def right(original: Path) -> list[dict[str, dict[str, bytes]]]:
    return folded(original)


def test_the_random_log_has_rows_in_every_projection(right: list[dict[str, dict[str, bytes]]]) -> None:
    for projection in PROJECTIONS:
        sizes = [len(state[projection.name]) for state in right]
        assert max(sizes) > 2
        if projection in (DESIRED, ACTUAL):
            assert any(later < earlier for earlier, later in pairwise(sizes)), "rows go, too"


# Keeping up


def test_catching_up_gives_what_a_fold_of_everything_gives(
    random_log: Path, right: list[dict[str, dict[str, bytes]]]
) -> None:
    caught_up(random_log)
    views = ViewStore.to_read(Layout(random_log).views)
    assert views
    for projection in PROJECTIONS:
        found = {key: encode_row(row) for key, row in views.rows(projection)}
        assert found == right[-1][projection.name]
    views.close()


def test_a_rebuild_gives_the_same_rows_and_the_same_history(random_log: Path) -> None:
    digests = caught_up(random_log)
    before = contents(random_log)
    with projecting(random_log) as projections:
        projections.rebuild()
        assert projections.digests() == digests
    assert contents(random_log) == before
    told: list[tuple[int, int]] = []
    assert projector.rebuild(Layout(random_log), lambda done, total: told.append((done, total))) == EVENTS
    assert told[-1] == (EVENTS, EVENTS)
    assert contents(random_log) == before
    (random_log / "views.db").unlink()
    assert caught_up(random_log) == digests
    assert contents(random_log) == before


def test_catching_up_in_steps_gives_the_same_rows_and_the_same_history(tmp_path: Path, original: Path) -> None:
    """With the file closed and opened in between."""
    whole, steps = Path(shutil.copytree(original, tmp_path / "whole")), shutil.copytree(original, tmp_path / "steps")
    digests = caught_up(whole)
    more = True
    while more:
        with projecting(steps) as projections:
            more = projections.advance()
    assert caught_up(steps) == digests
    assert contents(steps) == contents(whole)


def test_projections_are_not_rebuilt_while_a_writer_has_the_store(random_log: Path) -> None:
    async def run() -> None:
        async with open_log(random_log):
            with pytest.raises(StoreBusyError):
                await anyio.to_thread.run_sync(projector.rebuild, Layout(random_log), lambda *_: None)

    anyio.run(run)


def test_rows_and_cursor_change_together(random_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash at any statement of a transaction: the next one to open goes on rightly."""
    expected = caught_up(Path(shutil.copytree(random_log, random_log.with_name("expected"))))

    class Crash(BaseException):
        pass

    places = ("_put_rows", "_snapshot", "_put_cursor")
    for place in places:
        for countdown in (0, 1, 3, 4, 8, 17, 40):
            left = countdown
            with pytest.MonkeyPatch.context() as patch:
                real = getattr(ViewStore, place)

                def crashing(*arguments: Any, real: Any = real) -> None:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        raise Crash
                    real(*arguments)

                with projecting(random_log) as projections:
                    patch.setattr(ViewStore, place, crashing)
                    for _ in range(12):
                        position = projections.position
                        try:
                            projections.advance()
                        except Crash:
                            assert projections.position == position, "nothing of it was kept"
                            break
            assert verified(random_log).intact
    assert caught_up(random_log) == expected
    assert contents(random_log) == contents(random_log.with_name("expected"))


KILLED = """
import os, sys
from pathlib import Path
from tidelog.events.projections import PROJECTIONS
from tidelog.storage.projections import projector
from tidelog.storage.layout import Layout
from tidelog.storage.projections.view_store import ViewStore
projector.SNAPSHOT_INTERVAL, projector.BATCH_EVENTS = 16, 5
opened = projector.Projector.open(Layout(Path(sys.argv[1])), PROJECTIONS)
for _ in range(int(sys.argv[2])):
    opened.advance()
put, ViewStore._put_cursor = ViewStore._put_cursor, lambda *_: os.kill(os.getpid(), 9)
opened.advance()
"""


def test_a_process_that_is_killed_in_a_transaction_leaves_the_one_before(random_log: Path) -> None:
    expected = caught_up(Path(shutil.copytree(random_log, random_log.with_name("expected"))))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / ".dev")}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(random_log), "9"], check=False, env=environment, timeout=60
    )
    assert killed.returncode == -9
    with projecting(random_log) as projections:
        assert 0 < projections.position < 50
    assert caught_up(random_log) == expected


def test_a_new_version_of_a_projection_makes_that_one_again_and_no_other(
    random_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = caught_up(random_log)
    folded_names: list[str] = []
    reset = ViewStore.reset

    def told(self: ViewStore, projection: Projection[Any]) -> None:
        folded_names.append(projection.name)
        reset(self, projection)

    monkeypatch.setattr(ViewStore, "reset", told)
    newer = msgspec.structs.replace(ACTUAL, version=ACTUAL.version + 1)
    projections = [newer if projection is ACTUAL else projection for projection in PROJECTIONS]
    with projecting(random_log, projections) as opened:
        assert opened.position == 0
        opened.catch_up()
        assert opened.digests() == digests
    assert folded_names == ["actual"]
    assert caught_up(random_log, projections) == digests
    assert folded_names == ["actual"]


def test_a_file_of_another_form_is_made_anew(random_log: Path) -> None:
    digests = caught_up(random_log)
    with closing(sqlite3.connect(random_log / "views.db")) as database:
        database.execute("PRAGMA user_version = 99")
    assert ViewStore.to_read(random_log / "views.db") is None
    assert caught_up(random_log) == digests


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another log of as many events, with its projections."""
    directory = tmp_path / "other"
    anyio.run(partial(make_store, directory, 12, (EVENTS,)))
    return directory


def test_projections_of_another_log_are_noticed_and_made_again(random_log: Path, other: Path) -> None:
    expected = caught_up(Path(shutil.copytree(random_log, random_log.with_name("expected"))))
    shutil.copy(other / "views.db", random_log / "views.db")
    assert caught_up(random_log) == expected


def test_projections_of_another_log_are_not_read_from(
    random_log: Path, other: Path, right: list[dict[str, dict[str, bytes]]]
) -> None:
    """Before a writer made them again, whoever only reads must not take them for this log's."""
    shutil.copy(other / "views.db", random_log / "views.db")
    check_every_position(random_log, right, range(0, EVENTS + 1, 43))


def test_projections_of_a_longer_log_are_noticed(
    original: Path, tmp_path: Path, right: list[dict[str, dict[str, bytes]]]
) -> None:
    """An import of an earlier export, with the projections of what came later still beside it."""
    short, longer = Path(shutil.copytree(original, tmp_path / "short")), tmp_path / "longer"
    export_log(Layout(short), tmp_path / "export")
    shutil.copytree(original, longer)
    anyio.run(partial(make_store, longer, 13, (EVENTS + 30,)))
    import_log(tmp_path / "export", Layout(tmp_path / "new"))
    shutil.copy(longer / "views.db", tmp_path / "new" / "views.db")
    check_every_position(tmp_path / "new", right, (EVENTS, EVENTS - 5))
    assert caught_up(tmp_path / "new") == caught_up(short)


# As of any moment


def check_every_position(
    store: Path, right: list[dict[str, dict[str, bytes]]], positions: Sequence[int] | range, *, singles: bool = True
) -> None:
    reader, views = LogReader(Layout(store).log), ViewStore.to_read(Layout(store).views)
    past = Past(reader, views)
    try:
        for position in positions:
            for projection in PROJECTIONS:
                expected = right[position][projection.name]
                rows = {key: encode_row(row) for key, row in past.rows(projection, position).items()}
                assert rows == expected, f"{projection.name} at {position}"
                keys = [*right[-1][projection.name], *expected]
                for key in dict.fromkeys(keys[position % 5 :: 5]) if singles else ():
                    row = past.row(projection, key, position)
                    found = None if row is None else encode_row(row)
                    assert found == expected.get(key), f"{projection.name} of {key} at {position}"
    finally:
        if views is not None:
            views.close()
        reader.close()


@pytest.mark.slow
def test_every_position_reads_as_a_fold_up_to_it(random_log: Path, right: list[dict[str, dict[str, bytes]]]) -> None:
    caught_up(random_log)
    check_every_position(random_log, right, range(EVENTS + 1))


@pytest.mark.slow
def test_every_position_reads_as_a_fold_up_to_it_without_a_file(
    random_log: Path, right: list[dict[str, dict[str, bytes]]]
) -> None:
    assert not (random_log / "views.db").exists()
    check_every_position(random_log, right, range(0, EVENTS + 1, 11))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3, 4, 7, 20, 40])
def test_every_position_reads_as_a_fold_up_to_it_with_a_file_that_lags(
    random_log: Path, right: list[dict[str, dict[str, bytes]]], steps: int
) -> None:
    with projecting(random_log) as projections:
        for _ in range(steps):
            projections.advance()
        position = projections.position
    assert position < EVENTS
    near = range(max(0, position - 9), min(EVENTS, position + 9))
    check_every_position(random_log, right, [*range(0, EVENTS + 1, 37), *near])


@pytest.mark.slow
def test_projections_that_came_to_different_positions_read_rightly(
    random_log: Path, right: list[dict[str, dict[str, bytes]]]
) -> None:
    caught_up(random_log, [DESIRED, INVENTORY])
    with projecting(random_log) as projections:
        for _ in range(10):
            projections.advance()
    check_every_position(random_log, right, range(0, EVENTS + 1, 23))
    with projecting(random_log) as projections:
        projections.catch_up()
    check_every_position(random_log, right, range(0, EVENTS + 1, 23))


async def test_positions_that_the_log_does_not_have_are_refused(store: Path) -> None:
    async with open_log(store) as log, open_views(log) as views:
        for position in (-1, 2, 10_000):
            with pytest.raises(MomentError, match=f"the log has no position {position}: its last is 1"):
                await views.rows(ACTUAL, at=position)
            with pytest.raises(MomentError):
                await views.row(ACTUAL, "x", at=position)
            with pytest.raises(MomentError):
                await views.object_at(StreamName("east/x"), Time("2026"), at=position)
        assert await views.rows(ACTUAL, at=0) == {}
        assert await views.rows(ACTUAL, at=1) == {}


async def test_an_event_whose_payload_is_malformed_stops_the_fold_with_its_name(random_log: Path) -> None:
    with closing(sqlite3.connect(random_log / "log.db")) as database:
        database.execute(
            "UPDATE events SET envelope = replace(envelope, '\"resource_version\"', '\"resource_versiom\"')"
        )
        database.commit()
    async with read_log(random_log) as log:
        with pytest.raises(StoreCorruptError):
            await read_views(log).rows(ACTUAL)
        assert await read_views(log).rows(DESIRED)


# Both times

WEB = StreamName(f"east/{OBJECTS[0]}")


def at(second: int) -> Time:
    return time_of(BEGIN.replace(second=second))


def seen(name: str, occurred: int | None, *, gone: bool = False) -> NewEvent:
    event = ObjectObserved(uid="u", resource_version=name, gone=gone)
    return NewEvent(event, occurred=None if occurred is None else at(occurred))


@pytest.mark.parametrize("keep_up", [True, False], ids=["projections kept up", "projections that lag"])
async def test_an_object_is_told_in_both_times(store: Path, keep_up: bool) -> None:
    learned = iter(range(30, 60))
    async with open_log(store, clock=lambda: at(next(learned))) as log, open_views(log) as views:
        facts = [
            seen("first", 10),  # position 2
            seen("late", 5),  # learned after, true before
            seen("second", 20),
            seen("gone", 25, gone=True),
            seen("no time of its own", None),
        ]
        for fact in facts:
            await log.append(WEB, ANY, [fact])
        await log.append(StreamName(f"east/{OBJECTS[1]}"), ANY, [seen("another", 1)])
        if keep_up:
            await views.catch_up()

        async def version(occurred: int, position: int | None = None) -> str | None:
            found = await views.object_at(WEB, at(occurred), at=position)
            return None if found is None else found.resource_version

        assert await version(4) is None, "before the first version"
        assert [await version(second) for second in (5, 9, 10, 19, 20, 24, 25, 29)] == [
            "late",
            "late",
            "first",
            "first",
            "second",
            "second",
            "gone",
            "gone",
        ]
        gone = await views.object_at(WEB, at(26))
        assert gone
        assert gone.gone
        # What was believed before the later facts were learned.
        assert [await version(12, position) for position in (1, 2, 3, 4)] == [None, "first", "first", "first"]
        assert [await version(7, position) for position in (1, 2, 3, 4)] == [None, None, "late", "late"]
        assert [await version(22, position) for position in (2, 3, 4, 5)] == ["first", "first", "second", "second"]
        # Where the fact has no time of its own, it is taken to be true from when it was learned.
        (told,) = [event async for event in log.read(Query(after=5, until=6))]
        found = await views.object_at(WEB, told.envelope.time)
        assert found
        assert (found.resource_version, found.occurred) == ("no time of its own", found.time)
        assert await views.object_at(WEB, at(59)) == found


async def test_of_versions_with_the_same_time_the_last_learned_is_true(store: Path) -> None:
    async with open_log(store) as log, open_views(log) as views:
        await log.append(WEB, ANY, [seen("one", 10), seen("other", 10)])
        found = await views.object_at(WEB, at(10))
        assert found
        assert found.resource_version == "other"
        earlier = await views.object_at(WEB, at(10), at=2)
        assert earlier
        assert earlier.resource_version == "one"


async def test_an_object_that_was_pruned_is_told_as_gone(store: Path) -> None:
    target = StreamName("east/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/target")
    async with open_log(store) as log, open_views(log) as views:
        await log.append(WEB, ANY, [seen("here", 10)])
        prune = ObjectPruned(plan="p", object=OBJECTS[0], uid="u", outcome="deleted")  # type: ignore[arg-type]
        await log.append(target, ANY, [NewEvent(prune, occurred=at(20))])
        before, after = await views.object_at(WEB, at(19)), await views.object_at(WEB, at(20))
        assert before
        assert after
        assert (before.gone, after.gone) == (False, True)


# Live


async def test_followed_projections_keep_up_with_the_log(store: Path) -> None:
    async with open_log(store) as log, open_views(log) as views, anyio.create_task_group() as tasks:
        tasks.start_soon(views.follow)
        history = History(Random(4))
        with anyio.fail_after(PATIENCE_S):
            for size in (20, 21, 60, 110):
                await fill(log, history, size, at_once=7)
                await views.wait_for(size)
                assert views.position == size
        digests = await views.digests()
        await views.rebuild()
        assert await views.digests() == digests
        tasks.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(caught_up, store) == digests


async def test_waiting_for_a_position_waits_for_every_projection(store: Path) -> None:
    async with open_log(store) as log, open_views(log) as views:
        await views.wait_for(1)
        (recorded,) = await log.append(WEB, ANY, [NewEvent(Marked(label="x"))])
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await views.wait_for(recorded.envelope.position)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.catch_up)
            with anyio.fail_after(PATIENCE_S):
                await views.wait_for(recorded.envelope.position)


async def test_readers_see_the_head_whether_the_projections_keep_up_or_not(store: Path) -> None:
    async with open_log(store) as log:
        async with open_views(log):
            pass
        body = plain("x")
        observed = ObjectObserved(uid="u", resource_version="7", state=body.ref, health="Current")
        await log.append(WEB, ANY, [NewEvent(observed)], bodies=[body])
        async with read_log(store) as reading:
            row = await read_views(reading).row(ACTUAL, WEB)
            rows = await read_views(reading).rows(ACTUAL)
            assert row
            assert (row.health, rows) == ("Current", {WEB: row})
            assert await read_views(reading).position_at(Time("2000-01-01T00:00:00.000000Z")) == 0
            assert await read_views(reading).row(RUNS, "nothing") is None
            assert await read_views(reading).rows(OBJECT_VERSIONS)


async def test_reading_the_past_while_projections_advance_is_of_one_state(store: Path) -> None:
    async with open_log(store) as log, open_views(log) as views:
        history = History(Random(8))
        await fill(log, history, 60)
        await views.catch_up()
        expected = {at: encoded(await views.rows(RUNS, at=at)) for at in (10, 33, 60)}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.follow)
            tasks.start_soon(partial(fill, log, history, 300, at_once=3))
            while await log.head() < 300:
                for position, rows in expected.items():
                    assert encoded(await views.rows(RUNS, at=position)) == rows
            tasks.cancel_scope.cancel()
