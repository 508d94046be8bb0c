"""What holds a source or target, link by link: dependencies, runs, actions on releases, and objects."""

from collections.abc import Iterable

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.causes import (
    DETAILS_MAX,
    FAILURES,
    Cause,
    Detail,
    Why,
    cause_of,
    desired_of,
    event_since,
    is_of_condition,
    standing_cause,
    standing_of,
    stream_in,
    typed,
)
from tidelog.engine.views.names import Subject, cluster_below, subject_in, subject_of
from tidelog.engine.views.object_causes import health_of, object_causes, unwell_of
from tidelog.engine.views.releases import Failure, ended_words, last_failure, named, release_of, started_words
from tidelog.engine.views.sentences import counted, with_about
from tidelog.events.moment import shown_time
from tidelog.events.names import StreamName
from tidelog.events.projections import ACTUAL, CONDITIONS, Desired, ReleaseRow, Standing
from tidelog.events.vocabulary import (
    ApplyFailed,
    HealthChanged,
    ReleaseActionEnded,
    StageFailed,
    Verdict,
    VerificationFailed,
)
from tidelog.storage.log import Query

AFTER_REJECTION = (
    "it waits for a newer revision, or another spec; `tidelog reconcile` has the same plan made again, and held again"
)
GIVEN_UP = frozenset({"RetriesExceeded", "MissingRollbackTarget"})
"""Reasons for which a release is given up, after its actions failed (contract HR-092, HR-095)."""


def chain_of(archive: Archive, stream: StreamName, above: tuple[StreamName, ...]) -> list[Cause]:
    """What holds a source or target; empty when nothing does."""
    subject = subject_of(stream)
    if stream in above:
        round_ = [str(subject_of(one)) for one in (*above[above.index(stream) :], stream)]
        sentence = f"they wait for each other for ever: {' → '.join(round_)}; take one of these dependencies out"
        return [cause_of(subject, "cycle", sentence)]
    if stream not in archive.rows(CONDITIONS):
        return [cause_of(subject, "missing", f"there is no {subject}; declare it, or correct who names it")]
    standing, desired = standing_of(archive, stream), desired_of(archive, stream)
    if desired.suspended is not None:
        return [_suspended(archive, subject, desired)]
    if standing.held is not None:
        return [_held(archive, subject, standing)]
    release = release_of(archive, stream)
    if release is not None and release.ongoing is not None and standing.waits_for is None:
        return _acting(archive, subject, standing, release, above)
    if standing.run is not None and standing.health == "InProgress":
        return _unhealthy(archive, subject, standing, above)
    if standing.ready == "True":
        return []
    if standing.ready == "Unknown":
        return [running_cause(archive, subject, standing) if standing.run else _waiting(archive, subject)]
    return _failure(archive, subject, standing, above)


def _failure(archive: Archive, subject: Subject, standing: Standing, above: tuple[StreamName, ...]) -> list[Cause]:
    if standing.waits_for is not None:
        return _waits_for(archive, subject, standing, standing.waits_for, above)
    last = next(filter(is_of_condition, archive.backwards(Query(stream=subject.stream, types=FAILURES))), None)
    event = None if last is None else last.event
    released = _released_badly(archive, subject, standing, event)
    if released is not None:
        return _action_failed(archive, subject, standing, released, above)
    match event:
        case VerificationFailed():
            return [_unverified(archive, subject, standing, event.failed)]
        case HealthChanged():
            return _unhealthy(archive, subject, standing, above)
        case ApplyFailed():
            return [_not_applied(archive, subject, standing, event)]
        case _:
            return [_failed(archive, subject, standing, event if isinstance(event, StageFailed) else None)]


def _waits_for(
    archive: Archive, subject: Subject, standing: Standing, other: StreamName, above: tuple[StreamName, ...]
) -> list[Cause]:
    why: Why = "dependency" if standing.reason == "DependencyNotReady" else "artifact"
    sentence = f"it waits for {subject_of(other)}"
    first = standing_cause(archive, subject, standing, why, sentence)
    rest = chain_of(archive, other, (*above, subject.stream))
    if rest:
        return [first, *rest]
    known = standing_of(archive, other)
    if "readyExpr" in standing.message:
        return [first]  # what it is ready by is no condition, and its message says what came of it
    told = f"{sentence}, which is ready at revision {known.applied}: its next run is due"
    return [msgspec.structs.replace(first, sentence=told)]


