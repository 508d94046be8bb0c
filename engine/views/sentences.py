"""Events in plain sentences, for people who do not know the vocabulary."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import msgspec

from tidelog.engine.views import releases
from tidelog.engine.views.commits import subject_line
from tidelog.engine.views.failures import Failures
from tidelog.engine.views.names import is_engine, subject_of
from tidelog.events.codec import UnknownEvent
from tidelog.events.envelope import Actor
from tidelog.events.moment import Time, shown_time
from tidelog.events.names import EventId, MalformedNameError, ObjectId, ObjectKey, RunId, StreamName, TraceId
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    ClusterBound,
    ConfigurationLoaded,
    DriftDetected,
    EngineStarted,
    EngineStopped,
    Event,
    FieldDrift,
    HealthChanged,
    HelmChartSynced,
    HookEnded,
    HookStarted,
    InputChanged,
    LogCreated,
    LogRestored,
    Marked,
    ObjectAbandoned,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    ObservationInterrupted,
    ObservationResumed,
    Pinned,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    ReconcileRequested,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseAdopted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    Rendered,
    Resumed,
    RevisionFetched,
    RevisionRejected,
    RevisionSettled,
    RunEnded,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    StreamForgotten,
    Suspended,
    TargetDeclared,
    TargetMoved,
    TargetRemoved,
    Unpinned,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage.log import Recorded

SHOWN_MAX = 3
"""Items that a sentence names one by one."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event, told."""

    position: int
    time: Time
    stream: StreamName
    subject: str
    """As Flux names objects: `<Kind>/<namespace>/<name>`; `engine` for the engine itself."""
    type: str
    sentence: str
    by: str
    """Who, with how that is known."""
    actor: Actor
    id: EventId
    run: RunId | None
    trace: TraceId | None


def told(recorded: Recorded, failures: Failures) -> Told:
    """An event, told; what it leaves out because an earlier one says it is looked up."""
    envelope, event = recorded.envelope, recorded.event
    if isinstance(event, StageFailed) and event.repeats:
        event = msgspec.structs.replace(event, message=failures.message_of(recorded))
    return Told(
        position=envelope.position,
        time=envelope.time,
        stream=envelope.stream,
        subject="engine" if is_engine(envelope.stream) else str(subject_of(envelope.stream)),
        type=envelope.type,
        sentence=sentence_of(event),
        by=str(envelope.actor),
        actor=envelope.actor,
        id=envelope.id,
        run=envelope.run,
        trace=envelope.trace,
    )


def sentence_of(event: Event) -> str:
    """What an event says, in a sentence without its subject and its end."""
    tell = _sentences.get(type(event))
    if tell is not None:
        return tell(event)
    return f"{event.type} (not known to this release)" if isinstance(event, UnknownEvent) else type(event).__name__


def radius(changes: BlastRadius) -> str:
    """How much a plan changes, in words."""
    counts = {
        "to create": changes.create,
        "to update": changes.update,
        "to recreate": changes.recreate,
        "to delete": changes.delete,
        "unchanged": changes.unchanged,
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to do"


def short(id: ObjectId) -> str:
    """An object's id as Flux names objects."""
    try:
        return ObjectKey.parse(id).shown
    except MalformedNameError:
        return id


def _named(stream: StreamName) -> str:
    """What a stream is about, as Flux names objects."""
    return short(ObjectId(stream.partition("/")[2]))


E = TypeVar("E", bound=Event)
Tell = Callable[[Event], str]


def _on(payload: type[E], tell: Callable[[E], str]) -> tuple[type[Event], Tell]:
    return payload, cast("Tell", tell)


def _until(time: Time | None) -> str:
    return f", until {shown_time(time)}" if time else ""


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN_MAX} more" if len(items) > SHOWN_MAX else ""
    return ", ".join(items[:SHOWN_MAX]) + more


def _fetched(event: RevisionFetched) -> str:
    author = f" by {event.author.name}" if event.author else ""
    subject = subject_line(event.message)
    return f"Fetched revision {event.revision}" + (f": “{subject}”{author}" if subject else author)


def _settled(event: RevisionSettled) -> str:
    names = [_named(stream) for stream in event.targets]
    return f"Revision {event.revision} leaves {_some(names)} as they are"


