"""What is told of an object is recorded in its order, whichever way it came."""

import copy
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.events.logs import digest, run_id
from tidelog.engine.apply.record import Seen
from tidelog.engine.cluster.errors import ForbiddenError, NotFoundError, UnknownKindError
from tidelog.engine.cluster.port import Cluster, Kind, Listing, WatchEvent
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.observe.room import Hall, Room
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.watching.observer import FOLLOWED_EVERY_S, Observer
from tidelog.engine.runtime.watching.statuses import StatusTold
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.events.bodies import Body
from tidelog.events.envelope import ENGINE
from tidelog.events.moment import datetime_of
from tidelog.events.names import ObjectId, ObjectKey, PlanId, engine_stream
from tidelog.events.projections import Actual
from tidelog.events.vocabulary import Because, HealthChanged, ObjectApplied, ObjectObserved, TargetDeclared
from tidelog.storage import Recorded, open_log, open_views
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


class Pods:
    """A cluster in which a Deployment has a ReplicaSet with a Pod, in a state; or that tells nobody."""

    def __init__(self, web: KubeObject) -> None:
        owned = {"uid": "rs", "ownerReferences": [{"uid": "u-1", "controller": True}], "namespace": "apps"}
        self.web = web
        self.waiting = {"reason": "ImagePullBackOff", "message": "cannot pull p4ssw0rd"}
        self.forbidden = False
        self.asked = 0
        self._set: KubeObject = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web-1", **owned}}

    async def kind(self, api_version: str, kind: str) -> Kind:
        return Kind(api_version.rpartition("/")[0], "v1", kind, kind.lower() + "s", namespaced=True)

    async def get(self, *_: object) -> KubeObject:
        self.asked += 1
        return self.web

    async def pages(self, kind: Kind, **_: object) -> AsyncIterator[Listing]:
        if self.forbidden:
            raise ForbiddenError("pods is forbidden")
        metadata = {"name": "web-1-x", "namespace": "apps", "uid": "pod"}
        metadata["ownerReferences"] = [{"uid": "rs", "controller": True}]  # type: ignore[assignment]
        status = {"phase": "Pending", "containerStatuses": [{"name": "web", "state": {"waiting": self.waiting}}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        yield Listing([self._set if kind.kind == "ReplicaSet" else pod], "1")


class Watching:
    """An observer of one Deployment that was applied at version 985."""

    def __init__(self, memory: Memory, cluster: object = None, room: Room | None = None) -> None:
        self.memory = memory
        self.sealers = Sealers()
        self.woken: list[object] = []
        self.told: list[Recorded] = []
        memory.listen(self.told.append)
        nothing = cast("Any", lambda *_: None)
        self.observer = Observer(
            cast("Cluster", cluster or Nowhere()),
            memory,
            "east",
            engine_stream(memory.log.identity.log),
            self.sealers,
            lambda *woken: self.woken.append(woken),
            lambda *woken: self.woken.append(woken),
            nothing,
            lambda: datetime.now(UTC),
            room=room,
        )

    @property
    def row(self) -> Actual | None:
        return self.memory.actual.get(WEB.stream("east"))

    def statuses(self) -> list[tuple[str, bool]]:
        """The versions of the object that were observed, and whether for its status alone."""
        events = [one.event for one in self.told]
        return [(one.resource_version, one.only_status) for one in events if isinstance(one, ObjectObserved)]

    async def status(self) -> Any:
        """The object's status, as it was last recorded."""
        assert self.row is not None
        if self.row.status is None:
            return None
        return msgspec.json.decode((await self.memory.log.body(self.row.status.digest)).data)

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


@pytest.mark.parametrize(
    ("theirs", "writer"), [("10:00:00", "kube-controller-manager"), ("09:59:59", MANAGER)], ids=["at once", "before"]
)
async def test_who_wrote_in_the_second_of_our_own_write_was_somebody_else(
    watching: Watching, theirs: str, writer: str
) -> None:
    """An answer to our own write is no news: what is seen beside it is another's."""
    obj = deployment(986, 1)
    obj["metadata"]["managedFields"] = [
        {"manager": MANAGER, "operation": "Apply", "time": "2026-11-30T10:00:00Z"},
        {"manager": "kube-controller-manager", "operation": "Update", "time": f"2026-11-30T{theirs}Z"},
    ]
    await watching.observer.is_now(obj)
    (seen,) = [one for one in watching.told if isinstance(one.event, ObjectObserved)]
    assert str(seen.envelope.actor) == f"manager {writer} (inferred)"


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


@pytest.fixture
def pods(watching: Watching) -> Pods:
    """The Pods of the Deployment, which says no more than that it is not available."""
    web = deployment(986, 1)
    web["spec"] |= {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}}
    web["status"] = {"observedGeneration": 1, "conditions": []}
    pods = Pods(web)
    watching.observer._causes._cluster = cast("Cluster", pods)
    return pods


async def _because(watching: Watching, pods: Pods) -> list[Because | None]:
    """What was recorded after a look, of why it is not available."""
    before = len(watching.told)
    await watching.observer.is_now(pods.web)
    await watching.observer.look_into([WEB])
    return [one.event.because for one in watching.told[before:] if isinstance(one.event, HealthChanged)]


async def test_why_a_workload_is_not_available_is_recorded_once(watching: Watching, pods: Pods) -> None:
    (found,) = await _because(watching, pods)
    assert found is not None
    assert (found.object, found.reason) == ("core/Pod/apps/web-1-x", "ImagePullBackOff")
    pods.waiting = {"reason": "ErrImagePull", "message": "the kubelet says this by turns"}
    assert await _because(watching, pods) == []
    pods.waiting = {"reason": "CreateContainerConfigError", "message": "no such key"}
    (other,) = await _because(watching, pods)
    assert other is not None
    assert other.reason == "CreateContainerConfigError"
    pods.waiting = {"reason": "ContainerCreating"}
    pods.forbidden = True
    assert await _because(watching, pods) == [], "who may not look knows what was known"


async def test_pods_of_what_is_well_are_not_looked_at(watching: Watching, pods: Pods) -> None:
    pods.web["status"] = {"observedGeneration": 1, "conditions": [{"type": "Available", "status": "True"}]}
    counts = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")
    pods.web["status"] |= dict.fromkeys(counts, 1)
    assert await _because(watching, pods) == []
    assert pods.asked == 0


async def test_of_a_workload_with_a_secret_no_words_of_its_pods_are_recorded(watching: Watching, pods: Pods) -> None:
    key = watching.sealers.keys[WEB.id] = DataKey(WEB.stream("east"), "11" * KEY_ID_BYTES, b"k" * KEY_BYTES, {})
    seen = Seen(WEB.id, deployment(985, 0), MANAGER, Sealer({WEB.id: key}), secret=True)
    fields = cast("Any", seen.fields)
    plan, desired = PlanId("plan"), key.digest(b"web")
    applied = ObjectApplied(plan=plan, object=WEB.id, action="configured", wave=0, desired=desired, **fields)
    await watching.memory.append(SHOP, [applied], Origin(run=run_id(1)), bodies=seen.bodies)
    found = [one for one in await _because(watching, pods) if one is not None]
    assert [(one.reason, one.message) for one in found] == [("ImagePullBackOff", "")]


async def test_a_workload_is_looked_at_less_and_less_often_until_it_is_well(watching: Watching, pods: Pods) -> None:
    causes = watching.observer._causes
    causes._first_look = 0.01
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.observer.run)
        await watching.observer.is_now(pods.web)
        with anyio.fail_after(PATIENCE_S):
            while pods.asked < 3:
                await anyio.lowlevel.checkpoint()
        assert causes._next[WEB.stream("east")][1] >= 0.04
        causes.note(WEB.stream("east"), "Current")
        assert not causes._next
        tasks.cancel_scope.cancel()


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


