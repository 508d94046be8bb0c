"""`tidelog history`: every run of a source or target, and every version of an object; the newest first."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby
from typing import TypeVar

import msgspec

from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.objects.diff import differences
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import Commit, commit_of, source_of
from tidelog.engine.views.failures import Failures
from tidelog.engine.views.names import Subject, is_engine, subject_of
from tidelog.engine.views.pins import PinTold, pin_of
from tidelog.engine.views.releases import ActionTold, actions_in
from tidelog.engine.views.sentences import sentence_of
from tidelog.events.bodies import BodyRef
from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time, datetime_of
from tidelog.events.names import PlanId, Revision, RunId, StreamName, TraceId
from tidelog.events.projection import Fold, Rows
from tidelog.events.projections import RUNS, ObjectVersion, Run
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    DriftDetected,
    Event,
    HealthChanged,
    ObjectApplied,
    ObjectPruned,
    Planned,
    ReleaseActionStarted,
    Resumed,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    SourceDeclared,
    StageFailed,
    TargetDeclared,
    TargetRemoved,
    VerificationFailed,
)
from tidelog.events.vocabulary.base import BY_NAME
from tidelog.storage.log import Query, Recorded

FIELDS_MAX = 50
"""Changed fields of a version that are named."""
DRIFTS_SHOWN_MAX = 3
"""Objects whose drift a run's cause names one by one."""
HIDDEN = "(secret)"
_ENDING = (RunEnded, StageFailed, VerificationFailed, HealthChanged, TargetRemoved)
_OF_OBJECTS = frozenset({"ObjectApplied", "ObjectAbandoned", "ObjectPruned"})
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
    """`running`, `succeeded`, `unchanged`, `settled`, `held`, `rejected`, `superseded`, `waiting` or `failed`.

    A run that is `waiting` ended because something it needs is not ready; the next begins when that is.
    """
    why: str
    """What it was for: the commit, the drift or the event that led to it, in a sentence."""
    by: str
    """Who stood behind it, with how that is known."""
    revision: Revision | None
    """By which it worked; of a run that put back what was wanted at a moment, of that moment."""
    commit: Commit | None
    pinned: int | None
    """The position of the moment that the target was kept at; none where it followed its source."""
    plan: PlanId | None
    reason: str
    message: str
    created: int
    configured: int
    unchanged: int
    pruned: int
    applied: int
    """Objects that were written before an apply failed."""
    actions: tuple[ActionTold, ...] = ()
    """Of a HelmRelease: what was done with its release, in order."""


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
    source = subject.stream if subject.group == SOURCE_GROUP else source_of(archive, subject.stream)
    events = archive.backwards(Query(stream=subject.stream, types=_OF_RUNS))
    # Requests, and what is seen of the object itself, come between the events of a run.
    in_runs = (recorded for recorded in events if recorded.envelope.run is not None)
    was_pinned = archive.last(Query(stream=subject.stream, types=("Pinned",))) is not None
    failures = Failures(archive)
    groups = ((run, list(group)[::-1]) for run, group in groupby(in_runs, key=_run_of))
    for (run, told), before in _with_next(groups):
        row = _folded(run, told)
        pin = _pin(archive, told) if was_pinned else None
        revision = _revision(row, told) if pin is None else pin.revision
        if revision is not None and revision not in commits:
            commits[revision] = commit_of(archive, revision, source=source, trace=row.trace)
        commit = commits.get(revision) if revision else None
        known = _Circumstances(run, revision, commit, pin, None if before is None else before[1])
        yield _run(archive, row, told, known, failures.message_of(told[-1]))


Item = TypeVar("Item")


