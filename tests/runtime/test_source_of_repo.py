"""A pass over the source that `--repo` made: which repository it asks, and what it says where it may not."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tidelog.engine.runtime.activity import Activity
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import Memory
from tidelog.engine.runtime.passes.source import reconcile_source
from tidelog.engine.runtime.passes.sources.git import LOCAL_REPOSITORY, local_url
from tidelog.engine.runtime.repeats import Repeats
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.waits import Waits
from tidelog.engine.runtime.watching.declared import read_declared
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.spec import GitHead, GitSpec
from tidelog.events.vocabulary import StageFailed
from tidelog.storage import Query, open_log

LIVE: dict[str, Any] = {
    "apiVersion": "source.toolkit.fluxcd.io/v1",
    "kind": "GitRepository",
    "metadata": {
        "name": "flux-system",
        "namespace": "flux-system",
        "uid": "u",
        "generation": 1,
        "resourceVersion": "1",
        "finalizers": ["finalizers.fluxcd.io"],
    },
    "spec": {"interval": "1s", "url": "https://example.com/fleet.git", "ref": {"branch": "main"}},
}
DIRECTORY = "/srv/my shop"


class Remote:
    """A Git server that fails, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, spec: GitSpec, _: object) -> GitHead:
        self.asked.append(spec.url)
        raise FetchError("GitOperationFailed", f"{spec.url} cannot be reached")


class World:
    """One source, and what a pass over it works with."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.remote = Remote()
        self.local: Path | None = None

    async def reconcile(self, live: dict[str, Any]) -> float | None:
        declared = read_declared(live, "east")
        nothing = SimpleNamespace(failed=lambda *_: None, answered=lambda *_: None, mark=lambda _: None)
        settings = Settings()
        engine = SimpleNamespace(
            settings=settings,
            memory=self.memory,
            declared=SimpleNamespace(source=lambda _: declared),
            local=self.local,
            fetchers=SimpleNamespace(git=self.remote),
            activity=Activity(),
            status=nothing,
            inputs=SimpleNamespace(begin=lambda _: None, end=lambda _: None),
            notices=nothing,
            repeats=Repeats(Waits(lambda _: 0)),
        )
        engine.backoff = partial(Engine.backoff, cast("Engine", engine))
        engine.retry_in = partial(Engine.retry_in, cast("Engine", engine))
        return await reconcile_source(cast("Engine", engine), declared.stream, Trigger(why="test"))

    async def last(self) -> StageFailed:
        events = [one.event async for one in self.memory.log.read(Query())]
        assert isinstance(events[-1], StageFailed)
        return events[-1]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        yield World(memory)


def of_directory(named: str, url: str = local_url(DIRECTORY)) -> dict[str, Any]:
    metadata = LIVE["metadata"] | {"annotations": {LOCAL_REPOSITORY: named}}
    return LIVE | {"metadata": metadata, "spec": LIVE["spec"] | {"url": url}}


async def test_a_directory_that_this_daemon_was_not_told_of_stalls_its_source_and_says_what_to_do(world: World) -> None:
    assert await world.reconcile(of_directory(DIRECTORY)) is None, "it is not asked again"
    failed = await world.last()
    assert failed.stalled
    assert failed.message.endswith("start the daemon with --repo '/srv/my shop'")
    assert world.remote.asked == []


async def test_a_directory_is_read_when_the_daemon_was_told_of_it(world: World, tmp_path: Path) -> None:
    world.local = tmp_path
    await world.reconcile(of_directory(str(tmp_path)))
    assert world.remote.asked == [tmp_path.as_uri()]


async def test_an_annotation_that_was_left_behind_is_in_no_addresses_way(world: World) -> None:
    await world.reconcile(of_directory(DIRECTORY, url="https://example.com/fleet.git"))
    assert world.remote.asked == ["https://example.com/fleet.git"]
