"""What other tools are told: the same events in the cluster and by POST (Flux contract 1.6)."""

import socket
from collections.abc import AsyncIterator

import anyio
import pytest
from aiohttp import web

from tests.e2e.world import KUSTOMIZE, LIMIT_S, SOURCE, World, config_map, failed
from tidelog.engine.objects.kube import KubeObject

GROUP = "kustomize.toolkit.fluxcd.io"


class Inbox:
    """Takes what is posted."""

    def __init__(self) -> None:
        self.address = ""
        self.posted: list[KubeObject] = []
        self.status = 200
        self._news = anyio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.posted.append(await request.json())
        self._news.set()
        return web.Response(status=self.status)

    async def until(self, reason: str, *words: str) -> KubeObject:
        with anyio.fail_after(LIMIT_S):
            while True:
                for event in self.posted:
                    if event["reason"] == reason and all(word in event["message"] for word in words):
                        return event
                self._news = anyio.Event()
                await self._news.wait()


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    made = Inbox()
    app = web.Application()
    app.router.add_post("/", made.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.address = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


async def app_of(world: World, content: str) -> None:
    world.commit({"app/all.yaml": content}, message="Something new\n\nAt length.")
    await world.source()
    note = {"event.toolkit.fluxcd.io/team": "web"}
    await world.target("app", "./app", targetNamespace=world.namespace, metadata={"annotations": note})


async def test_what_is_posted_is_what_the_cluster_is_told(world: World, inbox: Inbox) -> None:
    async with world.daemon(events_addr=inbox.address):
        await app_of(world, config_map("a"))
        (app,) = await world.until_applied("app")
        posted = await inbox.until("ReconciliationSucceeded")
        told = await world.until_told("app", "ReconciliationSucceeded")
        changed = await inbox.until("Progressing", "created")
        stored = await inbox.until("NewArtifact")
    involved = posted["involvedObject"]
    assert {name: involved[name] for name in ("apiVersion", "kind", "name", "namespace", "uid")} == {
        "apiVersion": KUSTOMIZE,
        "kind": "Kustomization",
        "name": "app",
        "namespace": world.namespace,
        "uid": app["metadata"]["uid"],
    }
    assert involved["resourceVersion"]
    assert posted["severity"] == "info"
    assert posted["metadata"] == {
        f"{GROUP}/revision": world.revision,
        f"{GROUP}/commit_status": "update",
        "event.toolkit.fluxcd.io/team": "web",
    }
    assert posted["metadata"] == told["metadata"]["annotations"]
    assert posted["message"] == told["message"]
    assert posted["reportingController"] == "kustomize-controller"
    assert posted["reportingInstance"] == socket.gethostname()
    assert posted["timestamp"]
    assert changed["message"] == f"ConfigMap/{world.namespace}/a created"
    assert stored["message"] == "stored artifact for commit 'Something new'"
    assert stored["reportingController"] == "source-controller"
    assert stored["metadata"]["source.toolkit.fluxcd.io/revision"] == world.revision


async def test_a_source_that_recovers_with_what_it_had_is_told_of(world: World, inbox: Inbox) -> None:
    """SE-001, SE-002, SE-005."""
    async with world.daemon(events_addr=inbox.address):
        await app_of(world, config_map("a"))
        await world.until_applied("app")
        stored = await inbox.until("NewArtifact")
        for branch in ("nowhere", "main"):
            await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"ref": {"branch": branch}}})
            await inbox.until("GitOperationFailed" if branch == "nowhere" else "Succeeded")
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"interval": "2h"}})
        await world.until_source(lambda obj: obj["status"].get("observedGeneration") == obj["metadata"]["generation"])
    told = [event for event in inbox.posted if event["involvedObject"]["kind"] == "GitRepository"]
    assert [(event["reason"], event["severity"]) for event in told] == [
        ("NewArtifact", "info"),
        ("GitOperationFailed", "error"),
        ("Succeeded", "info"),
    ]
    assert told[-1]["message"] == f"stored artifact for revision '{world.revision}'"
    assert told[-1]["metadata"] == stored["metadata"]


async def test_failures_are_errors_and_waits_are_not(world: World, inbox: Inbox) -> None:
    async with world.daemon(events_addr=inbox.address):
        await app_of(world, "apiVersion: v1\nkind: [\n")
        await world.target("next", "./app", targetNamespace=world.namespace, dependsOn=[{"name": "app"}])
        failure = await inbox.until("BuildFailed")
        wait = await inbox.until("DependencyNotReady")
        told = await world.until_told("app", "BuildFailed")
    assert failure["severity"] == "error"
    assert told["type"] == "Warning"
    assert wait["severity"] == "info"


async def test_a_receiver_that_refuses_or_is_gone_holds_nothing_up(world: World, inbox: Inbox) -> None:
    inbox.status = 429
    async with world.daemon(events_addr=inbox.address):
        await app_of(world, config_map("a"))
        await world.until_applied("app")
        await world.until_told("app", "ReconciliationSucceeded")
    async with world.daemon(events_addr="http://127.0.0.1:1/"):
        await world.push({"app/all.yaml": config_map("b")})
        await world.until_applied("app")
        await world.until_told("app", "Progressing", "deleted")


async def test_a_missing_source_makes_no_event(world: World, inbox: Inbox) -> None:
    async with world.daemon(events_addr=inbox.address) as running:
        await world.target("app", "./app", sourceRef={"kind": "GitRepository", "name": "nowhere"})
        await world.until_target("app", failed("ArtifactFailed", "nowhere"))
        await running.idle()
        # Another event comes after all that might have been told of the first.
        await world.source()
        await world.until_told("fleet", "EmptyGitRepository", kind="GitRepository")
    assert await world.events_of("app") == []
    assert [event for event in inbox.posted if event["involvedObject"]["name"] == "app"] == []
