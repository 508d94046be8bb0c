"""A server that answers what a test tells it to, and kubeconfigs that lead to it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from aiohttp import web

from tidelog.engine.cluster.limits import Limits
from tidelog.engine.cluster.port import Kind
from tidelog.engine.cluster.real import RealCluster, open_cluster

TOKEN = "the-token-that-nobody-may-see"
QUICK = Limits(connect_s=5, call_s=5, calls=4, tries=3)
CONFIG_MAPS = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True)
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"namespace": "n", "name": "a", "uid": "u", "resourceVersion": "1"},
}

Answer: TypeAlias = web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]
Open: TypeAlias = Callable[..., AbstractAsyncContextManager[RealCluster]]

DISCOVERY = {
    "kind": "APIGroupDiscoveryList",
    "apiVersion": "apidiscovery.k8s.io/v2",
    "items": [
        {
            "metadata": {"name": ""},
            "versions": [
                {
                    "version": "v1",
                    "resources": [
                        {
                            "resource": "configmaps",
                            "responseKind": {"group": "", "version": "", "kind": "ConfigMap"},
                            "scope": "Namespaced",
                            "verbs": ["get"],
                        }
                    ],
                }
            ],
        }
    ],
}


def answer(status: int, body: Any = None, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body if body is not None else {}, status=status, headers=named)


def status(code: int, reason: str, message: str, **details: Any) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return answer(code, {**body, "reason": reason, "message": message, "details": details})


async def drop(request: web.Request) -> web.StreamResponse:
    """Takes the request, and closes the connection without a word."""
    await request.read()
    assert request.transport
    request.transport.abort()
    return web.Response()


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


class Script:
    """The server. It answers from `answers` in turn, but for discovery and the version, which always work."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.seen]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return answer(200, {"gitVersion": "v1.35.0"})
        if request.path in {"/api", "/apis"}:
            return answer(200, DISCOVERY if request.path == "/api" else {**DISCOVERY, "items": []})
        self.seen.append(request)
        self.bodies.append(await request.read())
        assert self.answers, f"nobody expected {request.method} {request.rel_url}"
        given = self.answers.pop(0)
        return given if isinstance(given, web.StreamResponse) else await given(request)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    script.url = f"http://{host}:{port}"
    try:
        yield script
    finally:
        await runner.cleanup()


def write_kubeconfig(path: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "it",
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def kubeconfig(script: Script, tmp_path: Path) -> Path:
    return write_kubeconfig(tmp_path / "kubeconfig", script.url, {"token": TOKEN})


@pytest.fixture
def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def open_script(kubeconfig: Path) -> Open:
    return partial(open_cluster, kubeconfig, limits=QUICK)


@pytest.fixture
async def cluster(open_script: Open) -> AsyncIterator[RealCluster]:
    async with open_script() as opened:
        yield opened


def with_limits(**changed: Any) -> Limits:
    return msgspec.structs.replace(QUICK, **changed)
