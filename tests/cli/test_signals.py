"""`tidelog run` is told to end before it has begun: the API server takes its time."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from tests.cluster.conftest import DISCOVERY, answer, never, write_kubeconfig

STARTS_WITHIN_S = 90
ENDS_WITHIN_S = 20

NAMESPACES = {
    "resource": "namespaces",
    "responseKind": {"group": "", "version": "", "kind": "Namespace"},
    "scope": "Cluster",
    "verbs": ["get"],
}
CORE = {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [NAMESPACES]}]}
ANSWERS = {
    "/version": {"gitVersion": "v1.35.0"},
    "/api": {**DISCOVERY, "items": [CORE]},
    "/apis": {**DISCOVERY, "items": []},
}


class Silent:
    """An API server that answers until it is asked for something, and then no more."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.asked = anyio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == self.path or request.path not in ANSWERS:
            self.asked.set()
            return await never(request)
        return answer(200, ANSWERS[request.path])


@asynccontextmanager
async def silent_after(path: str) -> AsyncIterator[Silent]:
    silent = Silent(path)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", silent.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    silent.url = f"http://{host}:{port}"
    try:
        yield silent
    finally:
        await runner.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/version", "/api", "/api/v1/namespaces/kube-system"])
async def test_a_daemon_that_has_not_begun_ends_when_it_is_told_to(
    path: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    """By exit code 0, as at any other moment; all that was said is that it starts; its store is as good as new."""
    async with silent_after(path) as silent:
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", silent.url, {})
        flags = ["--store", tmp_path / "store", "--kubeconfig", kubeconfig]
        flags += ["--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0"]
        command = [sys.executable, "-m", "tidelog.engine", "run", *map(str, flags)]
        async with await anyio.open_process(command, env=environment) as process:
            with anyio.fail_after(STARTS_WITHIN_S):
                await silent.asked.wait()
            process.terminate()
            with anyio.fail_after(ENDS_WITHIN_S):
                code = await process.wait()
            assert process.stderr is not None
            said = b"".join([piece async for piece in process.stderr])
    lines = [json.loads(line) for line in said.splitlines()]
    assert (code, [(line["msg"], line["store"]) for line in lines]) == (0, [("engine starts", str(tmp_path / "store"))])
