"""What the server refuses in an object's metadata."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import formats
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import RBAC, KubeObject

_Form: TypeAlias = Callable[[str], list[str]]
IMMUTABLE: Final = "field is immutable"
ANNOTATIONS_BYTES: Final = 256 * 1024
_FINALIZERS: Final = ("kubernetes", "orphan", "foregroundDeletion")
_FINALIZERS_EXCLUSIVE: Final = ("orphan", "foregroundDeletion")

ANY_FINALIZER: Final = frozenset(
    {
        ("", "Event"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("coordination.k8s.io", "Lease"),
        ("node.k8s.io", "RuntimeClass"),
        ("policy", "PodDisruptionBudget"),
    }
)
"""Kinds whose finalizers need no domain, as those of custom kinds do not."""
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


def problems(kind: tuple[str, str], obj: KubeObject, *, is_custom: bool = False) -> list[Cause]:
    """Of a new object."""
    metadata = obj.get("metadata") or {}
    form = NAMES_LATER.get(kind) or NAMES.get(kind, formats.dns_subdomain)
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
    found += _common(metadata)
    finalizers = metadata.get("finalizers") or []
    needs_domain = not is_custom and kind not in ANY_FINALIZER
    for index, finalizer in enumerate(finalizers):
        found += [causes.invalid("metadata.finalizers", finalizer, one) for one in formats.qualified_name(finalizer)]
        if needs_domain and "/" not in finalizer and finalizer not in _FINALIZERS:
            say = "name is neither a standard finalizer name nor is it fully qualified"
            found.append(causes.invalid(f"metadata.finalizers[{index}]", finalizer, say))
    if set(_FINALIZERS_EXCLUSIVE) <= set(finalizers):
        say = f"finalizer {' and '.join(_FINALIZERS_EXCLUSIVE)} cannot be both set"
        found.append(causes.invalid("metadata.finalizers", finalizers, say))
    return found


NOT_NEGATIVE: Final = "must be greater than or equal to 0"
_FIXED: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def problems_of_update(new: KubeObject, old: KubeObject) -> list[Cause]:
    """Of an object that is to take the place of another."""
    metadata, before = new.get("metadata") or {}, old.get("metadata") or {}
    found: list[Cause] = []
    if before.get("deletionTimestamp"):
        added = [one for one in metadata.get("finalizers") or () if one not in (before.get("finalizers") or ())]
        if added:
            say = f"no new finalizers can be added if the object is being deleted, found new finalizers {_go(added)}"
            found.append(causes.forbidden("metadata.finalizers", say))
    if metadata.get("generation", 0) < before.get("generation", 0):
        found.append(causes.invalid("metadata.generation", metadata.get("generation", 0), "must not be decremented"))
    for field in _FIXED:
        if metadata.get(field) != before.get(field):
            value = metadata.get(field, "" if field in ("name", "namespace", "uid") else None)
            found.append(causes.invalid(f"metadata.{field}", value, IMMUTABLE))
    return found + _common(metadata)


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


def _common(metadata: KubeObject) -> list[Cause]:
    found = labels(metadata.get("labels"), "metadata.labels")
    found += annotations(metadata.get("annotations"), "metadata.annotations")
    return found + _owners(metadata.get("ownerReferences") or [])


def _owners(owners: list[KubeObject]) -> list[Cause]:
    path, found, controller = "metadata.ownerReferences", list[Cause](), ""
    for owner in owners:
        if not owner.get("apiVersion"):
            found.append(causes.invalid(f"{path}.apiVersion", "", "version must not be empty"))
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


def _go(texts: list[str]) -> str:
    shown = ", ".join(f'"{one}":sets.Empty{{}}' for one in sorted(texts))
    return f"sets.Set[string]{{{shown}}}"
