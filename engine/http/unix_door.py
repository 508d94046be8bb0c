"""The door in the store's directory: a unix socket. Who comes through it is who the kernel says (SO_PEERCRED)."""

import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from aiohttp import web

from tidelog.engine.http.taking import BODY_BYTES_MAX, DeniedError, answer, request_route
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.requests import Request
from tidelog.engine.runtime.telling.outcome import outcome_of
from tidelog.engine.serving import running
from tidelog.events.envelope import Actor, Proof
from tidelog.events.names import StreamName
from tidelog.storage.layout import Layout

_CREDENTIALS = struct.Struct("3i")


@asynccontextmanager
async def unix_door(daemon: Daemon, store: Path) -> AsyncIterator[None]:
    """Is open while the block lasts, for the user that the daemon runs as, and for root."""

    async def state(_: web.Request) -> web.Response:
        return answer(200, serving=daemon.serving.is_set(), waits_for=daemon.waits_for)

    async def standing(request: web.Request) -> web.Response:
        found = outcome_of(daemon.engine, StreamName(request.query.get("stream", "")))
        if found is None:
            return answer(404, error="there is no such source or target")
        return answer(200, **msgspec.to_builtins(found))

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes([request_route(daemon, _who), web.get("/v1/state", state), web.get("/v1/standing", standing)])
    path = Layout(store).door
    async with running(app) as runner:
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


async def _who(request: web.Request, _: Request) -> Actor:
    """Who is at the other end of the socket, as the kernel knows."""
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is None:
        raise DeniedError(400, "who asks cannot be told")
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    name = await anyio.to_thread.run_sync(_name_of, uid)
    return Actor(kind="user", name=name, proof=Proof(kind="authenticated", by="unix-socket"))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
