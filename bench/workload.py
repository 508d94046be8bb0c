"""A log like that of a real fleet, the same one from the same seed.

Sources fetch revisions, and each revision sets off a run of every target of that source: rendered, planned,
verified, applied object by object. About twenty runs go on at a time, so their events stand between each
other's; and about every second event of the log is an observation of an object, between them all. Some objects
drift, fall ill or are pruned; some targets are suspended; some runs fail or wait for approval.

Bodies (specs, rendered sets, objects) come from a pool of some thousands and are named again and again, as the
states of a cluster are.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from tidelog.events.bodies import Body, BodyRef
from tidelog.events.canonical import Json, encode
from tidelog.events.codec import bodies_of
from tidelog.events.digest import Digest, digest_of
from tidelog.events.envelope import ENGINE, Actor, Proof
from tidelog.events.moment import Time, time_of
from tidelog.events.names import (
    EventId,
    ObjectId,
    ObjectKey,
    PlanId,
    Revision,
    RunId,
    StreamName,
    TraceId,
    object_stream,
    uuid7,
)
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    DriftDetected,
    Event,
    FieldDrift,
    HealthChanged,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    Person,
    PlanApproved,
    PlanHeld,
    Planned,
    Rendered,
    Resumed,
    RevisionFetched,
    SourceDeclared,
    StageFailed,
    Suspended,
    TargetDeclared,
    Tool,
    Verified,
)
from tidelog.storage.log import APPEND_EVENTS_MAX, NewEvent, StreamAppend

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give another log: a log that was kept is then made again."""
SEED = 20_261_123
CLUSTER = "east"
TARGETS = 1_000
EVENTS_PER_TARGET_MIN = 50
"""A small log has fewer targets, so that each has a history."""
SOURCES = 20
RUNS_AT_ONCE = 20
STATES = 3_000
"""Distinct states of objects."""
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=30)
"""What the whole log covers, however many events it has."""

