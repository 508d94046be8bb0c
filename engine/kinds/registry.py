"""The kinds that the engine looks after, by name."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from tidelog.engine.kinds.bucket import Bucket, BucketSpec, BucketStatus
from tidelog.engine.kinds.externalartifact import ExternalArtifact, ExternalArtifactSpec, ExternalArtifactStatus
from tidelog.engine.kinds.gitrepository import GitRepository, GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.helmchart import HelmChart, HelmChartSpec, HelmChartStatus
from tidelog.engine.kinds.helmrelease import HelmRelease, HelmReleaseSpec, HelmReleaseStatus
from tidelog.engine.kinds.helmrepository import HelmRepository, HelmRepositorySpec, HelmRepositoryStatus
from tidelog.engine.kinds.kustomization import Kustomization, KustomizationSpec, KustomizationStatus
from tidelog.engine.kinds.ocirepository import OCIRepository, OCIRepositorySpec, OCIRepositoryStatus
from tidelog.events.names import ObjectKey

FetchedSpec: TypeAlias = GitRepositorySpec | OCIRepositorySpec | BucketSpec | HelmRepositorySpec | HelmChartSpec
"""Of a source that the engine fetches itself."""
FetchedStatus: TypeAlias = (
    GitRepositoryStatus | OCIRepositoryStatus | BucketStatus | HelmRepositoryStatus | HelmChartStatus
)
SourceSpec: TypeAlias = FetchedSpec | ExternalArtifactSpec
SourceStatus: TypeAlias = FetchedStatus | ExternalArtifactStatus
TargetSpec: TypeAlias = KustomizationSpec | HelmReleaseSpec
TargetStatus: TypeAlias = KustomizationStatus | HelmReleaseStatus
AnyKind: TypeAlias = type[
    GitRepository | OCIRepository | Bucket | HelmRepository | HelmChart | ExternalArtifact | Kustomization | HelmRelease
]

SOURCES: Final[tuple[AnyKind, ...]] = (
    GitRepository,
    OCIRepository,
    Bucket,
    HelmRepository,
    HelmChart,
    ExternalArtifact,
)
TARGETS: Final[tuple[AnyKind, ...]] = (Kustomization, HelmRelease)
KINDS: Final[tuple[AnyKind, ...]] = (*SOURCES, *TARGETS)
"""In the order in which they are watched: a target is seen when its source is."""
NAMES: Final = tuple((kind.resource.group, kind.resource.kind) for kind in KINDS)
"""Groups and kinds."""
TARGET_NAMES: Final = tuple((kind.resource.group, kind.resource.kind) for kind in TARGETS)
NEEDED: Final[tuple[AnyKind, ...]] = (GitRepository, Kustomization)
"""Without these there is nothing to do; the others may be served later, or never."""
BY_NAME: Final[Mapping[str, AnyKind]] = {kind.resource.kind: kind for kind in KINDS}
STATUSES: Final[Mapping[str, type[SourceStatus | TargetStatus]]] = {
    "GitRepository": GitRepositoryStatus,
    "OCIRepository": OCIRepositoryStatus,
    "Bucket": BucketStatus,
    "HelmRepository": HelmRepositoryStatus,
    "HelmChart": HelmChartStatus,
    "ExternalArtifact": ExternalArtifactStatus,
    "Kustomization": KustomizationStatus,
    "HelmRelease": HelmReleaseStatus,
}


def api_version_of(key: ObjectKey) -> str:
    """The API version of a source or target."""
    return BY_NAME[key.kind].resource.api_version


def is_told(spec: SourceSpec | TargetSpec) -> bool:
    """Whether the status of an object is ours to write: not of what another controller makes, nor of what is static.

    A HelmRepository that is a registry is static: it is read when a chart is asked for (contract HP-002, EA-002).
    """
    return not isinstance(spec, ExternalArtifactSpec) and not is_static(spec)


def is_static(spec: SourceSpec | TargetSpec) -> bool:
    """Whether an object has neither status nor finalizer (contract HP-002)."""
    return isinstance(spec, HelmRepositorySpec) and spec.is_registry
