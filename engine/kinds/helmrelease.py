"""HelmRelease, helm.toolkit.fluxcd.io/v2 (contract 4.1, 4.2, 4.7); its actions are in `helmactions.py`."""

import hashlib
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from tidelog.engine.kinds.durations import Duration, Interval
from tidelog.engine.kinds.helmactions import (
    ActionName,
    AnyAction,
    Install,
    InstallRemediation,
    InstallStrategy,
    ReleaseTest,
    ReleasingName,
    Rollback,
    Uninstall,
    Upgrade,
    UpgradeRemediation,
    UpgradeStrategy,
)
from tidelog.engine.kinds.helmchart import ChartSourceReference, ChartVerification, HelmChartSpec, Strategy
from tidelog.engine.kinds.meta import (
    HELM_GROUP,
    READY_MESSAGE,
    READY_STATUS,
    SOURCE_GROUP,
    Column,
    Condition,
    KubeStruct,
    Labels,
    LocalReference,
    ObjectMeta,
    PlainInt,
    Resource,
    Rule,
    Timestamp,
    helm_chart_name,
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
from tidelog.events.names import ObjectKey

ACTION_TIMEOUT = Duration.of_seconds(300)
"""Contract HR-018."""
HISTORY_MAX = 5
"""Releases that stay in Helm's storage (contract HR-019)."""
RELEASE_NAME_LENGTH_MAX = 53
_KEPT_LENGTH, _HASH_LENGTH = 40, 12
"""Of a name that is too long (contract HR-013)."""

DriftMode: TypeAlias = Literal["enabled", "warn", "disabled"]
PostRenderStrategy: TypeAlias = Literal["nohooks", "combined", "separate"]
WaitStrategyName: TypeAlias = Literal["poller", "legacy"]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
NamespaceName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
FreeForm: TypeAlias = Annotated[Any, msgspec.Meta(extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})]
"""Any JSON."""


class TemplateSourceReference(KubeStruct, frozen=True, kw_only=True):
    """Names the source that has the chart."""

    api_version: str = ""
    """API version of the source."""
    kind: Literal["HelmRepository", "GitRepository", "Bucket"]
    """Kind of the source."""
    name: Name
    """Name of the source."""
    namespace: NamespaceName | None = None
    """Namespace of the source, and of the HelmChart; that of the HelmRelease where it is not given."""


class TemplateVerification(KubeStruct, frozen=True, kw_only=True):
    """Which signatures the chart needs."""

    provider: Annotated[Literal["cosign", "notation"], msgspec.Meta(extra_json_schema={"default": "cosign"})]
    """What signed the chart: cosign or notation."""
    secret_ref: LocalReference | None = None
    """Secret with the public keys, or with a trust policy and certificates."""

    def of_chart(self) -> ChartVerification:
        """The same, as a HelmChart says it."""
        return ChartVerification(provider=self.provider, secret_ref=self.secret_ref)


class TemplateMetadata(KubeStruct, frozen=True, kw_only=True):
    """What the metadata of the HelmChart say."""

    labels: Labels = msgspec.field(default_factory=dict)
    """Labels of the HelmChart."""
    annotations: Labels = msgspec.field(default_factory=dict)
    """Annotations of the HelmChart."""


class TemplateSpec(KubeStruct, frozen=True, kw_only=True):
    """What the HelmChart says."""

    chart: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    """Name of the chart in a HelmRepository, or its path in a GitRepository or Bucket."""
    version: Annotated[str, msgspec.Meta(extra_json_schema={"default": "*"})] = "*"
    """Range of versions, of a chart in a HelmRepository; the newest stable one where it is not given."""
    source_ref: TemplateSourceReference
    """The source that has the chart."""
    interval: Interval | None = None
    """How often the source is asked for something new; spec.interval where it is not given."""
    reconcile_strategy: Annotated[Strategy, msgspec.Meta(extra_json_schema={"default": "ChartVersion"})] = (
        "ChartVersion"
    )
    """What makes another chart: another version of it, or another revision of its source too."""
    values_files: tuple[str, ...] = ()
    """Files that are merged, in order, to the chart's default values; its own values.yaml has to be named to be among
    them."""
    ignore_missing_values_files: bool = False
    """Whether values files that are not there are passed over."""
    verify: TemplateVerification | None = None
    """Signatures that the chart needs; for a HelmRepository that is a registry."""


