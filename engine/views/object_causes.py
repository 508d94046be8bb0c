"""Why an object is not as it should be: its health, its Pods, and who changed it."""

from itertools import islice, takewhile

import msgspec

from tidelog.engine.observe.drift import FLAPPING_WITHIN, Flaps
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.causes import DETAILS_MAX, Cause, Detail, cause_of, is_of_condition
from tidelog.engine.views.names import Subject, cluster_below, subject_in
from tidelog.events.moment import datetime_of, time_of
from tidelog.events.names import StreamName
from tidelog.events.projections import ACTUAL, INVENTORY, Actual
from tidelog.events.vocabulary import DriftDetected, HealthChanged, ObjectApplied, ObjectObserved
from tidelog.events.vocabulary.observe import Health
from tidelog.storage.log import Query, Recorded

FOUND_AGAIN_MAX = 100
"""Events that are read back, of one cause, for since when it is known."""
DRIFTED_MAX = 10
"""Objects that are noted of a target."""
UNWELL = ("Failed", "Terminating", "NotFound", "InProgress")
"""From the worst to the one that passes by itself."""


def object_causes(archive: Archive, subject: Subject) -> list[Cause]:
    """Why an object is not as it should be; of a workload, down to its Pods."""
    first, actual = _object_cause(archive, subject), archive.rows(ACTUAL).get(subject.stream)
    because = None if actual is None else actual.because
    if because is None:
        return [first]
    pod = subject_in(subject.cluster, because.object)
    seen = archive.backwards(Query(stream=subject.stream, types=("HealthChanged",)))
    told = islice((one for one in seen if not is_of_condition(one)), FOUND_AGAIN_MAX)
    since = list(takewhile(lambda one: isinstance(one.event, HealthChanged) and one.event.because == because, told))
    failed = because.reason == "FailedCreate"
    sentence = f"no Pods can be made for {pod}" if failed else f"{pod} is not as it should be"
    cause = cause_of(pod, "health", sentence, event=since[-1] if since else None)
    return [first, msgspec.structs.replace(cause, reason=because.reason, message=because.message, of_workload=True)]


def _object_cause(archive: Archive, subject: Subject) -> Cause:
    actual = archive.rows(ACTUAL).get(subject.stream)
    health = "NotFound" if actual is None else actual.health
    last = None if actual is None else archive.event(actual.position)
    known, told = last, _health_in(last, health)
    if told is None:
        seen = archive.backwards(Query(stream=subject.stream, types=("HealthChanged",)))
        changed = next((one for one in seen if not is_of_condition(one)), None)
        event = None if changed is None else changed.event
        if changed is not None and isinstance(event, HealthChanged) and event.health == health:
            known, told = changed, event
    cause = cause_of(subject, "health", f"{subject} is {health}", event=known)
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


def health_of(archive: Archive, subject: Subject) -> str:
    """An object's health and why, as part of a sentence."""
    cause = _object_cause(archive, subject)
    said = ": ".join(part for part in (cause.reason, cause.message) if part)
    health = cause.sentence.rpartition(" ")[2]
    told, actual = f"{health}, {said}" if said else health, archive.rows(ACTUAL).get(subject.stream)
    because = None if actual is None else actual.because
    return told if because is None else f"{told}; {because.reason} of {subject_in(subject.cluster, because.object)}"


def unwell_of(archive: Archive, target: StreamName) -> list[Subject]:
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
        if health in UNWELL:
            found.append((UNWELL.index(health), subject))
    return [subject for _, subject in sorted(found, key=lambda pair: (pair[0], pair[1].stream))]


def drift_cause(archive: Archive, subject: Subject, actual: Actual) -> Cause:
    """Who changed an object, and where; and whether again and again."""
    event = archive.last(Query(stream=subject.stream, types=("DriftDetected",)))
    who = ", ".join(dict.fromkeys(field.manager for field in actual.drift if field.manager)) or "someone"
    sentence = f"{subject} is no longer as it was applied: changed by {who}"
    details = tuple(
        Detail(object=subject.stream, path=field.path, message=f"changed by {field.manager or 'someone'}")
        for field in actual.drift[:DETAILS_MAX]
    )
    cause = msgspec.structs.replace(cause_of(subject, "drift", sentence, event=event), details=details)
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


def drifted(archive: Archive, target: StreamName) -> list[Cause]:
    """Objects of a target that are not as it applied them, which its readiness does not tell."""
    row, actual = archive.row(INVENTORY, target), archive.rows(ACTUAL)
    cluster = cluster_below(archive, target)
    subjects = [subject_in(cluster, id) for id in sorted(() if row is None else row.objects)]
    found = [(one, seen) for one in subjects if (seen := actual.get(one.stream)) is not None and seen.drift]
    return [drift_cause(archive, one, seen) for one, seen in found[:DRIFTED_MAX]]
