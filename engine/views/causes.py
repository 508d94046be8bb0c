"""Causes: the links of the chain from a symptom to what holds it, and since when each is so."""

from itertools import takewhile
from typing import Literal, TypeAlias

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import Subject
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, StreamName, object_stream
from tidelog.events.projections import CONDITIONS, DESIRED, Desired, Standing
from tidelog.events.vocabulary import HealthChanged, RunEnded
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
FAILURES = (
    "StageFailed",
    "VerificationFailed",
    "ApplyFailed",
    "HealthChanged",
    "ReleaseActionEnded",
    "RunEnded",
    "PlanHeld",
)
"""Events after which a source or target may be not ready."""


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


def cause_of(subject: Subject, why: Why, sentence: str, *, event: Recorded | None = None) -> Cause:
    """A cause that has held since an event."""
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


def standing_cause(archive: Archive, subject: Subject, standing: Standing, why: Why, sentence: str) -> Cause:
    """A cause in the words of the condition, since when that says so."""
    event = None if standing.since is None else event_since(archive, subject.stream, standing.since)
    return msgspec.structs.replace(
        cause_of(subject, why, sentence, event=event), reason=standing.reason, message=standing.message
    )


def event_since(archive: Archive, stream: StreamName, time: Time) -> Recorded | None:
    """The event of a stream since which it stands as it does."""
    later = archive.since(Query(stream=stream, types=FAILURES), time)
    then = takewhile(lambda recorded: recorded.envelope.time == time, later)
    return max(filter(is_of_condition, then), key=lambda recorded: recorded.envelope.position, default=None)


def is_of_condition(recorded: Recorded) -> bool:
    """Whether an event decides how a source or target stands."""
    event = recorded.event
    if isinstance(event, HealthChanged):
        return event.checked  # else it is what was seen of it as an object
    return not (isinstance(event, RunEnded) and event.outcome == "superseded")


def standing_of(archive: Archive, stream: StreamName) -> Standing:
    """How a source or target stands."""
    return archive.rows(CONDITIONS).get(stream) or Standing(ready="Unknown")


def desired_of(archive: Archive, stream: StreamName) -> Desired:
    """What is wanted of a source or target."""
    return archive.rows(DESIRED).get(stream) or Desired()


def stream_in(subject: Subject, id: ObjectId | None) -> StreamName | None:
    """The stream of an object of the subject's cluster."""
    return None if id is None else object_stream(subject.cluster, id)


def typed(subject: Subject) -> str:
    """A subject as it is typed."""
    return f"{subject.kind.lower()}/{subject.name} -n {subject.namespace}"
