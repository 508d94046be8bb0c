import copy

import pytest

from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import FieldSet
from tidelog.engine.objects.state import owned_values, state_of

OURS = "kustomize-controller"
FIELDS: FieldSet = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:resources": {},
        "f:secrets": {},
        "f:tags": {'v:"a"': {}, 'v:"b"': {}},
        "f:ports": {
            'k:{"port":53,"protocol":"TCP"}': {".": {}, "f:port": {}},
            'k:{"port":53,"protocol":"UDP"}': {".": {}, "f:port": {}, "f:protocol": {}},
        },
    },
}
WIDGET: KubeObject = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {
        "name": "w",
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "web"},
        "managedFields": [
            {"manager": OURS, "operation": "Apply", "time": "2026-01-01T00:00:00Z", "fieldsV1": FIELDS},
            {"manager": OURS, "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {"f:x": {}}}},
            {"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:colour": {}}}},
        ],
    },
    "spec": {
        "replicas": 2,
        "colour": "red",
        "selector": {"matchLabels": {"app": "web"}},
        "resources": {},
        "tags": ["x", "b", "a"],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    },
    "status": {"x": 1},
}


def changed(*path: str | int, to: KubeValue) -> KubeObject:
    new = copy.deepcopy(WIDGET)
    within: KubeValue = new
    for step in path[:-1]:
        within = within[step]
    within[path[-1]] = to
    return new


def owned_by_others(fields: FieldSet, obj: KubeObject) -> KubeObject:
    new = copy.deepcopy(obj)
    new["metadata"]["managedFields"].append({"manager": "theirs", "operation": "Update", "fieldsV1": fields})
    return new


def test_owned_values_are_those_of_the_field_set() -> None:
    assert owned_values(WIDGET, OURS) == {
        "metadata.labels.app": "web",
        "spec.replicas": 2,
        "spec.selector": {"matchLabels": {"app": "web"}},
        "spec.resources": None,
        "spec.secrets": None,
        'spec.tags[="a"]': "a",
        'spec.tags[="b"]': "b",
        "spec.tags": ['[="b"]', '[="a"]'],
        'spec.ports[port=53,protocol="TCP"].port': 53,
        'spec.ports[port=53,protocol="UDP"].port': 53,
        'spec.ports[port=53,protocol="UDP"].protocol': "UDP",
        "spec.ports": ['[port=53,protocol="UDP"]', '[port=53,protocol="TCP"]'],
    }


def test_who_applied_nothing_owns_nothing() -> None:
    assert owned_values(WIDGET, "other") == {}
    assert owned_values({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}}, OURS) == {}


@pytest.mark.parametrize(
    "live",
    [
        changed("status", to={"x": 2}),
        changed("metadata", "resourceVersion", to="8"),
        changed("spec", "colour", to="blue"),
        changed("spec", "tags", to=["new", "b", "y", "a"]),
        changed("spec", "ports", 0, "name", to="dns"),
        changed("metadata", "labels", "theirs", to="x"),
        owned_by_others({"f:spec": {"f:resources": {"f:cpu": {}}}}, changed("spec", "resources", to={"cpu": "1"})),
        owned_by_others({"f:spec": {"f:secrets": {'v:"x"': {}}}}, changed("spec", "secrets", to=["x"])),
    ],
)
def test_what_others_write_into_their_own_fields_is_none_of_ours(live: KubeObject) -> None:
    assert owned_values(live, OURS) == owned_values(WIDGET, OURS)
    assert owned_values(state_of(live, OURS), OURS) == owned_values(live, OURS)


@pytest.mark.parametrize(
    "live",
    [
        changed("spec", "replicas", to=3),
        changed("spec", "replicas", to=None),
        changed("spec", "selector", "matchLabels", "app", to="other"),
        changed("spec", "tags", to=["a", "b"]),
        changed("spec", "ports", 0, "protocol", to="SCTP"),
        changed("spec", "ports", to=[]),
        changed("spec", "secrets", to=["filled"]),
        changed("metadata", "managedFields", 0, "fieldsV1", to={**FIELDS, "f:metadata": {}}),
        changed("metadata", "managedFields", to=[]),
    ],
)
def test_whatever_happens_to_our_fields_is_seen(live: KubeObject) -> None:
    assert owned_values(live, OURS) != owned_values(WIDGET, OURS)


def test_the_state_is_the_object_less_status_and_books() -> None:
    state = state_of(WIDGET, OURS)
    assert state.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert state["metadata"].keys() == {"name", "namespace", "labels", "managedFields"}
    (entry,) = state["metadata"]["managedFields"]
    assert entry == {"manager": OURS, "operation": "Apply", "fieldsV1": FIELDS}
    assert state["spec"] is WIDGET["spec"]  # nothing is copied


def test_making_a_state_leaves_the_object_as_it_was() -> None:
    live = owned_by_others({"f:spec": {"f:resources": {"f:cpu": {}}}}, changed("spec", "resources", to={"cpu": "1"}))
    before = copy.deepcopy(live)
    state_of(live, OURS)
    assert live == before


def test_the_time_of_our_apply_is_not_in_the_state() -> None:
    later = changed("metadata", "managedFields", 0, "time", to="2026-02-02T00:00:00Z")
    assert state_of(later, OURS) == state_of(WIDGET, OURS)
