"""The projections of this release."""

from typing import Any

from tidelog.events.projection import Projection
from tidelog.events.projections.actual import ACTUAL, Actual
from tidelog.events.projections.conditions import CONDITIONS, Approval, Attempt, Hold, Standing, Terms
from tidelog.events.projections.desired import DESIRED, Desired, Pin, Suspension
from tidelog.events.projections.inventory import INVENTORY, Entry, Inventory
from tidelog.events.projections.object_versions import OBJECT_VERSIONS, ObjectVersion, version_key
from tidelog.events.projections.releases import RELEASES, ReleaseRow
from tidelog.events.projections.runs import RUNS, Run

PROJECTIONS: tuple[Projection[Any], ...] = (DESIRED, CONDITIONS, ACTUAL, INVENTORY, RUNS, RELEASES, OBJECT_VERSIONS)
"""Every one that is kept up to date beside the log."""

__all__ = [
    "ACTUAL",
    "CONDITIONS",
    "DESIRED",
    "INVENTORY",
    "OBJECT_VERSIONS",
    "PROJECTIONS",
    "RELEASES",
    "RUNS",
    "Actual",
    "Approval",
    "Attempt",
    "Desired",
    "Entry",
    "Hold",
    "Inventory",
    "ObjectVersion",
    "Pin",
    "ReleaseRow",
    "Run",
    "Standing",
    "Suspension",
    "Terms",
    "version_key",
]
