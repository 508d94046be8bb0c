"""When things run, and what they wait for."""

import asyncio
from typing import Any

import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.e2e.world import (
    KUSTOMIZE,
    LIMIT_S,
    SOURCE,
    World,
    condition,
    config_map,
    documents,
    failed,
    is_ready,
    manifest,
    written,
)
from tidelog.engine.http.hooks import hook_path, hook_routes
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import (
    EngineStopped,
    HealthChanged,
    ObjectApplied,
    PlanHeld,
    Planned,
    ReconcileRequested,
    Rendered,
    Resumed,
    RevisionFetched,
    RunEnded,
    StageFailed,
    Suspended,
    TargetDeclared,
)
from tidelog.storage import Query, Recorded, read_log
from tidelog.storage.errors import StoreError


def deployment(image: str, replicas: int = 1) -> str:
    """Without a node no Pod ever runs: with replicas it is in progress, without it is as it should be."""
    return manifest(
        "apps/v1",
        "Deployment",
        "web",
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    )


async def app_of(world: World, content: str, **spec: Any) -> None:
    world.commit({"app/all.yaml": content})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace, **spec)


async def test_suspended_is_left_alone_and_resumed_catches_up(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a", n="1"))
        await world.until_applied("app")
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_source(lambda obj: obj["status"]["artifact"]["revision"] == world.revision)
        token = await world.ask("Kustomization", "app")
        app = await world.until_target("app", lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        await running.idle()
        assert is_ready(app), "it was ready, and its generation counts as observed (CM-022)"
        assert await world.data("a") == {"n": "1"}
        await world.patch("v1", "ConfigMap", "a", {"data": {"n": "by hand"}}, manager="mallory")
        await running.idle()
        assert await world.data("a") == {"n": "by hand"}
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": None}})
        await world.until_applied("app")
        assert await world.data("a") == {"n": "2"}


@pytest.mark.parametrize("suspend", [True, False], ids=["suspended", "resumed"])
async def test_what_somebody_writes_of_suspend_is_not_undone_by_a_pass_that_comes_before_it_is_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch, *, suspend: bool
) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a"), suspend=not suspend)
        await world.until("v1", "ConfigMap", "a", lambda obj: (obj is not None) is suspend)
        await running.idle()
        engine, stream = running.daemon.engine, running.target("app")
        record, slow = engine.declared._record, 0

        async def slowly(declared: Any) -> Any:
            nonlocal slow
            if declared.stream == stream and declared.suspended is suspend:
                slow += 1
                engine.targets.wake(stream, Trigger(why="a revision came just now"))
                await anyio.sleep(0.5)
            return await record(declared)

        monkeypatch.setattr(engine.declared, "_record", slowly)
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": suspend or None}})
        await running.until_event(Suspended if suspend else Resumed, stream=stream)
        await running.idle()
        assert slow
        found = await world.get(KUSTOMIZE, "Kustomization", "app")
        assert found is not None
        assert found["spec"].get("suspend", False) is suspend
        assert len(running.events(Suspended, Resumed, stream=stream)) == (1 if suspend else 2)


async def test_suspend_and_resume_through_a_door_reach_the_spec(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a", n="1"))
        await world.until_applied("app")
        await running.ask("suspend", running.target("app"), why="a freeze")
        await world.until_target("app", lambda obj: obj["spec"].get("suspend") is True)
        await running.idle()
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_source(lambda obj: obj["status"]["artifact"]["revision"] == world.revision)
        await running.ask("resume", running.target("app"))
        await world.until_applied("app")
    assert await world.data("a") == {"n": "2"}


async def test_a_suspended_source_is_not_asked(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a", n="1"))
        await world.until_applied("app")
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"suspend": True}})
        world.change({"app/all.yaml": config_map("a", n="2")})
        token = await world.ask()
        await world.until_source(lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        await running.idle()
        assert await world.data("a") == {"n": "1"}
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"suspend": None}})
        await world.until_applied("app")


