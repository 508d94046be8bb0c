"""`tidelog explain`: from "not ready" to the one thing that holds it."""

from collections.abc import Iterable, Sequence
from itertools import islice, takewhile
from typing import Literal, TypeAlias

import msgspec

from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.observe.drift import FLAPPING_WITHIN, Flaps
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import Commit, commit_of, source_of, sources_of
from tidelog.engine.views.names import NotThereError, Subject, cluster_below, subject_in, subject_of
from tidelog.engine.views.pins import PinTold, pin_of
from tidelog.engine.views.releases import (
    Failure,
    ended_words,
    last_failure,
    named,
    release_of,
    snapshot_words,
    started_words,
)
from tidelog.engine.views.sentences import counted
from tidelog.engine.views.traces import Removal, removal_of, trace_of
from tidelog.events.moment import Time, datetime_of, shown_time, time_of
from tidelog.events.names import ObjectId, Revision, StreamName, object_stream
from tidelog.events.projections import ACTUAL, CONDITIONS, DESIRED, INVENTORY, Actual, Desired, ReleaseRow, Standing
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import (
    ApplyFailed,
    DriftDetected,
    HealthChanged,
    ObjectApplied,
    ObjectObserved,
    ReleaseActionEnded,
    RunEnded,
    StageFailed,
    Verdict,
    VerificationFailed,
)
from tidelog.events.vocabulary.observe import Health
from tidelog.storage.log import Query, Recorded

Why: TypeAlias = Literal[
    "suspended",
    "dependency",
    "artifact",
    "cycle",
    "missing",
    "held",
    "rejected",
    "verification",
    "health",
    "drift",
    "failed",
    "running",
    "waiting",
]

DETAILS_MAX = 50
"""Objects or verdicts that a cause names one by one."""
FOUND_AGAIN_MAX = 100
"""Events that are read back, of one cause, for since when it is known."""
DRIFTED_MAX = 10
"""Objects that are noted of a target."""
AFTER_REJECTION = (
    "it waits for a newer revision, or another spec; `tidelog reconcile` has the same plan made again, and held again"
)
_FAILURES = (
    "StageFailed",
    "VerificationFailed",
    "ApplyFailed",
    "HealthChanged",
    "ReleaseActionEnded",
    "RunEnded",
    "PlanHeld",
)
GIVEN_UP = frozenset({"RetriesExceeded", "MissingRollbackTarget"})
"""Reasons for which a release is given up, after its actions failed (contract HR-092, HR-095)."""
_WITH_COMMIT: frozenset[Why] = frozenset({"held", "rejected", "verification", "health", "failed"})
_UNWELL = ("Failed", "Terminating", "NotFound", "InProgress")
"""From the worst to the one that passes by itself."""


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """One of the objects that a cause is about."""

    object: StreamName | None
    path: str
    """Of the field; empty where it is about the object as a whole."""
    message: str


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the chain from a symptom to what holds it."""

    stream: StreamName
    kind: str
    namespace: str
    name: str
    why: Why
    sentence: str
    reason: str = ""
    """As the condition has it."""
    message: str = ""
    since: Time | None = None
    position: int = 0
    """Of the event since which it is so; 0 where there is none."""
    details: tuple[Detail, ...] = ()
    command: str = ""
    """What a person can type to end it, where that is one command."""
    of_workload: bool = False
    """Whether it is of the workload before it in the chain: a Pod of it, or what should make them."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a source, target or object is as it is."""

    stream: StreamName
    kind: str
    namespace: str
    name: str
    ready: bool
    sentence: str
    since: Time | None
    position: int
    commit: Commit | None
    """What is applied; of an object, by its target, and of what is pinned, at the moment that it is kept at."""
    attempted: Commit | None
    """What the root came with: a target was last tried with, an object last written with, or pruned with."""
    pin: PinTold | None
    """What it is kept at; of an object, what its target is."""
    chain: tuple[Cause, ...]
    """From the symptom to its root; empty when it is ready."""
    root: Cause | None
    """The one thing that holds it: the last of the chain."""
    notes: tuple[Cause, ...]
    """What is worth knowing although it holds nothing now."""


