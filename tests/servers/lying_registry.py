"""A registry that misbehaves as a test tells it to: one handler for each path, over aiohttp."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from tests.servers.oci_registry import OCI_MANIFEST, descriptor, digest_of

Answer: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    authorization: str | None


@dataclass
class LyingRegistry:
    """Where it is, what it was asked, and what it answers."""

    answers: dict[str, Answer] = field(default_factory=dict)
    """By the end of the path; `GET ` or `HEAD ` may stand before it. What has none is not there."""
    host: str = ""
    asked: list[Asked] = field(default_factory=list)

    def url(self, name: str = "app") -> str:
        return f"oci://{self.host}/{name}"

    def has(self, content: bytes, media_type: str = "a/layer") -> str:
        """Serves an artifact of one layer at the tag `latest`, as registries do; returns the manifest's digest."""
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [descriptor(media_type, content)]}
        ).encode()
        digest = digest_of(manifest)
        for reference in ("latest", digest):
            self.answers[f"/manifests/{reference}"] = sends(manifest, **{"Docker-Content-Digest": digest})
        self.answers[f"/blobs/{digest_of(content)}"] = sends(content)
        return digest


def sends(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Answers always the same."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


def sends_json(body: Any, status: int = 200, **headers: str) -> Answer:
    return sends(json.dumps(body).encode(), status, **{"Content-Type": "application/json", **headers})


@asynccontextmanager
async def lying_registry(
    context: ssl.SSLContext | None = None, host: str = "localhost"
) -> AsyncIterator[LyingRegistry]:
    """Runs one on a free port of the loopback interface."""
    lying = LyingRegistry()

    async def handle(request: web.Request) -> web.StreamResponse:
        lying.asked.append(Asked(request.method, request.path_qs, request.headers.get("Authorization")))
        # Those with a method go first.
        for key, answer in sorted(lying.answers.items(), key=lambda item: item[0].startswith("/")):
            method, _, end = key.rpartition(" ")
            if method in {"", request.method} and request.path.endswith(end):
                return await answer(request)
        return web.Response(status=404)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    lying.host = f"{host}:{port}"
    try:
        yield lying
    finally:
        await runner.cleanup()
