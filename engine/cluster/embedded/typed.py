"""Values as their schema types them: what a list's items are called, what an object owns, what does not fit.

As `structured-merge-diff/typed` has it, with its words. A place of no type takes whatever stands in it.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from tidelog.engine.cluster.embedded import fieldsets
from tidelog.engine.cluster.embedded.builtin import types
from tidelog.engine.cluster.embedded.schema import ANYTHING, Schema
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import ABSENT, CONTAINERS, FieldSet, same

Shape: TypeAlias = Literal["map", "list", "scalar"]
Path: TypeAlias = tuple[str, ...]
_shapes: Final[dict[str, Shape]] = {"object": "map", "array": "list"}


class ItemError(ValueError):
    """Raised for an item of a list that has no name of its own: without keys, or null."""


class Misfit(NamedTuple):
    """Something that does not fit the schema."""

    path: str
    """As the server writes it; empty for the object itself."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SchemaMismatchError(ValueError):
    """Raised when an object does not fit its schema; the message is the server's."""

    def __init__(self, misfits: list[Misfit]) -> None:
        texts = [str(misfit) for misfit in misfits]
        super().__init__(texts[0] if len(texts) == 1 else "\n".join(["errors:", *(f"  {text}" for text in texts)]))


def shape(schema: Schema, value: KubeValue) -> Shape:
    """What a value is taken for, by the schema where it says so."""
    if schema.type:
        return _shapes.get(schema.type, "scalar")
    if isinstance(value, list):
        return "list"
    return "map" if isinstance(value, dict) or value is None or value is ABSENT else "scalar"


def items_of(value: KubeValue) -> list[KubeValue]:
    """The items of a list; none for what is no list."""
    return value if isinstance(value, list) else []


def fields_of(value: KubeValue) -> dict[str, KubeValue]:
    """The fields of a map; none for what is no map."""
    return value if isinstance(value, dict) else {}


def equal(one: KubeValue, other: KubeValue) -> bool:
    """Whether two values are one for the server: 1 is 1.0, and true is not 1."""
    if type(one) not in CONTAINERS or type(other) not in CONTAINERS:
        return same(one, other)
    if one != other:
        return False
    if isinstance(one, list):
        return all(equal(left, right) for left, right in zip(one, other, strict=True))
    return all(equal(left, other[name]) for name, left in one.items())


def item_name(schema: Schema, item: KubeValue) -> str:
    """The path element of an item of a list of type `map` or `set`; a key that is left out has its default.

    Raises:
        ItemError: when it cannot be named.
    """
    if schema.list_type == "map":
        return fieldsets.keyed(_keys(schema, item))
    if isinstance(item, dict):
        raise ItemError("associative list without keys has an element that's a map type")
    if isinstance(item, list):
        raise ItemError("not supported: associative list with lists as elements")
    if item is None:
        raise ItemError("associative list without keys has an element that's an explicit null")
    return fieldsets.member(item)


