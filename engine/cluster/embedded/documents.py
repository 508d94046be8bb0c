"""What the server says of itself: discovery, in both forms, and OpenAPI v3."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidelog.engine.cluster.embedded.objects import encoded
from tidelog.engine.cluster.embedded.registry import Place, Registry, Resource, facts
from tidelog.engine.cluster.embedded.schema import REFERENCE
from tidelog.engine.objects.kube import KubeObject

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_KEPT_AS: Final[Mapping[Place, tuple[str, str]]] = {
    ("apiextensions.k8s.io", "customresourcedefinitions"): ("apiextensions.k8s.io", "v1beta1"),
    ("events.k8s.io", "events"): ("", "v1"),
    ("storage.k8s.io", "volumeattributesclasses"): ("storage.k8s.io", "v1beta1"),
}
"""Group and version in which a real server keeps kinds, where it is not what they are served in here."""
_CUSTOM_VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
"""In the order in which custom kinds are told."""
OPENAPI_V2: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def version() -> KubeObject:
    """`/version`."""
    name = facts().version
    major, minor, _ = name.removeprefix("v").split(".", 2)
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{name}+tidelog",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "embedded",
    }


# ------------------------------------------------------------------------------------------------ discovery


def aggregated(registry: Registry, silent: Mapping[str, list[str]], *, core: bool) -> bytes:
    """`/api` or `/apis` as one document. `silent` are versions, by group, whose server does not answer."""
    items: list[KubeObject] = [
        {
            "metadata": {"name": group.name} if group.name else {},
            "versions": [_version(registry, group.name, version) for version in group.versions],
        }
        for group in registry.groups()
        if (group.name == "") == core
    ]
    if not core:
        known = {item["metadata"].get("name"): item for item in items}
        for name, versions in silent.items():
            stale = [{"version": version, "resources": [], "freshness": "Stale"} for version in versions]
            if name in known:
                others = [one for one in known[name]["versions"] if one["version"] not in versions]
                known[name]["versions"] = [*others, *stale]
            else:
                items.append({"metadata": {"name": name}, "versions": stale})
    return encoded(
        {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
    )


def _version(registry: Registry, group: str, version: str) -> KubeObject:
    resources = [_resource(one) for one in registry.resources(group, version)]
    return {"version": version, "resources": resources, "freshness": "Current"}


def _resource(one: Resource) -> KubeObject:
    told: KubeObject = {
        "resource": one.plural,
        "responseKind": {"group": "", "version": "", "kind": one.kind},
        "scope": "Namespaced" if one.namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": _verbs_of(one),
    }
    if one.short_names:
        told["shortNames"] = list(one.short_names)
    if one.categories:
        told["categories"] = list(one.categories)
    if one.subresources:
        told["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind}
                if (sub.group, sub.version) != (one.group, one.version)
                else {"group": "", "version": "", "kind": sub.kind},
                "verbs": sorted(sub.verbs),
            }
            for sub in one.subresources.values()
        ]
    return told


def legacy_versions() -> KubeObject:
    """`/api`."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    }


