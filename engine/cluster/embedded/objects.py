"""Objects as they are kept and as they are sent."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tidelog.engine.cluster.embedded import custom
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.cluster.embedded.store import Key, Record
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.typed import decoder

LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Of which Kubernetes makes the ends of names: no words come of them (k8s.io/apimachinery, `util/rand`)."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = decoder(dict[str, Any])


def encoded(obj: Any) -> bytes:
    """Any document as JSON."""
    return _encode(obj)


def decoded(record: Record, resource: Resource) -> KubeObject:
    """A kept object, in the version that is asked for."""
    return _from_kept(_decode(record.data), resource)


def sent(record: Record, resource: Resource) -> bytes:
    """A kept object as it is sent: as it is kept, but in another version."""
    if resource.stored_version in ("", resource.version):
        return record.data
    return _encode(decoded(record, resource))


def listed(data: bytes, resource: Resource) -> bytes:
    """An object, as it is sent, in a list: those of built-in kinds do not say there what they are."""
    if resource.custom is not None:
        return data
    head = f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode()
    if data.startswith(head):
        return b"{" + data[len(head) :]
    obj = _decode(data)  # kept by an older release, which did not put them first
    del obj["kind"], obj["apiVersion"]
    return _encode(obj)


def kept(obj: KubeObject, resource: Resource, version: int) -> Record:
    """The record of an object that is written as `version`; its metadata says so from then on."""
    metadata = obj["metadata"]
    metadata["resourceVersion"] = str(version)
    key = Key(metadata.get("namespace", ""), metadata["name"])
    return Record(key, version, _encode(_to_kept(obj, resource)), metadata["uid"])


def as_read(obj: KubeObject, resource: Resource) -> KubeObject:
    """A written object as it is read again: where it is kept in another version, without what that has not."""
    return obj if resource.stored is None else _from_kept(_to_kept(obj, resource), resource)


def _to_kept(obj: KubeObject, resource: Resource) -> KubeObject:
    """An object in the version in which it is kept; of fields that this version has not, nothing is."""
    if resource.custom is None:
        version = resource.stored_version or resource.version
        head = {"kind": resource.kind, "apiVersion": f"{resource.group}/{version}" if resource.group else version}
        return {**head, **obj, **head}  # first, as the real server has them
    if resource.stored_version in ("", resource.version):
        return obj
    group = resource.group
    stored = {**obj, "apiVersion": f"{group}/{resource.stored_version}"}
    if resource.stored is None:
        return stored
    stored = _decode(_encode(stored))
    custom.prune_version(resource.stored, stored)
    custom.set_default_values(stored, custom.schema_in(resource.stored))
    return stored


def _from_kept(obj: KubeObject, resource: Resource) -> KubeObject:
    """A kept object in the version of a resource, which has to itself what is made of it."""
    if resource.stored is not None and resource.custom is not None:
        custom.prune_version(resource.custom, obj)
    obj["apiVersion"] = resource.api_version
    return obj


def timestamp(moment: float) -> str:
    """A Unix time as objects write it: RFC 3339, in whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_going(obj: KubeObject) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in obj["metadata"]
