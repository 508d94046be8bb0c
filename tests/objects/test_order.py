import random

import pytest

from tidelog.engine.objects.order import is_awaited, prune_order, rank, waves
from tidelog.events.names import ObjectKey

RBAC = "rbac.authorization.k8s.io"
# The order of KS-072, with others among them, and two of a kind for the ties.
IN_ORDER = (
    ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", "widgets.example.com"),
    ObjectKey("", "Namespace", "", "shop"),
    ObjectKey(RBAC, "ClusterRole", "", "r"),
    ObjectKey("cluster.x-k8s.io", "ClusterClass", "shop", "c"),
    ObjectKey("node.k8s.io", "RuntimeClass", "", "c"),
    ObjectKey("scheduling.k8s.io", "PriorityClass", "", "c"),
    ObjectKey("storage.k8s.io", "StorageClass", "", "c"),
    ObjectKey("snapshot.storage.k8s.io", "VolumeSnapshotClass", "", "c"),
    ObjectKey("networking.k8s.io", "IngressClass", "", "c"),
    ObjectKey("gateway.networking.k8s.io", "GatewayClass", "", "c"),
    ObjectKey(RBAC, "ClusterRoleBinding", "", "b"),
    ObjectKey("", "ResourceQuota", "shop", "q"),
    ObjectKey("", "ServiceAccount", "shop", "a"),
    ObjectKey(RBAC, "Role", "shop", "r"),
    ObjectKey(RBAC, "RoleBinding", "shop", "b"),
    ObjectKey("", "ConfigMap", "a", "z"),
    ObjectKey("", "ConfigMap", "b", "a"),
    ObjectKey("", "ConfigMap", "b", "b"),
    ObjectKey("", "Secret", "shop", "s"),
    ObjectKey("", "Service", "shop", "s"),
    ObjectKey("", "LimitRange", "shop", "l"),
    ObjectKey("apps", "Deployment", "shop", "d"),
    ObjectKey("apps", "StatefulSet", "shop", "s"),
    ObjectKey("batch", "CronJob", "shop", "j"),
    ObjectKey("policy", "PodDisruptionBudget", "shop", "p"),
    ObjectKey("", "PersistentVolumeClaim", "shop", "p"),
    ObjectKey("apps", "DaemonSet", "shop", "d"),
    ObjectKey("batch", "Job", "shop", "j"),
    ObjectKey("example.com", "Gadget", "shop", "g"),
    ObjectKey("example.com", "Widget", "shop", "a"),
    ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "shop", "k"),
    ObjectKey("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "", "w"),
    ObjectKey("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "", "w"),
)


def shuffled(seed: int) -> list[ObjectKey]:
    keys = list(IN_ORDER)
    random.Random(seed).shuffle(keys)
    return keys


def test_what_others_refer_to_comes_first_and_webhooks_last(seed: int) -> None:
    assert sorted(shuffled(seed), key=rank) == list(IN_ORDER)
    assert len({rank(key) for key in IN_ORDER}) == len(IN_ORDER)


def test_pruning_goes_backwards(seed: int) -> None:
    assert prune_order(shuffled(seed)) == IN_ORDER[::-1]


def test_what_defines_the_cluster_and_classes_are_waited_for(seed: int) -> None:
    assert waves(shuffled(seed)) == (
        IN_ORDER[:3],
        IN_ORDER[3:10],
        IN_ORDER[10:],
    )
    assert [is_awaited(key) for key in IN_ORDER] == [True] * 10 + [False] * (len(IN_ORDER) - 10)


def test_custom_kinds_go_before_the_rest_and_are_not_waited_for(seed: int) -> None:
    custom = (ObjectKey("", "Secret", "shop", "s"), ObjectKey("example.com", "Widget", "shop", "a"))
    found = waves(shuffled(seed), ["Widget", "core/Secret", "other.example.com/Gadget"])
    assert found[2] == custom
    assert found[3] == tuple(key for key in IN_ORDER[10:] if key not in custom)
    assert not any(map(is_awaited, custom))


def test_a_wave_without_objects_is_none() -> None:
    key = ObjectKey("", "ConfigMap", "a", "b")
    assert waves([key]) == ((key,),)
    assert waves([]) == ()


@pytest.mark.parametrize(
    "key",
    [
        ObjectKey("example.com", "Namespace", "", "n"),
        ObjectKey("example.com", "ClusterRole", "", "r"),
        ObjectKey("example.com", "CustomResourceDefinition", "", "c"),
    ],
)
def test_a_kind_of_the_same_name_in_another_group_defines_nothing(key: ObjectKey) -> None:
    assert not is_awaited(key)


def test_any_kind_that_is_named_a_class_is_one() -> None:
    key = ObjectKey("example.com", "VolumeAttributesClass", "", "c")
    assert is_awaited(key)
