"""Requests to one API server: bounded in number and time, tried again where that is safe, errors in people's words."""

import io
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import aiohttp
import anyio
from msgspec import Struct
from yarl import URL

from tidelog.engine.cluster.credentials import Credentials, Material
from tidelog.engine.cluster.errors import (
    BadRequestError,
    ClusterError,
    OutcomeUnknown,
    ServerError,
    Status,
    UnauthorizedError,
    UnreachableError,
    error_of,
    status_of,
)
from tidelog.engine.cluster.fenced import FencedRequest, fenced, fenced_socket
from tidelog.engine.cluster.kubeconfig import Access
from tidelog.engine.cluster.limits import Limits
from tidelog.engine.cluster.port import Identity, OnRequest
from tidelog.engine.connector import Connector

USER_AGENT = f"tidelog/{metadata.version('tidelog')}"
READ_BUFFER_BYTES = 1 << 18
"""What a watch holds of changes that nobody has asked for yet is at most twice this; then TCP makes the server wait."""
BODY_AT_ONCE_BYTES = 1 << 19
"""Bodies that are larger are sent piece by piece."""
IDLE_S = 60.0
"""How long an unused connection is kept: less than the 90 s after which the API server closes it under our hands."""
_OUT_OF_TIME = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and CERT_HAS_EXPIRED."""
_OF_ANOTHER = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH."""
BUSY_WAIT_S = 1.0
"""How long to wait after a 429 that does not say."""


class Call(Struct, frozen=True):
    """One thing to ask."""

    verb: str
    """As in audit logs: get, list, watch, apply, create, update, patch, delete."""
    what: str
    """For messages, after "cannot": `get Deployment app in namespace web`."""
    resource: str
    """For metrics: the kind's plural, or a path."""
    method: str
    target: str
    """Path and query, encoded."""
    body: bytes | None = None
    content_type: str = "application/json"
    accept: str = "application/json"
    identity: Identity | None = None
    changes: bool = False
    """Whether it may change something: then an answer that is missing is an outcome that is unknown."""
    again: bool = True
    """Whether it may be sent again after the server said that it is busy."""
    headers: Mapping[str, str] = {}