async def test_who_depends_runs_as_soon_as_what_it_depends_on_is_ready(world: World) -> None:
    world.commit({"a/cm.yaml": config_map("a"), "b/cm.yaml": config_map("b"), "c/cm.yaml": config_map("c")})
    async with world.daemon() as running:
        await world.source()
        await world.target("c", "./c", targetNamespace=world.namespace, dependsOn=[{"name": "b"}])
        await world.target("b", "./b", targetNamespace=world.namespace, dependsOn=[{"name": "a"}])
        await world.until_target("c", failed("DependencyNotReady", f"{world.namespace}/b"))
        await world.until_told("b", "DependencyNotReady", f"{world.namespace}/a")
        await world.target("a", "./a", targetNamespace=world.namespace)
        await world.until_applied("a", "b", "c")
        ended = [one.envelope.stream for one in running.recorded if isinstance(one.event, RunEnded)]
    targets = [stream for stream in ended if "Kustomization" in stream]
    assert targets == [running.target(name) for name in "abc"]


async def test_who_waits_takes_no_place(world: World) -> None:
    """One pass at a time, and three that wait: for health, for another, and for somebody to approve."""
    items = documents(*(config_map(f"item-{number}") for number in range(8)))
    world.commit({"slow/web.yaml": deployment("web:1"), "many/all.yaml": items, "app/cm.yaml": config_map("a")})
    async with world.daemon(concurrent=1, concurrent_sources=1) as running:
        await world.source()
        await world.target("many", "./many", targetNamespace=world.namespace)
        await world.until_applied("many")
        await world.push({"many/all.yaml": config_map("item-0")})
        await world.until_target("many", failed("PlanHeld"))
        await world.target("slow", "./slow", targetNamespace=world.namespace, wait=True, timeout="1h")
        await world.until_target("slow", lambda obj: condition(obj, "Healthy").get("status") == "Unknown")
        await world.target("b", "./app", targetNamespace=world.namespace, dependsOn=[{"name": "nobody"}])
        await world.until_target("b", failed("DependencyNotReady"))
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await running.idle()
        waiting = [await world.get(KUSTOMIZE, "Kustomization", name) for name in ("many", "slow", "b")]
    assert [obj is not None and is_ready(obj) for obj in waiting] == [False, False, False]


async def test_an_expression_decides_when_a_dependency_is_ready(world: World) -> None:
    world.commit({"a/cm.yaml": config_map("a"), "b/cm.yaml": config_map("b")})
    tested = "dep.status.conditions.exists(c, c.type == 'Tested' && c.status == 'True')"
    async with world.daemon() as running:
        await world.source()
        depends = [{"name": "a", "readyExpr": tested}]
        await world.target("b", "./b", targetNamespace=world.namespace, dependsOn=depends)
        await world.until_target("b", failed("DependencyNotReady", f"'{world.namespace}/a' not found"))
        await world.target("a", "./a", targetNamespace=world.namespace)
        (a,) = await world.until_applied("a")
        waits = await world.until_target("b", failed("DependencyNotReady", "readyExpr"))
        assert not condition(waits, "Stalled")
        await running.idle()
        assert await world.data("b") is None
        kind = await world.cluster.kind(KUSTOMIZE, "Kustomization")
        verdict = {**condition(a, "Ready"), "type": "Tested", "reason": "Passed", "message": "by another tool"}
        status = {"conditions": [*a["status"]["conditions"], verdict]}
        patch = {"status": status, "metadata": {"resourceVersion": a["metadata"]["resourceVersion"]}}
        await world.cluster.patch(
            kind, world.namespace, "a", patch, type="merge", manager="tester", subresource="status"
        )
        await world.until_applied("b")
        failures = running.events(StageFailed, stream=running.target("b"))
    messages = [event.message for event in failures]  # type: ignore[attr-defined]
    assert len(set(messages)) == len(messages), "who is woken and still waits for the same has nothing to tell"


async def test_an_expression_reads_the_status_that_we_write_ourselves(world: World) -> None:
    world.commit({"a/cm.yaml": config_map("a"), "b/cm.yaml": config_map("b")})
    async with world.daemon() as running:
        await world.source()
        depends = [{"name": "a", "readyExpr": "dep.status.lastAppliedRevision == dep.status.lastAttemptedRevision"}]
        await world.target("b", "./b", targetNamespace=world.namespace, dependsOn=depends)
        await world.target("a", "./a", targetNamespace=world.namespace)
        await world.until_applied("a", "b")
        ended = [one.envelope.stream for one in running.recorded if isinstance(one.event, RunEnded)]
    assert [stream for stream in ended if "Kustomization" in stream] == [running.target("a"), running.target("b")]


