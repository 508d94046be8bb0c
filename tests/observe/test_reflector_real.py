"""The reflector on a real API server."""

import random
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest

from tests.servers.kubernetes_servers import API_SERVER, OwnServers, Servers
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.reflector import Pace, Reflector
from tidelog.events.names import ObjectKey

QUICK = Pace(retry_min_s=0.05, retry_max_s=0.5)
PATIENCE_S = 60.0
OWNED = "app.example.com/owner=us"


class Model:
    """A handler that believes what it is told, and refuses to be told twice."""

    def __init__(self) -> None:
        self.objects: dict[str, KubeObject] = {}
        self.told: list[str] = []
        self._heard = anyio.Event()

    async def changed(self, obj: KubeObject) -> None:
        assert (obj["apiVersion"], obj["kind"]) == ("v1", "ConfigMap")
        name, version = obj["metadata"]["name"], obj["metadata"]["resourceVersion"]
        assert name not in self.objects or int(self.objects[name]["metadata"]["resourceVersion"]) < int(version)
        self.objects[name] = obj
        self._hear(f"{name} changed")

    async def gone(self, key: ObjectKey, uid: str) -> None:
        assert self.objects.pop(key.name)["metadata"]["uid"] == uid
        self._hear(f"{key.name} gone")

    async def interrupted(self, why: str) -> None:
        assert why
        self._hear("interrupted")

    async def resumed(self) -> None:
        self._hear("resumed")

    def _hear(self, what: str) -> None:
        self.told.append(what)
        self._heard.set()
        self._heard = anyio.Event()

    async def until(self, what: str, times: int = 1) -> None:
        with anyio.fail_after(PATIENCE_S):
            while self.told.count(what) < times:
                await self._heard.wait()

    async def until_data(self, wanted: dict[str, str]) -> None:
        with anyio.fail_after(PATIENCE_S):
            while {name: obj["data"]["n"] for name, obj in self.objects.items()} != wanted:
                await self._heard.wait()


@pytest.fixture
async def cluster(kubernetes: Servers) -> AsyncIterator[Cluster]:
    async with open_cluster(kubernetes.kubeconfig) as cluster:
        yield cluster


def config_map(namespace: str, name: str, n: int, **labels: str) -> KubeObject:
    labels = labels or {"app.example.com/owner": "us"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"n": str(n)}}


async def kind_of(cluster: Cluster) -> Kind:
    return await cluster.kind("v1", "ConfigMap")


async def test_what_is_there_and_what_changes_is_told(cluster: Cluster, namespace: str) -> None:
    kind, model = await kind_of(cluster), Model()
    await cluster.create(config_map(namespace, "a", 1), manager="test")
    async with anyio.create_task_group() as group:
        reflector = Reflector(cluster, kind, namespace=namespace, labels=OWNED, pace=QUICK)
        group.start_soon(reflector.run, model)
        await model.until("resumed")
        await cluster.apply(config_map(namespace, "b", 1), manager="test")
        await cluster.apply(config_map(namespace, "a", 2), manager="test")
        await model.until_data({"a": "2", "b": "1"})
        await cluster.delete(kind, namespace, "b")
        await model.until("b gone")
        group.cancel_scope.cancel()
    assert model.told == ["a changed", "resumed", "b changed", "a changed", "b gone"]


async def test_an_object_that_loses_its_labels_is_a_change_and_no_deletion(cluster: Cluster, namespace: str) -> None:
    kind, model = await kind_of(cluster), Model()
    await cluster.apply(config_map(namespace, "a", 1), manager="test")
    async with anyio.create_task_group() as group:
        reflector = Reflector(cluster, kind, namespace=namespace, labels=OWNED, pace=QUICK)
        group.start_soon(reflector.run, model)
        await model.until("resumed")
        await cluster.apply(config_map(namespace, "a", 2, other="x"), manager="test")
        await model.until_data({"a": "2"})
        assert model.objects["a"]["metadata"]["labels"] == {"other": "x"}
        await cluster.apply(config_map(namespace, "a", 3), manager="test")
        await model.until_data({"a": "3"})
        group.cancel_scope.cancel()
    assert "a gone" not in model.told


async def test_one_object_is_watched_by_its_name(cluster: Cluster, namespace: str) -> None:
    kind, model = await kind_of(cluster), Model()
    async with anyio.create_task_group() as group:
        reflector = Reflector(cluster, kind, namespace=namespace, fields="metadata.name=b", pace=QUICK)
        group.start_soon(reflector.run, model)
        await model.until("resumed")
        for name in "abc":
            await cluster.apply(config_map(namespace, name, 1), manager="test")
        await model.until("b changed")
        await cluster.delete(kind, namespace, "b")
        await model.until("b gone")
        group.cancel_scope.cancel()
    assert model.told == ["resumed", "b changed", "b gone"]


@pytest.mark.slow
async def test_a_server_that_is_killed_is_a_gap_and_all_that_happened_is_known_after_it(
    own_servers: OwnServers, seed: int
) -> None:
    chance, truth, model = random.Random(seed), dict[str, str](), Model()
    async with open_cluster(own_servers.kubeconfig) as cluster:
        kind = await kind_of(cluster)

        async def change(steps: int) -> None:
            for n in range(steps):
                name = f"m-{chance.randrange(8)}"
                if name in truth and chance.random() < 0.3:
                    await cluster.delete(kind, "default", name)
                    del truth[name]
                else:
                    await cluster.apply(config_map("default", name, n), manager="test")
                    truth[name] = str(n)

        await change(20)
        async with anyio.create_task_group() as group:
            group.start_soon(Reflector(cluster, kind, namespace="default", labels=OWNED, pace=QUICK).run, model)
            await model.until("resumed")
            await change(20)
            await model.until_data(truth)
            await anyio.to_thread.run_sync(own_servers.kill, API_SERVER)
            await model.until("interrupted")
            await anyio.to_thread.run_sync(own_servers.start, API_SERVER)
            await change(20)
            await model.until("resumed", times=2)
            await model.until_data(truth)
            group.cancel_scope.cancel()
    assert model.told.count("interrupted") == 1
