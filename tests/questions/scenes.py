"""Logs as the daemon writes them, for the tests of what people ask: told event by event, appended by the public API."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import msgspec

from tidelog.engine.plan.model import Change, Plan, Step
from tidelog.events import Actor, Body, Proof
from tidelog.events.bodies import BodyRef
from tidelog.events.canonical import Json, encode
from tidelog.events.digest import digest_of, keyed_digest_of
from tidelog.events.envelope import ENGINE
from tidelog.events.moment import Time, time_of
from tidelog.events.names import EventId, ObjectKey, PlanId, Revision, RunId, StreamName, TraceId, cluster_of
from tidelog.events.vocabulary import (
    ApplyFinished,
    ApplyStarted,
    Event,
    ObjectApplied,
    Person,
    Pinned,
    Planned,
    Rendered,
    RevisionFetched,
    RunEnded,
    SourceDeclared,
    TargetDeclared,
    Tool,
    Verified,
)
from tidelog.events.vocabulary.observe import Health
from tidelog.storage import ANY, NewEvent, StreamAppend, open_log, open_views
from tidelog.storage.log.ids import new_id

START = datetime(2024, 1, 1, tzinfo=UTC)
ADA = Actor(kind="git", name="Ada <ada@example.com>", proof=Proof(kind="claimed"))
GRACE = Actor(kind="user", name="grace", proof=Proof(kind="authenticated", by="kubernetes"))
KUBECTL = Actor(kind="manager", name="kubectl-edit", proof=Proof(kind="inferred"))
APPENDS_MAX = 400


def source(name: str, namespace: str = "flux-system", cluster: str = "prod") -> StreamName:
    return ObjectKey("source.toolkit.fluxcd.io", "GitRepository", namespace, name).stream(cluster)


def target(name: str, namespace: str = "flux-system", cluster: str = "prod") -> StreamName:
    return ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", namespace, name).stream(cluster)


def deployment(name: str, namespace: str = "shop") -> ObjectKey:
    return ObjectKey("apps", "Deployment", namespace, name)


def revision(word: str) -> Revision:
    return Revision(f"main@sha1:{digest_of(word.encode())[7:47]}")


def time(seconds: float) -> Time:
    return time_of(START + timedelta(seconds=seconds))


class _Told(msgspec.Struct):
    time: Time
    append: StreamAppend
    bodies: list[Body]


class Scene:
    """A log in the making. Its first event is at position 2: the log's own creation is before it."""

    def __init__(self) -> None:
        self.position = 1
        """Of the last event told."""
        self._seconds = 0.0
        self._told: list[_Told] = []

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self._seconds += seconds

    def tell(
        self,
        stream: StreamName,
        *events: Event,
        actor: Actor = ENGINE,
        run: RunId | None = None,
        trace: TraceId | None = None,
        cause: EventId | None = None,
        bodies: Sequence[Body] = (),
    ) -> EventId:
        """Tells events of one stream, each caused by the one before; returns the id of the last."""
        new = []
        for event in events:
            id = new_id()
            new.append(NewEvent(event, actor=actor, id=id, run=run, trace=trace, cause=cause))
            cause = id
        self._told.append(_Told(time(self._seconds), StreamAppend(stream, ANY, new), list(bodies)))
        self.position += len(new)
        if cause is None:
            raise ValueError("nothing was told")
        return cause

    # What a daemon tells.

    def declare(self, stream: StreamName, **spec: Json) -> None:
        body = Body.of(encode(spec))
        declared = SourceDeclared if "/source.toolkit.fluxcd.io/" in stream else TargetDeclared
        self.tell(stream, declared(uid=stream[-8:], generation=1, spec=body.ref), bodies=[body])

    def fetch(self, stream: StreamName, word: str, message: str, trace: TraceId | None = None) -> EventId:
        """A run in which a revision is fetched."""
        fetched = RevisionFetched(
            revision=revision(word),
            tree=digest_of(f"tree {word}".encode())[7:47],
            artifact=digest_of(word.encode()),
            size=100,
            author=Person(name="Ada", email="ada@example.com", time=time(self._seconds - 60)),
            message=message,
        )
        ended = RunEnded(outcome="succeeded", generation=1, revision=revision(word))
        return self.tell(stream, fetched, ended, actor=ADA, run=RunId(new_id()), trace=trace)

    def rendered(self, word: str, objects: Mapping[ObjectKey, Json]) -> tuple[Rendered, list[Body]]:
        listed = Body.of(encode([[key.id, digest_of(encode(state))] for key, state in sorted(objects.items())]))
        event = Rendered(
            revision=revision(word),
            inputs=digest_of(listed.data + word.encode()),
            read_set=listed.ref,
            toolchain=(Tool("kustomize", "5.8.0"),),
            set=listed.ref.digest,
            objects=listed.ref,
            count=len(objects),
        )
        return event, [listed]

    def planned(
        self, stream: StreamName, plan: str, word: str, made: Rendered, steps: Sequence[Step]
    ) -> tuple[Planned, list[Body]]:
        whole = Plan(
            id=PlanId(plan), run=RunId(""), target=stream, revision=revision(word), set=made.set, waves=(tuple(steps),)
        )
        body = Body.of(encode(msgspec.to_builtins(whole)))
        event = Planned(
            plan=whole.id, revision=whole.revision, set=made.set, waves=body.ref, blast_radius=whole.blast_radius
        )
        return event, [body]

    def deploy(
        self,
        stream: StreamName,
        word: str,
        plan: str,
        objects: Mapping[ObjectKey, Json],
        *,
        trace: TraceId | None = None,
        cause: EventId | None = None,
        health: Health = "Current",
        ends: bool = True,
    ) -> RunId:
        """A run in which a target applies all its objects, and is well."""
        run = RunId(new_id())
        made, bodies = self.rendered(word, objects)
        steps = [Step(object=key.id, api_version="apps/v1", action="create") for key in objects]
        change = Change(path="spec.replicas", before=1, after=3)
        steps[0] = msgspec.structs.replace(steps[0], action="update", changes=(change,), before=made.set, uid="u")
        intent, plan_bodies = self.planned(stream, plan, word, made, steps)
        states = {key: Body.of(encode(state)) for key, state in objects.items()}
        applied = [
            ObjectApplied(
                plan=PlanId(plan),
                object=key.id,
                uid=f"uid-{key.name}",
                resource_version=str(self.position),
                action="configured",
                wave=0,
                desired=digest_of(encode(objects[key])),
                state=state.ref,
                api_version="apps/v1",
                health=health,
            )
            for key, state in states.items()
        ]
        finished = ApplyFinished(plan=PlanId(plan), revision=revision(word), set=made.set, configured=len(objects))
        ended = RunEnded(outcome="succeeded", generation=1, revision=revision(word), set=made.set)
        self.tell(stream, made, actor=ENGINE, run=run, trace=trace, cause=cause, bodies=bodies)
        self.wait(2)
        self.tell(
            stream,
            intent,
            Verified(plan=PlanId(plan), policies=digest_of(b""), checks=("well-formed", "schema", "dry-run")),
            ApplyStarted(plan=PlanId(plan), waves=1),
            *applied,
            finished,
            *([ended] if ends else []),
            run=run,
            trace=trace,
            bodies=[*plan_bodies, *states.values()],
        )
        return run

    def put_back(
        self,
        stream: StreamName,
        left: str,
        plan: str,
        made: Rendered,
        objects: Mapping[ObjectKey, Json],
        *,
        cause: EventId | None = None,
    ) -> RunId:
        """A run that applies a set that was rendered before: its plan names the revision that the source is at."""
        run = RunId(new_id())
        intent, bodies = self.planned(stream, plan, left, made, [])
        states = {key: Body.of(encode(state)) for key, state in objects.items()}
        applied = [
            ObjectApplied(
                plan=PlanId(plan),
                object=key.id,
                uid=f"uid-{key.name}",
                resource_version=str(self.position),
                action="configured",
                wave=0,
                desired=digest_of(encode(objects[key])),
                state=state.ref,
                api_version="apps/v1",
                health="Current",
            )
            for key, state in states.items()
        ]
        finished = ApplyFinished(plan=PlanId(plan), revision=revision(left), set=made.set, configured=len(objects))
        ended = RunEnded(outcome="succeeded", generation=1, revision=revision(left), set=made.set)
        events = (intent, ApplyStarted(plan=PlanId(plan), waves=1), *applied, finished, ended)
        self.tell(stream, *events, run=run, cause=cause, bodies=[*bodies, *states.values()])
        return run

    def write(self, store: Path, *, with_views: bool = True) -> Path:
        """Writes the log, and the projections beside it, as a daemon leaves them."""
        anyio.run(partial(self._write, store, with_views=with_views))
        return store

    async def _write(self, store: Path, *, with_views: bool) -> None:
        now = [time(0)]
        async with AsyncExitStack() as opened:
            log = await opened.enter_async_context(open_log(store, clock=lambda: now[0]))
            for told in self._told:
                now[0] = told.time
                await log.append_all([told.append], bodies=told.bodies)
            if with_views:
                await opened.enter_async_context(open_views(log))


