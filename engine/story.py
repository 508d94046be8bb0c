"""A small made-up history, as a cluster under Tidelog writes it: two commits, a drift, and a bad third commit.

It is what the demonstration shows. Nothing of it touches a cluster.
"""

from collections.abc import Sequence

import msgspec

from tidelog.events import Actor, Body, Proof
from tidelog.events.canonical import Json, encode
from tidelog.events.digest import digest_of, digest_of_json
from tidelog.events.names import EventId, ObjectId, ObjectKey, PlanId, Revision, RunId, StreamName, TraceId
from tidelog.events.vocabulary import (
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    ClusterBound,
    DriftDetected,
    Event,
    FieldDrift,
    ObjectApplied,
    ObjectObserved,
    Person,
    PlanHeld,
    Planned,
    PlanRejected,
    Rendered,
    RevisionFetched,
    RevisionRejected,
    SourceDeclared,
    TargetDeclared,
    Tool,
    Verified,
)
from tidelog.storage import ANY, NewEvent, StreamAppend
from tidelog.storage.log.ids import new_id

CLUSTER = "demo"
SOURCE = ObjectKey("source.toolkit.fluxcd.io", "GitRepository", "flux-system", "shop").stream(CLUSTER)
TARGET = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "shop").stream(CLUSTER)
WEB = ObjectKey("apps", "Deployment", "shop", "web")
SERVICE = ObjectKey("", "Service", "shop", "web")
NAMESPACE = ObjectKey("", "Namespace", "", "shop")

GIT = Actor(kind="git", name="Ada <ada@example.com>", proof=Proof(kind="claimed"))
KUBECTL = Actor(kind="manager", name="kubectl-edit", proof=Proof(kind="inferred"))
ON_CALL = Actor(kind="user", name="grace", proof=Proof(kind="authenticated", by="kubernetes"))


class Chapter(msgspec.Struct, frozen=True):
    """A part of the history that is appended at once."""

    title: str
    appends: tuple[StreamAppend, ...]
    bodies: tuple[Body, ...] = ()


class _Run:
    """Events of one run in the order in which they happen, each the cause of the next."""

    def __init__(self, stream: StreamName, trace: TraceId) -> None:
        self._stream = stream
        self._trace = trace
        self._run = RunId(new_id())
        self._cause: EventId | None = None
        self._events: list[NewEvent] = []

    def then(self, event: Event, actor: Actor | None = None) -> "_Run":
        event_id = new_id()
        new = NewEvent(event, id=event_id, run=self._run, trace=self._trace, cause=self._cause)
        self._events.append(new if actor is None else msgspec.structs.replace(new, actor=actor))
        self._cause = event_id
        return self

    @property
    def append(self) -> StreamAppend:
        return StreamAppend(self._stream, ANY, tuple(self._events))


def history() -> Sequence[Chapter]:
    """The chapters, in order."""
    return (_beginning(), _deploy("1.0", "Open the shop"), _deploy("2.0", "New checkout"), _drift(), _accident())


def _beginning() -> Chapter:
    specs = {SOURCE: _body({"url": "https://git.example.com/shop"}), TARGET: _body({"path": "./deploy", "prune": True})}
    return Chapter(
        "A source and a target are declared",
        (
            StreamAppend(
                ObjectKey("", "Namespace", "", "kube-system").stream(CLUSTER),
                ANY,
                [NewEvent(ClusterBound(alias=CLUSTER, uid=_uid("kube-system")))],
            ),
            StreamAppend(
                SOURCE, ANY, [NewEvent(SourceDeclared(uid=_uid("source"), generation=1, spec=specs[SOURCE].ref))]
            ),
            StreamAppend(
                TARGET, ANY, [NewEvent(TargetDeclared(uid=_uid("target"), generation=1, spec=specs[TARGET].ref))]
            ),
        ),
        tuple(specs.values()),
    )


def _deploy(version: str, message: str) -> Chapter:
    trace = TraceId(new_id())
    revision = _revision(version)
    objects = {key.id: _body(manifest) for key, manifest in _manifests(version).items()}
    rendered = _body([[object_id, body.ref.digest] for object_id, body in sorted(objects.items())])
    waves = _body([[[object_id, "apply"] for object_id in sorted(objects)]])
    fetch = _Run(SOURCE, trace).then(_fetched(version, message), GIT)
    plan = PlanId(f"plan-{version}")
    run = (
        _Run(TARGET, trace)
        .then(_rendered(revision, rendered, len(objects)))
        .then(
            _planned(
                plan,
                revision,
                rendered,
                waves,
                BlastRadius(create=3) if version == "1.0" else BlastRadius(update=1, unchanged=2),
            )
        )
        .then(Verified(plan=plan, policies=digest_of(b""), checks=("well-formed", "schema", "dry-run")))
        .then(ApplyStarted(plan=plan, waves=1))
    )
    for object_id, body in objects.items():
        run.then(_applied(plan, object_id, body, version))
    run.then(ApplyFinished(plan=plan, revision=revision, set=rendered.ref.digest, configured=len(objects)))
    title = f"Commit “{message}”: fetched, rendered, planned, verified, applied"
    return Chapter(title, (fetch.append, run.append), (*objects.values(), rendered, waves))


