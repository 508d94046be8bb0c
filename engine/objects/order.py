"""The order in which objects are applied and pruned (KS-071, KS-072, KS-092)."""

from collections.abc import Collection, Iterable
from typing import Final

from tidelog.engine.objects.kube import RBAC
from tidelog.events.names import ObjectKey

# What others refer to comes first. Only the kind counts, whatever its group (KS-072).
_first: Final = (
    "CustomResourceDefinition",
    "Namespace",
    "ClusterRole",
    "ClusterClass",
    "RuntimeClass",
    "PriorityClass",
    "StorageClass",
    "VolumeSnapshotClass",
    "IngressClass",
    "GatewayClass",
    "ClusterRoleBinding",
    "ResourceQuota",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
    "LimitRange",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
)
# A webhook that is there before what serves it refuses everything after it.
_last: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_rank: Final = {kind: place - len(_first) for place, kind in enumerate(_first)} | {
    kind: place + 1 for place, kind in enumerate(_last)
}
_definitions: Final = frozenset(
    {
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("", "Namespace"),
        (RBAC, "ClusterRole"),
    }
)

AWAITED = 2
"""Waves that are waited for."""

Rank = tuple[int, str, str, str, str]


def rank(key: ObjectKey) -> Rank:
    """What objects are sorted by: their kind's place, then group, kind, namespace and name (KS-072)."""
    return _rank.get(key.kind, 0), key.group, key.kind, key.namespace, key.name


def waves(keys: Iterable[ObjectKey], custom_kinds: Collection[str] = ()) -> tuple[tuple[ObjectKey, ...], ...]:
    """The objects that are applied together, wave by wave (KS-071, where they are called stages).

    First what defines the cluster (CustomResourceDefinition, Namespace, ClusterRole), then the kinds named `...Class`,
    then `custom_kinds`, then the rest; each in the order of KS-072. Waves without objects are left out.

    Args:
        keys: the objects, in any order.
        custom_kinds: kinds that go before the rest, each `Kind` or, to be exact, `group/Kind` (`core/Kind`).
    """
    parts: tuple[list[ObjectKey], ...] = ([], [], [], [])
    for key in keys:
        parts[_wave_of(key, custom_kinds)].append(key)
    return tuple(tuple(sorted(part, key=rank)) for part in parts if part)


def is_awaited(key: ObjectKey) -> bool:
    """Whether the waves after an object's own begin only when it is established: those of the first two (KS-071)."""
    return _wave_of(key, ()) < AWAITED


def _wave_of(key: ObjectKey, custom_kinds: Collection[str]) -> int:
    if (key.group, key.kind) in _definitions:
        return 0
    if key.kind.endswith("Class"):
        return 1
    return 2 if key.kind in custom_kinds or f"{key.group or 'core'}/{key.kind}" in custom_kinds else 3


def prune_order(keys: Iterable[ObjectKey]) -> tuple[ObjectKey, ...]:
    """The order in which objects are deleted: that of KS-072, backwards (KS-092)."""
    return tuple(sorted(keys, key=rank, reverse=True))
