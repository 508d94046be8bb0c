"""`conditions`: how each source and target stands, and what it waits for. Key: its stream.

What a status says, what wakes a target and what the next run has to do are all read from here.
"""

from typing import Literal, TypeAlias

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, PlanId, Revision, RunId, StreamName, TraceId
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    HealthChanged,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    ReleaseActionEnded,
    ReleaseActionStarted,
    Rendered,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    TargetDeclared,
    TargetRemoved,
    VerificationFailed,
    Verified,
)
from tidelog.events.vocabulary.apply import INTERRUPTED
from tidelog.events.vocabulary.fetch import Annotation, Chart
from tidelog.events.vocabulary.observe import Health

ATTEMPTS_MAX = 5
"""Attempts that a row keeps, because Flux's `status.history` shows so many; the log has all."""

Ready: TypeAlias = Literal["True", "False", "Unknown"]


class Hold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A plan that waits for approval."""

    plan: PlanId
    check: str
    why: str
    since: Time
    losses: tuple[ObjectId, ...] = ()
    """What may be lost with the targets that it deletes, once it is approved."""


class Approval(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody decided of a plan."""

    plan: PlanId
    by: str
    why: str
    until: Time | None = None
    rejected: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Attempts at one rendered set that ended alike, as `status.history` (Flux contract KS-047) counts them."""

    set: Digest
    reason: str
    first: Time
    last: Time
    began: Time
    """When the last of them began."""
    total: int
    revision: Revision | None = None


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """On whose behalf, and over which other field managers, a set was applied."""

    identity: str = ""
    overridden: tuple[str, ...] = ()


class Standing(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One source or target."""

    ready: Ready
    """Always written, so that rows can be asked for by it."""
    reason: str = ""
    message: str = ""
    since: Time | None = None
    """When readiness, reason or message last changed."""
    unready: bool = False
    """Whether the last run ended well, and what it came to is not ready all the same."""
    stalled: bool = False
    final: bool = False
    """Whether the failure is not tried again until its inputs change."""
    tried: int = 0
    """The generation that the last failure worked by."""
    waits_for: StreamName | None = None
    failures: int = 0
    """Runs that failed, one after the other, as far as it was recorded."""
    failed: Time | None = None
    """When the last of them failed."""
    failed_applies: int = 0
    """Applies that failed, one after the other, of one set by one spec; not those that the engine's end cut short."""
    declared: int = 0
    """The generation of the spec."""
    observed: int = 0
    """The generation that the last run which ended well worked by."""
    attempted: Revision | None = None
    applied: Revision | None = None
    """The last revision that a run ended well with."""
    set: Digest | None = None
    """The rendered set that was last applied as a whole."""
    rendered: Digest | None = None
    """The rendered set that the target came to want last."""
    inputs: Digest | None = None
    """Of what that was rendered from."""
    plan: PlanId | None = None
    verified: PlanId | None = None
    """The plan that passed its verification."""
    held: Hold | None = None
    approval: Approval | None = None
    applying: PlanId | None = None
    """A plan whose apply began and neither finished nor failed."""
    terms: tuple[Terms, ...] = ()
    """Those by which what is applied now was verified: one, unless they changed and no apply has finished since."""
    health: Health | None = None
    health_since: Time | None = None
    health_message: str = ""
    run: RunId | None = None
    """The run that is not over."""
    trace: TraceId | None = None
    began: Time | None = None
    """When the last run began."""
    began_by: int = 0
    """The generation of the spec that it began by."""
    fetched: Time | None = None
    """When the revision of a source was fetched."""
    size: int = 0
    """Of a source's artifact, in bytes."""
    annotations: tuple[Annotation, ...] = ()
    """What the source says about its artifact."""
    chart: Chart | None = None
    """What the artifact of a HelmChart was made of."""
    source: Revision | None = None
    """The revision of a HelmChart's source that was looked at last, whether or not the artifact is made of it."""
    handled: str = ""
    """The last `reconcile.fluxcd.io/requestedAt` that a run answered."""
    history: tuple[Attempt, ...] = ()
    position: int = 0

    @property
    def ended_well(self) -> bool:
        """Whether nothing is left to do, as far as the last run could tell."""
        return self.ready == "True" or self.unready


def _row(rows: Rows[Standing], envelope: Envelope) -> Standing:
    row = rows.get(envelope.stream)
    if row is None:
        row = Standing(ready="Unknown")
    if envelope.run is not None and envelope.run != row.run:
        row.run, row.trace, row.began, row.began_by = envelope.run, envelope.trace, envelope.time, row.declared
        # What the last run failed of, or waited for, is being tried: its inputs are others, or somebody asked for it.
        row.final, row.stalled, row.waits_for = False, False, None
        if row.health == "InProgress":
            row.health, row.health_since, row.health_message = None, None, ""  # its time limit was the last run's
    row.position = envelope.position
    rows.put(envelope.stream, row)
    return row


