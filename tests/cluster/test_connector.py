"""A connection that is given up ends at once: nothing of it outlives its session."""

import asyncio.selector_events
import gc
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.real import open_cluster


def open_to(port: int | None) -> int:
    """How many connections to a port this process has."""
    transports = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    found = [one for one in gc.get_objects() if type(one) is transports and one._sock is not None]
    return sum(one.get_extra_info("peername")[1] == port for one in found)


@pytest.mark.parametrize("watches", [1, 20])
async def test_watches_that_are_cancelled_leave_no_connection_behind(kubernetes: Servers, watches: int) -> None:
    port = urlsplit(kubernetes.url).port
    before = open_to(port)
    async with open_cluster(kubernetes.kubeconfig) as cluster:
        kind = await cluster.kind("v1", "ConfigMap")

        async def watch() -> None:
            version = (await cluster.list(kind, namespace="default")).resource_version
            async for _ in cluster.watch(kind, resource_version=version, namespace="default"):
                pass

        async with anyio.create_task_group() as tasks:
            for _ in range(watches):
                tasks.start_soon(watch)
            with anyio.fail_after(20):
                while open_to(port) < before + watches:  # noqa: ASYNC110 - a transport tells nobody that it is there
                    await anyio.sleep(0.05)
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert open_to(port) == before
