"""Who owns what, without a server: what `test_ownership_oracle.py` says in general, told case by case."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.cluster.embedded import fieldsets
from tidelog.engine.cluster.embedded.ownership import LAST_APPLIED, AppliedError, FieldConflictsError, apply, update
from tidelog.engine.cluster.embedded.registry import schema_of_kind
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.objects.kube import MalformedObjectError
from tidelog.engine.objects.managed_fields import union

Json = dict[str, Any]
EARLIER, NOW = "2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z"
CONFIG_MAP = schema_of_kind("", "v1", "ConfigMap")
SERVICE = schema_of_kind("", "v1", "Service")
DEPLOYMENT = schema_of_kind("apps", "v1", "Deployment")


def config_map(data: Json | None, **metadata: Any) -> Json:
    body = {} if data is None else {"data": data}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n", **metadata}, **body}


def deployment(**spec: Any) -> Json:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


def owners(obj: Json) -> dict[tuple[str, str], Json]:
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])
    }


def by(manager: str, live: Json | None, applied: Json, *, force: bool = False, schema: Schema = CONFIG_MAP) -> Json:
    return apply(live, applied, schema, manager=manager, force=force, now=EARLIER if live is None else NOW)


def test_who_applies_owns_what_is_applied_and_never_its_name() -> None:
    made = by("a", None, config_map({"k": "1"}))
    entry = {"manager": "a", "operation": "Apply", "apiVersion": "v1", "time": EARLIER, "fieldsType": "FieldsV1"}
    assert made["metadata"]["managedFields"] == [{**entry, "fieldsV1": {"f:data": {"f:k": {}}}}]


def test_the_same_again_changes_nothing() -> None:
    live = by("a", None, config_map({"k": "1"}))
    assert by("a", live, config_map({"k": "1"})) == live


def test_what_is_no_longer_applied_goes_unless_another_owns_it() -> None:
    live = by("b", by("a", None, config_map({"k": "1", "l": "1"})), config_map({"k": "1"}))
    left = by("a", live, config_map({"m": "1"}))
    assert left["data"] == {"k": "1", "m": "1"}
    assert owners(left) == {("a", "Apply"): {"f:data": {"f:m": {}}}, ("b", "Apply"): {"f:data": {"f:k": {}}}}


def test_what_another_owns_is_a_conflict_in_the_servers_words() -> None:
    live = update(None, deployment(replicas=1), DEPLOYMENT, manager="x", now=EARLIER)
    with pytest.raises(FieldConflictsError) as caught:
        by("a", live, deployment(replicas=2), schema=DEPLOYMENT)
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "x" using apps/v1: .spec.replicas'
    assert caught.value.causes() == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "x" using apps/v1', "field": ".spec.replicas"}
    ]
    (conflict,) = caught.value.conflicts
    assert (conflict.manager, conflict.operation, conflict.time) == ("x", "Update", EARLIER)


def test_conflicts_with_several_are_told_by_manager() -> None:
    live = by("c", by("b", None, config_map({"k": "1", "l": "1"})), config_map({"m": "1"}))
    with pytest.raises(FieldConflictsError) as caught:
        by("a", live, config_map({"k": "2", "l": "2", "m": "2"}))
    assert caught.value.message == (
        'Apply failed with 3 conflicts: conflicts with "b":\n- .data.k\n- .data.l\nconflicts with "c":\n- .data.m'
    )


def test_force_takes_over() -> None:
    live = by("b", None, config_map({"k": "1", "l": "1"}))
    taken = by("a", live, config_map({"k": "2"}), force=True)
    assert taken["data"] == {"k": "2", "l": "1"}
    assert owners(taken) == {("a", "Apply"): {"f:data": {"f:k": {}}}, ("b", "Apply"): {"f:data": {"f:l": {}}}}


@pytest.mark.parametrize(
    ("said", "metadata"),
    [(None, {}), ({}, {"annotations": {}}), ({"a": "b"}, {"annotations": {"a": "b"}})],
)
def test_the_annotation_of_kubectl_is_brought_up_to_date(said: Json | None, metadata: Json) -> None:
    """Annotations that are null are left out of it, as the real server does."""
    live = by("kubectl", None, config_map({"a": "1"}))
    live["metadata"]["annotations"] = {LAST_APPLIED: "{}"}
    done = by("kubectl", live, config_map({"a": "2"}, annotations=said), force=True)
    last = json.loads(done["metadata"]["annotations"][LAST_APPLIED])
    assert last == config_map({"a": "2"}, **metadata)


def test_nothing_that_is_given_is_changed() -> None:
    live, applied = by("b", None, config_map({"k": "1"})), config_map({"k": "2"})
    before = copy.deepcopy((live, applied))
    by("a", live, applied, force=True)
    update(live, applied, CONFIG_MAP, manager="u", now=NOW)
    assert before == (live, applied)


def test_a_key_that_is_left_out_counts_with_its_default() -> None:
    spec = {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}
    made = by(
        "a", None, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": spec}, schema=SERVICE
    )
    assert set(owners(made)["a", "Apply"]["f:spec"]["f:ports"]) == {
        'k:{"port":80,"protocol":"TCP"}',
        'k:{"port":80,"protocol":"UDP"}',
    }


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"foo": 1}, ".spec.foo: field not declared in schema"),
        ({"replicas": "x"}, ".spec.replicas: expected numeric (int or float), got string"),
        ({"paused": "x"}, ".spec.paused: expected boolean, got &{x}"),
        ({"template": []}, ".spec.template: expected map, got &{[]}"),
        ({"strategy": {"type": 1}}, ".spec.strategy.type: expected string, got &value.valueUnstructured{Value:1}"),
        (
            {"template": {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}},
            '.spec.template.spec.containers: duplicate entries for key [name="c"]',
        ),
        (
            {"template": {"spec": {"containers": {"name": "c"}}}},
            ".spec.template.spec.containers: expected list, got &{map[name:c]}",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_the_servers_words(spec: Json, said: str) -> None:
    with pytest.raises(AppliedError) as caught:
        by("a", None, deployment(**spec), schema=DEPLOYMENT)
    assert str(caught.value) == f"failed to create typed patch object (/x; apps/v1, Kind=Deployment): {said}"


def test_managed_fields_cannot_be_applied() -> None:
    with pytest.raises(AppliedError, match="must be nil"):
        by("a", None, config_map(None, managedFields=[]))


def test_what_was_there_before_the_first_apply_is_owned_by_that_name() -> None:
    live = config_map({"k": "1"}, uid="u")
    found = owners(by("a", live, config_map({"l": "1"})))
    assert found["before-first-apply", "Update"] == {"f:data": {".": {}, "f:k": {}}}


def test_an_update_owns_what_it_changes_and_gives_up_what_it_removes() -> None:
    live = update(None, config_map({"k": "1", "l": "1"}), CONFIG_MAP, manager="u", now=EARLIER)
    found = owners(update(live, config_map({"k": "2", "m": "1"}), CONFIG_MAP, manager="v", now=NOW))
    assert found["u", "Update"] == {"f:data": {".": {}}} | {"f:data": {}}
    assert found["v", "Update"] == {"f:data": {"f:k": {}, "f:m": {}}}


@pytest.mark.parametrize("sent", [[], [{}]])
def test_managers_can_be_reset(sent: list[Json]) -> None:
    live = by("a", None, config_map({"k": "1"}))
    assert (
        "managedFields"
        not in update(live, config_map({"k": "1"}, managedFields=sent), CONFIG_MAP, manager="u", now=NOW)["metadata"]
    )


def test_fields_that_a_request_cannot_change_are_nobodys() -> None:
    new = {**deployment(replicas=1), "status": {"replicas": 3}}
    found = owners(update(None, new, DEPLOYMENT, manager="u", now=NOW, reset={"f:status": {}}))
    assert found == {("u", "Update"): {"f:spec": {"f:replicas": {}}}}


# ---------------------------------------------------------------------------------------------- field sets

_elements = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"', "v:1", "i:0"])
_paths = st.sets(st.lists(_elements, min_size=1, max_size=3).map(tuple), max_size=8)


def _members(fields: Json) -> set[tuple[str, ...]]:
    return set(fieldsets.paths(fields))


@given(_paths, _paths)
def test_the_algebra_of_field_sets_is_that_of_sets_of_paths(
    one: set[tuple[str, ...]], other: set[tuple[str, ...]]
) -> None:
    left, right = fieldsets.set_of(one), fieldsets.set_of(other)
    assert _members(left) == one
    assert _members(union(left, right)) == one | other
    assert _members(fieldsets.difference(left, right)) == one - other
    assert _members(fieldsets.intersection(left, right)) == one & other
    below = {path for path in one if any(path[: len(each)] == each for each in other)}
    assert _members(fieldsets.without(left, right)) == one - below
    assert all(fieldsets.has(left, path) == (path in one) for path in one | other)
    assert fieldsets.decoded(fieldsets.ordered(left)) == left


def test_an_element_has_one_way_to_be_written() -> None:
    raw: Json = {'k:{"b": 1.0, "a":"<"}': {".": {}, "x:unknown": {}}, "f:a": {}}
    assert fieldsets.decoded(raw) == {'k:{"a":"\\u003c","b":1}': {}, "f:a": {}}


@pytest.mark.parametrize("raw", [{"a": {}}, {"f:a": 1}, [], {"k:{": {}}])
def test_what_is_no_field_set_is_refused(raw: Any) -> None:
    with pytest.raises(MalformedObjectError):
        fieldsets.decoded(raw)


def test_what_has_become_one_value_is_owned_as_one() -> None:
    live = by("a", None, config_map({"k": "1"}))
    atomic = {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"}
    schema = Schema(
        {"type": "object", "properties": {"metadata": {}, "kind": {}, "apiVersion": {}, "data": atomic}}, {}
    )
    found = by("b", live, config_map(None, labels={"l": "1"}), schema=schema)
    assert owners(found)["a", "Apply"] == {"f:data": {}}


def test_what_nobody_owns_stays_beside_what_another_owns() -> None:
    def of(*containers: Json) -> Json:
        return deployment(template={"spec": {"containers": list(containers)}})

    live = by("a", None, of({"name": "one", "image": "i"}, {"name": "two"}), schema=DEPLOYMENT)
    live = by("b", live, of({"name": "one", "tty": True}), schema=DEPLOYMENT)
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"  # a default
    left = by("a", live, of({"name": "two"}), schema=DEPLOYMENT)
    assert left["spec"]["template"]["spec"]["containers"] == [
        {"name": "one", "tty": True, "imagePullPolicy": "Always"},
        {"name": "two"},
    ]