def _unhealthy(archive: Archive, subject: Subject, standing: Standing, above: tuple[StreamName, ...]) -> list[Cause]:
    """The objects that a target waits for, or that failed; the worst of them last."""
    unwell = unwell_of(archive, subject.stream)
    failed = standing.health == "Failed"
    sentence = "what it applied did not become healthy" if failed else "it waits for what it applied to be healthy"
    details = tuple(Detail(object=one.stream, path="", message=health_of(archive, one)) for one in unwell[:DETAILS_MAX])
    event = None if standing.health_since is None else event_since(archive, subject.stream, standing.health_since)
    first = msgspec.structs.replace(
        cause_of(subject, "health", sentence, event=event),
        reason=standing.reason if failed else "",
        message=standing.health_message,
        details=details,
    )
    if not unwell:
        return [first]
    worst = unwell[0]
    if worst.stream in archive.rows(CONDITIONS):
        return [first, *chain_of(archive, worst.stream, (*above, subject.stream))]
    return [first, *object_causes(archive, worst)]


def _acting(
    archive: Archive, subject: Subject, standing: Standing, release: ReleaseRow, above: tuple[StreamName, ...]
) -> list[Cause]:
    """What goes on with a release, down to the hook or the object that it waits for."""
    ongoing = release.ongoing
    if ongoing is None:
        raise ValueError(f"nothing goes on with {subject}")
    event = archive.event(ongoing.position)
    words = started_words(ongoing.started).removesuffix(",")
    failed = {"reason": standing.reason, "message": standing.message} if standing.ready == "False" else {}
    first = msgspec.structs.replace(cause_of(subject, "running", f"{words} goes on", event=event), **failed)
    hook = next((one for one in reversed(ongoing.hooks) if one.ended is None), None)
    if hook is not None:
        object_ = subject_in(cluster_below(archive, subject.stream), hook.object)
        first = msgspec.structs.replace(first, sentence=f"{words} waits for its {hook.hook} hook {object_}")
        return [first, *object_causes(archive, object_)] if object_.stream in archive.rows(ACTUAL) else [first]
    applied = archive.last(Query(stream=subject.stream, types=("ApplyFinished",), after=ongoing.position))
    if standing.health == "InProgress" or (applied is not None and unwell_of(archive, subject.stream)):
        rest = _unhealthy(archive, subject, standing, above)
        waits = f"{words} waits for what it applied to be healthy"
        return [msgspec.structs.replace(rest[0], sentence=waits, **failed), *rest[1:]]
    return [first]


def _released_badly(archive: Archive, subject: Subject, standing: Standing, last: object) -> Failure | None:
    """The action on a release for which a HelmRelease is not ready; None where that is for something else."""
    if isinstance(last, ReleaseActionEnded) or standing.reason in GIVEN_UP:
        return last_failure(archive, subject.stream)
    if release_of(archive, subject.stream) is None or not isinstance(last, StageFailed | ApplyFailed | HealthChanged):
        return None
    failure = last_failure(archive, subject.stream)
    return failure if failure is not None and failure.event.reason == standing.reason else None


def _action_failed(
    archive: Archive, subject: Subject, standing: Standing, failure: Failure, above: tuple[StreamName, ...]
) -> list[Cause]:
    """Why a release failed, what was done about it, and how it goes on."""
    event = failure.event
    words = ended_words(event).removesuffix(",")
    sentence = f"{words} failed{''.join(_remedy(one) for one in failure.remedies)}"
    details = [
        Detail(object=stream_in(subject, one.object), path="", message=f"the {one.hook} hook failed: {one.message}")
        for one in failure.hooks
    ]
    unwell = [] if details or failure.remedies else unwell_of(archive, subject.stream)
    details += [Detail(object=one.stream, path="", message=health_of(archive, one)) for one in unwell]
    exhausted = standing.stalled or standing.reason in GIVEN_UP
    if exhausted:
        given_up = f"; it was given up{_after_attempts(archive, subject.stream)}"
        sentence += f"{given_up}, until its chart, its values or its spec change, or somebody asks for it"
    else:
        sentence += "; it is tried again"
    cause = cause_of(subject, "health" if unwell else "failed", sentence, event=failure.recorded)
    first = msgspec.structs.replace(
        cause,
        reason=event.reason,
        message=event.message,
        details=tuple(details[:DETAILS_MAX]),
        command=f"tidelog reconcile {typed(subject)} --reset" if exhausted else "",
    )
    if not unwell or exhausted:
        return [first]
    worst = unwell[0]
    if worst.stream in archive.rows(CONDITIONS):
        return [first, *chain_of(archive, worst.stream, (*above, subject.stream))]
    return [first, *object_causes(archive, worst)]


def _after_attempts(archive: Archive, stream: StreamName) -> str:
    row = release_of(archive, stream)
    if row is None:
        return ""
    times = row.install_failures if row.last_action == "install" else row.upgrade_failures
    return f" after {counted(times, 'attempt')}" if times else ""


