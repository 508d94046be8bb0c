"""What other tools are told: Events in the cluster, and posts to the events address."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import anyio
import msgspec
import pytest
from aiohttp import web

from tests.apply.keeper import TARGET, a_target
from tests.runtime.releases import CONFIG, release, version
from tidelog.engine.cluster.errors import ForbiddenError
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.telling.notices import WAITING_MAX, Notices
from tidelog.engine.secrecy.logs import keeping_secret
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName
from tidelog.events.projections import Standing
from tidelog.events.projections.releases import Ongoing, ReleaseRow
from tidelog.events.vocabulary import ReleaseActionEnded, ReleaseActionStarted
from tidelog.events.vocabulary.release import Action

GROUP = "kustomize.toolkit.fluxcd.io"
HELM = "helm.toolkit.fluxcd.io"
REVISION = Revision("main@sha1:1")
PATIENCE_S = 20


class World:
    """Who is told."""

    def __init__(self, address: str) -> None:
        self.events: list[KubeObject] = []
        self.posts: list[dict[str, Any]] = []
        self.answers = 200
        self.refuses = False
        self.news = anyio.Event()
        self.standing = Standing(ready="False", reason="BuildFailed", message="no such file: x.yaml")
        self.release = release()
        self.row = ReleaseRow()
        settings = msgspec.structs.replace(Settings(), events_addr=address)
        self.engine = SimpleNamespace(
            settings=settings,
            cluster=self,
            cluster_alias="prod",
            origin_revisions=SimpleNamespace(known=lambda *_: ""),
            memory=SimpleNamespace(
                conditions={TARGET: self.standing, self.release.stream: self.standing},
                releases={self.release.stream: self.row},
            ),
            seconds_since=lambda _: 1.5,
            now=lambda: "2026-11-25T10:00:00.123456Z",
        )
        self.notices = Notices(cast("Engine", self.engine))
        self.declared = a_target()
        self.declared.live["metadata"]["resourceVersion"] = "7"

    async def create(self, obj: KubeObject, *, manager: str) -> KubeObject:
        if self.refuses:
            raise ForbiddenError("the namespace is on its way out")
        self.events.append(obj)
        self._tell()
        return obj

    async def posted(self, request: web.Request) -> web.Response:
        self.posts.append(await request.json())
        self._tell()
        return web.Response(status=self.answers)

    def _tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()

    async def until(self, *, events: int = 0, posts: int = 0) -> None:
        with anyio.fail_after(PATIENCE_S):
            while len(self.events) < events or len(self.posts) < posts:
                await self.news.wait()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    application = web.Application()
    runner = web.AppRunner(application, access_log=None)
    made: list[World] = []

    async def posted(request: web.Request) -> web.Response:
        return await made[0].posted(request)

    application.router.add_post("/", posted)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.append(World(f"http://127.0.0.1:{runner.addresses[0][1]}/"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made[0].notices.run)
        yield made[0]
        tasks.cancel_scope.cancel()
    await runner.cleanup()


async def test_each_notice_is_an_event_and_a_post_with_the_same_words(world: World) -> None:
    world.notices.reconciled(world.declared, REVISION)
    await world.until(events=1, posts=1)
    (event,), (post,) = world.events, world.posts
    assert event["message"] == post["message"] == "Reconciliation finished in 1.500s, next run in 1m0s"
    assert event["reason"] == post["reason"] == "ReconciliationSucceeded"
    assert (event["type"], post["severity"]) == ("Normal", "info")
    assert (
        event["involvedObject"]
        == post["involvedObject"]
        == {
            "apiVersion": f"{GROUP}/v1",
            "kind": "Kustomization",
            "name": "shop",
            "namespace": "flux-system",
            "uid": "target-uid",
            "resourceVersion": "7",
        }
    )
    assert (
        event["metadata"]["annotations"]
        == post["metadata"]
        == {
            f"{GROUP}/revision": REVISION,
            f"{GROUP}/commit_status": "update",
        }
    )
    assert event["source"]["component"] == post["reportingController"] == "kustomize-controller"


async def test_a_failure_is_a_warning_with_the_words_of_the_condition(world: World) -> None:
    world.notices.failed(world.declared, REVISION, StageError("render", "BuildFailed", "unfiltered"))
    await world.until(events=1, posts=1)
    assert (world.events[0]["type"], world.posts[0]["severity"]) == ("Warning", "error")
    assert world.events[0]["message"] == "no such file: x.yaml"


async def test_failures_that_are_all_alike_are_told_once(world: World) -> None:
    world.standing.since = Time("2026-11-25T10:00:00.000000Z")
    for _ in range(3):
        world.notices.failed(world.declared, REVISION, StageError("render", "BuildFailed", "unfiltered"))
    world.standing.message = "no such file: y.yaml"
    world.notices.failed(world.declared, REVISION, StageError("render", "BuildFailed", "unfiltered"))
    world.standing.since = Time("2026-11-25T11:00:00.000000Z")  # it was well in between
    world.notices.failed(world.declared, REVISION, StageError("render", "BuildFailed", "unfiltered"))
    await world.until(events=3, posts=3)
    assert [event["message"][-6:] for event in world.events] == ["x.yaml", "y.yaml", "y.yaml"]


async def test_who_waits_for_a_dependency_has_not_failed(world: World) -> None:
    waits = StageError("declare", "DependencyNotReady", "not yet", waits_for=StreamName("a/b/c/d/e"))
    world.notices.failed(world.declared, REVISION, waits)
    await world.until(events=1)
    assert world.events[0]["type"] == "Normal"


async def test_who_waits_for_an_artifact_is_told_in_the_cluster_alone(world: World) -> None:
    """Contract SE-004: each chart of a new fleet waits so, and nobody is to be called for it."""
    world.notices.failed(world.declared, None, StageError("fetch", "NoSourceArtifact", "no artifact available"))
    world.notices.changed(world.declared, None, ["ConfigMap/shop/a created"])
    await world.until(events=2, posts=1)
    assert [(event["type"], event["reason"]) for event in world.events] == [
        ("Normal", "NoSourceArtifact"),
        ("Normal", "Progressing"),
    ]
    assert [post["reason"] for post in world.posts] == ["Progressing"]


async def test_annotations_for_events_are_passed_on_as_they_are(world: World) -> None:
    world.declared.annotations = {"event.toolkit.fluxcd.io/app": "shop", "other": "x"}
    world.notices.changed(world.declared, None, ["ConfigMap/shop/a created"])
    world.notices.changed(world.declared, None, [])
    await world.until(events=1, posts=1)
    assert world.posts[0]["metadata"] == {"event.toolkit.fluxcd.io/app": "shop"}
    assert (world.posts[0]["reason"], world.posts[0]["message"]) == ("Progressing", "ConfigMap/shop/a created")
    assert len(world.events) == 1, "nothing changed, nothing is told"


async def test_long_messages_are_cut_to_what_each_can_take(world: World) -> None:
    world.notices.changed(
        world.declared, None, [f"ConfigMap/shop/{'é' * 20}-{number} created" for number in range(2_000)]
    )
    await world.until(events=1, posts=1)
    assert len(world.events[0]["message"].encode()) <= 1_024
    assert len(world.posts[0]["message"].encode()) <= 39_000
    assert world.events[0]["message"].endswith("...")
    assert len(world.posts[0]["message"]) > 20_000


async def test_where_nobody_takes_them_the_oldest_are_dropped_and_nobody_waits(world: World) -> None:
    for number in range(WAITING_MAX + 100):
        world.notices.changed(world.declared, None, [str(number)])
    await world.until(events=WAITING_MAX)
    assert [event["message"] for event in world.events][:2] == ["100", "101"]


async def test_neither_a_refusal_nor_an_error_of_the_address_keeps_the_next_from_being_told(world: World) -> None:
    world.refuses = True
    world.answers = 500
    world.notices.changed(world.declared, None, ["first"])
    await world.until(posts=1)
    world.refuses = False
    world.answers = 429
    world.notices.changed(world.declared, None, ["second"])
    await world.until(events=1, posts=2)
    assert [event["message"] for event in world.events] == ["second"]


async def test_no_secret_value_of_the_pass_is_told(world: World) -> None:
    with keeping_secret(SecretValues(["correct-horse"])):
        world.notices.changed(world.declared, None, ["it says correct-horse"])
    await world.until(events=1, posts=1)
    assert world.events[0]["message"] == world.posts[0]["message"] == "it says ***"


# Releases.


def ended(action: Action, reason: str, message: str = "it is over", **rest: Any) -> ReleaseActionEnded:
    outcome = "succeeded" if reason.endswith("Succeeded") or reason == "PendingRelease" else "failed"
    whole: dict[str, Any] = {"outcome": outcome, **rest}
    return ReleaseActionEnded(
        action=action, name="web", namespace="shop", version=2, reason=reason, message=message, **whole
    )


@pytest.mark.parametrize(
    ("action", "reason", "kind"),
    [
        ("install", "InstallSucceeded", "Normal"),
        ("upgrade", "UpgradeSucceeded", "Normal"),
        ("test", "TestSucceeded", "Normal"),
        ("rollback", "RollbackSucceeded", "Normal"),
        ("uninstall", "UninstallSucceeded", "Normal"),
        ("uninstall-remediation", "UninstallSucceeded", "Normal"),
        ("install", "InstallFailed", "Warning"),
        ("upgrade", "UpgradeFailed", "Warning"),
        ("test", "TestFailed", "Warning"),
        ("rollback", "RollbackFailed", "Warning"),
        ("uninstall", "UninstallFailed", "Warning"),
        ("uninstall-remediation", "UninstallFailed", "Warning"),
    ],
)
async def test_each_action_on_a_release_is_told_with_its_version(
    world: World, action: Action, reason: str, kind: str
) -> None:
    one = version(2, app_version="7", oci_digest="sha256:o")
    world.notices.acted(world.release, ended(action, reason, snapshots=(one, version(1))))
    await world.until(events=1, posts=1)
    (event,), (post,) = world.events, world.posts
    assert (event["type"], event["reason"], event["message"]) == (kind, reason, "it is over")
    assert post["severity"] == {"Normal": "info", "Warning": "error"}[kind]
    assert event["involvedObject"]["apiVersion"] == f"{HELM}/v2"
    assert event["source"]["component"] == post["reportingController"] == "helm-controller"
    assert (
        event["metadata"]["annotations"]
        == post["metadata"]
        == {
            f"{HELM}/revision": "1.0.2",
            f"{HELM}/token": CONFIG,
            f"{HELM}/app-version": "7",
            f"{HELM}/oci-digest": "sha256:o",
        }
    )


@pytest.mark.parametrize(("outcome", "kind"), [("succeeded", "Normal"), ("failed", "Warning")])
async def test_a_release_that_was_unlocked_is_told(world: World, outcome: str, kind: str) -> None:
    world.notices.acted(world.release, ended("unlock", "PendingRelease", outcome=outcome))
    await world.until(events=1)
    assert (world.events[0]["type"], world.events[0]["reason"]) == (kind, "PendingRelease")


async def test_what_came_to_no_version_is_told_with_what_was_attempted_or_is_there(world: World) -> None:
    world.row.history = (version(1, app_version="7"),)
    world.row.attempted_version, world.row.attempted_config = "2.0.0", "sha256:new"
    world.row.attempted_digest = "sha256:o"
    world.notices.acted(world.release, ended("upgrade", "UpgradeFailed"))
    world.notices.acted(world.release, ended("test", "TestFailed"))
    world.notices.acted(world.release, ended("rollback", "RollbackSucceeded", snapshots=(version(2),)))
    await world.until(posts=3)
    upgraded, tested, brought_back = (post["metadata"] for post in world.posts)
    assert upgraded == {f"{HELM}/revision": "2.0.0", f"{HELM}/token": "sha256:new", f"{HELM}/oci-digest": "sha256:o"}
    assert tested == {f"{HELM}/revision": "1.0.1", f"{HELM}/token": CONFIG, f"{HELM}/app-version": "7"}
    assert brought_back == {f"{HELM}/revision": "1.0.2", f"{HELM}/token": "sha256:new"}, "of the values asked for"


async def test_drift_of_a_release_is_told_and_what_became_of_it(world: World) -> None:
    world.row.history = (version(1),)
    world.notices.drifted(world.release, "it drifts")
    world.notices.corrected(world.release, "it was put right", ok=True)
    world.notices.corrected(world.release, "it was not", ok=False)
    await world.until(events=3, posts=3)
    assert [(event["type"], event["reason"]) for event in world.events] == [
        ("Warning", "DriftDetected"),
        ("Normal", "DriftCorrected"),
        ("Warning", "DriftCorrectionFailed"),
    ]
    version_of = {f"{HELM}/revision": "1.0.1", f"{HELM}/token": CONFIG}
    assert [post["metadata"] for post in world.posts] == [{}, version_of, version_of]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("DependencyNotReady", "Normal"),
        ("HealthCheckCanceled", "Normal"),
        ("ArtifactFailed", "Warning"),
        ("ValuesError", "Warning"),
        ("AccessDenied", "Warning"),
        ("InvalidCELExpression", "Warning"),
    ],
)
async def test_what_keeps_a_release_from_an_action_is_told(world: World, reason: str, kind: str) -> None:
    world.notices.failed(world.release, None, StageError("declare", reason, "no"))
    await world.until(events=1)
    assert (world.events[0]["type"], world.events[0]["reason"]) == (kind, reason)


@pytest.mark.parametrize("reason", ["SourceNotReady", "RetriesExceeded", "MissingRollbackTarget"])
async def test_what_only_a_release_s_condition_tells_is_no_event(world: World, reason: str) -> None:
    world.notices.failed(world.release, None, StageError("declare", reason, "no", stalled=True))
    world.notices.acted(world.release, ended("install", "InstallFailed", outcome="superseded"))
    world.notices.drifted(world.release, "it drifts")
    await world.until(events=1)
    assert [event["reason"] for event in world.events] == ["DriftDetected"]


async def test_what_an_action_changes_or_fails_of_is_told_with_its_end(world: World) -> None:
    started = ReleaseActionStarted(
        action="install",
        name="web",
        namespace="shop",
        storage_namespace="shop",
        version=1,
        chart_name="podinfo",
        chart_version="1.0.1",
    )
    world.row.ongoing = Ongoing(started=started, since=Time("2026-11-25T10:00:00.000000Z"), position=1)
    world.notices.changed(world.release, None, ["ConfigMap/shop/a created"])
    world.notices.stopped(world.release, None)
    world.notices.acted(world.release, ended("install", "InstallFailed"))
    world.standing.reason = "PlanHeld"
    world.notices.stopped(world.release, None)
    world.row.ongoing = None
    world.standing.reason = "InstallFailed"
    world.notices.stopped(world.release, REVISION)
    await world.until(events=3)
    assert [event["reason"] for event in world.events] == ["InstallFailed", "PlanHeld", "InstallFailed"]
