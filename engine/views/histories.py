"""`tidelog history`: every run of a source or target, and every version of an object; the newest first."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

import msgspec

from tidelog.engine.objects.diff import differences
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import Commit, commit_of, source_of
from tidelog.engine.views.names import Subject
from tidelog.engine.views.sentences import sentence_of
from tidelog.events.bodies import BodyRef
from tidelog.events.moment import Time, datetime_of
from tidelog.events.names import EventId, PlanId, Revision, RunId, StreamName, TraceId
from tidelog.events.projection import Fold, Rows
from tidelog.events.projections import RUNS, ObjectVersion, Run
from tidelog.events.vocabulary import ApplyFailed, ApplyFinished, HealthChanged, ObjectApplied, ObjectPruned, RunEnded
from tidelog.events.vocabulary.base import BY_NAME
from tidelog.storage.log import Query, Recorded

FIELDS_MAX = 50
"""Changed fields of a version that are named."""
HIDDEN = "(secret)"
_OF_OBJECTS = frozenset({"ObjectApplied", "ObjectPruned"})
# What runs leave behind for each object is summed up in the events at their ends.
_OF_RUNS = tuple(name for name in BY_NAME if name not in _OF_OBJECTS)


class RunTold(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a source or target."""

    run: RunId
    trace: TraceId | None
    position: int
    """Of its first event."""
    last: int
    """Position of its last event."""
    started: Time
    ended: Time
    duration_ms: int
    outcome: str
    """`running`, `succeeded`, `unchanged`, `settled`, `held`, `rejected`, `superseded` or `failed`."""
    why: str
    """What it was for: the event that led to it, in a sentence."""
    by: str
    """Who stood behind it, with how that is known."""
    revision: Revision | None
    commit: Commit | None
    plan: PlanId | None
    reason: str
    message: str
    created: int
    configured: int
    unchanged: int
    pruned: int
    applied: int
    """Objects that were written before an apply failed."""


class VersionTold(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object."""

    position: int
    time: Time
    occurred: Time
    by: str
    """Who, with how that is known."""
    target: StreamName | None
    """The target that wrote it; none for what was only seen."""
    plan: PlanId | None
    what: str
    uid: str
    resource_version: str
    gone: bool
    fields: tuple[str, ...]
    """Paths of the fields that differ from the version before; `(secret)` for those of a secret object."""


def is_reconciled(archive: Archive, subject: Subject) -> bool:
    """Whether it is, or was, a source or target, and has runs rather than versions."""
    declared = Query(stream=subject.stream, types=("SourceDeclared", "TargetDeclared"))
    return subject.is_flux and archive.last(declared) is not None


def runs_of(archive: Archive, subject: Subject) -> Iterator[RunTold]:
    """The runs of a source or target, the newest first; a page of events in memory at a time."""
    commits: dict[Revision, Commit | None] = {}
    source = subject.stream if subject.group.startswith("source.") else source_of(archive, subject.stream)
    events = archive.backwards(Query(stream=subject.stream, types=_OF_RUNS))
    # Requests, and what is seen of the object itself, come between the events of a run.
    in_runs = (recorded for recorded in events if recorded.envelope.run is not None)
    for run, group in groupby(in_runs, key=_run_of):
        told = list(group)[::-1]
        row = _folded(run, told)
        if row.revision is not None and row.revision not in commits:
            commits[row.revision] = commit_of(archive, row.revision, source=source, trace=row.trace)
        yield _run(archive, run, row, told, commits.get(row.revision) if row.revision else None)


def _run_of(recorded: Recorded) -> RunId:
    return recorded.envelope.run or RunId("")


def _folded(run: RunId, told: list[Recorded]) -> Run:
    rows, fold = Rows[Run](), Fold()
    fold.add(RUNS, rows)
    fold.fold(recorded.raw for recorded in told)
    row = rows.get(run)
    if row is None:
        raise ValueError(f"run {run} has no events")
    return row


def _run(archive: Archive, run: RunId, row: Run, told: list[Recorded], commit: Commit | None) -> RunTold:
    first, events = told[0].envelope, [recorded.event for recorded in told]
    applied = [event for event in events if isinstance(event, ApplyFinished)]
    outcome, reason, message = row.outcome, row.reason, row.message
    last = events[-1]
    if isinstance(last, HealthChanged) and last.health != "Current":
        failed = last.health == "Failed"
        outcome, reason, message = ("failed" if failed else "running"), last.reason, last.message
    elif not isinstance(last, RunEnded) and any(isinstance(event, HealthChanged) for event in events):
        outcome = "running" if outcome == "succeeded" else outcome
    return RunTold(
        run=run,
        trace=row.trace,
        position=row.first,
        last=row.last,
        started=row.started,
        ended=row.ended,
        duration_ms=(datetime_of(row.ended) - datetime_of(row.started)) // timedelta(milliseconds=1),
        outcome=outcome,
        why=_why(archive, first.cause),
        by=str(first.actor),
        revision=row.revision,
        commit=commit,
        plan=row.plan,
        reason=reason,
        message=message,
        created=sum(event.created for event in applied),
        configured=sum(event.configured for event in applied),
        unchanged=sum(event.unchanged for event in applied),
        pruned=sum(event.pruned for event in applied),
        applied=sum(event.applied for event in events if isinstance(event, ApplyFailed)),
    )


def _why(archive: Archive, cause: EventId | None) -> str:
    position = None if cause is None else archive.log.position_of(cause)
    recorded = None if position is None else archive.event(position)
    return "" if recorded is None else sentence_of(recorded.event)


def versions_of(archive: Archive, subject: Subject) -> Iterator[VersionTold]:
    """The versions of an object that the log knew at the archive's moment, the newest first."""
    versions = archive.past.versions(subject.stream, archive.position)
    for number in range(len(versions) - 1, -1, -1):
        yield _version(archive, versions[number], versions[number - 1] if number else None)


def _version(archive: Archive, version: ObjectVersion, before: ObjectVersion | None) -> VersionTold:
    recorded = archive.event(version.position)
    event = None if recorded is None else recorded.event
    by_target = recorded is not None and recorded.envelope.stream != version.object
    return VersionTold(
        position=version.position,
        time=version.time,
        occurred=version.occurred,
        by=version.by,
        target=recorded.envelope.stream if recorded is not None and by_target else None,
        plan=event.plan if isinstance(event, ObjectApplied | ObjectPruned) else None,
        what="" if event is None else sentence_of(event),
        uid=version.uid,
        resource_version=version.resource_version,
        gone=version.gone,
        fields=_changed(archive, None if before is None else before.state, version.state),
    )


def _changed(archive: Archive, before: BodyRef | None, after: BodyRef | None) -> tuple[str, ...]:
    """The fields that differ between two states; nothing for the first and the last of an object."""
    if before is None or after is None or before.digest == after.digest:
        return ()
    if before.secret or after.secret:
        return (HIDDEN,)
    was, now = _object(archive, before), _object(archive, after)
    if was is None or now is None:
        return ()
    return tuple(one.path for one in differences(was, now)[:FIELDS_MAX])


def _object(archive: Archive, reference: BodyRef) -> KubeObject | None:
    data = archive.body(reference)
    value = None if data is None else msgspec.json.decode(data)
    return value if isinstance(value, dict) else None
