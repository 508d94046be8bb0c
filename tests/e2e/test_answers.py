"""What a daemon leaves in the log answers who, why, and by which commit."""

import json
from typing import Any

import pytest

from tests.e2e.command import tidelog
from tests.e2e.test_fleet import installed
from tests.e2e.test_flow import deployment
from tests.e2e.world import World, config_map
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import ApplyFinished, StageFailed


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
