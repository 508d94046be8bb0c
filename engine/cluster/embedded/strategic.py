"""Strategic merge patches: lists merge by the keys that the kinds' own types name (`apimachinery/strategicpatch`).

Directives stand among the fields: `$patch` says what becomes of the map or the item that it stands in, `$retainKeys`
which fields are left, `$deleteFromPrimitiveList/<list>` which members go, `$setElementOrder/<list>` in which order
items stand.
"""

from collections import deque
from collections.abc import Hashable
from typing import Final

import msgspec

from tidelog.engine.cluster.embedded.patch_errors import PatchError
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.cluster.embedded.typed import go_type, go_value
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import ABSENT, CONTAINERS, same

DIRECTIVE: Final = "$patch"
RETAIN_KEYS: Final = "$retainKeys"
DELETE_MEMBERS: Final = "$deleteFromPrimitiveList"
SET_ORDER: Final = "$setElementOrder"


def merged(original: KubeObject, patch: KubeObject, schema: Schema) -> KubeObject:
    """A map with a patch on it.

    Raises:
        PatchError: when the patch is wrong.
    """
    if DIRECTIVE in patch:
        return _directed(patch)
    retained, rest = _retained(original, patch)
    result, rest = _with_orders(retained, rest, schema)
    for name, value in rest.items():
        is_deletion = name.startswith(DELETE_MEMBERS)
        field = _list_of(name, DELETE_MEMBERS) if is_deletion else name
        made = _field(result.get(field, ABSENT), value, schema, field, is_deletion=is_deletion)
        if made is ABSENT:
            result.pop(field, None)
        else:
            result[field] = made
    return result


def _field(original: KubeValue, value: KubeValue, schema: Schema, name: str, *, is_deletion: bool) -> KubeValue:
    """A field with what a patch says of it; `ABSENT` for none."""
    if value is None:
        return ABSENT
    if original is ABSENT or type(original) is not type(value) or type(value) not in CONTAINERS:
        if is_deletion:
            return original
        return without_directives(_without_nulls(value))
    child = _child(schema, name)
    if isinstance(value, dict):
        return value if "replace" in child.patch_strategies else merged(original, value, child)
    return _list(original, value, child, is_deletion=is_deletion)


def _child(schema: Schema, name: str) -> Schema:
    child = schema.at(name)
    if child is None:
        raise PatchError(f'unable to find api field in struct for the json field "{name}"', 500)
    return child


def _list(original: list[KubeValue], patch: list[KubeValue], schema: Schema, *, is_deletion: bool) -> list[KubeValue]:
    if is_deletion or _merges(schema):
        return _merged_list(original, patch, schema, is_deletion=is_deletion)
    return patch


def _merges(schema: Schema) -> bool:
    return "merge" in schema.patch_strategies


def _directed(patch: KubeObject) -> KubeObject:
    directive = patch[DIRECTIVE]
    if directive == "replace":
        return {name: value for name, value in patch.items() if name != DIRECTIVE}
    if directive == "delete":
        return {}
    raise _bad_directive(directive, patch)


def _bad_directive(directive: KubeValue, patch: KubeObject) -> PatchError:
    return PatchError(f"unknown patch type: {go_value(directive)} in map: {go_value(patch)}", 500)


def _list_of(name: str, prefix: str) -> str:
    """The field that a directive is about."""
    before, slash, field = name.partition("/")
    if slash and before == prefix:
        return field
    said = "primitive list" if prefix == DELETE_MEMBERS else "setElementOrder list"
    raise PatchError(f"invalid patch format of {said}", 400)


def _retained(original: KubeObject, patch: KubeObject) -> tuple[KubeObject, KubeObject]:
    """Original and patch once `$retainKeys` has been followed."""
    if RETAIN_KEYS not in patch:
        return dict(original), patch
    kept = patch[RETAIN_KEYS]
    rest = {name: value for name, value in patch.items() if name != RETAIN_KEYS}
    wanted = (n for n, value in rest.items() if value is not None and not n.startswith((DELETE_MEMBERS, SET_ORDER)))
    names = {name for name in kept if isinstance(name, str)} if isinstance(kept, list) else None
    if names is None or any(name not in names for name in wanted):
        raise PatchError("invalid patch format of retainKeys", 400)
    return {name: value for name, value in original.items() if name in names}, rest


