"""Canonical JSON, with the `rfc8785` package as the oracle."""

import enum
import math
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.events.strategies import EVENT_TYPES, INSTANCES
from tidelog.events.canonical import DEPTH_MAX, INT_MAX, INT_MIN, Json, NotCanonicalError, encode, encode_struct
from tidelog.events.vocabulary import Event


def float_of(bits: int) -> float:
    (value,) = struct.unpack(">d", struct.pack(">Q", bits))
    return float(value)


# Beyond this the oracle refuses integers, which RFC 8785 would round.
safe_ints = st.integers(-(2**53) + 1, 2**53 - 1)
all_floats = st.integers(0, 2**64 - 1).map(float_of) | st.floats()
finite_floats = all_floats.filter(math.isfinite)
texts = st.text(max_size=12) | st.text(
    # Where the order by UTF-16 and by code point differ, and what JSON escapes.
    st.sampled_from('\x00\x1f\b\t\n\f\r"\\/\x7f\x80aé€\ud7ff\ue000\uffff\U00010000\U0001f600\U0010ffff'),
    max_size=4,
)


def json_of(*leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.one_of(st.none(), st.booleans(), texts, *leaves),
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(texts, inner, max_size=6),
        ),
        max_leaves=20,
    )


@given(json_of(safe_ints, finite_floats))
@settings(max_examples=120)
@example({"\U0001f600": 1, "\ue000": 2, "\ufffd": 3})
@example({"a": [{"\U00010000": 1.5, "\uffff": None}]})
def test_bytes_equal_those_of_the_oracle(value: Any) -> None:
    assert encode(value) == rfc8785.dumps(value)


@given(all_floats)
@settings(max_examples=500)
def test_floats_of_all_bit_patterns_are_written_as_the_oracle_writes_them(value: float) -> None:
    if math.isfinite(value):
        assert encode(value) == rfc8785.dumps(value)
        assert float(encode(value)) == value
    else:
        with pytest.raises(NotCanonicalError, match=r"^\$: JSON has no -?(nan|inf)"):
            encode(value)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7FEFFFFFFFFFFFFF, "1.7976931348623157e+308"),
        (0xFFEFFFFFFFFFFFFF, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xC340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44B52D02C7E14AF5, "9.999999999999997e+22"),
        (0x44B52D02C7E14AF6, "1e+23"),
        (0x44B52D02C7E14AF7, "1.0000000000000001e+23"),
        (0x444B1AE4D6E2EF4E, "999999999999999700000"),
        (0x444B1AE4D6E2EF4F, "999999999999999900000"),
        (0x444B1AE4D6E2EF50, "1e+21"),
        (0x3EB0C6F7A0B5ED8C, "9.999999999999997e-7"),
        (0x3EB0C6F7A0B5ED8D, "0.000001"),
        (0x41B3DE4355555553, "333333333.3333332"),
        (0x41B3DE4355555554, "333333333.33333325"),
        (0x41B3DE4355555555, "333333333.3333333"),
        (0x41B3DE4355555556, "333333333.3333334"),
        (0x41B3DE4355555557, "333333333.33333343"),
        (0xBECBF647612F3696, "-0.0000033333333333333333"),
        (0x43143FF3C1CB0959, "1424953923781206.2"),
    ],
)
def test_numbers_equal_appendix_b_of_rfc_8785(bits: int, text: str) -> None:
    assert encode(float_of(bits)) == text.encode()


@pytest.mark.parametrize("bits", [0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000])
def test_what_appendix_b_calls_an_error_is_refused_wherever_it_stands(bits: int) -> None:
    with pytest.raises(NotCanonicalError, match=r"^\$\.a\[1\]\.b: JSON has no"):
        encode({"a": [0, {"b": float_of(bits)}]})


def test_example_of_rfc_8785_is_written_as_printed_there() -> None:
    value: Json = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert encode(value) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16_units_as_in_rfc_8785() -> None:
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(msgspec.json.decode(encode(dict.fromkeys(sorted(ordered))))) == ordered


