"""Webhooks: a call to a source's own address has it asked at once.

The address cannot be guessed: it holds a digest of a token and the source's name, as that of Flux's Receivers does
(Flux contract NR-014). A Git host that signs its calls (GitHub, Gitea, GitLab) is held to its signature.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.requests import Request
from tidelog.events.envelope import Actor, Proof
from tidelog.events.names import ObjectKey, StreamName

BODY_BYTES_MAX: Final = 3 * 2**20
"""Flux contract NE-001."""


def hook_path(token: str, source: ObjectKey) -> str:
    """The path of a source's webhook."""
    return "/hook/" + hashlib.sha256(f"{token}{source.name}{source.namespace}".encode()).hexdigest()


def hook_routes(daemon: Daemon, token: str) -> list[web.RouteDef]:
    """The routes of the webhooks of all sources."""

    async def called(request: web.Request) -> web.Response:
        stream = _source_of(daemon, token, request.path)
        if stream is None:
            raise web.HTTPNotFound(text="no source has this address\n")
        body = await request.read()
        signed = _signature(request.headers)
        if signed and not _is_signed(token, body, signed):
            raise web.HTTPBadRequest(text="the signature is not that of the token\n")
        name = request.headers.get("User-Agent", "unknown").partition(" ")[0][:100] or "unknown"
        actor = Actor(kind="webhook", name=name, proof=Proof(kind="authenticated", by="token"))
        await daemon.requests.take(Request(verb="reconcile", target=stream, why="a webhook was called"), actor)
        return web.Response(text="ok\n")

    return [web.post("/hook/{digest}", called)]


def _source_of(daemon: Daemon, token: str, path: str) -> StreamName | None:
    for stream, declared in daemon.engine.declared.sources.items():
        if hmac.compare_digest(hook_path(token, declared.key), path):
            return stream
    return None


def _signature(headers: Mapping[str, str]) -> str:
    return headers.get("X-Hub-Signature-256") or headers.get("X-Signature") or headers.get("X-Gitlab-Token") or ""


def _is_signed(token: str, body: bytes, signed: str) -> bool:
    algorithm, _, digest = signed.partition("=")
    if not digest:
        return hmac.compare_digest(signed, token)  # GitLab sends the token itself
    if algorithm not in ("sha256", "sha512"):
        return False
    return hmac.compare_digest(hmac.new(token.encode(), body, algorithm).hexdigest(), digest)
