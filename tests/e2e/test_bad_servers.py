"""API servers that are slow, refuse, lose answers, drop watches or restart: it all ends as it should."""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.world import KUSTOMIZE, LIMIT_S, World, config_map, documents, failed
from tests.servers.faulty_api import Asked, Delay, Fault, FaultyApi, Says, Status, faulty_api
from tests.servers.fixtures import new_namespace
from tests.servers.git_server import GitServer
from tests.servers.kubernetes_servers import ETCD, OwnServers
from tidelog.engine.cli.serve import install_kinds
from tidelog.engine.cluster.port import Kind, Listing
from tidelog.engine.cluster.real import open_cluster
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    DriftDetected,
    ObjectPruned,
    ObservationInterrupted,
    SourceRemoved,
    StageFailed,
    TargetRemoved,
)

TARGETS = 5
EACH = 4
RETRY = "1s"


@pytest.fixture
async def api(world: World, tmp_path: Path) -> AsyncIterator[FaultyApi]:
    """A proxy that the daemon goes through; the test itself does not."""
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as proxy:
        yield proxy


def fleet(value: str, each: int = EACH) -> dict[str, str]:
    return {
        f"t{n}/all.yaml": documents(*(config_map(f"t{n}-{m}", value=value) for m in range(each)))
        for n in range(TARGETS)
    }


async def targets(world: World) -> None:
    await world.source(interval="1h")
    for n in range(TARGETS):
        await world.target(f"t{n}", f"./t{n}", targetNamespace=world.namespace, retryInterval=RETRY)


async def is_as(world: World, value: str, each: int = EACH) -> None:
    """Every target has applied its objects, and they are there."""
    await world.until_applied(*(f"t{n}" for n in range(TARGETS)))
    found = await world.cluster.list(await world.cluster.kind("v1", "ConfigMap"), namespace=world.namespace)
    there = {
        item["metadata"]["name"]: item["data"]["value"] for item in found.items if item["metadata"]["name"][0] == "t"
    }
    assert there == {f"t{n}-{m}": value for n in range(TARGETS) for m in range(each)}


def some(share: float, fault: Fault, seed: int, *, writes_only: bool = False):  # type: ignore[no-untyped-def]
    chance = random.Random(seed)

    def choose(asked: Asked) -> Fault:
        if writes_only and not asked.writes:
            return None
        return fault if chance.random() < share else None

    return choose


