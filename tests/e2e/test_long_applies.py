"""An apply that takes its time: what its status says meanwhile, and what becomes of it when its daemon ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.world import KUSTOMIZE, World, condition, config_map, documents, failed, written
from tests.servers.faulty_api import Asked, Delay, Fault, FaultyApi, faulty_api
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.verify.guard import Guard
from tidelog.events.vocabulary import ObjectApplied, ObjectPruned

MANY = 40
EACH_S = 0.25


@pytest.fixture
async def api(world: World, tmp_path: Path) -> AsyncIterator[FaultyApi]:
    """A proxy that the daemon goes through, and that is slow to write ConfigMaps."""

    def slow(asked: Asked) -> Fault:
        is_one = "/configmaps/item-" in asked.path
        return Delay(EACH_S) if is_one and asked.writes else None

    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as proxy:
        proxy.fault = slow
        yield proxy


def many(value: str, count: int = MANY) -> str:
    return documents(*(config_map(f"item-{number:02}", value=value) for number in range(count)))


def is_applying(obj: KubeObject) -> bool:
    return "Detecting drift for revision" in condition(obj, "Reconciling").get("message", "")


async def statuses_written(world: World) -> int:
    return sum(resource == "kustomizations/status" for _, resource, _ in written(await world.requests()))


@pytest.mark.slow
async def test_an_apply_that_takes_long_is_told_when_it_takes_long_and_when_it_is_over(
    world: World, api: FaultyApi
) -> None:
    """Not with each object, whether the target was ready before or not; in between, the log has what was applied."""
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        world.commit({"README.md": "nothing yet"})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_target("app", failed("ArtifactFailed", "path not found"))
        for value in ("1", "2"):
            await running.idle()
            before = await statuses_written(world)
            await world.push({"app/all.yaml": many(value)})
            applying = await world.until_target("app", is_applying, "at work")
            assert condition(applying, "Ready")["status"] == "Unknown"
            (app,) = await world.until_applied("app")
            await running.idle()
            assert len(app["status"]["inventory"]["entries"]) == MANY
            # One more where the build took its time too, on a machine that is not free.
            assert await statuses_written(world) - before in (2, 3)


@pytest.mark.slow
async def test_what_was_applied_when_the_daemon_ended_in_the_midst_is_known_to_the_next(
    world: World, api: FaultyApi
) -> None:
    """Though no status says so: the inventory is in the log."""
    world.commit({"app/all.yaml": many("1"), "app/keep.yaml": config_map("a-keep")})
    await world.source()
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await world.target("app", "./app", targetNamespace=world.namespace)
        await running.until_event(ObjectApplied, where=lambda one: one.object.endswith("/item-10"))
    app = await world.get(KUSTOMIZE, "Kustomization", "app")
    assert app is not None
    told = (app["status"].get("inventory") or {}).get("entries") or ()
    assert not any("item-10" in entry["id"] for entry in told)
    world.change({"app/all.yaml": many("1", 5)})
    async with world.daemon(prune_guard=Guard(enabled=False)) as running:
        await world.until_applied("app")
        pruned = {one.object.rpartition("/")[2] for one in running.events(ObjectPruned)}  # type: ignore[attr-defined]
    assert {f"item-{number:02}" for number in range(5, 11)} <= pruned
    assert await world.data("item-10") is None
    assert await world.data("item-04") == {"value": "1"}
