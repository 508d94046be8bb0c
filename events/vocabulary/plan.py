"""What is going to be done to a cluster, decided before it is done."""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId, PlanId, Revision
from tidelog.events.vocabulary.base import Event, event


class BlastRadius(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much a plan changes, in objects."""

    create: int = 0
    update: int = 0
    delete: int = 0
    recreate: int = 0
    unchanged: int = 0
    destructive: tuple[ObjectId, ...] = ()
    """Deletions and recreations whose loss is not undone by another apply (Namespace, CRD, volumes); the first."""
    destructive_more: int = 0
    """How many more there are; the plan's body names all."""


@event("Planned")
class Planned(Event, frozen=True, kw_only=True):
    """A plan was made. Its id covers its run and, per object, the uid and version of the state it was made against."""

    plan: PlanId
    revision: Revision
    set: Digest
    waves: BodyRef
    """Waves of (object id, action, before digest, after digest, uid, resource version)."""
    blast_radius: BlastRadius