@given(st.integers(INT_MIN, INT_MAX))
@example(INT_MIN)
@example(INT_MAX)
@example(2**53 + 1)
@example(-(2**53) - 1)
def test_integers_of_64_bits_are_written_exactly(value: int) -> None:
    assert encode(value) == str(value).encode()
    assert encode([value, 0.5]) == f"[{value},0.5]".encode()
    assert encode({"a": value}) == f'{{"a":{value}}}'.encode()


@pytest.mark.parametrize(
    "value",
    [INT_MAX + 1, INT_MIN - 1, 2**64 - 1, 2**64, -(2**64), -(10**5000)],
    ids=lambda value: f"{value.bit_length()} bits",
)
def test_integers_beyond_64_bits_are_refused(value: int) -> None:
    with pytest.raises(NotCanonicalError, match=r"^\$\.a\[0\]: .*64-bit"):
        encode({"a": [value]})


def test_true_is_no_integer() -> None:
    assert encode([True, 1, False, 0, 1.0, -0.0]) == b"[true,1,false,0,1,0]"


@pytest.mark.parametrize("beside", [None, 1.5, "\U0001f600"])
@pytest.mark.parametrize("bad", ["\ud800", "a\udfff", "\udc00\ud800", "\U0001f600\ud800"])
def test_lone_surrogates_are_refused_in_keys_and_values(bad: str, beside: Any) -> None:
    for value in (bad, [beside, bad], {"a": bad, "b": beside}, {bad: beside}, {bad: 1, "b": beside}):
        with pytest.raises(NotCanonicalError, match="lone surrogate"):
            encode(value)


