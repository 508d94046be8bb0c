"""YAML as Kubernetes' tools read it. What is expected here was compared with sigs.k8s.io/yaml."""

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.render.reading import objects
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.overlay import encoded

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def one(text: str) -> Any:
    (value,) = objects(text)
    return value


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("yes", True), ("on", True), ("y", True), ("TRUE", True), ("tRue", "tRue"),
        ("no", False), ("off", False), ("N", False), ("~", None), ("null", None), ("Null", None),
        ("1", 1), ("-0", 0), ("010", 8), ("08", 8), ("0o17", 15), ("0x1F", 31), ("-0b11", -3), ("1_000", 1000),
        ("+1", 1), ("1:30", "1:30"), ("1e3", 1000), ("1.0", 1), ("1.5", 1.5), (".5", 0.5), ("1.2.3", "1.2.3"),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775808", 2.0**63), ("1e400", "1e400"),
        ("2026-01-01", "2026-01-01"), ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
        ("'yes'", "yes"), ('"1"', "1"), ("! 1", "1"),
        ("!!str 1", "1"), ("!!int '1'", 1), ("!!binary aGVsbG8=", "hello"),
        ("100m", "100m"), ("25%", "25%"), ("--1", "--1"), ("0x", "0x"), ("|\n  x\n  y\n", "x\ny\n"),
    ],
)  # fmt: skip
def test_a_value_is_read_as_kubernetes_reads_it(written: str, read: object) -> None:
    value = one(f"a: {written}\n")["a"]

    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(("key", "read"), [("1", "1"), ("true", "true"), ("on", "true"), ("010", "8"), ("a b", "a b")])
def test_keys_become_text(key: str, read: str) -> None:
    assert one(f"{key}: x\n") == {read: "x"}


def test_aliases_and_merges_are_worked_out() -> None:
    assert one("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: [{f: 1}, {f: 2, g: 4}]}\n") == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 3},
        "e": {"f": 1, "g": 4},
    }


def test_what_two_aliases_give_can_be_changed_apart() -> None:
    found = one("a: &x {b: [1]}\nc: *x\nd: *x\n")

    found["c"]["b"].append(2)

    assert found["d"] == {"b": [1]} == found["a"]


def test_a_text_has_many_documents_and_empty_ones_are_known_as_such() -> None:
    found = documents("a: 1\n---\n# nothing\n---\nb: 2\nc: 3\n")

    assert [document.value for document in found] == [{"a": 1}, None, {"b": 2, "c": 3}]
    assert [document.line for document in found if document.value] == [1, 5]
    assert found[2].keys == {"b": 5, "c": 6}
    assert documents("") == []


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 1\n", 3, "given twice"),
        ("a:\n\tb: 1\n", 2, "tab"),
        ("a: [1, 2\n", 2, "expected"),
        ("a: b: c\n", 1, "mapping values are not allowed"),
        ("a: *x\n", 1, "no anchor"),
        ("a: &a [*a]\n", 1, "no anchor"),
        ("[1]: 2\n", 1, "a key is a list"),
        ("~: 2\n", 1, "a key is empty"),
        ("a: .inf\n", 1, "no infinity"),
        ("a: !foo 1\n", 1, "!foo"),
        ("a: !!int x\n", 1, "does not fit"),
        ("a: {<<: 1}\n", 1, "merges mappings only"),
        ("a: \x00\n", None, "character that YAML does not allow"),
        ("[" * 300, 1, "within one another"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(text: str, line: int | None, problem: str) -> None:
    with pytest.raises(YamlError) as caught:
        documents(text)

    assert caught.value.line == line
    assert problem in caught.value.problem


def test_aliases_of_aliases_are_stopped_before_they_fill_the_memory() -> None:
    bomb = "a: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"b{i}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n" for i in range(30)
    )

    with pytest.raises(YamlError, match="aliases make too many values"):
        documents(bomb)


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 50_000, "- " * 50_000, "? " * 50_000])
def test_depth_is_stopped_before_it_costs(text: str) -> None:
    begun = time.process_time()

    with pytest.raises(YamlError):
        documents(text)

    assert time.process_time() - begun < 10


@given(JSON)
def test_json_is_read_as_itself(value: Any) -> None:
    text = encoded({"a": value}).decode()

    assert objects(text) == [{"a": value}]


@given(JSON)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    """Another's writer, in block style, with quotes and tags."""
    text = yaml.safe_dump({"a": value}, default_style='"')

    assert objects(text) == [{"a": value}]
