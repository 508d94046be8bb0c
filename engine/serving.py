"""An aiohttp application that runs while a block lasts, and holds a bounded number of connections."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

SHUTDOWN_S = 2.0
"""How long an answer that is under way may take when the daemon ends."""
CONNECTIONS_MAX = 256
"""Of one application: each is an open file, of which the daemon needs its own."""
IDLE_S = 75.0
"""How long a connection may go without a request after its first."""
LINE_BYTES_MAX = 8_190
"""Of the first line of a request, and of each of its headers."""


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """Whether a record is of something else than a request that is no HTTP.

    Who sent it is answered with 400. A traceback would tell nobody anything, and quote what may be a credential.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


logger = logging.getLogger("tidelog.http")
logger.addFilter(_is_no_bad_request)


@asynccontextmanager
async def running(
    app: web.Application, *, connections_max: int = CONNECTIONS_MAX, line_bytes_max: int = LINE_BYTES_MAX
) -> AsyncIterator[web.AppRunner]:
    """Runs an application; its sites are for the caller to add.

    Args:
        app: what answers.
        connections_max: how many are held; for one more, an old one is ended.
        line_bytes_max: what the first line of a request may take, and each of its headers.
    """
    runner = _Runner(
        app,
        connections_max,
        access_log=None,
        logger=logger,
        shutdown_timeout=SHUTDOWN_S,
        keepalive_timeout=IDLE_S,
        # A body is taken as it came: the size that bounds it would be looked at after a megabyte became a gigabyte.
        auto_decompress=False,
        max_line_size=line_bytes_max,
        max_field_size=line_bytes_max,
    )
    await runner.setup()
    try:
        yield runner
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


class _Runner(web.AppRunner):
    """Makes room for a new connection by ending an old one: who opens many and says nothing locks nobody out."""

    def __init__(self, app: web.Application, connections_max: int, **options: Any) -> None:
        super().__init__(app, **options)
        self._connections_max = connections_max

    @property
    def server(self) -> Any:
        """What a site has each new connection made by."""
        server = super().server
        return None if server is None else _Bounded(server, self._connections_max)


class _Bounded:
    def __init__(self, server: web.Server, connections_max: int) -> None:
        self._server = server
        self._connections_max = connections_max

    def __call__(self) -> asyncio.BaseProtocol:
        there = self._server.connections
        if len(there) >= self._connections_max:
            # The oldest that is not being answered; while all are, the oldest.
            silent = (one for one in there if getattr(one, "_current_request", None) is None)
            oldest = next(silent, there[0])
            if oldest.transport is not None:
                oldest.transport.abort()
        return self._server()
