"""Values that no field can hold, and what becomes of the server when something of it fails all the same."""

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.cluster.embedded.small import APPS, BATCH, CORE, READY_S, STRATEGIC, Small, open_small
from tests.cluster.embedded.test_caretaker import DEFINITIONS
from tidelog.engine.cluster.embedded import hands, workloads
from tidelog.engine.cluster.embedded.caretaker import Caretaker
from tidelog.engine.cluster.embedded.hands import AT_ONCE
from tidelog.engine.cluster.embedded.objects import kept
from tidelog.engine.cluster.embedded.registry import Registry
from tidelog.engine.cluster.embedded.sizes import JSON_BYTES_MAX, STORED_BYTES_MAX, require_size
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.workloads import Workloads

PLANTED = "the value of a Secret"


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


def deployment(name: str, replicas: Any = 1) -> Any:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": replicas}
    return {"metadata": {"name": name}, "spec": spec}


def pod(amount: Any) -> Any:
    resources = {"requests": {"cpu": amount}, "limits": {"cpu": amount}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}


@pytest.mark.parametrize("replicas", [1e308, 3_000_000_000, -(2**40), 10**30, 1.5])
async def test_a_number_that_its_field_cannot_hold(small: Small, replicas: float) -> None:
    status, refused = await small.answer("POST", f"{APPS}/deployments", deployment("a", replicas))
    assert (status, refused["reason"]) == (400, "BadRequest")
    assert refused["message"].endswith("into Go struct field DeploymentSpec.spec.replicas of type int32")


async def test_a_whole_number_with_a_point_is_whole(small: Small) -> None:
    made = await small.create(f"{APPS}/deployments", deployment("a", 2.0))
    assert type(made["spec"]["replicas"]) is int
    await small.settle()
    assert len(await small.names(f"{CORE}/pods")) == 2


