import copy
import json
import random

import pytest

from tidelog.engine.objects.diff import Difference, differences
from tidelog.engine.objects.kube import KubeObject, KubeValue

WEB: KubeObject = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web", "example.com/team": "a"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {"name": "app", "image": "app:1", "args": ["--one"], "env": [{"name": "A", "value": "1"}]},
                    {"name": "side", "image": "side:1"},
                ]
            }
        },
    },
}
CONTAINERS = "spec.template.spec.containers"
SECRET: KubeObject = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "s",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"password":"aHVudGVyMg=="}}'},
    },
    "data": {"password": "aHVudGVyMg==", "user": "YQ=="},
    "stringData": {"plain": "hunter2"},
}


def changed(obj: KubeObject, *path: str | int, to: KubeValue) -> KubeObject:
    new = copy.deepcopy(obj)
    within: KubeValue = new
    for step in path[:-1]:
        within = within[step]
    within[path[-1]] = to
    return new


def test_a_state_does_not_differ_from_itself() -> None:
    assert differences(WEB, copy.deepcopy(WEB)) == ()
    assert differences(None, None) == ()


def test_a_changed_field_is_named_by_its_path() -> None:
    after = changed(WEB, "spec", "template", "spec", "containers", 0, "image", to="app:2")
    assert differences(WEB, after) == (Difference(f'{CONTAINERS}[name="app"].image', "app:1", "app:2"),)


def test_names_with_dots_are_quoted() -> None:
    after = changed(WEB, "metadata", "labels", "example.com/team", to="b")
    assert differences(WEB, after) == (Difference('metadata.labels["example.com/team"]', "a", "b"),)


def test_an_item_that_is_put_before_others_does_not_change_them() -> None:
    new = {"name": "first", "image": "first:1"}
    containers = WEB["spec"]["template"]["spec"]["containers"]
    after = changed(WEB, "spec", "template", "spec", "containers", to=[new, *containers])
    assert differences(WEB, after) == (Difference(f'{CONTAINERS}[name="first"]', None, new),)
    assert differences(after, WEB) == (Difference(f'{CONTAINERS}[name="first"]', new, None),)


def test_another_order_is_said_once_with_the_keys() -> None:
    containers = WEB["spec"]["template"]["spec"]["containers"]
    after = changed(WEB, "spec", "template", "spec", "containers", to=containers[::-1])
    keys = ['[name="app"]', '[name="side"]']
    assert differences(WEB, after) == (Difference(CONTAINERS, keys, keys[::-1]),)


def test_a_list_of_plain_values_is_one_value() -> None:
    after = changed(WEB, "spec", "template", "spec", "containers", 0, "args", to=["--two", "--one"])
    assert differences(WEB, after) == (Difference(f'{CONTAINERS}[name="app"].args', ["--one"], ["--two", "--one"]),)