# A status alone.

EVERY_S = 0.4
"""In the place of a minute."""


def available(version: int, replicas: int) -> KubeObject:
    """The same healthy Deployment, of which nothing but the status gets on."""
    base = deployment(985, 0)
    status = {
        "observedGeneration": 1,
        "conditions": [{"type": "Available", "status": "True"}],
        "terminatingReplicas": replicas,
    }
    return {**base, "metadata": {**base["metadata"], "resourceVersion": str(version)}, "status": status}


@pytest.fixture
async def quickly(watching: Watching) -> AsyncIterator[Watching]:
    """An observer that runs, and has seen the Deployment become available."""
    watching.observer._status_every = EVERY_S
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.observer.run)
        await watching.observer.is_now(available(990, 0))
        watching.told.clear()
        watching.woken.clear()
        yield watching
        tasks.cancel_scope.cancel()


async def test_the_answer_to_our_own_write_tells_the_status(watching: Watching) -> None:
    assert await watching.status() == deployment(985, 0)["status"]
    await watching.observer.is_now(deployment(985, 0))
    assert watching.told == [], "its echo is no news"


async def test_with_another_health_the_status_is_recorded_at_once(quickly: Watching) -> None:
    assert await quickly.status() == available(990, 0)["status"]
    assert quickly.statuses() == []


