"""What the columns of built-in kinds show that are seldom looked at (k8s.io/kubernetes, `pkg/printers`)."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from tidelog.engine.cluster.embedded.cells import NONE, UNSET, Cells, age, human_duration
from tidelog.engine.objects.kube import KubeObject

_SHOWN_MAX: Final = 3
"""Addresses that are shown of Endpoints."""


def _name(obj: KubeObject) -> str:
    return str(obj["metadata"].get("name", ""))


def _spec(obj: KubeObject) -> KubeObject:
    return obj.get("spec") or {}


def _webhooks(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def _policy(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind is not None else UNSET
    return [_name(obj), len(spec.get("validations") or ()), shown, age(obj, now)]


def _policy_binding(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    parameters = spec.get("paramRef") or {}
    where = f"{parameters['namespace']}/" if parameters.get("namespace") else ""
    shown = f"{where}{parameters['name']}" if parameters.get("name") else UNSET
    return [_name(obj), spec.get("policyName", ""), shown, age(obj, now)]


def _endpoints(obj: KubeObject, now: datetime) -> Cells:
    subsets = obj.get("subsets") or ()
    found = [where for each in subsets for where in _addresses(each)]
    shown = ",".join(found[:_SHOWN_MAX])
    if len(found) > _SHOWN_MAX:
        shown += f" + {len(found) - _SHOWN_MAX} more..."
    return [_name(obj), shown if subsets else NONE, age(obj, now)]


def _addresses(subset: KubeObject) -> list[str]:
    ips = [each["ip"] for each in subset.get("addresses") or ()]
    if not subset.get("ports"):
        return ips
    hosts = [f"[{ip}]" if ":" in ip else ip for ip in ips]
    return [f"{host}:{port['port']}" for port in subset["ports"] for host in hosts]


def _quota(obj: KubeObject, now: datetime) -> Cells:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    told = [(name, f"{name}: {used.get(name, '0')}/{hard[name]}") for name in sorted(hard)]
    limits = [text for name, text in told if name.startswith("limits")]
    requests = [text for name, text in told if not name.startswith("limits")]
    return [_name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def _pod_template(obj: KubeObject, now: datetime) -> Cells:
    del now
    template = obj.get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or ()
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [
        _name(obj),
        ",".join(each["name"] for each in containers),
        ",".join(each.get("image", "") for each in containers),
        ",".join(f"{name}={labels[name]}" for name in sorted(labels)) or NONE,
    ]


def _revision(obj: KubeObject, now: datetime) -> Cells:
    owners = obj["metadata"].get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    shown = NONE
    if owner is not None:
        group, _, _ = owner["apiVersion"].rpartition("/")
        shown = f"{owner['kind']}.{group}".rstrip(".").lower() + f"/{owner['name']}"
    return [_name(obj), shown, obj.get("revision", 0), age(obj, now)]


def _signing_request(obj: KubeObject, now: datetime) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    kinds = {one["type"] for one in status.get("conditions") or ()}
    said = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    said += ",Failed" * ("Failed" in kinds) + ",Issued" * bool(status.get("certificate"))
    seconds = spec.get("expirationSeconds")
    lives = NONE if seconds is None else human_duration(seconds)
    return [_name(obj), age(obj, now), spec.get("signerName") or NONE, spec.get("username", ""), lives, said]


def _driver(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    tokens = spec.get("tokenRequests")
    return [
        _name(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        UNSET if tokens is None else ",".join(each.get("audience", "") for each in tokens),
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now),
    ]


def _drivers_of_node(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), len(_spec(obj).get("drivers") or ()), age(obj, now)]


def _attachment(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return [_name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age(obj, now)]


def _volume_attributes(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), obj.get("driverName", ""), age(obj, now)]


def _runtime(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), obj.get("handler", ""), age(obj, now)]


def _address(obj: KubeObject, now: datetime) -> Cells:
    """With its age, as on a real server, which has no column for it."""
    parent = _spec(obj).get("parentRef")
    if parent is None:
        return [_name(obj), NONE, age(obj, now)]
    kind = f"{parent.get('resource', '')}.{parent.get('group', '')}".rstrip(".").lower()
    return [_name(obj), "/".join(filter(None, (kind, parent.get("namespace"), parent.get("name")))), age(obj, now)]


def _service_addresses(obj: KubeObject, now: datetime) -> Cells:
    return [_name(obj), ",".join(_spec(obj).get("cidrs") or ()), age(obj, now)]


def _flow(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    told = (obj.get("status") or {}).get("conditions") or ()
    return [
        _name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age(obj, now),
        next((one["status"] for one in told if one["type"] == "Dangling"), "?"),
    ]


def in_order(plural: str, objects: list[KubeObject]) -> list[KubeObject]:
    """Objects as the rows of a table have them: flow schemas in the order in which they are asked."""
    if plural != "flowschemas":
        return objects
    return sorted(objects, key=lambda obj: (_spec(obj).get("matchingPrecedence", 0), _name(obj)))


def _level(obj: KubeObject, now: datetime) -> Cells:
    spec = _spec(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    shares = limited.get("nominalConcurrencyShares", NONE)
    queues = [queuing.get(field, NONE) for field in ("queues", "handSize", "queueLengthLimit")]
    return [_name(obj), spec.get("type", ""), shares, *queues, age(obj, now)]


PRINTERS: Final[Mapping[str, Callable[[KubeObject, datetime], Cells]]] = {
    "mutatingwebhookconfigurations": _webhooks,
    "validatingwebhookconfigurations": _webhooks,
    "validatingadmissionpolicies": _policy,
    "validatingadmissionpolicybindings": _policy_binding,
    "endpoints": _endpoints,
    "resourcequotas": _quota,
    "podtemplates": _pod_template,
    "controllerrevisions": _revision,
    "certificatesigningrequests": _signing_request,
    "csidrivers": _driver,
    "csinodes": _drivers_of_node,
    "volumeattachments": _attachment,
    "volumeattributesclasses": _volume_attributes,
    "runtimeclasses": _runtime,
    "ipaddresses": _address,
    "servicecidrs": _service_addresses,
    "flowschemas": _flow,
    "prioritylevelconfigurations": _level,
}
"""By plural."""
