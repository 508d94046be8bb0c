"""What the server does to an object before it keeps it: `PrepareForCreate` and `PrepareForUpdate` of its registries.

Also what its own admission does of which nothing outside the object is asked: finalizers of volumes, and what a pod
gets of its service account, of priority and of tolerations.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Final

from tidelog.engine.cluster.embedded.builtin import services
from tidelog.engine.cluster.embedded.builtin.defaults import TEMPLATE_GENERATION, GroupKind
from tidelog.engine.cluster.embedded.builtin.normal import normalise
from tidelog.engine.cluster.embedded.builtin.pod_admission import admit_pod, tolerate
from tidelog.engine.cluster.embedded.builtin.pods import quality_of_service
from tidelog.engine.cluster.embedded.builtin.types import type_of
from tidelog.engine.objects.kube import KubeObject

_Create = Callable[[KubeObject], None]
_Update = Callable[[KubeObject, KubeObject], None]

ADMISSION: Final = "admissionregistration.k8s.io"
FLOWCONTROL: Final = "flowcontrol.apiserver.k8s.io"
RESOURCE: Final = "resource.k8s.io"
CRD: Final = ("apiextensions.k8s.io", "CustomResourceDefinition")
JOB: Final = ("batch", "Job")

_COUNTED: Final[Mapping[GroupKind, tuple[str, ...]]] = {
    ("", "Pod"): ("spec",),
    ("", "ReplicationController"): ("spec",),
    ("", "PodTemplate"): ("template",),
    ("apps", "Deployment"): ("spec",),
    ("apps", "StatefulSet"): ("spec",),
    ("apps", "DaemonSet"): ("spec",),
    ("apps", "ReplicaSet"): ("spec",),
    ("batch", "Job"): ("spec",),
    ("batch", "CronJob"): ("spec",),
    ("networking.k8s.io", "Ingress"): ("spec",),
    ("networking.k8s.io", "IngressClass"): ("spec",),
    ("networking.k8s.io", "NetworkPolicy"): ("spec",),
    ("policy", "PodDisruptionBudget"): ("spec",),
    ("discovery.k8s.io", "EndpointSlice"): ("endpoints", "ports", "addressType"),
    ("scheduling.k8s.io", "PriorityClass"): (),
    ("storage.k8s.io", "CSIDriver"): ("spec",),
    ("storage.k8s.io", "VolumeAttachment"): ("spec",),
    (ADMISSION, "ValidatingWebhookConfiguration"): ("webhooks",),
    (ADMISSION, "MutatingWebhookConfiguration"): ("webhooks",),
    (ADMISSION, "ValidatingAdmissionPolicy"): ("spec",),
    (ADMISSION, "ValidatingAdmissionPolicyBinding"): ("spec",),
    (FLOWCONTROL, "FlowSchema"): ("spec",),
    (FLOWCONTROL, "PriorityLevelConfiguration"): ("spec",),
    (RESOURCE, "ResourceSlice"): ("spec",),
    (RESOURCE, "DeviceClass"): ("spec",),
    CRD: ("spec",),
}
"""The fields whose change makes a new generation, of each kind that has one."""
_NOT_AT_FIRST: Final = frozenset({("storage.k8s.io", "CSIDriver"), ("storage.k8s.io", "VolumeAttachment")})
"""Kinds whose generation begins with the first change."""
_KEEP_STATUS: Final = frozenset({("", "Node")})
"""Kinds that may be created with a status."""


def has_generation(kind: GroupKind) -> bool:
    """Whether objects of the kind count the changes of their spec."""
    return kind in _COUNTED


def prepare_create(kind: GroupKind, obj: KubeObject) -> None:
    """What becomes of a new object whose metadata is filled in, in place."""
    of = type_of(obj)
    if of is None:
        return
    metadata = obj.setdefault("metadata", {})
    if kind in _COUNTED and kind not in _NOT_AT_FIRST:
        metadata["generation"] = 1
    if "status" in of.fields and kind not in _KEEP_STATUS:
        obj.pop("status", None)
    own = _CREATE.get(kind)
    if own is not None:
        own(obj)
    normalise(obj)


def prepare_update(kind: GroupKind, new: KubeObject, old: KubeObject) -> None:
    """What becomes of an object that is to take the place of `old`, in place: its status, and what it may not unset."""
    of = type_of(new)
    if of is None:
        return
    if "status" in of.fields and kind not in _KEEP_STATUS:
        _keep(new, old, "status")
    own = _UPDATE.get(kind)
    if own is not None:
        own(new, old)
    normalise(new)
    _count(kind, new, old)


def prepare_status_update(kind: GroupKind, new: KubeObject, old: KubeObject) -> None:
    """What becomes of an object of which only the status is to be updated, in place: all else is as it was."""
    for field in (*old, *new):
        if field not in ("status", "metadata"):
            _keep(new, old, field)
    kept = _KEPT_BY_STATUS.get(kind, ())
    for field in ("generation", *kept):
        _keep(new["metadata"], old["metadata"], field)
    if kind == ("", "Pod") and not (new.get("status") or {}).get("qosClass"):
        _keep(new.setdefault("status", {}), old.get("status") or {}, "qosClass")
    if type_of(new) is not None:
        normalise(new)


_META_OF_STATUS: Final = ("labels", "annotations", "ownerReferences", "finalizers", "deletionTimestamp")
_KEPT_BY_STATUS: Final[Mapping[GroupKind, tuple[str, ...]]] = {
    ("apps", "Deployment"): ("labels",),
    ("", "Pod"): ("ownerReferences", "deletionTimestamp"),
    (FLOWCONTROL, "FlowSchema"): _META_OF_STATUS,
    (FLOWCONTROL, "PriorityLevelConfiguration"): _META_OF_STATUS,
    ("apiregistration.k8s.io", "APIService"): _META_OF_STATUS,
    ("networking.k8s.io", "ServiceCIDR"): _META_OF_STATUS,
    ("storage.k8s.io", "VolumeAttachment"): _META_OF_STATUS,
    (ADMISSION, "ValidatingAdmissionPolicy"): _META_OF_STATUS,
    (RESOURCE, "ResourceClaim"): _META_OF_STATUS,
}
"""Metadata that stays, too, when only the status is written."""


def _count(kind: GroupKind, new: KubeObject, old: KubeObject) -> None:
    generation = old["metadata"].get("generation", 0)
    changed = any(new.get(field) != old.get(field) for field in _COUNTED.get(kind, ()))
    if kind == ("apps", "Deployment"):
        changed |= (new["metadata"].get("annotations") or {}) != (old["metadata"].get("annotations") or {})
    if kind == ("discovery.k8s.io", "EndpointSlice"):
        changed |= any(new["metadata"].get(one) != old["metadata"].get(one) for one in ("labels", "annotations"))
    new["metadata"]["generation"] = generation + changed
    if not new["metadata"]["generation"]:
        del new["metadata"]["generation"]


def _keep(new: KubeObject, old: KubeObject, field: str) -> None:
    if field in old:
        new[field] = deepcopy(old[field])
    else:
        new.pop(field, None)


def _create_namespace(namespace: KubeObject) -> None:
    namespace["status"] = {"phase": "Active"}
    spec = namespace.setdefault("spec", {})
    finalizers = spec.get("finalizers") or []
    spec["finalizers"] = finalizers if "kubernetes" in finalizers else [*finalizers, "kubernetes"]


def _update_namespace(new: KubeObject, old: KubeObject) -> None:
    _keep(new.setdefault("spec", {}), old.get("spec") or {}, "finalizers")


def _create_pod(pod: KubeObject) -> None:
    admit_pod(pod)
    pod["status"] = {"phase": "Pending", "qosClass": quality_of_service(pod.get("spec") or {})}


def _create_claim(claim: KubeObject) -> None:
    _finalize(claim, "kubernetes.io/pvc-protection")
    claim["status"] = {"phase": "Pending"}
    _pair_data_sources(claim)


def _pair_data_sources(claim: KubeObject, old: KubeObject | None = None) -> None:
    """The old field and the new one for what a volume is filled from say the same."""
    spec = claim.get("spec") or {}
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None and (old or {}).get("spec", {}).get("dataSource") != source:
        known = {("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")}
        if (source.get("apiGroup") or "", source.get("kind")) not in known:
            source = spec.pop("dataSource", None) and None
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = dict(reference)


def _create_volume(volume: KubeObject) -> None:
    _finalize(volume, "kubernetes.io/pv-protection")
    status: KubeObject = {"phase": "Pending"}
    if "creationTimestamp" in volume["metadata"]:
        status["lastPhaseTransitionTime"] = volume["metadata"]["creationTimestamp"]
    volume["status"] = status


def _finalize(obj: KubeObject, finalizer: str) -> None:
    metadata = obj["metadata"]
    if finalizer not in (metadata.get("finalizers") or []):
        metadata["finalizers"] = [*(metadata.get("finalizers") or []), finalizer]


def _create_node(node: KubeObject) -> None:
    """Nothing is scheduled onto a new node until it is ready."""
    spec = node.setdefault("spec", {})
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    if taint not in (spec.get("taints") or []):
        spec["taints"] = [*(spec.get("taints") or []), taint]


def _create_daemon_set(daemon_set: KubeObject) -> None:
    annotations = daemon_set["metadata"].get("annotations") or {}
    said = str(annotations.get(TEMPLATE_GENERATION, ""))
    generation = said if said.isdigit() and int(said) else "1"
    daemon_set["metadata"]["annotations"] = {**annotations, TEMPLATE_GENERATION: generation}


def _update_daemon_set(new: KubeObject, old: KubeObject) -> None:
    annotations = old["metadata"].get("annotations") or {}
    generation = int(annotations.get(TEMPLATE_GENERATION) or 0)
    generation += new["spec"].get("template") != old["spec"].get("template")
    said = dict(new["metadata"].get("annotations") or {})
    new["metadata"]["annotations"] = {**said, TEMPLATE_GENERATION: str(generation)}


def _create_job(job: KubeObject) -> None:
    spec = job["spec"]
    if spec.get("manualSelector"):
        return
    name, uid = job["metadata"].get("name", ""), job["metadata"].get("uid", "")
    own = {"job-name": name, "batch.kubernetes.io/job-name": name}
    own |= {"controller-uid": uid, "batch.kubernetes.io/controller-uid": uid}
    metadata = spec.setdefault("template", {}).setdefault("metadata", {})
    labels = metadata.setdefault("labels", {})
    labels |= {key: value for key, value in own.items() if key not in labels}
    job["metadata"]["labels"] = dict(job["metadata"].get("labels") or labels)
    selector = spec.setdefault("selector", {})
    selector["matchLabels"] = {"batch.kubernetes.io/controller-uid": uid, **(selector.get("matchLabels") or {})}


def _clean_references(account: KubeObject) -> None:
    """Of a secret that a service account names, only the name is kept."""
    if account.get("secrets"):
        account["secrets"] = [{k: v for k, v in one.items() if k == "name"} for one in account["secrets"]]


def _create_definition(definition: KubeObject) -> None:
    versions = (definition.get("spec") or {}).get("versions") or ()
    stored = [version.get("name") for version in versions if version.get("storage")]
    definition["status"] = {"storedVersions": stored[:1]}


def _create_api_service(service: KubeObject) -> None:
    """One that is served by the server itself is available at once."""
    if (service.get("spec") or {}).get("service") is None:
        condition = {"type": "Available", "status": "True", "reason": "Local"}
        at = service["metadata"].get("creationTimestamp")
        message = "Local APIServices are always available"
        service["status"] = {"conditions": [{**condition, "message": message, "lastTransitionTime": at}]}


def _create_signing_request(request: KubeObject) -> None:
    for field in ("username", "uid", "groups", "extra"):
        (request.get("spec") or {}).pop(field, None)


def _update_signing_request(new: KubeObject, old: KubeObject) -> None:
    _keep(new, old, "spec")


_CREATE: Final[Mapping[GroupKind, _Create]] = {
    ("", "Namespace"): _create_namespace,
    ("", "Node"): _create_node,
    ("", "Pod"): _create_pod,
    ("", "PersistentVolumeClaim"): _create_claim,
    ("", "PersistentVolume"): _create_volume,
    ("", "Service"): services.prepare_create,
    ("", "ServiceAccount"): _clean_references,
    ("apps", "DaemonSet"): _create_daemon_set,
    JOB: _create_job,
    CRD: _create_definition,
    ("apiregistration.k8s.io", "APIService"): _create_api_service,
    ("certificates.k8s.io", "CertificateSigningRequest"): _create_signing_request,
}
_UPDATE: Final[Mapping[GroupKind, _Update]] = {
    ("", "Namespace"): _update_namespace,
    ("", "PersistentVolumeClaim"): _pair_data_sources,
    ("", "Pod"): lambda new, _: tolerate(new["spec"]),
    ("", "Service"): services.prepare_update,
    ("", "ServiceAccount"): lambda new, _: _clean_references(new),
    ("apps", "DaemonSet"): _update_daemon_set,
    ("certificates.k8s.io", "CertificateSigningRequest"): _update_signing_request,
}