async def test_of_what_changes_within_a_minute_the_last_is_recorded_when_it_is_over(quickly: Watching) -> None:
    for version in range(991, 1_091):
        await quickly.observer.is_now(available(version, version))
    assert quickly.statuses() == []
    await anyio.sleep(EVERY_S * 1.5)
    assert quickly.statuses() == [("1090", True)]
    assert await quickly.status() == available(1_090, 1_090)["status"]
    assert quickly.woken == [], "nobody has anything to do for it"
    await anyio.sleep(EVERY_S * 2)
    assert len(quickly.told) == 1, "what is at rest is told once"


async def test_a_status_is_recorded_when_its_minute_is_over_though_the_clock_was_set_back(quickly: Watching) -> None:
    quickly.observer._clock = lambda: datetime.now(UTC) - timedelta(hours=1)
    await quickly.observer.is_now(available(991, 991))
    assert quickly.statuses() == []
    await quickly.until(991)
    assert quickly.statuses() == [("991", True)]


async def test_a_status_that_never_rests_is_recorded_once_a_minute(quickly: Watching) -> None:
    version, begun = 990, anyio.current_time()
    while anyio.current_time() - begun < EVERY_S * 4:
        version += 1
        await quickly.observer.is_now(available(version, version))
        await anyio.sleep(0.01)
    assert 2 <= len(quickly.told) <= 4, quickly.statuses()
    times = [datetime_of(one.envelope.time) for one in quickly.told]
    apart = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert min(apart) >= EVERY_S, apart


async def test_after_a_minute_at_rest_a_status_is_recorded_at_once(quickly: Watching) -> None:
    await anyio.sleep(EVERY_S * 1.1)
    await quickly.observer.is_now(available(991, 5))
    assert quickly.statuses() == [("991", True)]


async def test_a_daemon_that_was_started_again_keeps_to_the_minute(watching: Watching) -> None:
    """Nothing of it is in memory: the log says when the object was recorded last."""
    await watching.observer.is_now(available(990, 0))
    again = Watching(watching.memory)
    await again.observer.is_now(available(991, 5))
    assert again.statuses() == []
    assert len(again.observer._statuses) == 1


async def test_a_status_that_is_as_it_was_when_the_minute_is_over_appends_nothing(quickly: Watching) -> None:
    await quickly.observer.is_now(available(991, 5))
    await quickly.observer.is_now(available(992, 0))
    await anyio.sleep(EVERY_S * 1.5)
    assert quickly.told == []


async def test_what_waited_is_not_recorded_after_what_came_later(quickly: Watching) -> None:
    await quickly.observer.is_now(available(991, 5))
    unwell = available(992, 6)
    unwell["status"] |= {"conditions": []}
    await quickly.observer.is_now(unwell)
    await anyio.sleep(EVERY_S * 1.5)
    assert quickly.statuses() == []
    assert await quickly.status() == unwell["status"]


async def test_a_status_that_is_due_during_a_write_waits_for_it(quickly: Watching) -> None:
    with quickly.observer.writing(WEB.id):
        await quickly.observer._status_is_due(
            WEB.stream("east"), StatusTold(ObjectObserved(uid="u-1", resource_version="991"), None, ENGINE)
        )
        assert WEB.stream("east") in quickly.observer._deferred
    await anyio.sleep(0.05)
    assert quickly.told == []
    assert not quickly.observer._deferred