def _rendered(event: Rendered) -> str:
    tools = ", ".join(f"{tool.name} {tool.version}" for tool in event.toolchain)
    by = f" with {tools}" if tools else ""
    return f"Rendered {counted(event.count, 'object')} from revision {event.revision}{by}"


def _planned(event: Planned) -> str:
    return f"Planned {event.plan}: {radius(event.blast_radius)}"


def _held(event: PlanHeld) -> str:
    """Reasons of today are whole sentences."""
    whole = _says(event.why, event.plan) and _says(event.why, event.check)
    said = f"{event.why[:1].upper()}{event.why[1:]}"
    return said if whole else f"{event.plan} is held by the check {event.check}{_because(event.why)}"


def _verified(event: Verified) -> str:
    wave = "" if event.wave is None else f", wave {event.wave}"
    return f"Verified {event.plan}{wave}: {', '.join(event.checks)}"


def _unverified(event: VerificationFailed) -> str:
    return f"{event.plan} did not pass its checks: {_some([verdict_sentence(one) for one in event.failed])}"


def verdict_sentence(verdict: Verdict) -> str:
    """What a check said, in a sentence that names the check, the object and the field once."""
    about = with_about(verdict.message, short(verdict.object) if verdict.object else "", verdict.path)
    return with_about(about, verdict.check)


def with_about(message: str, *about: str) -> str:
    """A message with what it is about before it: of that, what it does not say itself."""
    unsaid = [part for part in about if part and not _says(message, part)]
    return ": ".join(part for part in (" ".join(unsaid), message) if part)


