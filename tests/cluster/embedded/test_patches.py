"""Patches, case by case; what the real server makes of random ones is in `test_ownership_oracle.py`."""

import copy
import time
from typing import Any

import pytest

from tidelog.engine.cluster.embedded.patches import (
    OPERATIONS_MAX,
    PatchError,
    json_patch,
    merge_patch,
    strategic_merge_patch,
)
from tidelog.engine.cluster.embedded.registry import schema_of_kind
from tidelog.engine.cluster.embedded.schema import Schema

Json = dict[str, Any]
POD_TEMPLATE = schema_of_kind("", "v1", "PodTemplate")


DEPLOYMENT = schema_of_kind("apps", "v1", "Deployment")


def of_env(env: list[Any], **more: Any) -> Json:
    container = {"name": "c", "env": env, **more}
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


def env_of(obj: Json) -> list[Any]:
    env: list[Any] = obj["spec"]["template"]["spec"]["containers"][0]["env"]
    return env


def test_a_strategic_patch_of_many_items_takes_no_longer_for_each() -> None:
    """Item by item it was minutes."""
    items = [{"name": f"K{number}", "value": "v"} for number in range(20_000)]
    began = time.process_time()
    changed = [{**item, "value": "w"} for item in items]
    assert env_of(strategic_merge_patch(of_env(items), of_env(changed), DEPLOYMENT)) == changed
    gone = [{"$patch": "delete", "name": item["name"]} for item in items[::2]]
    left = of_env(gone, **{"$setElementOrder/env": [{"name": item["name"]} for item in items[1::2]]})
    assert env_of(strategic_merge_patch(of_env(items), left, DEPLOYMENT)) == items[1::2]
    names = [f"example.com/{number}" for number in range(20_000)]
    config = schema_of_kind("", "v1", "ConfigMap")
    obj, patch = ({"metadata": {"finalizers": each}} for each in (names, names[::-1]))
    assert strategic_merge_patch(obj, patch, config)["metadata"]["finalizers"] == names[::-1]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": names[1:]}}
    assert strategic_merge_patch(obj, patch, config)["metadata"]["finalizers"] == names[:1]
    assert time.process_time() - began < 15


# Of RFC 7386, appendix A, and what the server's library does beyond it.
@pytest.mark.parametrize(
    ("obj", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({}, {"a": [{"b": None}, None]}, {"a": [{}, None]}),
    ],
)
def test_a_merge_patch(obj: Json, patch: Json, merged: Json) -> None:
    before = copy.deepcopy((obj, patch))
    assert merge_patch(obj, patch) == merged
    assert (obj, patch) == before


@pytest.mark.parametrize("patch", [[], None, "x"])
def test_a_merge_patch_is_an_object(patch: Any) -> None:
    with pytest.raises(PatchError) as caught:
        merge_patch({}, patch)
    assert (caught.value.message, caught.value.code) == ("Invalid JSON Patch", 400)


@pytest.mark.parametrize(
    ("operation", "patched"),
    [
        ({"op": "add", "path": "/b", "value": 1}, {"a": [1, 2], "c/d": {}, "b": 1}),
        ({"op": "add", "path": "/a/1", "value": 3}, {"a": [1, 3, 2], "c/d": {}}),
        ({"op": "add", "path": "/a/-", "value": 3}, {"a": [1, 2, 3], "c/d": {}}),
        ({"op": "add", "path": "/a/-1", "value": 3}, {"a": [1, 2, 3], "c/d": {}}),
        ({"op": "add", "path": "/c~1d/e", "value": 3}, {"a": [1, 2], "c/d": {"e": 3}}),
        ({"op": "remove", "path": "/a/0"}, {"a": [2], "c/d": {}}),
        ({"op": "remove", "path": "/a/-1"}, {"a": [1], "c/d": {}}),
        ({"op": "replace", "path": "/a", "value": 3}, {"a": 3, "c/d": {}}),
        ({"op": "replace", "path": "/new", "value": 3}, {"a": [1, 2], "c/d": {}, "new": 3}),
        ({"op": "replace", "path": "", "value": {"x": 1}}, {"x": 1}),
        ({"op": "move", "from": "/a/0", "path": "/c~1d/x"}, {"a": [2], "c/d": {"x": 1}}),
        ({"op": "copy", "from": "/a", "path": "/b"}, {"a": [1, 2], "c/d": {}, "b": [1, 2]}),
        ({"op": "test", "path": "/a", "value": [1, 2.0]}, {"a": [1, 2], "c/d": {}}),
        ({"op": "test", "path": "/none", "value": None}, {"a": [1, 2], "c/d": {}}),
    ],
)
def test_a_json_patch(operation: Json, patched: Json) -> None:
    obj: Json = {"a": [1, 2], "c/d": {}}
    assert json_patch(obj, [operation]) == patched
    assert obj == {"a": [1, 2], "c/d": {}}


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ({"op": "remove", "path": "/b"}, "error in remove for path: '/b': Unable to remove nonexistent key: b"),
        ({"op": "add", "path": "/b/c", "value": 1}, 'add operation does not apply: doc is missing path: "/b/c"'),
        ({"op": "add", "path": "/a/9", "value": 1}, "error in add for path: '/a/9': Unable to access invalid index: 9"),
        ({"op": "add", "path": "/a/x", "value": 1}, "value was not a proper array index: 'x'"),
        ({"op": "replace", "path": "/a/9", "value": 1}, "replace operation does not apply: doc is missing key: /a/9"),
        ({"op": "test", "path": "/a/0", "value": True}, "testing value /a/0 failed: test failed"),
        ({"op": "move", "path": "/b"}, "move operation failed to decode from"),
        ({"op": "move", "from": "/x/y", "path": "/b"}, "move operation does not apply: doc is missing from path"),
        ({"op": "copy", "from": "/a/9", "path": "/b"}, "error in copy for from: '/a/9': Unable to access"),
        ({"op": "nonsense", "path": "/b"}, "Unexpected kind: nonsense"),
        ({"path": "/b"}, "Unexpected kind: unknown"),
    ],
)
def test_a_json_patch_that_does_not_apply(operation: Json, reason: str) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({"a": [1]}, [operation])
    assert reason in str(caught.value)
    assert caught.value.code == 422
    assert caught.value.message == "the server rejected our request due to an error in our request"


