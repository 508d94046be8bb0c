"""Group commit and its back-pressure, without a disk: the commit is the test's own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.samples import PATIENCE_S, note, stream
from tidelog.events.bodies import Body
from tidelog.storage.errors import StoreClosedError, StoreError, StoreFullError
from tidelog.storage.log import ANY, StreamAppend, commit
from tidelog.storage.log.commit import Budget, GroupCommit, Outcome
from tidelog.storage.log.compression import pack
from tidelog.storage.log.prepare import PreparedAppend, prepare


def prepared(*texts: str, body: bytes | None = None) -> PreparedAppend:
    bodies = [] if body is None else [pack(Body.of(body))]
    return prepare([StreamAppend(stream(), ANY, [note(text) for text in texts])], bodies)


class Disk:
    """A commit that the test lets through."""

    def __init__(self) -> None:
        self.batches: list[list[PreparedAppend]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: StoreError | None = None

    def commit(self, appends: Sequence[PreparedAppend]) -> list[Outcome]:
        self.batches.append(list(appends))
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        return [self.error or ()] * len(appends)

    async def wait_begun(self) -> None:
        """Waits until one more commit has begun."""
        assert await anyio.to_thread.run_sync(lambda: self.begun.acquire(timeout=PATIENCE_S))

    def let(self, count: int = 1_000) -> None:
        """Lets commits come to their end."""
        self.go.release(count)


@pytest.fixture
def disk() -> Disk:
    return Disk()


CLOSED = StoreClosedError(Path("store"))


@asynccontextmanager
async def group_commit(disk: Disk) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(disk.commit, lambda: None, CLOSED)
    try:
        yield group
    finally:
        disk.let()
        with anyio.fail_after(PATIENCE_S):
            await group.close()


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_appends_that_wait_for_a_commit_share_the_next(disk: Disk) -> None:
    appends = [prepared(str(number)) for number in range(65)]
    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        tasks.start_soon(group.submit, appends[0])
        await disk.wait_begun()
        for append in appends[1:]:
            tasks.start_soon(group.submit, append)
        await settle()
        disk.let()
    assert disk.batches == [appends[:1], appends[1:]]


async def test_append_waits_for_no_producer(disk: Disk) -> None:
    """A lone append is committed at once, though others may be about to come."""
    disk.let()
    async with group_commit(disk) as group:
        with anyio.fail_after(PATIENCE_S):
            assert await group.submit(prepared("alone")) == ()
    assert len(disk.batches) == 1


async def test_append_is_answered_only_when_its_commit_is_done(disk: Disk) -> None:
    done = anyio.Event()

    async def submit() -> None:
        await group.submit(prepared("a"))
        done.set()

    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        tasks.start_soon(submit)
        await disk.wait_begun()
        await settle()
        assert not done.is_set()
        disk.let()
        with anyio.fail_after(PATIENCE_S):
            await done.wait()


async def test_one_commit_takes_no_more_than_its_share(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """More would keep the first of them waiting for the last."""
    monkeypatch.setattr(commit, "COMMIT_EVENTS_MAX", 10)
    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        tasks.start_soon(group.submit, prepared("first"))
        await disk.wait_begun()
        for _ in range(8):
            tasks.start_soon(group.submit, prepared("a", "b", "c", "d"))
        await settle()
        disk.let()
    assert [len(batch) for batch in disk.batches] == [1, 3, 3, 2]


async def test_large_append_does_not_ride_with_many_others(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = prepared("small"), prepared("large", *(["x" * 1_000] * 20))
    monkeypatch.setattr(commit, "COMMIT_BYTES_MAX", 3 * small.size)
    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        tasks.start_soon(group.submit, small)
        await disk.wait_begun()
        for append in (small, large, small, small):
            tasks.start_soon(group.submit, append)
            await settle()
        disk.let()
    assert disk.batches == [[small], [small, large], [small, small]]


async def test_producers_wait_when_the_disk_is_slower(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded in bytes; the rest waits outside, in order, and is taken as room comes."""
    append = prepared("x" * 1_000)
    monkeypatch.setattr(commit, "QUEUE_BYTES_MAX", 4 * append.size)
    answered: list[int] = []

    async def produce(number: int) -> None:
        await group.submit(append)
        answered.append(number)

    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(produce, number)
            await settle()
        await disk.wait_begun()
        assert group._queue.qsize() + len(disk.batches[0]) == 4
        disk.let()
    assert answered == list(range(20))
    assert max(map(len, disk.batches)) <= 4


