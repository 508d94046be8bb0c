"""Objects as the server writes them: what Go leaves out is left out, what it always writes stands there."""

from collections.abc import Mapping
from typing import Final

from tidelog.engine.cluster.embedded.builtin.scalars import written
from tidelog.engine.cluster.embedded.builtin.types import OBJECT_FIELDS, QUANTITY, Part, Shape, shape, type_of
from tidelog.engine.objects.kube import KubeObject, KubeValue

_EMPTY: Final[Mapping[str, KubeValue]] = {"string": "", "byte": "", "integer": 0, "boolean": False, QUANTITY: "0"}


def normalise(obj: KubeObject) -> None:
    """Brings an object of a built-in kind into the server's form, in place; fields that its type has not are gone."""
    of = type_of(obj)
    if of is not None:
        _object(of, obj)


def without_nulls(of: Shape, obj: KubeObject) -> None:
    """Takes away, in place, what is null where a type has a field, and what it has no field for."""
    for field in list(obj):
        part = of.fields.get(field)
        if part is None or obj[field] is None:
            del obj[field]
        else:
            _without_nulls(part, obj[field])


def _without_nulls(part: Part, value: KubeValue) -> None:
    if part.form == "object" and isinstance(value, dict):
        without_nulls(shape(part.type), value)
    elif part.inner is not None and part.form == "list" and isinstance(value, list):
        value[:] = [_item(part.inner, item) for item in value]
    elif part.inner is not None and part.form == "map" and isinstance(value, dict):
        for key, item in value.items():
            value[key] = _item(part.inner, item)


def _item(part: Part, item: KubeValue) -> KubeValue:
    """An item of a list or a value of a map, where null is an empty one."""
    if item is None:
        return _EMPTY.get(part.type, {} if part.form == "object" else None)
    _without_nulls(part, item)
    return item


def _object(of: Shape, obj: KubeObject) -> None:
    for field in list(obj):
        part = of.fields.get(field)
        if part is None:
            del obj[field]
            continue
        value = obj[field] = _value(part, obj[field])
        if field not in OBJECT_FIELDS and _is_left_out(of, part, field, value):
            del obj[field]
    for field, zero in of.zeros.items():
        if field not in obj:
            obj[field] = _value(of.fields[field], {}) if zero == {} else zero


def _value(part: Part, value: KubeValue) -> KubeValue:
    if part.form == "object" and isinstance(value, dict):
        _object(shape(part.type), value)
    elif part.form == "list" and isinstance(value, list) and part.inner is not None:
        return [_value(part.inner, item) for item in value]
    elif part.form == "map" and isinstance(value, dict) and part.inner is not None:
        for key, item in value.items():  # in place: a Job's labels may be those of its template, see `defaults`
            value[key] = _value(part.inner, item)
    elif part.form == "scalar":
        return written(part.type, value)
    return value


def _is_left_out(of: Shape, part: Part, field: str, value: KubeValue) -> bool:
    if value is None:
        return True
    if part.form in ("list", "map"):
        return value in ([], {})
    return part.form == "scalar" and value in ("", 0, False) and (field in of.omitted or part.type == "byte")
