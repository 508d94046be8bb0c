import copy
from datetime import UTC, datetime, timedelta

import pytest

from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import FieldSet
from tidelog.engine.objects.state import state_of
from tidelog.engine.observe.drift import Flap, Flaps, drift
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary.observe import FieldDrift

OURS = "kustomize-controller"
CONTAINERS = "spec.containers"
FIELDS: FieldSet = {
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:resources": {},
        "f:pull": {},
        "f:containers": {
            'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}},
            'k:{"name":"b"}': {".": {}, "f:name": {}, "f:image": {}},
        },
    }
}
A: KubeObject = {"name": "a", "image": "a:1"}
B: KubeObject = {"name": "b", "image": "b:1"}
APPLIED: KubeObject = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "w", "managedFields": [{"manager": OURS, "operation": "Apply", "fieldsV1": FIELDS}]},
    "spec": {
        "replicas": 2,
        "selector": {"app": "web"},
        "resources": {},
        "containers": [A, B],
    },
}


def live(*path: str | int, to: KubeValue, by: FieldSet | None = None, manager: str = "kubectl-edit") -> KubeObject:
    """The object after `manager` changed it; None takes out what stands there."""
    new = copy.deepcopy(APPLIED)
    within: KubeValue = new
    for step in path[:-1]:
        within = within[step]
    if to is None:
        del within[path[-1]]
    else:
        within[path[-1]] = to
    if by is not None:
        made = {"manager": manager, "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": by}
        new["metadata"]["managedFields"].append(made)
    return new


def found(now: KubeObject) -> list[tuple[str, str]]:
    return [(one.path, one.manager) for one in drift(state_of(APPLIED, OURS), now, OURS)]


def test_an_object_as_it_was_applied_has_no_drift() -> None:
    assert found(APPLIED) == []


def test_a_changed_field_is_named_with_who_changed_it() -> None:
    now = live("spec", "replicas", to=0, by={"f:spec": {"f:replicas": {}}})
    assert found(now) == [("spec.replicas", "kubectl-edit")]


def test_of_several_owners_the_latest_is_named() -> None:
    now = live("spec", "replicas", to=0, by={"f:spec": {"f:replicas": {}}})
    early = {"manager": "hpa", "operation": "Update", "time": "2026-01-01T00:00:00Z"}
    now["metadata"]["managedFields"].append({**early, "fieldsV1": {"f:spec": {"f:replicas": {}}}})
    assert found(now) == [("spec.replicas", "kubectl-edit")]


def test_who_removed_a_field_is_not_known() -> None:
    assert found(live("spec", "replicas", to=None)) == [("spec.replicas", "")]


def test_an_item_that_is_gone_is_named_once() -> None:
    now = live("spec", "containers", to=[{"name": "a", "image": "a:1"}])
    assert found(now) == [(f'{CONTAINERS}[name="b"]', "")]


def test_a_change_in_a_value_that_is_taken_as_one_names_the_whole() -> None:
    now = live("spec", "selector", "app", to="other", by={"f:spec": {"f:selector": {}}})
    assert found(now) == [("spec.selector", "kubectl-edit")]


def test_another_order_of_our_items_is_drift() -> None:
    assert found(live("spec", "containers", to=APPLIED["spec"]["containers"][::-1])) == [(CONTAINERS, "")]


@pytest.mark.parametrize(
    "now",
    [
        live("spec", "theirs", to=1, by={"f:spec": {"f:theirs": {}}}),
        live("spec", "resources", to={"cpu": "1"}, by={"f:spec": {"f:resources": {"f:cpu": {}}}}),
        live("spec", "containers", 0, "defaulted", to="x"),
        live("spec", "containers", to=[{"name": "z"}, A, {"name": "y"}, B]),
        live("status", to={"ready": True}),
        live("spec", "pull", to=[]),
    ],
)
def test_what_others_add_is_no_drift(now: KubeObject) -> None:
    assert found(now) == []


def test_a_field_that_only_changed_hands_is_no_drift() -> None:
    now = live("spec", "replicas", to=2, by={"f:spec": {"f:replicas": {}}})
    now["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {"f:selector": {}}}
    assert found(now) == []


def test_what_was_applied_empty_and_another_fills_is_drift() -> None:
    assert found(live("spec", "pull", to=["x"], by={"f:spec": {"f:pull": {}}})) == [("spec.pull", "kubectl-edit")]


def test_a_map_that_became_a_text_is_named_and_not_looked_into() -> None:
    assert found(live("spec", to="nothing")) == [("spec", "")]


def test_no_value_is_in_the_paths_of_an_object_that_a_secret_went_into() -> None:
    now = live("spec", "containers", to=[])
    assert drift(APPLIED, now, OURS, secret=True) == (FieldDrift(path=f"{CONTAINERS}[*]"),)


WEB = ObjectKey("apps", "Deployment", "shop", "web")
START = datetime(2026, 1, 1, tzinfo=UTC)
REPLICAS = (FieldDrift(path="spec.replicas", manager="hpa"),)


def minutes(count: int) -> datetime:
    return START + timedelta(minutes=count)


def test_a_field_that_is_changed_back_again_and_again_flaps() -> None:
    flaps = Flaps(count=3, within=timedelta(minutes=10))
    assert [flaps.add(WEB, REPLICAS, minutes(n)) for n in (0, 1, 2)] == [
        (),
        (),
        (Flap(WEB, "spec.replicas", "hpa", 3, minutes(0)),),
    ]
    assert flaps.add(WEB, REPLICAS, minutes(3)) == (Flap(WEB, "spec.replicas", "hpa", 3, minutes(1)),)


def test_seldom_is_not_flapping() -> None:
    flaps = Flaps(count=3, within=timedelta(minutes=10))
    assert [flaps.add(WEB, REPLICAS, minutes(6 * n)) for n in range(20)] == [()] * 20


def test_what_a_clock_that_was_set_back_had_told_does_not_count() -> None:
    flaps = Flaps(count=3, within=timedelta(minutes=10))
    assert [flaps.add(WEB, REPLICAS, minutes(n)) for n in (60, 61, 0, 1)] == [()] * 4
    assert flaps.add(WEB, REPLICAS, minutes(2)) == (Flap(WEB, "spec.replicas", "hpa", 3, minutes(0)),)


def test_others_and_other_fields_and_objects_are_counted_apart() -> None:
    flaps = Flaps(count=2, within=timedelta(minutes=10))
    other = (FieldDrift(path="spec.replicas", manager="keda"), FieldDrift(path="spec.paused", manager="hpa"))
    assert flaps.add(WEB, REPLICAS, minutes(0)) == ()
    assert flaps.add(WEB, other, minutes(1)) == ()
    assert flaps.add(WEB._replace(name="shop"), REPLICAS, minutes(2)) == ()
    assert [flap.manager for flap in flaps.add(WEB, REPLICAS, minutes(3))] == ["hpa"]


def test_what_has_been_quiet_is_forgotten() -> None:
    flaps = Flaps(count=5, within=timedelta(minutes=10))
    for n in range(1_000):
        flaps.add(WEB._replace(name=f"web-{n}"), REPLICAS, minutes(n))
    assert len(flaps) == 10