def explain(archive: Archive, subject: Subject) -> Explanation:
    """Why a source, target or object is as it is.

    Raises:
        NotThereError: when it is not there at the archive's moment, and nothing wants it.
    """
    if subject.stream in archive.rows(CONDITIONS):
        return _of_flux(archive, subject)
    return _of_object(archive, subject)


# Sources and targets.


def _of_flux(archive: Archive, subject: Subject) -> Explanation:
    standing, desired = _standing(archive, subject.stream), _desired(archive, subject.stream)
    chain, notes = _chain(archive, subject.stream, ()), []
    if standing.ready == "True" and desired.suspended is not None:
        chain, notes = [], chain  # that it is left alone is another matter
    elif standing.ready == "True" and standing.run is not None and not chain:
        notes = [_running(archive, subject, standing)]
    behind = _behind(archive, subject.stream, chain)
    if behind.pin is not None:
        revision = f" at {behind.pin.moment}, to which it is pinned"
        notes.append(_pinned(archive, subject, behind.pin))
    else:
        revision = _at(archive, subject.stream, standing)
    if standing.ready == "True":
        notes += _drifted(archive, subject.stream)
    notes += _cut_off(archive, subject.stream, chain)
    sentence = f"{subject} is not ready" if chain else f"{subject} is ready{revision}"
    event = None if standing.since is None else _since(archive, subject.stream, standing.since)
    return _explanation(subject, sentence, chain, notes, behind, event)


def _at(archive: Archive, stream: StreamName, standing: Standing) -> str:
    """What a source or target is ready at."""
    release = release_of(archive, stream)
    if release is not None and release.latest is not None:
        return f" at {snapshot_words(release.latest)}"
    return f" at revision {standing.applied}" if standing.applied else ""


def _cut_off(archive: Archive, target: StreamName, chain: Sequence[Cause]) -> list[Cause]:
    """Why no newer revision comes to a target, whose own readiness says nothing of its source's."""
    if subject_of(target).group == SOURCE_GROUP:
        return []
    for source in sources_of(archive, target):
        if source not in archive.rows(CONDITIONS) or any(cause.stream == source for cause in chain):
            return []
        found = _cut_off_at(archive, source)
        if found:
            return found
    return []


def _cut_off_at(archive: Archive, source: StreamName) -> list[Cause]:
    standing = _standing(archive, source)
    found = _chain(archive, source, ())[:1]
    if not found or found[0].why not in ("suspended", "failed"):
        return []
    (cause,) = found
    why = cause.sentence if cause.why == "suspended" else f"{standing.reason}: {standing.message}"
    return [msgspec.structs.replace(cause, sentence=f"no newer revision comes from {subject_of(source)}: {why}")]


class _Behind(msgspec.Struct, frozen=True, kw_only=True):
    """The commits behind a source, target or object."""

    commit: Commit | None = None
    attempted: Commit | None = None
    pin: PinTold | None = None


def _behind(archive: Archive, stream: StreamName, chain: Sequence[Cause]) -> _Behind:
    """What stands behind a source or target, and behind what holds it."""
    pin = pin_of(archive, stream)
    attempted = _attempted(archive, chain) if chain else None
    if pin is not None:
        return _Behind(commit=pin.commit, attempted=attempted, pin=pin)
    return _Behind(commit=_commit_of(archive, stream, _standing(archive, stream).applied), attempted=attempted)


def _attempted(archive: Archive, chain: Sequence[Cause]) -> Commit | None:
    """The commit that a root came with; None where it is of no commit, as of a source that cannot be fetched."""
    # A Pod came with the workload that it is of.
    root = next((one for one in reversed(chain) if not one.of_workload), chain[-1])
    stream = root.stream
    if stream not in archive.rows(CONDITIONS):
        # What its target was tried with since may never have come to be applied.
        return trace_of(archive, subject_of(stream)).commit if root.why == "health" else None
    if root.why not in _WITH_COMMIT or subject_of(stream).group == SOURCE_GROUP:
        return None
    pin = pin_of(archive, stream)
    return pin.commit if pin is not None else _commit_of(archive, stream, _standing(archive, stream).attempted)


def _commit_of(archive: Archive, stream: StreamName, revision: Revision | None) -> Commit | None:
    if revision is None:
        return None
    source = stream if subject_of(stream).group == SOURCE_GROUP else source_of(archive, stream)
    return commit_of(archive, revision, source=source)


def _explanation(
    subject: Subject,
    sentence: str,
    chain: list[Cause],
    notes: list[Cause],
    behind: _Behind,
    event: Recorded | None,
) -> Explanation:
    return Explanation(
        stream=subject.stream,
        kind=subject.kind,
        namespace=subject.namespace,
        name=subject.name,
        ready=not chain,
        sentence=sentence,
        since=None if event is None else event.envelope.time,
        position=0 if event is None else event.envelope.position,
        commit=behind.commit,
        attempted=behind.attempted,
        pin=behind.pin,
        chain=tuple(chain),
        root=chain[-1] if chain else None,
        notes=tuple(notes),
    )


def _chain(archive: Archive, stream: StreamName, above: tuple[StreamName, ...]) -> list[Cause]:
    """What holds a source or target; empty when nothing does."""
    subject = subject_of(stream)
    if stream in above:
        round_ = [str(subject_of(one)) for one in (*above[above.index(stream) :], stream)]
        sentence = f"they wait for each other for ever: {' → '.join(round_)}; take one of these dependencies out"
        return [_cause(subject, "cycle", sentence)]
    if stream not in archive.rows(CONDITIONS):
        return [_cause(subject, "missing", f"there is no {subject}; declare it, or correct who names it")]
    standing, desired = _standing(archive, stream), _desired(archive, stream)
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
        return [_running(archive, subject, standing) if standing.run else _waiting(archive, subject)]
    return _failure(archive, subject, standing, above)


def _failure(archive: Archive, subject: Subject, standing: Standing, above: tuple[StreamName, ...]) -> list[Cause]:
    if standing.waits_for is not None:
        return _waits_for(archive, subject, standing, standing.waits_for, above)
    last = next(filter(_is_of_condition, archive.backwards(Query(stream=subject.stream, types=_FAILURES))), None)
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
    first = _standing_cause(archive, subject, standing, why, sentence)
    rest = _chain(archive, other, (*above, subject.stream))
    if rest:
        return [first, *rest]
    known = _standing(archive, other)
    if "readyExpr" in standing.message:
        return [first]  # what it is ready by is no condition, and its message says what came of it
    told = f"{sentence}, which is ready at revision {known.applied}: its next run is due"
    return [msgspec.structs.replace(first, sentence=told)]


def _unhealthy(archive: Archive, subject: Subject, standing: Standing, above: tuple[StreamName, ...]) -> list[Cause]:
    """The objects that a target waits for, or that failed; the worst of them last."""
    unwell = _unwell(archive, subject.stream)
    failed = standing.health == "Failed"
    sentence = "what it applied did not become healthy" if failed else "it waits for what it applied to be healthy"
    details = tuple(
        Detail(object=one.stream, path="", message=_health_of(archive, one)) for one in unwell[:DETAILS_MAX]
    )
    event = None if standing.health_since is None else _since(archive, subject.stream, standing.health_since)
    first = msgspec.structs.replace(
        _cause(subject, "health", sentence, event=event),
        reason=standing.reason if failed else "",
        message=standing.health_message,
        details=details,
    )
    if not unwell:
        return [first]
    worst = unwell[0]
    if worst.stream in archive.rows(CONDITIONS):
        return [first, *_chain(archive, worst.stream, (*above, subject.stream))]
    return [first, *_object_causes(archive, worst)]


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
    first = msgspec.structs.replace(_cause(subject, "running", f"{words} goes on", event=event), **failed)
    hook = next((one for one in reversed(ongoing.hooks) if one.ended is None), None)
    if hook is not None:
        object_ = subject_in(cluster_below(archive, subject.stream), hook.object)
        first = msgspec.structs.replace(first, sentence=f"{words} waits for its {hook.hook} hook {object_}")
        return [first, *_object_causes(archive, object_)] if object_.stream in archive.rows(ACTUAL) else [first]
    applied = archive.last(Query(stream=subject.stream, types=("ApplyFinished",), after=ongoing.position))
    if standing.health == "InProgress" or (applied is not None and _unwell(archive, subject.stream)):
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
        Detail(object=_stream(subject, one.object), path="", message=f"the {one.hook} hook failed: {one.message}")
        for one in failure.hooks
    ]
    unwell = [] if details or failure.remedies else _unwell(archive, subject.stream)
    details += [Detail(object=one.stream, path="", message=_health_of(archive, one)) for one in unwell]
    exhausted = standing.stalled or standing.reason in GIVEN_UP
    if exhausted:
        given_up = f"; it was given up{_after_attempts(archive, subject.stream)}"
        sentence += f"{given_up}, until its chart, its values or its spec change, or somebody asks for it"
    else:
        sentence += "; it is tried again"
    cause = _cause(subject, "health" if unwell else "failed", sentence, event=failure.recorded)
    first = msgspec.structs.replace(
        cause,
        reason=event.reason,
        message=event.message,
        details=tuple(details[:DETAILS_MAX]),
        command=f"tidelog reconcile {_typed(subject)} --reset" if exhausted else "",
    )
    if not unwell or exhausted:
        return [first]
    worst = unwell[0]
    if worst.stream in archive.rows(CONDITIONS):
        return [first, *_chain(archive, worst.stream, (*above, subject.stream))]
    return [first, *_object_causes(archive, worst)]


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


