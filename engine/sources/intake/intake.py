"""Where what comes from outside goes into the artifact store: all or nothing, and durably."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched
from tidelog.engine.sources.intake.jobs import Brought, Place, Transfer, Unpack, Unpacked
from tidelog.engine.sources.intake.workers import AT_ONCE, MEMORY_BYTES, Workers
from tidelog.events.digest import Digest
from tidelog.events.names import Revision
from tidelog.storage.artifacts import ArtifactStore, Limits, Quarantine, Tarball
from tidelog.storage.artifacts.store import REFS
from tidelog.storage.errors import StoreError

T = TypeVar("T")
M = TypeVar("M", bound=Unpacked)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How what is taken in is limited."""

    limits: Limits = Limits()
    memory_bytes: int = MEMORY_BYTES
    """Of one job's process."""
    at_once: int = AT_ONCE
    """Jobs at a time."""


DEFAULT_SETTINGS: Final = Settings()


class Intake:
    """Takes in what is fetched, while it is entered.

    Args:
        store: where it is kept; opened to write.
        settings: limits.
    """

    def __init__(self, store: ArtifactStore, settings: Settings = DEFAULT_SETTINGS) -> None:
        self.store = store
        self.limits = settings.limits
        self._workers = Workers(settings.memory_bytes, settings.at_once)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._workers.stop()

    async def transfer(self, job: Transfer) -> tuple[Brought, Tarball]:
        """Fetches a commit. When this returns, its artifact is in the store durably, and kept by a ref.

        Raises:
            FetchError: when it cannot be fetched; nothing of it is left behind.
            DamageError: when the store lacked something that it should have.
        """
        async with self._quarantine() as quarantine:
            brought = await self._workers.bring(msgspec.structs.replace(job, place=_place(quarantine)))
            return brought, await self._admit(quarantine, brought)

    @asynccontextmanager
    async def downloading(self) -> AsyncIterator["Download"]:
        """A place to download to, on the store's own disk, for as long as the block lasts."""
        async with self._quarantine() as quarantine:
            yield Download(self, quarantine)

    async def unpack(self, quarantine: Quarantine, job: Unpack) -> tuple[Unpacked, Tarball]:
        """See `Download.unpack`."""
        job = msgspec.structs.replace(job, place=_place(quarantine), limits=self.limits)
        unpacked = await self._workers.unpack(job)
        return unpacked, await self._admit(quarantine, unpacked)

    @asynccontextmanager
    async def _quarantine(self) -> AsyncIterator[Quarantine]:
        quarantine: Quarantine = await self.in_thread(self.store.make_quarantine)
        try:
            yield quarantine
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.store.drop, quarantine)

    async def _admit(self, quarantine: Quarantine, made: Unpacked) -> Tarball:
        tarball = Tarball(quarantine.tarball, Digest(made.digest), made.size)
        keeps = {f"{REFS}/trees/{made.tree}": made.tree}
        return await self.in_thread(self.store.admit, quarantine, keeps, tarball, made.tree)

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Runs what writes the store; a failure of it is one of the fetch."""
        try:
            return await anyio.to_thread.run_sync(work, *arguments)
        except StoreError as error:
            raise FetchError("ArchiveOperationFailed", str(error)) from error


class Download:
    """A place to download to. What is in it is taken in as a whole, or dropped."""

    def __init__(self, intake: Intake, quarantine: Quarantine) -> None:
        self._intake = intake
        self._quarantine = quarantine
        self.path: Path = quarantine.path / "download"
        """Nothing is there yet."""

    async def unpack(self, job: Unpack) -> tuple[Unpacked, Tarball]:
        """Takes in what was downloaded. When this returns, it is in the store durably, and kept by a ref.

        Raises:
            FetchError: when it is refused; nothing of it is left behind.
        """
        return await self._intake.unpack(self._quarantine, job)

    async def take(self, revision: Revision, job: Unpack) -> Fetched:
        """Takes in what was downloaded, as a revision of its source; see `unpack`."""
        unpacked, tarball = await self.unpack(job)
        return Fetched(
            revision=revision, tree=unpacked.tree, artifact=tarball.digest, size=tarball.size, path=tarball.path
        )


def _place(quarantine: Quarantine) -> Place:
    return Place(repository=str(quarantine.repository), tarball=str(quarantine.tarball), home=str(quarantine.home))
