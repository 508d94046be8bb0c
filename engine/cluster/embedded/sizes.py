"""How large an object may be: as large as etcd takes it, which keeps the objects of a real server.

Without a limit, patches that are small each would make an object that fills the memory.
"""

from typing import Final

from tidelog.engine.cluster.embedded.objects import encoded
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.store import Record
from tidelog.engine.objects.kube import KubeObject, KubeValue

STORED_BYTES_MAX: Final = 3 << 19
"""Of an object with its key and what etcd adds (etcd, `--max-request-bytes`)."""
JSON_BYTES_MAX: Final = 3 << 20
"""Of a built-in object as JSON, which is larger than what the real server keeps: never more than a body may be."""
_ADDED: Final = 250
"""Bytes that go with an object in a request to etcd, about."""


def require_size(resource: Resource, record: Record, obj: KubeObject) -> None:
    """Whether an object is not too large to be kept.

    Raises:
        StatusError: in the real server's words, when it is.
    """
    if len(record.data) + _ADDED <= STORED_BYTES_MAX:
        return
    is_custom = resource.custom is not None  # those are kept as JSON
    if is_custom or len(record.data) > JSON_BYTES_MAX or _kept(obj) + _ADDED > STORED_BYTES_MAX:
        raise StatusError(500, "", "etcdserver: request is too large")


def _kept(obj: KubeObject) -> int:
    """What an object takes in protobuf, at least: who owns what is JSON there too."""
    metadata = dict(obj["metadata"])
    return len(encoded(metadata.pop("managedFields", None))) + _least({**obj, "metadata": metadata})


def _least(value: KubeValue) -> int:
    """What a value takes in protobuf, which has no names of fields, at least."""
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass")) + 2
    if isinstance(value, dict):
        return 2 + sum(_least(part) for part in value.values())
    if isinstance(value, list):
        return sum(_least(part) for part in value)
    return 2