class ChartTemplate(KubeStruct, frozen=True, kw_only=True):
    """A HelmChart that is made and looked after with the HelmRelease."""

    metadata: TemplateMetadata | None = None
    """Labels and annotations of the HelmChart."""
    spec: TemplateSpec
    """Which chart, of which source."""

    def namespace_of(self, own: str) -> str:
        """The namespace of the HelmChart, which is its source's, for a HelmRelease in `own` (contract HR-059)."""
        return self.spec.source_ref.namespace or own

    def helm_chart_spec(self, interval: Interval) -> HelmChartSpec:
        """The spec of the HelmChart, for a HelmRelease of this interval (contract HR-002 to HR-008)."""
        spec, source, verify = self.spec, self.spec.source_ref, self.spec.verify
        return HelmChartSpec(
            chart=spec.chart,
            version=spec.version,
            source_ref=ChartSourceReference(kind=source.kind, name=source.name),
            interval=interval if spec.interval is None else spec.interval,
            reconcile_strategy=spec.reconcile_strategy,
            values_files=spec.values_files,
            ignore_missing_values_files=spec.ignore_missing_values_files,
            verify=None if verify is None else verify.of_chart(),
        )


class ChartReference(KubeStruct, frozen=True, kw_only=True):
    """Names a source whose artifact is a chart."""

    api_version: str = ""
    """API version of the source."""
    kind: Literal["OCIRepository", "HelmChart", "ExternalArtifact"]
    """Kind of the source."""
    name: Name
    """Name of the source."""
    namespace: NamespaceName | None = None
    """Namespace of the source; that of the HelmRelease where it is not given."""


class ReleaseDependency(KubeStruct, frozen=True, kw_only=True):
    """Another HelmRelease that has to be ready first."""

    name: str
    """Name of the HelmRelease."""
    namespace: str = ""
    """Its namespace; that of this HelmRelease where it is not given."""
    ready_expr: str = ""
    """CEL expression that says whether it is ready, over `self` and `dep`."""


class ValuesReference(KubeStruct, frozen=True, kw_only=True):
    """An object that holds values."""

    kind: Literal["Secret", "ConfigMap"]
    """Secret or ConfigMap."""
    name: Name
    """Name of the object, in the namespace of the HelmRelease."""
    values_key: Annotated[str, msgspec.Meta(max_length=253, pattern=r"^[\-._a-zA-Z0-9]+$")] | None = None
    """Key in the object; values.yaml where it is not given."""
    target_path: (
        Annotated[str, msgspec.Meta(max_length=250, pattern=r"^([a-zA-Z0-9_\-.\\\/]|\[[0-9]{1,5}\])+$")] | None
    ) = None
    """Place that the value is set at, as `helm --set` writes it; without it, the key holds YAML that is merged."""
    optional: bool = False
    """Whether the object, or its key, may be missing."""
    literal: bool = False
    """Whether the text is set at targetPath as it stands, and not read as `helm --set` would."""

    @property
    def effective_values_key(self) -> str:
        """The key in the object (contract HR-022)."""
        return self.values_key or "values.yaml"


class DriftDetection(KubeStruct, frozen=True, kw_only=True):
    """What is done where the cluster's objects are not as the release has them."""

    mode: DriftMode | None = None
    """enabled: they are corrected; warn: it is only told; disabled (the default): nothing is compared."""
    ignore: tuple[IgnoreRule, ...] = ()
    """Fields of objects that are not compared."""

    @property
    def effective_mode(self) -> DriftMode:
        """What is done (contract HR-053)."""
        return self.mode or "disabled"

    @property
    def detects(self) -> bool:
        """Whether objects are compared (contract HR-080)."""
        return self.effective_mode != "disabled"

    @property
    def corrects(self) -> bool:
        """Whether objects are corrected (contract HR-088)."""
        return self.effective_mode == "enabled"


class KustomizeRenderer(KubeStruct, frozen=True, kw_only=True):
    """Changes in the way of kustomize."""

    patches: tuple[Patch, ...] = ()
    """Changes to the rendered objects."""
    images: tuple[Image, ...] = ()
    """Names, tags or digests for images."""


class PostRenderer(KubeStruct, frozen=True, kw_only=True):
    """A change to what the chart renders."""

    kustomize: KustomizeRenderer | None = None
    """Changes in the way of kustomize."""


class WaitStrategy(KubeStruct, frozen=True, kw_only=True):
    """How it is told whether objects are ready."""

    name: WaitStrategyName
    """poller: by their status, as for a Kustomization; legacy: as Helm 3 did."""


class ReleaseDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a HelmRelease does that does not say it itself: as the feature gates of the engine have it."""

    as_helm_3: bool = False
    """UseHelm3Defaults: it waits as Helm 3 did, and hooks are not post-rendered (contract HR-056, HR-057)."""
    retries: bool = False
    """DefaultToRetryOnFailure: what fails is tried again, and not undone (contract HR-029)."""


class HelmReleaseSpec(KubeStruct, frozen=True, kw_only=True):
    """Which chart to release, with which values, and how."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.chart) && !has(self.chartRef)) || (!has(self.chart) && has(self.chartRef))",
            "either chart or chartRef must be set",
            lambda spec: ("chart" in spec) != ("chartRef" in spec),
        ),
    )

    chart: ChartTemplate | None = None
    """HelmChart that is made for this release; chartRef names a source that is there instead."""
    chart_ref: ChartReference | None = None
    """The source whose artifact is the chart."""
    interval: Interval
    """How often the release is reconciled, changed or not."""
    kube_config: KubeConfigReference | None = None
    """The cluster to release to, where it is another one."""
    suspend: bool = False
    """Whether the release is left alone for now."""
    release_name: Annotated[str, msgspec.Meta(min_length=1, max_length=RELEASE_NAME_LENGTH_MAX)] | None = None
    """Name of the release. Where it is not given: that of the HelmRelease, after `<targetNamespace>-` if there is one;
    when that is over 53 characters, its first 40 and a hash."""
    target_namespace: NamespaceName | None = None
    """Namespace of the release and its objects; that of the HelmRelease where it is not given."""
    storage_namespace: NamespaceName | None = None
    """Namespace of the Secrets that record the release; that of the HelmRelease where it is not given."""
    depends_on: tuple[ReleaseDependency, ...] = ()
    """HelmReleases that have to be ready first."""
    timeout: Interval | None = None
    """Limit of one operation of an action that has none of its own; 5m where it is not given."""
    max_history: PlainInt | None = None
    """How many releases stay recorded; 5 where it is not given, and all with 0."""
    service_account_name: Name | None = None
    """ServiceAccount in whose name the chart is released."""
    persistent_client: bool | None = None
    """Whether what is known of the cluster's kinds is kept from one action to the next; it is where this is not
    given."""
    drift_detection: DriftDetection | None = None
    """What is done where the cluster's objects are not as the release has them; nothing where it is not given."""
    install: Install | None = None
    """How the chart is installed."""
    upgrade: Upgrade | None = None
    """How the release is upgraded."""
    test: ReleaseTest | None = None
    """How the release is tested; it is not where this is not given."""
    rollback: Rollback | None = None
    """How the release before is brought back, when an upgrade failed."""
    uninstall: Uninstall | None = None
    """How the release is uninstalled."""
    values_from: tuple[ValuesReference, ...] = ()
    """Objects that hold values; a later one goes before an earlier one, and values before all of them."""
    values: FreeForm = None
    """Values of the chart."""
    common_metadata: CommonMetadata | None = None
    """Labels and annotations that all objects get."""
    post_renderers: tuple[PostRenderer, ...] = ()
    """Changes to what the chart renders, in their order."""
    post_render_strategy: PostRenderStrategy | None = None
    """What the changes are made to. combined, the default: objects and hooks together; separate: each by themselves;
    nohooks: the objects alone."""
    wait_strategy: WaitStrategy | None = None
    """How it is told whether objects are ready; poller where it is not given."""
    health_check_exprs: tuple[CustomHealthCheck, ...] = ()
    """How to tell the health of custom resources; used where an action waits with poller."""

    def completed(self, defaults: ReleaseDefaults) -> "HelmReleaseSpec":
        """The spec, which says now what it left to the engine."""
        spec = self
        if defaults.as_helm_3:
            strategy = self.post_render_strategy or "nohooks"
            wait = self.wait_strategy or WaitStrategy(name="legacy")
            spec = msgspec.structs.replace(spec, post_render_strategy=strategy, wait_strategy=wait)
        if defaults.retries:
            install, upgrade = self.effective_install, self.effective_upgrade
            first = install.strategy or InstallStrategy(name="RetryOnFailure")
            later = upgrade.strategy or UpgradeStrategy(name="RetryOnFailure")
            install = msgspec.structs.replace(install, strategy=first)
            spec = msgspec.structs.replace(
                spec, install=install, upgrade=msgspec.structs.replace(upgrade, strategy=later)
            )
        return spec

    def release_name_of(self, name: str) -> str:
        """The name of the release, for a HelmRelease of this name (contract HR-013)."""
        chosen = self.release_name or (f"{self.target_namespace}-{name}" if self.target_namespace else name)
        return _shortened(chosen)

    def release_namespace_of(self, own: str) -> str:
        """The namespace of the release, for a HelmRelease in `own` (contract HR-014)."""
        return self.target_namespace or own

    def storage_namespace_of(self, own: str) -> str:
        """The namespace of the records, for a HelmRelease in `own` (contract HR-015)."""
        return self.storage_namespace or own

    def chart_source(self, namespace: str, name: str) -> ObjectKey:
        """The source whose artifact is the chart, for a HelmRelease of this name (contract HR-001, HR-059).

        Raises:
            ValueError: when there is neither a chart nor a chartRef, which decoding refuses.
        """
        if self.chart_ref is not None:
            chosen = self.chart_ref
            return ObjectKey(SOURCE_GROUP, chosen.kind, chosen.namespace or namespace, chosen.name)
        if self.chart is None:
            raise ValueError("invalid Chart reference")
        return ObjectKey(
            SOURCE_GROUP, "HelmChart", self.chart.namespace_of(namespace), helm_chart_name(namespace, name)
        )

    def effective_action(self, action: ActionName) -> AnyAction:
        """How an action is done."""
        match action:
            case "install":
                return self.effective_install
            case "upgrade":
                return self.effective_upgrade
            case "test":
                return self.effective_test
            case "rollback":
                return self.effective_rollback
            case "uninstall":
                return self.effective_uninstall

    def effective_timeout(self, action: ActionName) -> Duration:
        """The limit of one operation of an action (contract HR-018, HR-028)."""
        own = self.effective_action(action).timeout
        if own is not None:
            return own
        return ACTION_TIMEOUT if self.timeout is None else self.timeout

    def effective_remediation(self, action: ReleasingName) -> InstallRemediation | UpgradeRemediation:
        """How an action that failed is undone (contract HR-030, HR-032)."""
        if action == "install":
            return self.effective_install.effective_remediation
        return self.effective_upgrade.effective_remediation

    def ignores_test_failures(self, action: ReleasingName) -> bool:
        """Whether a release is good, whatever its tests say, after this action (contract HR-034)."""
        own = self.effective_remediation(action).ignore_test_failures
        return self.effective_test.ignore_failures if own is None else own

    @property
    def effective_install(self) -> Install:
        """How the chart is installed."""
        return self.install or Install()

    @property
    def effective_upgrade(self) -> Upgrade:
        """How the release is upgraded."""
        return self.upgrade or Upgrade()

    @property
    def effective_test(self) -> ReleaseTest:
        """How the release is tested (contract HR-052)."""
        return self.test or ReleaseTest()

    @property
    def effective_rollback(self) -> Rollback:
        """How the release before is brought back."""
        return self.rollback or Rollback()

    @property
    def effective_uninstall(self) -> Uninstall:
        """How the release is uninstalled (contract HR-049 to HR-051)."""
        return self.uninstall or Uninstall()

    @property
    def effective_drift_detection(self) -> DriftDetection:
        """What is done where the cluster's objects are not as the release has them (contract HR-053)."""
        return self.drift_detection or DriftDetection()

    @property
    def creates_namespace(self) -> bool:
        """Whether an install makes the namespace of the release (contract HR-035)."""
        return self.target_namespace is not None and self.effective_install.create_namespace

    @property
    def effective_max_history(self) -> int:
        """How many releases stay recorded; 0 for all (contract HR-019)."""
        return HISTORY_MAX if self.max_history is None else self.max_history

    @property
    def effective_values(self) -> dict[str, Any]:
        """The values that stand in the spec itself; what is no object counts for none (contract HR-023)."""
        return self.values if isinstance(self.values, dict) else {}

    @property
    def effective_post_render_strategy(self) -> PostRenderStrategy:
        """What post-renderers are given (contract HR-056)."""
        return self.post_render_strategy or "combined"

    @property
    def effective_wait_strategy(self) -> WaitStrategyName:
        """How it is told whether objects are ready (contract HR-057)."""
        return "poller" if self.wait_strategy is None else self.wait_strategy.name

    @property
    def effective_health_check_exprs(self) -> tuple[CustomHealthCheck, ...]:
        """How the health of custom resources is told; only the poller asks (contract HR-058)."""
        return self.health_check_exprs if self.effective_wait_strategy == "poller" else ()