@pytest.mark.parametrize("additive", [False, True])
async def test_an_expression_replaces_readiness_or_comes_on_top_by_the_feature_gate(
    world: World, additive: bool
) -> None:
    world.commit({"b/cm.yaml": config_map("b")})
    expression = "dep.metadata.labels.phase == self.metadata.labels.phase"
    async with world.daemon(additive_cel_dependency_check=additive):
        await world.source()
        await world.target("a", "./a", metadata={"labels": {"phase": "one"}}, targetNamespace=world.namespace)
        await world.until_target("a", lambda obj: condition(obj, "Ready").get("status") == "False")
        depends = [{"name": "a", "readyExpr": expression}]
        await world.target("b", "./b", targetNamespace=world.namespace, dependsOn=depends)
        await world.until_target("b", failed("DependencyNotReady", "readyExpr has no result", '"labels"'))
        await world.patch(KUSTOMIZE, "Kustomization", "b", {"metadata": {"labels": {"phase": "two"}}})
        await world.until_target("b", failed("DependencyNotReady", "according to readyExpr"))
        await world.patch(KUSTOMIZE, "Kustomization", "a", {"metadata": {"labels": {"phase": "two"}}})
        if additive:
            await world.until_target(
                "b", lambda obj: condition(obj, "Ready")["message"] == f"dependency '{world.namespace}/a' is not ready"
            )
            await world.push({"a/cm.yaml": config_map("a")})
        await world.until_applied("b")
        a = await world.get(KUSTOMIZE, "Kustomization", "a")
        assert a is not None
        assert is_ready(a) is additive


async def test_an_expression_that_does_not_compile_stalls_until_it_is_corrected(world: World) -> None:
    world.commit({"b/cm.yaml": config_map("b")})
    async with world.daemon():
        await world.source()
        depends = [{"name": "a"}, {"name": "c", "readyExpr": "dep.status."}]
        await world.target("b", "./b", targetNamespace=world.namespace, dependsOn=depends)
        b = await world.until_target("b", failed("InvalidCELExpression", "spec.dependsOn[1].readyExpr: 1:12: Syntax"))
        assert condition(b, "Stalled")["reason"] == "InvalidCELExpression"
        assert b["status"]["observedGeneration"] == b["metadata"]["generation"]
        await world.until_told("b", "InvalidCELExpression", "readyExpr")
        await world.patch(KUSTOMIZE, "Kustomization", "b", {"spec": {"dependsOn": [{"name": "c", "readyExpr": "1"}]}})
        await world.until_target("b", failed("InvalidCELExpression", "true or false", "type int"))
        await world.patch(
            KUSTOMIZE, "Kustomization", "b", {"spec": {"dependsOn": [{"name": "c", "readyExpr": "true"}]}}
        )
        await world.until_target("b", failed("DependencyNotReady", f"'{world.namespace}/c' not found"))
        await world.target("c", "./nowhere", targetNamespace=world.namespace)
        (b,) = await world.until_applied("b")
        assert not condition(b, "Stalled")


async def test_a_cycle_waits_until_somebody_breaks_it(world: World) -> None:
    world.commit({"a/cm.yaml": config_map("a"), "b/cm.yaml": config_map("b")})
    async with world.daemon():
        await world.source()
        await world.target("a", "./a", targetNamespace=world.namespace, dependsOn=[{"name": "b"}])
        await world.target("b", "./b", targetNamespace=world.namespace, dependsOn=[{"name": "a"}])
        await world.until_target("a", failed("DependencyNotReady"))
        await world.until_target("b", failed("DependencyNotReady"))
        await world.patch(KUSTOMIZE, "Kustomization", "a", {"spec": {"dependsOn": None}})
        await world.until_applied("a", "b")


async def test_a_newer_revision_ends_a_wait_at_once(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, deployment("web:1"), wait=True, timeout="1h")
        await running.until_event(HealthChanged, where=lambda event: event.health == "InProgress")
        waiting = await world.until_target(
            "app", lambda obj: "health checks" in condition(obj, "Reconciling").get("message", "")
        )
        assert condition(waiting, "Ready")["status"] == "Unknown"
        assert condition(waiting, "Healthy")["status"] == "Unknown"
        await world.push({"app/all.yaml": deployment("web:2", replicas=0)})
        (app,) = await world.until_applied("app")
        outcomes = [event.outcome for event in running.events(RunEnded, stream=running.target("app"))]  # type: ignore[attr-defined]
    assert outcomes == ["superseded", "succeeded"]
    assert condition(app, "Healthy")["status"] == "True"


