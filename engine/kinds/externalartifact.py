"""ExternalArtifact, source.toolkit.fluxcd.io/v1 (contract 2.9): what another controller offers."""

from typing import ClassVar

from tidelog.engine.kinds.meta import (
    READY_MESSAGE,
    READY_STATUS,
    SOURCE_GROUP,
    Artifact,
    Column,
    Condition,
    KubeStruct,
    ObjectMeta,
    Resource,
)


class ProducerReference(KubeStruct, frozen=True, kw_only=True):
    """Names the object that the artifact is made from."""

    api_version: str = ""
    """API version of the object."""
    kind: str
    """Kind of the object."""
    name: str
    """Name of the object."""
    namespace: str = ""
    """Namespace of the object; that of the ExternalArtifact where it is not given."""


class ExternalArtifactSpec(KubeStruct, frozen=True, kw_only=True):
    """Whose artifact it is; nothing of it steers an engine."""

    suspend: ClassVar[bool] = False
    source_ref: ProducerReference | None = None
    """The object that the artifact is made from, for people."""


class ExternalArtifactStatus(KubeStruct, frozen=True, kw_only=True):
    """What the other controller offers; it alone writes it (contract EA-002)."""

    last_handled_reconcile_at: ClassVar[str] = ""
    artifact: Artifact | None = None
    """What is offered."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""


class ExternalArtifact(KubeStruct, frozen=True, kw_only=True):
    """An artifact that another controller makes and serves."""

    resource: ClassVar[Resource] = Resource(
        group=SOURCE_GROUP,
        version="v1",
        kind="ExternalArtifact",
        plural="externalartifacts",
        short_names=("ea",),
        categories=("all", "fluxcd", "fluxcd-sources"),
        columns=(
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
            Column("Source", ".spec.sourceRef.name"),
        ),
        is_observed=False,
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: ExternalArtifactSpec = ExternalArtifactSpec()
    status: ExternalArtifactStatus = ExternalArtifactStatus()
