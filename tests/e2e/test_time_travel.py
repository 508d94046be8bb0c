"""A past moment comes back as it was, whichever it is, and the next commit rolls forward."""

import base64
import random
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.world import KUSTOMIZE, Running, World, config_map, documents, is_ready, manifest
from tidelog.events.vocabulary import Pinned, Rendered, Unpinned

COMMITS = 10
NAMES = "abcd"
There: TypeAlias = tuple[dict[str, dict[str, str]], str]
"""The objects by name, with what they hold, and the value of a Secret."""


def commit_of(number: int, chance: random.Random) -> tuple[str, dict[str, dict[str, str]], str]:
    """A file with some objects, what they hold, and the value of a Secret."""
    wanted = {
        f"item-{name}": {"value": f"{number}-{chance.randrange(1000)}-{name}"}
        for name in NAMES
        if number == 0 or chance.random() < 0.7
    }
    token = f"token-{number}"
    maps = [config_map(name, **data) for name, data in wanted.items()]
    secret = manifest("v1", "Secret", "secret", stringData={"token": token})
    return documents(*maps, secret), wanted, token


async def there(world: World) -> There:
    """The objects that are there, and the value of the Secret."""
    maps = await world.cluster.list(await world.cluster.kind("v1", "ConfigMap"), namespace=world.namespace)
    found = {item["metadata"]["name"]: item["data"] for item in maps.items if item["metadata"]["name"][:4] == "item"}
    secret = await world.get("v1", "Secret", "secret")
    assert secret is not None
    return found, base64.b64decode(secret["data"]["token"]).decode()


async def commit(world: World, number: int, chance: random.Random) -> There:
    """Commits, and waits until what was committed is there, which it returns."""
    content, wanted, token = commit_of(number, chance)
    await world.push({"app/all.yaml": content}, message=f"commit {number}")
    await world.until_applied("app")
    assert await there(world) == (wanted, token)
    return wanted, token


async def commits_of(world: World, running: Running, chance: random.Random) -> AsyncIterator[tuple[int, There]]:
    """Makes a target, and commits one after another; each with its number and what is there then."""
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    for number in range(COMMITS):
        wanted = await commit(world, number, chance)
        await running.idle()
        yield number, wanted


async def test_each_of_ten_commits_comes_back_as_it_was(world: World, seed: int) -> None:
    chance = random.Random(seed)
    moments: list[tuple[int, There]] = []
    async with world.daemon() as running:
        async for _, wanted in commits_of(world, running, chance):
            moments.append((running.daemon.engine.memory.position, wanted))
        target = running.target("app")
        rendered = len(running.events(Rendered))
        last = world.revision
        for number in chance.sample(range(COMMITS), COMMITS):
            position, wanted_then = moments[number]
            await running.ask("pin", target, position=position, why=f"back to commit {number}")
            await running.idle()
            assert await there(world) == wanted_then, f"commit {number}"
            app = await world.get(KUSTOMIZE, "Kustomization", "app")
            assert app is not None
            assert is_ready(app)
        assert len(running.events(Rendered)) == rendered, "what was rendered once is not rendered again"
        assert len(running.events(Pinned)) == COMMITS
        # Pinned to the past, it is still looked after.
        await world.patch("v1", "Secret", "secret", {"data": {"token": "aGFjaw=="}}, manager="mallory")
        await world.until(
            "v1",
            "Secret",
            "secret",
            lambda obj: obj is not None and base64.b64decode(obj["data"]["token"]).decode() == wanted_then[1],
        )
        # Asked again, the revision that was left is still left; a new one is taken.
        await world.ask()
        await running.idle()
        assert world.revision == last
        assert not running.events(Unpinned)
        await commit(world, COMMITS, chance)
        assert len(running.events(Unpinned)) == 1


@pytest.mark.slow
async def test_each_of_ten_commits_comes_back_by_the_command_named_in_each_way(world: World, seed: int) -> None:
    chance = random.Random(seed)
    commits: list[tuple[str, There]] = []
    async with daemon_with_door(world) as running:
        async for number, wanted in commits_of(world, running, chance):
            moment = (world.revision, world.head[:8], str(running.daemon.engine.memory.position))[number % 3]
            commits.append((moment, wanted))
        for number in chance.sample(range(COMMITS), COMMITS):
            moment, wanted_then = commits[number]
            done = await tidelog(world, "reapply", "ks/app", "--at", moment, "--why", f"commit {number}", "--yes")
            assert done.code == 0, done
            assert await there(world) == wanted_then, f"commit {number}"
        await commit(world, COMMITS, chance)


async def test_unpinning_goes_back_to_the_newest_revision(world: World) -> None:
    async with world.daemon() as running:
        world.commit({"app/a.yaml": config_map("item-a", value="old")})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await running.idle()
        position = running.daemon.engine.memory.position
        await world.push({"app/a.yaml": config_map("item-a", value="new")})
        await world.until_applied("app")
        await running.ask("pin", running.target("app"), position=position)
        await world.until_data("item-a", {"value": "old"})
        await running.idle()
    # A pin outlives the daemon.
    async with world.daemon() as running:
        await running.idle()
        assert await world.data("item-a") == {"value": "old"}
        await running.ask("unpin", running.target("app"))
        await world.until_data("item-a", {"value": "new"})
