"""Helm repositories over HTTP, and charts: read and fetched here, packaged by a process of their own."""

from tidelog.engine.sources.helm.credentials import ANONYMOUS, Credentials, credentials_of
from tidelog.engine.sources.helm.fetcher import FetchedChart, HelmFetcher
from tidelog.engine.sources.helm.index import versions_of
from tidelog.engine.sources.helm.jobs import Dependency
from tidelog.engine.sources.helm.package import Resolve, package, refuse_verification, revalue
from tidelog.engine.sources.helm.spec import (
    ChartSpec,
    ChartVersion,
    IndexRead,
    PackagedChart,
    RepositorySpec,
    Unchanged,
    version_metadata,
)
from tidelog.engine.sources.helm.versions import check_name, choose_version

__all__ = [
    "ANONYMOUS",
    "ChartSpec",
    "ChartVersion",
    "Credentials",
    "Dependency",
    "FetchedChart",
    "HelmFetcher",
    "IndexRead",
    "PackagedChart",
    "RepositorySpec",
    "Resolve",
    "Unchanged",
    "check_name",
    "choose_version",
    "credentials_of",
    "package",
    "refuse_verification",
    "revalue",
    "version_metadata",
    "versions_of",
]
