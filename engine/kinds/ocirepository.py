"""OCIRepository, source.toolkit.fluxcd.io/v1 (contract 2.5)."""

from typing import Annotated, ClassVar, Literal, TypeAlias

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
    LocalReference,
    ObjectMeta,
    Resource,
)

Operation: TypeAlias = Literal["extract", "copy"]
Provider: TypeAlias = Annotated[
    Literal["generic", "aws", "azure", "gcp"], msgspec.Meta(extra_json_schema={"default": "generic"})
]


class OCIReference(KubeStruct, frozen=True, kw_only=True):
    """What to pull. If several fields are set, digest goes before semver and tag (OC-003)."""

    digest: str = ""
    """Digest of the manifest, as sha256:<hex>; goes before all others."""
    semver: str = ""
    """Range of versions: the highest tag in it is pulled; goes before tag."""
    semver_filter: str = ""
    """Regular expression of the tags that are looked at for semver."""
    tag: str = ""
    """Tag to pull; latest where no field is set."""


class LayerSelector(KubeStruct, frozen=True, kw_only=True):
    """Which layer of an OCI artifact is taken, and how."""

    media_type: str = ""
    """Media type of the layer: the first one of it; the first layer of all where it is not given."""
    operation: Operation | None = None
    """Whether the layer is unpacked, and packed again without what is ignored (extract), or taken as it is (copy)."""


class OIDCIdentity(KubeStruct, frozen=True, kw_only=True):
    """Who may have signed without a key."""

    issuer: str
    """Regular expression of the issuer of the token."""
    subject: str
    """Regular expression of the subject of the token."""


class OCIVerification(KubeStruct, frozen=True, kw_only=True):
    """Which signatures an artifact needs."""

    provider: Annotated[Literal["cosign", "notation"], msgspec.Meta(extra_json_schema={"default": "cosign"})]
    """What signed the artifact: cosign or notation."""
    secret_ref: LocalReference | None = None
    """Secret with public keys under keys that end in .pub (cosign), or a trust policy and certificates (notation)."""
    match_oidc_identity: tuple[OIDCIdentity, ...] = msgspec.field(default=(), name="matchOIDCIdentity")
    """Who may have signed without a key; each of them may."""
    trusted_root_secret_ref: LocalReference | None = None
    """Secret with the roots of trust of a Sigstore of one's own, under trusted_root.json."""


class OCIRepositorySpec(KubeStruct, frozen=True, kw_only=True):
    """Where an OCI artifact is, and what to pull of it."""

    url: Annotated[str, msgspec.Meta(pattern="^oci://.*$")]
    """Address of the repository, as oci://host/path, without a tag or digest."""
    ref: OCIReference | None = None
    """What to pull; the tag latest where it is not given."""
    layer_selector: LayerSelector | None = None
    """Which layer is taken, and how; the first one, unpacked, where it is not given."""
    provider: Provider = "generic"
    """Who authenticates: generic (credentials of secretRef or of the ServiceAccount), aws, azure or gcp."""
    secret_ref: LocalReference | None = None
    """Secret of the type kubernetes.io/dockerconfigjson with the credentials of the registry."""
    verify: OCIVerification | None = None
    """Signatures that an artifact needs."""
    service_account_name: str = ""
    """ServiceAccount whose image pull secrets are used, or, with a cloud's provider, its identity."""
    cert_secret_ref: LocalReference | None = None
    """Secret with ca.crt, and with tls.crt and tls.key, for the connection to the registry."""
    proxy_secret_ref: LocalReference | None = None
    """Secret with the proxy to use: address, and username and password if it asks for them."""
    interval: Interval
    """How often the repository is asked for something new."""
    timeout: Annotated[SourceTimeout, msgspec.Meta(extra_json_schema={"default": "60s"})] = DEFAULT_TIMEOUT
    """Limit of each operation on the registry; 60s where it is not given."""
    ignore: str | None = None
    """Patterns, in the form of .gitignore, of files that are left out of the artifact."""
    insecure: bool = False
    """Whether the registry may be reached over HTTP, or without its certificate being verified."""
    suspend: bool = False
    """Whether the repository is left alone for now."""

    @property
    def media_type(self) -> str:
        """Media type of the layer to take; empty for the first layer."""
        return self.layer_selector.media_type if self.layer_selector is not None else ""

    @property
    def operation(self) -> Operation:
        """What is done with the layer, with its default (contract OC-009)."""
        return (self.layer_selector.operation if self.layer_selector is not None else None) or "extract"


class OCIRepositoryStatus(KubeStruct, frozen=True, kw_only=True):
    """What was pulled, and how it went (contract OC-025)."""

    observed_generation: int = 0
    """Last generation that was dealt with."""
    conditions: tuple[Condition, ...] = ()
    """How it went, aspect by aspect."""
    url: str = ""
    """Address of the artifact that was last pulled, whichever that is."""
    artifact: Artifact | None = None
    """What was last pulled."""
    observed_ignore: str | None = None
    """The spec's ignore with which the artifact was made."""
    observed_layer_selector: LayerSelector | None = None
    """The spec's layerSelector with which the artifact was made."""
    last_handled_reconcile_at: str = ""
    """Token of the last request to reconcile that was answered."""


class OCIRepository(KubeStruct, frozen=True, kw_only=True):
    """A repository of a registry whose artifacts become artifacts of the cluster."""

    resource: ClassVar[Resource] = Resource(
        group=SOURCE_GROUP,
        version="v1",
        kind="OCIRepository",
        plural="ocirepositories",
        short_names=("ocirepo",),
        categories=("all", "fluxcd", "fluxcd-sources"),
        columns=(
            Column("URL", ".spec.url"),
            Column("Ready", READY_STATUS),
            Column("Status", READY_MESSAGE),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
    )

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: OCIRepositorySpec
    status: OCIRepositoryStatus = OCIRepositoryStatus()