FAULTS: dict[str, tuple[float, Fault, bool]] = {
    "slow": (1.0, Delay(0.05), False),
    "429": (0.3, Status(429, "TooManyRequests", retry_after_s=1), False),
    "429-without-a-time": (0.2, Status(429, "TooManyRequests"), False),
    "409": (0.3, Status(409, "Conflict"), True),
    "500": (0.2, Status(500, "InternalError"), False),
    "503": (0.2, Status(503, "ServiceUnavailable"), False),
    "connections-refused": (0.2, "drop before", False),
    "answers-lost": (0.3, "drop after", True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
async def test_a_server_with_bad_days_is_lived_with(world: World, api: FaultyApi, name: str, seed: int) -> None:
    share, fault, writes_only = FAULTS[name]
    world.commit(fleet("1"))
    await targets(world)
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        api.fault = some(share, fault, seed, writes_only=writes_only)
        await world.ask()
        await is_as(world, "1")
        await world.push(fleet("2"))
        await is_as(world, "2")
        assert not running.events(ObjectPruned), "nothing is pruned for want of an answer"
        await world.push(fleet("2", each=EACH - 1))
        await is_as(world, "2", each=EACH - 1)
        api.fault = lambda _: None
        started = [event.plan for event in running.events(ApplyStarted)]  # type: ignore[attr-defined]
        closed = [event.plan for event in running.events(ApplyFinished, ApplyFailed)]  # type: ignore[attr-defined]
        assert len(started) == len(set(started)), "no plan is applied twice"
        assert sorted(started) == sorted(closed)
    assert api.faults


async def test_an_apply_that_the_server_cut_short_goes_on_as_soon_as_it_answers(world: World, api: FaultyApi) -> None:
    """And not after the retry interval, an hour here: nothing is wrong with what is applied."""
    world.commit({"app/all.yaml": documents(config_map("a"), config_map("b"))})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace, retryInterval="1h")
    api.fault = lambda asked: "drop before" if asked.writes and asked.path.endswith("/configmaps/b") else None
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await running.until_event(ApplyFailed)
        api.fault = lambda _: None
        await world.until_applied("app")


TRIES_MAX = 10
NO_ANSWERS: dict[str, tuple[Fault, str]] = {
    "429": (Status(429, "TooManyRequests"), "(TooManyRequests)"),
    "409": (Status(409, "Conflict"), "409"),
    "500": (Status(500, "InternalError"), "(InternalError)"),
    "connection": ("drop before", ""),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
@pytest.mark.parametrize("dry", [True, False], ids=["asked", "written"])
async def test_a_server_that_does_not_answer_about_an_object_is_told_with_its_place_and_asked_again(
    world: World, api: FaultyApi, name: str, dry: bool
) -> None:
    fault, words = NO_ANSWERS[name]
    world.commit({"app/a.yaml": config_map("a", n="1"), "app/b.yaml": "# the second\n" + config_map("b", n="1")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace, retryInterval=RETRY)
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await world.until_applied("app")
        good = world.revision

        def broken(asked: Asked) -> Fault:
            return fault if asked.path.endswith("/configmaps/b") and (asked.dry_run if dry else asked.writes) else None

        api.fault = broken
        await world.push({"app/b.yaml": "# the second\n" + config_map("b", n="2")})
        said = (words, "b", "(in app/b.yaml:2)")
        # Who says that an object has changed has the plan made again.
        reason = "PlanVoid" if name == "409" and not dry else "ReconciliationFailed"
        obj = await world.until_target("app", failed(reason, *said), f"failed with {said}")
        assert obj["status"]["lastAppliedRevision"] == good
        await world.until_told("app", reason, *said)
        assert len(running.events(ApplyStarted)) < TRIES_MAX, "it waits longer and longer"
        assert await world.data("a") == {"n": "1"}
        assert await world.data("b") == {"n": "1"}
        api.fault = lambda _: None
        await world.until_applied("app")
        assert await world.data("b") == {"n": "2"}
        assert not running.events(ObjectPruned)


async def test_a_server_that_asks_for_an_hour_of_quiet_holds_no_worker(world: World, api: FaultyApi) -> None:
    """It asks that of one target; the others go on meanwhile, also where there is one worker for all."""
    world.commit({"busy/all.yaml": config_map("busy"), "other/all.yaml": config_map("other")})
    await world.source()
    quiet = Status(429, "TooManyRequests", retry_after_s=3600)

    def told(failed: StageFailed) -> bool:
        return "it asks to be left alone for 3600 s" in failed.message

    api.fault = lambda asked: quiet if asked.path.endswith("/configmaps/busy") else None
    async with world.daemon(kubeconfig=api.kubeconfig, concurrent=1) as running:
        await world.target("busy", "./busy", targetNamespace=world.namespace)
        await running.until_event(StageFailed, stream=running.target("busy"), where=told)
        await world.target("other", "./other", targetNamespace=world.namespace)
        with anyio.fail_after(LIMIT_S / 2):
            await world.until_applied("other")
        api.fault = lambda _: None
        await world.ask("Kustomization", "busy")
        await world.until_applied("busy")


async def test_watches_that_are_dropped_are_taken_up_again(world: World, api: FaultyApi) -> None:
    world.commit(fleet("1"))
    await targets(world)
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await is_as(world, "1")
        for n in range(3):
            await running.idle()
            seen = len(running.recorded)
            with anyio.fail_after(LIMIT_S):
                await api.watched(3)
            api.drop_watches()
            await world.patch("v1", "ConfigMap", f"t{n}-0", {"data": {"value": "by hand"}}, manager="mallory")
            await running.until_event(DriftDetected, after=seen)
            await world.until_data(f"t{n}-0", {"value": "1"})
        # New commits and new targets are seen too.
        api.drop_watches()
        await world.push(fleet("2"))
        await is_as(world, "2")


async def test_a_gap_in_what_was_seen_is_recorded(world: World, api: FaultyApi) -> None:
    world.commit(fleet("1"))
    await targets(world)
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await is_as(world, "1")
        await running.idle()
        seen = len(running.recorded)
        api.fault = lambda _: "drop before"
        api.drop_watches()
        await running.until_event(ObservationInterrupted, after=seen)
        await world.delete("v1", "ConfigMap", "t0-0")
        await world.patch("v1", "ConfigMap", "t1-0", {"data": {"value": "by hand"}}, manager="mallory")
        api.fault = lambda _: None
        await world.until_data("t0-0", {"value": "1"})
        await world.until_data("t1-0", {"value": "1"})
        await is_as(world, "1")


# ------------------------------------------------------------------------------------------- servers of one's own


@pytest.fixture
def own_namespace(own_servers: OwnServers) -> Iterator[str]:
    with new_namespace(own_servers) as name:
        yield name


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_server_that_restarts_in_the_midst_is_waited_for(
    own_servers: OwnServers, own_namespace: str, git_host: GitServer, tmp_path: Path, how: str
) -> None:
    async with open_cluster(own_servers.kubeconfig) as cluster:
        await install_kinds(cluster)
        world = World(own_servers, own_namespace, cluster, git_host, tmp_path)
        world.commit(fleet("1"))
        async with world.daemon() as running:
            await targets(world)
            await running.until_event(ApplyStarted)
            await anyio.to_thread.run_sync(own_servers.kill if how == "kill" else own_servers.stop)
            await anyio.to_thread.run_sync(own_servers.start)
            await is_as(world, "1")
            await running.idle()
            # With nothing under way; what changes meanwhile is found.
            await world.patch("v1", "ConfigMap", "t1-0", {"data": {"value": "by hand"}}, manager="mallory")
            await anyio.to_thread.run_sync(own_servers.kill)
            world.change(fleet("2"))
            await anyio.to_thread.run_sync(own_servers.start)
            await world.ask()
            await is_as(world, "2")
            # Nor does the loss of what is behind the API server.
            await anyio.to_thread.run_sync(own_servers.kill, ETCD)
            await anyio.to_thread.run_sync(own_servers.start, ETCD)
            await world.push(fleet("3"))
            with anyio.fail_after(LIMIT_S):
                await is_as(world, "3")
            assert not running.events(ObjectPruned)
            started = [event.plan for event in running.events(ApplyStarted)]  # type: ignore[attr-defined]
            assert len(started) == len(set(started))


async def test_a_target_that_a_list_leaves_out_is_not_taken_for_deleted(world: World) -> None:
    async with world.daemon():
        world.commit({"app/a.yaml": config_map("a", n="1"), "gone/a.yaml": config_map("b")})
        await world.source()
        for name in ("app", "gone"):
            await world.target(name, f"./{name}", targetNamespace=world.namespace, deletionPolicy="Orphan")
        await world.until_applied("app", "gone")
    await world.patch(KUSTOMIZE, "Kustomization", "gone", {"metadata": {"finalizers": None}})
    await world.delete(KUSTOMIZE, "Kustomization", "gone")
    async with open_cluster(world.kubeconfig) as own:
        whole = own.pages

        async def short(kind: Kind, *, fields: str = "", **how: Any) -> AsyncGenerator[Listing, None]:
            async with aclosing(whole(kind, fields=fields, **how)) as pages:
                async for page in pages:
                    is_cut = kind.kind in ("Kustomization", "GitRepository") and not fields
                    yield Listing([], page.resource_version) if is_cut else page

        own.pages = short  # type: ignore[method-assign]
        async with world.daemon(cluster=own) as running:
            assert running.events(TargetRemoved, stream=running.target("app")) == []
            await running.until_event(TargetRemoved, stream=running.target("gone"))
            await world.push({"app/a.yaml": config_map("a", n="2")})
            await world.until_applied("app")
            assert running.events(SourceRemoved) == []
    assert await world.data("a") == {"n": "2"}


_LISTS = {
    "list": '{"metadata":{"resourceVersion":"1"},"items":[{}]}',
    "list without uids": '{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"b","namespace":"n"}}]}',
}
_A_BARE_CHANGE = '{"type":"ADDED","object":{}}\n'


@pytest.mark.parametrize("where", [*_LISTS, "watch", "dry run", "write", "write of another"])
async def test_a_success_that_holds_no_object_is_no_answer(world: World, api: FaultyApi, where: str) -> None:
    """The daemon stays, says what it got, prunes nothing, and goes on once the answers are right."""
    world.commit({"app/all.yaml": documents(config_map("a", n="1"), config_map("b", n="1"))})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace, retryInterval=RETRY)
    another = '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","uid":"1","resourceVersion":"1"}}'

    def broken(asked: Asked) -> Fault:
        listed = asked.path.endswith("/configmaps")
        named = asked.path.endswith("/configmaps/b")
        if where in _LISTS and listed and asked.method == "GET":
            return Status(410, "Expired") if asked.watch else Says(_LISTS[where])
        if where == "watch" and listed and asked.watch:
            return Says(_A_BARE_CHANGE)
        if where == "dry run" and named and asked.dry_run:
            return Says("{}")
        if named and asked.writes and where.startswith("write"):
            return Says(another if where.endswith("another") else "{}")
        return None

    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await world.until_applied("app")
        api.fault = broken
        api.drop_watches()
        await world.push({"app/all.yaml": documents(config_map("a", n="2"), config_map("b", n="2"))})
        if where == "watch" or where in _LISTS:
            await running.until_event(ObservationInterrupted)
        else:
            await world.until_target(
                "app", failed("ReconciliationFailed", "is there a proxy in between"), "failed with what it got"
            )
        api.fault = lambda _: None
        await world.ask("Kustomization", "app")
        await world.until_applied("app")
        assert await world.data("b") == {"n": "2"}
        assert not running.events(ObjectPruned)
