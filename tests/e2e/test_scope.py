"""Objects of kinds that know no namespaces, with a namespace in their manifest: they have one name all the same."""

import json

import pytest

from tests.e2e.world import KUSTOMIZE, World, condition, config_map, documents, is_ready, manifest
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import DriftDetected, ObjectPruned

RBAC = "rbac.authorization.k8s.io"


def role(name: str, namespace: str = "", **fields: object) -> str:
    metadata = {"namespace": namespace} if namespace else {}
    return manifest(f"{RBAC}/v1", "ClusterRole", name, metadata=metadata, **({"rules": []} | fields))


async def role_of(world: World, name: str) -> KubeObject | None:
    return await world.get(f"{RBAC}/v1", "ClusterRole", name)


def definition(group: str) -> str:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return manifest(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"issuers.{group}",
        spec={
            "group": group,
            "scope": "Cluster",
            "names": {"kind": "Issuer", "plural": "issuers", "singular": "issuer", "listKind": "IssuerList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    )


async def tidy(world: World, *paths: str) -> None:
    for path in paths:
        world.servers.request("DELETE", path)


async def test_what_loses_a_namespace_that_it_never_had_is_not_pruned(world: World) -> None:
    name = f"role-{world.namespace}"
    async with world.daemon() as running:
        world.commit({"app/a.yaml": role(name, world.namespace)})
        await world.source()
        await world.target("app", "./app")
        await world.until_applied("app")
        await world.push({"app/a.yaml": role(name)})
        await world.until_applied("app")
        assert await role_of(world, name) is not None
        assert running.events(ObjectPruned) == []
        await world.push({"app/a.yaml": None, "app/b.yaml": role(f"{name}-2")})
        await world.until_applied("app")
        assert await role_of(world, name) is None
    await tidy(world, f"/apis/{RBAC}/v1/clusterroles/{name}-2")


async def test_what_flux_lists_under_a_namespace_is_not_pruned_where_it_is_wanted(world: World) -> None:
    name = f"role-{world.namespace}"
    labels = {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": world.namespace}
    world.commit({"app/a.yaml": role(name, world.namespace)})
    await world.source()
    await world.target("app", "./app")
    live = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": labels}}
    uid = (await world.cluster.apply(live, manager="kustomize-controller")).object["metadata"]["uid"]
    kind = await world.cluster.kind(KUSTOMIZE, "Kustomization")
    status = {"inventory": {"entries": [{"id": f"{world.namespace}_{name}_{RBAC}_ClusterRole", "v": "v1"}]}}
    where = (kind, world.namespace, "app")
    patch = {"status": status}
    await world.cluster.patch(*where, patch, type="merge", manager="kustomize-controller", subresource="status")
    async with world.daemon() as running:
        app = await world.until_target("app", lambda obj: bool(condition(obj, "Ready")) and is_ready(obj))
        found = await role_of(world, name)
        assert found is not None
        assert found["metadata"]["uid"] == uid
        assert [entry["id"] for entry in app["status"]["inventory"]["entries"]] == [f"_{name}_{RBAC}_ClusterRole"]
        assert {event.outcome for event in running.events(ObjectPruned)} == {"skipped"}  # type: ignore[attr-defined]
    await tidy(world, f"/apis/{RBAC}/v1/clusterroles/{name}")


@pytest.mark.parametrize("together", [True, False], ids=["its kind in the same commit", "its kind before"])
async def test_drift_is_seen_where_target_namespace_went_into_an_object_that_has_none(
    world: World, together: bool
) -> None:
    group = f"{world.namespace}.example.org"
    issuer = manifest(f"{group}/v1", "Issuer", "one", spec={"size": 1})
    if not together:
        await world.cluster.apply(_read(definition(group)), manager="test")
    async with world.daemon() as running:
        content = documents(issuer, definition(group), config_map("a")) if together else documents(issuer)
        world.commit({"app/a.yaml": content})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        kind = await world.cluster.kind(f"{group}/v1", "Issuer")
        await world.cluster.patch(kind, "", "one", {"spec": {"size": 2}}, type="merge", manager="somebody")
        await running.until_event(DriftDetected)
        await world.until(f"{group}/v1", "Issuer", "one", lambda obj: obj is not None and obj["spec"] == {"size": 1})
    await tidy(world, f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/issuers.{group}")


def _read(text: str) -> KubeObject:
    found: KubeObject = json.loads(text)
    return found
