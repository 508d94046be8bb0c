"""`tidelog plans` and `tidelog show-plan`: what was going to be done, what was said of it, and what became of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from tidelog.engine.plan.model import Action, Plan, Step
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import NotThereError, Subject, UnclearNameError
from tidelog.events.bodies import BodyRef
from tidelog.events.moment import Time
from tidelog.events.names import PlanId, Revision, RunId, StreamName
from tidelog.events.typed import converter, decoder
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    Event,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage.log import Query, Recorded

State: TypeAlias = Literal[
    "planned", "verified", "refused", "held", "approved", "rejected", "applying", "applied", "failed"
]

_LATER = (
    "Verified",
    "VerificationFailed",
    "PlanHeld",
    "PlanApproved",
    "PlanRejected",
    "ApplyStarted",
    "ApplyFailed",
    "ApplyFinished",
)
# Logs of before 0.2 say only what is done with an object, and not how it changes.
_OLD_ACTIONS: Mapping[str, Action] = {"create": "create", "delete": "delete", "recreate": "recreate"}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was found or decided of a plan."""

    position: int
    time: Time
    by: str
    state: State
    """To which it brought the plan."""
    why: str
    until: Time | None = None


class PlanListed(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded plan."""

    plan: PlanId
    target: StreamName
    position: int
    time: Time
    by: str
    revision: Revision
    blast_radius: BlastRadius
    state: State
    decisions: tuple[Decision, ...]


class PlanTold(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded plan with its steps and verdicts, and what became of it."""

    plan: Plan
    blast_radius: BlastRadius
    checks: tuple[str, ...]
    """That passed."""
    held_by: tuple[str, ...]
    """Checks that did not, and for which it waited, or waits, for approval."""
    verdicts: tuple[Verdict, ...]
    """Of the checks that did not."""
    position: int
    time: Time
    by: str
    state: State
    decisions: tuple[Decision, ...]


def plans_of(archive: Archive, target: Subject | None) -> Iterator[PlanListed]:
    """The recorded plans of a target, or of all; the newest first."""
    query = Query(types=("Planned",), stream=None if target is None else target.stream)
    following: dict[StreamName, int] = {}
    for recorded in archive.backwards(query):
        if isinstance(recorded.event, Planned):
            stream = recorded.envelope.stream
            later = _later(archive, recorded, recorded.event, until=following.get(stream))
            following[stream] = recorded.envelope.position
            yield _listed(recorded, recorded.event, list(later))


def find_plan(archive: Archive, plan: str) -> PlanTold:
    """A recorded plan, by its id or the beginning of it.

    Raises:
        NotThereError: when the log has no such plan.
        UnclearNameError: when more than one begins so.
    """
    needle = plan.encode()
    found: Recorded | None = None
    name = ""
    for recorded in archive.backwards(Query(types=("Planned",))):
        event = recorded.event if needle in recorded.raw else None
        if not isinstance(event, Planned) or not event.plan.startswith(plan):
            continue
        if event.plan == plan:
            return plan_told(archive, recorded)
        if found is not None and event.plan != name:
            both = f"{name} and {event.plan}"
            raise UnclearNameError(f"more than one plan begins with {plan}, as {both}: give more of it")
        found, name = found or recorded, event.plan
    if found is None:
        raise NotThereError(f"the log has no plan {plan} at position {archive.position}")
    return plan_told(archive, found)


def last_plan(archive: Archive, target: Subject) -> PlanTold:
    """The last recorded plan of a target.

    Raises:
        NotThereError: when it has none.
    """
    recorded = archive.last(Query(stream=target.stream, types=("Planned",)))
    if recorded is None:
        raise NotThereError(f"{target} has no recorded plan at position {archive.position}")
    return plan_told(archive, recorded)


def plan_told(archive: Archive, recorded: Recorded) -> PlanTold:
    """A plan, from the event that recorded it."""
    event = recorded.event
    if not isinstance(event, Planned):
        raise TypeError(f"event {recorded.envelope.position} is no plan")
    checks: dict[str, None] = {}
    verdicts: list[Verdict] = []
    became = list(_later(archive, recorded, event))
    held_by = _held_by(became)
    for later in became:
        match later.event:
            case Verified(checks=passed):
                checks |= dict.fromkeys(passed)
            case VerificationFailed(failed=failed, verdicts=body):
                verdicts += _all_verdicts(archive, body) or failed
            case _:
                pass
    known = _listed(recorded, event, became)
    return PlanTold(
        plan=_plan(archive, recorded, event),
        blast_radius=event.blast_radius,
        checks=tuple(check for check in checks if check not in held_by),
        held_by=tuple(held_by),
        verdicts=tuple(verdict for verdict in verdicts if not verdict.passed),
        position=known.position,
        time=known.time,
        by=known.by,
        state=known.state,
        decisions=known.decisions,
    )


def _later(archive: Archive, recorded: Recorded, event: Planned, until: int | None = None) -> Iterator[Recorded]:
    """What became of a plan, up to the next one of its target; its position is `until`, where it is known."""
    stream, position = recorded.envelope.stream, recorded.envelope.position
    needle = event.plan.encode()
    for later in archive.events(Query(stream=stream, types=(*_LATER, "Planned"), after=position, until=until)):
        if later.envelope.type == "Planned":
            return
        if needle in later.raw and getattr(later.event, "plan", None) == event.plan:
            yield later


def _listed(recorded: Recorded, event: Planned, became: Sequence[Recorded]) -> PlanListed:
    envelope = recorded.envelope
    held_by = _held_by(became)
    decisions = tuple(_decision(later, later.event, held_by) for later in became)
    return PlanListed(
        plan=event.plan,
        target=envelope.stream,
        position=envelope.position,
        time=envelope.time,
        by=str(envelope.actor),
        revision=event.revision,
        blast_radius=event.blast_radius,
        state=decisions[-1].state if decisions else "planned",
        decisions=decisions,
    )


def _held_by(became: Sequence[Recorded]) -> dict[str, None]:
    """The checks by which a plan was held: they are among those that were made, and did not let it pass."""
    return {later.event.check: None for later in became if isinstance(later.event, PlanHeld)}


def _decision(recorded: Recorded, event: Event, held_by: Collection[str]) -> Decision:
    state: State = "planned"
    why, until = "", None
    match event:
        case Verified():
            # A later wave is verified while the ones before are applied already.
            state, why = "verified" if event.wave is None else "applying", _passed(event, held_by)
        case VerificationFailed():
            state, why = "refused", "; ".join(verdict.message for verdict in event.failed)
        case PlanHeld():
            state, why, until = "held", _hold(event), event.until
        case PlanApproved():
            state, why, until = "approved", event.why, event.until
        case PlanRejected():
            state, why = "rejected", event.why
        case ApplyStarted():
            state = "applying"
        case ApplyFailed():
            state, why = "failed", event.message or event.reason
        case ApplyFinished():
            state = "applied"
        case _:
            pass
    envelope = recorded.envelope
    return Decision(
        position=envelope.position, time=envelope.time, by=str(envelope.actor), state=state, why=why, until=until
    )


def _passed(event: Verified, held_by: Collection[str]) -> str:
    return ", ".join(check for check in event.checks if check not in held_by)


def _hold(event: PlanHeld) -> str:
    """By which check, and why; some reasons say the check themselves."""
    return event.why if event.check in event.why else f"by the check {event.check}: {event.why}"


def _all_verdicts(archive: Archive, body: BodyRef | None) -> list[Verdict]:
    data = archive.body(body)
    return [] if data is None else decoder(list[Verdict])(data)


def _plan(archive: Archive, recorded: Recorded, event: Planned) -> Plan:
    data = archive.body(event.waves)
    value = None if data is None else msgspec.json.decode(data)
    if isinstance(value, dict):
        return converter(Plan)(value)
    return Plan(
        id=event.plan,
        run=recorded.envelope.run or RunId(""),
        target=recorded.envelope.stream,
        revision=event.revision,
        set=event.set,
        waves=_old_waves(value),
    )


def _old_waves(value: Any) -> tuple[tuple[Step, ...], ...]:
    waves = value if isinstance(value, list) else []
    return tuple(
        tuple(Step(object=one[0], api_version="", action=_OLD_ACTIONS.get(one[1], "update")) for one in wave)
        for wave in waves
    )
