"""What a write takes over of an object's metadata, and what it leaves: versions, owners, what nobody may change."""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.managed_fields import FieldSet

NAMESPACES: Final[Place] = ("", "namespaces")
REPEATED: Final = (
    "; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your "
    "requests; duplicate UID(s) observed: "
)
REPEATED_LATE: Final = f" after mutating admission happens{REPEATED}"


def is_version(said: Any) -> bool:
    """Whether it names a version: 0 is any."""
    return isinstance(said, str) and said.isascii() and said.isdigit() and int(said) > 0


def version_meant(obj: KubeObject) -> str:
    """The version that an object says to be, or to change; empty for any.

    Raises:
        StatusError: when it is none.
    """
    said = obj["metadata"].get("resourceVersion") or ""
    if not said or is_version(said):
        return str(said)
    if str(said).strip("0"):
        raise StatusError(500, "", f'strconv.ParseUint: parsing "{said}": invalid syntax')
    return ""


def keep(new: KubeObject, live: KubeObject) -> None:
    """Puts back what of an object's metadata nobody may change, or unset."""
    metadata, was = new["metadata"], live["metadata"]
    for name in ("generation", "resourceVersion", "creationTimestamp"):
        if name in was:
            metadata[name] = was[name]
        else:
            metadata.pop(name, None)
    metadata.pop("selfLink", None)
    if not metadata.get("uid"):
        metadata["uid"] = was["uid"]
    if was.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = was["deletionTimestamp"]
    if metadata.get("deletionGracePeriodSeconds") is None and "deletionGracePeriodSeconds" in was:
        metadata["deletionGracePeriodSeconds"] = was["deletionGracePeriodSeconds"]


def without_repeated_owners(obj: KubeObject, say: str) -> list[str]:
    """Drops owners that are named twice, which is warned of."""
    owners, found, repeated = obj["metadata"].get("ownerReferences") or [], dict[bytes, KubeObject](), list[str]()
    for owner in owners:
        if found.setdefault(msgspec.json.encode(owner, order="sorted"), owner) is not owner:
            repeated.append(str(owner.get("uid", "")))
    if not repeated:
        return []
    obj["metadata"]["ownerReferences"] = list(found.values())
    return [f".metadata.ownerReferences contains duplicate entries{say}{', '.join(repeated)}"]


def is_held(resource: Resource, obj: KubeObject) -> bool:
    """Whether something keeps an object from going."""
    if resource.place == NAMESPACES and (obj.get("spec") or {}).get("finalizers"):
        return True
    return bool(obj["metadata"].get("finalizers"))


def with_empty(obj: KubeObject, sent: Collection[str]) -> KubeObject:
    """An object with the lists that were sent empty, and of which null is kept: whoever sent them owns them."""
    return {**obj, **{name: [] for name in sent if name in obj and obj[name] is None}}


def empty_lists(obj: KubeObject) -> tuple[str, ...]:
    """The fields of an object that are lists with nothing in them."""
    return tuple(name for name, value in obj.items() if value == [])


def set_owners(obj: KubeObject, owned: KubeObject) -> None:
    """Has an object owned by whoever owns another."""
    managed = owned["metadata"].get("managedFields")
    if managed:
        obj["metadata"]["managedFields"] = managed
    else:
        obj["metadata"].pop("managedFields", None)


def reset_by(resource: Resource, subresource: str) -> FieldSet:
    """What a write of this part of an object changes nothing of, and so owns nothing of."""
    if "status" not in resource.subresources:
        return {}
    return {"f:spec": {}} if subresource == "status" else {"f:status": {}}


def but_managed(obj: KubeObject) -> KubeObject:
    """An object without who owns what of it."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def owners_of(obj: KubeObject) -> list[KubeObject]:
    """Who owns what, whenever."""
    entries = obj["metadata"].get("managedFields") or []
    return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]