KINDS = (
    ("apps", "Deployment"),
    ("", "Service"),
    ("", "ConfigMap"),
    ("", "ServiceAccount"),
    ("networking.k8s.io", "Ingress"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("", "Secret"),
)
TOOLCHAIN = (Tool("kustomize", "5.8.0"), Tool("tidelog", "0.1.0"))
CHECKS = ("schema", "dry-run", "ownership", "blast-radius")
PEOPLE = tuple(
    Actor(kind="user", name=f"{name}@example.com", proof=Proof(kind="authenticated", by="kubernetes"))
    for name in ("ada", "grace", "edsger", "barbara")
)


class Target:
    """A Kustomization, and what a cluster would know of it."""

    def __init__(self, number: int, random: Random) -> None:
        team, name = f"team-{number % 40:02d}", f"app-{number:04d}"
        self.number = number
        self.stream = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", team, name).stream(CLUSTER)
        self.uid = uid(random)
        kinds = KINDS[: random.randint(4, 10)]
        self.objects = tuple(ObjectKey(group, kind, team, name).id for group, kind in kinds)
        self.uids: dict[ObjectId, str] = {}
        """Of those objects that are in the cluster."""
        self.revision = 0
        self.suspended = False


class Fleet:
    """The targets and their objects; the same ones for the same number of events and the same seed."""

    def __init__(self, events: int, seed: int = SEED) -> None:
        random = Random(seed)
        count = max(10, min(TARGETS, events // EVENTS_PER_TARGET_MIN))
        self.targets = [Target(number, random) for number in range(count)]
        self.sources = [
            ObjectKey("source.toolkit.fluxcd.io", "GitRepository", "flux-system", f"repository-{number:02d}").stream(
                CLUSTER
            )
            for number in range(min(SOURCES, count))
        ]

    @property
    def target_streams(self) -> list[StreamName]:
        """The streams of all targets."""
        return [target.stream for target in self.targets]

    @property
    def object_streams(self) -> list[StreamName]:
        """The streams of all objects."""
        return [object_stream(CLUSTER, item) for target in self.targets for item in target.objects]


class Workload:
    """The events of a log of `count` events, in appends; the log's own first event is one of them."""

    def __init__(self, count: int, seed: int = SEED) -> None:
        self.count = count
        self.fleet = Fleet(count, seed)
        self._random = Random(seed + 1)
        self._now = START
        self._step_us = SPAN / timedelta(microseconds=1) / count
        self._resource_version = 1_000
        self._versions: dict[StreamName, int] = {}
        self._stored: set[Digest] = set()
        self._due: deque[Target] = deque()
        self._trigger: tuple[Revision, TraceId, EventId] | None = None
        self._observations: deque[tuple[Target, ObjectId]] = deque()

    def clock(self) -> Time:
        """The time at which the last event was made; to be the clock of the log."""
        return time_of(self._now)

    def appends(self) -> Iterator[tuple[list[StreamAppend], list[Body]]]:
        """All appends, each with the bodies that it is the first to name."""
        events = self._events()
        left = self.count - 1
        while left > 0:
            parts: list[tuple[StreamName, list[NewEvent]]] = []
            named: dict[Digest, Body] = {}
            for _ in range(min(left, APPEND_EVENTS_MAX)):
                stream, new = next(events)
                if parts and parts[-1][0] == stream:
                    parts[-1][1].append(new)
                else:
                    parts.append((stream, [new]))
                for reference in bodies_of(new.event):
                    if reference.digest not in self._stored:
                        self._stored.add(reference.digest)
                        named[reference.digest] = POOL.body(reference)
                left -= 1
            yield [self._append(stream, new) for stream, new in parts], list(named.values())

    def _append(self, stream: StreamName, events: list[NewEvent]) -> StreamAppend:
        version = self._versions.get(stream, 0)
        self._versions[stream] = version + len(events)
        return StreamAppend(stream, version, events)

    def _events(self) -> Iterator[tuple[StreamName, NewEvent]]:
        random = self._random
        for number, source in enumerate(self.fleet.sources):
            yield source, self._new(SourceDeclared(uid=uid(random), generation=1, spec=POOL.ref("source", number)))
        for target in self.fleet.targets:
            spec = POOL.ref("spec", target.number)
            yield target.stream, self._new(TargetDeclared(uid=target.uid, generation=1, spec=spec))
        running: list[Iterator[tuple[StreamName, NewEvent]]] = []
        while True:
            while len(running) < RUNS_AT_ONCE:
                running.append(self._next_run())
            choice = random.random()
            if choice < 0.5:
                yield self._observation()
            elif choice < 0.515:
                yield self._incident()
            else:
                index = random.randrange(len(running))
                try:
                    yield next(running[index])
                except StopIteration:
                    running[index] = running[-1]
                    running.pop()

    def _new(
        self,
        event: Event,
        *,
        actor: Actor = ENGINE,
        run: RunId | None = None,
        trace: TraceId | None = None,
        cause: EventId | None = None,
        lag_us: int = 0,
    ) -> NewEvent:
        self._now += timedelta(microseconds=self._random.random() * 2 * self._step_us)
        occurred = time_of(self._now - timedelta(microseconds=lag_us)) if lag_us else None
        return NewEvent(event, actor, self._id(), occurred, run, trace, cause)

    def _id(self) -> EventId:
        milliseconds = (self._now - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
        return EventId(uuid7(milliseconds, self._random.randbytes(10)))

    def _next_run(self) -> Iterator[tuple[StreamName, NewEvent]]:
        if not self._due or self._trigger is None:
            return self._fetch()
        target = self._due.popleft()
        return self._run(target, *self._trigger)

    def _fetch(self) -> Iterator[tuple[StreamName, NewEvent]]:
        """A source has a new revision; then its targets are due."""
        random = self._random
        number = random.randrange(len(self.fleet.sources))
        commit = random.randbytes(20).hex()
        author = Person(name="Ada", email="ada@example.com", time=time_of(self._now))
        event = RevisionFetched(
            revision=Revision(f"main@sha1:{commit}"),
            tree=random.randbytes(20).hex(),
            artifact=digest_of(commit.encode()),
            size=random.randint(20_000, 2_000_000),
            author=author,
            committer=author,
            message=f"Release {commit[:7]} of the applications in repository-{number:02d}",
        )
        trace = TraceId(self._id())
        fetched = self._new(event, run=RunId(self._id()), trace=trace)
        assert fetched.id is not None
        self._trigger = event.revision, trace, fetched.id
        self._due.extend(self.fleet.targets[number :: len(self.fleet.sources)])
        yield self.fleet.sources[number], fetched

    def _run(
        self, target: Target, revision: Revision, trace: TraceId, cause: EventId
    ) -> Iterator[tuple[StreamName, NewEvent]]:
        run = RunId(self._id())
        for event in self._stages(target, revision):
            new = self._new(event, run=run, trace=trace, cause=cause)
            assert new.id is not None
            cause = new.id
            yield target.stream, new

    def _stages(self, target: Target, revision: Revision) -> Iterator[Event]:
        random = self._random
        fate = random.random()
        target.revision += 1
        turn = target.number * 2 + target.revision % 2
        objects = POOL.ref("set", turn)
        yield Rendered(
            revision=revision,
            inputs=digest_of(revision.encode()),
            read_set=POOL.ref("read set", target.number),
            toolchain=TOOLCHAIN,
            set=objects.digest,
            objects=objects,
            count=len(target.objects),
        )
        if fate < 0.02:
            yield StageFailed(stage="plan", reason="ApiServerUnavailable", final=False, message="connection refused")
            return
        pruned = target.objects[-1] if fate > 0.97 and target.objects[-1] in target.uids else None
        wanted = [item for item in target.objects if item != pruned]
        plan = PlanId(digest_of(self._id().encode()))
        yield Planned(
            plan=plan,
            revision=revision,
            set=objects.digest,
            waves=POOL.ref("waves", target.number),
            blast_radius=BlastRadius(update=len(wanted), delete=int(pruned is not None)),
        )
        if fate < 0.03:
            until = time_of(self._now + timedelta(hours=8))
            yield PlanHeld(plan=plan, check="blast-radius", why="deletes a volume", until=until)
            yield PlanApproved(plan=plan, why="the volume is empty")
        yield Verified(plan=plan, policies=digest_of(b"policies"), checks=CHECKS)
        yield ApplyStarted(plan=plan, waves=2)
        created = 0
        for index, item in enumerate(wanted):
            if fate < 0.04 and index == 2:
                yield ApplyFailed(
                    plan=plan,
                    wave=1,
                    reason="Conflict",
                    message="the object was changed while it was applied",
                    object=item,
                    applied=index,
                    pending=len(wanted) - index,
                )
                return
            created += item not in target.uids
            yield self._applied(target, plan, item, wave=int(index > 1))
        if pruned:
            yield ObjectPruned(plan=plan, object=pruned, uid=target.uids.pop(pruned), outcome="deleted")
            self._observations.append((target, pruned))
        yield ApplyFinished(
            plan=plan,
            revision=revision,
            set=objects.digest,
            created=created,
            configured=len(wanted) - created,
            pruned=int(pruned is not None),
        )
        if random.random() < 0.3:
            yield HealthChanged(health="Current", reason="Succeeded", message=f"applied {revision}")

    def _applied(self, target: Target, plan: PlanId, item: ObjectId, wave: int) -> ObjectApplied:
        is_new = item not in target.uids
        object_uid = target.uids.setdefault(item, uid(self._random))
        self._observations.append((target, item))
        state = self._state(target, item)
        return ObjectApplied(
            plan=plan,
            object=item,
            uid=object_uid,
            resource_version=self._next_resource_version(),
            action="created" if is_new else "configured",
            wave=wave,
            desired=state.digest,
            state=state,
        )

    def _observation(self) -> tuple[StreamName, NewEvent]:
        """An object is seen: one that was just applied or pruned, or any."""
        random = self._random
        target, item = self._observations.popleft() if self._observations else self._any_object()
        object_uid = target.uids.get(item)
        event = ObjectObserved(
            uid=object_uid or uid(random),
            resource_version=self._next_resource_version(),
            state=None if object_uid is None else self._state(target, item),
            gone=object_uid is None,
            health="Unknown" if object_uid is None else random.choice(("Current", "Current", "Current", "InProgress")),
        )
        return object_stream(CLUSTER, item), self._new(event, lag_us=random.randint(1_000, 900_000))

    def _incident(self) -> tuple[StreamName, NewEvent]:
        """Drift, an illness, or a person who switches automation off or on."""
        random = self._random
        target, item = self._any_object()
        choice = random.random()
        if choice < 0.3:
            target.suspended = not target.suspended
            event = Suspended(why="we look for the cause") if target.suspended else Resumed(why="it was found")
            return target.stream, self._new(event, actor=random.choice(PEOPLE))
        stream = object_stream(CLUSTER, item)
        if choice < 0.6:
            drift = DriftDetected(
                target=target.stream,
                uid=target.uids.get(item, target.uid),
                resource_version=self._next_resource_version(),
                fields=(FieldDrift(path="spec.replicas", manager="kubectl-edit"),),
            )
            return stream, self._new(drift)
        health = HealthChanged(health="Failed", reason="ProgressDeadlineExceeded", message="no replica became ready")
        return stream, self._new(health)

    def _any_object(self) -> tuple[Target, ObjectId]:
        target = self._random.choice(self.fleet.targets)
        return target, self._random.choice(target.objects)

    def _state(self, target: Target, item: ObjectId) -> BodyRef:
        """An object has two states, with the odd and the even revisions of its target."""
        number = target.number * len(KINDS) + target.objects.index(item)
        return POOL.ref("state", (number * 2 + target.revision % 2) % STATES)

    def _next_resource_version(self) -> str:
        self._resource_version += self._random.randint(1, 5)
        return str(self._resource_version)


class _Pool:
    """Bodies by kind and number; made when they are first named."""

    def __init__(self) -> None:
        self._refs: dict[tuple[str, int], BodyRef] = {}
        self._bodies: dict[Digest, Body] = {}

    def ref(self, kind: str, number: int) -> BodyRef:
        found = self._refs.get((kind, number))
        if found is None:
            body = Body.of(encode(_content(kind, number)))
            found = self._refs[kind, number] = body.ref
            self._bodies[body.ref.digest] = body
        return found

    def body(self, reference: BodyRef) -> Body:
        return self._bodies[reference.digest]


POOL = _Pool()


def _content(kind: str, number: int) -> Json:
    """What a body says; of the size that such a body has."""
    random = Random(f"{kind} {number}")
    match kind:
        case "set" | "waves" | "read set":
            return [
                {
                    "id": f"apps/Deployment/team/{kind}-{number}-{index}",
                    "digest": f"sha256:{random.randbytes(32).hex()}",
                }
                for index in range(random.randint(4, 10))
            ]
        case "spec" | "source":
            return {"interval": "10m0s", "path": f"./apps/{kind}/{number}", "prune": True, "timeout": "2m0s"}
        case _:
            return _deployment(number, random)


def _deployment(number: int, random: Random) -> Json:
    variables: Json = [
        {"name": f"SETTING_{index}", "value": random.randbytes(random.randint(4, 24)).hex()}
        for index in range(random.randint(2, 30))
    ]
    image = f"registry.example.com/app-{number}:{random.randint(1, 9)}.{random.randint(0, 20)}"
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"app-{number}", "labels": {"app.kubernetes.io/name": f"app-{number}"}},
        "spec": {
            "replicas": random.randint(1, 9),
            "selector": {"matchLabels": {"app.kubernetes.io/name": f"app-{number}"}},
            "template": {"spec": {"containers": [{"name": "main", "image": image, "env": variables}]}},
        },
    }


def uid(random: Random) -> str:
    """A uid as Kubernetes gives it: a UUID of version 4."""
    text = random.randbytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def bodies_of_all(events: Iterable[NewEvent]) -> list[Body]:
    """The bodies that events of this workload name, each once."""
    named = {reference.digest: reference for new in events for reference in bodies_of(new.event)}
    return [POOL.body(reference) for reference in named.values()]