@pytest.mark.parametrize("amount", ["abc", "", True, "1e999999999", "9" * 10_000, "1e-9999"])
async def test_a_quantity_that_is_none(small: Small, amount: Any) -> None:
    status, refused = await small.answer("POST", f"{CORE}/pods", pod(amount))
    assert (status, refused["reason"]) == (400, "BadRequest")
    # As a 1.35 server words it.
    assert refused["message"] == (
        'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '
        "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )


@pytest.mark.parametrize(
    ("amount", "kept"), [(1e308, "100e306"), ("1e400", "10e399"), ("9" * 22, "9" * 22), (1.5, "1500m")]
)
async def test_a_quantity_that_is_large(small: Small, amount: Any, kept: str) -> None:
    made = await small.create(f"{CORE}/pods", pod(amount))
    assert made["spec"]["containers"][0]["resources"]["limits"]["cpu"] == kept


@pytest.mark.parametrize("controller", [Workloads, Caretaker])
async def test_a_controller_outlives_what_it_fails_at(
    small: Small, controller: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    method = "deployment" if controller is Workloads else "_learn"
    whole = getattr(controller, method)

    def fail(self: Any, first: Any, second: Any) -> Any:
        if b"poison" in getattr(second, "data", b"") or "poison" in str(second):
            raise KeyError(PLANTED)
        return whole(self, first, second)

    monkeypatch.setattr(controller, method, fail)
    if controller is Workloads:  # the stand-ins hold its methods
        deployments = Workloads(small._stand_ins._hands, small._stand_ins._clock, small._stand_ins._later)
        small._stand_ins._reconcilers["apps", "deployments"] = lambda *given: fail(deployments, *given)
    with caplog.at_level(logging.ERROR, "tidelog.engine"):
        for name in ("poison", "well"):
            await small.create(f"{APPS}/deployments", deployment(name))
        await small.after(2 * READY_S)
    assert (await small.health(f"{APPS}/deployments/well")).health == "Current"
    assert "poison failed: KeyError in test_odd_values.py:" in caplog.text
    assert PLANTED not in caplog.text


async def test_a_large_set_is_looked_through_once(small: Small) -> None:
    items = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"spec": items}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "sets", "kind": "Set"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    await small.create(DEFINITIONS, {"metadata": {"name": "sets.example.com"}, "spec": spec})
    obj = {"apiVersion": "example.com/v1", "kind": "Set", "metadata": {"name": "a"}, "spec": [*map(str, range(20_000))]}
    began = time.monotonic()
    await small.create("/apis/example.com/v1/namespaces/test/sets", obj)
    assert time.monotonic() - began < 30  # item by item it was minutes
    twice = {**obj, "metadata": {"name": "b"}, "spec": ["1", "2", "1", "1"]}
    status, refused = await small.answer("POST", "/apis/example.com/v1/namespaces/test/sets", twice)
    assert status == 422
    assert [cause["field"] for cause in refused["details"]["causes"]] == ["spec[2]"]


async def test_many_owners_are_looked_through_once(small: Small) -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": str(number)} for number in range(15_000)]
    body = {"metadata": {"name": "a", "ownerReferences": [*owners, owners[0]]}}
    began = time.process_time()
    made = await small.create(f"{CORE}/configmaps?dryRun=All", body)
    assert time.process_time() - began < 15  # owner by owner it was half a minute, in which nobody else was answered
    assert made["metadata"]["ownerReferences"] == owners


async def test_an_item_of_a_large_list_is_changed_without_looking_through_all_for_each(small: Small) -> None:
    obj = deployment("large", 0)
    env = [{"name": f"K{number}", "value": "v"} for number in range(6_000)]
    obj["spec"]["template"]["spec"]["containers"][0]["env"] = env
    await small.create(f"{APPS}/deployments", obj)
    order = [{"name": one["name"]} for one in reversed(env)]
    container = {"name": "c", "$setElementOrder/env": order, "env": [{"name": "K1", "value": "w"}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    began = time.process_time()
    changed = await small.patch_as(STRATEGIC, f"{APPS}/deployments/large", patch)
    assert time.process_time() - began < 15  # item by item it was minutes
    found = changed["spec"]["template"]["spec"]["containers"][0]["env"]
    assert found[0]["name"] == "K5999"
    assert found[-2] == {"name": "K1", "value": "w"}


@pytest.mark.parametrize("kind", ["deployments", "statefulsets"])
async def test_a_workload_of_many_pods_holds_up_nobody(small: Small, kind: str) -> None:
    obj = deployment("many", 4 * AT_ONCE)
    if kind == "statefulsets":
        obj["spec"] |= {"serviceName": "many", "podManagementPolicy": "Parallel"}
    await small.create(f"{APPS}/{kind}", obj)
    seen: set[int] = set()

    async def look() -> None:
        while True:
            seen.add(len(small.store.bucket(("", "pods")).records))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await small.settle()
        tasks.cancel_scope.cancel()
    assert len(await small.names(f"{CORE}/pods")) == 4 * AT_ONCE
    assert {AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE} <= seen


async def test_no_workload_gets_more_pods_than_the_memory_has_room_for(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands, "PODS_OF_ONE_MAX", 5)
    monkeypatch.setattr(hands, "PODS_MAX", 8)
    await small.create(f"{APPS}/deployments", deployment("many", 1_000_000))
    await small.settle()
    pods = f"{CORE}/pods"
    assert len(await small.names(pods)) == 5
    (status,) = [one["status"] for one in await small.items(f"{APPS}/replicasets")]
    (failed,) = status["conditions"]
    assert (status["replicas"], failed["type"], failed["reason"]) == (5, "ReplicaFailure", "FailedCreate")
    assert "at most" in failed["message"]
    stateful = deployment("sets", 1_000_000)
    stateful["spec"] |= {"serviceName": "sets", "podManagementPolicy": "Parallel"}
    await small.create(f"{APPS}/statefulsets", stateful)
    job = {"parallelism": 1_000_000, "completions": 1_000_000, "template": stateful["spec"]["template"]}
    job["template"] = {"spec": {**job["template"]["spec"], "restartPolicy": "Never"}}
    await small.create(f"{BATCH}/jobs", {"metadata": {"name": "job"}, "spec": job})
    await small.settle()
    assert len(await small.names(pods)) == 8
    await small.ask("DELETE", f"{APPS}/deployments/many")
    await small.settle()
    await small.after(workloads.NO_ROOM_S)
    left = await small.names(pods)
    assert len(left) == 8
    assert not [name for name in left if name.startswith("many")]


def test_a_built_in_object_counts_as_it_is_kept_and_a_custom_one_as_json() -> None:
    """Of many small fields, JSON is more than etcd is given by the real server, whose built-in kinds are protobuf."""
    roles = Registry().builtin(("rbac.authorization.k8s.io", "roles"))
    rules = [{"apiGroups": [""], "resources": ["a"], "verbs": ["get"]}] * 32_000
    obj: Any = {"metadata": {"name": "a", "uid": "u"}, "rules": rules}
    record = kept(obj, roles, 1)
    assert STORED_BYTES_MAX < len(record.data) < JSON_BYTES_MAX
    require_size(roles, record, obj)
    with pytest.raises(StatusError, match="etcdserver: request is too large"):
        require_size(msgspec.structs.replace(roles, custom={}), record, obj)
    owned = {**obj, "metadata": {**obj["metadata"], "managedFields": ["x" * 1_400_000]}}
    with pytest.raises(StatusError, match="etcdserver: request is too large"):
        require_size(roles, kept(owned, roles, 1), owned)
