"""The port to remotes, and its two implementations: HTTP, and the one directory that the command line names."""

import ssl
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pygit2

from tidelog.engine.connector import Connector
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.address import ADVERTISEMENT, QUERY, Remote, found_at, redirected, remote_of
from tidelog.engine.sources.git.credentials import Credentials
from tidelog.engine.sources.git.pktline import ProtocolError, Refs, ask_for, read_advertisement, read_refs
from tidelog.engine.sources.intake.jobs import Transfer
from tidelog.storage.artifacts.objects import use_libgit2_alone

REDIRECTS_MAX: Final = 5
ANSWER_BYTES_MAX: Final = 64 * 2**20
"""Of references: a million of them."""
CONTEXTS_MAX: Final = 64
"""Private authorities whose TLS settings are kept."""
CONNECTIONS_MAX: Final = 64
CONNECTIONS_PER_HOST_MAX: Final = 16
READ_BYTES: Final = 2**16
AGENT: Final = "git/tidelog"
"""Some servers answer Git's protocol only to names that begin so."""


class Transport(Protocol):
    """Asks a remote, and says how to fetch from it. Every implementation keeps tests/contract/test_transport.py."""

    def key(self, url: str, credentials: Credentials) -> Hashable:
        """Equal for what is asked in the same way: the remote and who we are there."""
        ...

    async def refs(self, url: str, credentials: Credentials, prefixes: tuple[str, ...]) -> Refs:
        """The references whose whole names begin with one of `prefixes`; others may be among them.

        Raises:
            FetchError: when the remote cannot be asked; `EmptyGitRepository` when it has no reference at all.
        """
        ...

    def job(self, job: Transfer, url: str, address: str, credentials: Credentials) -> Transfer:
        """A job, completed with where to fetch from, and as whom. `address` is where the refs of `url` were found."""
        ...


class HttpTransport:
    """Repositories over HTTP(S), asked with protocol 2 where the server speaks it.

    The questions are asked here, and not by libgit2: two small requests over a connection that is kept open, with the
    redirects in our hands.
    """

    def __init__(self, fingerprint_key: bytes) -> None:
        self._key = fingerprint_key
        self._session: aiohttp.ClientSession | None = None
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            with anyio.CancelScope(shield=True):
                await session.close()
                await anyio.lowlevel.checkpoint()  # what was aborted is closed by the loop

    def key(self, url: str, credentials: Credentials) -> Hashable:
        """The address, and who we are there."""
        return url, credentials.fingerprint(self._key)

    async def refs(self, url: str, credentials: Credentials, prefixes: tuple[str, ...]) -> Refs:
        """Asks for the references; see the port."""
        remote = remote_of(url, credentials)
        context = await self._context(remote)
        try:
            found = await self._refs(remote, context, prefixes)
        except ProtocolError as error:
            why = str(error) or "it answers something else"
            raise FetchError(
                "GitOperationFailed", f"{remote.url} is no Git repository: {why}: correct spec.url"
            ) from None
        except aiohttp.ClientError as error:
            raise _told(error, remote) from None
        return found

    def job(self, job: Transfer, url: str, address: str, credentials: Credentials) -> Transfer:
        """Completes a job; see the port."""
        remote = found_at(remote_of(url, credentials), address)
        authorization = remote.credentials.authorization
        headers = (f"Authorization: {authorization}",) if authorization else ()
        return msgspec.structs.replace(job, url=remote.url, headers=headers, ca=credentials.ca)

    async def _refs(self, remote: Remote, context: ssl.SSLContext, prefixes: tuple[str, ...]) -> Refs:
        remote, data = await self._advertisement(remote, context)
        advertised = read_advertisement(data)
        if advertised is not None:
            found = advertised
        else:
            found = read_refs(await self._ask(remote, context, prefixes))
            if not found.by_name:
                found = read_refs(await self._ask(remote, context, ()))
        if not found.by_name:
            raise FetchError("EmptyGitRepository", f"{remote.url} is empty: push a first commit")
        return msgspec.structs.replace(found, address=remote.url)

    async def _advertisement(self, remote: Remote, context: ssl.SSLContext) -> tuple[Remote, bytes]:
        first = remote
        for _ in range(REDIRECTS_MAX + 1):
            url = f"{remote.url}{ADVERTISEMENT}?{QUERY}"
            headers = {"Git-Protocol": "version=2", **_authorization(remote)}
            async with self._open().get(url, headers=headers, ssl=context, allow_redirects=False) as response:
                if response.status not in {301, 302, 303, 307, 308}:
                    data = await _read(response)  # a page that nobody wants too: the connection is used again
                    _check_status(response, first, remote)
                    return remote, data
                target = redirected(remote, urljoin(url, response.headers.get("Location", "")))
                if target is None:
                    raise FetchError(
                        "GitOperationFailed", f"{remote.url} sends us to where no repository is: correct spec.url"
                    )
                remote = target
        raise FetchError("GitOperationFailed", f"{first.url} sends us round in a circle: correct spec.url")

    async def _ask(self, remote: Remote, context: ssl.SSLContext, prefixes: tuple[str, ...]) -> bytes:
        headers = {
            "Git-Protocol": "version=2",
            "Content-Type": "application/x-git-upload-pack-request",
            "Accept": "application/x-git-upload-pack-result",
            **_authorization(remote),
        }
        url = f"{remote.url}/git-upload-pack"
        async with self._open().post(
            url, data=ask_for(prefixes), headers=headers, ssl=context, allow_redirects=False
        ) as response:
            data = await _read(response)
            _check_status(response, remote, remote)
            return data

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = Connector(
                limit=CONNECTIONS_MAX,
                limit_per_host=CONNECTIONS_PER_HOST_MAX,
            )
            # The time limit is the caller's: none of aiohttp's own.
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": AGENT},
                trust_env=False,
            )
        return self._session

    async def _context(self, remote: Remote) -> ssl.SSLContext:
        ca = remote.credentials.ca
        known = self._contexts.get(ca)
        if known is None:
            try:
                known = await anyio.to_thread.run_sync(_context_of, ca)
            except ssl.SSLError:
                raise FetchError(
                    "AuthenticationFailed", "the ca.crt in spec.secretRef is no certificate: correct it", final=True
                ) from None
            self._contexts[ca] = known
            if len(self._contexts) > CONTEXTS_MAX:
                self._contexts.popitem(last=False)
        return known


