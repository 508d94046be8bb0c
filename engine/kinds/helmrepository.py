"""HelmRepository, source.toolkit.fluxcd.io/v1 (contract 2.6)."""

from typing import Annotated, ClassVar, Literal

import msgspec

from tidelog.engine.kinds.durations import Interval, SourceTimeout
from tidelog.engine.kinds.meta import (
    DEFAULT_TIMEOUT,
    READY_MESSAGE,
    READY_STATUS,
    SOURCE_GROUP,
    Artifact,
    Column,
    Condition,
    KubeStruct,
    Labels,
    LocalReference,
    ObjectMeta,
    Resource,
)
from tidelog.engine.kinds.ocirepository import Provider

DEFAULT_INTERVAL = Interval.of_seconds(60)


class NamespaceSelector(KubeStruct, frozen=True, kw_only=True):
    """Namespaces, by their labels."""

    match_labels: Labels = msgspec.field(default_factory=dict)
    """Labels that a namespace has to have; none fit all."""


class AccessFrom(KubeStruct, frozen=True, kw_only=True):
    """Who may refer to the object from elsewhere."""

    namespace_selectors: tuple[NamespaceSelector, ...]
    """The namespaces; those that one of the selectors fits."""


class HelmRepositorySpec(KubeStruct, frozen=True, kw_only=True):
    """Where a Helm repository is, and how it is reached."""

    url: Annotated[str, msgspec.Meta(pattern="^(http|https|oci)://.*$")]
    """Address of the repository: http or https for one with an index, oci for a registry."""
    type: Literal["default", "oci"] | None = None
    """Whether it has an index (default), or is a registry (oci)."""
    secret_ref: LocalReference | None = None
    """Secret with username and password; for a registry, of the type kubernetes.io/dockerconfigjson too."""
    cert_secret_ref: LocalReference | None = None
    """Secret with ca.crt, and with tls.crt and tls.key, for the connection to the repository."""
    pass_credentials: bool = False
    """Whether the credentials are sent to other hosts as well, where charts are there."""
    interval: Interval | None = None
    """How often the index is asked for something new; 1m where it is not given."""
    insecure: bool = False
    """Whether a registry may be reached over HTTP."""
    timeout: SourceTimeout | None = None
    """Limit of each download; 60s where it is not given."""
    suspend: bool = False
    """Whether the repository is left alone for now."""
    access_from: AccessFrom | None = None
    """Who may refer to it from elsewhere; nobody heeds this so far."""
    provider: Provider = "generic"
    """Who authenticates at a registry: generic (credentials of secretRef), aws, azure or gcp."""

    @property
    def is_registry(self) -> bool:
        """Whether it is a registry, which has no index (contract HP-002)."""
        return self.type == "oci"

    @property
    def effective_interval(self) -> Interval:
        """How often the index is asked for, with its default (contract HP-003)."""
        return self.interval if self.interval is not None else DEFAULT_INTERVAL

    @property
    def effective_timeout(self) -> SourceTimeout:
        """Limit of each download, with its default (contract HP-004)."""
        return self.timeout if self.timeout is not None else DEFAULT_TIMEOUT


class HelmRepositoryStatus(KubeStruct, frozen=True, kw_only=True):
    """What was downloaded, and how it went (contract HP-015)."""

    observed_generation: int = 0
    """Last generation that was dealt with."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    url: str = ""
    """Address of the index that was last downloaded, whichever that is."""
    artifact: Artifact | None = None
    """The index that was last downloaded."""
    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""


class HelmRepository(KubeStruct, frozen=True, kw_only=True):
    """A repository of Helm charts: one with an index, or a registry."""

    resource: ClassVar[Resource] = Resource(
        group=SOURCE_GROUP,
        version="v1",
        kind="HelmRepository",
        plural="helmrepositories",
        short_names=("helmrepo",),
        categories=("all", "fluxcd", "fluxcd-sources"),
        columns=(
            Column("URL", ".spec.url"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
        ),
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: HelmRepositorySpec
    status: HelmRepositoryStatus = HelmRepositoryStatus()
