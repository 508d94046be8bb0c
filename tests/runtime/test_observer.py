"""What is told of an object is recorded in its order, whichever way it came."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from tests.events.logs import digest, run_id
from tidelog.engine.apply.record import Seen
from tidelog.engine.cluster.errors import UnknownKindError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.watching.observer import Observer
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.events.bodies import Body
from tidelog.events.names import ObjectId, ObjectKey, PlanId, engine_stream
from tidelog.events.projections import Actual
from tidelog.events.vocabulary import HealthChanged, ObjectApplied, TargetDeclared
from tidelog.storage import open_log, open_views
from tidelog.storage.keys import DataKey
from tidelog.storage.master_key import KEY_BYTES
from tidelog.storage.sealed import KEY_ID_BYTES

SHOP = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "apps", "shop").stream("east")
MANAGER = "kustomize-controller"
PATIENCE_S = 20


def deployment(version: int, seen_generation: int) -> KubeObject:
    """A Deployment without pods, as the controller manager has got on with it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": "apps",
            "uid": "u-1",
            "generation": 1,
            "resourceVersion": str(version),
            "labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "apps"},
            "annotations": {"revision": str(version)},
        },
        "spec": {"replicas": 0},
        "status": {"observedGeneration": seen_generation, "conditions": [{"type": "Available", "status": "True"}]},
    }


WEB = key_of(deployment(1, 0))


class Sealers:
    """Seals under the keys that it was given."""

    def __init__(self) -> None:
        self.keys: dict[ObjectId, DataKey] = {}

    async def __call__(self, _: Iterable[ObjectId]) -> Sealer:
        return Sealer(self.keys)


class Nowhere:
    """A cluster that serves no kind, so that nothing is told but what a test tells."""

    async def kind(self, api_version: str, kind: str) -> Kind:
        raise UnknownKindError(f"no {kind} in {api_version}")


