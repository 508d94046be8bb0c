"""Which cluster a target is applied to: told apart, believed within a namespace, kept while it is used."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from tests.runtime.targets import target
from tests.servers import embedded_servers
from tests.servers.embedded_servers import EmbeddedServers
from tidelog.engine.cluster.errors import ForbiddenError, KubeconfigError, UnreachableError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.cluster.remote import IdentityGateError, NoKubeconfigError
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.room import Room
from tidelog.engine.runtime.binding import uid_of
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.sites import Site, Sites, Watching
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.names import ObjectKey, StreamName, cluster_of, engine_stream
from tidelog.events.vocabulary import ClusterBound, TargetMoved
from tidelog.storage import Query, open_log, open_views

HOME = "east"
MASTERS = ("system:masters",)
MAP: KubeObject = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}


def there(name: str, namespace: str, secret: str = "there") -> DeclaredKustomization:
    """A Kustomization that is applied by the kubeconfig of a Secret."""
    return target(name, namespace, kubeConfig={"secretRef": {"name": secret}})


class World:
    """Sites, whose Secrets are `secrets`, and whose watches only say that they were begun and ended."""

    def __init__(self, memory: Memory, home: Cluster) -> None:
        self.memory = memory
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.watched: list[str] = []
        self.clusters: dict[str, Cluster] = {}
        self.told: list[str] = []
        self.problem: Exception | None = None
        self.problem_at_once = False
        me: Any = self
        parts = SimpleNamespace(observer=None, records=None, inputs=self, run=self._run_home)
        watching = cast("Watching", parts)
        site = Site(HOME, home, watching)
        stream = engine_stream(memory.log.identity.log)
        self.sites = Sites(site, watching, memory, stream, Settings(), me._watching_of, lambda _: False)

    async def _run_home(self, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    def _watching_of(self, alias: str, cluster: Cluster, _: Room) -> Watching:
        self.clusters[alias] = cluster

        async def run(task_status: Any) -> None:
            self.watched.append(alias)
            if not self.problem_at_once:
                task_status.started()
            try:
                if self.problem is not None:
                    raise self.problem
                await anyio.sleep_forever()
            finally:
                self.watched.remove(alias)

        async def rest(why: str) -> None:
            self.told.append(f"{alias}: {why}")

        observer = SimpleNamespace(rest=rest)
        inputs = SimpleNamespace(release=lambda _: None)
        return cast("Watching", SimpleNamespace(observer=observer, records=None, inputs=inputs, run=run))

    async def get(self, _: StreamName, key: ObjectKey) -> KubeObject | None:
        content = self.secrets.get((key.namespace, key.name))
        return None if content is None else {"data": {"value": base64.b64encode(content).decode()}}

    async def of(self, declared: DeclaredKustomization) -> Site:
        return await self.sites.of(declared, SecretValues())

    async def beside(self, alias: str, *targets: DeclaredKustomization) -> tuple[list[str], list[str]]:
        """The names of those that are applied to a cluster, and of those that may come to be."""
        found = await self.sites.beside(alias, {one.stream: one for one in targets})
        return tuple(sorted(one.key.name for one in some.values()) for some in (found.here, found.unsettled))  # type: ignore[return-value]

    async def give(self, name: str, content: bytes) -> None:
        """A Secret with a kubeconfig, of namespace `default`, as the engine's own cluster has it."""
        self.secrets["default", name] = content
        data = {"value": base64.b64encode(content).decode()}
        metadata = {"name": name, "namespace": "default"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        await self.sites.home.cluster.apply(secret, manager="test")

    async def bound(self) -> dict[str, str]:
        """What the log says of aliases."""
        events = [one.event async for one in self.memory.log.read(Query(types=("ClusterBound",)))]
        return {one.alias: one.uid for one in events if isinstance(one, ClusterBound)}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    with embedded_servers.start(tmp_path / "there") as running:
        yield running


@pytest.fixture
def third(tmp_path: Path) -> Iterator[EmbeddedServers]:
    with embedded_servers.start(tmp_path / "third") as running:
        yield running


@asynccontextmanager
async def running(servers: EmbeddedServers, directory: Path) -> AsyncIterator[World]:
    """Sites at work; the engine's own cluster is the same as the other one, so that nothing but names tells them."""
    async with (
        open_log(directory / "store") as log,
        open_views(log) as views,
        open_cluster(servers.kubeconfig) as home,
        anyio.create_task_group() as tasks,
    ):
        memory = Memory(log)
        await memory.load(views)
        world = World(memory, home)
        await tasks.start(world.sites.run)
        yield world
        tasks.cancel_scope.cancel()


@pytest.fixture
async def world(servers: EmbeddedServers, tmp_path: Path) -> AsyncIterator[World]:
    async with running(servers, tmp_path) as world:
        yield world


def by(servers: EmbeddedServers, user: str) -> bytes:
    return servers.kubeconfig_of(user, MASTERS).read_bytes()


async def test_without_a_kubeconfig_it_is_the_engines_own(world: World) -> None:
    assert await world.of(target()) is world.sites.home
    assert world.sites.known_of(StreamName(f"{HOME}/a/b/c/d")) == HOME


async def test_what_a_server_says_of_itself_counts_in_one_namespace_only(
    world: World, servers: EmbeddedServers
) -> None:
    """Whoever can write a Secret can have any server say that it is this cluster, or another tenant's."""
    uid = await uid_of(world.sites.home.cluster)
    for namespace in ("a", "b"):
        world.secrets[namespace, "there"] = by(servers, namespace)
    sites = [await world.of(there("app", namespace)) for namespace in ("a", "b")]
    assert [site.alias for site in sites] == [f"a.{uid[:8]}", f"b.{uid[:8]}"]
    assert await world.bound() == {f"a.{uid[:8]}": uid, f"b.{uid[:8]}": uid}


async def test_the_same_cluster_by_another_secret_is_the_same(world: World, servers: EmbeddedServers) -> None:
    world.secrets["a", "one"], world.secrets["a", "two"] = by(servers, "one"), by(servers, "two")
    one, two = await world.of(there("x", "a", "one")), await world.of(there("y", "a", "two"))
    assert one.alias == two.alias
    assert one.cluster is not two.cluster  # each asks as its own Secret says
    assert world.watched == [one.alias]
    # Whoever goes, who watches goes on by the other.
    await world.sites.forget(there("x", "a").stream)
    await world.clusters[one.alias].version()
    assert world.watched == [one.alias]
    with pytest.raises(UnreachableError, match="was closed"):
        await one.cluster.version()
    await world.sites.forget(there("y", "a").stream)
    with pytest.raises(UnreachableError, match="no kubeconfig"):
        await world.clusters[one.alias].version()
    assert world.told == [f"{one.alias}: no target uses its kubeconfig any more"]
    with anyio.fail_after(5):
        while world.watched:
            await anyio.lowlevel.checkpoint()


async def test_an_alias_that_is_another_clusters_is_not_taken(world: World, servers: EmbeddedServers) -> None:
    uid = await uid_of(world.sites.home.cluster)
    stream = engine_stream(world.memory.log.identity.log)
    await world.memory.append(stream, [ClusterBound(alias=f"a.{uid[:8]}", uid=f"{uid[:8]}-other")], Origin())
    world.secrets["a", "there"] = by(servers, "hub")
    assert (await world.of(there("app", "a"))).alias == f"a.{uid}"


async def test_targets_share_a_connection_and_changed_credentials_are_another(
    world: World, servers: EmbeddedServers
) -> None:
    world.secrets["a", "there"] = by(servers, "first")
    one, two = await world.of(there("x", "a")), await world.of(there("y", "a"))
    assert one is two is await world.of(there("x", "a"))
    world.secrets["a", "there"] = by(servers, "second")
    new = await world.of(there("x", "a"))
    assert (new.alias, new is one) == (one.alias, False)
    await one.cluster.version()  # the other target's pass may be at work
    assert await world.of(there("y", "a")) is new
    with pytest.raises(UnreachableError, match="was closed"):
        await one.cluster.version()
    assert world.watched == [one.alias]


async def test_nothing_is_written_anywhere_once_a_lease_is_lost(world: World, servers: EmbeddedServers) -> None:
    def lost() -> None:
        raise LeaseLostError("gone")

    world.secrets["a", "there"] = by(servers, "hub")
    before = await world.of(there("x", "a"))
    world.sites.fence(lost)
    world.secrets["a", "there"] = by(servers, "later")
    after = await world.of(there("y", "a"))
    for cluster in (before.cluster, after.cluster, world.sites.home.cluster):
        with pytest.raises(LeaseLostError):
            await cluster.apply(MAP, manager="test")
    world.sites.fence(None)
    await after.cluster.apply(MAP, manager="test")


async def test_what_keeps_one_from_getting_there_is_told_to_all_at_once(world: World, servers: EmbeddedServers) -> None:
    with pytest.raises(NoKubeconfigError, match="Secret a/there is not there"):
        await world.of(there("x", "a"))
    world.secrets["a", "there"] = b"- nothing"
    with pytest.raises(KubeconfigError, match="Secret a/there"):
        await world.of(there("x", "a"))
    world.secrets["a", "there"] = servers.kubeconfig_of("nobody").read_bytes()
    for name in ("x", "y", "z"):
        with pytest.raises(ForbiddenError, match="the kubeconfig of Secret a/there"):
            await world.of(there(name, "a"))
    assert len([one for one in servers.audited("nobody") if one["objectRef"].get("name") == "kube-system"]) <= 1
    with pytest.raises(IdentityGateError, match="configMapRef"):
        await world.of(target(kubeConfig={"configMapRef": {"name": "a"}}))


async def test_a_watch_that_fails_as_nobody_expects_is_its_own(world: World, servers: EmbeddedServers) -> None:
    world.problem = KeyError("uid")
    world.secrets["a", "there"] = by(servers, "hub")
    site = await world.of(there("x", "a"))
    with anyio.fail_after(5):
        while not world.told:
            await anyio.lowlevel.checkpoint()
    assert world.told == [f"{site.alias}: a defect of the engine: KeyError"]
    await site.cluster.version()
    assert cluster_of(StreamName(f"{site.alias}/core/ConfigMap/a/b")) == site.alias


async def test_a_watch_that_cannot_even_begin_holds_no_target_up(world: World, servers: EmbeddedServers) -> None:
    world.problem, world.problem_at_once = KeyError("uid"), True
    world.secrets["a", "there"] = by(servers, "hub")
    with anyio.fail_after(20):
        sites = [await world.of(there(name, "a")) for name in ("x", "y")]
    assert sites[0] is sites[1]
    assert world.told == [f"{sites[0].alias}: a defect of the engine: KeyError"]


async def test_one_namespace_cannot_take_all_connections(
    world: World, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.engine.runtime.sites.SERVERS_MAX", 4)
    for name in ("one", "two", "three"):
        for namespace in ("a", "b"):
            world.secrets[namespace, name] = by(servers, name)
    await world.of(there("x", "a", "one"))
    await world.of(there("y", "a", "two"))
    with pytest.raises(KubeconfigError, match="namespace a has its share of the 4"):
        await world.of(there("z", "a", "three"))
    await world.of(there("x", "b", "one"))
    # Changed credentials take the place of the old ones, however little room there is.
    world.secrets["a", "one"] = by(servers, "changed")
    await world.of(there("x", "a", "one"))


async def test_who_has_not_come_there_yet_is_known_by_where_his_kubeconfig_leads(
    world: World, servers: EmbeddedServers, third: EmbeddedServers
) -> None:
    await world.give("there", by(servers, "one"))
    await world.give("too", by(servers, "two"))
    alias = (await world.of(there("reached", "default"))).alias
    reached, late = there("reached", "default"), there("late", "default", "too")
    others = target("here", "default"), there("late", "elsewhere", "too")
    assert await world.beside(alias, reached, late, *others) == (["late", "reached"], [])
    assert await world.beside(HOME, reached, late, *others) == (["here"], [])
    await world.give("too", by(third, "hub"))
    assert await world.beside(alias, reached, late) == (["reached"], [])
    # Nobody goes by it: to know where it leads, nothing is kept open.
    assert world.watched == [alias]


async def test_where_a_kubeconfig_may_yet_lead_is_waited_for_and_not_for_ever(
    world: World, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.give("there", by(servers, "one"))
    alias = (await world.of(there("reached", "default"))).alias
    late = there("late", "default", "too")
    assert await world.beside(alias, late) == ([], ["late"])
    silent = json.loads(by(servers, "two"))
    silent["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    await world.give("too", json.dumps(silent).encode())
    assert await world.beside(alias, late) == ([], ["late"])
    monkeypatch.setattr("tidelog.engine.runtime.leads.PATIENCE_S", 0.0)
    assert await world.beside(alias, late) == ([], [])
    monkeypatch.undo()
    monkeypatch.setattr("tidelog.engine.runtime.sites.FAILED_S", 0.0)
    # Where the log knows that it was there before, it is taken to be so until something else is known.
    await world.memory.append(late.stream, [TargetMoved(cluster=alias)], Origin())
    assert await world.beside(alias, late) == (["late"], [])
    await world.memory.append(late.stream, [TargetMoved(cluster="default.another")], Origin())
    assert await world.beside(alias, late) == ([], [])
    await world.give("too", by(servers, "two"))
    assert await world.beside(alias, late) == (["late"], [])
