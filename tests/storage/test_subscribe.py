"""Many readers of one log, of which some are slow or stop: nothing is kept for them, and they miss nothing."""

import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from random import Random

import anyio
import anyio.lowlevel
import pytest

from tests.storage.samples import PATIENCE_S, everything, first, health, note, positions, stream
from tidelog.storage.errors import StoreClosedError
from tidelog.storage.log import ANY, APPEND_EVENTS_MAX, PAGE_EVENTS_MAX, Query, Recorded
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import SqliteEventLog, SqliteLogReader, open_log, read_log


@pytest.fixture
async def log(store: Path) -> AsyncIterator[SqliteEventLog]:
    async with open_log(store) as log:
        yield log


async def test_quick_slow_and_late_readers_see_every_event_once(log: SqliteEventLog, store: Path, seed: int) -> None:
    """A reader that takes one event for each append of several falls ever further behind."""
    random = Random(seed)
    appends = 60
    found: dict[str, list[int]] = {}
    step = anyio.Condition()

    async def follow(name: str, reader: SqliteLogReader, slow: bool = False) -> None:
        seen = found.setdefault(name, [])
        async for recorded in reader.subscribe(Query()):
            seen.append(recorded.envelope.position)
            if seen[-1] == total:
                return
            if slow and not done.is_set():
                async with step:
                    await step.wait()

    done = anyio.Event()
    sizes = [random.randint(1, 5) for _ in range(appends)]
    total = 1 + sum(sizes)
    with anyio.fail_after(PATIENCE_S):
        async with read_log(store) as other, anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(follow, f"quick {number}", log)
                tasks.start_soon(follow, f"slow {number}", log, True)
                tasks.start_soon(follow, f"slow outside {number}", other, True)
            for number, size in enumerate(sizes):
                if number == appends // 2:
                    tasks.start_soon(follow, "late", log)
                    tasks.start_soon(follow, "late outside", other)
                await log.append(stream(), ANY, [note()] * size)
                async with step:
                    step.notify_all()
            assert len(found["slow 0"]) < total, "the slow reader was not slow"
            done.set()
            async with step:
                step.notify_all()
    assert len(found) == 11
    for name, seen in found.items():
        assert seen == list(range(1, total + 1)), name


LARGE = 2_000
"""Bytes of the text of an event."""
SLACK = 3_000_000
"""Bytes for what is no event (the writer's caches, Python's own): less than half of four appends or pages."""


async def fill(log: SqliteEventLog, appends: int) -> None:
    for _ in range(appends):
        await log.append(stream(), ANY, [note("x" * LARGE)] * APPEND_EVENTS_MAX)


async def count(events: AsyncIterator[Recorded]) -> int:
    return sum([1 async for _ in events])


async def peak_of(work: Awaitable[object]) -> int:
    """The most memory that Python holds more than before, at any moment of some work."""
    gc.collect()
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("outside", [False, True], ids=["the writer's", "another's"])
async def test_memory_does_not_grow_for_a_reader_that_stops_reading(
    log: SqliteEventLog, store: Path, *, outside: bool
) -> None:
    """An append is in memory while it is made, and the one before it; six are not more than two."""
    await fill(log, 1)  # so that imports and caches are there
    async with read_log(store) as other:
        reader = other if outside else log
        stopped = [reader.subscribe(Query(after=APPEND_EVENTS_MAX)) for _ in range(20)]
        for events in stopped:
            assert positions(await first(1, events)) == [APPEND_EVENTS_MAX + 1]
        two = await peak_of(fill(log, 2))
        assert two > APPEND_EVENTS_MAX * LARGE
        assert await peak_of(fill(log, 6)) < two + SLACK
        (recorded,) = await first(1, stopped[0])
        assert recorded.envelope.position == APPEND_EVENTS_MAX + 2
        rest = Query(after=APPEND_EVENTS_MAX + 1, until=9 * APPEND_EVENTS_MAX + 1)
        assert await count(reader.subscribe(rest)) == 8 * APPEND_EVENTS_MAX


@pytest.mark.slow
async def test_reading_a_long_log_holds_a_page_and_not_the_log(log: SqliteEventLog) -> None:
    await fill(log, 6)
    two = await peak_of(count(log.read(Query(until=2 * PAGE_EVENTS_MAX))))
    assert two > PAGE_EVENTS_MAX * LARGE
    assert await peak_of(count(log.read(Query()))) < two + SLACK


