"""`object_versions`: every version of every object, in the order learned and by the fact's own time.

Key: `<the object's stream>@<position>`. It alone is asked what was true at an outside time, because it alone
keeps both times: when Tidelog learned a thing (`time`, with `position`) and when it happened (`occurred`).
"""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time
from tidelog.events.names import StreamName, stream_beside
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import ObjectApplied, ObjectObserved, ObjectPruned


class ObjectVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object as it was from `occurred` until the next version."""

    object: StreamName
    position: int
    time: Time
    occurred: Time
    """The outside fact's own time; when it has none, the time at which it was learned."""
    by: str
    uid: str
    resource_version: str = ""
    state: BodyRef | None = None
    gone: bool = False
    status: BodyRef | None = None
    only_status: bool = False
    """Whether nothing but its status is other than before."""


def version_key(stream: StreamName, position: int) -> str:
    """The key of an object's version; those of one object sort by position."""
    return f"{stream}@{position:016d}"


def _put(
    rows: Rows[ObjectVersion],
    envelope: Envelope,
    stream: StreamName,
    event: ObjectApplied | ObjectObserved | ObjectPruned,
) -> None:
    version = ObjectVersion(
        object=stream,
        position=envelope.position,
        time=envelope.time,
        occurred=envelope.occurred or envelope.time,
        by=str(envelope.actor),
        uid=event.uid,
        resource_version="" if isinstance(event, ObjectPruned) else event.resource_version,
        state=None if isinstance(event, ObjectPruned) else event.state,
        gone=isinstance(event, ObjectPruned) or (isinstance(event, ObjectObserved) and event.gone),
        status=None if isinstance(event, ObjectPruned) else event.status,
        only_status=isinstance(event, ObjectObserved) and event.only_status,
    )
    rows.put(version_key(stream, envelope.position), version)


def _applied(rows: Rows[ObjectVersion], envelope: Envelope, event: ObjectApplied | ObjectPruned) -> None:
    if isinstance(event, ObjectPruned) and event.outcome == "skipped":
        return
    _put(rows, envelope, stream_beside(envelope.stream, event.cluster, event.object), event)


def _observed(rows: Rows[ObjectVersion], envelope: Envelope, event: ObjectObserved) -> None:
    _put(rows, envelope, envelope.stream, event)


OBJECT_VERSIONS = Projection(
    name="object_versions",
    version=3,
    row=ObjectVersion,
    append_only=True,
    handlers=dict([on(ObjectApplied, _applied), on(ObjectPruned, _applied), on(ObjectObserved, _observed)]),
    columns={"object": "$.object", "occurred": "$.occurred"},
)
