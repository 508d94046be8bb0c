"""HelmChart, source.toolkit.fluxcd.io/v1 (contract 2.7)."""

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from tidelog.engine.kinds.durations import Interval
from tidelog.engine.kinds.meta import (
    READY_MESSAGE,
    READY_STATUS,
    SOURCE_GROUP,
    Artifact,
    Column,
    Condition,
    KubeStruct,
    LocalReference,
    ObjectMeta,
    Resource,
    Rule,
)
from tidelog.engine.kinds.ocirepository import OIDCIdentity
from tidelog.engine.objects.kube import KubeObject

Strategy: TypeAlias = Literal["ChartVersion", "Revision"]


class ChartVerification(KubeStruct, frozen=True, kw_only=True):
    """Which signatures a chart needs."""

    provider: Annotated[Literal["cosign", "notation"], msgspec.Meta(extra_json_schema={"default": "cosign"})]
    """What signed the chart: cosign or notation."""
    secret_ref: LocalReference | None = None
    """Secret with public keys under keys that end in .pub (cosign), or a trust policy and certificates (notation)."""
    match_oidc_identity: tuple[OIDCIdentity, ...] = msgspec.field(default=(), name="matchOIDCIdentity")
    """Who may have signed without a key; each of them may."""


class ChartSourceReference(KubeStruct, frozen=True, kw_only=True):
    """Names the source that has the chart, in the HelmChart's own namespace."""

    api_version: str = ""
    """API version of the source."""
    kind: Literal["HelmRepository", "GitRepository", "Bucket"]
    """Kind of the source."""
    name: str
    """Name of the source."""


def _is_verified_of_a_repository(spec: KubeObject) -> bool:
    return "verify" not in spec or (spec.get("sourceRef") or {}).get("kind") == "HelmRepository"


class HelmChartSpec(KubeStruct, frozen=True, kw_only=True):
    """Which chart, of which source."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.verify) || self.sourceRef.kind == 'HelmRepository'",
            "spec.verify is only supported when spec.sourceRef.kind is 'HelmRepository'",
            _is_verified_of_a_repository,
        ),
    )

    chart: str
    """Name of the chart in a HelmRepository, or its path in a GitRepository or Bucket."""
    version: Annotated[str, msgspec.Meta(extra_json_schema={"default": "*"})] = "*"
    """Range of versions, of a chart in a HelmRepository; the newest stable one where it is not given."""
    source_ref: ChartSourceReference
    """The source that has the chart."""
    interval: Interval
    """How often the source is asked for something new."""
    reconcile_strategy: Annotated[Strategy, msgspec.Meta(extra_json_schema={"default": "ChartVersion"})] = (
        "ChartVersion"
    )
    """What makes a new artifact: another version of the chart, or another revision of its source too."""
    values_files: tuple[str, ...] = ()
    """Files that are merged, in order, to the chart's default values; the chart's own values.yaml is not among them
    unless it is named."""
    ignore_missing_values_files: bool = False
    """Whether values files that are not there are passed over."""
    suspend: bool = False
    """Whether the chart is left alone for now."""
    verify: ChartVerification | None = None
    """Signatures that the chart needs; for a HelmRepository that is a registry."""


class HelmChartStatus(KubeStruct, frozen=True, kw_only=True):
    """What was made, and how it went (contract HC-015)."""

    observed_generation: int = 0
    """Last generation that was dealt with."""
    observed_source_artifact_revision: str = ""
    """Revision of the source that the chart was made of."""
    observed_chart_name: str = ""
    """Name of the chart, as its metadata tell it."""
    observed_values_files: tuple[str, ...] = ()
    """The values files that were there and used."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    url: str = ""
    """Address of the chart that was last made, whichever that is."""
    artifact: Artifact | None = None
    """The chart that was last made."""
    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""


class HelmChart(KubeStruct, frozen=True, kw_only=True):
    """A Helm chart of a source, as an artifact."""

    resource: ClassVar[Resource] = Resource(
        group=SOURCE_GROUP,
        version="v1",
        kind="HelmChart",
        plural="helmcharts",
        short_names=("hc",),
        categories=("all", "fluxcd", "fluxcd-sources"),
        columns=(
            Column("Chart", ".spec.chart"),
            Column("Version", ".spec.version"),
            Column("Source Kind", ".spec.sourceRef.kind"),
            Column("Source Name", ".spec.sourceRef.name"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
        ),
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: HelmChartSpec
    status: HelmChartStatus = HelmChartStatus()
