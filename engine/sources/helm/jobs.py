"""What is said between the engine and a worker: MessagePack."""

from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchReason
from tidelog.engine.sources.helm.index import IndexMade
from tidelog.engine.sources.helm.spec import ChartSpec
from tidelog.engine.sources.limits import HELM_LIMITS, HelmLimits

ANSWER_BYTES_MAX: Final = 16 * 2**20


class ReadIndex(msgspec.Struct, frozen=True, tag="index"):
    """Read an index, and write it down as JSON."""

    source: str
    into: str
    where: str
    """The repository, for messages."""
    reason: FetchReason = "IndexationFailed"
    """When a limit is met."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job failed."""

    reason: FetchReason
    message: str
    final: bool


class Read(msgspec.Struct, frozen=True, tag="read"):
    """An index was read."""

    made: IndexMade


class Inspect(msgspec.Struct, frozen=True, kw_only=True, tag="inspect"):
    """Look at a chart in a tree."""

    root: str
    path: str
    where: str
    limits: HelmLimits = HELM_LIMITS
    reason: FetchReason = "ChartPackageError"


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """What a chart asks for."""

    name: str
    version: str
    repository: str
    alias: str = ""

    @property
    def key(self) -> str:
        """The name under which it is in the chart."""
        return self.alias or self.name

    @property
    def shown(self) -> str:
        """Its repository, without credentials that may be in the address."""
        scheme, mark, rest = self.repository.partition("://")
        return f"{scheme}{mark}{rest.partition('/')[0].rpartition('@')[2]}{''.join(rest.partition('/')[1:])}"


class Inspected(msgspec.Struct, frozen=True, tag="inspected"):
    """A chart in a tree."""

    name: str
    version: str
    is_archive: bool
    remote: tuple[Dependency, ...] = ()
    """Dependencies that have to be fetched."""


class Pack(msgspec.Struct, frozen=True, kw_only=True, tag="pack"):
    """Make the archive of a chart."""

    root: str
    """The tree; empty for an archive that was downloaded."""
    path: str
    """The chart in the tree, or the archive."""
    where: str
    spec: ChartSpec
    metadata: str
    dependencies: dict[str, str]
    """Where the archives are that were fetched."""
    into: str
    limits: HelmLimits = HELM_LIMITS
    reason: FetchReason = "ChartPackageError"


class Packed(msgspec.Struct, frozen=True, kw_only=True, tag="packed"):
    """The archive of a chart."""

    name: str
    version: str
    digest: str
    size: int
    used_values_files: tuple[str, ...]
    is_packaged: bool


Job = ReadIndex | Inspect | Pack
Answer = Read | Inspected | Packed | Failed
