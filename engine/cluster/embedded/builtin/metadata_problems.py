"""What the server refuses in an object's metadata."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import formats
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import RBAC, KubeObject

_Form: TypeAlias = Callable[[str], list[str]]
IMMUTABLE: Final = "field is immutable"
ANNOTATIONS_BYTES: Final = 256 * 1024
MANAGER_BYTES: Final = 128
SUBRESOURCE_BYTES: Final = 256
_NO_DOMAIN: Final = "name is neither a standard finalizer name nor is it fully qualified"
_ADMISSION: Final = (
    *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
)
_FINALIZERS: Final = ("kubernetes", "orphan", "foregroundDeletion")
_FINALIZERS_EXCLUSIVE: Final = ("orphan", "foregroundDeletion")

NAMES: Final[Mapping[tuple[str, str], _Form]] = {
    ("", "Namespace"): formats.dns_label,
    ("", "Service"): formats.dns_label,
    ("apps", "StatefulSet"): formats.dns_label,
    (RBAC, "Role"): formats.path_segment,
    (RBAC, "RoleBinding"): formats.path_segment,
    (RBAC, "ClusterRole"): formats.path_segment,
    (RBAC, "ClusterRoleBinding"): formats.path_segment,
    ("apiregistration.k8s.io", "APIService"): formats.path_segment,
}
"""The form of names of kinds that are not subdomains of DNS."""
NAMES_LATER: Final[Mapping[tuple[str, str], _Form]] = {("", "Service"): formats.service_name}


class _Rounds(NamedTuple):
    """How often the strategy of a kind looks at the metadata of an update, after the registry itself has."""

    change: int = 1
    """As of an object that takes the place of another."""
    whole: int = 1
    """As of a new one."""


_CHANGE: Final = _Rounds(whole=0)
_WHOLE: Final = _Rounds(change=0)
_ROUNDS: Final[Mapping[tuple[str, str], _Rounds]] = {
    **dict.fromkeys(
        (("", kind) for kind in ("PodTemplate", "ReplicationController", "ResourceQuota", "Service")), _CHANGE
    ),
    **dict.fromkeys((("apps", kind) for kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")), _CHANGE),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _CHANGE,
    ("autoscaling", "HorizontalPodAutoscaler"): _CHANGE,
    ("batch", "CronJob"): _CHANGE,
    ("coordination.k8s.io", "Lease"): _CHANGE,
    ("events.k8s.io", "Event"): _CHANGE,
    ("networking.k8s.io", "ServiceCIDR"): _CHANGE,
    ("resource.k8s.io", "ResourceSlice"): _CHANGE,
    ("scheduling.k8s.io", "PriorityClass"): _CHANGE,
    ("storage.k8s.io", "CSIDriver"): _CHANGE,
    **dict.fromkeys((("admissionregistration.k8s.io", kind) for kind in _ADMISSION), _WHOLE),
    ("", "LimitRange"): _WHOLE,
    ("discovery.k8s.io", "EndpointSlice"): _WHOLE,
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): _WHOLE,
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): _WHOLE,
    ("storage.k8s.io", "VolumeAttachment"): _WHOLE,
    ("", "PersistentVolume"): _Rounds(change=0, whole=2),
    ("storage.k8s.io", "CSINode"): _Rounds(change=0, whole=2),
    ("", "Event"): _Rounds(0, 0),
    ("policy", "PodDisruptionBudget"): _Rounds(0, 0),
}
"""Of kinds whose strategy does not look once at each: what is wrong is told as often."""
_ROUNDS_OF_STATUS: Final[Mapping[tuple[str, str], _Rounds]] = {
    ("batch", "CronJob"): _Rounds(0, 0),
    ("certificates.k8s.io", "CertificateSigningRequest"): _Rounds(),
    ("policy", "PodDisruptionBudget"): _Rounds(0, 0),
}
"""Of kinds whose strategy for the status does not look once, as at an update."""
_ANY_FINALIZER: Final = frozenset(
    {
        *(("admissionregistration.k8s.io", kind) for kind in _ADMISSION),
        ("", "Event"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("coordination.k8s.io", "Lease"),
        ("coordination.k8s.io", "LeaseCandidate"),
        ("node.k8s.io", "RuntimeClass"),
        ("policy", "PodDisruptionBudget"),
    }
)
"""Kinds whose finalizers need no domain; those of custom kinds neither."""


def problems(kind: tuple[str, str], obj: KubeObject, *, is_custom: bool = False) -> list[Cause]:
    """Of a new object."""
    metadata = obj.get("metadata") or {}
    form = NAMES_LATER.get(kind) or NAMES.get(kind, formats.dns_subdomain)
    found = _whole(metadata, form)
    return found if is_custom or kind in _ANY_FINALIZER else found + _without_domain(metadata)


NOT_NEGATIVE: Final = "must be greater than or equal to 0"
_FIXED: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def problems_of_update(
    kind: tuple[str, str], new: KubeObject, old: KubeObject, *, of_status: bool = False, is_custom: bool = False
) -> list[Cause]:
    """Of an object that is to take the place of another, each as often as the server tells it.

    The registry looks at all metadata, then the strategy of the kind does again; `of_status` for that of its status.
    """
    metadata, before = new.get("metadata") or {}, old.get("metadata") or {}
    change = _changed(metadata, before)
    found = _whole(metadata, formats.path_segment) + change
    if is_custom:
        return found + change
    rounds = _ROUNDS_OF_STATUS.get(kind, _CHANGE) if of_status else _ROUNDS.get(kind, _Rounds())
    found += change * rounds.change
    found += _whole(metadata, NAMES.get(kind, formats.dns_subdomain)) * rounds.whole
    strict = 0 if kind in _ANY_FINALIZER else rounds.change + rounds.whole
    return found + _without_domain(metadata) * strict


def _whole(metadata: KubeObject, form: _Form) -> list[Cause]:
    """Of all metadata by itself."""
    found: list[Cause] = []
    generated, name = metadata.get("generateName", ""), metadata.get("name", "")
    if generated:
        masked = generated[:-2] + "a" if len(generated) > 1 and generated.endswith("-") else generated
        checked = generated if form is formats.path_segment else masked
        found += [causes.invalid("metadata.generateName", generated, one) for one in form(checked)]
    if not name:
        found.append(causes.required("metadata.name", "name or generateName is required"))
    else:
        found += [causes.invalid("metadata.name", name, one) for one in form(name)]
    if metadata.get("namespace"):
        wrong = formats.dns_label(metadata["namespace"])
        found += [causes.invalid("metadata.namespace", metadata["namespace"], one) for one in wrong]
    if metadata.get("generation", 0) < 0:
        found.append(causes.invalid("metadata.generation", metadata["generation"], NOT_NEGATIVE))
    found += _described(metadata)
    finalizers = metadata.get("finalizers") or []
    for finalizer in finalizers:
        found += [causes.invalid("metadata.finalizers", finalizer, one) for one in formats.qualified_name(finalizer)]
    if set(_FINALIZERS_EXCLUSIVE) <= set(finalizers):
        say = f"finalizer {' and '.join(_FINALIZERS_EXCLUSIVE)} cannot be both set"
        found.append(causes.invalid("metadata.finalizers", finalizers, say))
    return found + _managers(metadata)


def _changed(metadata: KubeObject, before: KubeObject) -> list[Cause]:
    """Of metadata beside those that were."""
    found: list[Cause] = []
    if before.get("deletionTimestamp"):
        added = set(metadata.get("finalizers") or ()) - set(before.get("finalizers") or ())
        if added:
            say = f"no new finalizers can be added if the object is being deleted, found new finalizers {_go(added)}"
            found.append(causes.forbidden("metadata.finalizers", say))
    if metadata.get("generation", 0) < before.get("generation", 0):
        found.append(causes.invalid("metadata.generation", metadata.get("generation", 0), "must not be decremented"))
    for field in _FIXED:
        if metadata.get(field) != before.get(field):
            value = metadata.get(field, "" if field in ("name", "namespace", "uid") else None)
            found.append(causes.invalid(f"metadata.{field}", value, IMMUTABLE))
    return found + _described(metadata) + _managers(metadata)


def _without_domain(metadata: KubeObject) -> list[Cause]:
    """Finalizers that are the server's own by their form, and are none of its own."""
    return [
        causes.invalid(f"metadata.finalizers[{index}]", one, _NO_DOMAIN)
        for index, one in enumerate(metadata.get("finalizers") or ())
        if is_without_domain(one)
    ]


