"""Logs for the tests of projections: written line by line, or generated."""

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, cast

import msgspec
from hypothesis import strategies as st

from tests.events.releases import STORIES as RELEASE_STORIES
from tests.events.releases import release_events
from tests.events.strategies import EVENT_TYPES, INSTANCES
from tidelog.events.bodies import Body, BodyRef
from tidelog.events.codec import encode_envelope, encode_event, type_of
from tidelog.events.digest import Digest, digest_of
from tidelog.events.envelope import ENGINE, Actor, Envelope, Proof
from tidelog.events.moment import Time, time_of
from tidelog.events.names import EventId, ObjectId, ObjectKey, PlanId, Revision, RunId, StreamName, TraceId, uuid7
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    DriftDetected,
    EngineStarted,
    Event,
    FieldDrift,
    HealthChanged,
    InputChanged,
    Marked,
    ObjectAbandoned,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    Pinned,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    ReconcileRequested,
    Rendered,
    Resumed,
    RevisionFetched,
    RevisionRejected,
    RevisionSettled,
    RunEnded,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    Suspended,
    TargetDeclared,
    TargetMoved,
    TargetRemoved,
    Unpinned,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.events.vocabulary.observe import Health

START = datetime(2026, 11, 23, tzinfo=UTC)
JANE = Actor(kind="user", name="jane@corp", proof=Proof(kind="authenticated", by="kubernetes"))
KUBECTL = Actor(kind="manager", name="kubectl-edit", proof=Proof(kind="inferred"))


def body(text: str) -> BodyRef:
    return Body.of(text.encode()).ref


def digest(text: str) -> Digest:
    return digest_of(text.encode())


def moment(seconds: float) -> Time:
    """The time of the log that many seconds after its start."""
    return time_of(START + timedelta(seconds=seconds))


def uuid_of(number: int) -> str:
    return uuid7(number, number.to_bytes(10))


def run_id(number: int) -> RunId:
    return RunId(uuid_of(1_000_000 + number))


def source(cluster: str, name: str) -> StreamName:
    return ObjectKey("source.toolkit.fluxcd.io", "GitRepository", "flux-system", name).stream(cluster)


def target(cluster: str, name: str) -> StreamName:
    return ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", name).stream(cluster)


