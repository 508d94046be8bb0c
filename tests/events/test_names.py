"""Names of streams, objects, events and runs."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.strategies import keys, segments
from tidelog.events.names import (
    NAME_LENGTH_MAX,
    MalformedNameError,
    ObjectId,
    ObjectKey,
    StreamName,
    cluster_of,
    engine_stream,
    is_uuid7,
    object_stream,
    stream_name,
    uuid7,
)

BAD_SEGMENTS = [
    "",
    " ",
    "a b",
    "a/b",
    "a\n",
    "\ta",
    "a\x00",
    "a\x1f",
    "a\x7f",
    "a\x85",
    "a\x9b31m",  # a terminal's control sequence in one character
    "a\N{NO-BREAK SPACE}",
    "a\N{LINE SEPARATOR}b",
    "a\ud800",
]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ObjectKey("apps", "Deployment", "default", "web"), "apps/Deployment/default/web"),
        (ObjectKey("", "Service", "default", "web"), "core/Service/default/web"),
        (ObjectKey("", "Namespace", "", "default"), "core/Namespace/_/default"),
        (
            ObjectKey("rbac.authorization.k8s.io", "ClusterRole", "", "system:node"),
            "rbac.authorization.k8s.io/ClusterRole/_/system:node",
        ),
    ],
)
def test_object_is_named_by_group_kind_namespace_and_name(key: ObjectKey, text: str) -> None:
    assert key.id == text
    assert ObjectKey.parse(text) == key
    assert key.stream("prod") == f"prod/{text}"


@given(keys, segments)
def test_object_id_and_stream_lead_back_to_the_object(key: ObjectKey, cluster: str) -> None:
    # `core` and `_` are how absence is written: no group and no namespace has such a name.
    written = key._replace(
        group="" if key.group == "core" else key.group,
        namespace="" if key.namespace == "_" else key.namespace,
    )
    assert ObjectKey.parse(key.id) == written
    stream = key.stream(cluster)
    assert stream == object_stream(cluster, key.id)
    assert stream_name(stream) == stream
    assert cluster_of(stream) == cluster
    assert ObjectKey.parse(stream.partition("/")[2]) == written


@given(keys, keys)
def test_different_objects_have_different_ids(a: ObjectKey, b: ObjectKey) -> None:
    assert (a.id == b.id) == (ObjectKey.parse(a.id) == ObjectKey.parse(b.id))


@pytest.mark.parametrize("bad", BAD_SEGMENTS)
@pytest.mark.parametrize("place", range(4))
def test_object_id_with_a_bad_part_is_refused(place: int, bad: str) -> None:
    parts = ["apps", "Deployment", "default", "web"]
    parts[place] = bad
    with pytest.raises(MalformedNameError, match="no object id: <group or core>/<Kind>"):
        ObjectKey.parse("/".join(parts))


@pytest.mark.parametrize("bad", BAD_SEGMENTS)
@pytest.mark.parametrize("place", range(5))
def test_stream_with_a_bad_part_is_refused(place: int, bad: str) -> None:
    parts = ["prod", "apps", "Deployment", "default", "web"]
    parts[place] = bad
    with pytest.raises(MalformedNameError, match="no stream: <cluster>/"):
        stream_name("/".join(parts))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "prod",
        "prod/",
        "/engine",
        "prod/Engine",
        "prod/engine/",
        "a/b/c",
        "a/b/c/d",
        "a/b/c/d/e/f",
        "////",
    ],
)
def test_other_numbers_of_parts_are_no_stream(text: str) -> None:
    with pytest.raises(MalformedNameError):
        stream_name(text)


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "a/b/c/d/e", "///"])
def test_other_numbers_of_parts_are_no_object(text: str) -> None:
    with pytest.raises(MalformedNameError):
        ObjectKey.parse(text)


def test_stream_has_a_greatest_length() -> None:
    longest = "prod/apps/Deployment/default/".ljust(NAME_LENGTH_MAX, "x")
    assert stream_name(longest) == longest
    with pytest.raises(MalformedNameError, match="1025 characters"):
        stream_name(longest + "x")


def test_object_whose_parts_are_bad_has_no_stream() -> None:
    for key in (
        ObjectKey("apps", "Deployment", "default", "a/b"),
        ObjectKey("apps", "Deployment", "default", ""),
        ObjectKey("apps", "", "default", "web"),
    ):
        with pytest.raises(MalformedNameError):
            key.stream("prod")
    with pytest.raises(MalformedNameError):
        ObjectKey("apps", "Deployment", "default", "web").stream("prod/eu")


def test_engine_has_a_stream_of_its_own() -> None:
    assert engine_stream("0190") == "0190/engine"
    assert cluster_of(StreamName("0190/engine")) == "0190"
    with pytest.raises(MalformedNameError):
        engine_stream("a/b")
    # An object named `engine` is not taken for it.
    assert object_stream("prod", ObjectId("apps/Deployment/default/engine")) != engine_stream("prod")


def test_uuid7_equals_the_vector_of_rfc_9562() -> None:
    # Appendix A.6; the bits of version and variant come from the function.
    assert uuid7(0x017F22E279B0, bytes.fromhex("0cc318c4dc0c0c07398f")) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_version_variant_time_and_74_bits_of_randomness(milliseconds: int, randomness: bytes) -> None:
    text = uuid7(milliseconds, randomness)
    value = uuid.UUID(text)
    assert str(value) == text
    assert is_uuid7(text)
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert value.int >> 80 == milliseconds
    kept = ~(0xF << 76 | 0x3 << 62)
    assert value.int & (1 << 80) - 1 & kept == int.from_bytes(randomness) & kept


@given(
    st.tuples(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)),
    st.tuples(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)),
)
def test_uuid7_of_a_later_millisecond_sorts_later(a: tuple[int, bytes], b: tuple[int, bytes]) -> None:
    if a[0] != b[0]:
        assert (uuid7(*a) < uuid7(*b)) == (a[0] < b[0])
    else:
        assert uuid7(*a)[:13] == uuid7(*b)[:13]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "017f22e279b07cc398c4dc0c0c07398f",
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",  # version 4
        "017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",  # another variant
        "017f22e2-79b0-7cc3-78c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
    ],
)
def test_other_text_is_no_uuid7(text: str) -> None:
    assert not is_uuid7(text)
