"""What waits for its minute: of each object the last status, handed on when its time is over; in virtual time."""

from typing import Any

import anyio
import pytest

from tests.runtime.virtual_time import VIRTUAL_TIME
from tidelog.engine.runtime.watching.statuses import StatusesThatWait, StatusTold
from tidelog.events.envelope import ENGINE
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary import ObjectObserved

WEB, DB = (ObjectKey("apps", "Deployment", "shop", name).stream("east") for name in ("web", "db"))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


def told(version: int) -> StatusTold:
    return StatusTold(ObjectObserved(uid="u", resource_version=str(version)), None, ENGINE)


class Waiting:
    def __init__(self) -> None:
        self.statuses = StatusesThatWait()
        self.over: list[tuple[float, StreamName, str]] = []

    async def __call__(self, stream: StreamName, status: StatusTold) -> None:
        self.over.append((anyio.current_time(), stream, status.event.resource_version))


async def test_each_is_handed_on_when_its_time_is_over_and_of_several_the_last() -> None:
    waiting = Waiting()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.statuses.run, waiting)
        begun = anyio.current_time()
        waiting.statuses.add(WEB, told(1), 60.0)
        await anyio.sleep(10)
        waiting.statuses.add(DB, told(2), 30.0)  # sooner than what the timer waits for
        for version in range(3, 100):
            assert waiting.statuses.replace(WEB, told(version))
        assert not waiting.statuses.replace(ObjectKey("", "Pod", "a", "b").stream("east"), told(1))
        await anyio.sleep(100)
        assert [(at - begun, stream, version) for at, stream, version in waiting.over] == [
            (40.0, DB, "2"),
            (60.0, WEB, "99"),
        ]
        assert len(waiting.statuses) == 0
        assert not waiting.statuses.replace(WEB, told(100)), "nothing is kept of what was handed on"
        tasks.cancel_scope.cancel()


async def test_it_grows_with_the_objects_and_not_with_what_is_told() -> None:
    waiting = Waiting()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.statuses.run, waiting)
        begun = anyio.current_time()
        for version in range(1_000):
            waiting.statuses.add(WEB, told(version), 60.0)
        assert len(waiting.statuses._due) == 1
        await anyio.sleep(200)
        assert [(at - begun, stream, version) for at, stream, version in waiting.over] == [(60.0, WEB, "999")]
        tasks.cancel_scope.cancel()
