"""What the columns of built-in kinds show (k8s.io/kubernetes, `pkg/printers`): a row of `kubectl get`."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.selecting import selector_text

Cells: TypeAlias = list[KubeValue]
NONE: Final = "<none>"
UNSET: Final = "<unset>"
UNKNOWN: Final = "<unknown>"
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY
_ROLE: Final = "node-role.kubernetes.io/"


# Times.


def human_duration(seconds: float) -> str:
    """A duration in two figures or so (k8s.io/apimachinery, `util/duration`)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // _HOUR, whole // _DAY
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 2 * 365:
        return f"{days}d"
    years = whole // _YEAR
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


def since(text: str | None, now: datetime, *, otherwise: str = UNKNOWN) -> str:
    """How long ago a time was."""
    time = _time(text)
    return otherwise if time is None else human_duration((now - time).total_seconds())


def age(obj: KubeObject, now: datetime) -> str:
    """How long ago an object was made."""
    return since(obj["metadata"].get("creationTimestamp"), now)


# Kinds.


def _name(obj: KubeObject) -> str:
    return str(obj["metadata"].get("name", ""))


def _spec(obj: KubeObject) -> KubeObject:
    return obj.get("spec") or {}


def _status(obj: KubeObject) -> KubeObject:
    return obj.get("status") or {}


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def _selector(selector: Mapping[str, Any] | None) -> str:
    return selector_text(selector or {}) or NONE


