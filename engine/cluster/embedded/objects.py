"""Objects as they are kept and as they are sent."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

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
    obj = _decode(record.data)
    obj["apiVersion"] = resource.api_version
    return obj


def sent(record: Record, resource: Resource) -> bytes:
    """A kept object as it is sent: as it is kept, but in another version."""
    if resource.stored_version in ("", resource.version):
        return record.data
    return _encode(decoded(record, resource))


def kept(obj: KubeObject, resource: Resource, version: int) -> Record:
    """The record of an object that is written as `version`; its metadata says so from then on."""
    metadata = obj["metadata"]
    metadata["resourceVersion"] = str(version)
    stored = obj
    if resource.stored_version not in ("", resource.version):
        group = resource.group
        stored = {**obj, "apiVersion": f"{group}/{resource.stored_version}" if group else resource.stored_version}
    key = Key(metadata.get("namespace", ""), metadata["name"])
    return Record(key, version, _encode(stored), metadata["uid"])


def timestamp(moment: float) -> str:
    """A Unix time as objects write it: RFC 3339, in whole seconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_going(obj: KubeObject) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in obj["metadata"]
