"""What the server refuses in kinds that serve the cluster: volumes, webhooks, endpoints, events, policies."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import checks, formats, webhook_problems
from tidelog.engine.cluster.embedded.builtin.checks import needed
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

_Check: TypeAlias = Callable[[KubeObject], list[Cause]]
ADMISSION: Final = "admissionregistration.k8s.io"
_OF_VOLUME: Final = frozenset(
    {"accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy"}
    | {"storageClassName", "volumeAttributesClassName", "volumeMode"}
)
_NEEDED_BY_VOLUMES: Final[Mapping[str, tuple[str, ...]]] = {
    "hostPath": ("path",),
    "csi": ("driver", "volumeHandle"),
    "nfs": ("server", "path"),
    "local": ("path",),
}
_ACTIONS: Final = "at least one validation action is required"


def _volume(obj: KubeObject) -> list[Cause]:
    spec, found = obj.get("spec") or {}, list[Cause]()
    modes = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
    found += needed(spec, "spec", "accessModes")
    for mode in spec.get("accessModes") or ():
        if mode not in modes:
            found.append(causes.not_supported("spec.accessModes", mode, list(modes)))
    capacity = spec.get("capacity")
    if not capacity:
        found.append(causes.required("spec.capacity"))
    if not capacity or set(capacity) != {"storage"}:
        found.append(causes.not_supported("spec.capacity", capacity, ["storage"]))
    kinds = [one for one in spec if one not in _OF_VOLUME]
    if not kinds:
        found.append(causes.required("spec", "must specify a volume type"))
    for one in kinds[:1]:
        found += needed(spec[one] or {}, f"spec.{one}", *_NEEDED_BY_VOLUMES.get(one, ()))
    found += [causes.forbidden(f"spec.{one}", "may not specify more than 1 volume type") for one in kinds[1:]]
    found += checks.form(spec, "spec", "storageClassName", formats.dns_subdomain)
    found += checks.one_of(spec, "spec", "persistentVolumeReclaimPolicy", "Delete", "Recycle", "Retain")
    return found + checks.one_of(spec, "spec", "volumeMode", "Block", "Filesystem")


def _policy_binding(obj: KubeObject) -> list[Cause]:
    spec = obj.get("spec") or {}
    return needed(spec, "spec", "policyName") + needed(spec, "spec", "validationActions", detail=_ACTIONS)


def _slice(obj: KubeObject) -> list[Cause]:
    found, kind = list[Cause](), obj.get("addressType")
    if not kind:
        found.append(causes.required("addressType"))
    elif kind not in ("FQDN", "IPv4", "IPv6"):
        found.append(causes.not_supported("addressType", kind, ["FQDN", "IPv4", "IPv6"]))
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        found += needed(endpoint, f"endpoints[{index}]", "addresses", detail="must contain at least 1 address")
    return found


def _event(obj: KubeObject) -> list[Cause]:
    """One of the old kind; those of the new one are told apart by their time."""
    namespace = (obj.get("involvedObject") or obj.get("regarding") or {}).get("namespace", "")
    own = obj["metadata"].get("namespace", "")
    if obj.get("apiVersion") != "v1" or obj.get("eventTime") is not None or namespace == own:
        return []
    if not namespace and own == "default":
        return []
    return [causes.invalid("involvedObject.namespace", namespace, "does not match event.namespace")]


def _replication_controller(obj: KubeObject) -> list[Cause]:
    return needed(obj.get("spec") or {}, "spec", "selector", "template")


def _runtime_class(obj: KubeObject) -> list[Cause]:
    handler = obj.get("handler", "")
    return [causes.invalid("handler", handler, one) for one in formats.dns_label(handler)]


def _ingress_class(obj: KubeObject) -> list[Cause]:
    spec = obj.get("spec") or {}
    found = needed(spec, "spec", "controller")
    if spec.get("controller") and "/" not in spec["controller"]:
        say = 'must be a domain-prefixed path (such as "acme.io/foo")'
        found.append(causes.invalid("spec.controller", spec["controller"], say))
    parameters = spec.get("parameters")
    return found if parameters is None else found + needed(parameters, "spec.parameters", "kind", "name")


CHECKS: Final[Mapping[tuple[str, str], _Check]] = {
    ("", "Event"): _event,
    ("", "PersistentVolume"): _volume,
    ("", "ReplicationController"): _replication_controller,
    ("discovery.k8s.io", "EndpointSlice"): _slice,
    ("networking.k8s.io", "IngressClass"): _ingress_class,
    ("node.k8s.io", "RuntimeClass"): _runtime_class,
    (ADMISSION, "MutatingWebhookConfiguration"): webhook_problems.webhooks,
    (ADMISSION, "ValidatingAdmissionPolicyBinding"): _policy_binding,
    (ADMISSION, "ValidatingWebhookConfiguration"): webhook_problems.webhooks,
}
