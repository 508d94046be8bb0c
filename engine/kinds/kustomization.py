"""Kustomization, kustomize.toolkit.fluxcd.io/v1 (contract 3.1)."""

from typing import Annotated, ClassVar, Literal

import msgspec

from tidelog.engine.kinds.durations import Duration, Interval
from tidelog.engine.kinds.meta import (
    KUSTOMIZE_GROUP,
    READY_MESSAGE,
    READY_STATUS,
    Column,
    Condition,
    KubeStruct,
    Labels,
    LocalReference,
    NamespacedReference,
    ObjectMeta,
    Resource,
    Timestamp,
)
from tidelog.engine.kinds.targets import (
    CommonMetadata,
    CustomHealthCheck,
    IgnoreRule,
    Image,
    Inventory,
    KubeConfigReference,
    Patch,
)

TIMEOUT_MARGIN = Duration.of_seconds(30)
"""What the time limit leaves of the interval, and the least that it is (contract KS-006)."""

DeletionPolicy = Literal["MirrorPrune", "Delete", "WaitForTermination", "Orphan"]
SubstituteStrategy = Literal["WithVariables", "Always"]
Affix = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Dependency(KubeStruct, frozen=True, kw_only=True):
    """Another Kustomization that has to be ready first."""

    name: str
    """Name of the Kustomization."""
    namespace: str = ""
    """Its namespace; that of this Kustomization where it is not given."""
    ready_expr: str = ""
    """CEL expression that says whether it is ready, over `self` and `dep`."""


class Decryption(KubeStruct, frozen=True, kw_only=True):
    """How encrypted files are read."""

    provider: Literal["sops"]
    """What encrypted them."""
    service_account_name: str = ""
    """ServiceAccount whose cloud identity opens the keys."""
    secret_ref: LocalReference | None = None
    """Secret with keys or credentials."""


class SubstituteReference(KubeStruct, frozen=True, kw_only=True):
    """An object whose keys become variables."""

    kind: Literal["Secret", "ConfigMap"]
    """Secret or ConfigMap."""
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    """Name of the object, in the namespace of the Kustomization."""
    optional: Annotated[bool, msgspec.Meta(extra_json_schema={"default": False})] = False
    """Whether the object may be missing."""


class PostBuild(KubeStruct, frozen=True, kw_only=True):
    """What happens to the rendered text: `${name}` and its forms become values."""

    substitute_strategy: SubstituteStrategy | None = None
    """WithVariables (the default): only where a variable is given; Always: in any case, so that defaults apply."""
    substitute: Labels = msgspec.field(default_factory=dict)
    """Variables and their values; they go before those of substituteFrom."""
    substitute_from: tuple[SubstituteReference, ...] = ()
    """Objects whose keys are variables; a later one goes before an earlier one."""


class SourceReference(KubeStruct, frozen=True, kw_only=True):
    """The source whose artifact is rendered."""

    api_version: str = ""
    """API version of the source."""
    kind: Literal["OCIRepository", "GitRepository", "Bucket", "ExternalArtifact"]
    """Kind of the source."""
    name: str
    """Name of the source."""
    namespace: str = ""
    """Namespace of the source; that of the Kustomization where it is not given."""

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