def _drift() -> Chapter:
    trace = TraceId(new_id())
    web = WEB.stream(CLUSTER)
    changed = _body(_deployment("2.0", replicas=0))
    right = _body(_deployment("2.0"))
    seen = (
        _Run(web, trace)
        .then(_observed(changed, "31", "InProgress"), KUBECTL)
        .then(
            DriftDetected(
                target=TARGET,
                uid=_uid(WEB.id),
                resource_version="31",
                fields=(FieldDrift(path="spec.replicas", manager="kubectl-edit"),),
            ),
            KUBECTL,
        )
    )
    plan = PlanId("plan-drift")
    mended = (
        _Run(TARGET, trace)
        .then(ApplyStarted(plan=plan, waves=1))
        .then(_applied(plan, WEB.id, right, "32"))
        .then(ApplyFinished(plan=plan, revision=_revision("2.0"), set=digest_of(b"2.0"), configured=1))
    )
    return Chapter("Someone scales the shop to zero; it is put back", (seen.append, mended.append), (changed, right))


def _accident() -> Chapter:
    trace = TraceId(new_id())
    revision = _revision("3.0")
    plan = PlanId("plan-3.0")
    rendered, waves = _body([]), _body([[[NAMESPACE.id, "delete"]]])
    fetch = _Run(SOURCE, trace).then(_fetched("3.0", "Tidy up"), GIT)
    run = (
        _Run(TARGET, trace)
        .then(_rendered(revision, rendered, 0))
        .then(_planned(plan, revision, rendered, waves, BlastRadius(delete=3, destructive=(NAMESPACE.id,))))
        .then(PlanHeld(plan=plan, check="prune-guard", why="it deletes a Namespace, and all that the target has"))
        .then(PlanRejected(plan=plan, why="the directory was moved by mistake"), ON_CALL)
        .then(RevisionRejected(revision=revision, why="the directory was moved by mistake"), ON_CALL)
    )
    return Chapter(
        "A commit would delete everything: held, and rejected", (fetch.append, run.append), (rendered, waves)
    )


def _fetched(version: str, message: str) -> RevisionFetched:
    return RevisionFetched(
        revision=_revision(version),
        tree=_sha1(f"tree {version}"),
        artifact=digest_of(version.encode()),
        size=1_200,
        author=Person(name="Ada", email="ada@example.com"),
        message=message,
    )


def _rendered(revision: Revision, rendered: Body, count: int) -> Rendered:
    return Rendered(
        revision=revision,
        inputs=digest_of_json([revision, "./deploy"]),
        read_set=rendered.ref,
        toolchain=(Tool("kustomize", "5.8.0"),),
        set=rendered.ref.digest,
        objects=rendered.ref,
        count=count,
    )


def _planned(plan: PlanId, revision: Revision, rendered: Body, waves: Body, radius: BlastRadius) -> Planned:
    return Planned(plan=plan, revision=revision, set=rendered.ref.digest, waves=waves.ref, blast_radius=radius)


def _applied(plan: PlanId, object_id: ObjectId, body: Body, version: str) -> ObjectApplied:
    return ObjectApplied(
        plan=plan,
        object=object_id,
        uid=_uid(object_id),
        resource_version=version.replace(".", ""),
        action="configured",
        wave=0,
        desired=body.ref.digest,
        state=body.ref,
    )


def _observed(body: Body, version: str, health: str) -> ObjectObserved:
    return ObjectObserved(
        uid=_uid(WEB.id),
        resource_version=version,
        state=body.ref,
        health="InProgress" if health == "InProgress" else "Current",
    )


def _manifests(version: str) -> dict[ObjectKey, Json]:
    return {
        NAMESPACE: {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        SERVICE: {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}},
        },
        WEB: _deployment(version),
    }


def _deployment(version: str, replicas: int = 3) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "template": {"spec": {"containers": [{"name": "web", "image": f"registry.example.com/shop:{version}"}]}},
        },
    }


def _body(value: Json) -> Body:
    return Body.of(encode(value))


def _revision(version: str) -> Revision:
    return Revision(f"main@sha1:{_sha1(f'commit {version}')}")


def _sha1(text: str) -> str:
    return digest_of(text.encode()).removeprefix("sha256:")[:40]


def _uid(text: str) -> str:
    value = _sha1(text)
    return f"{value[:8]}-{value[8:12]}-4{value[13:16]}-8{value[17:20]}-{value[20:32]}"
