"""Namespaces and garbage of the embedded cluster."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.embedded.small import CORE, Small, open_small
from tidelog.engine.cluster.embedded.store import Store

MAPS = f"{CORE}/configmaps"
NOBODY = "00000000-0000-0000-0000-000000000001"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
THINGS = "/apis/example.com/v1/namespaces/test/things"


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


async def make(small: Small, name: str, *owners: Any, blocks: bool = True, **metadata: Any) -> Any:
    """A ConfigMap, owned by others."""
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }
        for owner in owners
    ]
    made = await small.create(MAPS, {"metadata": {"name": name, "ownerReferences": references, **metadata}})
    await small.settle()
    return made


async def left(small: Small) -> list[str]:
    return [name for name in await small.names(MAPS) if name != "kube-root-ca.crt"]


async def owners_of(small: Small, name: str) -> list[str]:
    metadata = (await small.get(f"{MAPS}/{name}"))["metadata"]
    return [one["name"] for one in metadata.get("ownerReferences", [])]


async def release(small: Small, name: str) -> None:
    await small.patch(f"{MAPS}/{name}", {"metadata": {"finalizers": None}})
    await small.settle()


def definition() -> Any:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": versions}
    return {"metadata": {"name": "things.example.com"}, "spec": spec}


def thing(name: str) -> Any:
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}}


# ---------------------------------------------------------------------------------------------- namespaces


async def test_a_namespace_gets_what_every_namespace_has(small: Small) -> None:
    assert await small.exists(f"{CORE}/serviceaccounts/default")
    assert await small.exists(f"{MAPS}/kube-root-ca.crt")


async def test_a_namespace_goes_with_all_that_is_in_it(small: Small) -> None:
    await make(small, "a")
    await small.create(DEFINITIONS, definition())
    await small.create(THINGS, thing("a"))
    await small.delete(CORE)
    assert (await small.get(CORE))["status"]["phase"] == "Terminating"
    await small.settle()
    assert not await small.exists(CORE)
    assert await small.names("/apis/example.com/v1/things") == []
    assert await small.exists("/api/v1/namespaces/default/serviceaccounts/default")
    await small.create("/api/v1/namespaces", {"metadata": {"name": "test"}})
    await small.settle()
    assert await left(small) == []


async def test_a_namespace_waits_for_finalizers(small: Small) -> None:
    await make(small, "held", finalizers=["example.com/one"])
    await make(small, "free")
    await small.delete(CORE)
    await small.settle()
    assert await small.names(MAPS) == ["held"]
    status, refused = await small.answer("POST", MAPS, {"metadata": {"name": "late"}})
    assert (status, refused["reason"]) == (403, "Forbidden")
    await release(small, "held")
    assert not await small.exists(CORE)


# ---------------------------------------------------------------------------------------------- owners


async def test_dependents_go_after_their_owner(small: Small) -> None:
    owner = await make(small, "owner")
    child = await make(small, "child", owner)
    await make(small, "grandchild", child)
    await small.delete(f"{MAPS}/owner")
    assert await left(small) == ["child", "grandchild"]
    await small.settle()
    assert await left(small) == []


async def test_an_owner_in_the_foreground_waits_for_those_that_block_it(small: Small) -> None:
    owner = await make(small, "owner")
    await make(small, "blocks", owner, finalizers=["example.com/one"])
    await make(small, "passes", owner, blocks=False, finalizers=["example.com/one"])
    await make(small, "free", owner)
    await small.delete(f"{MAPS}/owner", "Foreground")
    await small.settle()
    assert await left(small) == ["blocks", "owner", "passes"]
    assert "deletionTimestamp" in (await small.get(f"{MAPS}/passes"))["metadata"]
    await release(small, "blocks")
    assert await left(small) == ["passes"]
    await release(small, "passes")
    assert await left(small) == []


async def test_the_foreground_goes_down_to_the_last(small: Small) -> None:
    owner = await make(small, "owner")
    child = await make(small, "child", owner)
    await make(small, "grandchild", child, finalizers=["example.com/one"])
    await small.delete(f"{MAPS}/owner", "Foreground")
    await small.settle()
    assert await left(small) == ["child", "grandchild", "owner"]
    await release(small, "grandchild")
    assert await left(small) == []


async def test_an_owner_without_dependents_goes_at_once_in_the_foreground(small: Small) -> None:
    await make(small, "owner")
    await small.delete(f"{MAPS}/owner", "Foreground")
    await small.settle()
    assert await left(small) == []


async def test_orphans_stay_without_their_owner(small: Small) -> None:
    owner = await make(small, "owner")
    await make(small, "child", owner)
    await small.delete(f"{MAPS}/owner", "Orphan")
    await small.settle()
    assert await left(small) == ["child"]
    assert await owners_of(small, "child") == []


async def test_what_never_had_its_owner_is_collected(small: Small) -> None:
    await make(small, "child", {"metadata": {"name": "nobody", "uid": NOBODY}})
    assert await left(small) == []


async def test_those_that_own_one_another_go_together_in_the_foreground(small: Small) -> None:
    first = await make(small, "first")
    second = await make(small, "second", first)
    own = {"apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": True}
    owner = {**own, "name": "second", "uid": second["metadata"]["uid"]}
    await small.patch(f"{MAPS}/first", {"metadata": {"ownerReferences": [owner]}})
    itself = await make(small, "itself")
    owner = {**own, "name": "itself", "uid": itself["metadata"]["uid"]}
    await small.patch(f"{MAPS}/itself", {"metadata": {"ownerReferences": [owner]}})
    await small.settle()
    assert await left(small) == ["first", "itself", "second"]
    for name in ("first", "itself"):
        await small.delete(f"{MAPS}/{name}", "Foreground")
    await small.settle()
    assert await left(small) == []


async def test_who_owns_from_another_namespace_owns_nothing(small: Small) -> None:
    other = await small.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "other"}})
    await make(small, "dependent", other)
    assert await left(small) == []
    assert await small.exists("/api/v1/namespaces/default/configmaps/other")


async def test_an_owner_of_a_kind_that_is_not_served_is_waited_for(small: Small) -> None:
    """As the real collector does: nobody can say that it is not there."""
    owner = {"kind": "Thing", "name": "a", "uid": NOBODY}
    for name, version in (("unknown", "no.such/v1"), ("none", "v1")):
        metadata = {"name": name, "ownerReferences": [{**owner, "apiVersion": version}]}
        await small.create(MAPS, {"metadata": metadata})
    await small.settle()
    assert await left(small) == ["none", "unknown"]


async def test_what_an_object_of_a_definition_owned_goes_with_it(small: Small) -> None:
    await small.create(DEFINITIONS, definition())
    owner = await small.create(THINGS, thing("owner"))
    reference = {**{name: owner[name] for name in ("apiVersion", "kind")}, "name": "owner"}
    references = [{**reference, "uid": owner["metadata"]["uid"]}]
    await small.create(MAPS, {"metadata": {"name": "owned", "ownerReferences": references}})
    await small.settle()
    assert await left(small) == ["owned"]
    await small.delete(f"{DEFINITIONS}/things.example.com")
    await small.settle()
    assert await left(small) == []


async def test_what_is_given_to_nobody_is_collected(small: Small) -> None:
    await make(small, "child")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": NOBODY}
    await small.patch(f"{MAPS}/child", {"metadata": {"ownerReferences": [owner]}})
    await small.settle()
    assert await left(small) == []


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_of_two_owners_one_goes(small: Small, propagation: str) -> None:
    owners = [await make(small, name) for name in ("one", "two")]
    await make(small, "child", *owners)
    await small.delete(f"{MAPS}/one", propagation)
    await small.settle()
    assert await left(small) == ["child", "two"]
    assert await owners_of(small, "child") == ["two"]
    await small.delete(f"{MAPS}/two", propagation)
    await small.settle()
    assert await left(small) == []


async def test_deletions_that_a_restart_interrupts_are_carried_on() -> None:
    store = Store()
    async with open_small(store) as small:
        owner = await make(small, "owner")
        await make(small, "child", owner)
        await small.delete(f"{MAPS}/owner")
        await small.create("/api/v1/namespaces", {"metadata": {"name": "going"}})
        await small.settle()
        await small.delete("/api/v1/namespaces/going")
    async with open_small(store.fork()) as small:
        assert await left(small) == []
        assert not await small.exists("/api/v1/namespaces/going")


# ---------------------------------------------------------------------------------------------- definitions


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_objects_go_with_their_definition(small: Small, propagation: str) -> None:
    await small.create(DEFINITIONS, definition())
    await small.create(THINGS, thing("a"))
    await small.settle()
    journal = small.store.follow()
    await small.delete(f"{DEFINITIONS}/things.example.com", propagation)
    await small.settle()
    assert not await small.exists(THINGS)
    gone = [change.record.key.name for place, change in journal if change.type == "DELETED"]
    assert sorted(gone) == ["a", "things.example.com", "v1.example.com"]  # and its APIService
    await small.create(DEFINITIONS, definition())
    assert await small.names(THINGS) == []


@pytest.mark.parametrize("name", ["default", "kube-public", "kube-system"])
async def test_namespaces_that_may_not_be_deleted(small: Small, name: str) -> None:
    status, told = await small.answer("DELETE", f"/api/v1/namespaces/{name}")
    assert status == 403
    assert told["message"] == f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    await small.settle()
    assert (await small.get(f"/api/v1/namespaces/{name}"))["status"] == {"phase": "Active"}
