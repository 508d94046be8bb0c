"""A source or target that users declare, as it stands in the cluster."""

from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar

from tidelog.engine.kinds.bucket import BucketSpec
from tidelog.engine.kinds.decode import InvalidObjectError, decode
from tidelog.engine.kinds.durations import Interval
from tidelog.engine.kinds.externalartifact import ExternalArtifactSpec
from tidelog.engine.kinds.gitrepository import GitRepositorySpec
from tidelog.engine.kinds.helmchart import ChartSourceReference, HelmChartSpec
from tidelog.engine.kinds.helmrelease import ChartReference, HelmReleaseSpec, HelmReleaseStatus, ReleaseDefaults
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.kinds.kustomization import KustomizationSpec, KustomizationStatus, SourceReference
from tidelog.engine.kinds.meta import (
    REQUESTED_AT,
    SOURCE_GROUP,
)
from tidelog.engine.kinds.ocirepository import OCIRepositorySpec
from tidelog.engine.kinds.registry import (
    BY_NAME,
    STATUSES,
    SourceSpec,
    SourceStatus,
    TargetSpec,
    TargetStatus,
)
from tidelog.engine.objects.depth import DEPTH_MAX, bounded
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.runtime.texts import cut
from tidelog.engine.secrecy.handed import Handed
from tidelog.events.names import ObjectId, ObjectKey, StreamName

TOKEN_BYTES_MAX = 512
"""Of a request's token, in JSON: a time as a rule, and whatever somebody writes into an annotation."""

Spec = TypeVar("Spec", bound=SourceSpec | TargetSpec)
Status = TypeVar("Status", bound=SourceStatus | TargetStatus)


class Declared(Generic[Spec, Status]):
    """One source or target, as it was last seen."""

    def __init__(
        self, stream: StreamName, live: KubeObject, spec: Spec, status: Status, problems: tuple[str, ...]
    ) -> None:
        metadata = live["metadata"]
        self.stream = stream
        self.key: ObjectKey = key_of(live)
        self.live = live
        self.spec: Spec = spec
        self.status: Status = status
        self.problems = problems
        """What is wrong with the object, a sentence each."""
        self.uid: str = metadata["uid"]
        self.generation: int = metadata.get("generation", 0)
        self.deleting = "deletionTimestamp" in metadata
        self.finalizers: tuple[str, ...] = tuple(metadata.get("finalizers") or ())
        self.annotations: Mapping[str, str] = metadata.get("annotations") or {}
        self.found: dict[ObjectId, str] = {}
        """Of a target: what its status listed when it was first seen, with the API version."""
        self.begun: dict[ObjectId, str] = {}
        """Of a target: what an apply that did not come to its end was to write; it may have, and nobody know of it."""
        self.secret = False
        """Whether another target makes it with secret values, which may stand anywhere in its spec."""
        self.handed = Handed()
        """Of a target: what in its spec is secret because of who makes it, as its last pass found."""
        self.newer = ""
        """Of a target: the revision that its status told when it was first seen, if it is not known to have had it."""

    @property
    def requested_at(self) -> str | None:
        """The token of the last request to reconcile (Flux contract CM-034); of one that no tool writes, a part."""
        token = self.annotations.get(REQUESTED_AT)
        return None if token is None else cut(token, TOKEN_BYTES_MAX)

    def is_asked(self, annotation: str) -> bool:
        """Whether an annotation goes with the last request to reconcile (contract CM-035, CM-036)."""
        token = self.annotations.get(annotation)
        return bool(token) and token == self.requested_at

    def is_echo(self, live: KubeObject) -> bool:
        """Whether a watch tells what our own write of the status answered, and nothing that was not told before."""
        told, known = live["metadata"], self.live["metadata"]
        return bool(
            told["uid"] == self.uid
            and told["resourceVersion"] == known["resourceVersion"]
            and told.get("generation", 0) == self.generation
            and (told.get("annotations") or {}) == self.annotations
            and tuple(told.get("finalizers") or ()) == self.finalizers
            and not self.deleting
            and "deletionTimestamp" not in told
        )

    @property
    def suspended(self) -> bool:
        """Whether its spec says that it is to be left alone."""
        return self.spec.suspend


def source_of(target: "DeclaredTarget") -> ObjectKey:
    """The source that a target is rendered from; in its own namespace, where it names none."""
    if isinstance(target.spec, HelmReleaseSpec):
        return target.spec.chart_source(target.key.namespace, target.key.name)
    reference = target.spec.source_ref
    return ObjectKey(SOURCE_GROUP, reference.kind, reference.namespace or target.key.namespace, reference.name)


def chart_source_of(chart: "DeclaredSource") -> ObjectKey:
    """The source that a HelmChart names; it is in its own namespace (contract HC-003)."""
    if not isinstance(chart.spec, HelmChartSpec):
        raise TypeError(f"{chart.key.shown} is no HelmChart")
    reference = chart.spec.source_ref
    return ObjectKey(SOURCE_GROUP, reference.kind, chart.key.namespace, reference.name)