def _stand(row: Standing, envelope: Envelope, ready: Ready, reason: str, message: str) -> None:
    if (row.ready, row.reason, row.message) != (ready, reason, message):
        row.since = envelope.time
    row.ready, row.reason, row.message, row.unready = ready, reason, message, False


def _attempt(row: Standing, envelope: Envelope, reason: str, tries: int = 1) -> None:
    """Counts attempts at the rendered set: beside those that ended alike, the newest first."""
    if row.rendered is None:
        return
    alike = next((a for a in row.history if a.set == row.rendered and a.reason == reason), None)
    attempt = Attempt(
        set=row.rendered,
        reason=reason,
        first=envelope.time if alike is None else alike.first,
        last=envelope.time,
        began=row.began or envelope.time,
        total=tries if alike is None else alike.total + tries,
        revision=row.attempted,
    )
    row.history = (attempt, *(other for other in row.history if other is not alike))[:ATTEMPTS_MAX]


def _declared(rows: Rows[Standing], envelope: Envelope, event: SourceDeclared | TargetDeclared) -> None:
    row = _row(rows, envelope)
    if row.declared != event.generation:
        row.failed_applies = 0
    row.declared = event.generation


def _removed(rows: Rows[Standing], envelope: Envelope, _: SourceRemoved | TargetRemoved) -> None:
    rows.drop(envelope.stream)


def _fetched(rows: Rows[Standing], envelope: Envelope, event: RevisionFetched) -> None:
    row = _row(rows, envelope)
    row.attempted, row.fetched, row.size = event.revision, envelope.time, event.size
    row.annotations, row.chart = event.annotations, event.chart
    row.source = None if event.chart is None else event.chart.source


def _settled(rows: Rows[Standing], envelope: Envelope, event: RevisionSettled) -> None:
    for target in event.targets:
        row = rows.get(target)
        if row is not None:
            row.attempted = row.applied = event.revision
            row.position = envelope.position
            rows.put(target, row)


def _rendered(rows: Rows[Standing], envelope: Envelope, event: Rendered) -> None:
    row = _row(rows, envelope)
    row.attempted, row.inputs = event.revision, event.inputs
    _want(row, event.set)


def _planned(rows: Rows[Standing], envelope: Envelope, event: Planned) -> None:
    row = _row(rows, envelope)
    row.plan, row.held = event.plan, None
    row.attempted = event.revision
    _want(row, event.set)


def _want(row: Standing, set_: Digest) -> None:
    if row.rendered != set_:
        row.failed_applies = 0
    row.rendered = set_


def _verified(rows: Rows[Standing], envelope: Envelope, event: Verified) -> None:
    _row(rows, envelope).verified = event.plan


def _held(rows: Rows[Standing], envelope: Envelope, event: PlanHeld) -> None:
    row = _row(rows, envelope)
    row.held = Hold(plan=event.plan, check=event.check, why=event.why, since=envelope.time, losses=event.losses)
    _stand(row, envelope, "False", "PlanHeld", event.why)


def _approved(rows: Rows[Standing], envelope: Envelope, event: PlanApproved) -> None:
    row = _row(rows, envelope)
    row.approval = Approval(plan=event.plan, by=str(envelope.actor), why=event.why, until=event.until)


def _rejected(rows: Rows[Standing], envelope: Envelope, event: PlanRejected) -> None:
    row = _row(rows, envelope)
    row.approval = Approval(plan=event.plan, by=str(envelope.actor), why=event.why, rejected=True)


def _fail(row: Standing, envelope: Envelope, reason: str, message: str, *, final: bool = False, tries: int = 1) -> None:
    row.failures += tries
    row.failed, row.final = envelope.time, final
    row.stalled, row.waits_for, row.held = False, None, None
    row.run = None
    _stand(row, envelope, "False", reason, message)


def _unverified(rows: Rows[Standing], envelope: Envelope, event: VerificationFailed) -> None:
    row = _row(rows, envelope)
    said = "; ".join(verdict.message for verdict in event.failed) or "a check of the plan did not pass"
    reason = event.reason or "ReconciliationFailed"
    _fail(row, envelope, reason, f"{event.about}: {said}" if event.about else said)
    _attempt(row, envelope, reason)


