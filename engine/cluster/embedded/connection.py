"""The embedded cluster behind the port, without a socket: the calls of the client go to the API as they are."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import anyio
import msgspec

from tidelog.engine.cluster.connection import USER_AGENT, Answer, Call, Patience, broken, lost
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.requests import Answer as ApiAnswer
from tidelog.engine.cluster.embedded.requests import Handler, Request, User, parse_url, warning_header
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.errors import error_of
from tidelog.engine.cluster.limits import Limits
from tidelog.engine.cluster.port import OnRequest

ADDRESS: Final = "embedded"


class EmbeddedConnection:
    """What `RealCluster` asks through, for a cluster in this process."""

    def __init__(
        self, api: Api, user: User, on_request: OnRequest | None = None, handler: Handler | None = None
    ) -> None:
        """Asks as `user`, and what stands before the API, if anything does."""
        self._api = api
        self._handler = handler or api
        self._user = user
        self._on_request = on_request
        self._limits = Limits()
        self.fence: Callable[[], None] | None = None
        """See `Channel`."""

    @property
    def address(self) -> str:
        """For messages: there is no address."""
        return ADDRESS

    async def send(self, call: Call) -> Answer:
        """The whole answer to a call.

        Raises:
            ClusterError: for any answer but success, and for none.
        """
        answer = await self._ask(call, whole=True)
        return Answer(answer.status, answer.headers, answer.body, tuple(map(warning_header, answer.warnings)))

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The answer in pieces, as they come.

        Raises:
            ClusterError: as `send` does.
            UnreachableError: when what stands before the API cuts the connection.
        """
        answer = await self._ask(call, whole=False)
        if answer.stream is None:
            yield answer.body
            return
        try:
            async with aclosing(answer.stream) as pieces:
                async for piece in pieces:
                    yield piece
        except ConnectionError as error:
            raise broken(call, str(error)) from error

    async def _ask(self, call: Call, *, whole: bool) -> ApiAnswer:
        patience, was_lost = Patience(call, self._limits), False
        while True:
            try:
                answer = await self._try(call, whole=whole)
            except ConnectionError as error:
                if was_lost or call.changes:
                    raise lost(call, ADDRESS, str(error)) from error
                was_lost = True  # as over HTTP, where a kept connection may just be closing
                continue
            status = answer.status
            if status < 300 or status == 304:
                return answer
            retry_after = answer.headers.get("Retry-After")
            wait_s = patience.wait_s(status, answer.body, retry_after)
            if wait_s is None:
                raise error_of(call.what, status, answer.body, retry_after, changes=call.changes)
            await anyio.sleep(wait_s)

    async def _try(self, call: Call, *, whole: bool) -> ApiAnswer:
        began = time.perf_counter()
        status = 0
        try:
            answer = await self._handled(call)
            status = answer.status
            if whole and answer.stream is not None:
                async with aclosing(answer.stream) as pieces:
                    body = b"".join([piece async for piece in pieces])
                answer = msgspec.structs.replace(answer, body=body, stream=None)
            return answer
        finally:
            if self._on_request:
                self._on_request(call.verb, call.resource, status, time.perf_counter() - began)

    async def _handled(self, call: Call) -> ApiAnswer:
        user, impersonator = self._user, None
        if call.identity is not None:
            wanted = User(call.identity.user, call.identity.groups)
            try:
                user, impersonator = self._api.acting_as(user, wanted), user
            except StatusError as error:
                return ApiAnswer(error.code, msgspec.json.encode(error.status))
        if call.changes and self.fence is not None:
            self.fence()
        path, query = parse_url(call.target)
        return await self._handler.handle(
            Request(
                method=call.method,
                path=path,
                query=query,
                user=user,
                body=call.body or b"",
                content_type=call.content_type if call.body is not None else "",
                accept=call.accept,
                agent=USER_AGENT,
                impersonator=impersonator,
            )
        )