def _unwell(archive: Archive, target: StreamName) -> list[Subject]:
    """The objects of a target that are not healthy, the worst first."""
    row, actual = archive.row(INVENTORY, target), archive.rows(ACTUAL)
    cluster = cluster_below(archive, target)
    found: list[tuple[int, Subject]] = []
    for id in () if row is None else row.objects:
        subject = subject_in(cluster, id)
        if subject.stream == target:
            continue
        seen = actual.get(subject.stream)
        health = "NotFound" if seen is None else seen.health
        if health in _UNWELL:
            found.append((_UNWELL.index(health), subject))
    return [subject for _, subject in sorted(found, key=lambda pair: (pair[0], pair[1].stream))]


def _suspended(archive: Archive, subject: Subject, desired: Desired) -> Cause:
    suspension = desired.suspended
    if suspension is None:
        raise ValueError(f"{subject} is not suspended")
    event = archive.last(Query(stream=subject.stream, types=("Suspended",)))
    until = f", until {shown_time(suspension.until)}" if suspension.until else ""
    sentence = f"automation is off: suspended by {suspension.by}: {suspension.why}{until}"
    cause = _cause(subject, "suspended", sentence, event=event)
    return msgspec.structs.replace(
        cause, reason="Suspended", message=suspension.why, command=f"tidelog resume {_typed(subject)}"
    )


def _held(archive: Archive, subject: Subject, standing: Standing) -> Cause:
    held, approval = standing.held, standing.approval
    if held is None:
        raise ValueError(f"{subject} has no plan that is held")
    if approval is not None and approval.plan == held.plan:
        event = archive.last(Query(stream=subject.stream, types=("PlanApproved", "PlanRejected")))
        if approval.rejected:
            sentence = f"plan {held.plan} was rejected by {approval.by}: {approval.why}"
            return _cause(subject, "rejected", sentence, event=event)
        if approval.until is None or archive.now.isoformat() < approval.until:
            sentence = f"plan {held.plan} was approved by {approval.by}: {approval.why}; its apply is due"
            return _cause(subject, "running", sentence, event=event)
    event = archive.last(Query(stream=subject.stream, types=("PlanHeld",)))
    cause = _cause(subject, "held", f"plan {held.plan} is held by the check {held.check}", event=event)
    return msgspec.structs.replace(
        cause, reason="PlanHeld", message=held.why, command=f'tidelog approve {held.plan} --why "…"'
    )


def _unverified(archive: Archive, subject: Subject, standing: Standing, verdicts: Iterable[Verdict]) -> Cause:
    failed = [verdict for verdict in verdicts if not verdict.passed]
    details = tuple(
        Detail(object=_stream(subject, one.object), path=one.path, message=f"{one.check}: {one.message}")
        for one in failed[:DETAILS_MAX]
    )
    checks = ", ".join(dict.fromkeys(verdict.check for verdict in failed))
    plan = f"plan {standing.plan} " if standing.plan else "its plan "
    sentence = f"{plan}did not pass its checks ({checks}); nothing of it was applied"
    return msgspec.structs.replace(
        _standing_cause(archive, subject, standing, "verification", sentence), details=details
    )


