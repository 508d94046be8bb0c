"""A store that was lost in part, or is older than the cluster: nothing is put back, and it catches up by itself."""

import re
import shutil
from os import getpid
from pathlib import Path
from socket import gethostname

import anyio
import anyio.to_thread
import pytest

from tests.e2e.world import LIMIT_S, World, config_map, failed
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


async def version_of(world: World, name: str) -> str:
    live = await world.get("v1", "ConfigMap", name)
    assert live is not None
    return str(live["metadata"]["resourceVersion"])


async def test_a_copy_of_a_store_that_is_in_use_waits_and_then_puts_nothing_back(world: World) -> None:
    """Whoever copied it, and started another daemon on the copy."""
    copy, works, is_told_to_end = world.directory / "copy", anyio.Event(), anyio.Event()

    async def first() -> None:
        async with world.daemon(enable_leader_election=True) as running:
            await app_of(world, "1")
            await running.idle()
            works.set()
            await is_told_to_end.wait()
            await running.idle()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await works.wait()
        await anyio.to_thread.run_sync(shutil.copytree, world.store, copy)
        async with world.daemon(store=copy, enable_leader_election=True, serving=False) as second:
            with anyio.fail_after(LIMIT_S):
                while not second.daemon.waits_for:  # noqa: ASYNC110 - it tells nobody
                    await anyio.sleep(0.05)
            assert re.match(
                rf"{re.escape(gethostname())}_{getpid()}_.* \(Lease .*-leader-election\)", second.daemon.waits_for
            )
            before = second.recorded
            await world.push(
                {"app/cm.yaml": config_map("settings", n="2"), "other/cm.yaml": None, "other/b.yaml": config_map("b")}
            )
            await world.until_applied("app", "other")
            await world.until_gone("v1", "ConfigMap", "other")
            assert before == []
            version = await version_of(world, "settings")
            is_told_to_end.set()
            with anyio.fail_after(LIMIT_S):
                await second.daemon.serving.wait()
            await second.idle()
            assert await version_of(world, "settings") == version, "it was never written"
            assert await world.data("other") is None
            await world.push({"app/cm.yaml": config_map("settings", n="3")})
            await world.until_applied("app", "other")