@pytest.mark.parametrize("key", [1, None, True, 1.5, b"a", ("a",)])
@pytest.mark.parametrize("beside", [1, 1.5])
def test_keys_that_are_no_strings_are_refused(key: Any, beside: Any) -> None:
    with pytest.raises(NotCanonicalError, match=r"^\$\.x: the key .* is no string"):
        encode({"x": {key: 1, "b": beside}})


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        bytearray(b"a"),
        memoryview(b"a"),
        {1, 2},
        frozenset(),
        object(),
        Decimal(1),
        1j,
        range,
        iter("a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_json_does_not_have_are_refused(value: Any) -> None:
    with pytest.raises(NotCanonicalError, match=r"^\$\.a\[1\]: JSON has no"):
        encode({"a": ["", value]})


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class _Number(float):
    def __repr__(self) -> str:
        return "another number"

    def __abs__(self) -> "_Number":
        return _Number(float.__abs__(self))


class _Colour(enum.Enum):
    RED = "red"


class _Size(enum.IntEnum):
    BIG = 5


def test_subclasses_count_by_their_value() -> None:
    # What YAML parsers give: strings and numbers that remember how they were written.
    value: Json = {_Text("b"): [_Text("x"), _Number(-1.5), _Size.BIG], "a": _Number(2.0)}
    assert encode(value) == b'{"a":2,"b":["x",-1.5,5]}'
    with pytest.raises(NotCanonicalError, match="JSON has no _Colour"):
        encode([_Colour.RED])  # type: ignore[list-item]


@given(json_of(st.integers(INT_MIN, INT_MAX), finite_floats))
@settings(max_examples=60)
def test_tuples_and_other_mappings_count_as_arrays_and_objects(value: Any) -> None:
    class Other(Mapping[str, Any]):
        def __init__(self, held: dict[str, Any]) -> None:
            self.held = held

        def __getitem__(self, key: str) -> Any:
            return self.held[key]

        def __iter__(self) -> Any:
            return iter(reversed(self.held))

        def __len__(self) -> int:
            return len(self.held)

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return Other({key: other(item) for key, item in value.items()})
        if isinstance(value, list | tuple):
            return tuple(other(item) for item in value)
        return value

    assert encode(other(value)) == encode(value)


@given(json_of(st.integers(INT_MIN, INT_MAX), finite_floats))
@settings(max_examples=100)
def test_what_is_read_back_is_encoded_to_the_same_bytes(value: Any) -> None:
    data = encode(value)
    read = msgspec.json.decode(data)
    assume(not _holds_wide_int(read))
    assert encode(read) == data


def _holds_wide_int(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_holds_wide_int, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not INT_MIN <= value <= INT_MAX


def test_whole_floats_beyond_64_bits_are_the_one_thing_that_is_not_encoded_again() -> None:
    """RFC 8785 writes them with all their digits, which are then read as an integer that is too large."""
    for value in (2.0**63, 1e20, -1e19):
        data = encode(value)
        assert data == rfc8785.dumps(value)
        with pytest.raises(NotCanonicalError, match="64-bit"):
            encode(msgspec.json.decode(data))
    for value in (2.0**62, 1e21, -1e300):
        assert encode(msgspec.json.decode(encode(value))) == encode(value)


def nested(depth: int, wrap: Callable[[Any], Any], core: Any) -> Any:
    for _ in range(depth):
        core = wrap(core)
    return core


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner,),
    "dict": lambda inner: {"a": inner},
    "float": lambda inner: [0.5, {"\U0001f600": inner}],
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("core", [None, 1.5, "\U0001f600"])
def test_nesting_of_ten_thousand_levels_is_refused_and_not_a_recursion_error(wrap: str, core: Any) -> None:
    with pytest.raises(NotCanonicalError, match=f"nested deeper than {DEPTH_MAX} levels"):
        encode(nested(10_000, WRAPS[wrap], core))


@pytest.mark.parametrize("wrap", ["list", "tuple", "dict"])
@pytest.mark.parametrize("core", [1, "\U0001f600", 1.5])
def test_nesting_up_to_the_limit_is_encoded_whatever_is_inside(wrap: str, core: Any) -> None:
    value = nested(DEPTH_MAX, WRAPS[wrap], core)
    assert encode(value) == rfc8785.dumps(value)
    with pytest.raises(NotCanonicalError, match="nested deeper"):
        encode(WRAPS[wrap](value))


@pytest.mark.parametrize("payload", EVENT_TYPES, ids=lambda payload: payload.__name__)
@given(data=st.data())
@settings(max_examples=6)
def test_quick_way_for_structs_equals_the_careful_one(payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    assert encode_struct(event) == encode(msgspec.json.decode(msgspec.json.encode(event)))


class Held(msgspec.Struct, omit_defaults=True):
    number: int = 0
    numbers: tuple[int, ...] = ()
    by_name: dict[str, int] = {}


@given(
    st.builds(
        Held,
        st.integers(-(2**70), 2**70),
        st.lists(st.integers(-(2**65), 2**65), max_size=3).map(tuple),
        st.dictionaries(texts, st.integers(-(2**65), 2**65), max_size=4),
    )
)
@settings(max_examples=120)
@example(Held(number=INT_MAX))
@example(Held(number=INT_MIN))
@example(Held(number=INT_MAX + 1))
@example(Held(numbers=(0, INT_MIN - 1)))
@example(Held(numbers=(2**64 - 1,)))
@example(Held(by_name={":1234567890123456789": 1, "\U0001f600": 2, "\ue000": 3}))
def test_quick_way_refuses_what_the_careful_one_refuses(held: Held) -> None:
    try:
        expected: bytes | None = encode(msgspec.to_builtins(held))
    except NotCanonicalError:
        expected = None
    if expected is None:
        with pytest.raises(NotCanonicalError):
            encode_struct(held)
    else:
        assert encode_struct(held) == expected


def test_quick_way_refuses_lone_surrogates_and_endless_integers() -> None:
    with pytest.raises(NotCanonicalError, match="lone surrogate"):
        encode_struct(Held(by_name={"\ud800": 1}))
    with pytest.raises(NotCanonicalError):
        encode_struct(Held(number=10**5000))