def _not_applied(archive: Archive, subject: Subject, standing: Standing, event: ApplyFailed) -> Cause:
    how_far = f"{event.applied} applied, {event.pending} not"
    sentence = f"the apply of plan {event.plan} stopped in wave {event.wave}: {how_far}"
    detail = Detail(object=_stream(subject, event.object), path="", message=event.message)
    return msgspec.structs.replace(
        _standing_cause(archive, subject, standing, "failed", sentence), details=(detail,) if event.object else ()
    )


def _failed(archive: Archive, subject: Subject, standing: Standing, event: StageFailed | None) -> Cause:
    if standing.reason == "PlanRejected":
        return _standing_cause(archive, subject, standing, "rejected", f"{standing.message}; {AFTER_REJECTION}")
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
    return _standing_cause(archive, subject, standing, "failed", f"{stage} failed{at}; {again}")


def _running(archive: Archive, subject: Subject, standing: Standing) -> Cause:
    event = None
    if standing.run is not None:
        event = next(archive.events(Query(stream=subject.stream, run=standing.run)), None)
    at = f", at revision {standing.attempted}" if standing.attempted else ""
    return _cause(subject, "running", f"a run is going on{at}", event=event)


def _waiting(archive: Archive, subject: Subject) -> Cause:
    event = archive.last(Query(stream=subject.stream, types=("SourceDeclared", "TargetDeclared")))
    return _cause(subject, "waiting", "it was declared, and waits for its first run", event=event)


def _pinned(archive: Archive, subject: Subject, pin: PinTold) -> Cause:
    sentence = f"it is pinned by {pin.by} to {pin.moment}, until a revision newer than {pin.left} arrives: {pin.why}"
    command = f'tidelog unpin {_typed(subject)} --why "…"'
    cause = _cause(subject, "waiting", sentence, event=archive.event(pin.pinned))
    return msgspec.structs.replace(cause, command=command)


# Objects.


def _of_object(archive: Archive, subject: Subject) -> Explanation:
    actual = archive.rows(ACTUAL).get(subject.stream)
    if actual is None:
        return _absent(archive, subject)
    owner = actual.owner
    chain: list[Cause] = []
    notes: list[Cause] = []
    if actual.health in _UNWELL:
        chain += _object_causes(archive, subject)
    if actual.drift:
        chain.append(_drift(archive, subject, actual))
    above = [] if owner is None else _chain(archive, owner, ())
    if chain and not actual.drift:
        # The object's own health is the cause; its target only waits for it.
        notes += [cause for cause in above if cause.stream != subject.stream]
    else:
        chain += above
    behind = _Behind() if owner is None else _behind(archive, owner, chain)
    if owner is not None and behind.pin is not None:
        notes.append(_pinned(archive, subject_of(owner), behind.pin))
    if owner is not None:
        notes += _cut_off(archive, owner, chain)
    by = f"applied by {subject_of(owner)}" if owner is not None else "applied by nobody that Tidelog knows"
    sentence = f"{subject} is {actual.health}, {by}"
    if chain and actual.health not in _UNWELL and not actual.drift:
        sentence += ", which is not ready"
    return _explanation(subject, sentence, chain, notes, behind, archive.event(actual.position))


def _absent(archive: Archive, subject: Subject) -> Explanation:
    """Of an object that is not there: who wants it, and why it is not applied; or who took it away."""
    wanting = _who_wants(archive, subject)
    if wanting is not None:
        chain = _chain(archive, wanting, ()) or [_running(archive, subject_of(wanting), _standing(archive, wanting))]
        missing = _cause(subject, "missing", f"{subject_of(wanting)} renders it, and has not applied it")
        behind = _behind(archive, wanting, chain)
        behind = _behind(archive, wanting, chain)
        return _explanation(subject, f"{subject} is not there", [missing, *chain], [], behind, None)
    gone, removal = _seen_gone(archive, subject), removal_of(archive, subject)
    if removal is not None and (gone is None or gone.envelope.position < removal.position):
        return _was_pruned(archive, subject, removal)
    if gone is None:
        raise NotThereError(f"{subject} is not there, and no target renders it")
    actor = gone.envelope.actor
    known = actor.kind != "engine" and actor.name != "unknown"
    who = f"{actor} deleted it" if known else "somebody deleted it; the log does not know who"
    cause = _cause(subject, "missing", who, event=gone)
    return _explanation(subject, f"{subject} is gone; no target renders it", [cause], [], _Behind(), gone)