def without_directives(value: KubeValue) -> KubeValue:
    """A new value without items and fields that are directives; `ABSENT` where it is one itself."""
    if isinstance(value, dict):
        if DIRECTIVE in value:
            return ABSENT
        fields = {name: without_directives(each) for name, each in value.items()}
        return {name: each for name, each in fields.items() if each is not ABSENT}
    if isinstance(value, list):
        return [each for each in map(without_directives, value) if each is not ABSENT]
    return value


def _without_nulls(value: KubeValue) -> KubeValue:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


# -------------------------------------------------------------------------------------------------- lists


def _merged_list(
    original: list[KubeValue], patch: list[KubeValue], schema: Schema, *, is_deletion: bool
) -> list[KubeValue]:
    if not original and not patch:
        return original
    key = schema.patch_key
    if not _are_maps(original, patch):
        if is_deletion:
            gone = set(map(_mark, patch))
            return [each for each in original if _mark(each) not in gone]
        distinct = {_mark(each): each for each in reversed([*original, *patch])}
        return _in_order(list(distinct.values()), patch, original, "")
    if not key:
        raise PatchError(f"cannot merge lists without merge key for {_kind_of(schema.items)}", 500)
    original, patch = _without_special(original, patch, key)
    return _in_order(_merged_items(original, patch, key, schema.items), patch, original, key)


def _merged_items(original: list[KubeValue], patch: list[KubeValue], key: str, schema: Schema) -> list[KubeValue]:
    """Items with those of a patch on them: each on the first that has its key, and at the end where none has."""
    items = list(original)
    places: dict[Hashable, deque[int]] = {}
    for place, item in enumerate(items):
        if key in item:
            places.setdefault(_mark(item[key]), deque()).append(place)
    for item in patch:
        those = places.setdefault(_mark(_key_of(item, key)), deque())
        if those:
            items[those[0]] = merged(items[those[0]], item, schema)
            if key not in items[those[0]]:  # the patch has it null
                those.popleft()
        else:
            those.append(len(items))
            items.append(item)
    return items


def _kind_of(schema: Schema) -> str:
    return "struct" if schema.fields else "map" if schema.type == "object" else "interface"


def _are_maps(*lists: list[KubeValue]) -> bool:
    """Whether items are maps. All must be of one type, and no lists."""
    types = {type(item) for items in lists for item in items}
    if not types:
        raise PatchError("no elements in any of the given slices", 500)
    if list in types:
        raise PatchError("lists of lists are not supported", 422)
    if len(types) > 1:
        raise PatchError(f"list element types are not identical: {go_value(list(lists))}", 500)
    return dict in types


def _without_special(
    original: list[KubeValue], patch: list[KubeValue], key: str
) -> tuple[list[KubeValue], list[KubeValue]]:
    """Original and patch once items have been followed that say what becomes of others."""
    plain = [item for item in patch if DIRECTIVE not in item]
    replaces, gone = False, set[Hashable]()
    for item in patch:
        match item.get(DIRECTIVE, ABSENT):
            case "delete":
                gone.add(_mark(_key_of(item, key)))
            case "replace":
                replaces = True
            case "merge":
                raise PatchError("merging lists cannot yet be specified in the patch", 500)
            case other if other is not ABSENT:
                raise _bad_directive(other, item)
            case _:
                pass
    if replaces:
        return plain, []
    return [each for each in original if key not in each or _mark(each[key]) not in gone], plain


def _key_of(item: KubeObject, key: str) -> KubeValue:
    if key not in item:
        raise PatchError(f"map: {go_value(item)} does not contain declared merge key: {key}", 500)
    return item[key]


# -------------------------------------------------------------------------------------------------- order


def _with_orders(original: KubeObject, patch: KubeObject, schema: Schema) -> tuple[KubeObject, KubeObject]:
    """Original and patch once lists have been merged for which the patch says an order."""
    result, rest = dict(original), dict(patch)
    for name in [name for name in patch if name.startswith(SET_ORDER)]:
        order, field = rest.pop(name), _list_of(name, SET_ORDER)
        before, items = result.get(field, ABSENT), rest.get(field, ABSENT)
        for each in (order, before, items):
            if each is not ABSENT and not isinstance(each, list):
                raise PatchError(f"expected a []interface {{}}, but received a {go_type(each)}", 500)
        child = _child(schema, field)
        _check_order([] if items is ABSENT else items, order, child.patch_key)
        if before is ABSENT and items is ABSENT:
            continue
        if items is ABSENT:
            made = before
        elif before is ABSENT:
            made = without_directives(items)
        else:
            made = _list(before, items, child, is_deletion=False)
        live, sent = ([] if each is ABSENT else each for each in (before, items))
        _are_maps(live, sent)
        was = _as_left(live, sent, child.patch_key) if _merges(child) and child.patch_key else live
        result[field] = _in_order(made, order, was, child.patch_key)
        rest.pop(field, None)
    return result, rest


