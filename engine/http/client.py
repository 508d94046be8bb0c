"""The other side of the daemon's door: for commands that ask for something."""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
import anyio.to_thread
import msgspec

from tidelog.engine.runtime.errors import DoorError, RefusedError
from tidelog.engine.runtime.requests import Request
from tidelog.engine.runtime.telling.outcome import Outcome
from tidelog.events.moment import Time
from tidelog.events.names import StreamName
from tidelog.events.typed import decoder
from tidelog.storage.errors import StoreUnreadableError
from tidelog.storage.layout import Layout

CALL_S = 90.0
"""The daemon may have to ask the cluster, which may take 75 s."""
_HOST = "http://daemon"

T = TypeVar("T")


class Taken(msgspec.Struct, frozen=True):
    """The event that a request became."""

    position: int
    time: Time


class DoorClient:
    """Asks a daemon. Made by `open_door`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, request: Request) -> Taken:
        """Has a request recorded and carried out.

        Raises:
            RefusedError: when it makes no sense as things stand.
            DoorError: when it cannot be told, or was recorded and not carried out yet.
        """
        return await self._call("POST", "/v1/requests", Taken, data=msgspec.json.encode(request))

    async def outcome(self, stream: StreamName) -> Outcome:
        """How a source or target stands now.

        Raises:
            RefusedError: when there is none of that name.
            DoorError: when it cannot be told.
        """
        return await self._call("GET", "/v1/standing", Outcome, params={"stream": stream})

    async def is_serving(self) -> bool:
        """Whether the daemon has seen all that is declared, and acts."""
        return (await self._call("GET", "/v1/state", _State)).serving

    async def _call(
        self, method: str, path: str, form: type[T], *, data: bytes | None = None, params: dict[str, str] | None = None
    ) -> T:
        try:
            async with self._session.request(method, f"{_HOST}{path}", data=data, params=params) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DoorError(f"the daemon does not answer: {str(error) or 'it took too long'}") from error
        try:
            if answer.status == 200:
                return decoder(form)(body)
            said = decoder(_Refusal)(body).error
        except msgspec.DecodeError:
            raise DoorError(f"the daemon answered with HTTP {answer.status}, and nothing that is understood") from None
        raise RefusedError(said) if answer.status < 500 else DoorError(said)


class _Refusal(msgspec.Struct, frozen=True):
    error: str


class _State(msgspec.Struct, frozen=True):
    serving: bool


@asynccontextmanager
async def open_door(store: Path) -> AsyncIterator[DoorClient | None]:
    """The door of the daemon that is at work on a store; None when none is.

    Raises:
        StoreUnreadableError: when this user may not look whether there is a door.
        DoorError: when there is one that this user may not use.
    """
    layout = Layout(store)
    try:
        # The address of a socket has 107 bytes at most, and a path may have more: the kernel follows this one.
        directory = await anyio.to_thread.run_sync(os.open, layout.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        path = f"/proc/self/fd/{directory}/{layout.door.name}"
        if not await anyio.to_thread.run_sync(os.access, f"/proc/self/fd/{directory}", os.X_OK):
            raise StoreUnreadableError(store, os.strerror(errno.EACCES))
        if not await _listens(path):
            yield None
            return
        limit = aiohttp.ClientTimeout(total=CALL_S)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path), timeout=limit) as session:
            yield DoorClient(session)
    finally:
        os.close(directory)


async def _listens(path: str) -> bool:
    """Whether somebody is at the door."""
    try:
        stream = await anyio.connect_unix(path)
    except PermissionError:
        raise DoorError("a daemon is at work on this store, and its door is for the user that it runs as") from None
    except OSError:
        return False  # no socket, or one that a killed daemon left
    await stream.aclose()
    return True
