"""A proxy in front of a real API server that misbehaves when told to.

It takes plain HTTP from whoever comes, and asks the server as one user, by that user's certificate or token.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import aiohttp
import msgspec
from aiohttp import web

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.connector import Connector


@dataclass(frozen=True)
class Asked:
    """A request, as a fault may choose by it."""

    method: str
    path: str
    watch: bool
    dry_run: bool
    number: int
    """How many came before it."""

    @property
    def writes(self) -> bool:
        """Whether it changes something for good."""
        return self.method not in ("GET", "HEAD") and not self.dry_run


@dataclass(frozen=True)
class Status:
    """Answers with a status of the API, and asks nobody."""

    code: int
    reason: str
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Delay:
    """Waits before it asks."""

    seconds: float


@dataclass(frozen=True)
class Held:
    """Waits until it may ask."""

    until: asyncio.Event


@dataclass(frozen=True)
class Says:
    """Answers with success and a text, and asks nobody."""

    body: str


Drop: TypeAlias = Literal["drop before", "drop after"]
"""Closes the connection: before the server is asked, or when it has answered and the answer is not passed on."""
Fault: TypeAlias = Status | Delay | Held | Says | Drop | None


@dataclass
class FaultyApi:
    """The proxy, from outside."""

    kubeconfig: Path
    fault: Callable[[Asked], Fault] = lambda _: None
    """Says what is to go wrong with a request."""
    asked: list[Asked] = field(default_factory=list)
    faults: int = 0
    """How many requests went wrong."""
    _watches: set[asyncio.Task[None]] = field(default_factory=set)

    def drop_watches(self) -> None:
        """Ends every watch that is open, without a word."""
        for task in list(self._watches):
            task.cancel()

    async def watched(self, count: int) -> None:
        """Waits until so many watches are open: one that was dropped is taken up again after a pause."""
        while len(self._watches) < count:  # noqa: ASYNC110 - connections come and go without an event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def faulty_api(servers: Servers, kubeconfig: Path, directory: Path) -> AsyncIterator[FaultyApi]:
    """Runs the proxy; `kubeconfig` says as whom it asks, and one that leads to it is written to `directory`."""
    config = msgspec.json.decode(await asyncio.to_thread(kubeconfig.read_bytes))
    user = config["users"][0]["user"]
    tls = await asyncio.to_thread(_context, servers, user, directory)
    api = FaultyApi(directory / "kubeconfig-faulty")
    connector = Connector(ssl=tls, limit=0)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=headers) as session:
        app = web.Application(client_max_size=64 << 20)

        async def pass_on(request: web.Request) -> web.StreamResponse:
            return await _pass_on(api, session, servers.url, request)

        app.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
            config["users"][0]["user"] = {}
            await asyncio.to_thread(api.kubeconfig.write_bytes, msgspec.json.encode(config))
            yield api
        finally:
            api.drop_watches()
            await runner.cleanup()


def _context(servers: Servers, user: dict[str, str], directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(servers.authority.certificate_file))
    if "token" in user:
        return context
    pem = directory / "faulty.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(
        base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
    )
    context.load_cert_chain(pem)
    return context


async def _pass_on(
    api: FaultyApi, session: aiohttp.ClientSession, url: str, request: web.Request
) -> web.StreamResponse:
    query = request.rel_url.query
    asked = Asked(
        request.method,
        request.path,
        query.get("watch") in ("1", "true"),
        query.get("dryRun") == "All",
        len(api.asked),
    )
    api.asked.append(asked)
    fault = api.fault(asked)
    if fault is not None:
        api.faults += 1
    if isinstance(fault, Status):
        return _answer(fault)
    if isinstance(fault, Says):
        return web.Response(text=fault.body, content_type="application/json")
    if fault == "drop before":
        return _dropped(request)
    body = await request.read()
    # Whoever sent it may be no more when it is passed on.
    if isinstance(fault, Delay):
        await asyncio.sleep(fault.seconds)
    if isinstance(fault, Held):
        await fault.until.wait()
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in ("host", "content-length", "transfer-encoding", "connection")
    }
    try:
        async with session.request(
            request.method, url + request.raw_path, data=body or None, headers=headers, allow_redirects=False
        ) as answer:
            if fault == "drop after":
                await answer.read()
                return _dropped(request)
            return await _stream(api, request, answer, watch=asked.watch)
    except aiohttp.ClientError:
        return _dropped(request)


async def _stream(
    api: FaultyApi, request: web.Request, answer: aiohttp.ClientResponse, *, watch: bool
) -> web.StreamResponse:
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name.lower() not in ("content-length", "transfer-encoding", "connection")
    }
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)

    async def copy() -> None:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)

    task = asyncio.create_task(copy())
    if watch:
        api._watches.add(task)
        task.add_done_callback(api._watches.discard)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            task.cancel()
            raise
        return _dropped(request, response)
    except (aiohttp.ClientError, ConnectionError):
        return _dropped(request, response)
    await response.write_eof()
    return response


def _dropped(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


def _answer(fault: Status) -> web.Response:
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"told to answer {fault.code}",
        "reason": fault.reason,
        "code": fault.code,
    }
    return web.json_response(body, status=fault.code, headers=headers)