def _shortened(name: str) -> str:
    if len(name) <= RELEASE_NAME_LENGTH_MAX:
        return name
    return f"{name[:_KEPT_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]}"


class HelmTestHook(KubeStruct, frozen=True, kw_only=True):
    """How a hook that tests went."""

    last_started: Timestamp = ""
    """When it was last started."""
    last_completed: Timestamp = ""
    """When it last ended."""
    phase: str = ""
    """How it ended: Succeeded or Failed, among others."""


class HelmSnapshot(KubeStruct, frozen=True, kw_only=True):
    """A release that was made, as it was last seen in Helm's storage (contract HR-123)."""

    api_version: str = ""
    """Version of the form that the snapshot has; digests are compared where it is v2."""
    digest: str
    """Digest of the record in Helm's storage."""
    name: str
    """Name of the release."""
    namespace: str
    """Namespace of the release."""
    version: PlainInt
    """Number of the release."""
    status: str
    """Status of the release, in Helm's words."""
    action: str = ""
    """What made it so: install, upgrade, rollback, uninstall or uninstall-remediation."""
    chart_name: str
    """Name of the chart."""
    chart_version: str
    """Version of the chart."""
    app_version: str = ""
    """Version of what the chart installs, as the chart tells it."""
    config_digest: str
    """Digest of the values."""
    first_deployed: Timestamp
    """When the release was first made."""
    last_deployed: Timestamp
    """When this number of it was made."""
    deleted: Timestamp = ""
    """When it was uninstalled."""
    test_hooks: dict[str, HelmTestHook] | None = None
    """How its tests went, by their names; empty where there are none, and not given before they were run."""
    oci_digest: str = ""
    """Digest of the artifact that the chart came from, in a registry."""