def _stage_failed(rows: Rows[Standing], envelope: Envelope, event: StageFailed) -> None:
    row = _row(rows, envelope)
    # A failure that repeats the one before it comes without the message.
    message = row.message if event.repeats and event.reason == row.reason else event.message
    # Nor is each of them recorded: `attempt` counts them.
    tries = max(1, event.attempt - row.failures)
    _fail(row, envelope, event.reason, message, final=event.final, tries=tries)
    row.stalled, row.waits_for, row.tried = event.stalled, event.waits_for, event.generation
    if event.revision is not None:
        row.attempted = event.revision
    if event.stage in ("plan", "verify", "apply", "observe"):
        _attempt(row, envelope, event.reason, tries if event.repeats else 1)


def _apply_started(rows: Rows[Standing], envelope: Envelope, event: ApplyStarted) -> None:
    row = _row(rows, envelope)
    row.applying = event.plan
    terms = Terms(event.identity, event.overridden)
    row.terms = (*(other for other in row.terms if other != terms), terms)


def _apply_failed(rows: Rows[Standing], envelope: Envelope, event: ApplyFailed) -> None:
    row = _row(rows, envelope)
    row.applying = None
    row.failed_applies += event.reason != INTERRUPTED
    _fail(row, envelope, event.reason, event.message)
    _attempt(row, envelope, event.reason)


def _apply_finished(rows: Rows[Standing], envelope: Envelope, event: ApplyFinished) -> None:
    row = _row(rows, envelope)
    row.applying = row.approval = row.held = None
    row.set, row.failed_applies = event.set, 0
    row.terms = row.terms[-1:]


def _health(rows: Rows[Standing], envelope: Envelope, event: HealthChanged) -> None:
    if not event.checked:
        return  # seen of an object: `actual` has it, also where the object is a target itself
    row = _row(rows, envelope)
    if row.health != event.health:
        row.health_since = envelope.time
    row.health, row.health_message = event.health, event.message
    if event.health == "Failed":
        _fail(row, envelope, event.reason or "HealthCheckFailed", event.message)
        _attempt(row, envelope, row.reason)


def _action_started(rows: Rows[Standing], envelope: Envelope, event: ReleaseActionStarted) -> None:
    row = _row(rows, envelope)
    row.attempted = Revision(event.chart_version) if event.chart_version else row.attempted
    row.health, row.health_since, row.health_message = None, None, ""  # what was healthy was the version before


def _action_ended(rows: Rows[Standing], envelope: Envelope, event: ReleaseActionEnded) -> None:
    row = _row(rows, envelope)
    if row.health == "InProgress":
        row.health, row.health_since, row.health_message = None, None, ""
    if event.outcome == "failed":
        row.failures += 1
        row.failed = envelope.time
    if event.outcome != "superseded":
        _stand(row, envelope, "False" if event.outcome == "failed" else row.ready, event.reason, event.message)


def _ended(rows: Rows[Standing], envelope: Envelope, event: RunEnded) -> None:
    row = _row(rows, envelope)
    row.run = None
    row.handled = event.token or row.handled
    row.held = None
    if event.outcome == "superseded":
        return
    if event.outcome == "rejected":
        row.observed = event.generation
        _fail(
            row, envelope, "PlanRejected", "the plan was rejected" + (f": {row.approval.why}" if row.approval else "")
        )
        row.final, row.tried = True, event.generation
        return
    row.failures, row.failed, row.final, row.stalled, row.waits_for = 0, None, False, False, None
    row.failed_applies = 0
    row.observed = event.generation
    if event.revision is not None:
        row.attempted = row.applied = event.revision
    row.set = event.set or row.set
    row.source = event.source or row.source
    _stand(row, envelope, "True" if event.ready else "False", event.reason or "Succeeded", event.message)
    row.unready = not event.ready
    if event.set is not None:
        row.rendered = event.set
        _attempt(row, envelope, "Succeeded")


CONDITIONS = Projection(
    name="conditions",
    version=5,
    row=Standing,
    mention=str,
    handlers=dict(
        [
            on(SourceDeclared, _declared),
            on(TargetDeclared, _declared),
            on(SourceRemoved, _removed),
            on(TargetRemoved, _removed),
            on(RevisionFetched, _fetched),
            on(RevisionSettled, _settled),
            on(Rendered, _rendered),
            on(Planned, _planned),
            on(PlanHeld, _held),
            on(PlanApproved, _approved),
            on(PlanRejected, _rejected),
            on(Verified, _verified),
            on(VerificationFailed, _unverified),
            on(StageFailed, _stage_failed),
            on(ApplyStarted, _apply_started),
            on(ApplyFailed, _apply_failed),
            on(ApplyFinished, _apply_finished),
            on(HealthChanged, _health),
            on(ReleaseActionStarted, _action_started),
            on(ReleaseActionEnded, _action_ended),
            on(RunEnded, _ended),
        ]
    ),
    columns={"ready": "$.ready"},
)
