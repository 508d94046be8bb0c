"""What the kinds have in common: references, artifacts, conditions, and the keys that steer an engine.

The structs are the API: `crds.py` makes the schemas out of them (a field's docstring is its description), and
`decode.py` reads and checks objects by them. A field that is not required has a default, which is never written.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

import msgspec

from tidelog.engine.kinds.durations import SourceTimeout
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.names import ObjectKey

if TYPE_CHECKING:
    from tidelog.events.vocabulary.fetch import Annotation

REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"
"""Annotation: adding or changing it asks for a reconciliation (contract CM-034)."""
FORCE_AT = "reconcile.fluxcd.io/forceAt"
RESET_AT = "reconcile.fluxcd.io/resetAt"
"""Annotations of a HelmRelease: with the token of `REQUESTED_AT`, they ask for a release in any case, or that failures
be forgotten (contract CM-035, CM-036)."""
EVENT_PREFIX = "event.toolkit.fluxcd.io/"
"""Annotations that begin so are added to events (contract CM-038)."""
FINALIZER = "finalizers.fluxcd.io"
"""Contract CM-054."""
OWN_MANAGER = "tidelog"
"""The field manager of what the engine writes that Flux would not: Leases, requests, its own installation."""
PART_OF = "app.kubernetes.io/part-of"
INSTANCE = "app.kubernetes.io/instance"
VERSION = "app.kubernetes.io/version"

ORIGIN_REVISION = "org.opencontainers.image.revision"
"""Among what a source says of its artifact, the revision that this was made of (contract CM-033); as Flux pushes
artifacts, `main@sha1:<hex>`."""

READY_STATUS = '.status.conditions[?(@.type=="Ready")].status'
READY_MESSAGE = '.status.conditions[?(@.type=="Ready")].message'
DEFAULT_TIMEOUT = SourceTimeout.of_seconds(60)
"""Of the operations of a source."""

SOURCE_GROUP = "source.toolkit.fluxcd.io"
KUSTOMIZE_GROUP = "kustomize.toolkit.fluxcd.io"
HELM_GROUP = "helm.toolkit.fluxcd.io"
OWNER_NAME = f"{KUSTOMIZE_GROUP}/name"
OWNER_NAMESPACE = f"{KUSTOMIZE_GROUP}/namespace"
"""Labels of what a Kustomization applied (contract CM-039)."""
KUSTOMIZATION = (KUSTOMIZE_GROUP, "Kustomization")
"""Group and kind."""
DEPENDS_ON = "tidelog.dev/depends-on"
"""Annotation: ids of objects of any kind (`apps/Deployment/shop/db`) that have to be healthy first, with commas."""
PRUNE = f"{KUSTOMIZE_GROUP}/prune"
RECONCILE = f"{KUSTOMIZE_GROUP}/reconcile"
SSA = f"{KUSTOMIZE_GROUP}/ssa"
FORCE = f"{KUSTOMIZE_GROUP}/force"
SUBSTITUTE = f"{KUSTOMIZE_GROUP}/substitute"
DECRYPT = f"{KUSTOMIZE_GROUP}/decrypt"
"""Flags on applied objects (contract CM-041 to CM-049)."""


HELM_RELEASE = (HELM_GROUP, "HelmRelease")
"""Group and kind."""
RELEASE_OWNER_NAME = f"{HELM_GROUP}/name"
RELEASE_OWNER_NAMESPACE = f"{HELM_GROUP}/namespace"
"""Labels of what a HelmRelease applied (contract HR-112)."""
DRIFT_DETECTION = f"{HELM_GROUP}/driftDetection"
"""Flag on objects of releases (contract CM-050)."""
_OWNERS = (
    (KUSTOMIZATION, OWNER_NAME, OWNER_NAMESPACE),
    (HELM_RELEASE, RELEASE_OWNER_NAME, RELEASE_OWNER_NAMESPACE),
)


def helm_chart_name(namespace: str, name: str) -> str:
    """The name of the HelmChart of a HelmRelease that has a template (contract HR-059)."""
    return f"{namespace}-{name}"


def labelled_maker(obj: KubeObject) -> ObjectKey | None:
    """The Kustomization or HelmRelease that made an object, as its labels say (contract KS-092, HR-112)."""
    labels = obj["metadata"].get("labels") or {}
    for kind, by_name, by_namespace in _OWNERS:
        name, namespace = labels.get(by_name), labels.get(by_namespace)
        if name and namespace:
            return ObjectKey(*kind, namespace, name)
    return None


def applier_of(kind: str) -> str:
    """The field manager that applies the objects of a target: Flux's own, so that what it takes over is its (KS-069).

    Args:
        kind: of the target.
    """
    return "helm-controller" if kind == "HelmRelease" else "kustomize-controller"


class KubeStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of an object of the API."""

    rules: ClassVar[tuple["Rule", ...]] = ()
    """What holds between the fields."""


