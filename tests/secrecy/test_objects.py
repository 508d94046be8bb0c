"""Which objects are secret, and what is told of them."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.secrecy import SecretValues, digests_of, is_secret, leaves
from tidelog.events.digest import is_digest
from tidelog.events.names import StreamName
from tidelog.storage.keys import DataKey

STREAM = StreamName("east/core/Secret/shop/db")


def key(seed: bytes = b"k") -> DataKey:
    return DataKey(STREAM, "00" * 16, seed * 32, {})


def secret(**data: str) -> dict[str, Any]:
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": encoded}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (secret(password="hunter2"), True),
        ({"apiVersion": "v1", "kind": "Secret"}, True),
        ({"apiVersion": "v1", "kind": "SecretList", "items": []}, True),
        ({"apiVersion": "example.com/v1", "kind": "Secret"}, False),
        ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "harmless"}}, False),
        ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"url": "postgres://u:hunter2@db"}}, True),
        ({"apiVersion": "v1", "kind": "ConfigMap", "binaryData": {"a": base64.b64encode(b"xhunter2y").decode()}}, True),
        ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"hunter2": "a name"}}, True),
        ({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"pins": [1, 87654321]}}, True),
        ({}, False),
    ],
)
def test_a_secret_and_what_holds_a_secret_value_is_secret(obj: dict[str, Any], expected: bool) -> None:
    assert is_secret(obj, SecretValues(["hunter2", "87654321"])) is expected


def test_without_values_a_secret_alone_is_secret() -> None:
    assert is_secret(secret(a="b"))
    assert not is_secret({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "hunter2"}})


def test_leaves_have_a_digest_by_path_and_no_value() -> None:
    obj = secret(password="hunter2", **{"tls.crt": "hunter2"}) | {"list": [{"a": 1}, {}, []], "none": None}
    found = leaves(obj, key())
    assert set(found) == {
        "apiVersion",
        "kind",
        "metadata.name",
        "data.password",
        'data["tls.crt"]',
        "list[0].a",
        "list[1]",
        "list[2]",
        "none",
    }
    assert all(map(is_digest, found.values()))
    assert "hunter2" not in str(found)
    assert base64.b64encode(b"hunter2").decode() not in str(found)


def test_what_changed_is_seen_and_what_is_equal_elsewhere_is_not() -> None:
    before = leaves(secret(a="one", b="two"), key())
    after = leaves(secret(a="one", b="three"), key())
    assert {path for path in before if before[path] != after[path]} == {"data.b"}
    same = leaves(secret(a="one", b="one"), key())
    assert same["data.a"] != same["data.b"]
    assert not set(before.values()) & set(leaves(secret(a="one", b="two"), key(b"o")).values())


@given(st.dictionaries(st.text(), st.recursive(st.text() | st.booleans(), st.lists, max_leaves=8), max_size=4))
def test_paths_are_never_two_for_one(data: dict[str, Any]) -> None:
    def count(value: Any) -> int:
        held = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        return sum(map(count, held)) if held else 1

    try:
        str(data).encode()
    except UnicodeEncodeError:
        return
    assert len(leaves(data, key())) == count(data)


def test_values_by_the_paths_of_others_have_digests_too() -> None:
    assert digests_of({"data.a": "x"}, key()) == leaves({"data": {"a": "x"}}, key())
