"""Changes that may be sent only while a Lease is held: it is asked about before every piece of them.

A server that is slow, or a network, leaves a part of a large change on our side; and the process may stand still
meanwhile, so long that another has the Lease. What asks is therefore the socket, right before it gives bytes to the
kernel. A change of which the end was not sent is none: the server refuses a body that is cut short.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer

Check: TypeAlias = Callable[[], None]
"""Raises when nothing may be changed any more."""


class _Fence:
    """What one change asks."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.refusal: Exception | None = None

    def ask(self) -> None:
        """Raises what the check does, and keeps it."""
        try:
            self._check()
        except Exception as error:
            self.refusal = error
            raise


_fence: ContextVar[_Fence | None] = ContextVar("_fence", default=None)
"""That of the request that this task makes."""


@contextmanager
def fenced(check: Check | None) -> Iterator[None]:
    """The one request that is made within asks `check` before each piece is sent; None for one that changes nothing.

    What the check raises comes in the place of the answer.
    """
    fence = None if check is None else _Fence(check)
    if fence is not None:
        fence.ask()
    token = _fence.set(fence)
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        if fence is not None and fence.refusal is not None:
            raise fence.refusal from error
        raise
    finally:
        _fence.reset(token)


class FencedRequest(aiohttp.ClientRequest):
    """A request that asks once it has a connection: to make one takes seconds, or as long as the process is frozen."""

    async def send(self, conn: "aiohttp.connector.Connection") -> aiohttp.ClientResponse:
        """Sends it; from now on, its connection asks too."""
        fence = _fence.get()
        if fence is not None:
            fence.ask()
        used = None if conn.transport is None else _sockets.get(conn.transport.get_extra_info("socket").fileno())
        if used is not None:
            used.fence = fence
        return await super().send(conn)


class _FencedSocket(socket.socket):
    """A socket that asks before it sends. That it may not any more ends its connection."""

    fence: _Fence | None = None
    """Of the change that is sent."""

    def send(self, data: "ReadableBuffer", flags: int = 0, /) -> int:
        self._ask()
        return super().send(data, flags)

    def sendmsg(self, buffers: "Iterable[ReadableBuffer]", *how: Any) -> int:
        self._ask()
        return super().sendmsg(buffers, *how)

    def _ask(self) -> None:
        if self.fence is None:
            return
        try:
            self.fence.ask()
        except Exception as error:
            raise ConnectionAbortedError("nothing may be sent any more") from error


_sockets: WeakValueDictionary[int, _FencedSocket] = WeakValueDictionary()
"""By their number: of a connection no more can be known."""


def fenced_socket(address: tuple[object, ...]) -> socket.socket:
    """A socket that notices within about a minute when the other side is gone without a word: a watch never sends."""
    family, kind, protocol = address[:3]
    made = _FencedSocket(family, kind, protocol)  # type: ignore[arg-type]
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    _sockets[made.fileno()] = made
    return made
