"""Whether a plan may be applied. Who, is the envelope's actor."""

from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, PlanId
from tidelog.events.vocabulary.base import Event, event


@event("PlanHeld")
class PlanHeld(Event, frozen=True, kw_only=True):
    """A plan waits for approval."""

    plan: PlanId
    check: str
    """The check that holds it."""
    why: str
    until: Time | None = None
    losses: tuple[ObjectId, ...] = ()
    """What no other apply brings back of what would go with the targets that it deletes; the first."""


@event("PlanApproved")
class PlanApproved(Event, frozen=True, kw_only=True):
    """A plan, and no other, may be applied until the approval expires."""

    plan: PlanId
    why: str
    until: Time | None = None


@event("PlanRejected")
class PlanRejected(Event, frozen=True, kw_only=True):
    """A plan will not be applied."""

    plan: PlanId
    why: str
