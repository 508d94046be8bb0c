"""What the server fills in: the defaulting of its types, as their Go functions do it.

A type's own defaults come first, then those of what is in it. `FIXED` are those that depend on nothing else.
"""

import base64
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, TypeAlias

from tidelog.engine.cluster.embedded.builtin.normal import normalise, without_nulls
from tidelog.engine.cluster.embedded.builtin.pods import default_pod, pull_policy
from tidelog.engine.cluster.embedded.builtin.scalars import quantity
from tidelog.engine.cluster.embedded.builtin.types import API, Shape, is_unset, type_of, walk
from tidelog.engine.objects.kube import RBAC, KubeObject

GroupKind: TypeAlias = tuple[str, str]
_Default: TypeAlias = Callable[[KubeObject], None]

RBAC_TYPE: Final = API + "rbac.v1."
_APIEXTENSIONS: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_APIREGISTRATION: Final = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1."
TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"
"""Where the template's own generation is, a field until apps/v1."""
MILLI: Final = -3


def set_defaults(kind: GroupKind, obj: KubeObject) -> None:  # noqa: ARG001 - as its siblings take it
    """Fills in what the server does, in place, and brings the object into the form in which the server answers."""
    of = type_of(obj)
    if of is None:
        return
    without_nulls(of, obj)
    for part, value, _ in walk(of, obj):
        _set(part, value)
    normalise(obj)


def _set(of: Shape, obj: KubeObject) -> None:
    for field, value in {**of.defaults, **FIXED.get(of.name, {})}.items():
        if is_unset(of, obj, field):
            obj[field] = deepcopy(value)
    own = _OWN.get(of.name)
    if own is not None:
        own(obj)
    for field, part in of.fields.items():
        if obj.get(field) is None and of.zeros.get(field) == {} and part.form == "object":
            obj[field] = {}


def _volume(volume: KubeObject) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    image = volume.get("image")
    if isinstance(image, dict) and not image.get("pullPolicy"):
        image["pullPolicy"] = pull_policy(str(image.get("reference", "")))


def _container(container: KubeObject) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(str(container.get("image", "")))


