"""Downloads over HTTP: with a limit of size, a limit of time, and redirects in our own hands."""

import hashlib
import secrets
import ssl
from collections import OrderedDict
from collections.abc import Hashable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from tidelog.engine.connector import Connector
from tidelog.engine.sources.access import Tls
from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.helm.address import Address, redirected

AGENT: Final = "Helm/4.1 tidelog"
"""Some servers answer programs only that say so."""
REDIRECTS_MAX: Final = 10
CONTEXTS_MAX: Final = 64
CONNECTIONS_MAX: Final = 64
CONNECTIONS_PER_HOST_MAX: Final = 16
READ_BYTES: Final = 2**16
WRITE_BYTES: Final = 2**20
MODIFIED: Final = "Last-Modified: "
"""How a server's time is told from its tag, in what is asked with."""
_MOVED: Final = frozenset({301, 302, 303, 307, 308})


class Download(msgspec.Struct, frozen=True):
    """What is to be downloaded, and how it fails."""

    address: Address
    tls: Tls
    timeout_s: float
    bytes_max: int
    reason: FetchReason
    what: str
    """For messages, such as `the index`."""
    correct: str
    """What to look at when there is nothing: `correct spec.url`."""


class Downloaded(msgspec.Struct, frozen=True):
    """What came."""

    size: int
    sha256: str
    etag: str


