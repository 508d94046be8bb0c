"""Asks registries, by the OCI distribution specification.

Credentials go to the registry itself, and to the token server that it names; never to where it sends us on.
"""

import hashlib
import secrets
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError, ProxyType
from yarl import URL

from tidelog.engine.connector import Connector
from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci.answers import Question, Reach, broken, refused
from tidelog.engine.sources.oci.challenge import Challenge, challenge_of
from tidelog.engine.sources.oci.spec import LayerDescriptor
from tidelog.engine.sources.oci.wire import ACCEPT, TagList, Token
from tidelog.events.typed import decoder

REDIRECTS_MAX: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MANIFEST_BYTES_MAX: Final = 4 * 2**20
"""What registries are told to take at least, and take at most."""
PAGE_BYTES_MAX: Final = 4 * 2**20
TOKEN_BYTES_MAX: Final = 2**20
REFUSAL_BYTES_MAX: Final = 2**16
TAGS_PER_PAGE: Final = 1000
PAGES_MAX: Final = 1000
TAGS_MAX: Final = 200_000
READ_BYTES: Final = 2**16
WRITE_BYTES: Final = 2**20
TOKEN_MARGIN_S: Final = 10.0
"""A token that ends so soon is not used any more."""
STATES_MAX: Final = 1024
TOKENS_MAX: Final = 1024
CONTEXTS_MAX: Final = 64
SESSIONS_MAX: Final = 64
CONNECTIONS_MAX: Final = 64
CONNECTIONS_PER_HOST_MAX: Final = 16
AGENT: Final = "tidelog"
SOCKS_ERRORS: Final = (ProxyError, ProxyConnectionError, ProxyTimeoutError)

K = TypeVar("K")
V = TypeVar("V")


class _SocksConnector(Connector, ProxyConnector):
    """Through a SOCKS proxy; what is given up is broken off too."""


class _State:
    """What is known of a registry, as one client of it: how it is spoken to, what it asks for, and its tokens."""

    def __init__(self) -> None:
        self.scheme = ""
        self.challenge: Challenge | None = None
        self.tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """By scope: the token, and until when it is good, by our own clock."""


