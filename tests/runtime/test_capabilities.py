"""What a cluster can do is asked for once for many releases, and again when it may have changed."""

from typing import Any

import anyio
import pytest

from tests.runtime.virtual_time import VIRTUAL_TIME
from tidelog.engine.cluster.errors import UnreachableError
from tidelog.engine.runtime.capabilities import FRESH_S, VERSION_S, Capabilities, ClusterCapabilities


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


class Server:
    def __init__(self) -> None:
        self.served: tuple[str, ...] = ("v1", "v1/ConfigMap")
        self.said = "v1.35.4"
        self.asked: list[str] = []
        self.is_down = False

    async def api_versions(self) -> tuple[str, ...]:
        served = self.served
        await anyio.sleep(1)
        self.asked.append("versions")
        if self.is_down:
            raise UnreachableError("it does not answer")
        return served

    async def version(self) -> str:
        self.asked.append("version")
        return self.said


async def test_many_ask_once_and_again_in_a_while() -> None:
    server = Server()
    capabilities = ClusterCapabilities(server)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(capabilities.now)
    assert server.asked == ["versions", "version"]
    assert await capabilities.now() == Capabilities("v1.35.4", ("v1", "v1/ConfigMap"))
    await anyio.sleep(FRESH_S)
    server.served, server.said = ("v1",), "v1.36.0"
    assert await capabilities.now() == Capabilities("v1.35.4", ("v1",))
    assert server.asked == ["versions", "version", "versions"]
    await anyio.sleep(VERSION_S)
    assert (await capabilities.now()).kube_version == "v1.36.0"


async def test_kinds_that_change_are_asked_for_at_once() -> None:
    server = Server()
    capabilities = ClusterCapabilities(server)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(capabilities.now)
        await anyio.sleep(0.5)
        server.served = ("v1", "v2")
        capabilities.forget()  # while it is asked: what it answers may be of before
    assert (await capabilities.now()).api_versions == ("v1", "v2")


async def test_server_that_did_not_answer_is_asked_again() -> None:
    server = Server()
    server.is_down = True
    capabilities = ClusterCapabilities(server)
    with pytest.raises(UnreachableError):
        await capabilities.now()
    server.is_down = False
    assert (await capabilities.now()).kube_version == "v1.35.4"
