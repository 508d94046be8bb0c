import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.objects.kube import KubeObject, MalformedObjectError
from tidelog.engine.objects.managed_fields import (
    FieldSet,
    element,
    managed_fields_taken_over,
    other_owners,
    paths_of,
    take_over_patch,
    union,
)

OURS = "kustomize-controller"
BOOKS: FieldSet = {
    "f:metadata": {
        "f:labels": {"f:app": {}, "f:example.com/team": {}},
        "f:finalizers": {".": {}, 'v:"example.com/x"': {}},
    },
    "f:spec": {
        "f:selector": {},
        "f:ports": {'k:{"port":53,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}}},
        "f:rows": {"i:0": {"f:x": {}}},
    },
}


def entry(manager: str, fields: FieldSet, operation: str = "Update", subresource: str = "", n: int = 0) -> KubeObject:
    made = {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "time": f"2026-01-01T00:00:{n:02}Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    return made | ({"subresource": subresource} if subresource else {})


def obj(*entries: KubeObject, **metadata: object) -> KubeObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "managedFields": [*entries], **metadata}}


def test_paths_read_as_people_write_them() -> None:
    assert paths_of(BOOKS) == {
        "metadata.labels.app",
        'metadata.labels["example.com/team"]',
        "metadata.finalizers",
        'metadata.finalizers[="example.com/x"]',
        "spec.selector",
        'spec.ports[port=53,protocol="UDP"]',
        'spec.ports[port=53,protocol="UDP"].port',
        'spec.ports[port=53,protocol="UDP"].protocol',
        "spec.rows[0].x",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("f:a.b", '["a.b"]'),
        ('f:say "x"', '["say \\"x\\""]'),
        ('k:{"on":true,"id":1}', "[id=1,on=true]"),
        ("v:null", "[=null]"),
        ('v:"a:b"', '[="a:b"]'),
        ("v:1.5", "[=1.5]"),
    ],
)
def test_elements_of_every_kind_are_printed(text: str, shown: str) -> None:
    assert element(text).text == shown


@pytest.mark.parametrize("text", ["", "x:a", "name", "k:[1]", "k:{", "v:", "i:x"])
def test_an_element_without_a_form_is_refused_by_name(text: str) -> None:
    with pytest.raises(MalformedObjectError, match="no path element"):
        element(text)


def test_the_latest_owner_comes_first() -> None:
    fields: FieldSet = {"f:data": {"f:a": {}}}
    other: FieldSet = {"f:data": {"f:b": {}}}
    books = obj(entry("early", fields, n=1), entry("late", fields, n=3), entry("between", other, n=2))
    assert [owner.manager for owner in other_owners(books, "")] == ["late", "between", "early"]


field_sets: st.SearchStrategy[FieldSet] = st.recursive(
    st.just({}),
    lambda below: st.dictionaries(st.sampled_from(["f:a", "f:b", 'k:{"n":1}', 'v:"x"', "."]), below, max_size=4).map(
        lambda made: {text: {} if text == "." else children for text, children in made.items()}
    ),
    max_leaves=12,
)


@given(field_sets, field_sets)
def test_a_union_owns_what_either_owns(one: FieldSet, other: FieldSet) -> None:
    assert paths_of(union(one, other)) == paths_of(one) | paths_of(other)
    assert paths_of(union(other, one)) == paths_of(union(one, other))


def test_a_union_goes_through_each_level_once() -> None:
    deep: FieldSet = {}
    for _ in range(60):  # twice a level would be 2**60 times at the last
        deep = {"f:a": deep, "f:b": {}}
    assert union(deep, deep) == deep


APPLIED = entry(OURS, {"f:data": {"f:a": {}}}, "Apply")
BY_HAND: FieldSet = {"f:data": {"f:b": {}}}
WITH_BY_HAND: FieldSet = {"f:data": {"f:a": {}, "f:b": {}}}


@pytest.mark.parametrize(
    ("manager", "operation"),
    [
        ("kubectl-edit", "Update"),
        ("kubectl", "Apply"),
        ("kubectl-client-side-apply", "Update"),
        ("before-first-apply", "Update"),
        (OURS, "Update"),
        ("terraform", "Update"),
        ("terraform", "Apply"),
    ],
)
def test_what_clients_own_is_taken_over(manager: str, operation: str) -> None:
    taken = managed_fields_taken_over(obj(APPLIED, entry(manager, BY_HAND, operation)), overridden=["terraform"])
    assert taken == [{**APPLIED, "fieldsV1": WITH_BY_HAND}]


@pytest.mark.parametrize(
    "left",
    [
        entry("flux-client-side-apply", BY_HAND),
        entry("flux-client-side-apply", BY_HAND, "Apply"),
        entry("kubectl-edit", BY_HAND, subresource="status"),
        entry("before-first-apply", BY_HAND, "Apply"),
        entry("helm-controller", BY_HAND, "Apply"),
        entry("my-kubectl", BY_HAND),
    ],
)
def test_what_others_own_is_left(left: KubeObject) -> None:
    assert managed_fields_taken_over(obj(APPLIED, left)) is None
    assert managed_fields_taken_over(obj(left)) is None


def test_what_was_never_applied_by_us_is_renamed_to_be_ours() -> None:
    status = entry("kube-controller-manager", {"f:status": {}}, subresource="status")
    taken = managed_fields_taken_over(obj(entry("kubectl-create", BY_HAND), status, entry("kubectl-edit", BY_HAND)))
    assert taken == [status, {**entry(OURS, BY_HAND), "operation": "Apply"}]


@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_an_object_that_says_merge_is_left_to_all_of_its_writers(place: str) -> None:
    flagged = obj(APPLIED, entry("kubectl-edit", BY_HAND), **{place: {"kustomize.toolkit.fluxcd.io/ssa": "merge"}})
    flagged["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    assert managed_fields_taken_over(flagged) is None
    assert take_over_patch(flagged) == []


def test_the_patch_removes_what_client_side_appliers_leave_and_is_for_one_version_only() -> None:
    live = obj(
        APPLIED,
        resourceVersion="7",
        annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "x"},
        labels={"fluxcd.io/sync-gc-mark": "x"},
    )
    assert take_over_patch(live) == [
        {"op": "remove", "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"},
        {"op": "remove", "path": "/metadata/labels/fluxcd.io~1sync-gc-mark"},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
    ]


def test_where_nothing_is_to_be_taken_over_there_is_no_patch() -> None:
    assert take_over_patch(obj(APPLIED, resourceVersion="7")) == []
    assert take_over_patch({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}) == []
