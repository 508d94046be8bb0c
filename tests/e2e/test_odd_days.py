"""Things that vanish under the engine, engines that know nothing of each other, and a target of a thousand objects."""

import json
from collections.abc import Callable

import anyio
import pytest

from tests.e2e.world import LIMIT_S, Running, World, config_map, documents, failed, manifest, written
from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import ObjectPruned

MANY = 1_000
MANY_S = 240.0
"""A thousand objects, one after the other, on a machine that is not free."""


async def until_there(
    world: World, api_version: str, kind: str, name: str, holds: Callable[[KubeObject], bool], namespace: str
) -> None:
    """Looks until an object is there, of which something holds; its kind may be gone meanwhile."""
    with anyio.fail_after(LIMIT_S):
        while True:
            try:
                found = await world.get(api_version, kind, name, namespace)
            except ClusterError:
                found = None
                world.cluster.forget_kinds()
            if found is not None and "deletionTimestamp" not in found["metadata"] and holds(found):
                return
            await anyio.sleep(0.2)


async def test_a_namespace_that_somebody_deletes_comes_back_with_all_that_is_in_it(world: World) -> None:
    namespace = f"{world.namespace}-apps"
    inside = manifest("v1", "ConfigMap", "a", metadata={"namespace": namespace}, data={"n": "1"})
    world.commit({"app/all.yaml": documents(manifest("v1", "Namespace", namespace), inside)})
    async with world.daemon() as running:
        await world.source()
        await world.target("app", "./app", retryInterval="1s")
        await world.until_applied("app")
        await running.idle()
        before = await world.get("v1", "Namespace", namespace)
        assert before is not None
        await world.cluster.delete(await world.cluster.kind("v1", "Namespace"), "", namespace)
        await until_there(
            world, "v1", "Namespace", namespace, lambda obj: obj["metadata"]["uid"] != before["metadata"]["uid"], ""
        )
        await until_there(world, "v1", "ConfigMap", "a", lambda obj: bool(obj["data"] == {"n": "1"}), namespace)
        await world.until_applied("app")
        assert not running.events(ObjectPruned)


async def test_a_definition_that_somebody_deletes_comes_back_with_its_objects(world: World) -> None:
    group = f"{world.namespace}.example.org"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    names = {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    api_version, definitions = f"{group}/v1", ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    world.commit({
        "app/definition.yaml": manifest(*definitions, f"things.{group}", spec=spec),
        "app/thing.yaml": manifest(api_version, "Thing", "one", spec={"size": 1}),
    })  # fmt: skip
    async with world.daemon() as running:
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, retryInterval="1s")
        await world.until_applied("app")
        await running.idle()
        before = await world.get(api_version, "Thing", "one")
        assert before is not None
        await world.cluster.delete(await world.cluster.kind(*definitions), "", f"things.{group}")
        uid = before["metadata"]["uid"]
        await until_there(
            world, api_version, "Thing", "one", lambda obj: bool(obj["metadata"]["uid"] != uid), world.namespace
        )
        await world.until_applied("app")
        assert not running.events(ObjectPruned)


async def test_two_daemons_that_know_nothing_of_each_other_do_not_fight(world: World) -> None:
    """Without Leases, each with a log of its own: what one wrote is what the other wants."""
    world.commit({"app/all.yaml": documents(config_map("a", n="1"), config_map("b", n="1"))})
    async with world.daemon() as one, world.daemon(store=world.directory / "second") as two:
        both = (one, two)
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_applied("app")
        await world.until_gone("v1", "ConfigMap", "b")
        await _all_idle(*both)
        before, seen = len(await world.requests()), [len(running.recorded) for running in both]
        await anyio.sleep(2)
        await _all_idle(*both)
        assert written((await world.requests())[before:]) == []
        assert [len(running.recorded) for running in both] == seen


async def _all_idle(*daemons: Running) -> None:
    for _ in range(2):  # what one did may have woken the other
        for running in daemons:
            await running.idle()


def many(number: int, value: str) -> dict[str, str | bytes]:
    """That many ConfigMaps in files of a hundred."""
    names = [f"m{n}" for n in range(number)]
    groups = [names[n : n + 100] for n in range(0, number, 100)]
    return {
        f"app/{group[0]}.yaml": documents(*(config_map(name, value=value if name == "m7" else "1") for name in group))
        for group in groups
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_thousand_objects_are_applied_changed_one_by_one_and_not_pruned_by_accident(world: World) -> None:
    async with world.daemon() as running:
        world.commit(many(MANY, "1"))
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        app = await world.until_target("app", lambda obj: _applied(obj, world), "applied", limit_s=MANY_S)
        assert len(app["status"]["inventory"]["entries"]) == MANY
        assert len(json.dumps(app)) < 500_000, "etcd takes three times that"
        await running.idle()
        before = len(await world.requests())
        world.commit(many(MANY, "2"))
        await world.ask()
        await world.until_target("app", lambda obj: _applied(obj, world), "applied", limit_s=MANY_S)
        wrote = [name for _, resource, name in written((await world.requests())[before:]) if resource == "configmaps"]
        assert wrote == ["m7"]
        world.commit(many(MANY // 10, "2"))
        await world.ask()
        await world.until_target("app", failed("PlanHeld", "more than", "objects"), limit_s=MANY_S)
        assert not running.events(ObjectPruned)


def _applied(obj: KubeObject, world: World) -> bool:
    return bool(obj.get("status", {}).get("lastAppliedRevision") == world.revision)