class Answer(Struct, frozen=True):
    """A success; for a stream, `response` is what the body is read from."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[str, ...] = ()
    response: aiohttp.ClientResponse | None = None


class Channel(Protocol):
    """A way to one API server."""

    fence: Callable[[], None] | None
    """Asked before each change, and each piece of one, is sent; raises when none may be any more."""

    @property
    def address(self) -> str:
        """The API server's, without credentials that may be in it."""
        ...

    async def send(self, call: Call) -> Answer:
        """The whole answer to a call.

        Raises:
            ClusterError: for any answer but success, and for none.
        """
        ...

    def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The answer in pieces, as they come; the server may take its time between them.

        Raises:
            ClusterError: as `send` does.
            UnreachableError: when the connection breaks.
        """
        ...


class Connection:
    """The connections to one API server. An async context manager."""

    def __init__(
        self, access: Access, credentials: Credentials, limits: Limits, on_request: OnRequest | None = None
    ) -> None:
        self._access = access
        self._credentials = credentials
        self._limits = limits
        self._on_request = on_request
        self.fence: Callable[[], None] | None = None
        """Asked before each change, and each piece of one, is sent; raises when none may be any more."""
        self._slots = anyio.Semaphore(limits.calls, fast_acquire=True)
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[aiohttp.ClientResponse] = set()
        """What is read from as it comes."""

    @property
    def address(self) -> str:
        """The API server's, without credentials that may be in it."""
        parts = urlsplit(self._access.server)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    async def __aenter__(self) -> Self:
        # The number of connections is bounded by `_slots`: waiting there is not counted as waiting for the server.
        connector = Connector(
            limit=0, keepalive_timeout=IDLE_S, enable_cleanup_closed=False, socket_factory=fenced_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            skip_auto_headers=("Accept", "Content-Type"),
            request_class=FencedRequest,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._limits.connect_s, sock_connect=self._limits.connect_s
            ),
            read_bufsize=READ_BUFFER_BYTES,
            max_field_size=1 << 16,
        )
        # aiohttp would silently send a DELETE or PUT a second time when a kept connection breaks, and the second
        # answer (404, 409) would be taken for the truth about the first.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for response in list(self._streams):
            # Over TLS, closing alone would leave who reads it waiting for more.
            response.content.set_exception(aiohttp.ClientConnectionError("the cluster was closed"))
            response.close()
        if self._session:
            with anyio.CancelScope(shield=True):
                await self._session.close()

    async def send(self, call: Call) -> Answer:
        """The whole answer to a call.

        Raises:
            ClusterError: for any answer but success, and for none.
        """
        return await self._send(call, stream=False)

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The answer in pieces, as they come; the server may take its time between them.

        Raises:
            ClusterError: as `send` does.
            UnreachableError: when the connection breaks.
        """
        answer = await self._send(call, stream=True)
        response = answer.response
        if response is None:
            raise TypeError("no stream")
        self._streams.add(response)
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise broken(call, _reason(error)) from error
        finally:
            self._streams.discard(response)
            # Not back to the pool: more is to come on it.
            response.close()

    async def _send(self, call: Call, *, stream: bool) -> Answer:
        material = await self._credentials.current()
        renewed = was_lost = False
        patience = Patience(call, self._limits)
        while True:
            try:
                answer = await self._try(call, material, stream=stream)
            except _LostError as error:
                # A kept connection that the server was just closing; asking again is asking once.
                if was_lost or call.changes:
                    why = _reason(error.__cause__ or error)
                    raise lost(call, self._access.server, why) from error.__cause__
                was_lost = True
                continue
            if answer.status < 300 or answer.status == 304:
                return answer
            retry_after = answer.headers.get("Retry-After")
            if answer.status == 401 and not renewed:
                renewed = True
                fresh = await self._credentials.renewed(material)
                if fresh:
                    material = fresh
                    continue
            wait_s = patience.wait_s(answer.status, answer.body, retry_after)
            if wait_s is None:
                raise self._error(call, answer, retry_after, material)
            await anyio.sleep(wait_s)

    def _error(self, call: Call, answer: Answer, retry_after: str | None, material: Material) -> ClusterError:
        error = error_of(call.what, answer.status, answer.body, retry_after, changes=call.changes)
        if not isinstance(error, UnauthorizedError):
            return error
        if self._access.embedded:
            return UnauthorizedError(f"{error}; {self._another()}", error.status)
        text = f"{error}; the credentials are from {self._access.origin}"
        ends = material.certificate_ends
        if ends is not None:
            when = f"{ends:%Y-%m-%d %H:%M} UTC"
            ran_out = ends < datetime.now(UTC)
            it_is = f"ran out at {when}: it has to be made anew" if ran_out else f"is valid until {when}"
            text += f", whose client certificate {it_is}"
        return UnauthorizedError(text, error.status)

    async def _try(self, call: Call, material: Material, *, stream: bool) -> Answer:
        async with self._slots:
            began = time.perf_counter()
            status = 0
            try:
                with anyio.fail_after(self._limits.call_s):
                    answer = await self._exchange(call, material, stream=stream)
                status = answer.status
                return answer
            except aiohttp.ClientConnectorError as error:
                raise UnreachableError(self._no_connection(call, error)) from error
            except (aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
                raise UnreachableError(self._no_connection(call, error)) from error
            except TimeoutError as error:
                raise self._silent(call) from error
            except (aiohttp.ClientError, OSError) as error:
                raise _LostError from error
            finally:
                if self._on_request:
                    self._on_request(call.verb, call.resource, status, time.perf_counter() - began)

    async def _exchange(self, call: Call, material: Material, *, stream: bool) -> Answer:
        session = self._session
        if session is None or session.closed:
            raise UnreachableError(f"cannot {call.what}: the cluster was closed")
        headers = {"Accept": call.accept, **material.headers, **call.headers}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        with fenced(self.fence if call.changes else None):
            response = await session.request(
                call.method,
                URL(self._access.server + call.target, encoded=True),
                # Of what is read piece by piece, the loop does other things between the pieces.
                data=call.body if call.body is None or len(call.body) < BODY_AT_ONCE_BYTES else io.BytesIO(call.body),
                headers=_with_identity(headers, call.identity or self._default_identity),
                ssl=material.tls or True,
                server_hostname=self._access.server_name,
                proxy=self._access.proxy,
                allow_redirects=False,
            )
        if stream and response.status == 200:
            return Answer(200, response.headers, b"", response=response)
        async with response:
            body = await self._whole(call, response)
        return Answer(response.status, response.headers, body, tuple(response.headers.getall("Warning", ())))

    async def _whole(self, call: Call, response: aiohttp.ClientResponse) -> bytes:
        """What an answer holds, of which the server says neither where it ends, nor how much it is decompressed."""
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > self._limits.answer_bytes:
                response.close()
                raise endless(call, self._access.server, self._limits.answer_bytes)
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def _default_identity(self) -> Identity | None:
        act_as = self._access.user.act_as
        return Identity(*act_as) if act_as else None

    def _no_connection(self, call: Call, error: Exception) -> str:
        text = f"cannot {call.what}: no connection to {self._access.server}: "
        called = self._access.called
        if self._access.embedded:
            return text + self._of_embedded(error)
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return text + self._not_trusted(error.certificate_error)
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            origin = self._access.origin
            return (
                text + f"no TLS ({_reason(error.os_error)}): does it speak TLS, as `{called.server}` in {origin} says?"
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            host = urlsplit(self._access.server).hostname
            return text + f"the name {host} is not known; check `{called.server}` in {self._access.origin}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return text + f"the proxy answers with HTTP {error.status}"
        if isinstance(error, TimeoutError):
            patience = f"nothing answers within {self._limits.connect_s:g} s"
            return text + f"{patience}; check `{called.server}` in {self._access.origin}"
        return text + f"{_reason(error)}; is it running, and is `{called.server}` in {self._access.origin} right?"

    def _of_embedded(self, error: Exception) -> str:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return f"{_reason(error.certificate_error)}; {self._another()}"
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return f"{_reason(error.os_error)}; {self._another()}"
        return f"{_reason(error)}; {self._ended()}"

    def _ended(self) -> str:
        """What became of an embedded cluster, and what to do."""
        return (
            f"{self._access.origin} is of an embedded cluster, which is there as long as the process that serves it: "
            "start that again (`tidelog run --cluster embedded --kubeconfig-out FILE`, or `tidelog cluster up`), which "
            "writes that file anew"
        )

    def _another(self) -> str:
        return f"another server is at that address now: {self._ended()}"

    def _not_trusted(self, error: Exception) -> str:
        code, what = getattr(error, "verify_code", 0), f"its certificate is not trusted ({_reason(error)}): "
        if code in _OUT_OF_TIME:
            return what + "the server needs a new one, or one of the two clocks is wrong"
        called, origin = self._access.called, self._access.origin
        if code in _OF_ANOTHER:
            other = f", or set {called.name}," if called.name else ""
            return what + f"check `{called.server}`{other} in {origin}"
        return what + f"check {called.authority} in {origin}"

    def _silent(self, call: Call) -> ClusterError:
        text = f"cannot {call.what}: {self._access.server} did not answer within {self._limits.call_s:g} s"
        return _unanswered(call, text, UnreachableError)


class Patience:
    """How often one call is tried again while the server is busy, and how long is waited for that in all."""

    def __init__(self, call: Call, limits: Limits) -> None:
        self._call = call
        self._limits = limits
        self._tries = 0
        self._waited_s = 0.0

    def wait_s(self, status: int, body: bytes, retry_after: str | None) -> float | None:
        """How long to wait until the next try, after such an answer; None for no other try."""
        self._tries += 1
        wait_s = _busy_wait_s(self._call, status, body, retry_after)
        if wait_s is None or self._tries >= self._limits.tries or self._waited_s + wait_s > self._limits.busy_s:
            return None
        self._waited_s += wait_s
        return wait_s


def _busy_wait_s(call: Call, status: int, body: bytes, retry_after: str | None) -> float | None:
    """How long to wait until the next try, after an answer that says that the server is busy; None for no other try."""
    if not call.again or status not in {429, 503}:
        return None
    wanted = status_of(status, body, retry_after).retry_after_s
    if wanted is None:
        return BUSY_WAIT_S if status == 429 else None
    return wanted


def lost(call: Call, address: str, why: str) -> ClusterError:
    """The error for a connection that broke before there was an answer."""
    text = f"cannot {call.what}: {address} closed the connection before it answered: {why}"
    return _unanswered(call, text, UnreachableError)


def endless(call: Call, address: str, limit: int) -> ClusterError:
    """The error for an answer that is longer than it may be."""
    text = f"cannot {call.what}: the answer of {address} has more than {limit >> 20} MiB"
    return _unanswered(call, text, ServerError)


def _unanswered(call: Call, text: str, error: type[ClusterError]) -> ClusterError:
    """The error for a call of which the answer is not known: of a change, that it may have been done."""
    return OutcomeUnknown(f"{text}; it may have been done all the same") if call.changes else error(text)


def broken(call: Call, why: str) -> ClusterError:
    """The error for a stream that broke."""
    return UnreachableError(f"cannot {call.what} any longer: the connection broke: {why}")


class _LostError(Exception):
    """The connection broke after something was sent; `__cause__` is what aiohttp said."""


def garbage(call: Call, answer: Answer, why: str) -> ClusterError:
    """The error for a success whose body is not what it should be."""
    text = f"cannot {call.what}: the answer is not what a Kubernetes API gives ({why}): is there a proxy in between?"
    status = Status(answer.status)
    return OutcomeUnknown(text, status) if call.changes else ServerError(text, status)


def _with_identity(headers: dict[str, str], identity: Identity | None) -> list[tuple[str, str]]:
    found = list(headers.items())
    if identity:
        if not all(text.isprintable() for text in (identity.user, *identity.groups)):
            raise BadRequestError("the name of a user or group to act as has characters that none has")
        found.append(("Impersonate-User", identity.user))
        found += [("Impersonate-Group", group) for group in identity.groups]
    return found


def _reason(error: BaseException) -> str:
    """What went wrong, without the Python around it."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "no answer came"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer is cut short"
    verify = getattr(error, "verify_message", None)
    number = getattr(error, "errno", None)
    said = getattr(error, "strerror", None) or ""
    if verify:
        return str(verify)
    if said.startswith("[SSL"):  # the number of such an error is none of the system's
        return said.partition("] ")[2].partition(" (_ssl")[0]
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error) or type(error).__name__
