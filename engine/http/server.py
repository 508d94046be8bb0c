"""The daemon's HTTP: artifacts, health and metrics for everybody who can reach it, and the doors for who may write."""

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio.to_thread
from aiohttp import web

from tidelog.engine.http.artifacts import artifact_routes
from tidelog.engine.http.hooks import BODY_BYTES_MAX as HOOK_BYTES_MAX
from tidelog.engine.http.hooks import hook_routes
from tidelog.engine.http.secure_door import door_routes, tls_of
from tidelog.engine.http.taking import BODY_BYTES_MAX
from tidelog.engine.http.unix_door import unix_door
from tidelog.engine.kinds.registry import is_told
from tidelog.engine.kinds.statuses import LATEST
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.telling.metrics import CONTENT_TYPE, Metrics
from tidelog.engine.serving import running
from tidelog.events.digest import Digest
from tidelog.storage.layout import read_text


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
    named: dict[str, str] = {}
    token = await anyio.to_thread.run_sync(_token, settings.webhook_token_file)
    artifacts = artifact_routes(daemon.engine.artifacts, lambda path: _named(daemon, path))
    for setting, address, routes in (
        ("storage-addr", settings.storage_addr, artifacts),
        ("health-addr", settings.health_addr, _health_routes(daemon)),
        ("metrics-addr", settings.metrics_addr, _metrics_routes(metrics)),
        ("webhook-addr", settings.webhook_addr if token else "", hook_routes(daemon, token)),
    ):
        if address:
            daemon.engine.where[setting] = address
            named.setdefault(address, setting)
            apps.setdefault(address, web.Application(client_max_size=HOOK_BYTES_MAX)).add_routes(routes)
    async with AsyncExitStack() as doors:
        for address, app in apps.items():
            runner = await doors.enter_async_context(running(app))
            host, port = address_of(address)
            with _naming(named[address], address):
                await web.TCPSite(runner, host, port).start()
            if address == settings.storage_addr:
                daemon.engine.artifact_address = _advertised(host, runner)
        if settings.door_addr:
            daemon.engine.where["door-addr"] = settings.door_addr
            await doors.enter_async_context(_secure_door(daemon))
        await doors.enter_async_context(unix_door(daemon, store))
        yield


@contextmanager
def _naming(setting: str, address: str) -> Iterator[None]:
    """Says which setting an address that cannot be listened on came from."""
    try:
        yield
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        problem = "another program listens there" if taken else error.strerror or str(error)
        raise OSError(f"{setting} {address}: {problem}; give another address with --{setting}") from None


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
        standing = engine.memory.conditions.get(stream)
        if row is None or row.revision is None or standing is None or not is_told(declared.spec):
            continue
        own = engine.artifact_path(declared.key, row.revision, standing.chart)
        latest = LATEST.get(declared.key.kind)
        if path == own or (latest is not None and path == f"{own.rpartition('/')[0]}/{latest}"):
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
        process = await anyio.to_thread.run_sync(metrics.process_text)
        return web.Response(body=metrics.text() + process, headers={"Content-Type": CONTENT_TYPE})

    return [web.get("/metrics", shown)]


@asynccontextmanager
async def _secure_door(daemon: Daemon) -> AsyncIterator[None]:
    settings = daemon.engine.settings
    tls = await anyio.to_thread.run_sync(tls_of, Path(settings.door_cert_file), Path(settings.door_key_file))
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes(door_routes(daemon))
    host, port = address_of(settings.door_addr)
    async with running(app) as runner:
        with _naming("door-addr", settings.door_addr):
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield
