"""Objects compared, merged and cut down by their schema (`structured-merge-diff/typed`)."""

from collections import Counter
from typing import Final, NamedTuple

from tidelog.engine.cluster.embedded import fieldsets
from tidelog.engine.cluster.embedded.schema import ANYTHING, Schema
from tidelog.engine.cluster.embedded.typed import Path, Shape, equal, fields_of, item_name, items_of, shape
from tidelog.engine.objects.kube import KubeValue
from tidelog.engine.objects.managed_fields import ABSENT, FieldSet, same


class Comparison(NamedTuple):
    """What one object has that another has not. No path is in two of the sets."""

    removed: FieldSet
    modified: FieldSet
    added: FieldSet

    def less(self, reset: FieldSet) -> "Comparison":
        """Without fields that the request cannot change, and all that is below them."""
        return Comparison(*(fieldsets.without(fields, reset) for fields in self)) if reset else self


def compare(schema: Schema, old: KubeValue, new: KubeValue) -> Comparison:
    """What became of `old`'s fields in `new`."""
    found = Comparison({}, {}, {})
    _compare(schema, old, new, (), found)
    return found


def _compare(schema: Schema, old: KubeValue, new: KubeValue, path: Path, found: Comparison) -> None:
    if old is not ABSENT and new is not ABSENT and same(old, new):
        return
    is_leaf = False
    for taken in _shapes(schema, old, new):
        is_leaf = _compare_as(taken, schema, old, new, path, found)
    if not is_leaf:
        if old is ABSENT:
            fieldsets.insert(found.added, path)
        elif new is ABSENT:
            fieldsets.insert(found.removed, path)


def _shapes(schema: Schema, old: KubeValue, new: KubeValue) -> list[Shape]:
    """What values are taken for, the last being what counts: two where no schema says what stands there."""
    if new is ABSENT:
        return [shape(schema, old)]
    taken = [shape(schema, new)]
    if old is not ABSENT and shape(schema, old) != taken[0]:
        taken.insert(0, shape(schema, old))
    return taken


def _is_leaf(taken: Shape, schema: Schema, old: KubeValue, new: KubeValue) -> bool:
    """Whether values count as one: what merges as one value, and what is empty on both sides."""
    match taken:
        case "scalar":
            return True
        case "list":
            return schema.list_type == "atomic" or not (items_of(old) or items_of(new))
        case "map":
            return schema.is_atomic or not (fields_of(old) or fields_of(new))


def _compare_as(taken: Shape, schema: Schema, old: KubeValue, new: KubeValue, path: Path, found: Comparison) -> bool:
    if _is_leaf(taken, schema, old, new):
        if old is ABSENT:
            fieldsets.insert(found.added, path)
        elif new is ABSENT:
            fieldsets.insert(found.removed, path)
        elif not equal(old, new):
            fieldsets.insert(found.modified, path)
        return True
    if taken == "list":
        _compare_items(schema, items_of(old), items_of(new), path, found)
    else:
        before, after = fields_of(old), fields_of(new)
        for name in {**before, **after}:
            child, here = schema.merged_at(name) or ANYTHING, (*path, fieldsets.field(name))
            _compare(child, before.get(name, ABSENT), after.get(name, ABSENT), here, found)
    return False


def _compare_items(schema: Schema, old: list[KubeValue], new: list[KubeValue], path: Path, found: Comparison) -> None:
    before, after = _by_name(schema, old), _by_name(schema, new)
    for name in {**before, **after}:
        here = (*path, name)
        left, right = before.get(name, []), after.get(name, [])
        if len(left) <= 1 and len(right) <= 1:
            _compare(schema.items, _only(left), _only(right), here, found)
        elif len(left) >= 2 and len(right) >= 2:
            if not equal(left, right):
                fieldsets.insert(found.modified, here)
        elif len(left) >= 2:
            if right:
                _compare(schema.items, ABSENT, right[0], here, found)
            fieldsets.insert(found.removed, here)
        else:
            if left:
                _compare(schema.items, left[0], ABSENT, here, found)
            fieldsets.insert(found.added, here)


