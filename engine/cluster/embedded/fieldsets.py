"""Algebra of field sets (FieldsV1), as the API server does it (`structured-merge-diff/fieldpath`).

A set is held as it is sent: element -> what is owned below it, in the one way to write each element. Only at its top
`{}` is the empty set; further down it is an element that is owned, with nothing below it. Sets are never changed in
place, except by who is building one.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.objects.kube import KubeValue, MalformedObjectError
from tidelog.engine.objects.managed_fields import SELF, Element, FieldSet, element

EMPTY: Final[FieldSet] = {}
_number, _text, _flag = range(3)
_json = msgspec.json.Encoder(order="sorted")
# What Go escapes in a text beyond JSON's own needs.
_escaped = re.compile("[<>&\u2028\u2029]")


def go_json(value: KubeValue) -> str:
    """JSON as Go's encoder writes it: fields sorted, safe inside HTML, whole numbers without a point."""
    return _escaped.sub(lambda found: f"\\u{ord(found[0]):04x}", _json.encode(_whole(value)).decode())


def _whole(value: KubeValue) -> KubeValue:
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


def field(name: str) -> str:
    """The element of a field or of a map's key."""
    return f"f:{name}"


def keyed(keys: dict[str, KubeValue]) -> str:
    """The element of an item of a list of type `map`."""
    return "k:" + go_json(keys)


def member(value: KubeValue) -> str:
    """The element of a member of a set."""
    return "v:" + go_json(value)


@lru_cache(maxsize=16_384)
def canonical(text: str) -> str | None:
    """An element in the one way to write it; None for a kind of element that is not known, and left out.

    Raises:
        MalformedObjectError: when it is no element.
    """
    if text[1:2] != ":":
        raise MalformedObjectError(f"managedFields: {text!r} is no path element")
    if text[0] not in "fkvi":
        return None
    kind, names, value, _ = element(text)
    match kind:
        case "k":
            return keyed(dict(zip(names, value, strict=True)))
        case "v":
            return member(value)
        case "i":
            return f"i:{value}"
        case "f":
            return text


def decoded(raw: Any) -> FieldSet:
    """A set as a client or the server sent it.

    Raises:
        MalformedObjectError: when it is none.
    """
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MalformedObjectError("managedFields: a field set is a map")
    return {text: below for text, below in _decoded(raw).items() if text != SELF}


def _decoded(raw: dict[str, Any]) -> FieldSet:
    found: FieldSet = {}
    for text, below in raw.items():
        if text == SELF:
            found[SELF] = {}
            continue
        known = canonical(text)
        if known is not None:
            if not isinstance(below, dict):
                raise MalformedObjectError(f"managedFields: what is below {text!r} is no map")
            found[known] = _decoded(below)
    return {} if len(found) == 1 and SELF in found else found


def ordered(fields: FieldSet) -> FieldSet:
    """A set in the order in which the server writes it."""
    return {text: ordered(fields[text]) for text in sorted(fields, key=_order)}


@lru_cache(maxsize=16_384)
def _order(text: str) -> tuple[Any, ...]:
    if text == SELF:
        return (0,)
    kind, names, value, _ = element(text)
    match kind:
        case "f":
            return (1, value)
        case "k":
            return (2, [(name, *_rank(each)) for name, each in zip(names, value, strict=True)])
        case "v":
            return (3, *_rank(value))
        case "i":
            return (4, value)


def _rank(value: KubeValue) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return (_flag, value)
    if isinstance(value, int | float):
        return (_number, value)
    return (_text, value) if isinstance(value, str) else (_flag + 1, go_json(value))


def insert(fields: FieldSet, path: tuple[str, ...]) -> None:
    """Adds a path to a set that is being built. Nobody owns the whole object: no path, no owner."""
    here = fields
    for text in path[:-1]:
        below = here.get(text)
        if below is None:
            below = here[text] = {}
        elif not below:
            below[SELF] = {}
        here = below
    if path:
        there = here.setdefault(path[-1], {})
        if there:
            there[SELF] = {}


def set_of(paths: Iterable[tuple[str, ...]]) -> FieldSet:
    """A set of paths."""
    fields: FieldSet = {}
    for path in paths:
        insert(fields, path)
    return fields


def _node(*, owned: bool, below: FieldSet) -> FieldSet | None:
    """What stands under an element; None for nothing."""
    if owned:
        return {SELF: {}, **below} if below else {}
    return below or None


def is_member(node: FieldSet) -> bool:
    """Whether an element is owned itself, by what stands under it."""
    return not node or SELF in node


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in `one` and not in `other`; an element that goes leaves what is below it."""
    left: FieldSet = {}
    for text, node in one.items():
        if text == SELF:
            continue
        against = other.get(text)
        if against is None:
            left[text] = node
            continue
        kept = _node(owned=is_member(node) and not is_member(against), below=difference(node, against))
        if kept is not None:
            left[text] = kept
    return left


def without(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in `one`, less the elements of `other` and all that is below them."""
    left: FieldSet = {}
    for text, node in one.items():
        if text == SELF:
            continue
        against = other.get(text)
        if against is None:
            left[text] = node
        elif not is_member(against):
            kept = _node(owned=is_member(node), below=without(node, against))
            if kept is not None:
                left[text] = kept
    return left


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """What is in both."""
    common: FieldSet = {}
    for text, node in one.items():
        against = other.get(text) if text != SELF else None
        if against is not None:
            kept = _node(owned=is_member(node) and is_member(against), below=intersection(node, against))
            if kept is not None:
                common[text] = kept
    return common


def has(fields: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether a path is in a set itself."""
    here: FieldSet | None = fields
    for text in path:
        here = here.get(text) if here else None
        if here is None:
            return False
    return bool(path) and here is not None and is_member(here)


def paths(fields: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of a set, as the server goes through them: the elements of a level, then what is below each."""
    here = [text for text in sorted(fields, key=_order) if text != SELF]
    for text in here:
        if is_member(fields[text]):
            yield (*prefix, text)
    for text in here:
        yield from paths(fields[text], (*prefix, text))


def with_named_fields(fields: FieldSet, schema: Schema | None) -> FieldSet:
    """A set with the named fields on the way to what it owns; whoever owns `a.b` does not own `a` by that alone."""
    named: FieldSet = {}
    for text, node in fields.items():
        if text == SELF:
            continue
        child, is_named = _below(text, schema)
        kept = _node(owned=is_member(node) or is_named, below=with_named_fields(node, child))
        if kept is not None:
            named[text] = kept
    return named


def _below(text: str, schema: Schema | None) -> tuple[Schema | None, bool]:
    if schema is None or text[0] not in "fk":
        return None, False
    if text[0] == "k":
        return (schema.items, False) if schema.type in ("array", "") else (None, False)
    if schema.type not in ("object", ""):
        return None, False
    return schema.merged_at(text[2:]), text[2:] in schema.fields


def server_text(path: tuple[str, ...]) -> str:
    """A path as the server writes it in its messages: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(_step(element(text)) for text in path)


def _step(step: Element) -> str:
    # A field's name stands as it is, dots and all; the rest is as people read it.
    return f".{step.value}" if step.kind == "f" else step.text
