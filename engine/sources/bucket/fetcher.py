"""Asks and downloads buckets."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.bucket.answers import Entry
from tidelog.engine.sources.bucket.credentials import (
    NO_CREDENTIALS,
    BucketCredentials,
    S3Keys,
    check_sts,
)
from tidelog.engine.sources.bucket.endpoint import Endpoint, endpoint_of
from tidelog.engine.sources.bucket.keys import check_keys, shown
from tidelog.engine.sources.bucket.remote import GoneError, Opened, Remote, place_of
from tidelog.engine.sources.bucket.s3 import S3Client, region_of
from tidelog.engine.sources.bucket.spec import BucketIndex, BucketSpec, index_of
from tidelog.engine.sources.bucket.sts import ldap_keys
from tidelog.engine.sources.bucket.web import way_to
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.ignore import IGNORE_BYTES_MAX, IGNORE_FILE, Ignore, ignore_of
from tidelog.engine.tasks import one_error
from tidelog.storage.artifacts import Limits

AT_ONCE: Final = 100
"""Objects that are read at a time (contract BU-013)."""
WRITERS: Final = 8
"""Threads that write them."""
WRITE_BYTES: Final = 2**18
"""Of an object in memory, before they are written."""
PROXIES: Final = ("http://", "https://")
T = TypeVar("T")


class BucketFetcher:
    """Asks object stores what they have, and brings it into a directory.

    Args:
        limits: what a bucket may have at most.
        at_once: objects that are read at a time.
    """

    def __init__(self, *, limits: Limits = Limits(), at_once: int = AT_ONCE) -> None:  # noqa: B008  # frozen
        self._limits = limits
        self._at_once = at_once

    async def ask(
        self,
        spec: BucketSpec,
        credentials: BucketCredentials = NO_CREDENTIALS,
        tls: Tls = PLAIN_TLS,
        proxy: Proxy | None = None,
    ) -> BucketIndex:
        """What the bucket has that is part of the artifact (contract SC-025, BU-012).

        Raises:
            FetchError: when it cannot be listed, or has what cannot be a file.
        """
        with _in_time(spec):
            async with self._remote(spec, credentials, tls, proxy) as remotes:
                ignore = await _ignore(remotes.lister, spec)
                found = await self._list(remotes.lister, spec, ignore)
                return await anyio.to_thread.run_sync(self._index, spec, found)

    async def download(
        self,
        spec: BucketSpec,
        credentials: BucketCredentials = NO_CREDENTIALS,
        tls: Tls = PLAIN_TLS,
        proxy: Proxy | None = None,
        *,
        index: BucketIndex,
        into: Path,
    ) -> BucketIndex:
        """Writes the objects of an index into a directory.

        What vanished since it was asked is left out, and what changed has the ETag of what was written: the index that
        is returned tells what is in the directory.

        Args:
            spec: names the bucket.
            credentials: who we are.
            tls: whom we trust.
            proxy: the way there.
            index: what `ask` returned.
            into: a directory that is empty or not there yet. When this fails, nothing stays in it.

        Raises:
            FetchError: when an object cannot be read, or there is too much of it.
        """
        await anyio.to_thread.run_sync(self._prepare, spec, index, into)
        try:
            with _in_time(spec):
                async with self._remote(spec, credentials, tls, proxy, reading=True) as remotes:
                    load = _Load(spec, remotes.reader, into, self._limits)
                    etags = await load.run(index, self._at_once)
                    return await anyio.to_thread.run_sync(index_of, etags)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_empty, into)
            raise

    async def _list(self, lister: Remote, spec: BucketSpec, ignore: Ignore) -> dict[str, Entry]:
        found: dict[str, Entry] = {}

        def keep(entries: list[Entry]) -> None:
            for entry in entries:
                # Patterns are of text: what is no UTF-8 has question marks for them.
                text = entry.key.encode(errors="replace").decode()
                if not entry.key.endswith("/") and entry.key != IGNORE_FILE and ignore.keeps(text):
                    found[entry.key] = entry

        async for entries in lister.pages(spec.prefix):
            await anyio.to_thread.run_sync(keep, entries)
            if len(found) > self._limits.entries:
                raise FetchError(
                    "BucketOperationFailed",
                    f"the bucket {spec.bucket_name} has more than {self._limits.entries} objects: "
                    "choose fewer with spec.prefix or spec.ignore",
                )
        return found

    def _index(self, spec: BucketSpec, found: dict[str, Entry]) -> BucketIndex:
        check_keys(found, spec.bucket_name, self._limits)
        for entry in found.values():
            if entry.size > self._limits.file_bytes:
                raise _too_large(spec, entry.key, self._limits)
        if sum(entry.size for entry in found.values()) > self._limits.artifact_bytes:
            raise _too_much(spec, self._limits)
        return index_of({key: entry.etag for key, entry in found.items()})

    def _prepare(self, spec: BucketSpec, index: BucketIndex, into: Path) -> None:
        check_keys(index.etags, spec.bucket_name, self._limits)
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(into.iterdir()):
            raise ValueError(f"{into} is not empty")

    @asynccontextmanager
    async def _remote(
        self,
        spec: BucketSpec,
        credentials: BucketCredentials,
        tls: Tls,
        proxy: Proxy | None,
        *,
        reading: bool = False,
    ) -> AsyncIterator["_Remotes"]:
        endpoint = endpoint_of(spec)
        if spec.sts is not None:
            check_sts(spec.provider, spec.sts)
        if proxy is not None and not proxy.address.startswith(PROXIES):
            raise FetchError(
                "AuthenticationFailed",
                "spec.proxySecretRef names a proxy that is no HTTP proxy, which is not supported for buckets: "
                "name one that begins with http:// or https://",
                final=True,
            )
        keys = await _keys(spec, credentials, proxy)
        if spec.provider == "generic" or keys is not None:
            async with way_to(endpoint.url, tls, proxy, at_once=self._at_once) as way:
                region = await region_of(spec, endpoint, way)
                endpoint = endpoint.in_region(region)
                client = S3Client(spec, endpoint, region, keys, way)
                reader: Remote = client
                if reading and not tls.certificate:  # which obstore cannot show
                    reader = await _opened("s3_store", endpoint, spec, keys is not None, region, keys, tls, proxy)
                yield _Remotes(client, reader)
            return
        if tls.certificate:
            raise FetchError(
                "AuthenticationFailed",
                f"spec.certSecretRef has a client certificate, which is not supported for provider {spec.provider}: "
                "leave tls.crt and tls.key out",
                final=True,
            )
        named = credentials != NO_CREDENTIALS
        if spec.provider == "aws":
            async with way_to(endpoint.url, tls, proxy, at_once=1) as way:
                region = await region_of(spec, endpoint, way)
            remote = await _opened("role_store", endpoint.in_region(region), spec, named, region, tls, proxy)
        else:
            maker = "google_store" if spec.provider == "gcp" else "azure_store"
            remote = await _opened(maker, endpoint, spec, named, credentials, tls, proxy)
        yield _Remotes(remote, remote)


class _Remotes(msgspec.Struct, frozen=True):
    """Who lists a bucket, and who reads from it."""

    lister: Remote
    reader: Remote


class _Load:
    """One download."""

    def __init__(self, spec: BucketSpec, remote: Remote, into: Path, limits: Limits) -> None:
        self._spec = spec
        self._remote = remote
        self._into = into
        self._limits = limits
        self._writers = anyio.CapacityLimiter(WRITERS)
        self._left_bytes = limits.artifact_bytes
        self._etags: dict[str, str] = {}

    async def run(self, index: BucketIndex, at_once: int) -> dict[str, str]:
        """Reads all of them; returns the ETags of what was there."""
        waiting = iter(index.etags)
        with one_error():
            async with anyio.create_task_group() as group:
                for _ in range(min(at_once, len(index.etags))):
                    group.start_soon(self._work, waiting)
        return self._etags

    async def _work(self, waiting: Iterator[str]) -> None:
        for key in waiting:
            try:
                async with self._remote.open(key) as opened:
                    await self._write(key, opened)
            except GoneError:
                continue
            self._etags[key] = opened.etag

    async def _write(self, key: str, opened: Opened) -> None:
        size = 0
        waiting: list[bytes] = []
        waiting_bytes = 0
        descriptor = -1
        try:
            async for chunk in opened.chunks:
                size += len(chunk)
                self._count(key, size, len(chunk))
                waiting.append(chunk)
                waiting_bytes += len(chunk)
                if waiting_bytes >= WRITE_BYTES:
                    descriptor = await self._in_thread(_append, self._into / key, descriptor, b"".join(waiting))
                    waiting, waiting_bytes = [], 0
            if size != opened.size:
                raise FetchError(
                    "BucketOperationFailed",
                    f"the bucket {self._spec.bucket_name} sent {size} of the {opened.size} bytes of {shown(key)}: "
                    "it is asked again",
                )
            if descriptor < 0:  # most are small: one thread's work
                await self._in_thread(_write, self._into / key, b"".join(waiting))
            else:
                await self._in_thread(_append, self._into / key, descriptor, b"".join(waiting))
        finally:
            if descriptor >= 0:
                with anyio.CancelScope(shield=True):
                    await self._in_thread(os.close, descriptor)

    def _count(self, key: str, size: int, more: int) -> None:
        self._left_bytes -= more
        if size > self._limits.file_bytes:
            raise _too_large(self._spec, key, self._limits)
        if self._left_bytes < 0:
            raise _too_much(self._spec, self._limits)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._writers)
        except OSError as error:
            raise FetchError(
                "ArchiveOperationFailed", f"an object cannot be written to {self._into}: {error.strerror}: make room"
            ) from None


def _write(path: Path, data: bytes) -> None:
    os.close(_append(path, -1, data))


def _append(path: Path, descriptor: int, data: bytes) -> int:
    """Writes, to a file that must not be there before the first time."""
    if descriptor < 0:
        try:
            descriptor = _create(path)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _create(path)
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    return descriptor


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _empty(directory: Path) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


@contextmanager
def _in_time(spec: BucketSpec) -> Iterator[None]:
    try:
        with anyio.fail_after(spec.timeout_s):
            yield
    except TimeoutError:
        raise FetchError(
            "BucketOperationFailed",
            f"the bucket {spec.bucket_name} was not done with in {spec.timeout_s:g} s: "
            "raise spec.timeout, or choose less with spec.prefix or spec.ignore",
        ) from None


async def _keys(spec: BucketSpec, credentials: BucketCredentials, proxy: Proxy | None) -> S3Keys | None:
    """What requests to S3 are signed with: the Secret's keys, else those that STS gives, else none that we know of."""
    if spec.provider not in {"generic", "aws"}:
        return None
    if credentials.access_key:
        return S3Keys(access_key=credentials.access_key, secret_key=credentials.secret_key, token=credentials.session)
    if spec.sts is not None and spec.sts.provider == "ldap":
        return await ldap_keys(spec.sts, credentials.sts, proxy)
    return None


