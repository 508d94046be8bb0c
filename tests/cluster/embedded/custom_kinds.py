"""Definitions of custom kinds and objects of them, for the API server and for the embedded one."""

import random
import time
import uuid
from typing import Any, NamedTuple, TypeAlias

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded import custom, definitions
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.objects.kube import KubeObject

Raw: TypeAlias = dict[str, Any]
READY_S = 20.0
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "managedFields")


class Verdict(NamedTuple):
    """What a server makes of an object: what it stores, or why it refuses."""

    stored: KubeObject | None
    causes: frozenset[tuple[str, str, str]] = frozenset()


def group() -> str:
    return f"t{uuid.uuid4().hex[:10]}.example.org"


def definition(
    in_group: str, spec: Raw, *, kind: str = "Thing", status: Raw | None = None, root: Raw | None = None, **version: Any
) -> KubeObject:
    """A namespaced kind with one version, whose `spec` has this schema."""
    properties = {"spec": spec} | ({} if status is None else {"status": status})
    schema = {"type": "object", "properties": properties, **(root or {})}
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{in_group}"},
        "spec": {
            "group": in_group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }


def install(servers: Servers, *crds: KubeObject) -> list[KubeObject]:
    """Makes kinds known, and waits until all are served."""
    for crd in crds:
        answer = servers.request("POST", CRDS, crd)
        assert answer.status == 201, answer
    until = time.monotonic() + READY_S
    for crd in crds:
        path = f"/apis/{crd['spec']['group']}/v1/{crd['spec']['names']['plural']}"
        while servers.request("GET", path).status != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
    return [servers.request("GET", f"{CRDS}/{crd['metadata']['name']}").body for crd in crds]


def remove(servers: Servers, in_group: str) -> None:
    for crd in servers.request("GET", CRDS).body["items"]:
        if crd["spec"]["group"] == in_group:
            servers.request("DELETE", f"{CRDS}/{crd['metadata']['name']}")


def thing(in_group: str, namespace: str, spec: Any, *, kind: str = "Thing", name: str = "a", **more: Any) -> KubeObject:
    return {
        "apiVersion": f"{in_group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
        **more,
    }


def bare(obj: KubeObject) -> KubeObject:
    """Without what only the server knows."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in OF_THE_SERVER}
    return {**obj, "metadata": metadata}


def verdict(servers: Servers, path: str, obj: KubeObject, method: str = "POST") -> Verdict:
    answer = servers.request(method, path, obj)
    if answer.status in (200, 201):
        return Verdict(bare(answer.body))
    assert answer.status == 422, answer
    causes = answer.body["details"]["causes"]
    return Verdict(None, frozenset((each["reason"], each["field"], each["message"]) for each in causes))


def as_verdict(stored: KubeObject, found: list[Cause]) -> Verdict:
    return (
        Verdict(None, frozenset((each.reason, each.field, each.message) for each in found))
        if found
        else Verdict(bare(stored))
    )


def our_create(resource: Resource, obj: KubeObject) -> Verdict:
    custom.set_defaults(resource, obj)
    custom.prune(resource, obj)
    custom.prepare_create(resource, obj)
    return as_verdict(obj, custom.problems(resource, obj, None))


def our_update(resource: Resource, obj: KubeObject, old: KubeObject) -> Verdict:
    custom.set_defaults(resource, obj)
    custom.prune(resource, obj)
    custom.prepare_update(resource, obj, old)
    return as_verdict(obj, custom.problems(resource, obj, old))


def our_definition(crd: KubeObject) -> Verdict:
    definitions.set_defaults(crd)
    definitions.prepare_create(crd)
    return as_verdict(crd, definitions.problems(crd, None))


# Schemas and values by chance, the same for the same seed.


def some_schema(chance: random.Random, depth: int = 3) -> Raw:
    kind = chance.choice(["string", "integer", "number", "boolean"] + ["object", "array", "map", "port"] * (depth > 0))
    made: Raw = {"type": kind}
    if kind == "string":
        made |= chance.choice(
            [{}, {"minLength": 2}, {"maxLength": 3}, {"pattern": "^[a-c]+$"}, {"enum": ["a", "bb"]}, {"format": "date"}]
        )
    elif kind in ("integer", "number"):
        made |= chance.choice(
            [{}, {"minimum": 1}, {"maximum": 5, "exclusiveMaximum": True}, {"multipleOf": 2}, {"format": "int32"}]
        )
    elif kind == "object":
        names = chance.sample("abcd", chance.randint(1, 3))
        made["properties"] = {name: some_schema(chance, depth - 1) for name in names}
        made |= chance.choice(
            [{}, {"required": names[:1]}, {"x-kubernetes-preserve-unknown-fields": True}, {"minProperties": 1}]
        )
        if chance.random() < 0.3:
            part = {"properties": {names[0]: {"enum": ["a", 1]}}}
            made |= chance.choice([{"anyOf": [part, {"required": ["zz"]}]}, {"not": part}, {"oneOf": [part, part]}])
    elif kind == "array":
        items = some_schema(chance, depth - 1)
        made["items"] = items
        made |= chance.choice([{}, {"maxItems": 2}, {"minItems": 1}])
        if items.get("type") == "string" and not items.get("nullable") and chance.random() < 0.5:
            made["x-kubernetes-list-type"] = "set"
    elif kind == "map":
        made = {"type": "object", "additionalProperties": some_schema(chance, depth - 1)}
    elif kind == "port":
        return {"x-kubernetes-int-or-string": True}
    if chance.random() < 0.2:
        made["nullable"] = True
    return made


def some_value(chance: random.Random, schema: Raw, depth: int = 4) -> Any:
    """A value that may fit, or nearly fits."""
    if chance.random() < 0.12 or depth == 0:
        return chance.choice([None, 0, 1, 2.5, "a", "abcd", True, [], {}, ["a", "a"], {"a": 1}])
    kind = schema.get("type")
    if kind == "string":
        return chance.choice(["a", "bb", "abcd", "", "2024-02-30", "2024-02-29", "ä"])
    if kind == "integer":
        return chance.choice([0, 1, 2, 5, -3, 2**40, 4.0])
    if kind == "number":
        return chance.choice([0, 1, 2.5, 5, 1e21, 0.000001, 4.0])
    if kind == "boolean":
        return chance.choice([True, False])
    if kind == "array":
        return [some_value(chance, schema["items"], depth - 1) for _ in range(chance.randint(0, 3))]
    if kind == "object" and "properties" in schema:
        named = {key: some_value(chance, part, depth - 1) for key, part in schema["properties"].items()}
        kept = {key: value for key, value in named.items() if chance.random() < 0.8}
        return kept | ({"unknown": {"x": 1}} if chance.random() < 0.2 else {})
    if kind == "object":
        return {key: some_value(chance, schema["additionalProperties"], depth - 1) for key in chance.sample("xyz", 2)}
    return chance.choice([1, "80%", 1.5, True])
