"""`actual`: every object as it was last seen in its cluster. Key: the object's stream."""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.envelope import Envelope
from tidelog.events.names import StreamName, stream_beside
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import (
    Because,
    DriftDetected,
    FieldDrift,
    HealthChanged,
    ObjectAbandoned,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
)
from tidelog.events.vocabulary.observe import Health


class Actual(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One object of a cluster."""

    uid: str = ""
    resource_version: str = ""
    state: BodyRef | None = None
    health: Health
    """Always written, so that rows can be asked for by it."""
    owner: StreamName | None = None
    """The target that last applied it."""
    drift: tuple[FieldDrift, ...] = ()
    """Fields that someone else changed since they were last applied."""
    position: int = 0
    api_version: str = ""
    applied: Digest | None = None
    """Of the fields that the owner's field manager owns, as the server answered when the object was last applied."""
    leaves: BodyRef | None = None
    reason: str = ""
    """Of its health, where that is not as it should be."""
    status: BodyRef | None = None
    """As it was last recorded: what changes within a minute may not be."""
    status_position: int = 0
    """Of the last event that told nothing but its status; such a one leaves `position` as it is."""
    because: Because | None = None
    """Of a workload that is not available: why not, as it was last found."""


def _row(rows: Rows[Actual], stream: StreamName, envelope: Envelope) -> Actual:
    row = rows.get(stream)
    if row is None:
        row = Actual(health="Unknown")
    row.position = envelope.position
    rows.put(stream, row)
    return row


def _applied(rows: Rows[Actual], envelope: Envelope, event: ObjectApplied) -> None:
    row = _row(rows, stream_beside(envelope.stream, event.cluster, event.object), envelope)
    row.uid, row.resource_version, row.state = event.uid, event.resource_version, event.state
    row.owner, row.drift = envelope.stream, ()
    row.api_version, row.applied, row.leaves = event.api_version, event.owned, event.leaves
    row.status = event.status
    if event.health is not None:
        row.health, row.reason = event.health, event.reason
        _forget_why(row)


def _pruned(rows: Rows[Actual], envelope: Envelope, event: ObjectPruned) -> None:
    stream = stream_beside(envelope.stream, event.cluster, event.object)
    if event.outcome != "skipped":
        rows.drop(stream)
        return
    _let_go(rows, envelope, stream)


def _left(rows: Rows[Actual], envelope: Envelope, event: ObjectAbandoned) -> None:
    _let_go(rows, envelope, stream_beside(envelope.stream, event.cluster, event.object))


def _let_go(rows: Rows[Actual], envelope: Envelope, stream: StreamName) -> None:
    row = rows.get(stream)
    if row is not None and row.owner == envelope.stream:
        _row(rows, stream, envelope).owner = None


def _observed(rows: Rows[Actual], envelope: Envelope, event: ObjectObserved) -> None:
    if event.gone:
        rows.drop(envelope.stream)
        return
    known = rows.get(envelope.stream)
    position = 0 if known is None else known.position
    row = _row(rows, envelope.stream, envelope)
    if event.only_status:
        row.position, row.status_position = position or row.position, envelope.position
    if row.uid not in ("", event.uid):
        row.owner, row.applied, row.drift = None, None, ()  # someone else deleted it, and made another of that name
    if row.uid != event.uid:
        row.because = None
    row.uid, row.resource_version = event.uid, event.resource_version
    if row.applied is not None and event.owned == row.applied:
        row.drift = ()  # whoever changed it has put it back
    row.state, row.health, row.reason = event.state, event.health or "Unknown", event.reason
    _forget_why(row)
    row.api_version, row.leaves = event.api_version or row.api_version, event.leaves
    row.status = event.status


def _drifted(rows: Rows[Actual], envelope: Envelope, event: DriftDetected) -> None:
    if not event.gone:
        _row(rows, envelope.stream, envelope).drift = event.fields


def _health(rows: Rows[Actual], envelope: Envelope, event: HealthChanged) -> None:
    if not event.checked and rows.get(envelope.stream) is not None:
        row = _row(rows, envelope.stream, envelope)
        row.health, row.reason = event.health, event.reason
        row.status, row.because = event.status or row.status, event.because


def _forget_why(row: Actual) -> None:
    """What kept a workload from being available counts until it is."""
    if row.health not in ("InProgress", "Failed"):
        row.because = None


def _object_of(key: str) -> str:
    return key.partition("/")[2]


ACTUAL = Projection(
    name="actual",
    version=5,
    row=Actual,
    mention=_object_of,
    handlers=dict(
        [
            on(ObjectApplied, _applied),
            on(ObjectPruned, _pruned),
            on(ObjectAbandoned, _left),
            on(ObjectObserved, _observed),
            on(DriftDetected, _drifted),
            on(HealthChanged, _health),
        ]
    ),
    columns={"owner": "$.owner", "health": "$.health"},
)
