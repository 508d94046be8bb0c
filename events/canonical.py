"""Canonical JSON: one byte string for one value, so that a digest means something.

The format is RFC 8785 (JSON Canonicalization Scheme) with one widening: integers of the whole signed
64-bit range are allowed and written exactly, because Kubernetes has them (resource quantities, generations)
and RFC 8785 would round them beyond 2**53.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""What JSON can say. Tuples count as arrays."""

INT_MIN = -(2**63)
INT_MAX = 2**63 - 1
DEPTH_MAX = 200
"""Deepest nesting that is encoded; deeper values are refused rather than exhausting the stack."""

_sorted = msgspec.json.Encoder(order="sorted")
_string = msgspec.json.Encoder()
# msgspec sorts keys by code point, RFC 8785 by UTF-16 unit: the two differ only for characters outside the
# Basic Multilingual Plane, whose UTF-8 starts with one of these bytes.
_outside_bmp = re.compile(rb"[\xf0-\xf4]").search
long_integer = re.compile(rb"[:,\[]-?[1-9][0-9]{18}").search
"""Finds, in JSON, an integer of 19 digits or more: it may be outside the signed 64-bit range, and msgspec takes any."""


class NotCanonicalError(ValueError):
    """Raised when a value has no canonical form; the message says where it stands and why."""


def encode(value: Json) -> bytes:
    """The canonical bytes of `value`.

    Raises:
        NotCanonicalError: for NaN and infinities, integers beyond 64 bits, keys that are no strings, lone
            surrogates, values that JSON does not have, and nesting deeper than `DEPTH_MAX`.
    """
    try:
        if _is_plain(value, DEPTH_MAX):
            data = _sorted.encode(value)
            if data.isascii() or not _outside_bmp(data):
                return data
        return _careful(value, "$", DEPTH_MAX).encode()
    except UnicodeEncodeError as error:
        raise NotCanonicalError(f"a string holds the lone surrogate {error.object[error.start]!a}") from None


def encode_struct(value: msgspec.Struct, *, integers_fit: bool = False) -> bytes:
    """The canonical bytes of a struct whose fields hold no floats and no keys from outside.

    This is the quick way for events, whose types promise both (a test reads every type). Absent optional
    fields are left out, as the struct declares. Integers are not looked at where the caller knows that they fit
    64 bits.
    """
    try:
        data = _sorted.encode(value)
    except UnicodeEncodeError as error:
        raise NotCanonicalError(f"a string holds the lone surrogate {error.object[error.start]!a}") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise NotCanonicalError(str(error)) from None
    if (not integers_fit and long_integer(data)) or not (data.isascii() or not _outside_bmp(data)):
        return encode(msgspec.json.decode(data))
    return data


def _is_plain(value: object, depth: int) -> bool:
    """Whether msgspec's sorted encoding of `value` is canonical but for the order of exotic keys."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return INT_MIN <= value <= INT_MAX  # type: ignore[operator]
    if depth == 0:
        return False
    if kind is dict:
        return all(
            type(key) is str and _is_plain(item, depth - 1)
            for key, item in value.items()  # type: ignore[attr-defined]
        )
    if kind is list or kind is tuple:
        return all(_is_plain(item, depth - 1) for item in value)  # type: ignore[attr-defined]
    return False


def _careful(value: object, path: str, depth: int) -> str:
    if depth < 0:
        raise NotCanonicalError(f"{path}: nested deeper than {DEPTH_MAX} levels")
    if value is None or isinstance(value, bool):
        return _string.encode(value).decode()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            raise NotCanonicalError(f"{path}: an integer beyond the signed 64-bit range")
        return str(int(value))
    if isinstance(value, float):
        return _number(value, path)
    if isinstance(value, Mapping):
        return _object(value, path, depth)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return f"[{','.join(_careful(item, f'{path}[{i}]', depth - 1) for i, item in enumerate(value))}]"
    raise NotCanonicalError(f"{path}: JSON has no {type(value).__name__}")


def _object(value: Mapping[object, object], path: str, depth: int) -> str:
    members: list[tuple[bytes, str]] = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotCanonicalError(f"{path}: the key {key!r} is no string")
        members.append((key.encode("utf-16-be"), f"{_text(key)}:{_careful(item, f'{path}.{key}', depth - 1)}"))
    members.sort(key=lambda member: member[0])
    return "{" + ",".join(text for _, text in members) + "}"


def _text(value: str) -> str:
    # msgspec refuses subclasses, such as the strings of some YAML parsers; the plain string has the same text.
    return _string.encode(str.__str__(value)).decode()


def _number(value: float, path: str) -> str:
    """ECMAScript's Number::toString, which RFC 8785 (3.2.2.3) prescribes."""
    if not math.isfinite(value):
        raise NotCanonicalError(f"{path}: JSON has no {value}")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).rstrip("0").lstrip("0")
    leading = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    point = len(whole) - leading + int(exponent or 0)  # the value is 0.digits times 10**point
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{digits.rjust(len(digits) - point, '0')}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"
