"""Forks of the embedded cluster: two clusters that share what was, and nothing that comes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tidelog.engine.cluster.embedded.cluster import EmbeddedCluster, open_embedded
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.standins import Pace
from tidelog.engine.cluster.embedded.tokens import AUDIENCE
from tidelog.engine.cluster.errors import ForbiddenError, GoneError, UnknownKindError
from tidelog.engine.cluster.real import RealCluster
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.objects.kube import KubeObject

WAIT_S = 10.0
MANAGER = "test"


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    async with Evaluator() as judge, open_embedded(judge, pace=Pace(0.0)) as opened:
        yield opened


def config(name: str, **data: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def workload(name: str, replicas: int = 1) -> KubeObject:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


DEFINITION: KubeObject = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}
THING: KubeObject = {
    "apiVersion": "example.com/v1",
    "kind": "Thing",
    "metadata": {"name": "one", "namespace": "default"},
}


async def maps(client: RealCluster) -> dict[str, Any]:
    listing = await client.list(await client.kind("v1", "ConfigMap"), namespace="default")
    return {one["metadata"]["name"]: one.get("data") for one in listing.items if "app" in one["metadata"]["name"]}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(WAIT_S):
        while not await holds():  # noqa: ASYNC110 - the controllers tell nobody
            await anyio.sleep(0.01)


async def until_ready(client: RealCluster, name: str, replicas: int) -> None:
    kind = await client.kind("apps/v1", "Deployment")

    async def is_ready() -> bool:
        found = await client.get(kind, "default", name)
        return bool(found.get("status", {}).get("readyReplicas") == replicas)

    await until(is_ready)


async def has_account(client: RealCluster, namespace: str) -> bool:
    listing = await client.list(await client.kind("v1", "ServiceAccount"), namespace=namespace)
    return bool(listing.items)


async def test_neither_sees_what_becomes_of_the_other(cluster: EmbeddedCluster) -> None:
    first = cluster.client()
    kind = await first.kind("v1", "ConfigMap")
    for name in ("app-a", "app-b", "app-c"):
        await first.apply(config(name, at="first"), manager=MANAGER)
    async with cluster.fork() as fork:
        second = fork.client()
        await second.apply(config("app-a", at="second"), manager=MANAGER)
        await second.apply(config("app-d", at="second"), manager=MANAGER)
        await second.delete(kind, "default", "app-b")
        await first.apply(config("app-c", at="later"), manager=MANAGER)
        await first.apply(config("app-e", at="later"), manager=MANAGER)
        was, later, other = {"at": "first"}, {"at": "later"}, {"at": "second"}
        assert await maps(first) == {"app-a": was, "app-b": was, "app-c": later, "app-e": later}
        assert await maps(second) == {"app-a": other, "app-c": was, "app-d": other}
    assert await maps(first) == {"app-a": was, "app-b": was, "app-c": later, "app-e": later}


async def test_versions_go_on_and_watches_are_its_own(cluster: EmbeddedCluster) -> None:
    first = cluster.client()
    kind = await first.kind("v1", "ConfigMap")
    before = (await first.apply(config("app-a"), manager=MANAGER)).object["metadata"]
    version = str(cluster.api.store.version)
    async with cluster.fork() as fork:
        second = fork.client()
        assert (await second.get(kind, "default", "app-a"))["metadata"] == before
        changed = (await second.apply(config("app-a", at="second"), manager=MANAGER)).object["metadata"]
        assert int(changed["resourceVersion"]) > int(version)
        assert changed["uid"] == before["uid"]
        await first.apply(config("app-b", at="first"), manager=MANAGER)
        for client, name in ((first, "app-b"), (second, "app-a")):
            async with aclosing(client.watch(kind, resource_version=version)) as events:
                assert (await anext(events)).object["metadata"]["name"] == name
        with pytest.raises(GoneError):
            async with aclosing(second.watch(kind, resource_version=before["resourceVersion"][:-1] or "1")) as events:
                await anext(events)


async def test_controllers_work_in_each_alone(cluster: EmbeddedCluster) -> None:
    first = cluster.client()
    await first.apply(workload("app"), manager=MANAGER)
    await until_ready(first, "app", 1)
    kinds = [await first.kind("apps/v1", "ReplicaSet"), await first.kind("v1", "Pod")]
    owned = [(await first.list(kind, namespace="default")).items for kind in kinds]
    async with cluster.fork() as fork:
        second = fork.client()
        await second.apply(workload("app", 3), manager=MANAGER)
        await second.apply(workload("other"), manager=MANAGER)
        await until_ready(second, "app", 3)
        await until_ready(second, "other", 1)
        await second.delete(await second.kind("apps/v1", "Deployment"), "default", "app")

        async def owned_are_gone() -> bool:  # those are known to be owned since before the fork
            left = [one for kind in kinds for one in (await second.list(kind, namespace="default")).items]
            return all(one["metadata"]["labels"]["app"] == "other" for one in left)

        await until(owned_are_gone)
        assert [(await first.list(kind, namespace="default")).items for kind in kinds] == owned


async def test_what_is_half_done_is_done_in_the_fork_too(cluster: EmbeddedCluster) -> None:
    """A fork at any moment: its controllers finish what those of the original have only begun."""
    first = cluster.client()
    names = [f"app-{number}" for number in range(3)]
    await first.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}, manager=MANAGER)
    for name in names:
        await first.apply(workload(name, 2), manager=MANAGER)
    async with AsyncExitStack() as stack:
        forks = []
        for _ in range(5):
            forks.append(await stack.enter_async_context(cluster.fork()))
            await anyio.lowlevel.checkpoint()
        for each in (*forks, cluster):
            client = each.client()
            for name in names:
                await until_ready(client, name, 2)
            await until(partial(has_account, client, "new"))


async def test_kinds_of_its_own(cluster: EmbeddedCluster) -> None:
    first = cluster.client()
    async with cluster.fork() as fork:
        second = fork.client()
        await second.apply(DEFINITION, manager=MANAGER)
        second.forget_kinds()
        await second.apply(THING, manager=MANAGER)
        with pytest.raises(UnknownKindError):
            await first.apply(THING, manager=MANAGER)
    await first.apply(DEFINITION, manager=MANAGER)
    first.forget_kinds()
    await first.apply(THING, manager=MANAGER)
    async with cluster.fork() as fork:
        second = fork.client()
        kind = await second.kind("example.com/v1", "Thing")
        assert (await second.get(kind, "default", "one"))["metadata"]["name"] == "one"
        await second.delete(await second.kind(DEFINITION["apiVersion"], DEFINITION["kind"]), "", "things.example.com")
        assert (await first.get(kind, "default", "one"))["metadata"]["name"] == "one"
        second.forget_kinds()
        with pytest.raises(UnknownKindError):
            await second.kind("example.com/v1", "Thing")


async def test_access_and_tokens_are_taken_along(cluster: EmbeddedCluster) -> None:
    user, role = User("ada", ()), "rbac.authorization.k8s.io"
    binding: KubeObject = {
        "apiVersion": f"{role}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "ada"},
        "roleRef": {"apiGroup": role, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": role, "kind": "User", "name": "ada"}],
    }
    first = cluster.client()
    kind = await first.kind("v1", "ConfigMap")
    given = cluster.api.tokens.request({}, user)["status"]["token"]
    async with cluster.fork() as fork:
        assert fork.api.whose(given) == (user, [AUDIENCE])
        later = fork.api.tokens.request({}, user)["status"]["token"]
        assert cluster.api.whose(later) is None
        await fork.client().apply(binding, manager=MANAGER)
        await fork.client(user).list(kind, namespace="default")
        with pytest.raises(ForbiddenError):
            await cluster.client(user).list(kind, namespace="default")


async def test_forks_of_forks_while_requests_go_on(cluster: EmbeddedCluster) -> None:
    """Each generation sees all that was answered before it, and nothing that came after."""
    first = cluster.client()
    written = 0
    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            nonlocal written
            while True:
                await first.apply(config(f"app-{written:03}", at=str(written)), manager=MANAGER)
                written += 1
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(write)
        for _ in range(3):
            await anyio.sleep(0.05)
            before = written
            async with cluster.fork() as fork:
                seen = await maps(fork.client())
                assert before <= len(seen) <= written + 1
                await anyio.sleep(0.05)
                async with fork.fork() as again:
                    await again.client().apply(config("app-x"), manager=MANAGER)
                    assert len(await maps(again.client())) == len(seen) + 1
                assert await maps(fork.client()) == seen
        tasks.cancel_scope.cancel()
    assert len(await maps(first)) >= written > 0


async def test_a_fork_ends_with_its_block(cluster: EmbeddedCluster) -> None:
    opened: AbstractAsyncContextManager[EmbeddedCluster] = cluster.fork()
    with pytest.raises(LookupError):
        async with opened:
            raise LookupError
    assert await maps(cluster.client()) == {}