def is_without_domain(finalizer: str) -> bool:
    """Whether a finalizer looks as the server's own do, and is none of them."""
    return "/" not in finalizer and finalizer not in _FINALIZERS


def _managers(metadata: KubeObject) -> list[Cause]:
    """Of who owns which fields: what cannot be read at all has been left out before."""
    found: list[Cause] = []
    for index, entry in enumerate(metadata.get("managedFields") or ()):
        path, manager = f"metadata.managedFields[{index}]", entry.get("manager", "")
        if len(manager.encode()) > MANAGER_BYTES:
            found.append(too_long(f"{path}.manager", MANAGER_BYTES))
        at = 0
        for sign in manager:
            if not sign.isprintable():
                say = f"invalid character U+{ord(sign):04X} (at position {at})"
                found.append(causes.invalid(f"{path}.manager", manager, say))
            at += len(sign.encode())
        if len(entry.get("subresource", "").encode()) > SUBRESOURCE_BYTES:
            found.append(too_long(f"{path}.subresource", SUBRESOURCE_BYTES))
    return found


def labels(said: Any, path: str) -> list[Cause]:
    """Of labels, wherever they stand."""
    found: list[Cause] = []
    for key, value in (said or {}).items():
        found += [causes.invalid(path, key, one) for one in formats.qualified_name(key)]
        found += [causes.invalid(path, value, one) for one in formats.label_value(value)]
    return found


