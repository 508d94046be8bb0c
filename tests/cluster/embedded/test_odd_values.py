"""Values that no field can hold, and what becomes of the server when something of it fails all the same."""

import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.cluster.embedded.small import APPS, CORE, READY_S, Small, open_small
from tests.cluster.embedded.test_caretaker import DEFINITIONS
from tidelog.engine.cluster.embedded.caretaker import Caretaker
from tidelog.engine.cluster.embedded.standins import AT_ONCE, StandIns

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


@pytest.mark.parametrize("controller", [StandIns, Caretaker])
async def test_a_controller_outlives_what_it_fails_at(
    small: Small, controller: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    method = "_deployment" if controller is StandIns else "_learn"
    whole = getattr(controller, method)

    def fail(self: Any, first: Any, second: Any) -> Any:
        if b"poison" in getattr(second, "data", b"") or "poison" in str(second):
            raise KeyError(PLANTED)
        return whole(self, first, second)

    monkeypatch.setattr(controller, method, fail)
    if controller is StandIns:  # it holds its methods
        small._stand_ins._reconcilers["apps", "deployments"] = lambda *given: fail(small._stand_ins, *given)
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