def _containers(template: Mapping[str, Any] | None) -> Iterator[str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or ()
    yield ",".join(each["name"] for each in containers)
    yield ",".join(each.get("image", "") for each in containers)


def _pod(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    ready, total, reason, restarts = _pod_state(obj, now)
    gates = spec.get("readinessGates") or ()
    conditions = {each["type"]: each.get("status") for each in reversed(status.get("conditions") or ())}
    held = sum(conditions.get(gate["conditionType"]) == "True" for gate in gates)
    ips = status.get("podIPs") or ()
    return [
        _name(obj),
        f"{ready}/{total}",
        reason,
        restarts,
        age(obj, now),
        (ips[0].get("ip") if ips else "") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{held}/{len(gates)}" if gates else NONE,
    ]


def _pod_state(obj: KubeObject, now: datetime) -> tuple[int, int, str, str]:
    """Containers that are ready, all of them, in what state the pod is, and how often containers were started again."""
    spec, status = _spec(obj), _status(obj)
    reason = status.get("reason") or status.get("phase") or ""
    conditions = status.get("conditions") or ()
    if any(each["type"] == "PodScheduled" and each.get("reason") == "SchedulingGated" for each in conditions):
        reason = "SchedulingGated"
    sidecars = {each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready, restarts, sidecar_restarts = 0, 0, 0
    ended: list[str] = []
    sidecar_ended: list[str] = []
    initial = ""
    for i, each in enumerate(status.get("initContainerStatuses") or ()):
        count, finished = each.get("restartCount", 0), _finished(each)
        restarts, ended = restarts + count, [*ended, *finished]
        if each["name"] in sidecars:
            sidecar_restarts, sidecar_ended = sidecar_restarts + count, [*sidecar_ended, *finished]
        state = each.get("state") or {}
        if (state.get("terminated") or {}).get("exitCode") == 0 and state.get("terminated") is not None:
            continue
        if each["name"] in sidecars and each.get("started"):
            ready += bool(each.get("ready"))
            continue
        initial = _initial_reason(state, i, len(spec.get("initContainers") or ()))
        break
    reason = initial or reason
    if not initial or any(each["type"] == "Initialized" and each.get("status") == "True" for each in conditions):
        restarts, ended = sidecar_restarts, sidecar_ended
        statuses = status.get("containerStatuses") or ()
        restarts += sum(each.get("restartCount", 0) for each in statuses)
        ended = [*ended, *(time for each in statuses for time in _finished(each))]
        more, reason = _running(statuses, reason, conditions)
        ready += more
    if obj["metadata"].get("deletionTimestamp") and status.get("reason") == "NodeLost":
        reason = "Unknown"
    elif obj["metadata"].get("deletionTimestamp") and status.get("phase") not in ("Succeeded", "Failed"):
        reason = "Terminating"
    told = f"{restarts} ({since(max(ended), now)} ago)" if restarts and ended else str(restarts)
    return ready, total, reason, told


def _finished(status: Mapping[str, Any]) -> list[str]:
    time = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
    return [time] if time else []


def _initial_reason(state: Mapping[str, Any], place: int, count: int) -> str:
    ended, waiting = state.get("terminated"), (state.get("waiting") or {}).get("reason")
    if ended is not None:
        return f"Init:{_end(ended)}"
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{place}/{count}"


def _end(terminated: Mapping[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _running(statuses: Any, reason: str, conditions: Any) -> tuple[int, str]:
    ready, is_running, failed = 0, False, ""
    for each in reversed(list(statuses)):
        state = each.get("state") or {}
        ended = state.get("terminated")
        if (state.get("waiting") or {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif ended is not None:
            reason = _end(ended)
            failed = reason if ended.get("exitCode") else failed
        elif each.get("ready") and state.get("running") is not None:
            is_running, ready = True, ready + 1
    if reason == "Completed":
        if is_running and any(each["type"] == "Ready" and each.get("status") == "True" for each in conditions):
            reason = "Running"
        else:
            reason = failed or ("NotReady" if is_running else reason)
    return ready, reason


def scale_row(obj: KubeObject, now: datetime) -> Cells:
    """Those of a Scale."""
    return [_name(obj), _spec(obj).get("replicas", 0), _status(obj).get("replicas", 0), age(obj, now)]


def _deployment(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age(obj, now),
        *_containers(spec.get("template")),
        selector_text(spec.get("selector") or {}),
    ]


def _replica_set(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    selector = spec.get("selector")
    shown = _selector(selector) if obj.get("kind") != "ReplicationController" else _labels(selector)
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, age(obj, now), *_containers(spec.get("template")), shown]


def _stateful_set(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [_name(obj), ready, age(obj, now), *_containers(spec.get("template"))]


def _daemon_set(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    template = spec.get("template") or {}
    return [
        _name(obj),
        *(status.get(name, 0) for name in (*names, "numberAvailable")),
        _labels((template.get("spec") or {}).get("nodeSelector")),
        age(obj, now),
        *_containers(template),
        _selector(spec.get("selector")),
    ]


def _job(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    done, parallel = status.get("succeeded", 0), spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    started, ended = _time(status.get("startTime")), _time(status.get("completionTime"))
    took = "" if started is None else human_duration(((ended or now) - started).total_seconds())
    return [
        _name(obj),
        _job_state(obj),
        completions,
        took,
        age(obj, now),
        *_containers(spec.get("template")),
        _selector(spec.get("selector")),
    ]


def _job_state(obj: KubeObject) -> str:
    held = {each["type"] for each in _status(obj).get("conditions") or () if each.get("status") == "True"}
    if "Complete" in held or "Failed" in held:
        return "Complete" if "Complete" in held else "Failed"
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    names = ("Suspended", "FailureTarget", "SuccessCriteriaMet")
    return next((name for name in names if name in held), "Running")


def _cron_job(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        _name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False" if spec.get("suspend") is not None else UNSET,
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        *_containers(job.get("template")),
        _selector(job.get("selector")),
    ]


def _service(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    ports = ",".join(_port(port) for port in spec.get("ports") or ())
    inside = spec.get("clusterIPs") or ()
    return [
        _name(obj),
        spec.get("type", ""),
        inside[0] if inside else NONE,
        _outside(obj),
        ports or NONE,
        age(obj, now),
        _labels(spec.get("selector")),
    ]


def _port(port: Mapping[str, Any]) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol', 'TCP')}"


def _outside(obj: KubeObject) -> str:
    spec = _spec(obj)
    kind, own = spec.get("type"), spec.get("externalIPs") or []
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(own) or NONE
    if kind == "LoadBalancer":
        return ",".join([*_balancer(obj), *own]) or "<pending>"
    return str(spec.get("externalName", "")) if kind == "ExternalName" else UNKNOWN


def _balancer(obj: KubeObject) -> list[str]:
    ingress = (_status(obj).get("loadBalancer") or {}).get("ingress") or ()
    return sorted({each.get("ip") or each.get("hostname") or "" for each in ingress} - {""})


def _ingress(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    rules = spec.get("rules") or ()
    hosts: list[str] = []
    more = False
    for rule in rules:
        more = more or len(hosts) == 3
        if not more and rule.get("host"):
            hosts.append(rule["host"])
    shown = ",".join(hosts) or "*"
    return [
        _name(obj),
        spec.get("ingressClassName") or NONE,
        f"{shown} + {len(rules) - 3} more..." if hosts and more else shown,
        ",".join(_balancer(obj)),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _ingress_class(obj: KubeObject, now: datetime) -> Cells:
    found = _spec(obj).get("parameters")
    shown = NONE
    if found is not None:
        group = f".{found['apiGroup']}" if found.get("apiGroup") is not None else ""
        shown = f"{found['kind']}{group}/{found['name']}"
    return [_name(obj), _spec(obj).get("controller", ""), shown, age(obj, now)]


def _config_map(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def _secret(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), age(obj, now)]


def _namespace(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), _status(obj).get("phase", ""), age(obj, now)]


def _node(obj: KubeObject, now: datetime) -> Cells:
    status = _status(obj)
    info = status.get("nodeInfo") or {}
    ready = next((each for each in reversed(status.get("conditions") or ()) if each["type"] == "Ready"), None)
    state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    addresses = {each["type"]: each["address"] for each in reversed(status.get("addresses") or ())}
    labels = obj["metadata"].get("labels") or {}
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)} | {
        labels.get("kubernetes.io/role", "")
    }
    return [
        _name(obj),
        f"{state},SchedulingDisabled" if _spec(obj).get("unschedulable") else state,
        ",".join(sorted(roles - {""})) or NONE,
        age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        *(info.get(name) or UNKNOWN for name in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


_MODES: Final = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CLASS: Final = "volume.beta.kubernetes.io/storage-class"


def _modes(modes: Any) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or ()))


def _class_of(obj: KubeObject) -> str:
    annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS)
    return str(annotated if annotated is not None else _spec(obj).get("storageClassName") or "")


def _volume(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    claim = spec.get("claimRef")
    return [
        _name(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", ""),
        "" if claim is None else f"{claim.get('namespace', '')}/{claim.get('name', '')}",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _claim(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    volume = spec.get("volumeName") or ""
    return [
        _name(obj),
        "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", ""),
        volume,
        (status.get("capacity") or {}).get("storage", "0") if volume else "",
        _modes(status.get("accessModes")) if volume else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or UNSET,
        age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def _event(obj: KubeObject, now: datetime) -> Cells:
    about, source, series = obj.get("involvedObject") or {}, obj.get("source") or {}, obj.get("series")
    if "regarding" in obj or str(obj.get("apiVersion", "")).startswith("events.k8s.io"):
        about, source = obj.get("regarding") or {}, obj.get("deprecatedSource") or {}
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if series is not None:
        last, count = series.get("lastObservedTime"), series.get("count", 0)
    kind = str(about.get("kind", "")).lower()
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    return [
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        str(obj.get("message") or obj.get("note") or "").strip(),
        since(first, now),
        count,
        _name(obj),
    ]


def _autoscaler(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    target = spec.get("scaleTargetRef") or {}
    current = status.get("currentMetrics") or ()
    metrics = [
        _metric(each, current[i] if i < len(current) else {}) for i, each in enumerate(spec.get("metrics") or ())
    ]
    shown = ", ".join(metrics[:2]) or NONE
    return [
        _name(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        f"{shown} + {len(metrics) - 2} more..." if len(metrics) > 2 else shown,
        UNSET if spec.get("minReplicas") is None else str(spec["minReplicas"]),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now),
    ]


def _metric(spec: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    kind = spec.get("type", "")
    name = f"{kind[:1].lower()}{kind[1:]}"
    asked, got = spec.get(name) or {}, (status.get(name) or {}).get("current") or {}
    target = asked.get("target") or {}
    if name in ("resource", "containerResource"):
        if target.get("averageValue") is not None:
            return f"{asked['name']}: {got.get('averageValue', UNKNOWN)}/{target['averageValue']}"
        wanted, now = target.get("averageUtilization"), got.get("averageUtilization")
        shown = UNKNOWN if now is None else f"{now}%"
        return f"{asked.get('name')}: {shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    if name == "pods":
        return f"{got.get('averageValue', UNKNOWN)}/{target.get('averageValue')}"
    if target.get("averageValue") is not None:
        return f"{got.get('averageValue', UNKNOWN)}/{target['averageValue']} (avg)"
    return f"{got.get('value', UNKNOWN)}/{target.get('value')}" if asked else "<unknown type>"


def _budget(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    bounds = [spec.get("minAvailable"), spec.get("maxUnavailable")]
    shown = ["N/A" if bound is None else str(bound) for bound in bounds]
    return [_name(obj), *shown, _status(obj).get("disruptionsAllowed", 0), age(obj, now)]


def _binding(obj: KubeObject, now: datetime) -> Cells:
    role = obj.get("roleRef") or {}
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for each in obj.get("subjects") or ():
        named = f"{each.get('namespace', '')}/{each['name']}" if each["kind"] == "ServiceAccount" else each["name"]
        subjects.setdefault(each["kind"], []).append(named)
    told = (", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount"))
    return [_name(obj), f"{role.get('kind', '')}/{role.get('name', '')}", age(obj, now), *told]


def _storage_class(obj: KubeObject, now: datetime) -> Cells:
    annotations = obj["metadata"].get("annotations") or {}
    names = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
    is_default = any(annotations.get(name) == "true" for name in names)
    return [
        f"{_name(obj)} (default)" if is_default else _name(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def _network_policy(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), _selector(_spec(obj).get("podSelector")), age(obj, now)]


def _lease(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), _spec(obj).get("holderIdentity") or "", age(obj, now)]


def _endpoint_slice(obj: KubeObject, now: datetime) -> Cells:
    ports = [str(each.get("port") or each.get("name") or "*") for each in obj.get("ports") or ()]
    addresses = [address for each in obj.get("endpoints") or () for address in each.get("addresses") or ()]
    return [_name(obj), obj.get("addressType", ""), _few(ports), _few(addresses), age(obj, now)]


def _api_service(obj: KubeObject, now: datetime) -> Cells:
    service = _spec(obj).get("service")
    where = "Local" if service is None else f"{service.get('namespace', '')}/{service.get('name', '')}"
    conditions = (obj.get("status") or {}).get("conditions") or ()
    found = next((one for one in conditions if one["type"] == "Available"), {"status": "Unknown"})
    reason = f" ({found['reason']})" if found["status"] != "True" and found.get("reason") else ""
    return [_name(obj), where, found["status"] + reason, age(obj, now)]


def _few(words: list[str]) -> str:
    shown = ",".join(words[:3])
    return f"{shown} + {len(words) - 3} more..." if len(words) > 3 else shown or UNSET


def _priority_class(obj: KubeObject, now: datetime) -> Cells:
    default = bool(obj.get("globalDefault"))
    return [_name(obj), obj.get("value", 0), default, age(obj, now), obj.get("preemptionPolicy") or ""]


def _definition(obj: KubeObject, now: datetime) -> Cells:
    del now
    return [_name(obj), obj["metadata"].get("creationTimestamp")]


PRINTERS: Final[Mapping[str, Callable[[KubeObject, datetime], Cells]]] = {
    "pods": _pod,
    "deployments": _deployment,
    "replicasets": _replica_set,
    "replicationcontrollers": _replica_set,
    "statefulsets": _stateful_set,
    "daemonsets": _daemon_set,
    "jobs": _job,
    "cronjobs": _cron_job,
    "services": _service,
    "ingresses": _ingress,
    "ingressclasses": _ingress_class,
    "configmaps": _config_map,
    "secrets": _secret,
    "namespaces": _namespace,
    "nodes": _node,
    "persistentvolumes": _volume,
    "persistentvolumeclaims": _claim,
    "events": _event,
    "horizontalpodautoscalers": _autoscaler,
    "poddisruptionbudgets": _budget,
    "rolebindings": _binding,
    "clusterrolebindings": _binding,
    "storageclasses": _storage_class,
    "networkpolicies": _network_policy,
    "leases": _lease,
    "endpointslices": _endpoint_slice,
    "priorityclasses": _priority_class,
    "customresourcedefinitions": _definition,
    "apiservices": _api_service,
}
"""By plural."""
