"""The order in which objects are applied and pruned (KS-071, KS-072, KS-092)."""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

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

Rank = tuple[int, str, str, str, str]


class Wave(msgspec.Struct, frozen=True):
    """Objects that are applied together; what Flux calls a stage."""

    keys: tuple[ObjectKey, ...]
    """In the order in which they are applied."""
    waits: bool
    """Whether all of it has to be established before the next wave begins (KS-071)."""


def rank(key: ObjectKey) -> Rank:
    """What objects are sorted by: their kind's place, then group, kind, namespace and name (KS-072)."""
    return _rank.get(key.kind, 0), key.group, key.kind, key.namespace, key.name


def waves(keys: Iterable[ObjectKey], custom_kinds: Collection[str] = ()) -> tuple[Wave, ...]:
    """The waves in which objects are applied (KS-071), each in the order of KS-072; waves without objects are left out.

    First what defines the cluster (CustomResourceDefinition, Namespace, ClusterRole), then the kinds named `...Class`,
    then `custom_kinds`, then the rest. Only the first two are waited for.

    Args:
        keys: the objects, in any order.
        custom_kinds: kinds that go before the rest, each `Kind` or, to be exact, `group/Kind` (`core/Kind`).
    """
    parts: tuple[list[ObjectKey], ...] = ([], [], [], [])
    for key in keys:
        parts[_wave_of(key, custom_kinds)].append(key)
    return tuple(Wave(tuple(sorted(part, key=rank)), waits=n < 2) for n, part in enumerate(parts) if part)


def _wave_of(key: ObjectKey, custom_kinds: Collection[str]) -> int:
    if (key.group, key.kind) in _definitions:
        return 0
    if key.kind.endswith("Class"):
        return 1
    return 2 if key.kind in custom_kinds or f"{key.group or 'core'}/{key.kind}" in custom_kinds else 3


def prune_order(keys: Iterable[ObjectKey]) -> tuple[ObjectKey, ...]:
    """The order in which objects are deleted: that of KS-072, backwards (KS-092)."""
    return tuple(sorted(keys, key=rank, reverse=True))
