"""Objects that are deeper than we can deal with."""

from typing import Any

import msgspec

from tidelog.engine.cluster.wire import JSON_DEPTH_MAX, shallow
from tidelog.engine.objects.depth import DEPTH_MAX, bounded, is_deep
from tidelog.engine.objects.kube import canonical_bytes


def nested(depth: int, inmost: Any = 1) -> Any:
    for number in range(depth):
        inmost = {"a": inmost} if number % 2 else [inmost]
    return inmost


def depth_of(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max((depth_of(one) for one in (value.values() if isinstance(value, dict) else value)), default=0)


def test_an_object_as_deep_as_may_be_stays_itself() -> None:
    obj = {"spec": nested(DEPTH_MAX - 1)}
    assert not is_deep(obj)
    assert bounded(obj) is obj


def test_of_one_that_is_deeper_digests_stand_in_the_place_of_what_lies_deeper() -> None:
    one, other = ({"kind": "A", "spec": nested(600, inmost)} for inmost in (1, 2))
    assert is_deep(one)
    assert depth_of(bounded(one)) == DEPTH_MAX
    assert bounded(one) != bounded(other)
    assert bounded(one)["kind"] == "A"
    assert canonical_bytes(one) == canonical_bytes(bounded(one))


def test_in_metadata_nothing_stands_there() -> None:
    found = bounded({"metadata": {"managedFields": [{"fieldsV1": nested(300)}]}})
    text = msgspec.json.encode(found)
    assert b"sha256" not in text
    assert depth_of(found) == DEPTH_MAX + 1  # the last is empty


def test_json_that_cannot_be_read_whole_is_read_without_what_is_deepest() -> None:
    deep = b'{"items":[{"n":"}]\\"[{","v":' + b'[{"a":' * 2000 + b"1" + b"}]" * 2000 + b'},{"n":"next"}]}'
    found = msgspec.json.decode(shallow(deep))
    first, second = found["items"]
    assert first["n"] == '}]"[{'
    assert second == {"n": "next"}
    assert depth_of(found) == JSON_DEPTH_MAX


def test_json_that_is_not_too_deep_stays_as_it_is() -> None:
    text = msgspec.json.encode(nested(JSON_DEPTH_MAX - 1))
    assert shallow(text) == text
