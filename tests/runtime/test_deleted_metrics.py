"""What is measured of a source or target goes with it (Flux contract CM-058)."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.events.logs import target
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.sources.clouds.logins import CloudLogins
from tidelog.events.bodies import Body
from tidelog.events.vocabulary import TargetDeclared, TargetRemoved
from tidelog.storage import open_log

SHOP, OTHER = target("east", "shop"), target("east", "other")
MEASURED = ("gotk_reconcile_duration_seconds_count", "gotk_reconcile_duration_seconds_bucket", "tidelog_ready")


class World:
    """Metrics of an engine that has done nothing yet."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.metrics = Metrics()
        scheduler = SimpleNamespace(queued=0, queued_of=lambda _: 0, running=0, concurrency=1)
        fetchers = SimpleNamespace(clouds=CloudLogins())
        self.engine = SimpleNamespace(
            memory=memory,
            cluster_alias="east",
            sources=scheduler,
            targets=scheduler,
            on_pass=None,
            fetchers=fetchers,
        )
        self.metrics.bind(cast("Any", self.engine))

    def passed(self, stream: str) -> None:
        cast("Any", self.engine.on_pass)(stream, 0.5, "success")

    def series(self, name: str) -> list[str]:
        """The metrics that have series of an object."""
        lines = self.metrics.text().decode().splitlines()
        return [metric for metric in MEASURED if any(f'name="{name}"' in line and metric in line for line in lines)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        made = World(memory)
        spec = Body.of(b"{}")
        for stream in (SHOP, OTHER):
            event = TargetDeclared(uid="u", generation=1, spec=spec.ref)
            await memory.append(stream, [event], Origin(), bodies=[spec])
            made.passed(stream)
        yield made


async def test_the_series_of_a_deleted_object_go_and_others_stay(world: World) -> None:
    assert world.series("shop") == list(MEASURED)
    await world.memory.append(SHOP, [TargetRemoved(uid="u")], Origin())
    world.passed(SHOP)  # the pass that let go of it ends after that
    assert world.series("shop") == []
    assert world.series("other") == list(MEASURED)