@pytest.mark.slow
async def test_a_health_check_fails_after_its_time_and_recovers_by_itself(world: World) -> None:
    async with world.daemon():
        await app_of(world, deployment("web:1"), wait=True, timeout="1s")  # Flux takes no less than 30 s
        obj = await world.until_target(
            "app",
            failed("HealthCheckFailed", "timeout waiting for", f"Deployment/{world.namespace}/web", "InProgress"),
            limit_s=LIMIT_S + 30,
        )
        assert condition(obj, "Healthy")["status"] == "False"
        await world.until_told("app", "HealthCheckFailed", "Deployment")
        await world.push({"app/all.yaml": deployment("web:1", replicas=0)})
        await world.until_applied("app")


def job(command: str) -> str:
    """On a cluster without nodes no Job ever runs: this one's deadline is soon over, and then it has failed."""
    container = {"name": "job", "image": "job:1", "command": [command]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return manifest("batch/v1", "Job", "job", spec={"activeDeadlineSeconds": 1, "template": template})


async def test_what_has_failed_is_not_waited_for(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, job("fail"), wait=True, timeout="1h")
        await world.until_target(
            "app",
            failed("HealthCheckFailed", "failed early", f"Job/{world.namespace}/job", "Failed"),
        )
        await world.until_told("app", "HealthCheckFailed", "Job")
        waited = [
            event.health
            for event in running.events(HealthChanged, stream=running.target("app"))
            if isinstance(event, HealthChanged)
        ]
    assert waited == ["InProgress", "Failed"]


async def test_an_object_that_becomes_healthy_wakes_who_waits_for_it(world: World) -> None:
    job = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flag"}, "data": {}}
    async with world.daemon():
        await app_of(
            world,
            config_map("a"),
            timeout="1h",
            healthChecks=[{"apiVersion": "v1", "kind": "ConfigMap", "name": "flag", "namespace": world.namespace}],
        )
        await world.until_target("app", lambda obj: condition(obj, "Healthy").get("status") == "Unknown")
        assert await world.data("a") is not None
        await world.apply(job)
        await world.until_applied("app")


async def test_that_it_is_healthy_is_told_after_a_change_and_not_of_each_revision(world: World) -> None:
    async def told() -> int:
        events = await world.events_of("app")
        return sum(event["message"].startswith("Health check passed in ") for event in events)

    async with world.daemon() as running:
        await app_of(world, deployment("web:1", replicas=0), wait=True)
        await world.until_applied("app")
        await world.until_told("app", "Progressing", "Health check passed in ")
        await world.push({"app/all.yaml": "# the same\n" + deployment("web:1", replicas=0)})
        await world.until_applied("app")
        await running.idle()
        await world.push({"app/all.yaml": deployment("web:2", replicas=0)})
        await world.until_applied("app")
        # Events are written one after the other: when this one is there, those before it are.
        await world.until_told("app", "ReconciliationSucceeded", "Reconciliation finished")
        with anyio.fail_after(LIMIT_S):
            while await told() < 2:  # noqa: ASYNC110 - the API server's
                await anyio.sleep(0.05)
        await running.idle()
        successes = [one for one in await world.events_of("app") if one["reason"] == "ReconciliationSucceeded"]
        assert len(successes) == 3, "each revision is told"
        assert await told() == 2, "that it is healthy, where something had changed"


@pytest.mark.parametrize("broken", ["resources: [missing.yaml]\n", "resources: [all.yaml\n"])
async def test_a_commit_that_mends_a_build_is_waited_for_until_it_is_healthy(world: World, broken: str) -> None:
    async with world.daemon():
        await app_of(world, deployment("web:1", replicas=0), wait=True, timeout="1h", interval="1h")
        await world.until_applied("app")
        await world.push({"app/kustomization.yaml": broken})
        await world.until_target("app", failed("BuildFailed"))
        await world.push({"app/kustomization.yaml": None, "app/all.yaml": deployment("web:2", replicas=0)})
        (app,) = await world.until_applied("app")
        assert condition(app, "Healthy")["status"] == "True"


async def test_a_request_is_answered_whatever_comes_of_it(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a"), dependsOn=[{"name": "nobody"}])
        await world.until_target("app", failed("DependencyNotReady"))
        await running.idle()
        seen = len(running.recorded)
        token = await world.ask("Kustomization", "app")
        await world.until_target("app", lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        await running.idle()
        assert running.events(StageFailed, after=seen) == [], "nothing has happened"


async def test_a_webhook_has_a_commit_fetched_at_once(world: World) -> None:
    """Nobody else asks: the interval is an hour."""
    token = "a token of this test"
    source = ObjectKey(SOURCE.partition("/")[0], "GitRepository", world.namespace, "fleet")
    async with world.daemon() as running:
        await app_of(world, config_map("a", n="1"))
        await world.until_applied("app")
        world.change({"app/all.yaml": config_map("a", n="2")})
        server = web.Application()
        server.add_routes(hook_routes(running.daemon, token))
        async with TestClient(TestServer(server)) as client, client.post(hook_path(token, source)) as answer:
            assert answer.status == 200
        await world.until_data("a", {"n": "2"})
        (asked,) = [one for one in running.recorded if isinstance(one.event, ReconcileRequested)]
        (fetched,) = [one for one in running.recorded if isinstance(one.event, RevisionFetched)][1:]
    assert asked.envelope.actor.kind == "webhook"
    assert fetched.envelope.cause == asked.envelope.id, "the log says what led to it"


async def test_a_new_spec_runs_at_once(world: World) -> None:
    world.commit({"one/cm.yaml": config_map("one"), "two/cm.yaml": config_map("two")})
    async with world.daemon() as running:
        await world.source()
        await world.target("app", "./one", targetNamespace=world.namespace)
        await world.until_applied("app")
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"path": "./two"}})
        await world.until_applied("app")
        assert await world.data("two") is not None
        assert await world.data("one") is None
        declared = running.events(TargetDeclared)
    assert [event.generation for event in declared] == [1, 2]  # type: ignore[attr-defined]