def _keys(schema: Schema, item: KubeValue) -> dict[str, KubeValue]:
    if item is None:
        raise ItemError("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise ItemError("associative list with keys may not have non-map elements")
    keys: dict[str, KubeValue] = {}
    for name in schema.list_keys:
        named = schema.items.fields.get(name)
        default = named.default if named is not None else ABSENT
        if name in item:
            keys[name] = item[name]
        elif default is not ABSENT and default is not None:
            keys[name] = default
    if not keys:
        names = " ".join(f'"{name}"' for name in schema.list_keys)
        raise ItemError(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return keys


# ---------------------------------------------------------------------------------------------- field sets


def owned_by(schema: Schema, value: KubeValue) -> FieldSet:
    """What who applies `value` owns: every leaf of it, keys of maps, items of lists."""
    fields: FieldSet = {}
    _own(schema, value, (), fields)
    return fields


def _own(schema: Schema, value: KubeValue, path: Path, fields: FieldSet) -> None:
    taken = shape(schema, value)
    if taken == "scalar" or schema.is_atomic or (taken == "list" and schema.list_type == "atomic"):
        fieldsets.insert(fields, path)
    elif taken == "list":
        _own_items(schema, items_of(value), path, fields)
    else:
        for name, each in fields_of(value).items():
            here = (*path, fieldsets.field(name))
            _own(schema.merged_at(name) or ANYTHING, each, here, fields)
            if each is None or each == {} or name not in schema.fields:
                fieldsets.insert(fields, here)


def _own_items(schema: Schema, items: list[KubeValue], path: Path, fields: FieldSet) -> None:
    names = [item_name(schema, item) for item in items]
    times = Counter(names)
    for name, item in zip(names, items, strict=True):
        # Items of one name have no fields of their own: they are owned together, as one value.
        if times[name] == 1:
            _own(schema.items, item, (*path, name), fields)
        fieldsets.insert(fields, (*path, name))


# ---------------------------------------------------------------------------------------------- validation


def validate(schema: Schema, value: KubeValue, *, with_duplicates: bool = False) -> None:
    """Checks that a value fits; `with_duplicates` for what is stored already.

    Raises:
        SchemaMismatchError: when it does not.
    """
    misfits = list(_misfits(schema, value, "", with_duplicates=with_duplicates))
    if misfits:
        raise SchemaMismatchError(misfits)


def _misfits(schema: Schema, value: KubeValue, path: str, *, with_duplicates: bool) -> Iterator[Misfit]:
    if value is None:
        return
    match shape(schema, value):
        case "scalar":
            wrong = _wrong_scalar(schema, value)
            if wrong:
                yield Misfit(path, wrong)
        case "list":
            if not isinstance(value, list):
                yield Misfit(path, f"expected list, got &{{{go_value(value)}}}")
                return
            yield from _misfit_items(schema, value, path, with_duplicates=with_duplicates)
        case "map":
            if not isinstance(value, dict):
                yield Misfit(path, f"expected map, got &{{{go_value(value)}}}")
                return
            for name, each in value.items():
                child = schema.merged_at(name)
                if child is None:
                    yield Misfit(f"{path}.{name}", "field not declared in schema")
                    return
                yield from _misfits(child, each, f"{path}.{name}", with_duplicates=with_duplicates)


def _misfit_items(schema: Schema, items: list[KubeValue], path: str, *, with_duplicates: bool) -> Iterator[Misfit]:
    seen: set[str] = set()
    for place, item in enumerate(items):
        here = f"[{place}]"
        if schema.list_type != "atomic":
            try:
                name = item_name(schema, item)
            except ItemError as error:
                yield Misfit(path, f"element {place}: {error}")
                return
            here = fieldsets.server_text((name,))
            if name in seen and not with_duplicates:
                yield Misfit(path, f"duplicate entries for key {here}")
            seen.add(name)
        yield from _misfits(schema.items, item, path + here, with_duplicates=with_duplicates)


def _wrong_scalar(schema: Schema, value: KubeValue) -> str:
    match schema.type:
        case "integer" | "number":
            if not _is_number(value):
                return f"expected numeric (int or float), got {go_type(value)}"
        case "boolean":
            if not isinstance(value, bool):
                return f"expected boolean, got &{{{go_value(value)}}}"
        case "string" if schema.raw.get("format", "") in ("", "byte"):
            if not isinstance(value, str):
                return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        case _:
            if type(value) in CONTAINERS:
                return f"expected any scalar, got &{{{go_value(value)}}}"
    return ""


def _is_number(value: KubeValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def go_type(value: KubeValue) -> str:
    """As Go's `%T`."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case dict():
            return "map[string]interface {}"
        case list():
            return "[]interface {}"
        case float():
            return "float64"
        case _:
            return "int64"


def go_value(value: KubeValue) -> str:
    """As Go's `%v`."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
        case dict():
            return "map[" + " ".join(f"{name}:{go_value(value[name])}" for name in sorted(value)) + "]"
        case list():
            return "[" + " ".join(map(go_value, value)) + "]"
        case _:
            return str(value)


def _go_syntax(value: KubeValue) -> str:
    """As Go's `%#v`."""
    match value:
        case None:
            return "interface {}(nil)"
        case str():
            return fieldsets.go_json(value)
        case dict():
            inner = ", ".join(f"{fieldsets.go_json(name)}:{_go_syntax(value[name])}" for name in sorted(value))
            return f"map[string]interface {{}}{{{inner}}}"
        case list():
            return "[]interface {}{" + ", ".join(map(_go_syntax, value)) + "}"
        case _:
            return go_value(value)


# ------------------------------------------------------------------------------------------- empty objects


def empty_object(api_version: str, kind: str) -> KubeObject:
    """An object before anybody has set a field, as the server makes one to compare with on a create.

    Objects of built-in kinds are Go structs: those that no pointer leads to are there at once, and so are fields that
    Go always writes. Hence nobody owns `spec` of a Deployment as such, and `spec` of a custom object is owned.
    """
    named = {"apiVersion": api_version, "kind": kind}
    of = types.type_of(named)
    return named if of is None else {**_zero(of), **named}


def _zero(of: types.Shape) -> KubeObject:
    return {name: _zero_part(of.fields[name], zero) for name, zero in of.zeros.items()}


def _zero_part(part: types.Part, zero: KubeValue) -> KubeValue:
    return _zero(types.shape(part.type)) if part.form == "object" and zero == {} else zero
