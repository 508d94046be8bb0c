"""The real API server as the measure of the built-in kinds: what it makes of an object, and what of ours differs."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.servers.kubernetes_servers import Answer, Servers
from tidelog.engine.cluster.embedded import builtin
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.objects.kube import KubeObject, group_of

OBJECTS: Final = Path(__file__).with_name("builtin_objects.yaml")
GIVEN: Final = ("uid", "creationTimestamp", "namespace", "name", "generateName", "selfLink")
"""Metadata that the server's store fills in, and not the kind."""
_MASKED: Final = {"clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort"}


def objects(name: str, namespace: str, request: str) -> list[KubeObject]:
    """The corpus, with unique names."""
    text = OBJECTS.read_text().replace("NAMESPACE", namespace).replace("NAME", name).replace("REQUEST", request)
    return [one for one in yaml.safe_load_all(text) if one]


def resource_of(obj: KubeObject) -> Resource:
    """Where an object lives."""
    api = str(obj["apiVersion"])
    found = Registry().of_kind(group_of(api), api.rpartition("/")[2], str(obj["kind"]))
    assert found is not None, obj
    return found


def path_of(obj: KubeObject, namespace: str, *more: str) -> str:
    """The path of its collection, or with its name of itself."""
    resource = resource_of(obj)
    root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.api_version}"
    space = f"/namespaces/{namespace}" if resource.namespaced else ""
    return "/".join((f"{root}{space}/{resource.plural}", *more))


def create(servers: Servers, namespace: str, obj: KubeObject) -> Answer:
    """Posts an object; a namespaced one goes into the namespace."""
    return servers.request("POST", path_of(obj, namespace), obj)


def ours(obj: KubeObject, real: KubeObject, namespace: str) -> KubeObject:
    """What the package makes of an object that is created, with the metadata that the real one got."""
    mine = copy.deepcopy(obj)
    kind = (group_of(str(obj["apiVersion"])), str(obj["kind"]))
    builtin.set_defaults(kind, mine)
    metadata = mine.setdefault("metadata", {})
    metadata |= {field: real["metadata"][field] for field in GIVEN if field in real["metadata"]}
    builtin.prepare_create(kind, mine)
    return mine


def comparable(obj: KubeObject) -> KubeObject:
    """Without what cannot be the same twice."""
    obj = copy.deepcopy(obj)
    for field in ("managedFields", "resourceVersion"):
        obj["metadata"].pop(field, None)
    if obj["kind"] == "CertificateSigningRequest":
        for field in ("username", "uid", "groups", "extra"):  # who asks, which the package is not told
            obj["spec"].pop(field, None)
    masked: KubeObject = _masked(obj)
    return masked


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two values differ: ours, then the real one."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key, "(none)"), other.get(key, "(none)"), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{path}[{index}]")
    elif one != other or type(one) is not type(other):
        yield f"{path}: ours {one!r}, real {other!r}"


def _masked(value: Any, field: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _masked(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, field) for each in value]
    if field in _MASKED and value not in ("None", 0, ""):
        return "(given)"
    if isinstance(value, str) and value.startswith("kube-api-access-"):
        return "kube-api-access-(given)"
    return value