def _with_next(items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Each item, with the one after it."""
    last: Item | None = None
    for item in items:
        if last is not None:
            yield last, item
        last = item
    if last is not None:
        yield last, None


class _Circumstances(msgspec.Struct, frozen=True):
    """What is known of a run beside its own events."""

    run: RunId
    revision: Revision | None
    commit: Commit | None
    pin: PinTold | None
    before: list[Recorded] | None
    """The events of the run before it."""


def _revision(row: Run, told: list[Recorded]) -> Revision | None:
    """By which a run worked; one that failed before it had rendered anything says so with its failure.

    Of a run that put right what failed, that is what it had tried, and not what it went back to.
    """
    begun = [event for event in (one.event for one in told) if isinstance(event, ReleaseActionStarted)]
    tried = [Revision(event.chart_version) for event in begun if event.chart_version and not event.remediates]
    if tried and any(event.remediates for event in begun):
        return tried[-1]
    last = told[-1].event
    known = row.revision or (last.revision if isinstance(last, StageFailed) else None)
    return known or next((Revision(event.chart_version) for event in begun if event.chart_version), None)


def _pin(archive: Archive, told: list[Recorded]) -> PinTold | None:
    """What a run worked by, where that was a past moment and not a revision of its source."""
    pin = pin_of(archive, told[-1].envelope.stream, told[-1].envelope.position)
    if pin is None:
        return None
    sets = {event.set for event in (one.event for one in told) if isinstance(event, Planned | RunEnded) and event.set}
    worked_by = pin.set in sets if sets else pin.pinned < told[0].envelope.position
    return pin if worked_by else None


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


def _run(archive: Archive, row: Run, told: list[Recorded], known: _Circumstances, said: str) -> RunTold:
    first, events = told[0].envelope, [recorded.event for recorded in told]
    applied = [event for event in events if isinstance(event, ApplyFinished)]
    outcome, reason, message = row.outcome, row.reason, row.message
    last, actions = events[-1], actions_in(told)
    if actions and not isinstance(last, _ENDING) and row.outcome in ("running", "succeeded", "failed"):
        # What was applied for an action says nothing of how it ended.
        final = actions[-1]
        outcome = "failed" if final.outcome == "failed" else "running"
        reason, message = (final.reason, final.message) if final.outcome == "failed" else ("", "")
    elif isinstance(last, HealthChanged) and last.health != "Current":
        failed = last.health == "Failed"
        outcome, reason, message = ("failed" if failed else "running"), last.reason, last.message
    elif isinstance(last, StageFailed):
        message = said
    elif not isinstance(last, RunEnded | TargetRemoved) and any(isinstance(event, HealthChanged) for event in events):
        outcome = "running" if outcome == "succeeded" else outcome
    return RunTold(
        run=known.run,
        trace=row.trace,
        position=row.first,
        last=row.last,
        started=row.started,
        ended=row.ended,
        duration_ms=(datetime_of(row.ended) - datetime_of(row.started)) // timedelta(milliseconds=1),
        outcome=outcome,
        why=_why(archive, told, known.before),
        by=str(first.actor),
        revision=known.revision,
        commit=known.commit,
        pinned=None if known.pin is None else known.pin.position,
        plan=row.plan,
        reason=reason,
        message=message,
        created=sum(event.created for event in applied),
        configured=sum(event.configured for event in applied),
        unchanged=sum(event.unchanged for event in applied),
        pruned=sum(event.pruned for event in applied),
        applied=sum(event.applied for event in events if isinstance(event, ApplyFailed)),
        actions=actions,
    )


def _why(archive: Archive, told: list[Recorded], before: list[Recorded] | None) -> str:
    """What a run was for: the event that it names as its cause, or else what is found to have led to it."""
    first = told[0].envelope
    if first.cause is not None:
        position = archive.log.position_of(first.cause)
        recorded = None if position is None else archive.event(position)
        if recorded is None:
            return ""
        # One run corrects all that drifted before it, and names the last of it as its cause.
        drifts = _drifts(archive, first, before) if isinstance(recorded.event, DriftDetected) else ""
        return drifts or _caused(archive, recorded, first.stream)
    if isinstance(told[-1].event, TargetRemoved):
        return sentence_of(told[-1].event)
    if subject_of(first.stream).group == SOURCE_GROUP:
        return ""
    if first.trace is not None:
        fetched = archive.last(Query(trace=first.trace, types=("RevisionFetched",), until=first.position))
        if fetched is not None:
            return _caused(archive, fetched, first.stream)
    if any(isinstance(one.event, Planned | ApplyStarted) for one in told):
        drifts = _drifts(archive, first, before)
        if drifts:
            return drifts
    return "" if before is None else _again(before[-1].event)


def _again(last: Event) -> str:
    """Why a run was made that names no cause, where the one before it ended so."""
    if isinstance(last, StageFailed) and last.waits_for is not None:
        return f"The run before it waited for {subject_of(last.waits_for)}"
    if isinstance(last, StageFailed | ApplyFailed | VerificationFailed):
        return "The run before it failed: tried again"
    return ""


def _caused(archive: Archive, cause: Recorded, stream: StreamName) -> str:
    """What a cause says, about whatever it is; where that is a source's revision, its commit."""
    cause = _resumption(archive, cause) or cause
    envelope, event = cause.envelope, cause.event
    if isinstance(event, Resumed):
        by = "" if envelope.actor.kind == "engine" else f" by {envelope.actor}"
        return f"Was resumed{by}" + (f": {event.why}" if event.why else "")
    if isinstance(event, TargetDeclared | SourceDeclared) and envelope.stream == stream:
        return _applied_by(archive, cause) or sentence_of(event)
    if is_engine(envelope.stream) or envelope.stream == stream:
        return sentence_of(event)
    subject = subject_of(envelope.stream)
    if isinstance(event, RevisionFetched | RevisionSettled | RunEnded) and event.revision is not None:
        if subject.group == SOURCE_GROUP:
            return _of_revision(archive, event.revision, cause)
        return f"{subject} is ready at revision {event.revision}"
    said = sentence_of(event)
    return f"{subject} {said[:1].lower()}{said[1:]}"


def _applied_by(archive: Archive, declared: Recorded) -> str:
    """Which target wrote the spec of a source or target, and by which revision; empty where none is known to."""
    recorded = _write_of(archive, declared)
    event = None if recorded is None else recorded.event
    if recorded is None or not isinstance(event, ObjectApplied):
        return ""
    owner, run = recorded.envelope.stream, recorded.envelope.run
    did = f"{subject_of(owner)} {event.action} it"
    rendered = archive.last(Query(stream=owner, types=("Planned",), run=run, until=recorded.envelope.position))
    planned = None if rendered is None else rendered.event
    if not isinstance(planned, Planned):
        return did
    commit = commit_of(archive, planned.revision, source=source_of(archive, owner), before=recorded.envelope.position)
    return f"{did}, by {_told_revision(planned.revision, commit)}"


def _write_of(archive: Archive, declared: Recorded) -> Recorded | None:
    """The write of a target that a spec came with; None where somebody else wrote it.

    The watch that sees a spec may be quicker, or slower, than the answer to its write: both are recorded as they come,
    and what is written with this spec, between the spec before and the one after it, is the write of it.
    """
    position, stream = declared.envelope.position, declared.envelope.stream
    declarations = Query(stream=stream, types=("TargetDeclared", "SourceDeclared"))
    before = archive.last(msgspec.structs.replace(declarations, until=position - 1))
    after = next(archive.events(msgspec.structs.replace(declarations, after=position)), None)
    since = 0 if before is None else before.envelope.position
    until = archive.position if after is None else after.envelope.position
    versions = [one for one in archive.past.versions(stream, until) if one.position > since]
    near = [one.position for one in reversed(versions) if one.position < position]
    near += [one.position for one in versions if one.position > position]
    for recorded in map(archive.event, near):
        event = None if recorded is None else recorded.event
        if isinstance(event, ObjectApplied) and event.action != "unchanged" and _wrote(archive, event, declared):
            return recorded
    return None


def _wrote(archive: Archive, applied: ObjectApplied, declared: Recorded) -> bool:
    """Whether an object was written with the spec that was declared; of one that cannot be read, so it is taken."""
    event = declared.event
    if applied.state is None or not isinstance(event, TargetDeclared | SourceDeclared):
        return False
    if applied.state.secret or event.spec.secret:
        return True
    written, spec = _object(archive, applied.state), archive.body(event.spec)
    return written is None or spec is None or written.get("spec", {}) == msgspec.json.decode(spec)


def _resumption(archive: Archive, cause: Recorded) -> Recorded | None:
    """Who resumed a source or target, where its new spec says no more than that: both are told of, the spec last."""
    if not isinstance(cause.event, SourceDeclared | TargetDeclared):
        return None
    # The object may be seen in its new version before its spec is told of.
    types = ("Suspended", "Resumed", "SourceDeclared", "TargetDeclared")
    before = archive.last(Query(stream=cause.envelope.stream, types=types, until=cause.envelope.position - 1))
    return before if before is not None and isinstance(before.event, Resumed) else None


def _of_revision(archive: Archive, revision: Revision, cause: Recorded) -> str:
    commit = commit_of(archive, revision, source=cause.envelope.stream, before=cause.envelope.position)
    return _told_revision(revision, commit)


def _told_revision(revision: Revision, commit: Commit | None) -> str:
    if commit is None or not commit.subject:
        origin = "" if commit is None or commit.origin is None else f", made of {commit.origin}"
        return f"revision {revision}{origin}"
    author = commit.author.partition(" <")[0]
    return f"revision {revision}: “{commit.subject}”" + (f" by {author}" if author else "")


def _drifts(archive: Archive, first: Envelope, before: list[Recorded] | None) -> str:
    """What drifted of a target between a run and the one before it: a run that corrects drift may name no cause."""
    after = before[-1].envelope.position if before else 0
    found: dict[str, None] = {}
    for recorded in archive.events(Query(types=("DriftDetected",), after=after, until=first.position)):
        event = recorded.event
        if isinstance(event, DriftDetected) and event.target == first.stream:
            found[_caused(archive, recorded, first.stream)] = None
    shown = list(found)[:DRIFTS_SHOWN_MAX]
    more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return "; ".join(shown) + more


def versions_of(archive: Archive, subject: Subject, *, with_status: bool = False) -> Iterator[VersionTold]:
    """The versions of an object that the log knew at the archive's moment, the newest first.

    Those that differ by their status alone come `with_status` only: there may be one a minute.
    """
    known = archive.past.versions(subject.stream, archive.position)
    versions = [version for version in known if with_status or not version.only_status]
    for number in range(len(versions) - 1, -1, -1):
        yield _version(archive, versions[number], versions[number - 1] if number else None)


def _version(archive: Archive, version: ObjectVersion, before: ObjectVersion | None) -> VersionTold:
    recorded = archive.event(version.position)
    event = None if recorded is None else recorded.event
    by_target = recorded is not None and recorded.envelope.stream != version.object
    was = None if before is None else before.state
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
        fields=("status",) if version.only_status else _changed(archive, was, version.state),
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
