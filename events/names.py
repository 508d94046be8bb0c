"""Names: of streams, of objects, of events, runs and traces.

A stream is what events are about: `<cluster>/<group or core>/<Kind>/<namespace or _>/<name>` for a source, a
target or an observed object, and `<log>/engine` for the life of the engine that writes the log. Kubernetes
names never hold a slash (RFC 1123 labels, or path segments), so a slash parts them without escapes.
"""

import re
from functools import lru_cache
from typing import NamedTuple, NewType

StreamName = NewType("StreamName", str)
ObjectId = NewType("ObjectId", str)
"""`<group or core>/<Kind>/<namespace or _>/<name>`: a stream's name less the cluster."""
EventId = NewType("EventId", str)
"""A UUIDv7 in its usual text form, made by the producer of the event."""
RunId = NewType("RunId", str)
"""A UUIDv7: one reconciliation of one source or target."""
TraceId = NewType("TraceId", str)
"""A UUIDv7: all runs that one trigger began."""
PlanId = NewType("PlanId", str)
Revision = NewType("Revision", str)
"""A source's revision in Flux's format, for example `main@sha1:<40 hex>`."""

NAME_LENGTH_MAX = 1024
ENGINE = "engine"
CORE = "core"
NO_NAMESPACE = "_"

# Neither slashes, nor white space or control characters (which garble what is shown), nor lone surrogates
# (which cannot be stored).
_segment = re.compile(r"[^/\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_uuid7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class MalformedNameError(ValueError):
    """Raised when a text is no name of its kind; the message shows the form that is wanted."""


class ObjectKey(NamedTuple):
    """A Kubernetes object, without its version. `group` is empty for core, `namespace` for cluster scope."""

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def id(self) -> ObjectId:
        """The key as one text."""
        return ObjectId(f"{self.group or CORE}/{self.kind}/{self.namespace or NO_NAMESPACE}/{self.name}")

    def stream(self, cluster: str) -> StreamName:
        """The stream of this object in a cluster."""
        return stream_name(f"{cluster}/{self.id}")

    @property
    def shown(self) -> str:
        """The key as Flux shows objects to people: `<Kind>/<namespace>/<name>`."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)

    @classmethod
    def of_stream(cls, stream: str) -> "ObjectKey":
        """The key of the object that a stream is about.

        Raises:
            MalformedNameError: when the stream is an engine's.
        """
        return cls.parse(stream.partition("/")[2])

    @classmethod
    def parse(cls, text: str) -> "ObjectKey":
        """The key behind an object's id.

        Raises:
            MalformedNameError: when `text` has not that form.
        """
        parts = text.split("/")
        if len(parts) != 4 or not all(map(_segment.fullmatch, parts)):
            raise MalformedNameError(f"{text!r} is no object id: <group or core>/<Kind>/<namespace or _>/<name>")
        group, kind, namespace, name = parts
        return cls("" if group == CORE else group, kind, "" if namespace == NO_NAMESPACE else namespace, name)


@lru_cache(maxsize=4_096)
def stream_name(text: str) -> StreamName:
    """`text` as a stream's name.

    Raises:
        MalformedNameError: when it is none.
    """
    parts = text.split("/")
    if len(text) > NAME_LENGTH_MAX:
        raise MalformedNameError(f"a stream's name has {len(text)} characters, {NAME_LENGTH_MAX} is the most")
    whole = len(parts) == 5 or (len(parts) == 2 and parts[1] == ENGINE)
    if not whole or not all(map(_segment.fullmatch, parts)):
        raise MalformedNameError(
            f"{text!r} is no stream: <cluster>/<group or core>/<Kind>/<namespace or _>/<name>, or <log>/engine"
        )
    return StreamName(text)


def engine_stream(log_id: str) -> StreamName:
    """The stream of the engine that writes the log `log_id`."""
    return stream_name(f"{log_id}/{ENGINE}")


def object_stream(cluster: str, object_id: ObjectId) -> StreamName:
    """The stream of an object in a cluster."""
    return StreamName(f"{cluster}/{object_id}")


def cluster_of(stream: StreamName) -> str:
    """The cluster's alias (or the log's id) that a stream's name begins with."""
    return stream.partition("/")[0]


def is_uuid7(text: str) -> bool:
    """Whether `text` is a UUID of version 7 (RFC 9562, 5.7) in lower case."""
    return _uuid7.fullmatch(text) is not None


def uuid7(milliseconds: int, randomness: bytes) -> str:
    """The UUID of version 7 for a Unix time in milliseconds and ten bytes of randomness (RFC 9562, 5.7)."""
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:10])
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