class Transport:
    """One session for all repositories."""

    def __init__(self) -> None:
        # Credentials are told apart by a key that is nowhere written down.
        self._key = secrets.token_bytes(32)
        self._session: aiohttp.ClientSession | None = None
        self._contexts: OrderedDict[Tls, ssl.SSLContext] = OrderedDict()

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            with anyio.CancelScope(shield=True):
                await session.close()
                await anyio.lowlevel.checkpoint()  # what was aborted is closed by the loop

    def key(self, download: Download) -> Hashable:
        """Equal for what is asked in the same way: the address, who we are there, and whom we trust."""
        credentials = download.address.credentials.fingerprint(self._key)
        return download.address.url, credentials, download.tls, download.timeout_s, download.bytes_max

    async def download(self, wanted: Download, into: Path, etag: str = "") -> Downloaded | None:
        """Downloads into a new file; None when the server says that it is what `etag` stands for.

        Raises:
            FetchError: when it cannot be had; what is in the file then counts for nothing.
        """
        try:
            with anyio.fail_after(wanted.timeout_s):
                return await self._download(wanted, await self._context(wanted.tls), into, etag)
        except TimeoutError:
            raise FetchError(
                wanted.reason,
                f"{wanted.address.shown}: {wanted.what} was not sent within {wanted.timeout_s:g} s: "
                "raise spec.timeout of the repository, or look at the server",
            ) from None
        except aiohttp.ClientError as error:
            raise _told(error, wanted) from None

    async def _download(self, wanted: Download, context: ssl.SSLContext, into: Path, etag: str) -> Downloaded | None:
        address = wanted.address
        for _ in range(REDIRECTS_MAX + 1):
            headers = _headers(address, etag)
            async with self._open().get(address.url, headers=headers, ssl=context, allow_redirects=False) as response:
                if response.status not in _MOVED:
                    if response.status == 304 and etag:
                        return None
                    _check_status(response, wanted, address)
                    return await _take(response, wanted, into)
                address = redirected(address, response.headers.get("Location", ""), wanted.reason)
        raise FetchError(wanted.reason, f"{wanted.address.shown} sends us round in a circle: {wanted.correct}")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The time limit is the caller's: none of aiohttp's own.
            self._session = aiohttp.ClientSession(
                connector=Connector(limit=CONNECTIONS_MAX, limit_per_host=CONNECTIONS_PER_HOST_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                headers={"User-Agent": AGENT, "Accept-Encoding": "gzip"},
                trust_env=False,
            )
        return self._session

    async def _context(self, tls: Tls) -> ssl.SSLContext:
        known = self._contexts.get(tls)
        if known is None:
            known = self._contexts[tls] = await anyio.to_thread.run_sync(tls.context)
            if len(self._contexts) > CONTEXTS_MAX:
                self._contexts.popitem(last=False)
        return known


def _headers(address: Address, etag: str) -> dict[str, str]:
    headers = {}
    if address.credentials.authorization:
        headers["Authorization"] = address.credentials.authorization
    if etag.startswith(MODIFIED):
        headers["If-Modified-Since"] = etag.removeprefix(MODIFIED)
    elif etag:
        headers["If-None-Match"] = etag
    return headers


async def _take(response: aiohttp.ClientResponse, wanted: Download, into: Path) -> Downloaded:
    digest = hashlib.sha256()
    size = 0
    waiting: list[bytes] = []
    if (response.content_length or 0) > wanted.bytes_max:
        raise _too_large(wanted)
    async with await anyio.open_file(into, "xb") as file:
        async for part in response.content.iter_chunked(READ_BYTES):
            size += len(part)
            if size > wanted.bytes_max:
                raise _too_large(wanted)
            digest.update(part)
            waiting.append(part)
            if len(waiting) * READ_BYTES >= WRITE_BYTES:
                await file.write(b"".join(waiting))
                waiting = []
        await file.write(b"".join(waiting))
    modified = response.headers.get("Last-Modified", "")
    return Downloaded(size, digest.hexdigest(), response.headers.get("ETag") or (modified and MODIFIED + modified))


def _too_large(wanted: Download) -> FetchError:
    return FetchError(
        wanted.reason,
        f"{wanted.address.shown}: {wanted.what} has more than the {wanted.bytes_max} bytes that are taken at most",
        final=True,
    )


def _check_status(response: aiohttp.ClientResponse, wanted: Download, address: Address) -> None:
    status = response.status
    if status == 200:
        return
    if status in {401, 403}:
        raise FetchError("AuthenticationFailed", _refusal(wanted.address, address, status))
    if status in {404, 410}:
        hint = "" if address.credentials.authorization else " or, where it is private, name a Secret in spec.secretRef"
        raise FetchError(wanted.reason, f"{wanted.what} is not at {address.shown}: {wanted.correct}{hint}")
    later = _later(response)
    raise FetchError(
        wanted.reason,
        f"{address.shown} answers with status {status}{later}: it is asked again, look at the server if it stays",
    )


def _later(response: aiohttp.ClientResponse) -> str:
    """What a busy server says of when to come again."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit() and len(value) < 10:
        return f" and wants to be left alone for {int(value)} s"
    try:
        return f" and wants to be left alone until {parsedate_to_datetime(value).isoformat()}"
    except ValueError:
        return ""


def _refusal(first: Address, address: Address, status: int) -> str:
    if first.credentials.authorization and not address.credentials.authorization:
        return (
            f"{first.shown} sends us to {address.shown}, which does not get the credentials (status {status}): "
            "put that address into spec.url if it is to have them"
        )
    if not address.credentials.authorization:
        return (
            f"{address.shown} asks who we are (status {status}): name a Secret with credentials in spec.secretRef; "
            "where charts are on another host than the index, set spec.passCredentials"
        )
    return f"{address.shown} refuses the credentials (status {status}): correct the Secret in spec.secretRef"


def _told(error: aiohttp.ClientError, wanted: Download) -> FetchError:
    shown = wanted.address.shown
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        reason = getattr(error, "certificate_error", None) or error
        why = getattr(reason, "verify_message", "") or "the connection is not as TLS wants it"
        message = f"{shown}: TLS: {why}: put the certificate of its authority into ca.crt of spec.certSecretRef"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        message = f"{shown}: the host is not known: {wanted.correct}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        message = f"{shown} cannot be reached: {error.os_error.strerror}"
    elif isinstance(error, aiohttp.ClientPayloadError):
        message = (
            f"{shown}: {wanted.what} was broken off before its end: it is asked again, look at the server if it stays"
        )
    else:
        message = f"{shown} broke the connection off: {type(error).__name__}"
    return FetchError(wanted.reason, message)
