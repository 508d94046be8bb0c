"""What the server refuses to change in an object of each kind."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import pod_problems, services
from tidelog.engine.cluster.embedded.builtin.checks import same
from tidelog.engine.cluster.embedded.builtin.metadata_problems import IMMUTABLE
from tidelog.engine.cluster.embedded.builtin.scalars import amount_of
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import RBAC, KubeObject

_Check: TypeAlias = Callable[[KubeObject, KubeObject], list[Cause]]
_KEPT: Final = "field is immutable when `immutable` is set"
_STATEFUL_SET: Final = frozenset(
    {"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"}
    | {"persistentVolumeClaimRetentionPolicy", "minReadySeconds"}
)
_STATEFUL_SET_SAID: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_CLAIM_SAID: Final = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def problems(kind: tuple[str, str], new: KubeObject, old: KubeObject) -> list[Cause]:
    """Of an object that is to take the place of another, beside what is wrong with it by itself."""
    own = _CHECKS.get(kind)
    return own(new, old) if own is not None else []


def _selector(new: KubeObject, old: KubeObject) -> list[Cause]:
    return same(_spec(new).get("selector"), _spec(old).get("selector"), "spec.selector")


def _spec(obj: KubeObject) -> KubeObject:
    spec: KubeObject = obj.get("spec") or {}
    return spec


def _stateful_set(new: KubeObject, old: KubeObject) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    changed = any(spec.get(one) != before.get(one) for one in (spec.keys() | before.keys()) - _STATEFUL_SET)
    return [causes.forbidden("spec", _STATEFUL_SET_SAID)] if changed else []


def _job(new: KubeObject, old: KubeObject) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    found: list[Cause] = []
    completions = spec.get("completions")
    if spec.get("completionMode") != "Indexed":
        found += same(completions, before.get("completions"), "spec.completions")
    elif completions not in (None, before.get("completions"), spec.get("parallelism")):
        say = "can only be modified in tandem with spec.parallelism"
        found.append(causes.invalid("spec.completions", completions, say))
    found += same(spec.get("selector"), before.get("selector"), "spec.selector")
    found += same(spec.get("template"), _template_of_job(spec, old), "spec.template")
    fields = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
    return found + [one for field in fields for one in same(spec.get(field), before.get(field), f"spec.{field}")]


def _template_of_job(spec: KubeObject, old: KubeObject) -> Any:
    """The old template; of a job that is suspended and never ran, with all that may still be changed as it now is."""
    before: Any = _spec(old).get("template") or {}
    status, template = old.get("status") or {}, spec.get("template") or {}
    if not _spec(old).get("suspend") or status.get("startTime"):
        return before
    new, pod = template.get("spec") or {}, dict(before.get("spec") or {})
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        _put(pod, field, new.get(field))
    affinity = dict(pod.get("affinity") or {})
    _put(affinity, "nodeAffinity", (new.get("affinity") or {}).get("nodeAffinity"))
    _put(pod, "affinity", affinity or None)
    metadata = dict(before.get("metadata") or {})
    for field in ("labels", "annotations"):
        _put(metadata, field, (template.get("metadata") or {}).get(field))
    return {**before, "metadata": metadata, "spec": pod}


def _put(obj: KubeObject, field: str, value: Any) -> None:
    if value is None:
        obj.pop(field, None)
    else:
        obj[field] = value


def _pod(new: KubeObject, old: KubeObject) -> list[Cause]:
    return pod_problems.changed_more_than_may(_spec(new), _spec(old))


def _config_map(new: KubeObject, old: KubeObject) -> list[Cause]:
    return _immutable(new, old, "data", "binaryData")


def _secret(new: KubeObject, old: KubeObject) -> list[Cause]:
    return same(new.get("type"), old.get("type"), "type", "") + _immutable(new, old, "data")


def _immutable(new: KubeObject, old: KubeObject, *fields: str) -> list[Cause]:
    if not old.get("immutable"):
        return []
    found = [] if new.get("immutable") else [causes.forbidden("immutable", _KEPT)]
    return found + [causes.forbidden(field, _KEPT) for field in fields if new.get(field) != old.get(field)]


def _service(new: KubeObject, old: KubeObject) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    found: list[Cause] = []
    if services.needs_two_families(spec):
        return found
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        was_headless, is_headless = (one.get("clusterIP") == services.HEADLESS for one in (before, spec))
        if not (was_headless and is_headless):
            found += _once(spec, before, "clusterIPs", "primary clusterIP can not be unset")
        if not was_headless and not is_headless:
            found += _once(spec, before, "ipFamilies", "primary ipFamily can not be unset")
    if spec.get("type") == before.get("type") == "LoadBalancer":
        kind = spec.get("loadBalancerClass")
        if kind != before.get("loadBalancerClass"):
            found.append(causes.invalid("spec.loadBalancerClass", kind, "may not change once set"))
        is_local = spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy") == "Local"
        if is_local and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
            found.append(causes.forbidden("spec.healthCheckNodePort", IMMUTABLE))
    return found


def _once(spec: KubeObject, before: KubeObject, field: str, unset: str) -> list[Cause]:
    values, were = spec.get(field) or [], before.get(field) or []
    if were and not values:
        return [causes.invalid(f"spec.{field}[0]", None, unset)]
    changed = [index for index, (a, b) in enumerate(zip(values, were, strict=False)) if a != b]
    if len(values) != len(were):
        changed = changed[:1] if changed[:1] == [0] else []
    return [causes.invalid(f"spec.{field}[{index}]", values, "may not change once set") for index in changed]


def _claim(new: KubeObject, old: KubeObject) -> list[Cause]:
    spec, before, status = dict(_spec(new)), dict(_spec(old)), new.get("status") or {}
    found: list[Cause] = []
    size = (spec.get("resources") or {}).get("requests", {}).get("storage")
    was = (before.get("resources") or {}).get("requests", {}).get("storage")
    if not before.get("volumeName"):
        _put(before, "volumeName", spec.get("volumeName"))
    if before.get("storageClassName") is None and spec.get("storageClassName") and status.get("phase") != "Bound":
        before["storageClassName"] = spec["storageClassName"]
    if status.get("phase") == "Bound":
        _put(spec, "volumeAttributesClassName", before.get("volumeAttributesClassName"))
        _put(spec, "resources", before.get("resources"))
    if spec != before:
        found.append(causes.forbidden("spec", _CLAIM_SAID))
    if size and was and amount_of(str(size)) < amount_of(str(was)):
        granted = (status.get("capacity") or {}).get("storage", "0")
        if amount_of(str(size)) <= amount_of(str(granted)):
            say = "field can not be less than status.capacity"
            found.append(causes.forbidden("spec.resources.requests.storage", say))
    return found + same(spec.get("volumeMode"), before.get("volumeMode"), "volumeMode")


def _volume(new: KubeObject, old: KubeObject) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    found: list[Cause] = []
    if any(spec.get(one) != before.get(one) for one in (spec.keys() | before.keys()) - _OF_VOLUME):
        say = "spec.persistentvolumesource is immutable after creation"
        found.append(causes.forbidden("spec.persistentvolumesource", say))
    found += same(spec.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    if before.get("nodeAffinity") is not None:
        found += same(spec.get("nodeAffinity"), before["nodeAffinity"], "nodeAffinity")
    return found


_OF_VOLUME: Final = frozenset(
    {"accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy"}
    | {"storageClassName", "volumeAttributesClassName", "volumeMode"}
)
"""What a volume says beside its source."""


def _binding(new: KubeObject, old: KubeObject) -> list[Cause]:
    if new.get("roleRef") == old.get("roleRef"):
        return []
    return [causes.invalid("roleRef", new.get("roleRef"), "cannot change roleRef")]


def _storage_class(new: KubeObject, old: KubeObject) -> list[Cause]:
    fields = [one for one in ("parameters", "provisioner", "reclaimPolicy") if new.get(one) != old.get(one)]
    found = [causes.forbidden(one, f"updates to {one} are forbidden.") for one in fields]
    return found + same(new.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode")


def _priority_class(new: KubeObject, old: KubeObject) -> list[Cause]:
    changed = new.get("value", 0) != old.get("value", 0)
    found = [causes.forbidden("value", "may not be changed in an update.")] if changed else []
    return found + same(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


def _runtime_class(new: KubeObject, old: KubeObject) -> list[Cause]:
    return same(new.get("handler"), old.get("handler"), "handler", "")


def _ingress_class(new: KubeObject, old: KubeObject) -> list[Cause]:
    return same(_spec(new).get("controller"), _spec(old).get("controller"), "spec.controller", "")


def _csi_driver(new: KubeObject, old: KubeObject) -> list[Cause]:
    fields = (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes"))
    return [one for name, said in fields for one in same(_spec(new).get(name), _spec(old).get(name), f"spec.{said}")]


def _slice(new: KubeObject, old: KubeObject) -> list[Cause]:
    return same(new.get("addressType"), old.get("addressType"), "addressType", "")


def _node(new: KubeObject, old: KubeObject) -> list[Cause]:
    found: list[Cause] = []
    for field, name in (("podCIDRs", "podCIDR"), ("providerID", "providerID")):
        if _spec(old).get(field) and _spec(new).get(field) != _spec(old)[field]:
            say = f'node updates may not change {name} except from "" to valid'
            found.append(causes.forbidden(f"spec.{field}", say))
    return found


_CHECKS: Final[Mapping[tuple[str, str], _Check]] = {
    ("", "ConfigMap"): _config_map,
    ("", "Node"): _node,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("apps", "DaemonSet"): _selector,
    ("apps", "Deployment"): _selector,
    ("apps", "ReplicaSet"): _selector,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "Job"): _job,
    ("discovery.k8s.io", "EndpointSlice"): _slice,
    ("networking.k8s.io", "IngressClass"): _ingress_class,
    ("node.k8s.io", "RuntimeClass"): _runtime_class,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("storage.k8s.io", "CSIDriver"): _csi_driver,
    ("storage.k8s.io", "StorageClass"): _storage_class,
    (RBAC, "ClusterRoleBinding"): _binding,
    (RBAC, "RoleBinding"): _binding,
}