@pytest.mark.slow
@pytest.mark.parametrize("query", [Query(), Query(types=("Marked", "Nothing")), Query(stream=stream())])
async def test_the_last_events_of_a_long_log_are_read_a_page_at_a_time(
    log: SqliteEventLog, store: Path, query: Query
) -> None:
    await fill(log, 6)
    every = positions(await everything(log.read(query)))

    def read(last: int) -> list[int]:
        reader = LogReader(store / "log.db")
        try:
            return [position for page in reader.last_pages(query, last) for position in positions(page)]
        finally:
            reader.close()

    async def reading(last: int) -> None:
        assert await anyio.to_thread.run_sync(read, last) == every[-last:]

    two = await peak_of(reading(2 * PAGE_EVENTS_MAX))
    assert two > PAGE_EVENTS_MAX * LARGE
    assert await peak_of(reading(len(every))) < two + SLACK
    for last in (1, PAGE_EVENTS_MAX, PAGE_EVENTS_MAX + 1):
        await reading(last)
    assert await anyio.to_thread.run_sync(read, 10**9) == every
    assert await anyio.to_thread.run_sync(read, 0) == []


async def test_readers_do_not_keep_the_log_from_being_checkpointed(log: SqliteEventLog, store: Path) -> None:
    """A reader between two pages holds no transaction, so the write-ahead log begins anew and stays small."""
    async with read_log(store) as other:
        stopped = [reader.subscribe(Query()) for reader in (log, other)]
        for events in stopped:
            await first(1, events)
        for _ in range(30):
            await log.append(stream(), ANY, [note("x" * LARGE)] * 256)
        size = (await anyio.Path(store / "log.db-wal").stat()).st_size
        assert size < 30 * 256 * LARGE / 2


async def wait_until_waiting(reader: SqliteLogReader) -> None:
    """Lets the subscriptions read what there is, so that they wait."""
    for _ in range(5):
        await reader.head()
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("outside", [False, True], ids=["the writer's", "another's"])
async def test_subscription_that_waits_is_told_that_the_log_was_closed(store: Path, *, outside: bool) -> None:
    told: list[str] = []

    async def follow(reader: SqliteLogReader) -> None:
        with pytest.raises(StoreClosedError) as caught:
            await everything(reader.subscribe(Query()))
        told.append(str(caught.value))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks, open_log(store) as log:
            if outside:
                async with read_log(store) as reader:
                    tasks.start_soon(follow, reader)
                    await wait_until_waiting(reader)
            else:
                tasks.start_soon(follow, log)
                await wait_until_waiting(log)
    assert len(told) == 1
    assert "closed" in told[0]


async def test_cancelled_subscription_leaves_the_log_and_the_others_alone(log: SqliteEventLog) -> None:
    found: list[Recorded] = []

    async def follow() -> None:
        found.extend(await first(5, log.subscribe(Query())))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            async with anyio.create_task_group() as doomed:
                for _ in range(5):
                    doomed.start_soon(everything, log.subscribe(Query()))
                await log.append(stream(), ANY, [note(), note()])
                doomed.cancel_scope.cancel()
            await log.append(stream(), ANY, [note(), note()])
    assert positions(found) == [1, 2, 3, 4, 5]


async def test_no_event_is_missed_that_comes_between_looking_and_waiting(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the subscription has read an empty page or looked at the head, one more event is appended."""
    appended = 0
    head = SqliteEventLog.head

    async def head_then_append(self: SqliteEventLog) -> int:
        nonlocal appended
        found = await head(self)
        if appended < 10:
            appended += 1
            await self.append(stream(), ANY, [health() if appended % 3 == 0 else note()])
        return found

    monkeypatch.setattr(SqliteEventLog, "head", head_then_append)
    assert positions(await first(11, log.subscribe(Query()))) == list(range(1, 12))
    appended = 0
    wanted = [recorded.envelope.position for recorded in await first(6, log.subscribe(Query(types=("HealthChanged",))))]
    assert wanted == sorted(set(wanted))


async def test_many_reads_at_once_share_few_connections(log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    original = LogReader.__init__

    def counted(self: LogReader, path: Path) -> None:
        nonlocal opened
        opened += 1
        original(self, path)

    monkeypatch.setattr(LogReader, "__init__", counted)
    await log.append(stream(), 0, [note()] * 100)
    found: list[int] = []

    async def read() -> None:
        found.append(len(await everything(log.read(Query()))))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(read)
    assert found == [101] * 50
    assert 1 <= opened <= 4