def _remedy(event: ReleaseActionEnded) -> str:
    """What was done after a failure, as the end of a sentence."""
    if event.outcome == "failed":
        return f", and {ended_words(event).removesuffix(',')} failed too: {event.message or event.reason}"
    if event.action == "rollback":
        return f", and was rolled back, as {named(event.name, event.version)}"
    return ", and was uninstalled"


def _suspended(archive: Archive, subject: Subject, desired: Desired) -> Cause:
    suspension = desired.suspended
    if suspension is None:
        raise ValueError(f"{subject} is not suspended")
    event = archive.last(Query(stream=subject.stream, types=("Suspended",)))
    until = f", until {shown_time(suspension.until)}" if suspension.until else ""
    sentence = f"automation is off: suspended by {suspension.by}: {suspension.why}{until}"
    cause = cause_of(subject, "suspended", sentence, event=event)
    return msgspec.structs.replace(
        cause, reason="Suspended", message=suspension.why, command=f"tidelog resume {typed(subject)}"
    )


def _held(archive: Archive, subject: Subject, standing: Standing) -> Cause:
    held, approval = standing.held, standing.approval
    if held is None:
        raise ValueError(f"{subject} has no plan that is held")
    if approval is not None and approval.plan == held.plan:
        event = archive.last(Query(stream=subject.stream, types=("PlanApproved", "PlanRejected")))
        if approval.rejected:
            sentence = f"plan {held.plan} was rejected by {approval.by}: {approval.why}"
            return cause_of(subject, "rejected", sentence, event=event)
        if approval.until is None or archive.now.isoformat() < approval.until:
            sentence = f"plan {held.plan} was approved by {approval.by}: {approval.why}; its apply is due"
            return cause_of(subject, "running", sentence, event=event)
    event = archive.last(Query(stream=subject.stream, types=("PlanHeld",)))
    cause = cause_of(subject, "held", f"plan {held.plan} is held by the check {held.check}", event=event)
    return msgspec.structs.replace(
        cause, reason="PlanHeld", message=held.why, command=f'tidelog approve {held.plan} --why "…"'
    )


def _unverified(archive: Archive, subject: Subject, standing: Standing, verdicts: Iterable[Verdict]) -> Cause:
    failed = [verdict for verdict in verdicts if not verdict.passed]
    details = tuple(
        Detail(object=stream_in(subject, one.object), path=one.path, message=with_about(one.message, one.check))
        for one in failed[:DETAILS_MAX]
    )
    checks = ", ".join(dict.fromkeys(verdict.check for verdict in failed))
    plan = f"plan {standing.plan} " if standing.plan else "its plan "
    sentence = f"{plan}did not pass its checks ({checks}); nothing of it was applied"
    return msgspec.structs.replace(
        standing_cause(archive, subject, standing, "verification", sentence), details=details
    )


def _not_applied(archive: Archive, subject: Subject, standing: Standing, event: ApplyFailed) -> Cause:
    how_far = f"{event.applied} applied, {event.pending} not"
    sentence = f"the apply of plan {event.plan} stopped in wave {event.wave}: {how_far}"
    detail = Detail(object=stream_in(subject, event.object), path="", message=event.message)
    return msgspec.structs.replace(
        standing_cause(archive, subject, standing, "failed", sentence), details=(detail,) if event.object else ()
    )


def _failed(archive: Archive, subject: Subject, standing: Standing, event: StageFailed | None) -> Cause:
    if standing.reason == "PlanRejected":
        return standing_cause(archive, subject, standing, "rejected", f"{standing.message}; {AFTER_REJECTION}")
    stage = "a run" if event is None else f"the stage {event.stage}"
    at = "" if event is None or event.revision is None else f" at revision {event.revision}"
    if standing.stalled:
        again = "it is not tried again before the spec, or the engine's configuration, is another"
    elif standing.final:
        again = "it is not tried again until what it was made from changes"
    else:
        # Of tries that fail in the same words, not each is recorded.
        times = "once" if standing.failures == 1 else f"{standing.failures} times"
        again = f"tried at least {times}, and again"
    return standing_cause(archive, subject, standing, "failed", f"{stage} failed{at}; {again}")


def running_cause(archive: Archive, subject: Subject, standing: Standing) -> Cause:
    """That a run goes on, and at which revision."""
    event = None
    if standing.run is not None:
        event = next(archive.events(Query(stream=subject.stream, run=standing.run)), None)
    at = f", at revision {standing.attempted}" if standing.attempted else ""
    return cause_of(subject, "running", f"a run is going on{at}", event=event)


def _waiting(archive: Archive, subject: Subject) -> Cause:
    event = archive.last(Query(stream=subject.stream, types=("SourceDeclared", "TargetDeclared")))
    return cause_of(subject, "waiting", "it was declared, and waits for its first run", event=event)
