"""What is asked of Helm repositories and charts, and what comes of it."""

from pathlib import Path
from typing import Final, Literal

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.names import Revision

CONTENT_BYTES_MAX: Final = 100 * 2**20
"""Of a chart's files together, as in Helm."""
DEFAULT_TIMEOUT_S: Final = 60.0
ANY_VERSION: Final = "*"
VALUES_FILE: Final = "values.yaml"


class RepositorySpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a HelmRepository asks for."""

    url: str
    timeout_s: float = DEFAULT_TIMEOUT_S
    """For each transfer."""
    pass_credentials: bool = False
    """Whether charts on other hosts get the credentials too (HP-007)."""


class IndexRead(msgspec.Struct, frozen=True, kw_only=True):
    """A repository's index, read and written down."""

    revision: Revision
    """`sha256:<hex>` of the bytes as they were sent (HP-012)."""
    size: int
    """Of those bytes."""
    etag: str
    """What to ask with the next time; empty where the server gives nothing to ask with."""
    stored: Path
    """The index as JSON, invalid entries left out, each chart's versions in descending order."""
    stored_size: int
    digest: Digest
    """Of `stored`."""
    charts: int
    versions: int
    skipped: tuple[str, ...] = ()
    """Entries that Helm would leave out too, each with the reason; the first few."""


class Unchanged(msgspec.Struct, frozen=True):
    """The index is what it was."""

    etag: str


class ChartVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a chart, as an index has it."""

    name: str
    version: str
    digest: str = ""
    """SHA-256 of the archive, in hex; empty where the index has none."""
    urls: tuple[str, ...] = ()
    created: str = ""


class ChartSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a HelmChart asks for."""

    chart: str
    """A name in a Helm repository, or a path in a tree."""
    version: str = ANY_VERSION
    values_files: tuple[str, ...] = ()
    ignore_missing_values_files: bool = False
    reconcile_strategy: Literal["ChartVersion", "Revision"] = "ChartVersion"

    @property
    def merged_files(self) -> tuple[str, ...]:
        """The values files to merge: the chart's own alone are none (HC-006)."""
        own = len(self.values_files) == 1 and self.values_files[0].removeprefix("./") == VALUES_FILE
        return () if own else self.values_files


class PackagedChart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart as an archive."""

    name: str
    version: str
    """With what was added to it (HC-010): the revision too."""
    path: Path
    digest: Digest
    size: int
    used_values_files: tuple[str, ...] = ()
    is_packaged: bool = False
    """Whether the archive was made here, and not taken as it was."""

    @property
    def revision(self) -> Revision:
        """The version."""
        return Revision(self.version)

    @property
    def message(self) -> str:
        """What a condition says of it (HC-016)."""
        done = "packaged" if self.is_packaged else "pulled"
        merged = f" and merged values files [{' '.join(self.used_values_files)}]" if self.used_values_files else ""
        return f"{done} '{self.name}' chart with version '{self.version}'{merged}"


def version_metadata(spec: ChartSpec, generation: int, source_revision: str = "") -> str:
    """What is added to the chart's version, so that whoever takes it sees that it changed (HC-010).

    Args:
        spec: what is asked for.
        generation: of the HelmChart.
        source_revision: of the tree that the chart comes from; empty for a chart of a Helm repository.
    """
    parts = []
    if spec.reconcile_strategy == "Revision" and source_revision:
        parts.append(source_revision.rpartition(":")[2][:12])
    if spec.merged_files:
        parts.append(str(generation))
    return ".".join(parts)
