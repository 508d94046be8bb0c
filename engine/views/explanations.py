"""`tidelog explain`: from "not ready" to the one thing that holds it."""

from collections.abc import Sequence

import msgspec

from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.causes import Cause, Why, cause_of, desired_of, event_since, standing_of, typed
from tidelog.engine.views.chains import chain_of, running_cause
from tidelog.engine.views.commits import Commit, commit_of, source_of, sources_of
from tidelog.engine.views.names import NotThereError, Subject, subject_of
from tidelog.engine.views.object_causes import UNWELL, drift_cause, drifted, object_causes
from tidelog.engine.views.pins import PinTold, pin_of
from tidelog.engine.views.releases import release_of, snapshot_words
from tidelog.engine.views.traces import Removal, removal_of, trace_of
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName
from tidelog.events.projections import ACTUAL, CONDITIONS, DESIRED, Standing
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import ObjectObserved
from tidelog.storage.log import Query, Recorded

_WITH_COMMIT: frozenset[Why] = frozenset({"held", "rejected", "verification", "health", "failed"})


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
    standing, desired = standing_of(archive, subject.stream), desired_of(archive, subject.stream)
    chain, notes = chain_of(archive, subject.stream, ()), []
    if standing.ready == "True" and desired.suspended is not None:
        chain, notes = [], chain  # that it is left alone is another matter
    elif standing.ready == "True" and standing.run is not None and not chain:
        notes = [running_cause(archive, subject, standing)]
    behind = _behind(archive, subject.stream, chain)
    if behind.pin is not None:
        revision = f" at {behind.pin.moment}, to which it is pinned"
        notes.append(_pinned(archive, subject, behind.pin))
    else:
        revision = _at(archive, subject.stream, standing)
    if standing.ready == "True":
        notes += drifted(archive, subject.stream)
    notes += _cut_off(archive, subject.stream, chain)
    sentence = f"{subject} is not ready" if chain else f"{subject} is ready{revision}"
    event = None if standing.since is None else event_since(archive, subject.stream, standing.since)
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
    standing = standing_of(archive, source)
    found = chain_of(archive, source, ())[:1]
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
    return _Behind(commit=_commit_of(archive, stream, standing_of(archive, stream).applied), attempted=attempted)


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
    return pin.commit if pin is not None else _commit_of(archive, stream, standing_of(archive, stream).attempted)


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


def _pinned(archive: Archive, subject: Subject, pin: PinTold) -> Cause:
    sentence = f"it is pinned by {pin.by} to {pin.moment}, until a revision newer than {pin.left} arrives: {pin.why}"
    command = f'tidelog unpin {typed(subject)} --why "…"'
    cause = cause_of(subject, "waiting", sentence, event=archive.event(pin.pinned))
    return msgspec.structs.replace(cause, command=command)


# Objects.


def _of_object(archive: Archive, subject: Subject) -> Explanation:
    actual = archive.rows(ACTUAL).get(subject.stream)
    if actual is None:
        return _absent(archive, subject)
    owner = actual.owner
    chain: list[Cause] = []
    notes: list[Cause] = []
    if actual.health in UNWELL:
        chain += object_causes(archive, subject)
    if actual.drift:
        chain.append(drift_cause(archive, subject, actual))
    above = [] if owner is None else chain_of(archive, owner, ())
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
    if chain and actual.health not in UNWELL and not actual.drift:
        sentence += ", which is not ready"
    return _explanation(subject, sentence, chain, notes, behind, archive.event(actual.position))


def _absent(archive: Archive, subject: Subject) -> Explanation:
    """Of an object that is not there: who wants it, and why it is not applied; or who took it away."""
    wanting = _who_wants(archive, subject)
    if wanting is not None:
        target = subject_of(wanting)
        chain = chain_of(archive, wanting, ()) or [running_cause(archive, target, standing_of(archive, wanting))]
        missing = cause_of(subject, "missing", f"{target} renders it, and has not applied it")
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
    cause = cause_of(subject, "missing", who, event=gone)
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
    cause = cause_of(subject, "missing", who, event=event)
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