class Watching:
    """An observer of one Deployment that was applied at version 985."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.sealers = Sealers()
        nothing = cast("Any", lambda *_: None)
        self.observer = Observer(
            cast("Cluster", Nowhere()),
            memory,
            "east",
            MANAGER,
            engine_stream(memory.log.identity.log),
            self.sealers,
            nothing,
            nothing,
            nothing,
            lambda: datetime.now(UTC),
        )

    @property
    def row(self) -> Actual | None:
        return self.memory.actual.get(WEB.stream("east"))

    async def until(self, version: int) -> None:
        with anyio.fail_after(PATIENCE_S):
            while self.row is None or self.row.resource_version != str(version):
                await anyio.lowlevel.checkpoint()
        for _ in range(100):  # whatever else was begun, ends
            await anyio.lowlevel.checkpoint()
        await self.memory.append(SHOP, [_declared(2)], Origin())


def _declared(generation: int) -> TargetDeclared:
    return TargetDeclared(uid="t-1", generation=generation, spec=Body.of(b"{}").ref)


@pytest.fixture
async def watching(tmp_path: Path) -> AsyncIterator[Watching]:
    async with open_log(tmp_path / "store") as log, open_views(log) as views:
        memory = Memory(log)
        await memory.load(views)
        await memory.append(SHOP, [_declared(1)], Origin(), bodies=[Body.of(b"{}")])
        seen = Seen(WEB.id, deployment(985, 0), MANAGER, Sealer(), secret=False)
        applied = ObjectApplied(
            plan=PlanId("plan"),
            object=WEB.id,
            action="created",
            wave=0,
            desired=digest("web"),
            **cast("Any", seen.fields),
        )
        await memory.append(SHOP, [applied], Origin(run=run_id(1)), bodies=seen.bodies)
        yield Watching(memory)


async def test_what_waited_for_a_write_is_not_recorded_after_what_came_later(watching: Watching) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.observer.run)
        await anyio.lowlevel.checkpoint()
        with watching.observer.writing(WEB.id):
            await watching.observer.is_now(deployment(987, 0))
        await watching.observer.is_now(deployment(989, 1))
        await watching.until(989)
        assert watching.row is not None
        assert (watching.row.resource_version, watching.row.health) == ("989", "Current")
        tasks.cancel_scope.cancel()


async def test_what_is_told_at_once_of_one_object_is_recorded_in_its_order(watching: Watching) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.observer.run)
        await anyio.lowlevel.checkpoint()
        for version in (987, 988, 989):
            tasks.start_soon(watching.observer.is_now, deployment(version, version - 988))
        await watching.until(989)
        assert watching.row is not None
        assert watching.row.health == "Current"
        tasks.cancel_scope.cancel()


async def test_why_an_object_is_not_healthy_yet_is_recorded_when_that_changes(watching: Watching) -> None:
    """The same state each time: only its status gets on."""
    told: list[HealthChanged] = []
    watching.memory.listen(lambda one: told.append(one.event) if isinstance(one.event, HealthChanged) else None)
    base, available = deployment(985, 0), {"type": "Available", "status": "True"}
    for version, seen, conditions in ((986, 0, []), (987, 1, []), (988, 1, []), (989, 1, [available])):
        metadata = {**base["metadata"], "resourceVersion": str(version)}
        status = {"observedGeneration": seen, "conditions": conditions}
        await watching.observer.is_now({**base, "metadata": metadata, "status": status})
    assert [(one.health, one.reason) for one in told] == [("InProgress", "DeploymentNotAvailable"), ("Current", "")]


async def test_an_object_that_went_after_a_write_stays_gone(watching: Watching) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.observer.run)
        await anyio.lowlevel.checkpoint()
        with watching.observer.writing(WEB.id):
            await watching.observer.is_now(deployment(987, 0))
        await watching.observer.is_gone(WEB, "u-1")
        with anyio.fail_after(PATIENCE_S):
            while watching.row is not None:
                await anyio.lowlevel.checkpoint()
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert watching.row is None
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_seen_to_go", [True, False])
async def test_what_was_made_with_a_secret_is_sealed_when_somebody_makes_it_again(
    watching: Watching, is_seen_to_go: bool
) -> None:
    key = watching.sealers.keys[WEB.id] = DataKey(WEB.stream("east"), "11" * KEY_ID_BYTES, b"k" * KEY_BYTES, {})
    seen = Seen(WEB.id, deployment(986, 0), MANAGER, Sealer({WEB.id: key}), secret=True)
    applied = ObjectApplied(
        plan=PlanId("plan"),
        object=WEB.id,
        action="configured",
        wave=0,
        desired=key.digest(b"web"),
        **cast("Any", seen.fields),
    )
    await watching.memory.append(SHOP, [applied], Origin(run=run_id(1)), bodies=seen.bodies)
    if is_seen_to_go:
        await watching.observer.is_gone(WEB, "u-1")
        assert watching.row is None
    again = deployment(988, 0)
    again["metadata"] |= {"uid": "u-2"}
    await watching.observer.is_now(again)
    assert watching.row is not None
    assert watching.row.uid == "u-2"
    assert watching.row.state is not None
    assert watching.row.state.secret
    assert watching.row.leaves is not None


@pytest.mark.parametrize("secret", [True, False])
def test_what_is_said_of_an_object_with_a_secret_value_is_not_recorded(secret: bool) -> None:
    key = DataKey(WEB.stream("east"), "11" * KEY_ID_BYTES, b"k" * KEY_BYTES, {})
    unwell = deployment(986, 0)
    said = {"type": "Stalled", "status": "True", "reason": "Refused", "message": "cannot use p4ssw0rd"}
    unwell["status"] = {"conditions": [said]}
    fields = Seen(WEB.id, unwell, MANAGER, Sealer({WEB.id: key}), secret=secret).fields
    assert (fields["health"], fields["reason"]) == ("Failed", "Refused")
    assert fields["message"] == ("" if secret else "cannot use p4ssw0rd")
