"""One writer a cluster: who holds the Leases of the Flux controllers may write, and nobody else."""

import copy
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import anyio
import anyio.abc
import pytest

from tests.runtime.virtual_time import VIRTUAL_TIME
from tidelog.engine.cluster.errors import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknown,
    ServerError,
    UnreachableError,
)
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime import lease
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.lease import Leases, Timings

LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True)
CONTROLLERS = ("source-controller", "kustomize-controller")
TIMINGS = Timings()
NAMESPACE = "flux-system"
FIRST = "source-controller-leader-election"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


class Server:
    """Keeps Leases; may be out of order, or answer nothing."""

    def __init__(self) -> None:
        self.leases: dict[str, KubeObject] = {}
        self.version = 0
        self.problem: Callable[[], Exception] | None = None
        self.forgets_to_answer = False
        self.hangs = False
        self.answers_late = False
        self.labelled = 0
        """How often somebody labels a Lease between our look at it and our write."""
        self.fenced: Callable[[], None] | None = None

    async def _asked(self) -> None:
        if self.hangs:
            await anyio.sleep_forever()
        if self.problem is not None:
            raise self.problem()

    def fence(self, check: Callable[[], None] | None) -> None:
        self.fenced = check

    async def kind(self, api_version: str, kind: str) -> Kind:
        return LEASE

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        await self._asked()
        if name not in self.leases:
            raise NotFoundError(name)
        found = copy.deepcopy(self.leases[name])
        if self.labelled > 0:
            self.labelled -= 1
            self._keep(self.leases[name])
        return found

    async def create(self, obj: KubeObject, *, manager: str) -> KubeObject:
        await self._asked()
        if obj["metadata"]["name"] in self.leases:
            raise AlreadyExistsError(obj["metadata"]["name"])
        return self._keep(obj)

    async def replace(self, obj: KubeObject, *, manager: str) -> KubeObject:
        await self._asked()
        there = self.leases.get(obj["metadata"]["name"])
        if there is None:
            raise NotFoundError(obj["metadata"]["name"])
        if there["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise ConflictError("another version")
        kept = self._keep(obj)
        if self.answers_late:
            await anyio.sleep(1)
        return kept

    def _keep(self, obj: KubeObject) -> KubeObject:
        self.version += 1
        kept = copy.deepcopy(obj)
        kept["metadata"]["resourceVersion"] = str(self.version)
        self.leases[obj["metadata"]["name"]] = kept
        if self.forgets_to_answer:
            raise OutcomeUnknown("no answer came")
        return copy.deepcopy(kept)

    def holder(self, name: str = FIRST) -> str:
        return str(self.leases[name]["spec"]["holderIdentity"])

    def taken_by(self, holder: str, name: str = FIRST) -> None:
        """Another's write."""
        self._keep(
            {
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": 35, "renewTime": str(self.version)},
            }
        )


_numbers = itertools.count(1)


def leases_of(server: Server, controllers: tuple[str, ...] = CONTROLLERS) -> Leases:
    async def is_gone(name: str) -> bool:
        return name == "gone"

    identity = f"engine-{next(_numbers)}"
    return Leases.of(cast("Cluster", server), NAMESPACE, controllers, TIMINGS, identity=identity, is_gone=is_gone)


class Engine:
    """One that wants to write."""

    def __init__(self, server: Server, controllers: tuple[str, ...] = CONTROLLERS) -> None:
        self.leases = leases_of(server, controllers)
        self.writes = False
        self.since = 0.0
        self.until = 0.0
        self.waits_for: list[tuple[str, str]] = []

    async def run(self) -> None:
        await self.leases.hold(lambda lease, holder: self.waits_for.append((lease, holder)), self._work)

    async def _work(self) -> None:
        self.writes, self.since = True, anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            self.writes, self.until = False, anyio.current_time()


class World:
    """Engines that come and go."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.server = Server()
        self._tasks = tasks
        self.lost: list[LeaseLostError] = []

    def start(self, engine: Engine) -> anyio.CancelScope:
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                try:
                    await engine.run()
                except LeaseLostError as error:
                    self.lost.append(error)

        self._tasks.start_soon(run)
        return scope


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        yield World(tasks)
        tasks.cancel_scope.cancel()


async def test_the_first_writes_at_once_and_bears_the_names_and_times_of_flux(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(1)
    assert engine.writes
    assert sorted(world.server.leases) == [
        "kustomize-controller-leader-election",
        "source-controller-leader-election",
    ]
    spec = world.server.leases[FIRST]["spec"]
    assert spec["leaseDurationSeconds"] == 35
    assert (spec["holderIdentity"] != "", spec["leaseTransitions"]) == (True, 0)


async def test_the_second_waits_and_says_for_whom_and_takes_over_soon_after_the_first_lets_go(world: World) -> None:
    first, second = Engine(world.server), Engine(world.server)
    scope = world.start(first)
    await anyio.sleep(1)
    world.start(second)
    await anyio.sleep(1_000)
    assert (first.writes, second.writes) == (True, False)
    assert second.waits_for == [(FIRST, world.server.holder())]
    scope.cancel()
    await anyio.sleep(2 * TIMINGS.retry_period + 1)
    assert (first.writes, second.writes) == (False, True)
    assert world.server.leases[FIRST]["spec"]["leaseTransitions"] == 1


async def test_of_two_that_start_at_once_one_writes(world: World) -> None:
    engines = [Engine(world.server) for _ in range(3)]
    for engine in engines:
        world.start(engine)
    await anyio.sleep(1_000)
    assert [engine.writes for engine in engines].count(True) == 1


async def test_who_labels_a_lease_again_and_again_does_not_take_it(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(1)
    world.server._keep(world.server.leases[FIRST])
    world.server.labelled = 2
    await anyio.sleep(60)
    assert world.server.labelled == 0
    assert (engine.writes, world.lost) == (True, [])


async def test_who_died_is_followed_when_its_lease_has_not_changed_for_as_long_as_it_lasts(world: World) -> None:
    """By our own clock: the times that the dead wrote count for nothing."""
    world.server.taken_by("dead")
    world.server.leases[FIRST]["spec"]["renewTime"] = "2099-01-01T00:00:00.000000Z"
    engine = Engine(world.server)
    began = anyio.current_time()
    world.start(engine)
    await anyio.sleep(35)
    assert not engine.writes
    await anyio.sleep(11)
    assert engine.writes
    assert 35 <= engine.since - began <= 46


async def test_who_is_known_to_be_gone_is_followed_at_once(world: World) -> None:
    for controller in CONTROLLERS:
        world.server.taken_by("gone", f"{controller}-leader-election")
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(1)
    assert engine.writes
    assert engine.waits_for == []
    assert world.server.leases[FIRST]["spec"]["leaseTransitions"] == 1


async def test_all_leases_of_one_who_died_are_waited_for_at_once(world: World) -> None:
    for controller in CONTROLLERS:
        world.server.taken_by("dead", f"{controller}-leader-election")
    engine = Engine(world.server)
    began = anyio.current_time()
    world.start(engine)
    await anyio.sleep(100)
    assert engine.writes
    assert 35 <= engine.since - began <= 46


async def test_who_renews_is_never_followed(world: World) -> None:
    world.server.taken_by("flux")
    engine = Engine(world.server)
    world.start(engine)
    for _ in range(100):
        await anyio.sleep(10)
        world.server.taken_by("flux")
    assert not engine.writes
    assert engine.waits_for == [(FIRST, "flux")]


@pytest.mark.parametrize("how", ["an error", "silence"])
async def test_who_cannot_renew_stops_before_another_may_begin(world: World, how: str) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(101)
    renewed = anyio.current_time()
    if how == "silence":
        world.server.hangs = True
    else:
        world.server.problem = lambda: UnreachableError("no way there")
    await anyio.sleep(100)
    assert not engine.writes
    assert engine.until <= renewed + TIMINGS.renew_deadline < renewed + TIMINGS.duration
    assert "could not be renewed" in str(world.lost[0])


async def test_whose_host_was_suspended_writes_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock stood still meanwhile, and another may have begun."""
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(1)
    fence = world.server.fenced
    assert fence is not None
    fence()
    slept = lease.suspended_s() + TIMINGS.duration
    monkeypatch.setattr(lease, "suspended_s", lambda: slept)
    with pytest.raises(LeaseLostError, match="its host, stood still"):
        fence()
    await anyio.sleep(TIMINGS.retry_period)
    assert not engine.writes
    assert "its host, stood still" in str(world.lost[0])


async def test_who_is_stopped_in_the_midst_of_a_renewal_lets_go_all_the_same(world: World) -> None:
    scope = world.start(Engine(world.server))
    await anyio.sleep(TIMINGS.retry_period - 0.5)
    version, world.server.answers_late = world.server.version, True
    await anyio.sleep(1)
    assert world.server.version == version + len(CONTROLLERS), "both are written, and not yet answered"
    scope.cancel()
    await anyio.sleep(3)
    assert [world.server.holder(f"{controller}-leader-election") for controller in CONTROLLERS] == ["", ""]


async def test_a_server_that_is_away_for_a_while_costs_nothing(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(101)
    world.server.problem = lambda: ServerError("broken")
    await anyio.sleep(TIMINGS.renew_deadline - 2 * TIMINGS.retry_period)
    world.server.problem = None
    await anyio.sleep(1_000)
    assert engine.writes
    assert world.lost == []


async def test_a_renewal_of_which_no_answer_came_is_no_loss(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(101)
    world.server.forgets_to_answer = True
    await anyio.sleep(TIMINGS.retry_period + 1)
    world.server.forgets_to_answer = False
    await anyio.sleep(1_000)
    assert engine.writes


async def test_who_was_robbed_stops(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(101)
    world.server.taken_by("robber")
    await anyio.sleep(TIMINGS.retry_period + 1)
    assert not engine.writes
    assert "was taken by robber" in str(world.lost[0])
    assert world.server.holder() == "robber", "what is another's is not let go of"


async def test_a_lease_that_somebody_else_labelled_is_still_ours(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(101)
    there = world.server.leases[FIRST]
    world.server._keep(there | {"metadata": there["metadata"] | {"labels": {"a": "b"}}})
    await anyio.sleep(100)
    assert engine.writes
    assert world.server.leases[FIRST]["metadata"]["labels"] == {"a": "b"}


async def test_a_lease_that_somebody_deleted_is_made_again(world: World) -> None:
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(101)
    del world.server.leases[FIRST]
    await anyio.sleep(TIMINGS.retry_period + 1)
    assert engine.writes
    assert world.server.holder() == world.server.holder("kustomize-controller-leader-election")


async def test_the_first_lease_is_kept_while_the_second_is_waited_for(world: World) -> None:
    """Flux's kustomize-controller runs, its source-controller does not."""
    other = "kustomize-controller-leader-election"
    world.server.taken_by("flux", other)
    engine, rival = Engine(world.server), Engine(world.server, ("source-controller",))
    world.start(engine)
    await anyio.sleep(1)
    world.start(rival)
    for _ in range(30):
        await anyio.sleep(10)
        world.server.taken_by("flux", other)
    assert not rival.writes
    assert not engine.writes
    await anyio.sleep(100)
    assert engine.writes


async def test_a_server_that_is_away_does_not_end_the_waiting(world: World) -> None:
    world.server.problem = lambda: UnreachableError("no way there")
    engine = Engine(world.server)
    world.start(engine)
    await anyio.sleep(1_000)
    assert not engine.writes
    world.server.problem = None
    await anyio.sleep(TIMINGS.retry_period + 1)
    assert engine.writes


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ForbiddenError("you may not"), "you may not"),
        (NotFoundError("no such namespace"), "there is no namespace flux-system, .*: `tidelog install` makes it"),
    ],
)
async def test_what_waiting_does_not_mend_is_an_error(error: ClusterError, words: str) -> None:
    server = Server()

    async def refused(obj: KubeObject, *, manager: str) -> KubeObject:
        raise error

    server.create = refused  # type: ignore[method-assign]
    with pytest.raises(type(error), match=words):
        await Engine(server).run()


async def test_an_error_of_the_work_is_raised_as_it_is_and_the_leases_are_let_go_of() -> None:
    server = Server()

    async def work() -> None:
        raise RuntimeError("a defect")

    leases = leases_of(server)
    with pytest.raises(RuntimeError, match="a defect"):
        await leases.hold(lambda lease, holder: None, work)
    assert [server.holder(name) for name in server.leases] == ["", ""]


def test_each_shard_has_leases_of_its_own() -> None:
    cluster = cast("Cluster", Server())
    names = {
        shard: [
            lease.name for lease in Leases.of(cluster, NAMESPACE, CONTROLLERS, TIMINGS, shard, identity="one")._leases
        ]
        for shard in ("", "sharding.fluxcd.io/key=a", "sharding.fluxcd.io/key=b")
    }
    assert names[""] == [f"{controller}-leader-election" for controller in CONTROLLERS]
    assert len({tuple(each) for each in names.values()}) == 3
