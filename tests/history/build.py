"""Writes the log of a release: `python tests/history/build.py 0.1.0`, once, when the release is made.

It holds every event type of the vocabulary at least once, bodies plain and secret, and all that the
demonstration tells. What is committed beside it is what it folds to, row by row: no later release may fold it
to other bytes.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

import tidelog
from tests.events.releases import STORIES, release_events, story_bodies
from tidelog.engine.story import TARGET, WEB, history
from tidelog.events import Body, BodyRef
from tidelog.events.digest import digest_of, keyed_digest_of
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, PlanId, Revision, RunId, StreamName
from tidelog.events.projection import Projection, encode_row
from tidelog.events.projections import PROJECTIONS
from tidelog.events.vocabulary import (
    ApplyFailed,
    ConfigurationLoaded,
    EngineStarted,
    EngineStopped,
    Event,
    HealthChanged,
    InputChanged,
    Marked,
    ObjectAbandoned,
    ObjectPruned,
    ObservationInterrupted,
    ObservationResumed,
    Pinned,
    PlanApproved,
    PlanHeld,
    PlanRejected,
    ReconcileRequested,
    Resumed,
    RevisionSettled,
    RunEnded,
    SourceRemoved,
    StageFailed,
    StreamForgotten,
    Suspended,
    TargetMoved,
    TargetRemoved,
    Unpinned,
    Verdict,
    VerificationFailed,
)
from tidelog.storage import ANY, NewEvent, open_log, open_views, read_log, read_views
from tidelog.storage.layout import Layout
from tidelog.storage.log.ids import new_id
from tidelog.storage.projections.views import Views
from tidelog.storage.transfer import export_log

HERE = Path(__file__).parent
RELEASE = StreamName("demo/helm.toolkit.fluxcd.io/HelmRelease/apps/web")
OLD = StreamName("demo/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/old")
PLAN = PlanId("plan-4.0")
REVISION = Revision("main@sha1:" + "4" * 40)
OCCURRED = Time("2026-11-01T00:00:00.000000Z")
CIPHERTEXT = b"not readable without the key of its stream"
SECRET = Body(
    ref=BodyRef(
        digest=keyed_digest_of(b"hunter2", b"a key that only this test has"),
        size=7,
        secret=True,
        stored=digest_of(CIPHERTEXT),
    ),
    data=CIPHERTEXT,
)
CONFIGURATION = Body.of(b'{"interval":"1m"}')


def others(engine: StreamName) -> list[tuple[StreamName, Event]]:
    """What the demonstration does not tell."""
    why = "shown once"
    verdict = Verdict(check="schema", passed=False, object=WEB.id, path="spec.replicas", message="must be a number")
    return [
        (engine, EngineStarted(software=f"tidelog {tidelog.__version__}", host="demo", pid=1)),
        (engine, ConfigurationLoaded(configuration=CONFIGURATION.ref)),
        (engine, ObservationInterrupted(cluster="demo", kinds=("apps/Deployment",), why=why)),
        (engine, ObservationResumed(cluster="demo", kinds=("apps/Deployment",))),
        (TARGET, InputChanged(object=ObjectId("core/Secret/shop/values"), digest=SECRET.ref.digest)),
        (TARGET, ReconcileRequested(why=why, token="2026-11-23T00:00:00Z", force=True)),
        (TARGET, Suspended(why=why, until=Time("2026-12-01T00:00:00.000000Z"))),
        (TARGET, Resumed(why=why)),
        (TARGET, VerificationFailed(plan=PLAN, policies=digest_of(b""), failed=(verdict,))),
        (TARGET, StageFailed(stage="render", reason="BuildFailed", final=True, message="kustomization.yaml:3: no")),
        (TARGET, StageFailed(stage="render", reason="BuildFailed", final=True, attempt=2, repeats=True)),
        (TARGET, PlanApproved(plan=PLAN, why=why, until=Time("2026-12-01T00:00:00.000000Z"))),
        (TARGET, ApplyFailed(plan=PLAN, wave=0, reason="Forbidden", message="no", object=WEB.id, applied=1)),
        (TARGET, ObjectPruned(plan=PLAN, object=ObjectId("core/Service/shop/web"), uid="1", outcome="deleted")),
        (TARGET, RunEnded(outcome="superseded", generation=4)),
        (TARGET, PlanHeld(plan=PLAN, check="prune-guard", why=why)),
        (TARGET, PlanRejected(plan=PLAN, why=why)),
        (TARGET, RunEnded(outcome="rejected", generation=4)),
        (TARGET, StageFailed(stage="fetch", reason="ArtifactFailed", final=False, message=why, waits_for=OLD)),
        (
            TARGET,
            StageFailed(stage="declare", reason="InvalidSpec", final=True, stalled=True, generation=4, message=why),
        ),
        (TARGET, HealthChanged(checked=True, health="InProgress", message=why)),
        (TARGET, RunEnded(outcome="succeeded", generation=4, revision=REVISION, set=digest_of(b"1.0"), token="t")),
        (TARGET, RevisionSettled(revision=REVISION, targets=(TARGET,))),
        (TARGET, Pinned(set=digest_of(b"1.0"), position=13, left=REVISION, why=why)),
        (TARGET, Unpinned(why=why)),
        (TARGET, ObjectAbandoned(object=ObjectId("core/Service/shop/old"), uid="4", cluster="demo")),
        (TARGET, TargetMoved(cluster="flux-system.01234567")),
        (TARGET, Marked(label="release", why="ünïcode 🌊")),
        (WEB.stream("demo"), HealthChanged(health="Current", message=why)),
        (engine, EngineStopped(why=why)),
        *(
            (RELEASE, event)
            for what in STORIES
            for event in release_events(what, 2, Time("2026-11-01T00:00:00.000000Z"))
        ),
        (OLD, StreamForgotten(keys=("0123456789abcdef0123456789abcdef",), why=why)),
        (OLD, TargetRemoved(uid="2", deletion_policy="Delete")),
        (OLD, SourceRemoved(uid="3")),
    ]


async def build(target: Path) -> None:
    """Writes log, export and rows to the new directory `target`."""
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "store"
        async with open_log(store) as log, open_views(log) as views:
            for chapter in history():
                await log.append_all(chapter.appends, bodies=chapter.bodies)
            run = RunId(new_id())
            for stream, event in others(StreamName(f"{log.identity.log}/engine")):
                new = NewEvent(event, run=run, occurred=OCCURRED)
                await log.append(stream, ANY, [new], bodies=[SECRET, CONFIGURATION, *story_bodies(2)])
            await views.catch_up()
        export_log(Layout(store), target)
        (target / "log.db").write_bytes((store / "log.db").read_bytes())
        (target / "projections.json").write_text(json.dumps(await rows_of(store), indent=1, ensure_ascii=False) + "\n")


async def rows_of(store: Path) -> dict[str, dict[str, object]]:
    """All rows of all projections of a store, folded from its log."""
    async with read_log(store) as log:
        views = read_views(log)
        return {projection.name: await rows(views, projection) for projection in PROJECTIONS}


async def rows(views: Views, projection: Projection[Any]) -> dict[str, object]:
    """All rows of a projection, by key."""
    return {key: json.loads(encode_row(row)) for key, row in (await views.rows(projection)).items()}


if __name__ == "__main__":
    anyio.run(build, HERE / sys.argv[1])