async def test_append_larger_than_the_whole_budget_is_made(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = prepared("x" * 5_000), prepared("y")
    monkeypatch.setattr(commit, "QUEUE_BYTES_MAX", large.size - 1)
    disk.let()
    async with group_commit(disk) as group:
        with anyio.fail_after(PATIENCE_S):
            await group.submit(large)
            await group.submit(small)
            await group.submit(large)
    assert disk.batches == [[large], [small], [large]]


async def test_cancelled_append_is_not_made_when_its_commit_has_not_begun(disk: Disk) -> None:
    first, cancelled, last = prepared("first"), prepared("cancelled"), prepared("last")
    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        tasks.start_soon(group.submit, first)
        await disk.wait_begun()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(group.submit, cancelled)
            await settle()
            doomed.cancel_scope.cancel()
        tasks.start_soon(group.submit, last)
        await settle()
        disk.let()
    assert disk.batches == [[first], [last]]


async def test_cancelling_one_producer_leaves_the_others_of_its_commit_alone(disk: Disk) -> None:
    answers: list[Outcome] = []

    async def submit() -> None:
        answers.append(await group.submit(prepared("stays")))

    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        tasks.start_soon(group.submit, prepared("first"))
        await disk.wait_begun()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(group.submit, prepared("goes"))
            tasks.start_soon(submit)
            await settle()
            disk.let(1)
            await disk.wait_begun()
            doomed.cancel_scope.cancel()
        disk.let()
    assert [len(batch) for batch in disk.batches] == [1, 2]
    assert answers == [()]


async def test_error_of_a_commit_reaches_every_producer_of_it(disk: Disk) -> None:
    disk.error = StoreFullError(Path("store"), "full")
    errors: list[StoreError] = []

    async def submit() -> None:
        with pytest.raises(StoreFullError) as caught:
            await group.submit(prepared("a"))
        errors.append(caught.value)

    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(submit)
        await settle()
        disk.let()
    assert len(errors) == 5


async def test_closing_makes_what_is_queued_and_refuses_what_waits_for_room(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = prepared("x" * 1_000)
    monkeypatch.setattr(commit, "QUEUE_BYTES_MAX", 3 * append.size)
    answers: list[str] = []

    async def submit() -> None:
        try:
            await group.submit(append)
            answers.append("made")
        except StoreClosedError:
            answers.append("closed")

    async with group_commit(disk) as group, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(submit)
        await settle()
        await disk.wait_begun()
        tasks.start_soon(group.close)
        await settle()
        tasks.start_soon(submit)
        await settle()
        disk.let()
    assert sorted(answers) == ["closed", "closed", "closed", "made", "made", "made"]
    assert sum(map(len, disk.batches)) == 3


async def test_closing_twice_does_nothing_more(disk: Disk) -> None:
    disk.let()
    async with group_commit(disk) as group:
        await group.submit(prepared("a"))
        with anyio.fail_after(PATIENCE_S):
            await group.close()
            await group.close()
        with pytest.raises(StoreClosedError):
            await group.submit(prepared("b"))
    assert len(disk.batches) == 1


# The budget


class Holder:
    """Someone who asks for bytes of a budget, as a task."""

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.scope = anyio.CancelScope()
        self.held: int | None = None
        self.is_gone = False
        self.task: asyncio.Task[None] | None = None

    async def ask(self, budget: Budget) -> None:
        self.task = asyncio.current_task()
        with self.scope, suppress(asyncio.CancelledError):
            held = await budget.acquire(self.asked)
            if self.is_gone:  # was served in the moment in which it was cancelled
                budget.release(held)
            else:
                self.held = held


SIZE = 10
steps = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "ask", "cancel", "release", "release and cancel"]), st.integers(0, 12)),
    min_size=8,
    max_size=40,
)