async def test_a_commit_that_changes_nothing_rendered_plans_nothing(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a", n="1"))
        await world.until_applied("app")
        await running.idle()
        seen, before = len(running.recorded), len(await world.requests())
        await world.push({"app/all.yaml": "# a comment\n" + config_map("a", n="1")})
        (app,) = await world.until_applied("app")
        await running.idle()
        assert len(running.events(Rendered, after=seen)) == 1
        assert running.events(Planned, after=seen) == []
        wrote = written((await world.requests())[before:])
    assert all(resource.endswith("/status") for _, resource, _ in wrote)
    assert app["status"]["lastAppliedRevision"] == world.revision


# ------------------------------------------------------------------------------------------- taking over from Flux


async def as_flux_left_it(world: World, *names: str) -> None:
    """What Flux's controllers write, by a stand-in: objects with their labels, and a status with an inventory."""
    revision = "main@sha1:" + "0" * 40
    for name in names:
        labels = {
            "kustomize.toolkit.fluxcd.io/name": "app",
            "kustomize.toolkit.fluxcd.io/namespace": world.namespace,
        }
        obj = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
            "data": {"n": "1"},
        }
        await world.apply(obj, manager="kustomize-controller")
    status: KubeObject = {
        "observedGeneration": 1,
        "lastAppliedRevision": revision,
        "lastAttemptedRevision": revision,
        "inventory": {"entries": [{"id": f"{world.namespace}_{name}__ConfigMap", "v": "v1"} for name in names]},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "ReconciliationSucceeded",
                "message": f"Applied revision: {revision}",
                "observedGeneration": 1,
                "lastTransitionTime": "2024-01-01T00:00:00Z",
            }
        ],
    }
    kind = await world.cluster.kind(KUSTOMIZE, "Kustomization")
    await world.cluster.patch(
        kind,
        world.namespace,
        "app",
        {"status": status},
        type="merge",
        manager="kustomize-controller",
        subresource="status",
    )


async def test_what_flux_applied_is_taken_over_without_a_write(world: World) -> None:
    async with world.daemon() as running:
        pass
    await app_of(world, config_map("a", n="1"))
    await as_flux_left_it(world, "a")
    before = len(await world.requests())
    async with world.daemon() as running:
        (app,) = await world.until_applied("app")
        await running.idle()
        wrote = written((await world.requests())[before:])
    assert not [name for _, resource, name in wrote if resource == "configmaps"]
    assert [entry["id"] for entry in app["status"]["inventory"]["entries"]] == [f"{world.namespace}_a__ConfigMap"]


