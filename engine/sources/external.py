"""Artifacts that another controller made and serves (contract 2.9): downloaded, and held to the status's digest."""

import hashlib
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import aiohttp
import anyio

from tidelog.engine.connector import Connector
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.intake.intake import Download, Intake
from tidelog.engine.sources.intake.jobs import Unpack

TIMEOUT_S: Final = 60.0
CHUNK_BYTES: Final = 2**18
CONNECTIONS_MAX: Final = 16
ALGORITHMS: Final = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
REASON: Final = "ReadOperationFailed"


class Offer(Head, frozen=True):
    """What the status of the other controller's object names."""

    url: str
    digest: str
    metadata: Mapping[str, str] = {}


class ExternalFetcher:
    """Downloads what others serve, while it is entered."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=Connector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def fetch(self, offer: Offer) -> Fetched:
        """Downloads an artifact, and takes it in as it is.

        Raises:
            FetchError: when it cannot be had, or is not what was offered; nothing of it is left behind.
        """
        algorithm, _, checksum = offer.digest.partition(":")
        if algorithm not in ALGORITHMS:
            raise FetchError(REASON, f"status.artifact.digest: {algorithm} is not known here; sha256 is", final=True)
        async with self._intake.downloading() as download:
            found = await self._download(offer, download, algorithm)
            if found != checksum:
                raise FetchError(
                    REASON, f"{offer.url} is {algorithm}:{found}, where status.artifact.digest says {offer.digest}"
                )
            job = Unpack(
                path=str(download.path),
                form="archive",
                what=offer.url,
                is_filtered=False,
                is_kept=True,
                reason="ArchiveOperationFailed",
            )
            return await download.take(offer.revision, job)

    async def _download(self, offer: Offer, download: Download, algorithm: str) -> str:
        """Writes what is served into a file; returns its checksum."""
        hashed = ALGORITHMS[algorithm]()
        limit = self._intake.limits.transfer_bytes
        try:
            async with self._session.get(offer.url) as answer, await anyio.open_file(download.path, "xb") as file:
                if answer.status != 200:
                    raise FetchError(REASON, f"{offer.url} answers {answer.status}: is it still served?")
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    limit -= len(chunk)
                    if limit < 0:
                        raise FetchError(
                            REASON, f"{offer.url} has more than {self._intake.limits.transfer_bytes} bytes", final=True
                        )
                    hashed.update(chunk)
                    await file.write(chunk)
        except TimeoutError:
            raise FetchError(REASON, f"{offer.url} took longer than {TIMEOUT_S:g} s to send") from None
        except (aiohttp.ClientError, ValueError, ssl.SSLError) as error:
            raise FetchError(REASON, f"{offer.url} cannot be read: {type(error).__name__}: {error}") from None
        return hashed.hexdigest()