class Registry:
    """Connections to registries, and what was learnt of them. To be closed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Credentials are told apart by a key that is nowhere written down.
        self._key = secrets.token_bytes(32)
        self._sessions: OrderedDict[Proxy | None, aiohttp.ClientSession] = OrderedDict()
        self._contexts: OrderedDict[Tls, ssl.SSLContext] = OrderedDict()
        self._states: OrderedDict[Hashable, _State] = OrderedDict()

    async def aclose(self) -> None:
        """Closes the connections."""
        sessions, self._sessions = self._sessions, OrderedDict()
        with anyio.CancelScope(shield=True):
            for session in sessions.values():
                await session.close()
            await anyio.lowlevel.checkpoint()  # what was aborted is closed by the loop

    def key(self, reach: Reach) -> Hashable:
        """Equal for what is asked in the same way: the repository, who we are there, and the way to it."""
        return reach.repository, self._client(reach)

    async def digest(self, reach: Reach, tag: str) -> str | None:
        """The digest that a tag leads to; None where the registry does not say it without the manifest.

        Raises:
            FetchError: when it cannot be asked, or does not have it.
        """
        question = Question(f"the tag {tag!r}", "OCIArtifactPullFailed")
        path = f"manifests/{tag}"
        async with self._answer(reach, question, "HEAD", path, {"Accept": ACCEPT}) as response:
            if response.status in {429, 503}:
                raise await _refused(reach, question, response)
            if response.status != 200:
                return None  # HEAD has no body that would say why, and some registries refuse it: the manifest tells
            return response.headers.get("Docker-Content-Digest")

    async def manifest(self, reach: Reach, reference: str) -> tuple[str, bytes]:
        """A manifest or an index by tag or digest, and its digest, which was computed here.

        Raises:
            FetchError: when it cannot be asked, does not have it, or what it sends is not what was asked for.
        """
        is_digest = ":" in reference
        what = f"the manifest {reference}" if is_digest else f"the tag {reference!r}"
        question = Question(what, "OCIArtifactPullFailed")
        async with self._answer(reach, question, "GET", f"manifests/{reference}", {"Accept": ACCEPT}) as response:
            await _check(reach, question, response)
            body = await _read(response, MANIFEST_BYTES_MAX, reach, question)
            said = response.headers.get("Docker-Content-Digest", "")
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        wanted = reference if is_digest else said if said.startswith("sha256:") else digest
        if digest != wanted:
            raise FetchError(
                "OCIArtifactPullFailed",
                f"{reach.repository}: {what}: what the registry sends has the digest {digest}, and it should be "
                f"{wanted}: look at the registry, or at what stands before it",
            )
        return digest, body

    async def tags(self, reach: Reach) -> list[str]:
        """All tags of a repository.

        Raises:
            FetchError: when it cannot be asked, or has no end.
        """
        question = Question("the list of tags", "ReadOperationFailed")
        found: list[str] = []
        seen = set()
        path = f"tags/list?n={TAGS_PER_PAGE}"
        for _ in range(PAGES_MAX):
            async with self._answer(reach, question, "GET", path, {"Accept": "application/json"}) as response:
                await _check(reach, question, response)
                page = _decoded(await _read(response, PAGE_BYTES_MAX, reach, question), TagList, reach, question)
                following = _next_page(response, reach, question)
            found += page.tags or ()
            if len(found) > TAGS_MAX:
                raise FetchError(
                    question.reason, f"{reach.repository} has more than {TAGS_MAX} tags: name one in spec.ref.tag"
                )
            if following is None:
                return found
            if following in seen:
                break
            seen.add(following)
            path = following
        raise FetchError(
            question.reason,
            f"{reach.repository}: the list of tags has no end: name one in spec.ref.tag, or look at the registry",
        )

    async def small(self, reach: Reach, path: str, question: Question, limit: int, accept: str) -> bytes | None:
        """A small document of the repository, at a path below its name; None when it is not there.

        Raises:
            FetchError: when it cannot be asked, or the document has more than `limit` bytes.
        """
        async with self._answer(reach, question, "GET", path, {"Accept": accept}) as response:
            if response.status == 404:
                return None
            await _check(reach, question, response)
            return await _read(response, limit, reach, question)

    async def blob(self, reach: Reach, layer: LayerDescriptor, into: Path, limit: int) -> None:
        """Writes a blob into a new file, which is there, whole and of that digest, when this returns, and else is not.

        Raises:
            FetchError: when it cannot be had, or is not what the manifest says.
        """
        question = Question(f"the layer {layer.digest}", "OCIArtifactLayerOperationFailed")
        if layer.size > limit:
            raise _too_large(reach, question, limit)
        async with self._answer(reach, question, "GET", f"blobs/{layer.digest}", {}) as response:
            await _check(reach, question, response)
            file = await anyio.to_thread.run_sync(_File, into)
            try:
                await _copy(response, file, layer, reach, question)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(file.drop)
                raise

    # How it is asked.

    @asynccontextmanager
    async def _answer(
        self, reach: Reach, question: Question, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, of whatever status but 401: who we are is said when it is asked for."""
        state = self._state(reach)
        base = await self._base(state, reach, question)
        # A page of tags names the next with its whole path.
        url = base.join(URL(path, encoded=True)) if path.startswith("/") else base / "v2" / reach.repository.name
        if not path.startswith("/"):
            url = URL(f"{url}/{path}", encoded=True)
        for attempt in range(2):
            authorization = await self._authorization(state, reach, question)
            response = await self._follow(reach, question, method, url, headers, authorization)
            try:
                # Where it sent us on has no say in who we are.
                if response.status == 401 and attempt == 0 and response.url.origin() == url.origin():
                    await self._challenged(state, reach, question, response, authorization)
                    continue
                if response.status == 401:
                    raise await _refused(reach, question, response)
                try:
                    yield response
                except aiohttp.ClientError as error:
                    raise broken(error, reach, question, response.url.host or "") from None
                return
            finally:
                response.release()

    async def _challenged(
        self, state: _State, reach: Reach, question: Question, response: aiohttp.ClientResponse, given: str | None
    ) -> None:
        """Takes in what the registry asks for, so that the next attempt says it."""
        found = challenge_of(response.headers.getall("WWW-Authenticate", ()))
        state.tokens.pop(reach.repository.name, None)
        if found is None or (found.scheme == "basic" and (given is not None or reach.credentials.basic is None)):
            raise await _refused(reach, question, response)
        state.challenge = found
        await _drain(response)  # so that the connection is used again

    async def _follow(
        self,
        reach: Reach,
        question: Question,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        authorization: str | None,
    ) -> aiohttp.ClientResponse:
        """The answer at the end of redirects. Another host, port or scheme does not get to know who we are."""
        here = url
        for _ in range(REDIRECTS_MAX + 1):
            is_home = here.origin() == url.origin()
            sent = {**headers, "Authorization": authorization} if authorization and is_home else headers
            response = await self._send(reach, question, method, here, sent, is_home=is_home)
            if response.status not in REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.release()
            here = _redirected(here, location, reach, question)
        raise FetchError(
            question.reason, f"{reach.repository}: {question.what}: the registry sends us round in a circle"
        )

    async def _send(
        self, reach: Reach, question: Question, method: str, url: URL, headers: Mapping[str, str], *, is_home: bool
    ) -> aiohttp.ClientResponse:
        context = await self._context(reach, is_home=is_home)
        try:
            return await self._raw(reach, method, url, context, headers=headers)
        except aiohttp.ClientError as error:
            self._state(reach).scheme = ""
            raise broken(error, reach, question, url.host or "") from None
        except SOCKS_ERRORS:
            raise _socks(reach, question) from None

    async def _raw(
        self,
        reach: Reach,
        method: str,
        url: URL,
        context: ssl.SSLContext,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        proxy = None if reach.proxy is None or _is_socks(reach.proxy) else reach.proxy
        return await self._session(reach).request(
            method,
            url,
            headers=headers,
            data=data,
            ssl=context,
            allow_redirects=False,
            proxy=proxy.url if proxy else None,
        )

    async def _base(self, state: _State, reach: Reach, question: Question) -> URL:
        """The registry's address. Plain HTTP only where it may be, and TLS is not spoken."""
        host = reach.repository.host
        if not state.scheme:
            may_be_plain = reach.insecure or reach.repository.is_local
            state.scheme = await self._probe(reach, question, host) if may_be_plain else "https"
        return URL(f"{state.scheme}://{host}")

    async def _probe(self, reach: Reach, question: Question, host: str) -> str:
        context = await self._context(reach, is_home=True)
        first: aiohttp.ClientError | None = None
        for scheme in ("https", "http"):
            try:
                response = await self._raw(reach, "GET", URL(f"{scheme}://{host}/v2/"), context)
            except aiohttp.ClientConnectorCertificateError as error:
                raise broken(error, reach, question, host) from None  # it does speak TLS
            except aiohttp.ClientError as error:
                # Of the two the one that says more: that TLS is not spoken is known.
                first = error if first is None or isinstance(first, aiohttp.ClientSSLError) else first
                continue
            except SOCKS_ERRORS:
                raise _socks(reach, question) from None
            response.release()
            _check_plain(scheme, reach)
            return scheme
        assert first is not None  # noqa: S101  # one of two attempts failed
        raise broken(first, reach, question, host)

    # Who we are.

    async def _authorization(self, state: _State, reach: Reach, question: Question) -> str | None:
        challenge, credentials = state.challenge, reach.credentials
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return credentials.basic
        if credentials.token:
            return f"Bearer {credentials.token}"
        scope = reach.repository.name
        known = state.tokens.get(scope)
        if known is None or known[1] <= self._clock():
            token = await self._token(state, reach, challenge, question)
            known = (token.value, self._clock() + token.lasts_s - TOKEN_MARGIN_S)
            _remember(state.tokens, scope, known, TOKENS_MAX)
        return f"Bearer {known[0]}"

    async def _token(self, state: _State, reach: Reach, challenge: Challenge, question: Question) -> Token:
        """A token for reading the repository, of the server that the registry names."""
        asked = Question(f"{question.what}: a token for it", question.reason)
        realm = _realm(challenge, state.scheme, reach, asked)
        wanted = {"service": challenge.service, "scope": f"repository:{reach.repository.name}:pull"}
        credentials = reach.credentials
        is_home = realm.host == URL(f"https://{reach.repository.host}").host
        context = await self._context(reach, is_home=is_home)
        try:
            if credentials.identity_token:
                form = {**wanted, "grant_type": "refresh_token", "client_id": AGENT}
                form["refresh_token"] = credentials.identity_token
                response = await self._raw(reach, "POST", realm, context, data=form)
            else:
                basic = {"Authorization": credentials.basic} if credentials.basic else {}
                url = realm.extend_query({name: value for name, value in wanted.items() if value})
                response = await self._raw(reach, "GET", url, context, headers=basic)
            try:
                await _check(reach, asked, response)
                token = _decoded(await _read(response, TOKEN_BYTES_MAX, reach, asked), Token, reach, asked)
            finally:
                response.release()
        except aiohttp.ClientError as error:
            raise broken(error, reach, asked, realm.host or "") from None
        except SOCKS_ERRORS:
            raise _socks(reach, asked) from None
        if not token.value or not token.value.isprintable():
            raise FetchError(asked.reason, f"{reach.repository}: {realm.host} gives no token: look at the registry")
        return token

    # What is kept.

    def _client(self, reach: Reach) -> Hashable:
        return reach.credentials.fingerprint(self._key), reach.insecure, reach.tls, reach.proxy

    def _state(self, reach: Reach) -> _State:
        key = (reach.repository.host, self._client(reach))
        known = self._states.get(key) or _State()
        _remember(self._states, key, known, STATES_MAX)
        return known

    async def _context(self, reach: Reach, *, is_home: bool) -> ssl.SSLContext:
        tls = reach.tls
        if reach.insecure and tls == PLAIN_TLS:
            tls = Tls(verify=False)
        if not is_home:
            tls = Tls(ca=tls.ca, verify=tls.verify)  # our certificate says who we are, too
        known = self._contexts.get(tls)
        if known is None:
            known = await anyio.to_thread.run_sync(tls.context)
        _remember(self._contexts, tls, known, CONTEXTS_MAX)
        return known

    def _session(self, reach: Reach) -> aiohttp.ClientSession:
        key = reach.proxy if reach.proxy is not None and _is_socks(reach.proxy) else None
        known = self._sessions.get(key)
        if known is None:
            known = aiohttp.ClientSession(
                connector=_connector(key),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the caller's: none of aiohttp's own
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
                auto_decompress=False,  # digests are of what is sent
                trust_env=False,
            )
            if len(self._sessions) >= SESSIONS_MAX:
                raise FetchError("Failed", f"more than {SESSIONS_MAX} SOCKS proxies at once: use fewer")
            self._sessions[key] = known
        return known


class _File:
    """A new file that is filled while its digest is computed. Blocks; for worker threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def close(self) -> str:
        self._file.close()
        return f"sha256:{self._hash.hexdigest()}"

    def drop(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


async def _copy(
    response: aiohttp.ClientResponse, file: _File, layer: LayerDescriptor, reach: Reach, question: Question
) -> None:
    waiting = bytearray()
    async for part in response.content.iter_chunked(READ_BYTES):
        waiting += part
        if file.size + len(waiting) > layer.size:
            break
        if len(waiting) >= WRITE_BYTES:
            await anyio.to_thread.run_sync(file.write, bytes(waiting))
            waiting.clear()
    await anyio.to_thread.run_sync(file.write, bytes(waiting))
    digest = await anyio.to_thread.run_sync(file.close)
    if file.size != layer.size:
        more = "more" if file.size > layer.size else f"{file.size}"
        raise FetchError(
            question.reason,
            f"{reach.repository}: {question.what} should have {layer.size} bytes, and the registry sends {more}: "
            "it is asked again, look at the registry if it stays",
        )
    if digest != layer.digest:
        raise FetchError(
            question.reason,
            f"{reach.repository}: {question.what}: what the registry sends has the digest {digest}: look at the "
            "registry, or at what stands before it",
        )


async def _check(reach: Reach, question: Question, response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise await _refused(reach, question, response)


async def _refused(reach: Reach, question: Question, response: aiohttp.ClientResponse) -> FetchError:
    body = await _drain(response)
    return refused(reach, question, response.status, body, response.headers.get("Retry-After"))


async def _drain(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of a body that is not needed."""
    body = bytearray()
    try:
        async for part in response.content.iter_chunked(READ_BYTES):
            body += part
            if len(body) >= REFUSAL_BYTES_MAX:
                break
    except aiohttp.ClientError:
        pass  # what was said is said
    return bytes(body)


async def _read(response: aiohttp.ClientResponse, limit: int, reach: Reach, question: Question) -> bytes:
    body = bytearray()
    async for part in response.content.iter_chunked(READ_BYTES):
        body += part
        if len(body) > limit:
            raise _too_large(reach, question, limit)
    return bytes(body)


def _too_large(reach: Reach, question: Question, limit: int) -> FetchError:
    size = f"{limit >> 20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return FetchError(question.reason, f"{reach.repository}: {question.what} has more than {size}, which is the limit")


def _decoded(body: bytes, kind: type[V], reach: Reach, question: Question) -> V:
    try:
        return decoder(kind)(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FetchError(
            question.reason,
            f"{reach.repository}: {question.what}: what answers is no OCI registry: correct spec.url, or look at what "
            "stands before it",
        ) from None


def _next_page(response: aiohttp.ClientResponse, reach: Reach, question: Question) -> str | None:
    """The path of the page that `Link` names as the next."""
    link = response.links.get("next")
    if link is None:
        return None
    target = link["url"]
    if not isinstance(target, URL) or target.origin() != response.url.origin():
        raise FetchError(
            question.reason, f"{reach.repository}: {question.what} goes on at another host, which is not asked"
        )
    return target.raw_path_qs


def _redirected(here: URL, location: str, reach: Reach, question: Question) -> URL:
    try:
        target = here.join(URL(location, encoded=True))
    except ValueError:
        target = URL()
    if not location or target.scheme not in {"http", "https"} or not target.host:
        raise FetchError(question.reason, f"{reach.repository}: {question.what}: the registry sends us to no address")
    if here.scheme == "https" and target.scheme == "http" and not reach.insecure:
        raise FetchError(
            question.reason,
            f"{reach.repository}: {question.what}: the registry sends us from https to http at {target.host}, where we "
            "do not go: look at the registry",
        )
    return target


def _realm(challenge: Challenge, scheme: str, reach: Reach, question: Question) -> URL:
    """Where tokens are given. Over plain HTTP only where the registry itself is spoken to so."""
    try:
        realm = URL(challenge.realm)
    except ValueError:
        realm = URL()
    if realm.scheme not in {"http", "https"} or not realm.host or realm.user:
        raise FetchError(question.reason, f"{reach.repository}: {question.what}: the registry names no server for it")
    if realm.scheme == "http" and scheme == "https":
        raise FetchError(
            "AuthenticationFailed",
            f"{reach.repository}: {question.what}: its server {realm.host} speaks plain HTTP, and gets no credentials: "
            "look at the registry",
        )
    return realm


def _check_plain(scheme: str, reach: Reach) -> None:
    if scheme == "http" and not (reach.insecure or reach.repository.is_loopback or reach.credentials.is_anonymous):
        raise FetchError(
            "AuthenticationFailed",
            f"{reach.repository} speaks plain HTTP, and gets no credentials: set spec.insecure if it is to have them",
        )


def _socks(reach: Reach, question: Question) -> FetchError:
    address = reach.proxy.address if reach.proxy else ""
    return FetchError(
        question.reason,
        f"{reach.repository}: {question.what}: the proxy {address} does not let us through: "
        "correct spec.proxySecretRef",
    )


def _is_socks(proxy: Proxy) -> bool:
    return proxy.address.startswith("socks5")


def _connector(socks: Proxy | None) -> Connector:
    if socks is None:
        return Connector(limit=CONNECTIONS_MAX, limit_per_host=CONNECTIONS_PER_HOST_MAX)
    address = URL(socks.address)
    return _SocksConnector(
        host=address.host or "",
        port=address.port or 1080,
        proxy_type=ProxyType.SOCKS5,
        username=socks.username or None,
        password=socks.password or None,
        limit=CONNECTIONS_MAX,
        limit_per_host=CONNECTIONS_PER_HOST_MAX,
    )


def _remember(known: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)
