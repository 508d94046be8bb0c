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
        streams = _sources_of(daemon, token, request.path)
        if not streams:
            raise web.HTTPNotFound(text="no source has this address\n")
        if not _is_signed(token, await request.read(), request.headers):
            raise web.HTTPBadRequest(text="the signature is not that of the token\n")
        name = request.headers.get("User-Agent", "unknown").partition(" ")[0][:100] or "unknown"
        actor = Actor(kind="webhook", name=name, proof=Proof(kind="authenticated", by="token"))
        for stream in streams:
            await daemon.requests.take(Request(verb="reconcile", target=stream, why="a webhook was called"), actor)
        return web.Response(text="ok\n")

    return [web.post("/hook/{digest}", called)]


def _sources_of(daemon: Daemon, token: str, path: str) -> list[StreamName]:
    """Those with this address: several where name and namespace read the same together (`a` in `bc`, `ab` in `c`)."""
    sources = daemon.engine.declared.sources.items()
    return [stream for stream, declared in sources if _same(hook_path(token, declared.key), path)]


def _is_signed(token: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a call bears no signature, or the right one; GitLab sends the token itself."""
    given = headers.get("X-Gitlab-Token")
    if given:
        return _same(given, token)
    signed = headers.get("X-Hub-Signature-256") or headers.get("X-Signature")
    if not signed:
        return True
    algorithm, _, digest = signed.partition("=")
    if algorithm not in ("sha256", "sha512"):
        return False
    return _same(hmac.new(token.encode(), body, algorithm).hexdigest(), digest)


def _same(one: str, other: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