async def _opened(maker: str, endpoint: Endpoint, spec: BucketSpec, named: bool, *arguments: object) -> Remote:  # noqa: FBT001  # part of a call that is handed on
    """A bucket through obstore, which is loaded by the first that needs it."""

    def make() -> Remote:
        stores = _stores()
        place = place_of(spec, endpoint, has_credentials=named)
        try:
            store = getattr(stores, maker)(spec, endpoint, *arguments)
        except (stores.BaseError, ValueError, TypeError):
            raise FetchError(
                "AuthenticationFailed",
                f"{place}: no client can be made of spec and Secrets: look at the endpoint, certificates and keys",
                final=True,
            ) from None
        made: Remote = stores.StoreRemote(store, place)
        return made

    return await anyio.to_thread.run_sync(make)


def _stores() -> ModuleType:
    from tidelog.engine.sources.bucket import stores  # noqa: PLC0415  # see there

    return stores


async def _ignore(remote: Remote, spec: BucketSpec) -> Ignore:
    """The rules of the bucket's own file and of the spec: no defaults (contract SC-025)."""
    files = []
    try:
        async with remote.open(IGNORE_FILE) as opened:
            data = b""
            async for chunk in opened.chunks:
                data += chunk
                if len(data) > IGNORE_BYTES_MAX:
                    break
            files.append(("", data))
    except GoneError:
        pass
    return await anyio.to_thread.run_sync(_rules, files, spec.ignore)


def _rules(files: list[tuple[str, bytes]], ignore: str | None) -> Ignore:
    try:
        return ignore_of(files, ignore, defaults=False, reason="BucketOperationFailed")
    except FetchError as error:
        # The bucket's own file can be another one at the next attempt; `spec.ignore` cannot.
        ignore_of([], ignore, defaults=False, reason="BucketOperationFailed")
        raise FetchError(error.reason, error.message) from None


def _too_large(spec: BucketSpec, key: str, limits: Limits) -> FetchError:
    return FetchError(
        "BucketOperationFailed",
        f"the object {shown(key)} of the bucket {spec.bucket_name} has more than {limits.file_bytes} bytes, "
        "the most that a file may have: leave it out with spec.ignore",
    )


def _too_much(spec: BucketSpec, limits: Limits) -> FetchError:
    return FetchError(
        "BucketOperationFailed",
        f"the objects of the bucket {spec.bucket_name} have more than {limits.artifact_bytes} bytes together: "
        "choose fewer with spec.prefix or spec.ignore",
    )
