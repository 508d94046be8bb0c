"""A store that was lost in part, or is older than the cluster: nothing is put back, and it catches up by itself."""

import shutil
from pathlib import Path

import anyio.to_thread
import pytest

from tests.e2e.world import World, config_map, failed
from tidelog.events.vocabulary import RevisionFetched
from tidelog.storage.layout import Layout


async def app_of(world: World, n: str) -> None:
    world.commit({"app/cm.yaml": config_map("settings", n=n), "other/cm.yaml": config_map("other")})
    await world.source()
    for name in ("app", "other"):
        await world.target(name, f"./{name}", targetNamespace=world.namespace, interval="1h", retryInterval="1h")
    await world.until_applied("app", "other")


def cut(artifacts: Path, how: str) -> None:
    """Damages an artifact store."""
    packs = list((artifacts / "objects" / "pack").glob("*.pack"))
    assert packs
    if how == "gone":
        shutil.rmtree(artifacts)
    for pack in packs if how != "gone" else ():
        content = pack.read_bytes()
        pack.unlink()  # another file: this process may have mapped it
        pack.write_bytes(content[: len(content) // 2] if how == "cut" else b"")


@pytest.mark.parametrize("how", ["gone", "cut", "empty"])
async def test_artifacts_that_are_lost_are_fetched_again(world: World, how: str) -> None:
    async with world.daemon() as running:
        await app_of(world, "1")
        await running.idle()
    await anyio.to_thread.run_sync(cut, Layout(world.store).artifacts, how)
    async with world.daemon() as running:
        await running.idle()
        await world.push({"app/cm.yaml": config_map("settings", n="2")})
        await world.until_applied("app", "other")
        await world.until_data("settings", {"n": "2"})
        assert running.events(RevisionFetched)


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_log_that_is_older_than_the_cluster_puts_nothing_back(world: World, reachable: bool) -> None:
    """As after a backup was restored, or Flux was at work meanwhile."""
    backup = world.directory / "backup"
    async with world.daemon() as running:
        await app_of(world, "1")
        await running.idle()
    await anyio.to_thread.run_sync(shutil.copytree, world.store, backup)
    async with world.daemon() as running:
        await world.push({"app/cm.yaml": config_map("settings", n="2")})
        await world.until_applied("app", "other")
        await running.idle()
    versions = (await world.get("v1", "ConfigMap", "settings") or {})["metadata"]["resourceVersion"]
    if not reachable:
        world.git.behaviour.status = 503
    async with world.daemon(store=backup) as running:
        if not reachable:
            await world.until_target("app", failed("ArtifactFailed", "this log does not know", "was asked"))
            assert await world.data("settings") == {"n": "2"}
            world.git.behaviour.status = None
            await world.ask()
        await world.until_applied("app", "other")
        await running.idle()
    live = await world.get("v1", "ConfigMap", "settings")
    assert live is not None
    assert live["data"] == {"n": "2"}
    assert live["metadata"]["resourceVersion"] == versions, "it was never written"
