"""Metadata that the real server refuses, takes or leaves alone: the same requests to both."""

import copy
import uuid
from typing import Any

import pytest

from tests.cluster.embedded import builtin_oracle, oracle
from tests.cluster.embedded.beside import Beside
from tests.cluster.embedded.oracle import Json, Kind, query

OWNER = {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "b"}
MANAGED = {"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
_CASES: dict[str, list[Any]] = {
    "labels": [{"a": "!"}, {"!": "a"}, {"a/b/c": ""}, {"a": "x" * 64}, 5, {"a": 5}],
    "annotations": [{"!": "a"}, {"A/B": "a"}, {"a": "x" * 300_000}, {"a": 5}],
    "ownerReferences": [
        *([{}], [OWNER, OWNER], None, [{**OWNER, "apiVersion": "a/b/c"}], [{**OWNER, "kind": "Event"}]),
        [{**OWNER, "controller": True}, {**OWNER, "uid": "c", "controller": True}],
    ],
    "finalizers": [
        *(["x"], ["x.y"], ["a b"], ["orphan", "foregroundDeletion"], None, "x"),
        ["example.com/one", "example.com/one"],
    ],
    "uid": ["abc", ""],
    "creationTimestamp": ["2020-01-01T00:00:00Z"],
    "deletionTimestamp": ["2020-01-01T00:00:00Z"],
    "deletionGracePeriodSeconds": [5],
    "generation": [7, -7],
    "namespace": ["other", ""],
    "name": ["other"],
    "generateName": ["foo-", "foo/", "F!"],
    "selfLink": ["/x"],
    "resourceVersion": ["1", "0", "x"],
    "managedFields": [
        *([], [{}], [{"operation": "Nope"}], [{**MANAGED, "fieldsType": "V2"}]),
        [{**MANAGED, "fieldsV1": {"q:data": {}}}],
        [{**MANAGED, "manager": "x" * 200, "fieldsV1": {"f:data": {}}}],
        [{**MANAGED, "manager": "a\n", "fieldsV1": {"f:data": {}}}],
        [{**MANAGED, "subresource": "s" * 300, "fieldsV1": {"f:data": {}}}],
    ],
}
_OF_GOING: dict[str, list[Any]] = {
    "finalizers": [["example.com/one", "example.com/two", "example.com/three"], ["example.com/two"], ["x"]],
    "deletionTimestamp": [None, "2020-01-01T00:00:00Z"],
    "deletionGracePeriodSeconds": [None, 7],
    "labels": [{"q": "r"}, {"q": "!"}],
}
CASES, OF_GOING = ([{name: one} for name, each in found.items() for one in each] for found in (_CASES, _OF_GOING))
_NOT_ASKED = ("CertificateSigningRequest", "ControllerRevision", "Namespace")
"""A request needs a key, a namespace waits for its own, and patched data of a revision are other bytes."""
NAMES = ("ConfigMap", "Service", "Thing")
"""A kind that is looked at as often as most, one that is not, and a custom one."""


class Metadata:
    """Requests about metadata, each about an object of its own."""

    def __init__(self, beside: Beside, kind: Kind) -> None:
        self.beside, self.kind = beside, kind
        self.parts = ("",) if kind is oracle.CONFIG_MAP else ("", "/status")
        self.body: Json = {"spec": {"ports": [{"port": 80}]}} if kind is oracle.SERVICE else {}
        self.number = 0

    def made(self, name: str, metadata: Json) -> Json:
        base = {"apiVersion": self.kind.api_version, "kind": self.kind.kind}
        return {**base, **self.body, "metadata": {"name": name, **metadata}}

    async def another(self, metadata: Json) -> str:
        """The path of a new object."""
        self.number += 1
        name = f"one-{self.number}"
        await self.beside.same("POST", self.path("", fieldManager="m"), self.made(name, metadata))
        return name

    def path(self, name: str, part: str = "", **parameters: str) -> str:
        return query(self.kind.path(self.beside.namespace, name) + part, **parameters)

    async def created(self, case: Json) -> None:
        self.number += 2
        posted, applied = f"new-{self.number}", f"new-{self.number + 1}"
        await self.beside.same("POST", self.path("", fieldManager="m"), self.made(posted, case))
        path = self.path(applied, fieldManager="m")
        await self.beside.same("PATCH", path, self.made(applied, case), oracle.APPLY)

    async def changed(self, case: Json, *, going: bool) -> None:
        """By a patch, an apply and a replace, of the whole and of its status."""
        for part in self.parts:
            for how in ("merge", "apply", "replace"):
                name = await self.another({"finalizers": ["example.com/one"]} if going else {})
                if going:
                    await self.beside.same("DELETE", self.path(name), {})
                path = self.path(name, part, fieldManager="n")
                if how == "merge":
                    await self.beside.same("PATCH", path, {"metadata": case}, oracle.MERGE)
                elif how == "apply":
                    applied = self.made(name, case)
                    await self.beside.same("PATCH", f"{path}&force=true", applied, oracle.APPLY)
                else:
                    await self.replaced(name, path, case)
                if going:
                    await self.beside.both("PATCH", self.path(name), {"metadata": {"finalizers": None}}, oracle.MERGE)

    async def replaced(self, name: str, path: str, case: Json) -> None:
        bodies = []
        for answer in await self.beside.both("GET", self.path(name)):
            body: Any = copy.deepcopy(answer.body)
            body["metadata"].update(case)
            bodies.append(body)
        await self.beside.same("PUT", path, bodies[0], ours=bodies[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
async def test_metadata_are_refused_and_taken_alike(beside: Beside, name: str) -> None:
    kind = {"ConfigMap": oracle.CONFIG_MAP, "Service": oracle.SERVICE, "Thing": beside.kind}[name]
    asked = Metadata(beside, kind)
    for case in CASES:
        await asked.created(case)
        await asked.changed(case, going=False)
    for case in OF_GOING:
        await asked.changed(case, going=True)
    assert not beside.differences, "\n\n".join(beside.differences)


@pytest.mark.slow
async def test_bad_metadata_are_told_as_often_as_by_the_real_server(beside: Beside) -> None:
    """Each built-in kind has a strategy of its own that looks at its metadata again."""
    bad = {"labels": {"bad": "!"}, "finalizers": ["x", "a b"]}
    name = f"x{uuid.uuid4().hex[:8]}"
    made: list[Json] = []
    for obj in builtin_oracle.objects(name, beside.namespace, ""):
        if obj["kind"] in _NOT_ASKED:
            continue
        path = beside.path_of(obj)
        wrong = copy.deepcopy(obj)
        wrong["metadata"] = {**obj["metadata"], "finalizers": ["x", "a b"]}
        wrong["metadata"]["labels"] = {**(obj["metadata"].get("labels") or {}), "bad": "!"}
        await beside.same_causes("POST", path, wrong, "application/json")
        real, ours = await beside.both("POST", path, obj)
        assert (real.status, ours.status) == (201, 201), (obj, real, ours)
        made.append(real.body)
        if obj["metadata"].get("generateName"):
            continue
        for part in ("", "/status"):
            of_it = beside.path_of(obj, obj["metadata"]["name"]) + part
            await beside.same_causes("PATCH", of_it, {"metadata": bad}, oracle.MERGE)
    for obj in made:
        if not builtin_oracle.resource_of(obj).namespaced:
            await beside.both("DELETE", beside.path_of(obj, obj["metadata"]["name"]))
    assert not beside.differences, "\n\n".join(beside.differences)