def test_a_json_patch_has_a_bound() -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({}, [{"op": "test", "path": "/a", "value": None}] * (OPERATIONS_MAX + 1))
    assert caught.value.code == 413


def containers(*items: Json, **spec: Any) -> Json:
    return {"template": {"spec": {"containers": list(items), **spec}}}


ONE, TWO = {"name": "one", "image": "i", "args": ["a"]}, {"name": "two", "image": "i"}


@pytest.mark.parametrize(
    ("patch", "patched"),
    [
        (containers({"name": "one", "image": "j"}), containers({**ONE, "image": "j"}, TWO)),
        (containers({"name": "three"}), containers({"name": "three"}, ONE, TWO)),
        (containers({"name": "one", "$patch": "delete"}), containers(TWO)),
        (containers({"name": "three"}, {"$patch": "replace"}), containers({"name": "three"})),
        (containers({"name": "one", "$patch": "replace", "image": "j"}), containers()),
        (
            {"template": {"spec": {"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}}},
            containers(TWO, ONE),
        ),
        (
            {"template": {"spec": {"$retainKeys": ["nodeName"], "nodeName": "n"}}},
            {"template": {"spec": {"nodeName": "n"}}},
        ),
        (
            {
                "template": {
                    "spec": {
                        "containers": [{"name": "one", "$patch": "delete"}, {"name": "one"}],
                        "$setElementOrder/containers": [{"name": "one"}],
                    }
                }
            },
            containers(TWO, {"name": "one"}),
        ),
        ({"template": {"$patch": "delete"}}, {"template": {}}),
        ({"template": None}, {}),
    ],
)
def test_a_strategic_merge_patch(patch: Json, patched: Json) -> None:
    obj = containers(ONE, TWO)
    before = copy.deepcopy((obj, patch))
    assert strategic_merge_patch(obj, patch, POD_TEMPLATE) == patched
    assert (obj, patch) == before


@pytest.mark.parametrize(
    ("patch", "said", "code"),
    [
        (containers({"image": "j"}), "map: map[image:j] does not contain declared merge key: name", 500),
        (containers({"name": "one", "$patch": "x"}), "unknown patch type: x in map: map[$patch:x name:one]", 500),
        ({"template": {"spec": {"$retainKeys": [], "nodeName": "n"}}}, "invalid patch format of retainKeys", 400),
        (
            containers({"name": "one"}, {"$patch": "replace"}, **{"$setElementOrder/containers": [{"name": "one"}]}),
            (
                "The order in patch list:\n[map[name:one] map[$patch:replace]]\n"
                " doesn't match $setElementOrder list:\n[map[name:one]]\n"
            ),
            500,
        ),
    ],
)
def test_a_strategic_merge_patch_that_is_wrong(patch: Json, said: str, code: int) -> None:
    with pytest.raises(PatchError) as caught:
        strategic_merge_patch(containers(ONE), patch, POD_TEMPLATE)
    assert (caught.value.message, caught.value.code) == (said, code)


def test_custom_kinds_have_no_strategic_merge_patch() -> None:
    with pytest.raises(PatchError, match="not supported"):
        strategic_merge_patch({}, {}, Schema({"type": "object"}, {}))


def test_copies_that_double_come_to_an_end() -> None:
    obj = {"data": {"a": "x" * 1_000}}
    operations = [{"op": "copy", "from": "/data", "path": f"/data/b{n}"} for n in range(64)]
    with pytest.raises(PatchError) as refused:
        json_patch(obj, operations)
    assert refused.value.code == 422


@pytest.mark.parametrize("op", ["add", "copy"])
def test_a_patch_that_nests_too_deeply(op: str) -> None:
    nested = [{"op": "add", "path": "/x" * (n + 1), "value": {}} for n in range(2_000)]
    copied = [{"op": "copy", "from": "/a", "path": "/a" * 100} for _ in range(100)]
    deep: Json = {"a": {}}
    for _ in range(98):
        deep = {"a": deep}
    with pytest.raises(PatchError) as refused:
        json_patch({} if op == "add" else deep, nested if op == "add" else copied)
    assert refused.value.code == 422