def secret_body(plaintext: bytes) -> Body:
    """A body that nobody can read here: its key is nowhere."""
    sealed = b"sealed:" + digest_of(plaintext).encode()
    reference = BodyRef(
        digest=keyed_digest_of(plaintext, b"a key of this test"),
        size=len(plaintext),
        secret=True,
        stored=digest_of(sealed),
    )
    return Body(ref=reference, data=sealed)


def manifest(name: str, image: str, replicas: int = 1) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
    }


SHOP = source("shop")
INFRA, APPS, ROOT = target("infra"), target("apps"), target("flux-system")
WEB, DB = deployment("web"), deployment("db")


def key_of(stream: StreamName) -> ObjectKey:
    return ObjectKey.parse(stream.removeprefix(f"{cluster_of(stream)}/"))


def shop() -> Scene:
    """A source and three targets, one of which applies the others and itself; two commits, all well.

    Positions: 2-5 declared, 6-7 fetched “Open the shop”, then flux-system, infra and apps applied; later 'two'
    “New checkout” fetched, and apps applied again.
    """
    scene = _opened()
    _check_out_anew(scene)
    return scene


def _opened() -> Scene:
    scene = Scene()
    reference: dict[str, Json] = {"kind": "GitRepository", "name": "shop"}
    scene.declare(SHOP, url="https://git.example.com/shop")
    scene.declare(ROOT, sourceRef=reference, path="./clusters/prod")
    scene.declare(INFRA, sourceRef=reference, path="./infra")
    scene.declare(APPS, sourceRef=reference, path="./apps", dependsOn=[{"name": "infra"}])
    scene.wait(60)
    trace = TraceId(new_id())
    cause = scene.fetch(SHOP, "one", "Open the shop\n\nAt last.", trace)
    nested: dict[ObjectKey, Json] = {key_of(stream): {"kind": "Kustomization"} for stream in (ROOT, INFRA, APPS)}
    scene.deploy(ROOT, "one", "plan-root", nested, trace=trace, cause=cause)
    scene.deploy(INFRA, "one", "plan-infra", {DB: manifest("db", "postgres:16")}, trace=trace, cause=cause)
    scene.deploy(APPS, "one", "plan-apps-1", {WEB: manifest("web", "shop:1")}, trace=trace, cause=cause)
    return scene


def _check_out_anew(scene: Scene) -> None:
    scene.wait(3600)
    trace = TraceId(new_id())
    cause = scene.fetch(SHOP, "two", "New checkout", trace)
    scene.deploy(APPS, "two", "plan-apps-2", {WEB: manifest("web", "shop:2", 3)}, trace=trace, cause=cause)


def pinned_shop() -> Scene:
    """The shop, whose target apps was then put back by Grace to what it wanted when it was at its first commit."""
    scene = _opened()
    moment = scene.position
    _check_out_anew(scene)
    objects: dict[ObjectKey, Json] = {WEB: manifest("web", "shop:1")}
    made, _ = scene.rendered("one", objects)
    scene.wait(60)
    pinned = Pinned(set=made.set, position=moment, left=revision("two"), why="two is broken")
    cause = scene.tell(APPS, pinned, actor=GRACE)
    scene.put_back(APPS, "two", "plan-apps-3", made, objects, cause=cause)
    return scene