async def test_the_first_deletion_after_taking_over_is_held(world: World) -> None:
    await app_of(world, config_map("a", n="1"))
    await as_flux_left_it(world, "a", "b")
    async with world.daemon() as running:
        held = await world.until_target("app", failed("PlanHeld", "taken-over", "b"))
        assert await world.data("b") == {"n": "1"}
        plan = next(event.plan for event in running.events(PlanHeld))  # type: ignore[attr-defined]
        assert plan in condition(held, "Ready")["message"]
        assert len(held["status"]["inventory"]["entries"]) == 2
        await running.ask("approve", plan=plan, why="b is not wanted")
        await world.until_applied("app")
        assert await world.data("b") is None
        # From then on it is ours, and deletes as it is told.
        await world.push({"app/all.yaml": config_map("c")})
        await world.until_applied("app")
        assert await world.data("a") is None


# ------------------------------------------------------------------------------------------------------ two daemons


QUICK: dict[str, Any] = {
    "enable_leader_election": True,
    "leader_election_retry_period": Duration.of_seconds(0.2),
    "leader_election_renew_deadline": Duration.of_seconds(5),
}


async def test_of_two_daemons_one_works_and_the_other_takes_over(world: World) -> None:
    begun, stop = anyio.Event(), anyio.Event()

    async def first() -> None:
        async with world.daemon(**QUICK):
            begun.set()
            await stop.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await begun.wait()
        await app_of(world, config_map("a", n="1"))
        await world.until_applied("app")
        for controller in ("source-controller", "kustomize-controller"):
            lease = await world.get("coordination.k8s.io/v1", "Lease", f"{controller}-leader-election")
            assert lease is not None
            assert lease["spec"]["holderIdentity"]
        async with world.daemon(store=world.directory / "second", serving=False, **QUICK) as second:
            with anyio.fail_after(LIMIT_S):
                while not second.daemon.waits_for:  # noqa: ASYNC110 - a name that another fills in
                    await anyio.sleep(0.01)
            assert "controller-leader-election" in second.daemon.waits_for
            assert not second.daemon.serving.is_set()
            await world.push({"app/all.yaml": config_map("a", n="2")})
            await world.until_applied("app")
            assert not second.events(Rendered), "it only waits"
            stop.set()
            with anyio.fail_after(LIMIT_S):
                await second.daemon.serving.wait()
            await world.push({"app/all.yaml": config_map("a", n="3")})
            await world.until_applied("app")
            assert second.events(Rendered)
        assert await world.data("a") == {"n": "3"}


async def test_a_daemon_that_loses_its_lease_stops_writing(world: World) -> None:
    async def robbed() -> None:
        async with world.daemon(**QUICK):
            await app_of(world, config_map("a", n="1"))
            await world.until_applied("app")
            name = "kustomize-controller-leader-election"
            thief = {"spec": {"holderIdentity": "somebody-else"}}
            await world.patch("coordination.k8s.io/v1", "Lease", name, thief)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await robbed()
    assert caught.group_contains(LeaseLostError, match="somebody-else")


async def test_a_daemon_that_was_frozen_for_longer_than_its_lease_lasts_writes_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have taken over meanwhile. Here it is frozen between two writes: all that it can tell is the time."""
    jump = Settings().leader_election_lease_duration.seconds
    frozen: list[Recorded] = []

    def freeze(recorded: Recorded) -> None:
        if isinstance(recorded.event, ObjectApplied) and not frozen:
            frozen.append(recorded)
            loop = asyncio.get_running_loop()
            now = loop.time
            monkeypatch.setattr(loop, "time", lambda: now() + jump)

    async def thawed() -> None:
        async with world.daemon(enable_leader_election=True) as running:
            running.daemon.engine.memory.listen(freeze)
            await app_of(world, documents(*(config_map(name) for name in "abc")))
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await thawed()
    assert caught.group_contains(LeaseLostError, match="could not be renewed")
    assert [name for _, resource, name in written(await world.requests()) if resource == "configmaps"] == ["a"]
    async with read_log(world.store) as log:
        stopped = [one.event async for one in log.read(Query(types=("EngineStopped",)))]
    (why,) = [event.why for event in stopped if isinstance(event, EngineStopped)]
    assert "Lease" in why


async def test_a_store_takes_one_daemon(world: World) -> None:
    async with world.daemon():
        with pytest.raises(StoreError, match="writ"):
            async with world.daemon():
                pass
