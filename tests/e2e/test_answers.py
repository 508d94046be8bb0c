"""What a daemon leaves in the log answers who, why, and by which commit."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.e2e.command import tidelog
from tests.e2e.test_fleet import installed
from tests.e2e.test_flow import deployment
from tests.e2e.world import LIMIT_S, World, config_map, manifest
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import ApplyFinished, HealthChanged, StageFailed


async def _history(world: World) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads((await tidelog(world, "history", "ks/app", "-o", "json")).out)
    return runs


async def test_runs_say_what_led_to_them_and_what_is_gone_says_by_which_commit(world: World) -> None:
    async with world.daemon() as running:
        world.commit(
            {"app/web.yaml": config_map("web", color="red"), "app/old.yaml": config_map("old")}, message="Begin"
        )
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await running.idle()
        await world.patch("v1", "ConfigMap", "web", {"data": {"color": "pink"}}, manager="kubectl-edit")
        await world.until_data("web", {"color": "red"})
        await running.idle()
        await world.push({"app/old.yaml": None}, message="Tidy up")
        await world.until_gone("v1", "ConfigMap", "old")
        await running.idle()
        seen = len(running.recorded)
        await world.push({"app/web.yaml": "kind: ["}, message="Break it")
        await running.until_event(StageFailed, after=seen)
        await running.idle()
    runs = await _history(world)
    failed = runs[0]
    assert (failed["outcome"], failed["revision"], failed["commit"]["subject"]) == (
        "failed",
        world.revision,
        "Break it",
    )
    (tidied,) = (run for run in runs if run["pruned"])
    assert tidied["why"] == f"revision {tidied['revision']}: “Tidy up” by Ada"
    mended = next(run for run in runs if run["configured"])
    assert mended["why"] == f"ConfigMap/{world.namespace}/web was changed: data.color by kubectl-edit"
    assert mended["commit"]["subject"] == "Begin"
    broken = await tidelog(world, "explain", "ks/app")
    assert broken.code == 1
    assert "“Break it” by Ada" in broken.out
    gone = await tidelog(world, "explain", "cm/old")
    assert f"ConfigMap/{world.namespace}/old was pruned; no target renders it" in gone.out
    assert "“Tidy up” by Ada" in gone.out
    traced = await tidelog(world, "trace", "cm/old", "-o", "json")
    assert traced.code == 0
    way = json.loads(traced.out)
    assert (way["commit"]["subject"], way["removal"]["commit"]["subject"]) == ("Begin", "Tidy up")


@pytest.mark.slow
async def test_any_object_leads_to_the_commit_that_put_it_there_and_back_by_each_stage(world: World) -> None:
    async with world.daemon() as running:
        await installed(world)
        await running.idle()
        first = world.head
        # A later commit that leaves most of them alone is not what put them there.
        await world.push({"README.md": "# another\n"}, message="Describe it")
        await running.idle()
        inventories = dict(running.daemon.engine.memory.inventory.items())
    owned = {id: stream for stream, row in inventories.items() for id in row.objects}
    assert {ObjectKey.parse(id).kind for id in owned} == {
        "Kustomization",
        "Namespace",
        "ConfigMap",
        "Deployment",
        "Service",
    }
    assert len(running.events(ApplyFinished)) == len(inventories)
    for id, stream in owned.items():
        key = ObjectKey.parse(id)
        where = ("-n", key.namespace) if key.namespace else ()
        done = await tidelog(world, "trace", f"{key.kind.lower()}/{key.name}", *where, "-o", "json")
        assert done.code == 0, done
        way = json.loads(done.out)
        assert way["target"] == stream
        assert way["commit"]["revision"] == f"main@sha1:{first}", id
        assert (way["commit"]["subject"], way["commit"]["author"]) == ("The whole fleet", "Ada <ada@example.org>")
        assert way["render"]["position"] < way["plan"]["position"] < way["verdicts"][0]["position"]
        assert way["verdicts"][-1]["position"] < way["apply"]["position"]
        assert way["apply"]["action"] == "created"
        assert way["apply"]["plan"] == way["plan"]["plan"]
        assert all(verdict["failed"] == [] for verdict in way["verdicts"])
        assert any("dry-run" in verdict["checks"] for verdict in way["verdicts"])


async def test_of_what_is_in_progress_it_is_said_what_is_still_missing(world: World) -> None:
    """No Pod ever runs here; what is missing changes as the Deployment gets on, though its health does not."""
    async with world.daemon() as running:
        world.commit({"app/web.yaml": deployment("web:1")})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await running.until(lambda one: getattr(one.event, "reason", "") == "LessAvailable", "that none is available")
        await running.idle()
        told = await tidelog(world, "explain", "deployment/web")
    assert told.code == 1
    assert "LessAvailable: available replicas: 0/1" in told.out


async def test_a_workload_that_is_not_available_is_explained_down_to_its_pods(world: World, cluster_kind: str) -> None:
    def workload(kind: str, name: str, fails: str) -> str:
        labels = {"app": name}
        pod: KubeObject = {"metadata": {"labels": labels, "annotations": {"tidelog.dev/stand-in": fails}}}
        pod["spec"] = {"containers": [{"name": "main", "image": "registry.example.org/web:9"}]}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod, "serviceName": name}
        if kind == "Deployment":
            del spec["serviceName"]
        return manifest("apps/v1", kind, name, spec=spec)

    async def explained(*words: str) -> str:
        done = await tidelog(world, "explain", *words)
        assert done.code == 1, done
        return done.out

    def because(reason: str, kind: str) -> Callable[[HealthChanged], bool]:
        return lambda event: (
            event.because is not None and (event.because.reason, kind in event.because.object) == (reason, True)
        )

    async with world.daemon() as running:
        running.daemon.engine.observer._causes._first_look = 0.1
        world.commit({"app/web.yaml": workload("Deployment", "web", "ImagePullBackOff")})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, wait=True, timeout="1h")
        await _pull_fails(world)
        await running.until_event(HealthChanged, where=because("ImagePullBackOff", "Pod"))
        for asked in ("ks/app", "deployment/web"):
            told = await explained(asked)
            assert "⇒ Pod/" in told
            assert "ImagePullBackOff: container main: Back-off pulling image" in told
        if cluster_kind == "real":  # the other server keeps no quotas: the annotation has it refuse the Pods
            await _no_more_pods(world)
        await world.push({"app/web.yaml": workload("Deployment", "more", "QuotaExceeded")})
        await running.until_event(HealthChanged, where=because("FailedCreate", "ReplicaSet"))
        last = "deployment/more"
        if cluster_kind == "real":  # it says so in an Event, of which the other makes none
            last = "statefulset/db"
            await world.push({"app/web.yaml": workload("StatefulSet", "db", "QuotaExceeded")})
            await running.until_event(HealthChanged, where=because("FailedCreate", "StatefulSet"))
    told = await explained(last)
    assert "⇒ no Pods can be made for" in told
    assert "exceeded quota" in told


async def _pull_fails(world: World) -> None:
    """As a kubelet says it: nobody runs Pods on these servers."""
    pods = await world.cluster.kind("v1", "Pod")
    found: list[KubeObject] = []
    with anyio.fail_after(LIMIT_S):
        while not found:
            found = (await world.cluster.list(pods, namespace=world.namespace, labels="app=web")).items
            await anyio.sleep(0.05)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    status = {"name": "main", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    where = (pods, world.namespace, found[0]["metadata"]["name"])
    patch = {"status": {"phase": "Pending", "containerStatuses": [status]}}
    await world.cluster.patch(*where, patch, type="merge", manager="kubelet", subresource="status")


async def _no_more_pods(world: World) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await world.apply(quota)
    await world.until("v1", "ResourceQuota", "none", lambda obj: bool(obj and (obj.get("status") or {}).get("hard")))
