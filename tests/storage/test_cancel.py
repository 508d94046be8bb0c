"""asyncio's own `Task.cancel`, which knows nothing of anyio's shields, leaves no store open."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import pytest

from tests.storage.samples import PATIENCE_S, event_id, everything, note, stream, texts
from tests.storage.test_faults import Connection, settle
from tidelog.events.names import EventId
from tidelog.storage import layout
from tidelog.storage.errors import StoreBusyError
from tidelog.storage.log import ANY, Query, open_store
from tidelog.storage.log.sqlite_log import open_log
from tidelog.storage.projections import projector
from tidelog.storage.projections.views import open_views
from tidelog.storage.to_the_end import run_to_the_end


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is still open is noticed at once."""
    monkeypatch.setattr(layout, "LOCK_PATIENCE_S", 0)


class Gate:
    """Holds what passes through it, in a worker thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def holding(self, function: Callable[..., object]) -> Callable[..., object]:
        def held(*arguments: object) -> object:
            self.reached.set()
            assert self.go.wait(PATIENCE_S)
            return function(*arguments)

        return held

    async def wait_reached(self) -> None:
        assert await anyio.to_thread.run_sync(self.reached.wait, PATIENCE_S)


async def cancelled_while_held(task: "asyncio.Task[None]", gate: Gate) -> None:
    """Cancels a task, twice, while it waits for what the gate holds; returns when it has ended."""
    await gate.wait_reached()
    for _ in range(2):
        task.cancel()
        await settle()
        assert not task.done(), "it did not wait for its thread"
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def hold_open(store: Path) -> None:
    async with open_log(store):
        await anyio.sleep_forever()


async def is_free(store: Path) -> bool:
    try:
        async with open_log(store):
            return True
    except StoreBusyError:
        return False


async def test_opening_that_is_cancelled_leaves_the_store_closed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(open_store, "_bring_up", gate.holding(open_store._bring_up))
    await cancelled_while_held(asyncio.create_task(hold_open(store)), gate)
    assert await is_free(store)


async def test_opening_that_is_cancelled_and_fails_is_cancelled(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    gate = Gate()
    with monkeypatch.context() as patched:
        patched.setattr(open_store, "_bring_up", gate.holding(fail))
        task = asyncio.create_task(hold_open(store))
        await gate.wait_reached()
        task.cancel()
        gate.go.set()
        with pytest.raises(ZeroDivisionError):
            await task
    assert await is_free(store)


async def test_closing_that_is_cancelled_closes_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    leave = asyncio.Event()

    async def use() -> None:
        async with open_log(store) as log:
            monkeypatch.setattr(log._store, "close", gate.holding(log._store.close))
            await leave.wait()

    task = asyncio.create_task(use())
    leave.set()
    await cancelled_while_held(task, gate)
    assert await is_free(store)


async def test_closing_that_is_cancelled_while_appends_wait_makes_them(store: Path) -> None:
    opened: asyncio.Queue[Connection] = asyncio.Queue()
    leave = asyncio.Event()

    async def use() -> None:
        async with asyncio.TaskGroup() as tasks, open_log(store) as log:
            connection = Connection(log)
            connection.hold()
            producer = tasks.create_task(log.append(stream(), ANY, [note("kept")]))
            await connection.wait_begun()
            opened.put_nowait(connection)
            await leave.wait()
            assert not producer.done()

    task = asyncio.create_task(use())
    connection = await opened.get()
    leave.set()
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    connection.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with open_log(store) as log:
        assert texts(await everything(log.read(Query()))) == ["kept"]


async def test_opening_projections_that_is_cancelled_closes_them(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    closed: list[projector.Projector] = []
    close = projector.Projector.close

    def closing(self: projector.Projector) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(projector.Projector, "open", gate.holding(projector.Projector.open))
    monkeypatch.setattr(projector.Projector, "close", closing)
    async with open_log(store) as log:

        async def use() -> None:
            async with open_views(log):
                pytest.fail("opened")

        await cancelled_while_held(asyncio.create_task(use()), gate)
    assert len(closed) == 1


@pytest.mark.slow
async def test_a_store_is_free_whenever_its_task_was_cancelled(store: Path, seed: int) -> None:
    """And what was acknowledged before is there."""
    random = Random(seed)
    acknowledged: list[EventId] = []

    async def use() -> None:
        async with open_log(store) as log, open_views(log):
            for _ in range(random.randrange(3)):
                new = event_id()
                await log.append(stream(), ANY, [note(id=new)])
                acknowledged.append(new)

    for _ in range(60):
        task = asyncio.create_task(use())
        await asyncio.sleep(random.random() * 0.03)
        task.cancel()
        await asyncio.wait([task])
        assert await is_free(store)
    async with open_log(store) as log:
        found = {recorded.envelope.id for recorded in await everything(log.read(Query()))}
    assert found >= set(acknowledged)


async def test_work_that_nobody_cancels_gives_what_it_gives() -> None:
    ended = await run_to_the_end(lambda: 7)
    ended.raise_cancelled()
    assert ended.result == 7
    with pytest.raises(ZeroDivisionError):
        await run_to_the_end(lambda: 1 // 0)
    with anyio.move_on_after(0):
        assert (await run_to_the_end(lambda: 8)).result == 8
