"""Reads Helm repositories and fetches charts: what is asked for at once is asked once."""

import shutil
import tempfile
from collections.abc import Callable, Hashable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.address import Address, chart_at, index_of, repository_at
from tidelog.engine.sources.helm.credentials import ANONYMOUS, Credentials
from tidelog.engine.sources.helm.index import spool_of
from tidelog.engine.sources.helm.jobs import Read, ReadIndex
from tidelog.engine.sources.helm.kept import Kept
from tidelog.engine.sources.helm.spec import ChartVersion, IndexRead, RepositorySpec, Unchanged
from tidelog.engine.sources.helm.transport import Download, Downloaded, Transport
from tidelog.engine.sources.helm.workers import Workers
from tidelog.engine.sources.limits import HELM_LIMITS, HelmLimits
from tidelog.engine.sources.shared import Shared
from tidelog.engine.tasks import leave, tasks_in
from tidelog.events.digest import Digest
from tidelog.events.names import Revision

T = TypeVar("T")
TAKE_TRIES: Final = 3
_SHA256_HEX: Final = 64


class FetchedChart(msgspec.Struct, frozen=True):
    """A chart's archive, as the repository has it."""

    path: Path
    size: int
    digest: Digest


class HelmFetcher:
    """Reads indexes and fetches charts, while it is entered.

    Files that it gives may be links to files that it keeps: they are never to be written.

    Args:
        workers: for reading; by default its own.
        limits: how large indexes and charts may be; those of the workers, where these are given.
        directory: where it keeps files, in a directory of its own that goes with it; by default where temporary files
            are. On the disk where they are wanted, they are linked instead of copied.
    """

    def __init__(
        self,
        *,
        workers: Workers | None = None,
        limits: HelmLimits = HELM_LIMITS,
        directory: Path | None = None,
    ) -> None:
        self._directory = directory
        self.workers = workers or Workers(limits=limits)
        self.limits = self.workers.limits
        self._transport = Transport()
        self._one = anyio.CapacityLimiter(1)
        self._entered = AsyncExitStack()
        self._kept: Kept
        self._indexes: Shared[IndexRead | Unchanged]
        self._charts: Shared[None]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as entered:
            scratch = await anyio.to_thread.run_sync(tempfile.mkdtemp, "", "tidelog-helm-", self._directory)
            entered.push_async_callback(anyio.to_thread.run_sync, _remove, scratch)
            self._kept = Kept(Path(scratch))
            entered.push_async_callback(self._transport.aclose)
            await entered.enter_async_context(self.workers)
            tasks = await tasks_in(entered)
            self._indexes = Shared(tasks)
            self._charts = Shared(tasks)
            self._entered = entered.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await leave(self._entered, kind, error, traceback)

    async def index(
        self,
        spec: RepositorySpec,
        into: Path,
        *,
        credentials: Credentials = ANONYMOUS,
        tls: Tls = PLAIN_TLS,
        etag: str = "",
        revision: str = "",
    ) -> IndexRead | Unchanged:
        """Reads a repository's index; the JSON of it is then at `into`.

        Args:
            spec: what is asked for.
            into: where the JSON goes; replaced in one step.
            credentials: who we are to the repository.
            tls: whom we trust, and who we are.
            etag: as it was given with the index that the caller has; empty when it has none.
            revision: of the index that the caller has; for servers that give nothing to ask with.

        Raises:
            FetchError: `URLInvalid`, `AuthenticationFailed`, `Failed`, `IndexationFailed` (contract HP-016).
        """
        wanted = Download(
            address=index_of(repository_at(spec.url, credentials)),
            tls=tls,
            timeout_s=spec.timeout_s,
            bytes_max=self.limits.index_bytes,
            reason="Failed",
            what="the index",
            correct="correct spec.url",
        )
        key = ("index", self._transport.key(wanted))
        for _ in range(TAKE_TRIES):
            found = await self._indexes.run(
                (key, etag, revision), lambda: self._read(wanted, key, etag=etag, revision=revision)
            )
            if isinstance(found, Unchanged):
                return found
            read = await self._in_turn(self._kept.take, key, into)
            if isinstance(read, IndexRead):  # which may be newer than what was found
                return msgspec.structs.replace(read, stored=into)
        raise FetchError("Failed", f"{wanted.address.shown}: there is no room to keep the index")

    async def chart(
        self,
        spec: RepositorySpec,
        version: ChartVersion,
        into: Path,
        *,
        credentials: Credentials = ANONYMOUS,
        tls: Tls = PLAIN_TLS,
    ) -> FetchedChart:
        """Fetches a chart's archive to `into`. Its digest is the one that the index has, where it has a SHA-256.

        A chart that was just fetched, by anybody with the same credentials, is not fetched again.

        Raises:
            FetchError: `ChartPullError`, `AuthenticationFailed`.
        """
        repository = repository_at(spec.url, credentials)
        if not version.urls:
            raise FetchError(
                "ChartPullError",
                f"{repository.shown}: the index has no address of {version.name!r} {version.version}: "
                "it has to be corrected",
                final=True,
            )
        wanted = Download(
            address=chart_at(repository, version.urls[0], pass_credentials=spec.pass_credentials),
            tls=tls,
            timeout_s=spec.timeout_s,
            bytes_max=self.limits.chart_bytes,
            reason="ChartPullError",
            what=f"the chart {version.name!r} {version.version}",
            correct="the index of the repository names it, and has to be corrected",
        )
        digest = _sha256_of(version)
        key = ("chart", self._transport.key(wanted), digest)
        known = await self._in_turn(self._kept.take, key, into) if digest else None
        for _ in range(TAKE_TRIES):
            if isinstance(known, FetchedChart):
                return msgspec.structs.replace(known, path=into)
            await self._charts.run(key, lambda: self._fetch(wanted, key, digest))
            known = await self._in_turn(self._kept.take, key, into)
        raise FetchError("ChartPullError", f"{wanted.address.shown}: there is no room to keep the chart")

    async def _read(self, wanted: Download, key: Hashable, *, etag: str, revision: str) -> IndexRead | Unchanged:
        known: IndexRead | None = await self._in_turn(self._kept.told, key)
        asked = etag or (known.etag if known is not None else "")
        source = await self._in_turn(self._kept.place)
        try:
            came = await self._transport.download(wanted, source, asked)
            if came is None:
                return Unchanged(asked) if etag or known is None else known
            found = Revision(f"sha256:{came.sha256}")
            if found == revision:
                return Unchanged(came.etag)
            if known is not None and known.revision == found:
                return msgspec.structs.replace(known, etag=came.etag)
            return await self._index(wanted.address, key, source, came)
        finally:
            await self._drop(source)

    async def _index(self, address: Address, key: Hashable, source: Path, came: Downloaded) -> IndexRead:
        stored = await self._in_turn(self._kept.place)
        try:
            answer = await self.workers.run(ReadIndex(str(source), str(stored), address.shown))
            assert isinstance(answer, Read)  # noqa: S101 - a worker answers each job in its own way
            made = answer.made
            read = IndexRead(
                revision=Revision(f"sha256:{came.sha256}"),
                size=came.size,
                etag=came.etag,
                stored=stored,
                stored_size=made.size,
                digest=Digest(f"sha256:{made.digest}"),
                charts=made.charts,
                versions=made.versions,
                skipped=made.skipped,
            )
        except BaseException:
            await self._drop(stored)
            await self._drop(spool_of(stored))
            raise
        await self._in_turn(self._kept.keep, key, stored, read)
        return read

    async def _fetch(self, wanted: Download, key: Hashable, digest: str) -> None:
        place = await self._in_turn(self._kept.place)
        try:
            came = await self._transport.download(wanted, place)
            assert came is not None  # noqa: S101 - it was asked for without a tag
            if digest and came.sha256 != digest:
                raise FetchError(
                    "ChartPullError",
                    f"{wanted.address.shown}: {wanted.what} has the digest {came.sha256}, and the index says {digest}: "
                    "the repository has to be indexed again, or somebody changed the chart",
                )
        except BaseException:
            await self._drop(place)
            raise
        told = FetchedChart(place, came.size, Digest(f"sha256:{came.sha256}"))
        await self._in_turn(self._kept.keep, key, place, told)

    async def _drop(self, path: Path) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_unlink, path)

    async def _in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """What is kept is looked at in a thread, one at a time."""
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._one)


def _sha256_of(version: ChartVersion) -> str:
    """The digest in the index; empty where it is another one, which Helm does not look at either."""
    digest = version.digest.removeprefix("sha256:").lower()
    is_one = len(digest) == _SHA256_HEX and all(sign in "0123456789abcdef" for sign in digest)
    return digest if is_one else ""


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
