"""When statuses are written: an outcome at once, what goes on after a second and then now and then; in virtual time."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from tests.events.logs import moment
from tests.runtime.targets import target
from tests.runtime.virtual_time import VIRTUAL_TIME
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.status import PROGRESS_EVERY_S, StatusWriter
from tidelog.engine.runtime.watching.declared import AnyDeclared, read_declared
from tidelog.events.names import Revision, RunId, StreamName
from tidelog.events.projections import Standing

REVISION = Revision("main@sha1:1")
STEPS = ("fetching", "building", "detecting")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


class World:
    """A target at work, and the writes of its status."""

    def __init__(self) -> None:
        declared = target()
        assert declared is not None
        self.declared: AnyDeclared = declared
        self.stream = declared.stream
        self.standing = Standing(ready="Unknown", run=RunId("r"), since=moment(0))
        self.step = ""
        self.began = 0.0
        self.written: list[tuple[float, str]] = []
        """When, and what Reconciling said; empty once it is Ready."""
        me: Any = self
        self.engine = cast(
            "Engine",
            SimpleNamespace(
                declared=SimpleNamespace(source=lambda _: None, target=lambda _: self.declared, wrote=self._wrote),
                memory=SimpleNamespace(
                    conditions=SimpleNamespace(get=lambda _: self.standing),
                    inventory={},
                    releases={},
                    desired={},
                ),
                activity=SimpleNamespace(of=self._activity, slow=self._slow),
                cluster=me,
                cluster_alias="prod",
                origin_revisions=SimpleNamespace(known=lambda *_: ""),
                waiting=lambda _: [],
                waited_for_health=lambda _: 0.0,
                is_recent=lambda *_: False,
                now=lambda: moment(60),
            ),
        )

    def work(self, step: str) -> None:
        self.began = self.began if self.step else anyio.current_time()
        self.step = step

    def end(self) -> None:
        self.step = ""
        self.standing = Standing(ready="True", applied=REVISION, attempted=REVISION, observed=1, since=moment(60))

    def _activity(self, _: StreamName) -> tuple[str, str, float] | None:
        return (self.step, REVISION, anyio.current_time() - self.began) if self.step else None

    def _slow(self, seconds: float) -> list[StreamName]:
        return [self.stream] if self.step and anyio.current_time() - self.began >= seconds else []

    def _wrote(self, _: StreamName, live: KubeObject) -> None:
        found = read_declared(live, "east")
        assert found is not None
        self.declared = found

    async def kind(self, *_: str) -> str:
        return "Kustomization"

    async def patch(self, _: object, __: str, ___: str, patch: KubeObject, **____: object) -> KubeObject:
        conditions = {one["type"]: one for one in patch["status"]["conditions"]}
        self.written.append((anyio.current_time(), conditions.get("Reconciling", {}).get("message", "")))
        live = self.declared.live
        return {**live, "status": {**live.get("status", {}), **patch["status"]}}


@pytest.mark.anyio
async def test_what_a_run_is_at_is_told_now_and_then_and_its_outcome_at_once() -> None:
    world = World()
    writer = StatusWriter(world.engine)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        for number in range(24):
            world.work(STEPS[number % len(STEPS)])
            writer.mark(world.stream)
            await anyio.sleep(0.5)
        told = list(world.written)
        world.end()
        writer.mark(world.stream)
        ended = anyio.current_time()
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert told[0][0] == pytest.approx(1.0, abs=0.5)
    apart = [later[0] - before[0] for before, later in pairwise(told)]
    assert apart
    assert all(PROGRESS_EVERY_S <= one <= PROGRESS_EVERY_S + 1.0 for one in apart)
    assert len({message for _, message in told}) > 1
    assert world.written[len(told) :] == [(ended, "")]
    assert writer.idle


@pytest.mark.anyio
async def test_of_a_run_that_is_over_within_the_second_only_the_outcome_is_told() -> None:
    world = World()
    writer = StatusWriter(world.engine)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        world.work("building")
        writer.mark(world.stream)
        await anyio.sleep(0.8)
        world.end()
        writer.mark(world.stream)
        await anyio.sleep(5.0)
        tasks.cancel_scope.cancel()
    assert [message for _, message in world.written] == [""]


@pytest.mark.anyio
async def test_a_status_that_somebody_overwrites_is_written_again_once_until_there_is_more_to_tell() -> None:
    world = World()
    writer = StatusWriter(world.engine)
    world.end()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        writer.mark(world.stream)
        await anyio.sleep(0.1)
        assert len(world.written) == 1
        writer.overwritten(world.stream)
        await anyio.sleep(2.0)
        assert len(world.written) == 1, "it is as it should be"
        assert writer.idle
        for _ in range(100):
            found = read_declared({**world.declared.live, "status": {}}, "east")
            assert found is not None
            world.declared = found
            writer.overwritten(world.stream)
            await anyio.sleep(0.02)
        await anyio.sleep(1.0)
        assert writer.idle
        assert len(world.written) == 2
        writer.mark(world.stream)
        await anyio.sleep(0.5)
        assert len(world.written) == 3
        tasks.cancel_scope.cancel()
    assert world.declared.live["status"]["conditions"]
