"""Webhooks: a call to a source's own address has it asked at once, if its signature is right or it bears none."""

import hmac
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tidelog.engine.http.hooks import hook_path, hook_routes
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.requests import Request
from tidelog.events.envelope import Actor
from tidelog.events.names import ObjectKey

TOKEN = "c2VjcmV0IHRva2VuIQ=="
"""As `openssl rand -base64 16` makes them."""
BODY = b'{"ref": "refs/heads/main"}'


def source(namespace: str, name: str) -> ObjectKey:
    return ObjectKey("source.toolkit.fluxcd.io", "GitRepository", namespace, name)


FLEET = source("flux-system", "fleet")


class World:
    """A daemon with some sources."""

    def __init__(self, *keys: ObjectKey) -> None:
        self.asked: list[tuple[str, Actor]] = []
        sources = {key.stream("here"): SimpleNamespace(key=key) for key in keys}
        self.daemon = SimpleNamespace(
            engine=SimpleNamespace(declared=SimpleNamespace(sources=sources)), requests=SimpleNamespace(take=self._take)
        )

    async def _take(self, asked: Request, actor: Actor) -> None:
        assert asked.verb == "reconcile"
        self.asked.append((ObjectKey.of_stream(asked.target).name, actor))

    async def call(self, path: str, headers: dict[str, str] | None = None) -> int:
        app = web.Application()
        app.add_routes(hook_routes(cast("Daemon", self.daemon), TOKEN))
        async with TestClient(TestServer(app)) as client, client.post(path, data=BODY, headers=headers) as answer:
            return answer.status


def signature(algorithm: str, token: str = TOKEN) -> str:
    return f"{algorithm}={hmac.new(token.encode(), BODY, algorithm).hexdigest()}"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature-256": signature("sha256")},
        {"X-Signature": signature("sha512")},
        {"X-Gitlab-Token": TOKEN},
    ],
    ids=str,
)
async def test_a_call_has_its_source_asked_and_says_who_called(headers: dict[str, str]) -> None:
    world = World(FLEET, source("flux-system", "other"))
    assert await world.call(hook_path(TOKEN, FLEET), headers | {"User-Agent": "GitHub-Hookshot/1 x"}) == 200
    ((name, actor),) = world.asked
    assert (name, str(actor)) == ("fleet", "webhook GitHub-Hookshot/1 (authenticated by token)")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Hub-Signature-256": signature("sha256", "another")},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": "md5=0"},
        {"X-Hub-Signature-256": "nonsense"},
        {"X-Hub-Signature-256": "sha256=é"},
        {"X-Gitlab-Token": "another"},
        {"X-Gitlab-Token": "é"},
        {"X-Gitlab-Token": "another", "X-Hub-Signature-256": signature("sha256")},
    ],
    ids=str,
)
async def test_a_wrong_signature_is_refused(headers: dict[str, Any]) -> None:
    world = World(FLEET)
    assert await world.call(hook_path(TOKEN, FLEET), headers) == 400
    assert world.asked == []


@pytest.mark.parametrize("path", ["/hook/0", "/hook/é", "/hook/%C3%A9", "/hook/%FF", hook_path("another", FLEET)])
async def test_an_address_that_is_no_source_s_is_not_found(path: str) -> None:
    world = World(FLEET)
    assert await world.call(path) == 404
    assert world.asked == []


async def test_sources_that_share_an_address_are_all_asked() -> None:
    """Flux's addresses hold name and namespace without anything between them."""
    world = World(source("bc", "a"), source("c", "ab"), FLEET)
    assert await world.call(hook_path(TOKEN, source("bc", "a"))) == 200
    assert sorted(name for name, _ in world.asked) == ["a", "ab"]
