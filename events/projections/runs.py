"""`runs`: every reconciliation, how far it came and how it ended. Key: the run's id."""

from typing import Literal, TypeAlias

import msgspec

from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time
from tidelog.events.names import PlanId, Revision, StreamName, TraceId
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    Event,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    Rendered,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    SourceRemoved,
    StageFailed,
    TargetRemoved,
    VerificationFailed,
)

Outcome: TypeAlias = Literal[
    "running", "succeeded", "unchanged", "settled", "held", "rejected", "superseded", "waiting", "failed"
]


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One reconciliation of one source or target."""

    stream: StreamName
    trace: TraceId | None = None
    first: int
    """Position of the run's first event."""
    last: int
    started: Time
    ended: Time
    """Time of the run's last event so far."""
    events: int = 0
    outcome: Outcome
    """Always written, so that rows can be asked for by it."""
    revision: Revision | None = None
    plan: PlanId | None = None
    reason: str = ""
    message: str = ""


def _every(rows: Rows[Run], envelope: Envelope, _: Event) -> None:
    if envelope.run is None:
        return
    row = rows.get(envelope.run)
    if row is None:
        row = Run(
            stream=envelope.stream,
            trace=envelope.trace,
            first=envelope.position,
            last=envelope.position,
            started=envelope.time,
            ended=envelope.time,
            outcome="running",
        )
    row.last, row.ended = envelope.position, envelope.time
    row.events += 1
    rows.put(envelope.run, row)


def _run(rows: Rows[Run], envelope: Envelope) -> Run | None:
    """The run of an event; `_every` has put it already."""
    return None if envelope.run is None else rows.get(envelope.run)


def _revision(rows: Rows[Run], envelope: Envelope, event: RevisionFetched | RevisionSettled | Rendered) -> None:
    if run := _run(rows, envelope):
        run.revision = event.revision
        if not isinstance(event, Rendered):
            run.outcome = "succeeded" if isinstance(event, RevisionFetched) else "settled"
            run.reason = run.message = ""


def _planned(rows: Rows[Run], envelope: Envelope, event: Planned) -> None:
    if run := _run(rows, envelope):
        run.plan, run.revision = event.plan, event.revision


def _held(rows: Rows[Run], envelope: Envelope, event: PlanHeld) -> None:
    if run := _run(rows, envelope):
        run.outcome, run.reason, run.message = "held", event.check, event.why


def _approved(rows: Rows[Run], envelope: Envelope, _: PlanApproved) -> None:
    if run := _run(rows, envelope):
        run.outcome, run.reason, run.message = "running", "", ""


def _rejected(rows: Rows[Run], envelope: Envelope, event: PlanRejected) -> None:
    if run := _run(rows, envelope):
        run.outcome, run.message = "rejected", event.why


def _unverified(rows: Rows[Run], envelope: Envelope, event: VerificationFailed) -> None:
    if run := _run(rows, envelope):
        run.outcome = "failed"
        if event.failed:
            run.reason, run.message = event.failed[0].check, event.failed[0].message


def _failed(rows: Rows[Run], envelope: Envelope, event: ApplyFailed | StageFailed) -> None:
    if run := _run(rows, envelope):
        # A failure that repeats the one before it comes without the message.
        repeats = isinstance(event, StageFailed) and event.repeats and event.reason == run.reason
        run.message = run.message if repeats else event.message
        waits = isinstance(event, StageFailed) and event.waits_for is not None
        run.outcome, run.reason = "waiting" if waits else "failed", event.reason


def _finished(rows: Rows[Run], envelope: Envelope, event: ApplyFinished) -> None:
    if run := _run(rows, envelope):
        run.outcome, run.plan, run.revision = "succeeded", event.plan, event.revision
        run.reason = run.message = ""


def _ended(rows: Rows[Run], envelope: Envelope, event: RunEnded) -> None:
    if run := _run(rows, envelope):
        run.outcome = event.outcome
        run.revision = event.revision or run.revision
        if event.outcome != "rejected":
            run.reason = run.message = ""


def _removed(rows: Rows[Run], envelope: Envelope, _: SourceRemoved | TargetRemoved) -> None:
    # Of what is no more, no run ends in another way.
    if (run := _run(rows, envelope)) and run.outcome == "running":
        run.outcome, run.reason, run.message = "succeeded", "", ""


RUNS = Projection(
    name="runs",
    version=3,
    row=Run,
    every=_every,
    mention=str,
    handlers=dict(
        [
            on(RevisionFetched, _revision),
            on(RevisionSettled, _revision),
            on(Rendered, _revision),
            on(Planned, _planned),
            on(PlanHeld, _held),
            on(PlanApproved, _approved),
            on(PlanRejected, _rejected),
            on(VerificationFailed, _unverified),
            on(ApplyFailed, _failed),
            on(StageFailed, _failed),
            on(ApplyFinished, _finished),
            on(RunEnded, _ended),
            on(SourceRemoved, _removed),
            on(TargetRemoved, _removed),
        ]
    ),
    columns={"stream": "$.stream", "trace": "$.trace", "outcome": "$.outcome"},
)