def _was_pruned(archive: Archive, subject: Subject, removal: Removal) -> Explanation:
    did = {"deleted": "deleted it", "absent": "found it gone", "skipped": "let go of it, and left it there"}
    who = f"{subject_of(removal.target)} {did[removal.outcome]} with plan {removal.plan}"
    if removal.target_removed:
        who += ", as it was removed itself"
    elif removal.commit is not None:
        who += f", at revision {removal.commit.revision}"
    for decision in removal.approvals:
        who += f", approved by {decision.by}: {decision.why}" * (decision.decision == "approved")
    event = archive.event(removal.position)
    cause = _cause(subject, "missing", who, event=event)
    sentence = f"{subject} was pruned; no target renders it"
    return _explanation(subject, sentence, [cause], [], _Behind(attempted=removal.commit), event)


def _who_wants(archive: Archive, subject: Subject) -> StreamName | None:
    id = subject.key.id.encode()
    for stream, desired in archive.rows(DESIRED).items():
        if desired.objects is None or objects_cluster(StreamName(stream), desired) != subject.cluster:
            continue
        data = archive.body(desired.objects)
        if data is not None and b'"' + id + b'"' in data:
            return StreamName(stream)
    return None


def _seen_gone(archive: Archive, subject: Subject) -> Recorded | None:
    """The event in which an object was seen to be gone."""
    seen = archive.last(Query(stream=subject.stream, types=("ObjectObserved",)))
    return seen if seen is not None and isinstance(seen.event, ObjectObserved) and seen.event.gone else None


def _object_causes(archive: Archive, subject: Subject) -> list[Cause]:
    """Why an object is not as it should be; of a workload, down to its Pods."""
    first, actual = _object_cause(archive, subject), archive.rows(ACTUAL).get(subject.stream)
    because = None if actual is None else actual.because
    if because is None:
        return [first]
    pod = subject_in(subject.cluster, because.object)
    seen = archive.backwards(Query(stream=subject.stream, types=("HealthChanged",)))
    told = islice((one for one in seen if not _is_of_condition(one)), FOUND_AGAIN_MAX)
    since = list(takewhile(lambda one: isinstance(one.event, HealthChanged) and one.event.because == because, told))
    failed = because.reason == "FailedCreate"
    sentence = f"no Pods can be made for {pod}" if failed else f"{pod} is not as it should be"
    cause = _cause(pod, "health", sentence, event=since[-1] if since else None)
    return [first, msgspec.structs.replace(cause, reason=because.reason, message=because.message, of_workload=True)]


def _object_cause(archive: Archive, subject: Subject) -> Cause:
    actual = archive.rows(ACTUAL).get(subject.stream)
    health = "NotFound" if actual is None else actual.health
    last = None if actual is None else archive.event(actual.position)
    known, told = last, _health_in(last, health)
    if told is None:
        seen = archive.backwards(Query(stream=subject.stream, types=("HealthChanged",)))
        changed = next((one for one in seen if not _is_of_condition(one)), None)
        event = None if changed is None else changed.event
        if changed is not None and isinstance(event, HealthChanged) and event.health == health:
            known, told = changed, event
    cause = _cause(subject, "health", f"{subject} is {health}", event=known)
    if told is None:
        return cause
    return msgspec.structs.replace(cause, reason=told.reason, message=told.message)


def _health_in(recorded: Recorded | None, health: Health) -> HealthChanged | ObjectApplied | ObjectObserved | None:
    """The event, if it says of an object that it has this health, and why."""
    event = None if recorded is None else recorded.event
    if recorded is None or not isinstance(event, HealthChanged | ObjectApplied | ObjectObserved):
        return None
    of_target = isinstance(event, HealthChanged) and event.checked
    says = event.health == health and bool(event.reason or event.message)
    return event if says and not of_target else None


def _health_of(archive: Archive, subject: Subject) -> str:
    cause = _object_cause(archive, subject)
    said = ": ".join(part for part in (cause.reason, cause.message) if part)
    health = cause.sentence.rpartition(" ")[2]
    told, actual = f"{health}, {said}" if said else health, archive.rows(ACTUAL).get(subject.stream)
    because = None if actual is None else actual.because
    return told if because is None else f"{told}; {because.reason} of {subject_in(subject.cluster, because.object)}"