def _by_name(schema: Schema, items: list[KubeValue]) -> dict[str, list[KubeValue]]:
    named: dict[str, list[KubeValue]] = {}
    for item in items:
        named.setdefault(item_name(schema, item), []).append(item)
    return named


def _only(items: list[KubeValue]) -> KubeValue:
    return items[0] if items else ABSENT


# -------------------------------------------------------------------------------------------------- merge


def merge(schema: Schema, live: KubeValue, applied: KubeValue) -> KubeValue:
    """`live` with all that `applied` names, as `applied` has it; nothing is removed. `ABSENT` for nothing."""
    merged: KubeValue = ABSENT
    for taken in _shapes(schema, live, applied):
        merged = _merge_as(taken, schema, live, applied)
    return merged


def _merge_as(taken: Shape, schema: Schema, live: KubeValue, applied: KubeValue) -> KubeValue:
    if _is_leaf(taken, schema, live, applied):
        return live if applied is ABSENT else applied
    if taken == "list":
        return _merge_items(schema, items_of(live), items_of(applied)) or ABSENT
    ours, theirs = fields_of(live), fields_of(applied)
    merged = {}
    for name in {**ours, **theirs}:
        value = merge(schema.merged_at(name) or ANYTHING, ours.get(name, ABSENT), theirs.get(name, ABSENT))
        if value is not ABSENT:
            merged[name] = value
    return merged or ABSENT


_NULL: Final = None


def _merge_items(schema: Schema, live: list[KubeValue], applied: list[KubeValue]) -> list[KubeValue]:
    """Items in the order of `applied`, those that only `live` has between them, where they were."""
    ours, theirs = ([item_name(schema, item) for item in items] for items in (live, applied))
    # Of items with one name, none is merged: null takes their place.
    times = Counter(ours)
    ours_by_name = {name: item if times[name] == 1 else _NULL for name, item in zip(ours, live, strict=True)}
    theirs_by_name = dict(zip(theirs, applied, strict=True))
    shared = iter([name for name in theirs if name in ours_by_name])
    next_shared = next(shared, None)
    done: set[str] = set()
    merged: list[KubeValue] = []

    def take(mine: KubeValue, name: str | None) -> None:
        value = merge(schema.items, mine, theirs_by_name[name] if name is not None else ABSENT)
        if value is not ABSENT:
            merged.append(value)

    left = right = 0
    while left < len(ours) or right < len(theirs):
        if left < len(ours) and right < len(theirs):
            name = ours[left]
            if name == theirs[right]:
                done.add(name)
                take(ours_by_name[name], name)
                left, right, next_shared = left + 1, right + 1, next(shared, None)
                continue
            if name in theirs_by_name and next_shared not in (None, name):
                left += 1  # shared, and its turn comes later
                continue
        if left < len(ours):
            if ours[left] not in theirs_by_name:
                take(live[left], None)
                left += 1
                continue
            if ours[left] in done:
                left += 1
        if right < len(theirs):
            name = theirs[right]
            done.add(name)
            take(ours_by_name.get(name, ABSENT), name)
            right += 1
            if next_shared == name:
                next_shared = next(shared, None)
    return merged


# ------------------------------------------------------------------------------------------------- remove


def remove(schema: Schema, value: KubeValue, fields: FieldSet) -> KubeValue:
    """`value` without items and fields that are in a set; null for a list or a map of which nothing is left."""
    taken = shape(schema, value)
    if taken == "scalar":
        return value
    if not value or _is_leaf(taken, schema, value, value):
        return None
    if taken == "list":
        return _without_items(schema, items_of(value), fields) or None
    left = {}
    for name, each in fields_of(value).items():
        node = fields.get(fieldsets.field(name))
        if node is None:
            left[name] = each
        elif not fieldsets.is_member(node):
            left[name] = remove(schema.merged_at(name) or ANYTHING, each, node)
    return left or None


def _without_items(schema: Schema, items: list[KubeValue], fields: FieldSet) -> list[KubeValue]:
    left = []
    for item in items:
        node = fields.get(item_name(schema, item))
        if node is None:
            left.append(item)
        elif not fieldsets.is_member(node):
            left.append(remove(schema.items, item, node))
    return left