class FileTransport:
    """The one repository on this machine that the command line names; no other is ever opened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    @property
    def url(self) -> str:
        """The repository's address."""
        return self._directory.as_uri()

    def serves(self, url: str) -> bool:
        """Whether `url` is the address of that repository."""
        return url.rstrip("/") == self.url

    def key(self, url: str, credentials: Credentials) -> Hashable:  # noqa: ARG002  # the port's
        """The address, and who we are there."""
        return url

    async def refs(self, url: str, credentials: Credentials, prefixes: tuple[str, ...]) -> Refs:  # noqa: ARG002  # the port's
        """Asks for the references; see the port."""
        if not self.serves(url):
            raise refused_file(url)
        return await anyio.to_thread.run_sync(_local_refs, self._directory)

    def job(self, job: Transfer, url: str, address: str, credentials: Credentials) -> Transfer:  # noqa: ARG002  # the port's
        """Completes a job; see the port."""
        if not self.serves(address):
            raise refused_file(address)
        return msgspec.structs.replace(job, directory=str(self._directory))


def refused_file(url: str) -> FetchError:
    """For an address on this machine that nobody named on the command line."""
    return FetchError(
        "URLInvalid", f"{url} is on this machine: only the repository given with --repo is read from a disk", final=True
    )


def is_file(url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(url).scheme == "file"


def _local_refs(directory: Path) -> Refs:
    use_libgit2_alone()
    try:
        git = pygit2.Repository(str(directory), pygit2.enums.RepositoryOpenFlag.NO_SEARCH)
    except pygit2.GitError:
        raise FetchError("GitOperationFailed", f"{directory} is no Git repository: correct --repo") from None
    found = {}
    for name in git.references:
        try:
            found[name] = str(git.references[name].peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            continue  # leads nowhere, or to no commit
    git.free()
    if not found:
        raise FetchError("EmptyGitRepository", f"{directory} is empty: make a first commit")
    return Refs(found, address=directory.as_uri())


def _context_of(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cadata=ca)
    return context


def _authorization(remote: Remote) -> dict[str, str]:
    value = remote.credentials.authorization
    return {"Authorization": value} if value else {}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts = []
    size = 0
    async for part in response.content.iter_chunked(READ_BYTES):
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise FetchError("GitOperationFailed", f"more than {ANSWER_BYTES_MAX} bytes of references: too many")
        parts.append(part)
    return b"".join(parts)


def _check_status(response: aiohttp.ClientResponse, first: Remote, remote: Remote) -> None:
    status = response.status
    if status == 200:
        if not response.content_type.startswith("application/x-git-upload-pack-"):
            raise ProtocolError("it answers with a page")
        return
    if status in {401, 403}:
        raise FetchError("AuthenticationFailed", _refusal(first, remote, status))
    if status in {404, 410}:
        hint = "" if remote.credentials.authorization else " or, where it is private, name a Secret in spec.secretRef"
        raise FetchError("GitOperationFailed", f"there is no repository at {remote.url}: correct spec.url{hint}")
    raise FetchError(
        "GitOperationFailed",
        f"{remote.url} answers with status {status}: it is asked again, look at the server if it stays",
    )


def _refusal(first: Remote, remote: Remote, status: int) -> str:
    if first.credentials.authorization and not remote.credentials.authorization:
        return (
            f"{first.url} sends us to {remote.url}, which does not get the credentials: "
            "put that address into spec.url if it is to have them"
        )
    if not remote.credentials.authorization:
        return f"{remote.url} asks who we are (status {status}): name a Secret with credentials in spec.secretRef"
    return f"{remote.url} refuses the credentials (status {status}): correct the Secret in spec.secretRef"


def _told(error: aiohttp.ClientError, remote: Remote) -> FetchError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        reason = getattr(error, "certificate_error", None) or error
        why = getattr(reason, "verify_message", "") or "the connection is not as TLS wants it"
        return FetchError(
            "GitOperationFailed",
            f"{remote.url}: TLS: {why}: put the certificate of its authority into ca.crt of spec.secretRef",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return FetchError("GitOperationFailed", f"{remote.url}: the host is not known: correct spec.url")
    if isinstance(error, aiohttp.ClientConnectorError):
        return FetchError("GitOperationFailed", f"{remote.url} cannot be reached: {error.os_error.strerror}")
    return FetchError("GitOperationFailed", f"{remote.url} broke the connection off: {type(error).__name__}")
