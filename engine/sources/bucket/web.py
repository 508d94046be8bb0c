"""Requests to S3 and STS over aiohttp, through a proxy where there is one."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed's

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from yarl import URL

from tidelog.engine.connector import Connector
from tidelog.engine.sources.access import Proxy, Tls
from tidelog.engine.sources.bucket.answers import ANSWER_BYTES_MAX
from tidelog.engine.sources.bucket.remote import CONNECT_S, PROXY_ASKS, READ_BYTES, proxy_refused
from tidelog.engine.sources.errors import FetchError

AGENT: Final = "tidelog"


class Way(msgspec.Struct, frozen=True):
    """A session, and the proxy that its requests take."""

    session: aiohttp.ClientSession
    proxy: Proxy | None

    @asynccontextmanager
    async def request(self, method: str, url: str, headers: dict[str, str], where: str) -> AsyncIterator[Any]:
        """One request; `where` names its address in messages.

        Raises:
            FetchError: when there is no answer, or it breaks off.
        """
        async with self._sent(method, url, where, headers=headers) as response:
            yield response

    async def post(self, url: str, form: dict[str, str], where: str) -> tuple[int, bytes]:
        """Sends a form; returns status and answer."""
        async with self._sent("POST", url, where, data=form) as response:
            return response.status, await read(response, where)

    @asynccontextmanager
    async def _sent(self, method: str, url: str, where: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self.proxy is not None:
            more["proxy"] = URL(self.proxy.address)
            if self.proxy.username:
                pair = f"{self.proxy.username}:{self.proxy.password}".encode()
                ours = {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
                # A tunnel is asked for with them; else the request itself is the proxy's.
                name = "proxy_headers" if url.startswith("https://") else "headers"
                more[name] = {**more.get(name, {}), **ours}
        try:
            async with self.session.request(method, URL(url, encoded=True), allow_redirects=False, **more) as response:
                if response.status == PROXY_ASKS:
                    raise proxy_refused(where, PROXY_ASKS)
                yield response
        except aiohttp.ClientError as error:
            raise told(error, where) from None


@asynccontextmanager
async def way_to(url: str, tls: Tls, proxy: Proxy | None, *, at_once: int) -> AsyncIterator[Way]:
    """Connections that are closed at the end."""
    taken = proxy or environment_proxy(url)
    needs_tls = url.startswith("https://") or (taken is not None and taken.address.startswith("https://"))
    context = await anyio.to_thread.run_sync(tls.context) if needs_tls else True
    session = aiohttp.ClientSession(
        connector=Connector(limit=at_once, ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        # The time limit of the whole is the caller's.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )
    try:
        yield Way(session, taken)
    finally:
        with anyio.CancelScope(shield=True):
            await session.close()
            await anyio.lowlevel.checkpoint()  # what was aborted is closed by the loop


def environment_proxy(url: str) -> Proxy | None:
    """The proxy that the environment names, for it is the one that obstore takes too."""
    parts = urlsplit(url)
    address = getproxies_environment().get(parts.scheme, "")
    if not address or proxy_bypass_environment(parts.hostname or ""):
        return None
    found = urlsplit(address if "://" in address else f"http://{address}")
    host = found.netloc.rpartition("@")[2]
    return Proxy(
        address=f"{found.scheme}://{host}",
        username=found.username or "",
        password=found.password or "",
    )


async def read(response: aiohttp.ClientResponse, where: str) -> bytes:
    """The whole of an answer.

    Raises:
        FetchError: when it is too large.
    """
    parts = []
    size = 0
    async for part in response.content.iter_chunked(READ_BYTES):
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise FetchError("BucketOperationFailed", f"{where} answers with more than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def told(error: aiohttp.ClientError, where: str) -> FetchError:
    """What happened, without the addresses and headers that aiohttp's own words may have."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        reason = getattr(error, "certificate_error", None) or error
        why = getattr(reason, "verify_message", "") or "the connection is not as TLS wants it"
        return FetchError(
            "BucketOperationFailed",
            f"{where}: TLS: {why}: put the certificate of its authority into ca.crt of the Secret in "
            "spec.certSecretRef, or set spec.insecure where there is no TLS",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return proxy_refused(where, error.status)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return FetchError("BucketOperationFailed", f"{where}: the host is not known: correct the endpoint")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        why = error.os_error.strerror or "no answer"
        return FetchError(
            "BucketOperationFailed", f"{where}: the proxy cannot be reached: {why}: correct spec.proxySecretRef"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        why = error.os_error.strerror or "no answer"
        return FetchError(
            "BucketOperationFailed", f"{where} cannot be reached: {why}: correct the endpoint, or look at the server"
        )
    return FetchError(
        "BucketOperationFailed", f"{where} broke the connection off ({type(error).__name__}): it is asked again"
    )