def _as_left(live: list[KubeValue], patch: list[KubeValue], key: str) -> list[KubeValue]:
    """The live list as the server has it by when it puts items in order.

    It has merged in place: what it deletes, later items follow up on, and new ones take the places that are free then.
    Of what follows up the last item is left behind each time.
    """
    gone = _deleted(live, patch, key)
    left = [item for place, item in enumerate(live) if place not in gone]
    length, last, behind, passed = len(left), len(live) - 1, list[KubeValue](), set[int]()
    for place in gone:
        while last in passed:
            last -= 1
        behind.append(live[last])
        passed.add(place)
    left += reversed(behind)
    if any(item.get(DIRECTIVE) == "replace" for item in patch):
        return left
    known = {_mark(item[key]) for item in left[:length] if key in item}
    for item in patch:
        if DIRECTIVE not in item and length < len(left) and (mark := _mark(item[key])) not in known:
            left[length] = item
            known.add(mark)
            length += 1
    return left


def _deleted(live: list[KubeValue], patch: list[KubeValue], key: str) -> dict[int, None]:
    """The places of items that a patch deletes, one after the other."""
    places: dict[Hashable, list[int]] = {}
    for place, item in enumerate(live):
        if key in item:
            places.setdefault(_mark(item[key]), []).append(place)
    marks = [_mark(item.get(key, ABSENT)) for item in patch if item.get(DIRECTIVE) == "delete"]
    return dict.fromkeys(place for mark in marks for place in places.pop(mark, ()))


def _check_order(items: list[KubeValue], order: list[KubeValue], key: str) -> None:
    """Items must stand in the order that the patch says, those that it deletes aside."""
    if not items or not order:
        return
    plain = [item for item in items if not (isinstance(item, dict) and item.get(DIRECTIVE) == "delete")]
    at = place = 0
    while at < len(plain) and place < len(order):
        # Another directive is passed over, as long as the order has not come to its end.
        if isinstance(plain[at], dict) and DIRECTIVE in plain[at]:
            at += 1
            continue
        at += same(_value(plain[at], key), _value(order[place], key))
        place += 1
    if at < len(plain) and place >= len(order):
        text, wanted = go_value(items), go_value(order)
        raise PatchError(f"The order in patch list:\n{text}\n doesn't match {SET_ORDER} list:\n{wanted}\n", 500)


def _value(item: KubeValue, key: str) -> KubeValue:
    """What tells an item apart: its key, or itself."""
    return _key_of(item, key) if key and isinstance(item, dict) else item


def _in_order(items: list[KubeValue], order: list[KubeValue], live: list[KubeValue], key: str) -> list[KubeValue]:
    """Items in the order that is wanted; those that only the server has between them, about where they were."""
    wanted, were = (_places([_value(each, key) for each in values]) for values in (order, live))
    placed = [(each, _mark(_value(each, key))) for each in items]
    right = deque(sorted((one for one in placed if one[1] in wanted), key=lambda one: wanted[one[1]]))
    left = deque(sorted((one for one in placed if one[1] not in wanted), key=lambda one: were.get(one[1], -1)))
    result: list[KubeValue] = []
    while left and right:
        ours, theirs = (were.get(each[0][1], -1) for each in (left, right))
        result.append((left if 0 <= ours < theirs else right).popleft()[0])
    return [*result, *(each for each, _ in (*left, *right))]


def _places(values: list[KubeValue]) -> dict[Hashable, int]:
    """Where each value stands first."""
    places: dict[Hashable, int] = {}
    for place, value in enumerate(values):
        places.setdefault(_mark(value), place)
    return places


def _mark(value: KubeValue) -> Hashable:
    """The same of two values if they are one in JSON, as `same` has it."""
    if type(value) in CONTAINERS:
        return "", msgspec.json.encode(value, order="sorted")
    return isinstance(value, bool), value
