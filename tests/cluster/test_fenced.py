"""A large change that is under way when the Lease is lost is not sent to its end: on a real API server, over TLS."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.errors import LeaseLostError

LIMIT_S = 60
KIB = 1 << 10
SMALL_BYTES = 16 * KIB
"""Of what is sent before the relay stands still: less than any body here, more than what comes before one."""
SEGMENT_BYTES = 1_400
"""As on a network: on loopback the kernel would take a body of megabytes at once."""


class Relay:
    """A way to a server on which what is sent comes to a halt, as with a server that is busy."""

    def __init__(self, server: str) -> None:
        self._to = urlsplit(server)
        self.url = ""
        self.is_slow = False
        self.stands = anyio.Event()
        """Some of a large request has gone through, and no more does."""
        self.goes_on = anyio.Event()

    async def handle(self, client: SocketStream) -> None:
        assert self._to.hostname
        assert self._to.port
        async with (
            client,
            await anyio.connect_tcp(self._to.hostname, self._to.port) as server,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._pass_on, server, client, tasks.cancel_scope)
            await self._pass_on(client, server, tasks.cancel_scope, holds=True)

    async def _pass_on(
        self, source: SocketStream, to: SocketStream, scope: anyio.CancelScope, *, holds: bool = False
    ) -> None:
        passed = 0
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                if holds and self.is_slow and passed > SMALL_BYTES:
                    self.stands.set()
                    await self.goes_on.wait()
                data = await source.receive(4 * KIB)
                passed += len(data)
                await to.send(data)
        scope.cancel()


@asynccontextmanager
async def relay_to(server: str) -> AsyncIterator[Relay]:
    relay = Relay(server)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        listening = listener.extra(SocketAttribute.raw_socket)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        relay.url = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.start_soon(listener.serve, relay.handle)
        yield relay
        tasks.cancel_scope.cancel()


def through(relay: Relay, servers: Servers, path: Path) -> Path:
    given = json.loads(servers.kubeconfig.read_bytes())
    for cluster in given["clusters"]:
        cluster["cluster"]["server"] = relay.url
    path.write_text(json.dumps(given))
    return path


async def is_there(cluster: RealCluster, obj: KubeObject) -> bool:
    kind = await cluster.kind("v1", "ConfigMap")
    try:
        await cluster.get(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
    except NotFoundError:
        return False
    return True


@pytest.mark.parametrize("size", [300 * KIB, 900 * KIB], ids=["at-once", "piece-by-piece"])
@pytest.mark.parametrize("kept", [False, True], ids=["lost", "kept"])
async def test_what_is_left_of_a_change_is_not_sent_once_the_lease_is_lost(
    kubernetes: Servers, namespace: str, tmp_path: Path, size: int, *, kept: bool
) -> None:
    metadata = {"name": "large", "namespace": namespace}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "x" * size}}
    is_lost = False
    outcome: list[LeaseLostError | None] = []

    def check() -> None:
        if is_lost:
            raise LeaseLostError("the Lease is lost")

    async with (
        relay_to(kubernetes.url) as relay,
        open_cluster(through(relay, kubernetes, tmp_path / "kubeconfig")) as cluster,
    ):
        await cluster.kind("v1", "ConfigMap")
        cluster.fence(check)
        relay.is_slow = True

        async def apply() -> None:
            try:
                await cluster.apply(obj, manager="test")
            except LeaseLostError as error:
                outcome.append(error)
            else:
                outcome.append(None)

        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(apply)
                await relay.stands.wait()
                is_lost = not kept
                relay.goes_on.set()
        cluster.fence(None)
        relay.is_slow = False
        assert await is_there(cluster, obj) is kept
    assert [type(one) for one in outcome] == [type(None) if kept else LeaseLostError]
