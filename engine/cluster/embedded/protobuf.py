r"""Objects in Kubernetes' binary form, which typed clients send: of kubectl, `create` and `autoscale` for instance.

The form is `k8s\0` and a `runtime.Unknown` (Kubernetes, "API concepts", protobuf encoding). The numbers of the fields
are facts in `data/messages.json`, made by tools/kubernetes_messages.py. Definitions of custom kinds are not there; they
are refused like any other form that is not known.
"""

import base64
import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeObject

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
DEPTH_MAX: Final = 100
_MAGIC: Final = b"k8s\x00"
_META: Final = "apimachinery.pkg.apis.meta.v1."
_LISTS: Final = tuple(f"api.{package}.v1.ExtraValue" for package in ("authentication", "authorization", "certificates"))

Fields: TypeAlias = Mapping[int, tuple[str, str]]
"""Name and type of each field, by its number; the types are as tools/kubernetes_messages.py writes them."""
_ENVELOPE: Final[Mapping[str, Fields]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "bytes")},
    "TypeMeta": {1: ("apiVersion", "string"), 2: ("kind", "string")},
}


def decode(body: bytes) -> KubeObject | None:
    """The object in a body; None when it is of a kind that is not known.

    Raises:
        ValueError: when it is cut short, or not protobuf at all.
    """
    if not body.startswith(_MAGIC):
        raise ValueError("it does not begin with k8s\\0")
    unknown = _message(memoryview(body)[len(_MAGIC) :], "Unknown", 0)
    meta = unknown.get("typeMeta") or {}
    name = _name(meta.get("apiVersion", ""), meta.get("kind", ""))
    if name is None:
        return None
    raw = base64.b64decode(unknown.get("raw", ""))
    return {**meta, **_message(memoryview(raw), name, 0)}


def load() -> None:
    """Reads the facts, so that nobody has to wait for a file later. Blocks."""
    _messages()


@functools.cache
def _messages() -> Mapping[str, Fields]:
    document = resources.files(__package__).joinpath("data/messages.json").read_bytes()
    return {**msgspec.json.decode(document, type=dict[str, dict[int, tuple[str, str]]]), **_ENVELOPE}


def _name(api_version: str, kind: str) -> str | None:
    """The message of a kind: packages have the first label of their group's name."""
    group, _, version = api_version.rpartition("/")
    package = group.partition(".")[0] or "core"
    names = (f"api.{package}.{version}.{kind}", _META + kind)
    return next((name for name in names if name in _messages()), None)


def _message(data: memoryview, name: str, depth: int) -> dict[str, Any]:
    if depth > DEPTH_MAX:
        raise ValueError("it is nested too deeply")
    fields = _messages()[name]
    found: dict[str, Any] = {}
    for number, value in _values(data):
        field, type_ = fields.get(number, ("", ""))
        if type_.startswith("[]"):
            found.setdefault(field, []).append(_value(value, type_[2:], depth))
        elif type_.startswith("{}"):
            key, part = _entry(value, type_[2:], depth)
            found.setdefault(field, {})[key] = part
        elif type_.startswith("<"):
            found |= _message(_bytes(value), type_[1:], depth + 1)
        elif type_:
            found[field] = _value(value, type_, depth)
    return found


def _entry(value: memoryview | int, type_: str, depth: int) -> tuple[str, Any]:
    parts = dict(_values(_bytes(value)))
    nothing = memoryview(b"")
    return _text(parts.get(1, nothing)), _value(parts.get(2, nothing), type_, depth)


def _value(value: memoryview | int, type_: str, depth: int) -> Any:
    if type_ in _SCALARS:
        return _SCALARS[type_](value)
    found = _message(_bytes(value), type_, depth + 1)
    if type_ in _LISTS:
        return found.get("items", [])
    return _AS_JSON[type_](found) if type_ in _AS_JSON else found


# ---------------------------------------------------------------------------------------------- scalars


def _bytes(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a text or a message should be")  # noqa: TRY004 - of what was sent
    return value


def _text(value: memoryview | int) -> str:
    return str(_bytes(value), "utf-8")


def _base64(value: memoryview | int) -> str:
    return base64.b64encode(_bytes(value)).decode()


def _integer(value: memoryview | int) -> int:
    if not isinstance(value, int):
        raise ValueError("a text or a message where a number should be")  # noqa: TRY004 - of what was sent
    return value - (1 << 64) if value >> 63 else value


def _double(value: memoryview | int) -> float:
    (found,) = struct.unpack("<d", _bytes(value))
    return float(found)


_SCALARS: Final[Mapping[str, Callable[[memoryview | int], Any]]] = {
    "string": _text,
    "bytes": _base64,
    "bool": lambda value: bool(_integer(value)),
    "double": _double,
    **dict.fromkeys(("int32", "int64", "uint32", "uint64"), _integer),
}


# ------------------------------------------------------------------------------- types that write themselves


def _time(found: Mapping[str, Any], digits: int = 0) -> str | None:
    if not found:
        return None
    try:
        at = datetime.fromtimestamp(found.get("seconds", 0), UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError("a time that is none") from None
    parts = f".{found.get('nanos', 0) // 1000:06}" if digits else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{parts}Z"


def _raw(name: str) -> Callable[[Mapping[str, Any]], Any]:
    def read(found: Mapping[str, Any]) -> Any:
        raw = base64.b64decode(found.get(name, ""))
        return msgspec.json.decode(raw) if raw else None

    return read


_AS_JSON: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    _META + "Time": _time,
    _META + "MicroTime": lambda found: _time(found, 6),
    _META + "FieldsV1": _raw("Raw"),
    "apimachinery.pkg.runtime.RawExtension": _raw("raw"),
    "apimachinery.pkg.api.resource.Quantity": lambda found: found.get("string", "0"),
    "apimachinery.pkg.util.intstr.IntOrString": lambda found: (
        found.get("strVal", "") if found.get("type") else found.get("intVal", 0)
    ),
}


# ---------------------------------------------------------------------------------------------- the encoding


def _values(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field (protobuf, "Encoding")."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, form = tag >> 3, tag & 7
        if form == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(form)
        if form == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError("it is cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7
    raise ValueError("it is cut short")