async def test_a_write_while_a_status_waits_tells_it(quickly: Watching) -> None:
    await quickly.observer.is_now(available(991, 5))
    seen = Seen(WEB.id, available(992, 6), MANAGER, Sealer(), secret=False)
    applied = ObjectApplied(
        plan=PlanId("plan"),
        object=WEB.id,
        action="configured",
        wave=0,
        desired=digest("web"),
        **cast("Any", seen.fields),
    )
    await quickly.memory.append(SHOP, [applied], Origin(run=run_id(2)), bodies=seen.bodies)
    await anyio.sleep(EVERY_S * 1.5)
    assert quickly.statuses() == []
    assert await quickly.status() == available(992, 6)["status"]


async def test_a_status_alone_is_no_other_state_and_no_drift(quickly: Watching) -> None:
    before = quickly.row
    assert before is not None
    kept = (before.state, before.owner, before.applied, before.health, before.position, before.drift)
    await anyio.sleep(EVERY_S * 1.1)
    await quickly.observer.is_now(available(991, 5))
    row = quickly.row
    assert row is not None
    assert (row.state, row.owner, row.applied, row.health, row.position, row.drift) == kept
    assert row.resource_version == "991"


async def test_an_object_that_is_gone_has_no_status_that_waits(quickly: Watching) -> None:
    await quickly.observer.is_now(available(991, 5))
    await quickly.observer.is_gone(WEB, "u-1")
    quickly.told.clear()
    await anyio.sleep(EVERY_S * 1.5)
    assert quickly.told == []


async def test_the_status_of_a_secret_object_is_not_in_the_log(watching: Watching) -> None:
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
    watching.observer._status_every = 0.0
    watching.told.clear()
    for version, word in ((987, "True"), (988, "False"), (989, "False")):
        quoting = deployment(version, 1)
        said = {"type": "Available", "status": word, "reason": "No", "message": f"cannot use p4ssw0rd {version}"}
        quoting["status"] |= {"conditions": [said]}
        quoting["metadata"] |= {"annotations": deployment(986, 0)["metadata"]["annotations"]}
        await watching.observer.is_now(quoting)
    assert watching.row is not None
    assert watching.row.status is None
    assert watching.statuses() == []
    assert watching.told, "its health is recorded"
    assert all(isinstance(one.event, HealthChanged) and one.event.status is None for one in watching.told)


@pytest.mark.parametrize(
    ("api_version", "kind", "is_kept"),
    [
        ("kustomize.toolkit.fluxcd.io/v1", "Kustomization", False),
        ("source.toolkit.fluxcd.io/v1", "GitRepository", False),
        ("source.toolkit.fluxcd.io/v1", "Bucket", False),
        ("source.toolkit.fluxcd.io/v1", "ExternalArtifact", True),
        ("example.com/v1", "Kustomization", True),
    ],
)
def test_the_status_that_the_log_itself_is_told_by_is_not_recorded_again(
    api_version: str, kind: str, is_kept: bool
) -> None:
    live = {**deployment(986, 0), "apiVersion": api_version, "kind": kind}
    assert (Seen(key_of(live).id, live, MANAGER, Sealer(), secret=False).status is not None) == is_kept


@pytest.mark.parametrize("status", [None, {}, {"huge": 2**70}, {"broken": "\ud800"}])
def test_a_status_that_is_empty_or_cannot_be_kept_is_none(status: object) -> None:
    live = {**deployment(986, 0), "status": status}
    assert Seen(WEB.id, live, MANAGER, Sealer(), secret=False).fields["status"] is None


# What a target follows.


def woken(watching: Watching) -> list[Any]:
    """What followed objects woke, and after how many seconds."""
    return [how for _, how in cast("list[tuple[Any, Any]]", watching.woken)]


async def test_who_follows_an_object_is_woken_at_its_next_change_though_its_health_is_the_same(
    quickly: Watching,
) -> None:
    stream = WEB.stream("east")
    quickly.observer.follow(stream)
    await quickly.observer.is_now(available(990, 0))
    assert quickly.woken == [], "that is known"
    await quickly.observer.is_now(available(991, 5))
    (trigger,) = woken(quickly)
    assert trigger.why == "Deployment/apps/web changed"
    assert quickly.observer.version(stream) == "991", "though it is not recorded yet"
    await quickly.observer.is_now(available(992, 6))
    assert len(quickly.woken) == 1, "who is woken looks, and follows it again"
    assert quickly.told == []