class HelmReleaseStatus(KubeStruct, frozen=True, kw_only=True):
    """What was released, and how it went."""

    observed_generation: int = 0
    """Last generation that was reconciled."""
    observed_post_renderers_digest: str = ""
    """Digest of spec.postRenderers, as last used."""
    observed_common_metadata_digest: str = ""
    """Digest of spec.commonMetadata, as last used."""
    last_attempted_generation: int = 0
    """Last generation that was tried."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    helm_chart: str = ""
    """The HelmChart of the template, as `<namespace>/<name>`."""
    storage_namespace: NamespaceName | None = None
    """Namespace of the Secrets that record the release."""
    history: tuple[HelmSnapshot, ...] = ()
    """Releases that were made, newest first."""
    inventory: Inventory | None = None
    """Which objects the release has, without hooks."""
    last_attempted_release_action: ReleasingName | None = None
    """What was last tried to make a release: install or upgrade."""
    last_attempted_release_action_duration: Duration | None = None
    """How long that took."""
    failures: int = 0
    """How many actions failed, for this chart and these values."""
    install_failures: int = 0
    """How many installs failed, for this chart and these values."""
    upgrade_failures: int = 0
    """How many upgrades failed, for this chart and these values."""
    last_attempted_revision: str = ""
    """Version of the chart that was last tried."""
    last_attempted_revision_digest: str = ""
    """Digest of the artifact that it came from, where that is in a registry."""
    last_attempted_values_checksum: str = ""
    """Deprecated, and never written: lastAttemptedConfigDigest says it."""
    last_release_revision: PlainInt = 0
    """Deprecated, and never written: history says it."""
    last_attempted_config_digest: str = ""
    """Digest of the values that were last tried."""
    last_handled_reset_at: str = ""
    """Token of the last request to forget failures that was looked at."""
    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""
    last_handled_force_at: str = ""
    """Token of the last request to release in any case that was looked at."""

    @property
    def helm_chart_key(self) -> ObjectKey | None:
        """The HelmChart of the template (contract HR-127)."""
        namespace, _, name = self.helm_chart.partition("/")
        return ObjectKey(SOURCE_GROUP, "HelmChart", namespace, name) if name else None


class HelmRelease(KubeStruct, frozen=True, kw_only=True):
    """A chart that is released to a cluster."""

    resource: ClassVar[Resource] = Resource(
        group=HELM_GROUP,
        version="v2",
        kind="HelmRelease",
        plural="helmreleases",
        short_names=("hr",),
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
    spec: HelmReleaseSpec
    status: HelmReleaseStatus = HelmReleaseStatus()
