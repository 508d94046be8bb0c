"""Whether a plan is valid and harmless."""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId, PlanId
from tidelog.events.vocabulary.base import Event, event


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one check said."""

    check: str
    passed: bool
    object: ObjectId | None = None
    path: str = ""
    """Of the field, for example `spec.template.spec.containers[0].image`."""
    message: str = ""


@event("Verified")
class Verified(Event, frozen=True, kw_only=True):
    """Every check of a plan (or of one of its waves) passed; void as soon as the state it was made against moves."""

    plan: PlanId
    policies: Digest
    checks: tuple[str, ...]
    wave: int | None = None
    """Of a wave that was dry-run when the one before it was established; none for the plan as a whole."""
    verdicts: BodyRef | None = None


@event("VerificationFailed")
class VerificationFailed(Event, frozen=True, kw_only=True):
    """At least one check of a plan did not pass."""

    plan: PlanId
    policies: Digest
    failed: tuple[Verdict, ...]
    wave: int | None = None
    verdicts: BodyRef | None = None
    """All of them, where they are too many for the event."""
    reason: str = ""
    """What Ready says then, in one word, where that is not `ReconciliationFailed`."""
    about: str = ""
    """What it is that cannot be done; the verdicts say why."""