def _drift(archive: Archive, subject: Subject, actual: Actual) -> Cause:
    event = archive.last(Query(stream=subject.stream, types=("DriftDetected",)))
    who = ", ".join(dict.fromkeys(field.manager for field in actual.drift if field.manager)) or "someone"
    sentence = f"{subject} is no longer as it was applied: changed by {who}"
    details = tuple(
        Detail(object=subject.stream, path=field.path, message=f"changed by {field.manager or 'someone'}")
        for field in actual.drift[:DETAILS_MAX]
    )
    cause = msgspec.structs.replace(_cause(subject, "drift", sentence, event=event), details=details)
    if event is None or not _flaps(archive, subject, event):
        return cause
    return msgspec.structs.replace(
        cause,
        sentence=f"{sentence}, again and again; so it is put right only now and then",
        reason="DriftFlapping",
        message="leave the fields out of the manifests, or stop who writes them",
    )


def _flaps(archive: Archive, subject: Subject, last: Recorded) -> bool:
    """Whether somebody changes the same fields so often that the engine does not fight on."""
    flaps, found = Flaps(), False
    drifts = Query(stream=subject.stream, types=("DriftDetected",))
    for recorded in archive.since(drifts, time_of(datetime_of(last.envelope.time) - FLAPPING_WITHIN)):
        event = recorded.event
        if isinstance(event, DriftDetected):
            found = len(flaps.add(subject.key, event.fields, datetime_of(recorded.envelope.time))) == len(event.fields)
    return found


def _drifted(archive: Archive, target: StreamName) -> list[Cause]:
    """Objects of a target that are not as it applied them, which its readiness does not tell."""
    row, actual = archive.row(INVENTORY, target), archive.rows(ACTUAL)
    cluster = cluster_below(archive, target)
    subjects = [subject_in(cluster, id) for id in sorted(() if row is None else row.objects)]
    found = [(one, seen) for one in subjects if (seen := actual.get(one.stream)) is not None and seen.drift]
    return [_drift(archive, one, seen) for one, seen in found[:DRIFTED_MAX]]


# Parts.


def _cause(subject: Subject, why: Why, sentence: str, *, event: Recorded | None = None) -> Cause:
    return Cause(
        stream=subject.stream,
        kind=subject.kind,
        namespace=subject.namespace,
        name=subject.name,
        why=why,
        sentence=sentence,
        since=None if event is None else event.envelope.time,
        position=0 if event is None else event.envelope.position,
    )


def _standing_cause(archive: Archive, subject: Subject, standing: Standing, why: Why, sentence: str) -> Cause:
    """A cause in the words of the condition, since when that says so."""
    event = None if standing.since is None else _since(archive, subject.stream, standing.since)
    return msgspec.structs.replace(
        _cause(subject, why, sentence, event=event), reason=standing.reason, message=standing.message
    )


def _since(archive: Archive, stream: StreamName, time: Time) -> Recorded | None:
    """The event of a stream since which it stands as it does."""
    later = archive.since(Query(stream=stream, types=_FAILURES), time)
    then = takewhile(lambda recorded: recorded.envelope.time == time, later)
    return max(filter(_is_of_condition, then), key=lambda recorded: recorded.envelope.position, default=None)


def _is_of_condition(recorded: Recorded) -> bool:
    """Whether an event decides how a source or target stands."""
    event = recorded.event
    if isinstance(event, HealthChanged):
        return event.checked  # else it is what was seen of it as an object
    return not (isinstance(event, RunEnded) and event.outcome == "superseded")


def _standing(archive: Archive, stream: StreamName) -> Standing:
    return archive.rows(CONDITIONS).get(stream) or Standing(ready="Unknown")


def _desired(archive: Archive, stream: StreamName) -> Desired:
    return archive.rows(DESIRED).get(stream) or Desired()


def _stream(subject: Subject, id: ObjectId | None) -> StreamName | None:
    return None if id is None else object_stream(subject.cluster, id)


def _typed(subject: Subject) -> str:
    """A subject as it is typed."""
    return f"{subject.kind.lower()}/{subject.name} -n {subject.namespace}"
