"""How a door takes requests, whoever stands before it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
from aiohttp import web

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.requests import Request
from tidelog.events.envelope import Actor
from tidelog.events.typed import decoder

BODY_BYTES_MAX = 65_536

Admit: TypeAlias = Callable[[web.Request, Request], Awaitable[Actor]]
"""Who asks, if they may; raises `DeniedError` when they are not known, or may not."""


class DeniedError(Exception):
    """Raised when somebody is not known, or may not do what they ask for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def request_route(daemon: Daemon, admit: Admit) -> web.RouteDef:
    """The route that takes requests: `POST /v1/requests`."""

    async def take(request: web.Request) -> web.Response:
        try:
            asked = decoder(Request)(await request.read())
            actor = await admit(request, asked)
            recorded = await daemon.requests.take(asked, actor)
        except (msgspec.DecodeError, RefusedError) as error:
            return answer(400, error=str(error))
        except DeniedError as error:
            return answer(error.status, error=str(error))
        except ClusterError as error:
            return answer(502, error=str(error))
        return answer(200, position=recorded.envelope.position, time=recorded.envelope.time)

    return web.post("/v1/requests", take)


def answer(status: int, **said: object) -> web.Response:
    """An answer in JSON."""
    return web.Response(status=status, body=msgspec.json.encode(said), content_type="application/json")
