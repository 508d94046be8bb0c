"""Connections of aiohttp's client that end when they are let go of."""

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey


class Connector(aiohttp.TCPConnector):
    """A connector that breaks off what is given up: a watch that is cancelled, an answer that nobody reads to its end.

    aiohttp closes such a connection in TLS's manner, which waits for the peer's answer up to 30 s, and no longer knows
    of it: it would outlive the session, and the event loop.
    """

    def _release(self, key: "ConnectionKey", protocol: "ResponseHandler", *, should_close: bool = False) -> None:
        if should_close or protocol.should_close:
            protocol.abort()
            should_close = True
        super()._release(key, protocol, should_close=should_close)
