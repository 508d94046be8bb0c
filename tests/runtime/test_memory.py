"""What the engine knows is what the log says, in its order, whoever appends and whatever is cancelled."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from tests.events.logs import digest, run_id, target
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.events.bodies import Body
from tidelog.events.names import ObjectKey, PlanId, Revision
from tidelog.events.projection import encode_row
from tidelog.events.vocabulary import (
    ObjectApplied,
    PlanHeld,
    Rendered,
    StageFailed,
    TargetDeclared,
    TargetRemoved,
)
from tidelog.storage import ANY, NewEvent, Query, Recorded, StreamAppend, open_log, open_views
from tidelog.storage.errors import EventTooLargeError, VersionConflictError
from tidelog.storage.log.sqlite_log import SqliteEventLog

SHOP, WEB = target("east", "shop"), target("east", "web")
PATIENCE_S = 20


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@asynccontextmanager
async def remembering(store: Path) -> AsyncIterator[Memory]:
    """What is known after a start, as the daemon reads it."""
    async with open_log(store) as log, open_views(log) as views:
        memory = Memory(log)
        await memory.load(views)
        yield memory


@pytest.fixture
async def memory(store: Path) -> AsyncIterator[Memory]:
    async with remembering(store) as memory:
        yield memory


class Slow:
    """A log whose first append is answered last."""

    def __init__(self, log: SqliteEventLog) -> None:
        self.log = log
        self.kept = anyio.Event()
        self.may_answer = anyio.Event()
        self._appends = 0

    async def append_all(self, appends: Sequence[StreamAppend], *, bodies: Sequence[Body] = ()) -> tuple[Recorded, ...]:
        self._appends += 1
        first = self._appends == 1
        recorded = await self.log.append_all(appends, bodies=bodies)
        if first:
            self.kept.set()
            await self.may_answer.wait()
        return recorded

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


def failure(number: int, message: str = "") -> StageFailed:
    return StageFailed(stage="render", reason="BuildFailed", final=False, message=message or f"failure {number}")


def rows_of(memory: Memory) -> dict[str, dict[str, bytes]]:
    return {
        name: {key: encode_row(row) for key, row in getattr(memory, name).items()}
        for name in ("conditions", "desired", "inventory", "actual")
    }


async def test_an_append_is_folded_when_it_returns(memory: Memory) -> None:
    for number in range(3):
        await memory.append(SHOP, [failure(number)], Origin())
        standing = memory.conditions.get(SHOP)
        assert standing is not None
        assert (standing.failures, standing.message) == (number + 1, f"failure {number}")


async def test_an_append_is_folded_when_it_returns_even_if_an_earlier_one_is_not_answered_yet(memory: Memory) -> None:
    slow = Slow(memory.log)
    memory.log = cast("SqliteEventLog", slow)
    heard: list[int] = []
    memory.listen(lambda recorded: heard.append(recorded.envelope.position))
    before = memory.position
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memory.append, SHOP, [failure(1)], Origin())
            await slow.kept.wait()
            await memory.append(WEB, [failure(2)], Origin())
            standing = memory.conditions.get(WEB)
            assert standing is not None, "it decides from rows that lag behind what it recorded"
            assert standing.message == "failure 2"
            assert memory.conditions.get(SHOP) is not None, "the log's order"
            slow.may_answer.set()
    assert heard == [before + 1, before + 2], "each event is told once, in the log's order"
    assert not memory._early, "what came twice is kept for ever"


async def test_many_at_once_are_folded_in_the_order_of_the_log(memory: Memory, store: Path) -> None:
    heard: list[int] = []
    memory.listen(lambda recorded: heard.append(recorded.envelope.position))
    before = memory.position

    async def append(number: int) -> None:
        await memory.append((SHOP, WEB)[number % 2], [failure(number)] * (1 + number % 3), Origin())

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(append, number)
    assert heard == list(range(before + 1, before + 121))
    assert memory.position == await memory.log.head()
    assert not memory._early


async def test_an_appender_that_is_cancelled_loses_nothing(memory: Memory) -> None:
    """At whatever moment: what is durable is folded, and what is folded is durable."""
    done = 0
    for yields in range(30):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel(yields: int = yields, scope: anyio.CancelScope = scope) -> None:
                    for _ in range(yields):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                tasks.start_soon(cancel)
                await memory.append(SHOP, [failure(yields)], Origin())
                done += 1
        assert memory.position == await memory.log.head()
        last = await memory.log.last(Query(stream=SHOP))
        standing = memory.conditions.get(SHOP)
        assert (last is None) == (standing is None)
        if last is not None and standing is not None:
            assert isinstance(last.event, StageFailed)
            assert standing.message == last.event.message
    assert done, "none was ever answered"


async def test_what_the_log_refuses_changes_nothing(memory: Memory) -> None:
    before = memory.position
    with pytest.raises(EventTooLargeError):
        await memory.append(SHOP, [failure(0, "x" * 70_000)], Origin())
    assert (memory.position, memory.conditions.get(SHOP)) == (before, None)
    await memory.append(SHOP, [failure(1)], Origin())
    assert memory.position == before + 1


async def test_what_is_known_after_a_start_is_what_was_known_before_it(store: Path) -> None:
    deployment = ObjectKey("apps", "Deployment", "shop", "web").id
    objects = Body.of(b"[]")
    async with remembering(store) as memory:
        for stream in (SHOP, WEB):
            origin = Origin(run=run_id(1))
            declared = TargetDeclared(uid="1", generation=1, spec=objects.ref)
            rendered = Rendered(
                revision=Revision("main@sha1:1"),
                inputs=digest("inputs"),
                read_set=objects.ref,
                toolchain=(),
                set=digest("set"),
                objects=objects.ref,
                count=1,
            )
            await memory.append(stream, [declared, rendered], origin, bodies=[objects])
            applied = ObjectApplied(
                plan=PlanId("p"),
                object=deployment,
                uid="u",
                resource_version="7",
                action="created",
                wave=0,
                desired=digest("desired"),
                api_version="apps/v1",
            )
            await memory.append(stream, [applied, PlanHeld(plan=PlanId("q"), check="guard", why="why")], origin)
        await memory.append(WEB, [TargetRemoved(uid="1")], Origin())
        before = rows_of(memory)
        position = memory.position
    assert all(before.values()), "a projection without a row shows nothing"
    async with remembering(store) as again:
        assert again.position == position
        assert rows_of(again) == before
        folded = Memory(again.log)
        await folded.read_missing()
        assert rows_of(folded) == before, "folded from scratch"


async def test_an_append_that_expects_another_version_is_refused_and_the_missing_event_can_be_read(
    memory: Memory,
) -> None:
    await memory.append(SHOP, [failure(1)], Origin())
    expected = memory.version_of(SHOP)
    assert expected == 1
    await memory.log.append(SHOP, ANY, [NewEvent(failure(2, "of another"))])
    with pytest.raises(VersionConflictError):
        await memory.append(SHOP, [failure(3)], Origin(), expected=expected)
    standing = memory.conditions.get(SHOP)
    assert standing is not None
    assert standing.message == "failure 1"
    await memory.read_missing()
    assert standing.message == "of another"
    await memory.append(SHOP, [failure(3)], Origin(), expected=memory.version_of(SHOP))
    assert standing.message == "failure 3"


async def test_of_a_stream_that_was_not_written_since_the_start_any_version_is_expected(store: Path) -> None:
    async with remembering(store) as memory:
        await memory.append(SHOP, [failure(1)], Origin())
    async with remembering(store) as memory:
        assert memory.version_of(SHOP) == ANY
        await memory.append(SHOP, [failure(2)], Origin(), expected=memory.version_of(SHOP))
        assert memory.version_of(SHOP) == 2
