"""`inventory`: the objects that each target has applied and not pruned. Key: the target's stream."""

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.envelope import Envelope
from tidelog.events.names import ObjectId
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import ObjectAbandoned, ObjectApplied, ObjectPruned, TargetRemoved


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object of an inventory."""

    uid: str
    desired: Digest
    """Of the object as rendered when it was last applied."""
    position: int
    api_version: str = ""


class Inventory(msgspec.Struct, kw_only=True):
    """One target."""

    objects: dict[ObjectId, Entry]


def _applied(rows: Rows[Inventory], envelope: Envelope, event: ObjectApplied) -> None:
    row = rows.get(envelope.stream) or Inventory(objects={})
    row.objects[event.object] = Entry(event.uid, event.desired, envelope.position, event.api_version)
    rows.put(envelope.stream, row)


def _pruned(rows: Rows[Inventory], envelope: Envelope, event: ObjectPruned | ObjectAbandoned) -> None:
    row = rows.get(envelope.stream)
    if row is not None and row.objects.pop(event.object, None) is not None:
        rows.put(envelope.stream, row)


def _removed(rows: Rows[Inventory], envelope: Envelope, _: TargetRemoved) -> None:
    rows.drop(envelope.stream)


INVENTORY = Projection(
    name="inventory",
    version=2,
    row=Inventory,
    key_is_stream=True,
    handlers=dict(
        [
            on(ObjectApplied, _applied),
            on(ObjectPruned, _pruned),
            on(ObjectAbandoned, _pruned),
            on(TargetRemoved, _removed),
        ]
    ),
)
