"""What the statuses of sources and targets have in common."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.meta import Timestamp
from tidelog.engine.kinds.targets import Inventory, InventoryEntry
from tidelog.engine.objects.kube import inventory_id
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, ObjectKey

PROGRESS_AFTER_S: Final = 1.0
"""For how long a run may go on before its status says so."""
WAITING_FOR_SOMEBODY: Final = frozenset({"PlanHeld", "PlanRejected"})
"""Reasons that are over when somebody decides, or changes what is asked for."""


def inventory(objects: Mapping[ObjectId, str]) -> Inventory:
    """An inventory of objects, with the API versions that they have (Flux contract KS-079)."""
    entries = (
        InventoryEntry(id=inventory_id(ObjectKey.parse(id)), v=version.rpartition("/")[2])
        for id, version in objects.items()
    )
    return Inventory(entries=tuple(sorted(entries, key=lambda entry: entry.id)))


def timestamp(time: Time) -> Timestamp:
    """A time of the log as Kubernetes writes times: in whole seconds."""
    return f"{time[:19]}Z"


def between(first: Time, last: Time) -> Duration:
    """How long it is from one time of the log to another."""
    return Duration.of_seconds((datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())