@settings(max_examples=max(400, settings().max_examples))
@given(steps)
def test_budget_is_fair_never_overdrawn_and_never_loses_bytes(steps: list[tuple[str, int]]) -> None:
    """Askers come, wait, are cancelled (also in the moment in which they are served) and give back."""
    anyio.run(check_budget, steps)


async def check_budget(steps: list[tuple[str, int]]) -> None:
    budget = Budget(SIZE)
    everyone: list[Holder] = []

    def release(number: int) -> None:
        holding = [holder for holder in everyone if holder.held is not None]
        if holding:
            holder = holding[number % len(holding)]
            assert holder.held is not None
            size, holder.held = holder.held, None
            everyone.remove(holder)
            budget.release(size)

    def cancel(number: int) -> None:
        waiting = [holder for holder in everyone if holder.held is None]
        if waiting:
            holder = waiting[number % len(waiting)]
            everyone.remove(holder)
            holder.is_gone = True
            if number % 2:
                holder.scope.cancel()
            elif holder.task:
                # asyncio's own cancelling also reaches a task that was served and has not run since.
                holder.task.cancel()

    async with anyio.create_task_group() as tasks:
        for step, number in steps:
            if step == "ask":
                everyone.append(Holder(number))
                tasks.start_soon(everyone[-1].ask, budget)
                await settle()
            if step.startswith("release"):
                release(number)
            if step.endswith("cancel"):
                cancel(number)
            if step != "release":
                await settle()
                check_holders(everyone)
        await settle()
        check_holders(everyone)
        while everyone:
            release(0)
            await settle()
        with anyio.fail_after(PATIENCE_S):
            assert await budget.acquire(SIZE) == SIZE


def check_holders(everyone: list[Holder]) -> None:
    """Nobody is served before one who asked earlier, nobody waits in vain, and nobody gets more than there is."""
    held = [holder.held for holder in everyone]
    served = [size for size in held if size is not None]
    assert sum(served) <= SIZE
    if None in held:
        first = held.index(None)
        assert all(size is None for size in held[first:])
        assert sum(served) + min(everyone[first].asked, SIZE) > SIZE
    for holder in everyone:
        assert holder.held in (None, min(holder.asked, SIZE))


async def test_bytes_of_one_who_is_cancelled_while_being_served_go_to_the_next() -> None:
    budget = Budget(SIZE)
    await budget.acquire(SIZE)
    waiting = [asyncio.create_task(budget.acquire(size)) for size in (6, 7)]
    await settle()
    budget.release(SIZE)
    waiting[0].cancel()
    with anyio.fail_after(PATIENCE_S):
        assert await waiting[1] == 7
    assert waiting[0].cancelled()


async def test_who_waits_behind_one_who_is_cancelled_is_served() -> None:
    budget = Budget(SIZE)
    await budget.acquire(6)
    waiting = [asyncio.create_task(budget.acquire(size)) for size in (9, 3)]
    await settle()
    assert not waiting[1].done(), "who asks first is served first"
    waiting[0].cancel()
    with anyio.fail_after(PATIENCE_S):
        assert await waiting[1] == 3


async def test_who_asks_for_more_than_all_gets_all() -> None:
    budget = Budget(SIZE)
    assert await budget.acquire(SIZE * 3) == SIZE
    budget.release(SIZE)
    assert await budget.acquire(0) == 0
