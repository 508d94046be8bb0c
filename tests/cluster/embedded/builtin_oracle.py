"""The real API server as the measure of the built-in kinds: what it makes of an object, and what of ours differs."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from tests.servers.kubernetes_servers import Answer, Servers
from tidelog.engine.cluster.embedded import builtin
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.objects.kube import KubeObject, group_of

OBJECTS: Final = Path(__file__).with_name("builtin_objects.yaml")
REFUSALS: Final = Path(__file__).with_name("builtin_refusals.yaml")
Said: TypeAlias = tuple[str, str, str]
"""Reason, field and message of a cause."""
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


def refusals(name: str) -> list[dict[str, Any]]:
    """Objects and changes that the real server refuses."""
    text = REFUSALS.read_text().replace("NAME", name)
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def refused(servers: Servers, namespace: str, case: dict[str, Any]) -> tuple[set[Said], set[Said]]:
    """What the real server says of a case, and what ours says."""
    obj, merge = copy.deepcopy(case["object"]), case.get("merge")
    kind = (group_of(str(obj["apiVersion"])), str(obj["kind"]))
    answer = create(servers, namespace, obj)
    if merge is None:
        new = given(obj, namespace)
        builtin.set_defaults(kind, new)
        builtin.prepare_create(kind, new)
        return _said_by(answer), _said(builtin.problems_on_create(kind, new))
    assert answer.status == 201, answer.body
    path = path_of(obj, namespace, obj["metadata"]["name"])
    old = servers.request("GET", path).body
    new = merged(copy.deepcopy(old), merge)
    builtin.set_defaults(kind, new)
    builtin.prepare_update(kind, new, old)
    answer = servers.request("PATCH", path, merge, "application/merge-patch+json")
    return _said_by(answer), _said(builtin.problems_on_update(kind, new, old))


def given(obj: KubeObject, namespace: str) -> KubeObject:
    """An object with the metadata that a store fills in."""
    metadata = {"uid": "00000000-0000-0000-0000-000000000001", "creationTimestamp": "2024-01-02T03:04:05Z"}
    if resource_of(obj).namespaced:
        metadata["namespace"] = namespace
    if not obj["metadata"].get("name"):
        metadata["name"] = obj["metadata"]["generateName"] + "00000"
    return {**copy.deepcopy(obj), "metadata": {**obj["metadata"], **metadata}}


def merged(obj: KubeObject, patch: KubeObject) -> KubeObject:
    """An object changed by a JSON merge patch (RFC 7386)."""
    for key, value in patch.items():
        if value is None:
            obj.pop(key, None)
        else:
            is_map = isinstance(value, dict) and isinstance(obj.get(key), dict)
            obj[key] = merged(obj[key], value) if is_map else value
    return obj


def _said_by(answer: Answer) -> set[Said]:
    assert answer.status == 422, answer.body
    return {
        (one["reason"], one.get("field", ""), _plain(one["message"]))
        for one in answer.body["details"].get("causes", ())
    }


def _said(found: list[Cause]) -> set[Said]:
    return {(one.reason, one.field, _plain(one.message)) for one in found}


def _plain(message: str) -> str:
    """Without what the server takes from its Go types: compound values, and differences below a message."""
    message = re.sub(r"value: [\[{].*[\]}]", "value: (compound)", message.partition("\n")[0])
    return re.sub(r"-[a-z0-9]{5}\": ", '-(generated)": ', message)
