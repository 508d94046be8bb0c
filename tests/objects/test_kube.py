import pytest

from tidelog.engine.objects.kube import (
    KubeObject,
    MalformedObjectError,
    canonical_bytes,
    flag,
    flagged,
    group_of,
    inventory_id,
    key_of,
    parse_inventory_id,
)
from tidelog.events.names import ObjectKey

RBAC = "rbac.authorization.k8s.io"


def test_the_group_is_what_stands_before_the_version() -> None:
    assert [group_of(text) for text in ("v1", "apps/v1", "helm.toolkit.fluxcd.io/v2")] == [
        "",
        "apps",
        "helm.toolkit.fluxcd.io",
    ]


def test_a_key_has_no_version() -> None:
    old = {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}}
    assert key_of(old) == key_of({**old, "apiVersion": "apps/v1"}) == ObjectKey("apps", "Deployment", "shop", "web")


def test_an_object_of_the_cluster_has_no_namespace() -> None:
    assert key_of({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}}) == ObjectKey("", "Node", "", "one")


@pytest.mark.parametrize(
    ("obj", "lacks"),
    [
        ({}, "apiVersion"),
        ({"apiVersion": "v1", "metadata": {"name": "x"}}, "kind"),
        ({"apiVersion": "v1", "kind": "Secret"}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ""}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": ["name"]}, "metadata.name"),
        ({"apiVersion": 1, "kind": "Secret", "metadata": {"name": "x"}}, "apiVersion"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": 5}}, "no text"),
    ],
)
def test_what_lacks_a_name_is_no_object(obj: KubeObject, lacks: str) -> None:
    with pytest.raises(MalformedObjectError, match=lacks):
        key_of(obj)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ObjectKey("", "Service", "default", "podinfo"), "default_podinfo__Service"),
        (ObjectKey(RBAC, "ClusterRole", "", "x"), "_x_rbac.authorization.k8s.io_ClusterRole"),
        (ObjectKey("", "Namespace", "", "shop"), "_shop__Namespace"),
        (ObjectKey(RBAC, "Role", "a", "sys:x:y"), "a_sys__x__y_rbac.authorization.k8s.io_Role"),
        (
            ObjectKey(RBAC, "ClusterRole", "", "with_underscore"),
            "_with_underscore_rbac.authorization.k8s.io_ClusterRole",
        ),
    ],
)
def test_inventory_ids_are_those_of_flux(key: ObjectKey, text: str) -> None:
    assert inventory_id(key) == text
    assert parse_inventory_id(text) == key


@pytest.mark.parametrize("text", ["", "default", "default_podinfo_Service", "___", "a__b_"])
def test_other_texts_are_no_inventory_ids(text: str) -> None:
    with pytest.raises(MalformedObjectError, match="no inventory id"):
        parse_inventory_id(text)


def test_label_and_annotation_both_flag_and_case_does_not_count() -> None:
    both = {"metadata": {"labels": {"f": "Merge"}, "annotations": {"f": "IGNORE"}}}
    assert flagged(both, "f", "merge")
    assert flagged(both, "f", "Ignore")
    assert not flagged(both, "f", "other")
    assert flag(both, "f") == "Merge"
    assert flag({"metadata": {"annotations": {"f": "x"}}}, "f") == "x"


@pytest.mark.parametrize("metadata", [{}, {"labels": None, "annotations": None}, {"labels": {"g": "x"}}])
def test_where_nothing_flags_there_is_no_flag(metadata: KubeObject) -> None:
    assert flag({"metadata": metadata}, "f") is None
    assert not flagged({"metadata": metadata}, "f", "")


def test_the_order_of_fields_is_not_in_the_bytes() -> None:
    assert canonical_bytes({"a": 1, "b": [1, 2]}) == canonical_bytes({"b": [1, 2], "a": 1})
    assert canonical_bytes({"b": [1, 2]}) != canonical_bytes({"b": [2, 1]})