def test_items_that_nothing_tells_apart_are_matched_by_their_places() -> None:
    rules = [{"verbs": ["get"]}, {"verbs": ["list"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": rules}
    after = changed(role, "rules", to=[{"verbs": ["get"]}, {"verbs": ["watch"]}, {"verbs": ["list"]}])
    assert differences(role, after) == (
        Difference("rules[1].verbs", ["list"], ["watch"]),
        Difference("rules[2]", None, {"verbs": ["list"]}),
    )


def test_the_servers_keys_are_taken_before_the_usual_ones() -> None:
    fields: KubeObject = {
        "f:spec": {"f:ports": {'k:{"port":53,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}}}}
    }
    metadata = {"name": "dns", "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": fields}]}
    ports = [{"name": "a", "port": 53, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}
    after = changed(service, "spec", "ports", 1, "name", to="c")
    assert differences(service, after) == (Difference('spec.ports[port=53,protocol="UDP"].name', "b", "c"),)


def test_members_of_a_set_are_told_one_by_one() -> None:
    fields: KubeObject = {"f:spec": {"f:tags": {'v:"a"': {}, 'v:"b"': {}}}}
    metadata = {"name": "w", "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": fields}]}
    widget = {"apiVersion": "e/v1", "kind": "W", "metadata": metadata, "spec": {"tags": ["a", "b"]}}
    after = changed(widget, "spec", "tags", to=["c", "a"])
    assert differences(widget, after) == (
        Difference('spec.tags[="b"]', "b", None),
        Difference('spec.tags[="c"]', None, "c"),
    )


def test_status_and_the_servers_books_do_not_count() -> None:
    after = copy.deepcopy(WEB)
    after["status"] = {"replicas": 2}
    after["metadata"] |= {"uid": "u", "resourceVersion": "9", "generation": 3, "managedFields": [{"manager": "x"}]}
    assert differences(WEB, after) == ()


def test_true_is_not_one() -> None:
    assert differences(changed(WEB, "spec", "replicas", to=1), changed(WEB, "spec", "replicas", to=True)) == (
        Difference("spec.replicas", 1, True),
    )


def test_of_a_new_object_every_part_is_there_and_of_one_that_is_gone_too() -> None:
    paths = ["apiVersion", "kind", "metadata.labels", "metadata.name", "spec"]
    assert [one.path for one in differences(None, WEB)] == paths
    assert [(one.path, one.after) for one in differences(WEB, None)] == [(path, None) for path in paths]


@pytest.mark.parametrize(("before", "after"), [(SECRET, None), (None, SECRET)])
def test_of_a_secret_no_value_is_said_whether_it_comes_or_goes(
    before: KubeObject | None, after: KubeObject | None
) -> None:
    found = differences(before, after)
    assert {one.path for one in found if one.hidden} == {
        "data.password",
        "data.user",
        "stringData.plain",
        'metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]',
    }
    assert_says_nothing(found)


def test_of_a_secret_it_is_said_which_value_changed_and_not_to_what() -> None:
    found = differences(SECRET, changed(SECRET, "data", "password", to="bmV3"))
    assert found == (Difference("data.password", hidden=True),)


@pytest.mark.parametrize("data", [None, "aHVudGVyMg==", ["aHVudGVyMg=="]])
def test_a_secret_of_another_form_says_nothing_either(data: KubeValue) -> None:
    found = differences(SECRET, changed(SECRET, "data", to=data))
    assert {one.path for one in found} == {"data.password", "data.user"}
    assert_says_nothing(found)


def test_an_object_that_a_secret_went_into_says_no_value_and_no_key() -> None:
    before = changed(WEB, "spec", "template", "spec", "containers", 0, "env", 0, "name", to="hunter2")
    after = changed(WEB, "spec", "template", "spec", "containers", 0, "env", 0, "name", to="aHVudGVyMg==")
    found = differences(before, after, secret=True)
    assert found == (Difference(f"{CONTAINERS}[0].env[0].name", hidden=True),)


def assert_says_nothing(found: tuple[Difference, ...]) -> None:
    text = json.dumps([(one.path, one.before, one.after) for one in found])
    assert not any(value in text for value in ("aHVudGVyMg==", "YQ==", "hunter2"))


def test_differences_are_none_exactly_when_states_are_equal(seed: int) -> None:
    chance = random.Random(seed)

    def value(depth: int) -> KubeValue:
        match chance.randrange(6 if depth else 3):
            case 0:
                return chance.randrange(2)
            case 1:
                return chance.choice(["a", "b"])
            case 2:
                return chance.choice([True, False])
            case 3:
                return {name: value(depth - 1) for name in chance.sample("abc", chance.randrange(3))}
            case 4:
                return [value(depth - 1) for _ in range(chance.randrange(3))]
            case _:
                return [{"name": chance.choice("xyz"), "v": value(depth - 1)} for _ in range(chance.randrange(3))]

    for _ in range(3_000):
        one, other = ({"spec": value(3), "metadata": {"name": "x"}} for _ in range(2))
        equal = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
        assert (differences(one, other) == ()) == equal, (one, other)
        back = differences(other, one)
        mirrored = sorted((d.path, repr(d.after), repr(d.before)) for d in back)
        assert sorted((d.path, repr(d.before), repr(d.after)) for d in differences(one, other)) == mirrored