class Rule(msgspec.Struct, frozen=True):
    """Something that holds between the fields of a struct."""

    cel: str
    """For the API server, in CEL."""
    message: str
    holds: Callable[[KubeObject], bool]
    """The same for us, asked of the object as JSON."""


class Column(msgspec.Struct, frozen=True):
    """A column that `kubectl get` prints."""

    name: str
    path: str
    type: Literal["string", "date"] = "string"


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """How a kind is served. All kinds are namespaced and have one version (contract CM-001 to CM-013)."""

    group: str
    version: str
    kind: str
    plural: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    columns: tuple[Column, ...]
    is_observed: bool = True
    """Whether its status tells the generation that was dealt with."""

    @property
    def api_version(self) -> str:
        """What an object's `apiVersion` says."""
        return f"{self.group}/{self.version}"

    @property
    def crd_name(self) -> str:
        """The name of the CustomResourceDefinition."""
        return f"{self.plural}.{self.group}"


Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339. Kubernetes writes whole seconds of UTC, for example `2026-11-23T01:36:51Z`."""
PlainInt = Annotated[int, msgspec.Meta(extra_json_schema={"format": None})]
"""An integer whose schema gives no size."""
Labels: TypeAlias = dict[str, str]


class LocalReference(KubeStruct, frozen=True, kw_only=True):
    """Names an object in the namespace of who refers to it."""

    name: str
    """Name of the object."""


class SecretKeyReference(KubeStruct, frozen=True, kw_only=True):
    """Names a Secret, and which of its keys, in the namespace of who refers to it."""

    name: str
    """Name of the Secret."""
    key: str = ""
    """Key in the Secret; without it, `value` is looked for, then `value.yaml`."""


class NamespacedReference(KubeStruct, frozen=True, kw_only=True):
    """Names any object."""

    api_version: str = ""
    """API version of the object; apps/v1 where it is not given."""
    kind: str
    """Kind of the object."""
    name: str
    """Name of the object."""
    namespace: str = ""
    """Namespace of the object; that of who refers to it where it is not given."""

    @property
    def effective_api_version(self) -> str:
        """API version of the object, with its default (contract KS-011)."""
        return self.api_version or "apps/v1"


def origin_in(annotations: Iterable["Annotation"]) -> str:
    """The revision that an artifact was made of, among what its source says of it; empty where it does not say."""
    return next((one.value for one in annotations if one.name == ORIGIN_REVISION), "")


class Artifact(KubeStruct, frozen=True, kw_only=True):
    """What a source offers for download (contract CM-027 to CM-033)."""

    path: str
    """Where the file lies below the root of what is served."""
    url: str
    """Address of the file, for an HTTP GET."""
    revision: str
    """Revision of the source, for people and for comparison as a whole."""
    digest: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$")]
    """Digest of the file, as `<algorithm>:<checksum>`."""
    last_update_time: Timestamp
    """When the file was last made."""
    size: int | None = None
    """Bytes of the file."""
    metadata: Labels = msgspec.field(default_factory=dict)
    """What the source says about the artifact, for example OCI annotations."""


Status = Literal["True", "False", "Unknown"]


class Condition(KubeStruct, frozen=True, kw_only=True):
    """One aspect of the state of an object."""

    type: Annotated[
        str,
        msgspec.Meta(
            max_length=316,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        ),
    ]
    """Name of the aspect, in CamelCase."""
    status: Status
    """Whether it holds: True, False or Unknown."""
    reason: Annotated[
        str, msgspec.Meta(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why it has this status, as one word in CamelCase, for programs."""
    message: Annotated[str, msgspec.Meta(max_length=32768)]
    """Why it has this status, for people."""
    last_transition_time: Timestamp
    """When status, reason or message last became another."""
    observed_generation: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Generation of the object that was looked at."""


class ObjectMeta(KubeStruct, frozen=True, kw_only=True):
    """What the engine reads of an object's metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: Labels = msgspec.field(default_factory=dict)
    annotations: Labels = msgspec.field(default_factory=dict)
    finalizers: tuple[str, ...] = ()

    @property
    def requested_at(self) -> str | None:
        """The token of the last request to reconcile (contract CM-034)."""
        return self.annotations.get(REQUESTED_AT)

    @property
    def deleting(self) -> bool:
        """Whether the object's deletion has begun."""
        return bool(self.deletion_timestamp)
