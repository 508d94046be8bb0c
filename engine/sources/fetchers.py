"""What fetches the sources of every kind, and what they share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tidelog.engine.sources.bucket.fetcher import BucketFetcher
from tidelog.engine.sources.clouds.logins import CloudLogins
from tidelog.engine.sources.external import ExternalFetcher
from tidelog.engine.sources.git.fetcher import GitFetcher
from tidelog.engine.sources.helm.fetcher import HelmFetcher
from tidelog.engine.sources.intake.intake import Intake
from tidelog.engine.sources.limits import HELM_LIMITS, HelmLimits
from tidelog.engine.sources.oci.fetcher import OciFetcher
from tidelog.storage.artifacts import ArtifactStore


class Fetchers(msgspec.Struct, frozen=True, kw_only=True):
    """One for each kind of source."""

    intake: Intake
    git: GitFetcher
    oci: OciFetcher
    bucket: BucketFetcher
    helm: HelmFetcher
    external: ExternalFetcher
    clouds: CloudLogins


@asynccontextmanager
async def open_fetchers(
    store: ArtifactStore,
    *,
    local: Path | None = None,
    clouds: CloudLogins | None = None,
    limits: HelmLimits = HELM_LIMITS,
) -> AsyncIterator[Fetchers]:
    """Fetchers into a store, for as long as the block lasts.

    Args:
        store: opened to write.
        local: the one Git repository on this machine that may be read.
        clouds: how the clouds are logged in at; by no identity where it is not given.
        limits: how large indexes and charts of Helm may be.
    """
    async with (
        Intake(store) as intake,
        GitFetcher(store, local=local, intake=intake) as git,
        OciFetcher() as oci,
        HelmFetcher(limits=limits) as helm,
        ExternalFetcher(intake) as external,
        CloudLogins() if clouds is None else clouds as logins,
    ):
        bucket = BucketFetcher(limits=intake.limits)
        yield Fetchers(intake=intake, git=git, oci=oci, bucket=bucket, helm=helm, external=external, clouds=logins)