def _says(message: str, word: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", message) is not None


def _applied(event: ObjectApplied) -> str:
    words = {"unchanged": "Found", "created": "Created", "configured": "Configured", "recreated": "Recreated"}
    health = f", {event.health}" if event.health else ""
    as_planned = " as it should be" if event.action == "unchanged" else ""
    return f"{words[event.action]} {short(event.object)}{as_planned}{health}"


def _pruned(event: ObjectPruned) -> str:
    outcomes = {"deleted": "Deleted", "absent": "Did not find", "skipped": "Left alone"}
    return f"{outcomes[event.outcome]} {short(event.object)}, which is no longer wanted"


def _apply_failed(event: ApplyFailed) -> str:
    said = with_about(event.message or event.reason, short(event.object) if event.object else "")
    return f"The apply of {event.plan} stopped in wave {event.wave}: {said}"


def _finished(event: ApplyFinished) -> str:
    counts = {
        "created": event.created,
        "configured": event.configured,
        "unchanged": event.unchanged,
        "pruned": event.pruned,
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"
    return f"Applied {event.plan}: {said}"


def _failed(event: StageFailed) -> str:
    again = f", as before, failure {event.attempt} in a row" * event.repeats
    said = again + (f": {event.message}" if event.message else "")
    tail = "; only a person can help" if event.stalled else "; not tried again until its inputs change" * event.final
    waits = f"; waits for {_named(event.waits_for)}" if event.waits_for else ""
    return f"The stage {event.stage} failed ({event.reason}){said}{waits}{tail}"


def _ended(event: RunEnded) -> str:
    outcomes = {
        "succeeded": "The run succeeded",
        "unchanged": "The run found nothing to do",
        "superseded": "The run was superseded by something newer",
        "rejected": "The run ended: its plan was rejected",
    }
    return outcomes[event.outcome] + (f" at revision {event.revision}" if event.revision else "")


def _observed(event: ObjectObserved) -> str:
    if event.gone:
        return "Is gone"
    if event.only_status:
        return f"Has another status, at version {event.resource_version}"
    return f"Is now at version {event.resource_version}" + (f", {event.health}" if event.health else "")


def _drifted(event: DriftDetected) -> str:
    if event.gone:
        return f"Was deleted, and {_named(event.target)} wants it"
    return f"Was changed: {_some([field_sentence(field) for field in event.fields])}"


def field_sentence(field: FieldDrift) -> str:
    """A field that was changed, with who changed it."""
    return f"{field.path} by {field.manager}" if field.manager else field.path


def _health(event: HealthChanged) -> str:
    said = ": ".join(part for part in (event.reason, event.message) if part)
    why = event.because
    if why is None:
        return f"Became {event.health}" + (f": {said}" if said else "")
    found = ": ".join(part for part in (why.reason, why.message) if part)
    return f"Is {event.health}, because of {short(why.object)}: {found}"


def _input(event: InputChanged) -> str:
    return f"{short(event.object)} {'changed' if event.digest else 'is not there'}"


def _requested(event: ReconcileRequested) -> str:
    how = ["force"] * event.force + ["failures of before forgotten"] * event.reset
    said = f" with {' and '.join(how)}" if how else ""
    return f"A reconciliation was asked for{said}{_because(event.why)}"


def _pinned(event: Pinned) -> str:
    return f"Pinned to what it was at position {event.position}, leaving revision {event.left}{_because(event.why)}"


def counted(number: int, noun: str) -> str:
    """A number of things, the noun as it goes with it."""
    return f"{number} {noun}{'s'[: number != 1]}"


_sentences: Mapping[type[Event], Tell] = dict(
    [
        _on(LogCreated, lambda e: f"The log {e.log} was created by {e.software}"),
        _on(LogRestored, lambda e: f"The log goes on from a copy, as incarnation {e.incarnation}"),
        _on(EngineStarted, lambda e: f"{e.software} started on {e.host}"),
        _on(EngineStopped, lambda e: f"The engine stopped{_because(e.why)}"),
        _on(ConfigurationLoaded, lambda _: "A configuration was loaded"),
        _on(ClusterBound, lambda e: f"The alias {e.alias} was bound to cluster {e.uid}"),
        _on(SourceDeclared, lambda e: f"Was declared, generation {e.generation}"),
        _on(TargetDeclared, lambda e: f"Was declared, generation {e.generation}"),
        _on(SourceRemoved, lambda _: "Was removed"),
        _on(TargetMoved, lambda e: f"Is applied to cluster {e.cluster} from here on"),
        _on(TargetRemoved, lambda e: "Was removed" + (f" ({e.deletion_policy})" if e.deletion_policy else "")),
        _on(InputChanged, _input),
        _on(RevisionFetched, _fetched),
        _on(RevisionSettled, _settled),
        _on(Rendered, _rendered),
        _on(Planned, _planned),
        _on(Verified, _verified),
        _on(VerificationFailed, _unverified),
        _on(PlanHeld, _held),
        _on(PlanApproved, lambda e: f"{e.plan} was approved{_because(e.why)}{_until(e.until)}"),
        _on(PlanRejected, lambda e: f"{e.plan} was rejected{_because(e.why)}"),
        _on(ApplyStarted, lambda e: f"Began to apply {e.plan} in {counted(e.waves, 'wave')}"),
        _on(ObjectApplied, _applied),
        _on(ObjectPruned, _pruned),
        _on(ObjectAbandoned, lambda e: f"Left {short(e.object)} in cluster {e.cluster}, and has it no more"),
        _on(ApplyFailed, _apply_failed),
        _on(ApplyFinished, _finished),
        _on(StageFailed, _failed),
        _on(RunEnded, _ended),
        _on(ObjectObserved, _observed),
        _on(DriftDetected, _drifted),
        _on(HealthChanged, _health),
        _on(ObservationInterrupted, lambda e: f"Changes of {_some(list(e.kinds))} may go unseen{_because(e.why)}"),
        _on(ObservationResumed, lambda e: f"{_some(list(e.kinds))} is watched again"),
        _on(HelmChartSynced, releases.chart_synced),
        _on(ReleaseAdopted, releases.adopted),
        _on(ReleaseActionStarted, releases.started),
        _on(HookStarted, releases.hook_started),
        _on(HookEnded, releases.hook_ended),
        _on(ReleaseActionEnded, releases.ended),
        _on(ReleaseHistoryCleared, releases.history_cleared),
        _on(ReleaseDriftChanged, releases.drift_changed),
        _on(ReconcileRequested, _requested),
        _on(Suspended, lambda e: f"Was suspended{_because(e.why)}{_until(e.until)}"),
        _on(Resumed, lambda e: f"Was resumed{_because(e.why)}"),
        _on(Pinned, _pinned),
        _on(Unpinned, lambda e: f"Follows its source again{_because(e.why)}"),
        _on(RevisionRejected, lambda e: f"Revision {e.revision} was rejected{_because(e.why)}"),
        _on(Marked, lambda e: f"Marked as {e.label}{_because(e.why)}"),
        _on(StreamForgotten, lambda e: f"What is secret in it was forgotten{_because(e.why)}"),
    ]
)