async def test_a_status_that_never_rests_wakes_who_follows_it_once_a_second(quickly: Watching) -> None:
    for version in range(991, 1_091):
        quickly.observer.follow(WEB.stream("east"))
        await quickly.observer.is_now(available(version, version))
    first, *others = woken(quickly)
    assert first.why == "Deployment/apps/web changed"
    assert len(others) == 99
    assert all(isinstance(left, float) and 0 < left <= FOLLOWED_EVERY_S for left in others), "later"


async def test_who_follows_an_object_is_woken_when_more_than_its_status_has_changed(quickly: Watching) -> None:
    quickly.observer.follow(WEB.stream("east"))
    labelled = available(991, 0)
    labelled["metadata"]["labels"] |= {"a": "b"}
    await quickly.observer.is_now(labelled)
    assert [trigger.why for trigger in woken(quickly)] == ["Deployment/apps/web changed"]


class Fickle:
    """A cluster of one Deployment, `web`, that is there or not."""

    def __init__(self) -> None:
        self.web: KubeObject | None = None

    async def kind(self, api_version: str, kind: str) -> Kind:
        return Kind(api_version.rpartition("/")[0], "v1", kind, kind.lower() + "s", namespaced=True)

    async def get(self, *_: object) -> KubeObject:
        if self.web is None:
            raise NotFoundError("no web")
        return copy.deepcopy(self.web)

    async def pages(self, *_: object, **__: object) -> AsyncIterator[Listing]:
        yield Listing([], "1")

    async def watch(self, *_: object, **__: object) -> AsyncIterator[WatchEvent]:
        await anyio.sleep_forever()
        yield WatchEvent("BOOKMARK", {})


@pytest.mark.parametrize("ends", ["changed", "gone"])
async def test_a_server_that_nobody_answers_for_makes_the_log_grow_only_so_fast(
    watching: Watching, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr("tidelog.engine.runtime.watching.paces.AT_ONCE", 5)
    monkeypatch.setattr("tidelog.engine.runtime.watching.paces.EVERY_S", 1.0)
    cluster = Fickle()
    other = Watching(watching.memory, cluster, Hall().room("team"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.observer.run)
        await anyio.lowlevel.checkpoint()
        for version in range(1_000, 1_200):
            cluster.web = deployment(version, 1)
            await other.observer.is_now(copy.deepcopy(cluster.web))
        recorded = other.statuses()
        assert 0 < len(recorded) <= 6
        # What was left out is made good, by how it then is.
        if ends == "gone":
            cluster.web = None
            await other.observer.is_gone(WEB, "u-1")
        with anyio.fail_after(PATIENCE_S):
            while other.row is not None and other.row.resource_version != "1199":
                await anyio.lowlevel.checkpoint()
        assert (other.row is None) == (ends == "gone")
        assert len(other.statuses()) == len(recorded) + 1
        tasks.cancel_scope.cancel()


async def test_what_no_target_applied_is_not_recorded_whatever_a_server_says_of_it(watching: Watching) -> None:
    before = len(watching.told)
    for number in range(100):
        stray = deployment(2_000 + number, 1)
        stray["metadata"] |= {"name": f"stray-{number}", "uid": f"u-{number}"}
        await watching.observer.is_now(stray)
        await watching.observer.is_gone(key_of(stray), f"u-{number}")
    assert len(watching.told) == before


async def test_interruptions_of_such_a_server_are_recorded_only_so_often(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.engine.runtime.watching.paces.AT_ONCE", 5)
    other = Watching(watching.memory, Fickle(), Hall().room("team"))
    kind = await Fickle().kind("apps/v1", "Deployment")
    with anyio.move_on_after(0.2) as scope:
        while True:
            await other.observer.interrupted(kind, "it says so")
            await other.observer.resumed(kind)
    assert scope.cancelled_caught
    assert len(other.told) == 10
