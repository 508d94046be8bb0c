"""The embedded cluster over HTTP, on loopback: for kubectl and every other client."""

import resource
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from tidelog.engine.cluster.embedded.access import ANONYMOUS, AUTHENTICATED
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.decoding import BODY_BYTES_MAX
from tidelog.engine.cluster.embedded.fault_log import log_fault
from tidelog.engine.cluster.embedded.objects import encoded
from tidelog.engine.cluster.embedded.requests import (
    JSON,
    Answer,
    Handler,
    Request,
    User,
    error_answer,
    warning_header,
)
from tidelog.engine.cluster.embedded.statuses import StatusError, bad_request, too_large, unauthorized
from tidelog.engine.serving import running

HOST = "127.0.0.1"
CONNECTIONS_MAX = 4_096
"""Each watch of kubectl's takes one; where they are fewer than half of the files that the process may open, those."""
LINE_BYTES_MAX = 1 << 20
"""As the real server takes it (Go's `DefaultMaxHeaderBytes`)."""
_BEARER = "bearer "
_EXTRA = "impersonate-extra-"


@asynccontextmanager
async def serving(
    api: Api, port: int = 0, tls: ssl.SSLContext | None = None, *, handler: Handler | None = None
) -> AsyncIterator[str]:
    """Serves while the block lasts; gives the address.

    Args:
        api: what answers.
        port: on loopback; 0 for any that is free.
        tls: the server's certificate; without, it speaks plain HTTP, over which kubectl sends no token.
        handler: what stands before the API; by default nothing.

    Raises:
        OSError: when the port cannot be listened on.
    """
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", r"/{path:[\s\S]*}", _Door(api, handler or api).handle)
    async with running(app, connections_max=_connections_max(), line_bytes_max=LINE_BYTES_MAX) as runner:
        await web.TCPSite(runner, HOST, port, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://{HOST}:{runner.addresses[0][1]}"


def _connections_max() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, files // 2)


_WITHOUT_BREAK: Final = ("/openapi", "/version")
"""Paths whose documents do not end with a line break."""


class _Door:
    """From aiohttp's requests to those of the API, and back."""

    def __init__(self, api: Api, handler: Handler) -> None:
        self._api = api
        self._handler = handler

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await self._asked(request)
            answer = await self._handler.handle(asked)
        except StatusError as error:
            answer = error_answer(error)
        except ConnectionError:  # who asks has gone, or is to think that we have
            _cut(request)
            return web.Response()
        except Exception as error:  # noqa: BLE001 - whatever it is, others are still served
            answer = Answer(500, encoded(_unforeseen(request, error).status))
        return await _streamed(request, answer) if answer.stream is not None else _plain(request, answer)

    async def _asked(self, request: web.Request) -> Request:
        try:
            body = await request.read() if request.body_exists else b""
        except web.HTTPRequestEntityTooLarge:
            raise too_large(BODY_BYTES_MAX) from None
        user, impersonator = self._user(request)
        query: dict[str, str] = {}
        for key, value in request.query.items():
            query.setdefault(key, value)
        return Request(
            method=request.method,
            path=request.rel_url.raw_path,
            query=query,
            user=user,
            body=body,
            content_type=request.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            accept=request.headers.get("Accept", ""),
            agent=_text(request.headers.get("User-Agent", "")),
            impersonator=impersonator,
        )

    def _user(self, request: web.Request) -> tuple[User, User | None]:
        """As whom it is done, and who asks where that is another."""
        said = request.headers.get("Authorization", "")
        user = ANONYMOUS
        if said[: len(_BEARER)].lower() == _BEARER:
            found = self._api.whose(said[len(_BEARER) :].strip())
            if found is None:
                raise unauthorized()
            known, _ = found
            user = User(known.name, tuple(dict.fromkeys((*known.groups, AUTHENTICATED))), known.uid, known.extra)
        wanted = _text(request.headers.get("Impersonate-User", ""))
        if not wanted:
            if any(name.lower().startswith("impersonate-") and value for name, value in request.headers.items()):
                raise bad_request("requested groups, a uid or extras without impersonating a user")
            return user, None
        groups = tuple(map(_text, request.headers.getall("Impersonate-Group", ())))
        uid, extra = _text(request.headers.get("Impersonate-Uid", "")), _extra(request.headers.items())
        return self._api.acting_as(user, User(wanted, groups, uid, extra)), user


def _text(header: str) -> str:
    """A header's value, of which what is no UTF-8 could be put in no answer."""
    return header.encode(errors="surrogateescape").decode(errors="replace")


def _extra(headers: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """What else is said of who is acted as: `Impersonate-Extra-KEY`, whose key is encoded as in a URL."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers:
        if name.lower().startswith(_EXTRA):
            key = _text(unquote(name[len(_EXTRA) :])).lower()
            found[key] = (*found.get(key, ()), _text(value))
    return found


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _unforeseen(request: web.Request, error: Exception) -> StatusError:
    """A fault of this server, logged with its place; not with its text, where values of a Secret may stand."""
    where = log_fault(error, f"{request.method} {request.rel_url.raw_path}")
    return StatusError(500, "InternalError", f"Internal error occurred: {where}")


def _plain(request: web.Request, answer: Answer) -> web.Response:
    body = answer.body
    if answer.content_type == JSON and not request.path.startswith(_WITHOUT_BREAK):
        body += b"\n"  # as the real server ends an object, for those who read it in a terminal
    response = web.Response(status=answer.status, body=body, headers=dict(answer.headers))
    response.headers["Content-Type"] = answer.content_type
    for text in answer.warnings:
        response.headers.add("Warning", warning_header(text))
    return response


async def _streamed(request: web.Request, answer: Answer) -> web.StreamResponse:
    assert answer.stream is not None  # noqa: S101 - asked by the caller
    response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
    async with aclosing(answer.stream) as pieces:
        with suppress(ConnectionError):  # who watched has gone
            await response.prepare(request)
            try:
                async for piece in pieces:
                    await response.write(piece)
            except ConnectionError:
                _cut(request)  # an answer that is cut must not look like a whole one
                raise
            except Exception as error:  # noqa: BLE001 - as for an answer in one piece
                status = encoded(_unforeseen(request, error).status)
                await response.write(b'{"type":"ERROR","object":' + status + b"}\n")
            await response.write_eof()
    return response