def _pod_spec(spec: KubeObject) -> None:
    """The old name of `serviceAccountName` is kept beside it."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _resources(resources: KubeObject) -> None:
    for field in ("limits", "requests"):
        _round(resources, field)


def _round(obj: KubeObject, field: str) -> None:
    amounts = obj.get(field)
    if isinstance(amounts, dict):
        obj[field] = {name: quantity(str(amount), least=MILLI) for name, amount in amounts.items()}


def _service(service: KubeObject) -> None:
    spec = service.setdefault("spec", {})
    affinity = spec.setdefault("sessionAffinity", "None") or "None"
    spec["sessionAffinity"] = affinity
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP" and _get(spec, "sessionAffinityConfig", "clientIP", "timeoutSeconds") is None:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    spec["type"] = spec.get("type") or "ClusterIP"
    for port in _items(spec, "ports"):
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    is_external = spec["type"] in ("NodePort", "LoadBalancer") or (
        spec["type"] == "ClusterIP" and bool(spec.get("externalIPs"))
    )
    if is_external and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in _items(_get(service, "status", "loadBalancer") or {}, "ingress"):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _namespace(namespace: KubeObject) -> None:
    metadata = namespace.setdefault("metadata", {})
    if metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}


def _node_status(status: KubeObject) -> None:
    if status.get("capacity") is not None:
        status.setdefault("allocatable", dict(status["capacity"]))


def _node_spec(spec: KubeObject) -> None:
    """The old field for one network is the first of the new ones."""
    if spec.get("podCIDR") and (spec.get("podCIDRs") or [""])[0] != spec["podCIDR"]:
        spec["podCIDRs"] = [spec["podCIDR"]]


def _device_request(request: KubeObject) -> None:
    request["allocationMode"] = request.get("allocationMode") or "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1


def _limit_range_item(item: KubeObject) -> None:
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        _round(item, field)
    if item.get("type") == "Container":
        default = item["default"] = {**(item.get("max") or {}), **(item.get("default") or {})}
        item["defaultRequest"] = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}


def _secret(secret: KubeObject) -> None:
    """`stringData` is only ever written: it goes into `data`."""
    secret["type"] = secret.get("type") or "Opaque"
    said = secret.pop("stringData", None)
    if said:
        encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in said.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def _replication_controller(controller: KubeObject) -> None:
    spec = controller.setdefault("spec", {})
    labels = _get(spec, "template", "metadata", "labels")
    if labels:
        spec["selector"] = spec.get("selector") or dict(labels)
        metadata = controller.setdefault("metadata", {})
        metadata["labels"] = metadata.get("labels") or dict(labels)


def _deployment(deployment: KubeObject) -> None:
    spec = deployment.setdefault("spec", {})
    _absent(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _absent(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")


def _daemon_set(daemon_set: KubeObject) -> None:
    metadata = daemon_set.setdefault("metadata", {})
    metadata["annotations"] = {TEMPLATE_GENERATION: "0", **(metadata.get("annotations") or {})}
    spec = daemon_set.setdefault("spec", {})
    _absent(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _absent(strategy.setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)


def _stateful_set(stateful_set: KubeObject) -> None:
    spec = stateful_set.setdefault("spec", {})
    spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        _absent(strategy["rollingUpdate"], partition=0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        retention[field] = retention.get(field) or "Retain"
    _absent(spec, replicas=1, revisionHistoryLimit=10)
    for claim in _items(spec, "volumeClaimTemplates"):
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}


def _replica_set(replica_set: KubeObject) -> None:
    _absent(replica_set.setdefault("spec", {}), replicas=1)


def _job(job: KubeObject) -> None:
    spec = job.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _absent(
        spec,
        parallelism=1,
        backoffLimit=6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed",
        manualSelector=False,
    )
    labels = _get(spec, "template", "metadata", "labels")
    metadata = job.setdefault("metadata", {})
    if labels and not metadata.get("labels"):
        # The very same map, as in Go: what generating a selector adds to it stands in both.
        metadata["labels"] = labels


def _cron_job(job: KubeObject) -> None:
    spec = job.setdefault("spec", {})
    spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
    _absent(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)


def _autoscaler(autoscaler: KubeObject) -> None:
    spec = autoscaler.setdefault("spec", {})
    _absent(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if isinstance(behavior, dict):
        behavior["scaleUp"] = {**deepcopy(_SCALE_UP), **(behavior.get("scaleUp") or {})}
        behavior["scaleDown"] = {**deepcopy(_SCALE_DOWN), **(behavior.get("scaleDown") or {})}


def _old_autoscaler(autoscaler: KubeObject) -> None:
    """Where it says no metric, it gets one as it is turned into v2; others are in an annotation."""
    spec = autoscaler.setdefault("spec", {})
    _absent(spec, minReplicas=1)
    annotations = autoscaler.setdefault("metadata", {}).get("annotations") or {}
    if "autoscaling.alpha.kubernetes.io/metrics" not in annotations:
        _absent(spec, targetCPUUtilizationPercentage=80)


_SCALE_UP: Final[KubeObject] = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Final[KubeObject] = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


def _network_policy(policy: KubeObject) -> None:
    spec = policy.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _binding(binding: KubeObject) -> None:
    reference = binding.setdefault("roleRef", {})
    reference["apiGroup"] = reference.get("apiGroup") or RBAC


def _subject(subject: KubeObject) -> None:
    if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
        subject["apiGroup"] = RBAC


def _definition(definition: KubeObject) -> None:
    spec = definition.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if not names.get("singular") and names.get("kind"):
        names["singular"] = str(names["kind"]).lower()
    if not names.get("listKind") and names.get("kind"):
        names["listKind"] = f"{names['kind']}List"
    spec.setdefault("conversion", {"strategy": "None"})
    status = definition.setdefault("status", {})
    if not status.get("storedVersions"):
        stored = [version.get("name") for version in _items(spec, "versions") if version.get("storage")]
        status["storedVersions"] = stored[:1]


def _csi_driver(driver: KubeObject) -> None:
    spec = driver.setdefault("spec", {})
    _absent(spec, attachRequired=True, podInfoOnMount=False, storageCapacity=False, requiresRepublish=False)
    _absent(spec, fsGroupPolicy="ReadWriteOnceWithFSType", seLinuxMount=False)
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _ingress_class(ingress_class: KubeObject) -> None:
    parameters = _get(ingress_class, "spec", "parameters")
    if isinstance(parameters, dict):
        _absent(parameters, scope="Cluster")


_WEBHOOK: Final[KubeObject] = {
    "failurePolicy": "Fail",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "timeoutSeconds": 10,
}
_MODE: Final[KubeObject] = {"defaultMode": 0o644}

FIXED: Final[Mapping[str, KubeObject]] = {
    API + "core.v1.Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    API + "core.v1.EphemeralContainer": {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    },
    API + "core.v1.PodSpec": {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
    },
    API + "core.v1.Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    API + "core.v1.SecretVolumeSource": _MODE,
    API + "core.v1.ConfigMapVolumeSource": _MODE,
    API + "core.v1.DownwardAPIVolumeSource": _MODE,
    API + "core.v1.ProjectedVolumeSource": _MODE,
    API + "core.v1.ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    API + "core.v1.PersistentVolumeSpec": {
        "persistentVolumeReclaimPolicy": "Retain",
        "volumeMode": "Filesystem",
    },
    API + "core.v1.PersistentVolumeStatus": {"phase": "Pending"},
    API + "core.v1.PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    API + "core.v1.PersistentVolumeClaimStatus": {"phase": "Pending"},
    API + "core.v1.EndpointPort": {"protocol": "TCP"},
    API + "core.v1.HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    API + "core.v1.NamespaceStatus": {"phase": "Active"},
    API + "core.v1.ObjectFieldSelector": {"apiVersion": "v1"},
    API + "core.v1.HostPathVolumeSource": {"type": ""},
    API + "batch.v1.PodFailurePolicyOnPodConditionsPattern": {"status": "True"},
    API + "networking.v1.NetworkPolicyPort": {"protocol": "TCP"},
    API + "discovery.v1.EndpointPort": {"name": "", "protocol": "TCP"},
    API + "admissionregistration.v1.ValidatingWebhook": _WEBHOOK,
    API + "admissionregistration.v1.MutatingWebhook": {**_WEBHOOK, "reinvocationPolicy": "Never"},
    API + "admissionregistration.v1.RuleWithOperations": {"scope": "*"},
    API + "admissionregistration.v1.NamedRuleWithOperations": {"scope": "*"},
    API + "admissionregistration.v1.ServiceReference": {"port": 443},
    API + "admissionregistration.v1.ValidatingAdmissionPolicySpec": {"failurePolicy": "Fail"},
    API + "admissionregistration.v1.MatchResources": {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
    },
    API + "scheduling.v1.PriorityClass": {"preemptionPolicy": "PreemptLowerPriority"},
    API + "storage.v1.StorageClass": {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
    API + "flowcontrol.v1.FlowSchemaSpec": {"matchingPrecedence": 1000},
    API + "flowcontrol.v1.ExemptPriorityLevelConfiguration": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
    API + "flowcontrol.v1.LimitedPriorityLevelConfiguration": {"nominalConcurrencyShares": 30, "lendablePercent": 0},
    API + "flowcontrol.v1.QueuingConfiguration": {"handSize": 8, "queues": 64, "queueLengthLimit": 50},
    _APIEXTENSIONS + "ServiceReference": {"port": 443},
    _APIREGISTRATION + "ServiceReference": {"port": 443},
}
"""By type. A number or text that Go does not point to is set where it is zero, too."""

_OWN: Final[Mapping[str, _Default]] = {
    API + "core.v1.Volume": _volume,
    API + "core.v1.Container": _container,
    API + "core.v1.EphemeralContainer": _container,
    API + "core.v1.PodSpec": _pod_spec,
    API + "core.v1.Pod": default_pod,
    API + "core.v1.ResourceRequirements": _resources,
    API + "core.v1.VolumeResourceRequirements": _resources,
    API + "core.v1.PersistentVolumeSpec": lambda spec: _round(spec, "capacity"),
    API + "core.v1.ResourceQuotaSpec": lambda spec: _round(spec, "hard"),
    API + "core.v1.Service": _service,
    API + "core.v1.Namespace": _namespace,
    API + "core.v1.NodeStatus": _node_status,
    API + "core.v1.NodeSpec": _node_spec,
    API + "resource.v1.ExactDeviceRequest": _device_request,
    API + "resource.v1.DeviceSubRequest": _device_request,
    API + "core.v1.LimitRangeItem": _limit_range_item,
    API + "core.v1.Secret": _secret,
    API + "core.v1.ReplicationController": _replication_controller,
    API + "apps.v1.Deployment": _deployment,
    API + "apps.v1.DaemonSet": _daemon_set,
    API + "apps.v1.StatefulSet": _stateful_set,
    API + "apps.v1.ReplicaSet": _replica_set,
    API + "batch.v1.Job": _job,
    API + "batch.v1.CronJob": _cron_job,
    API + "autoscaling.v2.HorizontalPodAutoscaler": _autoscaler,
    API + "autoscaling.v1.HorizontalPodAutoscaler": _old_autoscaler,
    API + "networking.v1.NetworkPolicy": _network_policy,
    API + "networking.v1.IngressClass": _ingress_class,
    API + "storage.v1.CSIDriver": _csi_driver,
    RBAC_TYPE + "ClusterRoleBinding": _binding,
    RBAC_TYPE + "RoleBinding": _binding,
    RBAC_TYPE + "Subject": _subject,
    _APIEXTENSIONS + "CustomResourceDefinition": _definition,
}


def _absent(obj: KubeObject, **values: Any) -> None:
    for field, value in values.items():
        obj.setdefault(field, value)


def _get(obj: KubeObject, *path: str) -> Any:
    value: Any = obj
    for field in path:
        value = value.get(field) if isinstance(value, dict) else None
    return value


def _items(obj: KubeObject, field: str) -> list[KubeObject]:
    value = obj.get(field)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