class KustomizationSpec(KubeStruct, frozen=True, kw_only=True):
    """What to render of which source, and how to apply it."""

    common_metadata: CommonMetadata | None = None
    """Labels and annotations that all objects get."""
    depends_on: tuple[Dependency, ...] = ()
    """Kustomizations that have to be ready first."""
    decryption: Decryption | None = None
    """How encrypted Secrets and files are read."""
    interval: Interval
    """How often the objects are reconciled, changed or not."""
    retry_interval: Interval | None = None
    """How soon a failed reconciliation is tried again; the interval where it is not given."""
    kube_config: KubeConfigReference | None = None
    """The cluster to apply to, where it is another one."""
    path: str = ""
    """Directory of the artifact with a kustomization.yaml or plain YAML files; its root where it is not given."""
    post_build: PostBuild | None = None
    """Variables that are put into the rendered objects."""
    prune: bool
    """Whether objects that are rendered no more are deleted."""
    deletion_policy: DeletionPolicy | None = None
    """What becomes of the objects when the Kustomization is deleted; MirrorPrune, the default, does as prune says."""
    health_checks: tuple[NamespacedReference, ...] = ()
    """Objects that have to be healthy for the Kustomization to be ready."""
    name_prefix: Affix | None = None
    """Put before the name of each object."""
    name_suffix: Affix | None = None
    """Put after the name of each object."""
    patches: tuple[Patch, ...] = ()
    """Changes to the rendered objects."""
    images: tuple[Image, ...] = ()
    """Names, tags or digests for images."""
    service_account_name: str = ""
    """ServiceAccount in whose name the objects are applied."""
    source_ref: SourceReference
    """The source whose artifact is rendered."""
    suspend: bool = False
    """Whether the Kustomization is left alone for now."""
    target_namespace: Annotated[str, msgspec.Meta(min_length=1, max_length=63)] | None = None
    """Namespace of all objects, whatever they say themselves."""
    timeout: Interval | None = None
    """Limit of one reconciliation; the interval less 30s, and at least 30s, where it is not given."""
    force: Annotated[bool, msgspec.Meta(extra_json_schema={"default": False})] = False
    """Whether an object is deleted and made anew when a field that cannot be changed has changed."""
    wait: bool = False
    """Whether all objects have to be healthy for the Kustomization to be ready; healthChecks is then not used."""
    build_metadata: tuple[Literal["originAnnotations", "transformerAnnotations"], ...] = ()
    """Annotations that say which file an object came from, and what transformed it."""
    components: tuple[str, ...] = ()
    """Directories of kustomize components, relative to the path."""
    ignore_missing_components: bool = False
    """Whether a component that is not there is left out, instead of failing the build."""
    health_check_exprs: tuple[CustomHealthCheck, ...] = ()
    """How to tell the health of custom resources; used with wait or healthChecks."""
    ignore: tuple[IgnoreRule, ...] = ()
    """Fields of objects that are left alone."""

    @property
    def effective_retry_interval(self) -> Duration:
        """When to try again after a failure (contract KS-005)."""
        return self.interval if self.retry_interval is None else self.retry_interval

    @property
    def effective_timeout(self) -> Duration:
        """The limit of a reconciliation (contract KS-006)."""
        chosen = Duration(self.interval - TIMEOUT_MARGIN) if self.timeout is None else self.timeout
        return max(chosen, TIMEOUT_MARGIN)

    @property
    def effective_deletion_policy(self) -> DeletionPolicy:
        """What becomes of the objects (contract KS-008)."""
        return self.deletion_policy or "MirrorPrune"

    @property
    def prunes_when_deleted(self) -> bool:
        """Whether the objects go with the Kustomization (contract KS-095); one that is suspended leaves them."""
        if self.suspend or self.effective_deletion_policy == "Orphan":
            return False
        return self.effective_deletion_policy != "MirrorPrune" or self.prune


class Snapshot(KubeStruct, frozen=True, kw_only=True):
    """What became of one rendered set of objects (contract KS-047)."""

    digest: str
    """Digest of the rendered objects."""
    first_reconciled: Timestamp
    """When it first ended so."""
    last_reconciled: Timestamp
    """When it last ended so."""
    last_reconciled_duration: Duration
    """How long that took."""
    last_reconciled_status: str
    """How it ended, as the reason of the condition Ready."""
    total_reconciliations: int
    """How often it ended so."""
    metadata: Labels = msgspec.field(default_factory=dict)
    """Revision, and originRevision where there is one."""


class KustomizationStatus(KubeStruct, frozen=True, kw_only=True):
    """What was applied, and how it went."""

    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""
    observed_generation: int = 0
    """Last generation that was reconciled."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    last_applied_revision: str = ""
    """Revision of the source that was last applied with success."""
    last_applied_origin_revision: str = ""
    """What that revision was packed from, where its artifact says so."""
    last_attempted_revision: str = ""
    """Revision of the source that was last tried."""
    inventory: Inventory | None = None
    """Which objects were applied."""
    history: tuple[Snapshot, ...] = ()
    """What became of the last rendered sets, newest first."""


class Kustomization(KubeStruct, frozen=True, kw_only=True):
    """Objects rendered from a source and applied to a cluster."""

    resource: ClassVar[Resource] = Resource(
        group=KUSTOMIZE_GROUP,
        version="v1",
        kind="Kustomization",
        plural="kustomizations",
        short_names=("ks",),
        categories=("all", "fluxcd", "fluxcd-appliers"),
        columns=(
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
        ),
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: KustomizationSpec
    status: KustomizationStatus = KustomizationStatus()
