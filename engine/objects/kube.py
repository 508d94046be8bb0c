"""A Kubernetes object, and the names that it goes by."""

import sys
from typing import Any, TypeAlias

import msgspec

from tidelog.engine.objects.depth import bounded, is_deep
from tidelog.events.canonical import INT_MAX, INT_MIN, NotCanonicalError, encode, long_integer
from tidelog.events.names import ObjectKey

KubeObject: TypeAlias = dict[str, Any]
"""A Kubernetes object as decoded JSON. Never changed in place by who did not make it."""
KubeValue: TypeAlias = Any
"""What stands in a field of a Kubernetes object: decoded JSON."""

RBAC = "rbac.authorization.k8s.io"
# The only names in which Kubernetes allows a colon; an inventory has two underscores in its place.
_with_colons = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})


class MalformedObjectError(ValueError):
    """Raised when a document is no Kubernetes object, or a text no inventory id; the message says what it lacks."""


def group_of(api_version: str) -> str:
    """The API group of an `apiVersion`; empty for core (`v1`)."""
    group, slash, _ = api_version.rpartition("/")
    return group if slash else ""


def key_of(obj: KubeObject) -> ObjectKey:
    """The key of an object.

    Raises:
        MalformedObjectError: when it has no apiVersion, no kind or no name, or a namespace that is no text.
    """
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    wanted = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata.name": name}
    for field, value in wanted.items():
        if not isinstance(value, str) or not value:
            known = ", ".join(f"{other} {said}" for other, said in wanted.items() if isinstance(said, str) and said)
            raise MalformedObjectError(f"an object without {field}" + (f" ({known})" if known else ""))
    namespace = obj["metadata"].get("namespace") or ""
    if not isinstance(namespace, str):
        raise MalformedObjectError(f"the namespace of {obj['kind']} {name} is no text")
    return ObjectKey(group_of(obj["apiVersion"]), obj["kind"], namespace, str(name))


def mapping(obj: KubeValue, name: str) -> KubeObject:
    """A field that is to be a map; an empty one where it is none: nobody but the server has looked at manifests."""
    found = obj.get(name) if isinstance(obj, dict) else None
    return found if isinstance(found, dict) else {}


def inventory_id(key: ObjectKey) -> str:
    """The key as Flux's inventories write it: `<namespace>_<name>_<group>_<kind>` (KS-089)."""
    name = key.name.replace(":", "__") if key.group == RBAC and key.kind in _with_colons else key.name
    return f"{key.namespace}_{name}_{key.group}_{key.kind}"


def parse_inventory_id(text: str) -> ObjectKey:
    """The key behind an entry of an inventory (KS-089).

    Raises:
        MalformedObjectError: when `text` has not that form.
    """
    namespace, first, rest = text.partition("_")
    rest, second, kind = rest.rpartition("_")
    name, third, group = rest.rpartition("_")
    if not (first and second and third and name and kind):
        raise MalformedObjectError(f"{text!r} is no inventory id: <namespace>_<name>_<group>_<kind>")
    # Names of other kinds have no underscores at all.
    return ObjectKey(group, kind, namespace, name.replace("__", ":"))


def flags(obj: KubeObject, name: str) -> tuple[str, ...]:
    """What an object's label and annotation `name` say, the label first; both count (CM-049)."""
    metadata = obj.get("metadata") or {}
    found = ((metadata.get(place) or {}).get(name) for place in ("labels", "annotations"))
    return tuple(value for value in found if isinstance(value, str))


def flagged(obj: KubeObject, name: str, value: str) -> bool:
    """Whether an object's label or annotation `name` says `value`, in whatever case (CM-049)."""
    return any(said.lower() == value.lower() for said in flags(obj, name))


def flag(obj: KubeObject, name: str) -> str | None:
    """What the label `name` says, or else the annotation, as it is written.

    To ask for one of Flux's flags use `flagged`: label and annotation may say different things, and both count.
    """
    return next(iter(flags(obj, name)), None)


def canonical_bytes(obj: KubeObject) -> bytes:
    """The canonical JSON of an object: what its body and its digest are made of. Of one that is too deep, `bounded`.

    Raises:
        NotCanonicalError: when it holds what JSON has no form for.
    """
    try:
        return encode(obj)
    except NotCanonicalError:
        return encode(_with_doubles(bounded(obj) if is_deep(obj) else obj))


def object_in(data: bytes) -> KubeObject:
    """The object in a body: what `canonical_bytes` made of one, with its floats."""
    found: KubeObject = msgspec.json.decode(data)
    return _with_doubles(found) if long_integer(data) else found


def _with_doubles(value: KubeValue) -> KubeValue:
    """A value whose integers beyond 64 bits are floats, as Go's readers take them; Go and we write such floats so."""
    if isinstance(value, dict):
        return {name: _with_doubles(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_with_doubles(held) for held in value]
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX and abs(value) <= sys.float_info.max:
        return float(value)
    return value
