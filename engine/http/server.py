"""The daemon's HTTP: artifacts, health and metrics for everybody who can reach it, and the door for who may write.

The door is a unix socket in the store's directory; who comes through it is who the kernel says (SO_PEERCRED).
"""

import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from aiohttp import web

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.http.artifacts import artifact_routes
from tidelog.engine.http.hooks import BODY_BYTES_MAX as HOOK_BYTES_MAX
from tidelog.engine.http.hooks import hook_routes
from tidelog.engine.http.secure_door import door_routes, tls_of
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.metrics import CONTENT_TYPE, Metrics
from tidelog.engine.runtime.outcome import outcome_of
from tidelog.engine.runtime.requests import Request
from tidelog.events.digest import Digest
from tidelog.events.envelope import Actor, Proof
from tidelog.events.names import StreamName
from tidelog.storage.layout import Layout, read_text

BODY_BYTES_MAX = 65_536
SHUTDOWN_S = 2.0
"""How long an answer that is under way may take when the daemon ends."""
_CREDENTIALS = struct.Struct("3i")


def address_of(text: str) -> tuple[str, int]:
    """Host and port of an address as Go writes it: `:9090`, `127.0.0.1:9090`.

    Raises:
        ValueError: when it is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"{text!r} is no address: write it like :9090 or 127.0.0.1:9090")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - all interfaces, as Flux's controllers listen


@asynccontextmanager
async def serving(daemon: Daemon, metrics: Metrics, store: Path) -> AsyncIterator[None]:
    """Serves while the block lasts.

    Raises:
        OSError: when an address cannot be listened on; names it.
    """
    settings = daemon.engine.settings
    apps: dict[str, web.Application] = {}
    token = await anyio.to_thread.run_sync(_token, settings.webhook_token_file)
    for address, routes in (
        (settings.storage_addr, artifact_routes(daemon.engine.artifacts, lambda path: _named(daemon, path))),
        (settings.health_addr, _health_routes(daemon)),
        (settings.metrics_addr, _metrics_routes(metrics)),
        (settings.webhook_addr if token else "", hook_routes(daemon, token)),
    ):
        if address:
            apps.setdefault(address, web.Application(client_max_size=HOOK_BYTES_MAX)).add_routes(routes)
    async with AsyncExitStack() as running:
        for address, app in apps.items():
            runner = await running.enter_async_context(_running(app))
            host, port = address_of(address)
            await web.TCPSite(runner, host, port).start()
            if address == settings.storage_addr:
                daemon.engine.artifact_address = _advertised(host, runner)
        if settings.door_addr:
            await running.enter_async_context(_secure_door(daemon))
        await running.enter_async_context(unix_door(daemon, store))
        yield


@asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        yield runner
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def _token(file: str) -> str:
    return read_text(Path(file)).strip() if file else ""


def _advertised(host: str, runner: web.AppRunner) -> str:
    port = runner.addresses[0][1]
    return f"{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not listened on


def _named(daemon: Daemon, path: str) -> Digest | None:
    """The artifact that a status names with this path."""
    parts = path.split("/")
    if len(parts) != 4:
        return None
    engine = daemon.engine
    for stream, declared in engine.declared.sources.items():
        row = engine.memory.desired.get(stream)
        if row is not None and row.revision is not None and engine.artifact_path(declared.key, row.revision) == path:
            return row.artifact
    return None


def _health_routes(daemon: Daemon) -> list[web.RouteDef]:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if daemon.serving.is_set():
            return web.Response(text="ok\n")
        why = f"it waits for {daemon.waits_for}\n" if daemon.waits_for else "it is starting\n"
        return web.Response(status=503, text=why)

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


def _metrics_routes(metrics: Metrics) -> list[web.RouteDef]:
    async def shown(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return [web.get("/metrics", shown)]


@asynccontextmanager
async def _secure_door(daemon: Daemon) -> AsyncIterator[None]:
    settings = daemon.engine.settings
    tls = await anyio.to_thread.run_sync(tls_of, Path(settings.door_cert_file), Path(settings.door_key_file))
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes(door_routes(daemon))
    host, port = address_of(settings.door_addr)
    async with _running(app) as runner:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield


@asynccontextmanager
async def unix_door(daemon: Daemon, store: Path) -> AsyncIterator[None]:
    """The door in the store's directory, while the block lasts: for the user that the daemon runs as, and for root."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)

    async def take(request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=Request)
            recorded = await daemon.requests.take(asked, _who(request))
        except (msgspec.DecodeError, RefusedError) as error:
            return _answer(400, error=str(error))
        except ClusterError as error:
            return _answer(502, error=str(error))
        return _answer(200, position=recorded.envelope.position, time=recorded.envelope.time)

    async def state(_: web.Request) -> web.Response:
        return _answer(200, serving=daemon.serving.is_set(), waits_for=daemon.waits_for)

    async def standing(request: web.Request) -> web.Response:
        found = outcome_of(daemon.engine, StreamName(request.query.get("stream", "")))
        return _answer(404, error="there is no such source or target") if found is None else _json(200, found)

    app.add_routes([web.post("/v1/requests", take), web.get("/v1/state", state), web.get("/v1/standing", standing)])
    path = Layout(store).door
    async with _running(app) as runner:
        listening = await anyio.to_thread.run_sync(_socket, path)
        try:
            await web.SockSite(runner, listening).start()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(path.unlink, True)  # noqa: FBT003 - a file that is gone is gone


def _socket(path: Path) -> socket.socket:
    """A socket that only its owner can use.

    Raises:
        OSError: when it cannot be made.
    """
    path.unlink(missing_ok=True)  # of a daemon that was killed: the store's lock is ours
    # The address of a socket has 107 bytes at most, and a path may have more: the kernel follows this one.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = socket.socket(socket.AF_UNIX)
    # The mask is the whole process's, and so only for a moment.
    before = os.umask(0o177)
    try:
        made.bind(f"/proc/self/fd/{directory}/{path.name}")
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return made


def _answer(status: int, **said: object) -> web.Response:
    return _json(status, said)


def _json(status: int, said: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(said), content_type="application/json")


def _who(request: web.Request) -> Actor:
    """Who is at the other end of the socket, as the kernel knows."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is None:
        raise RefusedError("who asks cannot be told")
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Actor(kind="user", name=name, proof=Proof(kind="authenticated", by="unix-socket"))