def group_list(registry: Registry) -> KubeObject:
    """`/apis`."""
    groups = [_group(group.name, group.versions) for group in registry.groups() if group.name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> KubeObject | None:
    """`/apis/GROUP`."""
    versions = registry.versions(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if name and versions else None


def _group(name: str, versions: tuple[str, ...]) -> KubeObject:
    told = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": told, "preferredVersion": told[0]}


def resource_list(registry: Registry, group: str, version: str) -> KubeObject | None:
    """`/apis/GROUP/VERSION`, `/api/v1`."""
    if version not in registry.versions(group):
        return None
    found = [entry for one in registry.resources(group, version) for entry in _listed(one)]
    if not group:  # the oldest form says no version of its own
        return {"kind": "APIResourceList", "groupVersion": version, "resources": found}
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}", "resources": found}


def _listed(one: Resource) -> Iterator[KubeObject]:
    told: KubeObject = {
        "name": one.plural,
        "singularName": one.singular,
        "namespaced": one.namespaced,
        "kind": one.kind,
        "verbs": _verbs_of(one),
    }
    if one.short_names:
        told["shortNames"] = list(one.short_names)
    if one.categories:
        told["categories"] = list(one.categories)
    if "watch" in one.verbs:  # what is kept
        told["storageVersionHash"] = _hash_of_storage(one)
    yield told
    for sub in one.subresources.values():
        own = (
            {} if (sub.group, sub.version) == (one.group, one.version) else {"group": sub.group, "version": sub.version}
        )
        yield {
            "name": f"{one.plural}/{sub.name}",
            "singularName": "",
            "namespaced": one.namespaced,
            **own,
            "kind": sub.kind,
            "verbs": sorted(sub.verbs),
        }


def _verbs_of(one: Resource) -> list[str]:
    return sorted(one.verbs) if one.custom is None else [verb for verb in _CUSTOM_VERBS if verb in one.verbs]


def _hash_of_storage(one: Resource) -> str:
    """Of the kind as it is kept: by it clients see that two resources are one (apiserver, `StorageVersionHash`)."""
    group, version = _KEPT_AS.get(one.place, (one.group, one.stored_version or one.version))
    return base64.b64encode(hashlib.sha256(f"{group}/{version}/{one.kind}".encode()).digest()[:8]).decode()


# -------------------------------------------------------------------------------------------------- OpenAPI


def openapi_v2(*, binary: bool) -> bytes:
    """`/openapi/v2`, which describes no kind.

    kubectl asks for it when it finds a kind in no document of v3, in the binary form (gnostic, `OpenAPIv2.proto`), and
    then says that there is no such kind. Without the document it says that validation failed.
    """
    info = {"title": "Kubernetes", "version": facts().version}
    if not binary:
        return encoded({"swagger": "2.0", "info": info, "paths": {}})
    described = _field(1, info["title"].encode()) + _field(2, info["version"].encode())
    return _field(1, b"2.0") + _field(2, described)


def _field(number: int, value: bytes) -> bytes:
    """A field of protobuf, of less than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


class OpenApi:
    """The OpenAPI v3 documents, made when they are asked for and kept until what is served changes."""

    def __init__(self, registry: Registry) -> None:
        """Of what is served."""
        self._registry = registry
        self._made: dict[str, tuple[int, bytes]] = {}

    def index(self) -> bytes:
        """`/openapi/v3`: where each document is; its hash changes when it does."""
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"}
            for group in self._registry.groups()
            for version in group.versions
            for path in [f"apis/{group.name}/{version}" if group.name else f"api/{version}"]
        }
        return encoded({"paths": paths})

    def document(self, path: str) -> bytes | None:
        """`/openapi/v3/PATH`; None when there is none."""
        group, version = _group_version(path)
        if version not in self._registry.versions(group):
            return None
        is_custom = any(one.custom is not None for one in self._registry.resources(group, version))
        stamp = self._registry.changes if is_custom else 0
        made = self._made.get(path)
        if made is None or made[0] != stamp:
            made = self._made[path] = stamp, encoded(self._compose(group, version))
        return made[1]

    def _hash(self, path: str) -> str:
        document = self.document(path) or b""
        return hashlib.sha256(document).hexdigest().upper()

    def _compose(self, group: str, version: str) -> KubeObject:
        schemas: dict[str, Any] = {}
        paths: dict[str, Any] = {}
        for one in self._registry.resources(group, version):
            name = _add_types(one, schemas)
            paths |= dict(_paths(one, name))
        info = {"title": "Kubernetes", "version": facts().version}
        return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _group_version(path: str) -> tuple[str, str]:
    match path.split("/"):
        case ["api", version]:
            return "", version
        case ["apis", group, version]:
            return group, version
        case _:
            return "", ""


def _add_types(one: Resource, schemas: dict[str, Any]) -> str:
    """Adds the type of a kind, and all that it refers to; returns its name."""
    kind = {"group": one.group, "version": one.version, "kind": one.kind}
    types = facts().types
    if one.custom is None:
        for name, raw in types.items():
            if kind in (raw.get("x-kubernetes-group-version-kind") or ()):
                _add_type(name, schemas)
                return name
    name = ".".join([*reversed(one.group.split(".")), one.version, one.kind])
    raw = dict(one.schema.raw) | {"x-kubernetes-group-version-kind": [kind]}
    schemas[name] = raw
    for reference in _references(raw):
        _add_type(reference, schemas)
    return name


def _add_type(name: str, schemas: dict[str, Any]) -> None:
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in schemas and each in facts().types:
            schemas[each] = facts().types[each]
            waiting += _references(schemas[each])


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(REFERENCE)
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _paths(one: Resource, type_name: str) -> Iterator[tuple[str, KubeObject]]:
    """As much of each path as clients look for: which kind it is about, and which parameters a write takes."""
    root = f"/apis/{one.group}/{one.version}" if one.group else f"/api/{one.version}"
    base = f"{root}/namespaces/{{namespace}}/{one.plural}" if one.namespaced else f"{root}/{one.plural}"
    kind = {"group": one.group, "version": one.version, "kind": one.kind}
    body = {"schema": {"$ref": REFERENCE + type_name}}
    writes = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]

    def operation(action: str, parameters: list[KubeObject]) -> KubeObject:
        told: KubeObject = {
            "operationId": f"{action}{one.group.title().replace('.', '')}{one.version.title()}{one.kind}",
            "responses": {"200": {"description": "OK", "content": {"application/json": body}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        }
        return told | ({"parameters": parameters} if parameters else {})

    collection = {"get": operation("list", [])}
    if "create" in one.verbs:
        collection["post"] = operation("post", writes)
    yield base, collection
    single = {"get": operation("get", [])}
    if "update" in one.verbs:
        single["put"] = operation("put", writes)
    if "patch" in one.verbs:
        single["patch"] = operation("patch", [*writes, {"name": "force", "in": "query", "schema": {"type": "boolean"}}])
    if "delete" in one.verbs:
        single["delete"] = operation("delete", writes[:1])
    yield f"{base}/{{name}}", single
