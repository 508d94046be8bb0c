"""The server's own types: their fields, and what of an empty one is written.

The OpenAPI document says the fields; `zeros.json` (made by tools/kubernetes_zeros.py from the Go types) says which
zero values are left out and which stand there.
"""

import functools
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from tidelog.engine.cluster.embedded.registry import facts
from tidelog.engine.cluster.embedded.schema import REFERENCE, Raw
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.events.typed import decoder

API: Final = "io.k8s.api."
META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
TIME: Final = META + "Time"
MICRO_TIME: Final = META + "MicroTime"
DURATION: Final = META + "Duration"
INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

Form: TypeAlias = Literal["object", "list", "map", "scalar", "any"]
OBJECT_FIELDS: Final = frozenset({"apiVersion", "kind"})


class Part(Struct, frozen=True):
    """What may stand in a field."""

    form: Form
    type: str
    """Of an object, the name of its type; of a scalar, that of its type or of the type that writes it."""
    inner: "Part | None" = None
    """What the items of a list or the values of a map are."""
    enum: tuple[str, ...] = ()


class Shape(Struct, frozen=True):
    """A type with fields."""

    name: str
    fields: dict[str, Part]
    defaults: dict[str, KubeValue]
    """What defaulting sets, where the OpenAPI document says it."""
    omitted: frozenset[str]
    """Fields that are left out when they are empty text, 0 or false."""
    zeros: dict[str, KubeValue]
    """Fields that are always written, with what they then say."""
    required: tuple[str, ...]


class _Zeros(Struct):
    omitted: list[str] = []
    zeros: dict[str, Any] = {}


def type_of(obj: KubeObject) -> Shape | None:
    """The type of an object; None for a kind that is not built in."""
    name = _kinds().get((str(obj.get("apiVersion")), str(obj.get("kind"))))
    return shape(name) if name else None


@functools.cache
def shape(name: str) -> Shape:
    """A type by the name that the OpenAPI document has for it."""
    raw = facts().types[name]
    said = _zeros().get(name) or _Zeros()
    properties: Raw = raw.get("properties") or {}
    return Shape(
        name=name,
        fields={field: _part(part) for field, part in properties.items()},
        defaults=dict(_defaults(properties, said)),
        omitted=frozenset(said.omitted),
        zeros=said.zeros,
        required=tuple(raw.get("required") or ()),
    )


def is_unset(of: Shape, obj: KubeObject, field: str) -> bool:
    """Whether a field has no value: an empty one is none, unless it is a pointer in Go."""
    value = obj.get(field)
    return value is None or (not value and (field in of.omitted or field in of.zeros) and value != {})


def walk(of: Shape, obj: KubeObject, path: str = "") -> Iterator[tuple[Shape, KubeObject, str]]:
    """An object and all typed ones in it, the outer first, each with its path; what is set on the way is walked too."""
    yield of, obj, path
    for field, part in of.fields.items():
        value = obj.get(field)
        if value is not None and part.form != "scalar":
            yield from _walk_value(part, value, f"{path}.{field}" if path else field)


def _walk_value(part: Part, value: KubeValue, path: str) -> Iterator[tuple[Shape, KubeObject, str]]:
    if part.form == "object" and isinstance(value, dict):
        yield from walk(shape(part.type), value, path)
    elif part.inner is None or part.inner.form in ("scalar", "any"):
        return
    elif part.form == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk_value(part.inner, item, f"{path}[{index}]")
    elif part.form == "map" and isinstance(value, dict):
        for key, item in value.items():
            yield from _walk_value(part.inner, item, f"{path}[{key}]")


def _defaults(properties: Raw, said: _Zeros) -> Iterator[tuple[str, KubeValue]]:
    """An OpenAPI default that is a Go zero value sets nothing, except where Go has a pointer."""
    for field, part in properties.items():
        default = part.get("default", {})
        if default != {} and (default or said.zeros.get(field) is None):
            yield field, default


def _part(raw: Raw) -> Part:
    reference = raw.get("$ref") or next((one["$ref"] for one in raw.get("allOf") or () if "$ref" in one), None)
    if reference is not None:
        return _named(str(reference).removeprefix(REFERENCE))
    if raw.get("type") == "array":
        return Part("list", "array", _part(raw["items"]))
    if raw.get("type") == "object":
        values = raw.get("additionalProperties")
        return Part("map", "object", _part(values)) if isinstance(values, dict) else Part("any", "")
    if "type" not in raw:
        return Part("any", "")
    kind = "byte" if raw.get("format") == "byte" else str(raw["type"])
    return Part("scalar", kind, enum=tuple(raw.get("enum") or ()))


def _named(name: str) -> Part:
    raw = facts().types[name]
    if name in (QUANTITY, TIME, MICRO_TIME, DURATION, INT_OR_STRING):
        return Part("scalar", name)
    if raw.get("properties"):
        return Part("object", name)
    return Part("any", "") if raw.get("type") in (None, "object") else _part(raw)


def load() -> None:
    """Reads what is known of the types, so that nobody has to wait for a file later. Blocks."""
    _zeros()
    _kinds()


@functools.cache
def _zeros() -> dict[str, _Zeros]:
    document = resources.files("tidelog.engine.cluster.embedded").joinpath("data/zeros.json").read_bytes()
    return decoder(dict[str, _Zeros])(document)


@functools.cache
def _kinds() -> dict[tuple[str, str], str]:
    """The types of the kinds, by apiVersion and kind."""
    return {
        (f"{kind['group']}/{kind['version']}".lstrip("/"), kind["kind"]): name
        for name, raw in facts().types.items()
        if name.rpartition(".")[2] == (raw.get("x-kubernetes-group-version-kind") or [{}])[0].get("kind")
        for kind in raw["x-kubernetes-group-version-kind"]
    }