class Log:
    """A log in memory: one event a second, unless told otherwise."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self._versions: dict[str, int] = {}

    def append(
        self,
        stream: str,
        event: Event,
        *,
        actor: Actor = ENGINE,
        run: RunId | None = None,
        trace: TraceId | None = None,
        occurred: Time | None = None,
    ) -> int:
        """Appends an event and returns its position."""
        entry = type_of(event)
        return self.raw(
            stream, entry.name, encode_event(event), entry.schema, actor=actor, run=run, trace=trace, occurred=occurred
        )

    def raw(self, stream: str, type: str, data: bytes, schema: int = 1, **rest: Any) -> int:
        """Appends what the vocabulary may not have."""
        position = len(self.entries) + 1
        self._versions[stream] = version = self._versions.get(stream, 0) + 1
        whole: dict[str, Any] = {"actor": ENGINE, **rest}
        envelope = Envelope(
            position=position,
            stream=StreamName(stream),
            version=version,
            id=EventId(uuid_of(position)),
            time=moment(position),
            type=type,
            schema=schema,
            data=msgspec.Raw(data),
            **whole,
        )
        self.entries.append(encode_envelope(envelope))
        return position


# Generated logs.

OBJECTS = [
    ObjectKey("apps", "Deployment", "default", "web").id,
    ObjectKey("", "ConfigMap", "default", "web").id,
    ObjectKey("", "Namespace", "", "default").id,
    # Keys that UTF-16 and code points sort differently.
    ObjectKey("", "ConfigMap", "default", "\uff5a").id,
    ObjectKey("", "ConfigMap", "default", "\U0001f600").id,
    # A target that another target applies.
    ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "infra").id,
]
ENDS = Literal["fetch fails", "render fails", "unverified", "rejected", "held", "apply fails", "finished"]
ASKED = Literal["suspend", "resume", "pin", "unpin", "reject", "redeclare", "remove", "source removed", "health"]
SEEN = Literal["observed", "gone", "drifted", "drifted away", "healthy", "failed"]


class Step(NamedTuple):
    """An event that is still to be appended."""

    stream: str
    event: Event | bytes
    rest: dict[str, Any]


class Story(NamedTuple):
    """Something that happens: a few events that belong together, between which others may come."""

    what: str
    cluster: str
    source: str
    target: str
    number: int


NUMBERS = 40
HEALTHS: tuple[Health, ...] = ("Current", "InProgress", "Failed")
KINDS: list[str] = [
    "source run",
    "settled",
    "unknown",
    "newer",
    "engine",
    "release requested",
    "moved",
    *("finished",) * 4,
    *(word for words in (ENDS, ASKED, SEEN) for word in cast("Any", words).__args__),
    *RELEASE_STORIES,
]
# Few places, so that what happens at one of them meets what happened there before.
stories = st.builds(
    Story,
    st.sampled_from(KINDS),
    st.sampled_from(["prod", "prod", "prod", "stage"]),
    st.sampled_from(["podinfo", "podinfo", "flux-system"]),
    st.sampled_from(["apps", "apps", "apps", "infra"]),
    st.integers(0, NUMBERS - 1),
)


def steps_of(story: Story, run: RunId) -> Iterator[Step]:
    """The events of a story, in their order."""
    at_source, at_target = source(story.cluster, story.source), target(story.cluster, story.target)
    in_run: dict[str, Any] = {"run": run, "trace": TraceId(uuid_of(story.number))}
    number, revision = story.number, Revision(f"main@sha1:{story.number:040x}")
    # Drawn apart from what is done to them: else some objects would only ever be applied, and others pruned.
    chance = random.Random(number)
    chosen = {name: chance.random() < 0.6 for name in chance.sample(OBJECTS, chance.randrange(5))}
    asked: dict[str, Any] = {"actor": JANE}
    match story.what:
        case "source run" | "settled" | "fetch fails":
            yield Step(at_source, SourceDeclared(uid="s", generation=number, spec=body(f"s{number}")), {})
            if story.what == "fetch fails" or number % 3 == 0:
                failed = StageFailed(stage="fetch", reason="Timeout", final=False, message=f"after {number} s")
                yield Step(at_source, failed, in_run)
                yield Step(at_source, StageFailed(stage="fetch", reason="Timeout", final=False, repeats=True), in_run)
            if story.what == "source run":
                fetched = RevisionFetched(revision=revision, tree=f"{number:040x}", artifact=digest("tar"), size=1)
                yield Step(at_source, fetched, in_run)
            elif story.what == "settled":
                yield Step(at_source, RevisionSettled(revision=revision, targets=(at_target,)), in_run)
        case "suspend":
            yield Step(
                at_target, Suspended(why=f"freeze {number}", until=moment(number) if number % 2 else None), asked
            )
        case "resume":
            yield Step(at_target, Resumed(), asked)
        case "pin":
            yield Step(at_target, Pinned(set=digest(f"{number}"), position=1, left=revision, why="bad"), asked)
        case "unpin":
            yield Step(at_target, Unpinned(why="mended"), asked)
        case "reject":
            yield Step(at_target, RevisionRejected(revision=revision, why="broken"), asked)
        case "redeclare":
            yield Step(at_target, TargetDeclared(uid="t", generation=number, spec=body(f"{number}")), {})
        case "moved":
            for name in chosen:
                abandoned = ObjectAbandoned(object=name, uid=f"uid-{number}", cluster=story.cluster)
                yield Step(at_target, abandoned, in_run)
            yield Step(at_target, TargetMoved(cluster=("stage", "prod")[number % 2]), in_run)
        case "remove":
            yield Step(at_target, TargetRemoved(uid="t"), in_run)
        case "source removed":
            yield Step(at_source, SourceRemoved(uid="s"), in_run)
        case "health":
            yield Step(at_target, HealthChanged(checked=True, health=HEALTHS[number % 3], message=f"{number}"), in_run)
        case "unknown":
            yield Step(at_target, b"QuotaRaised", in_run)
        case "newer":
            # Of types that several projections fold.
            yield Step(at_target, (b"ObjectApplied", b"Rendered", b"ApplyFinished")[number % 3], in_run)
        case "engine":
            yield Step("0190/engine", EngineStarted(software="tidelog", host="a", pid=number), {})
            yield Step("0190/engine", Marked(label=f"{number}"), asked)
            yield Step(at_target, InputChanged(object=OBJECTS[1], digest=digest(f"{number}")), {})
        case "release requested":
            at_release = f"{story.cluster}/helm.toolkit.fluxcd.io/HelmRelease/apps/web"
            yield Step(at_release, TargetDeclared(uid="r", generation=number, spec=body(f"{number}")), {})
            yield Step(at_release, ReconcileRequested(token=f"{number}", force=number % 2 == 0, reset=True), asked)
        case "observed" | "gone" | "drifted" | "drifted away" | "healthy" | "failed":
            yield _seen(story, f"{story.cluster}/{OBJECTS[number % len(OBJECTS)]}", at_target)
        case what if what in RELEASE_STORIES:
            for event in release_events(what, number, moment(number)):
                yield Step(at_target, event, in_run)
        case _:
            yield from _target_run(story, at_target, revision, chosen, in_run, asked)


def _seen(story: Story, stream: str, at_target: StreamName) -> Step:
    number = story.number
    uid, version = f"uid-{number}", f"{number}"
    event: Event
    match story.what:
        case "observed":
            event = ObjectObserved(uid=uid, resource_version=version, state=body(version), health="InProgress")
        case "gone":
            event = ObjectObserved(uid=uid, resource_version=version, gone=True)
        case "drifted" | "drifted away":
            fields = (FieldDrift(path="spec.replicas", manager="kubectl-edit"),) * (number % 3)
            gone = story.what == "drifted away"
            event = DriftDetected(target=at_target, uid=uid, resource_version=version, fields=fields, gone=gone)
        case _:
            event = HealthChanged(health="Current" if story.what == "healthy" else "Failed", message=version)
    return Step(stream, event, {"actor": KUBECTL, "occurred": moment(number) if number % 2 else None})


def _target_run(
    story: Story,
    stream: StreamName,
    revision: Revision,
    chosen: dict[ObjectId, bool],
    in_run: dict[str, Any],
    asked: dict[str, Any],
) -> Iterator[Step]:
    number, plan, made = story.number, PlanId(f"plan-{in_run['run']}"), digest(f"set{story.number}")
    if story.what == "render fails":
        failed = StageFailed(stage="render", reason="BuildFailed", final=True, message="no such file")
        yield Step(stream, failed, in_run)
        return
    rendered = Rendered(
        revision=revision,
        inputs=digest("inputs"),
        read_set=body("read"),
        toolchain=(),
        set=made,
        objects=body(f"objects{number}"),
        count=len(chosen),
    )
    yield Step(stream, rendered, in_run)
    radius = BlastRadius(create=len(chosen))
    yield Step(
        stream, Planned(plan=plan, revision=revision, set=made, waves=body("waves"), blast_radius=radius), in_run
    )
    if story.what == "unverified":
        verdicts = (Verdict(check="schema", passed=False, message="spec.replicas: no number"),) * (number % 3)
        yield Step(stream, VerificationFailed(plan=plan, policies=digest("p"), failed=verdicts), in_run)
        return
    yield Step(stream, Verified(plan=plan, policies=digest("p"), checks=("schema",)), in_run)
    if story.what in ("held", "rejected") or number % 2:
        yield Step(stream, PlanHeld(plan=plan, check="blast radius", why="deletes 30 objects"), in_run)
        if story.what == "held":
            return
        if story.what == "rejected":
            yield Step(stream, PlanRejected(plan=plan, why="not today"), in_run | asked)
            return
        yield Step(stream, PlanApproved(plan=plan, why="planned", until=moment(number)), in_run | asked)
    yield Step(stream, ApplyStarted(plan=plan, waves=1), in_run)
    for name, wanted in chosen.items():
        if wanted:
            applied = ObjectApplied(
                plan=plan,
                object=name,
                uid=f"uid-{number}",
                resource_version=f"{number}",
                action="configured",
                wave=0,
                desired=digest(f"{name}{number}"),
                state=body(f"{name}{number}") if number % 5 else None,
            )
            yield Step(stream, applied, in_run)
        else:
            outcomes: tuple[Literal["deleted", "absent", "skipped"], ...] = ("deleted", "absent", "skipped")
            pruned = ObjectPruned(plan=plan, object=name, uid=f"uid-{number}", outcome=outcomes[number % 3])
            yield Step(stream, pruned, in_run)
    if story.what == "apply fails":
        yield Step(stream, ApplyFailed(plan=plan, wave=0, reason="Conflict", message="field owned"), in_run)
    else:
        yield Step(stream, ApplyFinished(plan=plan, revision=revision, set=made, pruned=1), in_run)
        yield Step(stream, RunEnded(outcome=_ENDS[number % 4], generation=1, revision=revision, set=made), in_run)


_ENDS: tuple[Literal["succeeded", "unchanged", "superseded", "rejected"], ...] = (
    "succeeded",
    "unchanged",
    "superseded",
    "rejected",
)


def told(stories: Iterable[Story], seed: int) -> list[bytes]:
    """The log of some stories that happen at the same time, one target or source after the other."""
    chance = random.Random(seed)
    queues: dict[tuple[str, str], list[Step]] = {}
    for number, story in enumerate(stories):
        lane = (story.cluster, story.target)
        queues.setdefault(lane, []).extend(steps_of(story, run_id(number)))
    log = Log()
    while queues:
        lane = chance.choice(sorted(queues))
        step = queues[lane].pop(0) if queues[lane] else None
        if not queues[lane]:
            del queues[lane]
        if step is None:
            continue
        if isinstance(step.event, bytes):
            log.raw(step.stream, step.event.decode(), b'{"more":{"a":[1]}}', 2, **step.rest)
        else:
            log.append(step.stream, step.event, **step.rest)
    return log.entries


# Short ones, to which a failure shrinks, and long ones, in which rows are changed many times over.
coherent_logs = st.builds(
    told,
    st.lists(stories, min_size=1, max_size=8) | st.lists(stories, min_size=15, max_size=25),
    st.integers(0, 2**16),
)


def everything(seed: int) -> list[bytes]:
    """A log in which every kind of story happens many times over, at one target and one source, in any order."""
    chance = random.Random(seed)
    stories = [Story(kind, "prod", "podinfo", "apps", chance.randrange(NUMBERS)) for kind in KINDS * 10]
    chance.shuffle(stories)
    return told(stories, chance.randrange(2**16))


@st.composite
def wild_logs(draw: st.DrawFn) -> list[bytes]:
    """Events of all types, with whatever their types allow, in any order and any stream."""
    streams = [target("prod", "apps"), source("prod", "podinfo"), "0190/engine", *(f"stage/{o}" for o in OBJECTS[:3])]
    log = Log()
    for payload in draw(st.lists(st.sampled_from(EVENT_TYPES), min_size=1, max_size=12)):
        event = draw(INSTANCES[payload])
        if "object" in payload.__struct_fields__ and draw(st.booleans()):
            event = msgspec.structs.replace(event, object=draw(st.sampled_from(OBJECTS)))
        log.append(
            draw(st.sampled_from(streams)),
            event,
            run=draw(st.sampled_from([None, run_id(0), run_id(1)])),
            occurred=draw(st.sampled_from([None, moment(-5)])),
            actor=draw(st.sampled_from([ENGINE, JANE, KUBECTL])),
        )
    return log.entries


logs = st.one_of(coherent_logs, coherent_logs, wild_logs())