DeclaredSource: TypeAlias = Declared[SourceSpec, SourceStatus]
DeclaredKustomization: TypeAlias = Declared[KustomizationSpec, KustomizationStatus]
DeclaredRelease: TypeAlias = Declared[HelmReleaseSpec, HelmReleaseStatus]
DeclaredTarget: TypeAlias = DeclaredKustomization | DeclaredRelease
AnyDeclared: TypeAlias = DeclaredSource | DeclaredTarget

# What stands in for the spec of an object that cannot be read; its problems keep it from being worked on.
_INTERVAL = Interval.of_seconds(3600)
_NOTHING: Mapping[str, SourceSpec | TargetSpec] = {
    "GitRepository": GitRepositorySpec(url="https://invalid", interval=_INTERVAL),
    "OCIRepository": OCIRepositorySpec(url="oci://invalid", interval=_INTERVAL),
    "Bucket": BucketSpec(bucket_name="invalid", endpoint="invalid", interval=_INTERVAL),
    "HelmRepository": HelmRepositorySpec(url="https://invalid"),
    "HelmChart": HelmChartSpec(
        chart="invalid", source_ref=ChartSourceReference(kind="HelmRepository", name="invalid"), interval=_INTERVAL
    ),
    "ExternalArtifact": ExternalArtifactSpec(),
    "Kustomization": KustomizationSpec(
        interval=_INTERVAL, prune=False, source_ref=SourceReference(kind="GitRepository", name="invalid")
    ),
    "HelmRelease": HelmReleaseSpec(interval=_INTERVAL, chart_ref=ChartReference(kind="HelmChart", name="invalid")),
}


def is_kustomization(declared: AnyDeclared) -> TypeGuard[DeclaredKustomization]:
    """Whether it is a Kustomization."""
    return isinstance(declared.spec, KustomizationSpec)


def is_release(declared: AnyDeclared) -> TypeGuard[DeclaredRelease]:
    """Whether it is a HelmRelease."""
    return isinstance(declared.spec, HelmReleaseSpec)


def is_source(declared: AnyDeclared) -> TypeGuard[DeclaredSource]:
    """Whether it is a source."""
    return not is_target(declared)


def is_target(declared: AnyDeclared) -> TypeGuard[DeclaredTarget]:
    """Whether it is a target, and not a source."""
    return is_kustomization(declared) or is_release(declared)


def read_declared(live: KubeObject, alias: str, defaults: ReleaseDefaults | None = None) -> AnyDeclared:
    """A source or target as the API server has it; what cannot be read of it is among its problems.

    Args:
        live: the object.
        alias: of the cluster.
        defaults: of HelmReleases; None for those of Flux without gates.
    """
    stream = key_of(live).stream(alias)
    kind, told = live["kind"], live
    live = bounded(told)
    if live is not told:
        deep = f"it has more than {DEPTH_MAX} maps and lists within one another: make it flatter"
        return _declared(stream, live, _NOTHING[kind], read_status(live), (deep,))
    try:
        read: Any = decode(BY_NAME[kind], live)
    except InvalidObjectError as error:
        sentences = tuple(str(problem) for problem in error.problems)
        return _declared(stream, live, _NOTHING[kind], STATUSES[kind](), sentences)
    spec = read.spec
    if defaults is not None and isinstance(spec, HelmReleaseSpec):
        spec = spec.completed(defaults)
    return _declared(stream, live, spec, read.status, ())


def _declared(stream: StreamName, live: KubeObject, spec: Any, status: Any, problems: tuple[str, ...]) -> AnyDeclared:
    """Which of the two it is, its kind says."""
    made: AnyDeclared = Declared(stream, live, spec, status, problems)
    return made


def read_status(live: KubeObject) -> SourceStatus | TargetStatus:
    """The status of a source or target as the API server has it; empty where it cannot be read."""
    kind = STATUSES[live["kind"]]
    try:
        return decode(kind, live.get("status") or {})
    except InvalidObjectError:
        return kind()


def manager_of(kind: str) -> str:
    """The field manager that writes finalizers and statuses of a kind (Flux contract SC-009).

    Of a target another than the one that applies objects: where one applies others of its kind, it would take the
    finalizers that an update of that name left for fields to be taken over, and remove them (KS-074).
    """
    return {"Kustomization": "gotk-kustomize-controller", "HelmRelease": "gotk-helm-controller"}.get(
        kind, "source-controller"
    )


def controller_of(kind: str) -> str:
    """The controller of Flux that is at work on a kind, by whose name events and logs go."""
    return {"Kustomization": "kustomize-controller", "HelmRelease": "helm-controller"}.get(kind, "source-controller")