def annotations(said: Any, path: str) -> list[Cause]:
    """Of annotations, wherever they stand."""
    found: list[Cause] = []
    for key in said or {}:
        found += [causes.invalid(path, key, one) for one in formats.qualified_name(key.lower())]
    if sum(len(key.encode()) + len(str(value).encode()) for key, value in (said or {}).items()) > ANNOTATIONS_BYTES:
        found.append(too_long(path, ANNOTATIONS_BYTES))
    return found


def too_long(path: str, most: int) -> Cause:
    """Of what has too many bytes."""
    return Cause(causes.TOO_LONG, path, f"Too long: may not be more than {most} bytes")


def _described(metadata: KubeObject) -> list[Cause]:
    found = labels(metadata.get("labels"), "metadata.labels")
    found += annotations(metadata.get("annotations"), "metadata.annotations")
    return found + _owners(metadata.get("ownerReferences") or [])


def _owners(owners: list[KubeObject]) -> list[Cause]:
    path, found, controller = "metadata.ownerReferences", list[Cause](), ""
    for owner in owners:
        version = owner.get("apiVersion") or ""
        if version in ("", "/") or version.count("/") > 1 or version.endswith("/"):
            found.append(causes.invalid(f"{path}.apiVersion", version, "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                found.append(causes.invalid(f"{path}.{field}", "", "must not be empty"))
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            found.append(causes.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            name = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                say = 'Only one reference can have Controller set to true. Found "true" in references for '
                found.append(causes.invalid(path, owners, f"{say}{controller} and {name}"))
            controller = controller or name
    return found


def _go(texts: Collection[str]) -> str:
    """Texts as Go's `%#v` writes them."""
    return f"[]string{{{', '.join(causes.shown(one) for one in sorted(texts))}}}"
