"""How two states of an object differ, field by field, for people and programs.

Items of a list are matched by their keys where the API server says which those are, or where a field such as `name`
tells every item from the others; else by their places. Lists of plain values are one value: half of a command line
says nothing. What a Secret holds is never here.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import (
    ABSENT,
    SELF,
    Element,
    FieldSet,
    element,
    entries_of,
    field_text,
    found_items,
    key_element,
    path_text,
    same,
    value_element,
)
from tidelog.engine.objects.state import BOOKKEEPING

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
# What tells the items of a list apart, where managedFields do not say; the first that does so for all items is taken.
_usual_keys: Final = (
    ("name",),
    ("mountPath",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("devicePath",),
    ("ip",),
    ("host",),
    ("type",),
    ("id",),
)


class Difference(msgspec.Struct, frozen=True):
    """One field that differs. `before` or `after` is None where there is no such field."""

    path: str
    """For example `spec.template.spec.containers[name="app"].image`. Of a list whose items stand in another order, the
    list's own; its values are then the items' keys in either order."""
    before: KubeValue = None
    after: KubeValue = None
    hidden: bool = False
    """Whether the values are secret: then neither is here."""


def differences(before: KubeObject | None, after: KubeObject | None, *, secret: bool = False) -> tuple[Difference, ...]:
    """What differs between two states of an object, in the order of the fields' names.

    A map or item that is there on one side only is one difference. Status and the server's own bookkeeping do not
    count.

    Args:
        before: the object as it was, None when there was none.
        after: the object as it is, None when it is gone.
        secret: whether a secret value went into the object, Secret or not: then all values are hidden, and the keys
            of items, which are values too, are not in the paths.
    """
    found = _Differences(secret=secret, opaque=_is_secret(before) or _is_secret(after))
    fields = [entry["fieldsV1"] for obj in (before, after) if obj for entry in entries_of(obj) if "fieldsV1" in entry]
    found.root(before or {}, after or {}, fields)
    return tuple(found.differences)


def _is_secret(obj: KubeObject | None) -> bool:
    return obj is not None and obj.get("kind") == "Secret" and obj.get("apiVersion") == "v1"


class _Differences:
    def __init__(self, *, secret: bool, opaque: bool) -> None:
        self.differences: list[Difference] = []
        self._secret = secret
        self._opaque = opaque

    def root(self, before: KubeObject, after: KubeObject, fields: list[FieldSet]) -> None:
        for name in sorted({*before, *after} - {"status"}):
            was, now, below = before.get(name, ABSENT), after.get(name, ABSENT), _below(fields, f"f:{name}")
            if name == "metadata":
                self._metadata(_map(was), _map(now), below)
            elif self._opaque and name in {"data", "stringData"}:
                self._hidden_values(was, now, name)
            else:
                self._value(was, now, field_text(name), below)

    def _metadata(self, before: KubeObject, after: KubeObject, fields: list[FieldSet]) -> None:
        for name in sorted({*before, *after} - BOOKKEEPING):
            was, now, below = before.get(name, ABSENT), after.get(name, ABSENT), _below(fields, f"f:{name}")
            if self._opaque and name == "annotations":
                self._annotations(_map(was), _map(now), below)
            else:
                self._value(was, now, f".metadata{field_text(name)}", below)

    def _annotations(self, before: KubeObject, after: KubeObject, fields: list[FieldSet]) -> None:
        """Of a Secret: kubectl keeps all that it applied, values too, in one of them."""
        for name in sorted({*before, *after}):
            was, now = before.get(name, ABSENT), after.get(name, ABSENT)
            path = f".metadata.annotations{field_text(name)}"
            if name == LAST_APPLIED and not _equal(was, now):
                self._hide(path)
            else:
                self._value(was, now, path, _below(fields, f"f:{name}"))

    def _hidden_values(self, before: KubeValue, after: KubeValue, name: str) -> None:
        was, now = _map(before), _map(after)
        for key in sorted({*was, *now}):
            if not _equal(was.get(key, ABSENT), now.get(key, ABSENT)):
                self._hide(f".{name}{field_text(key)}")

    def _value(self, before: KubeValue, after: KubeValue, path: str, fields: list[FieldSet]) -> None:
        if _equal(before, after):
            return
        if isinstance(before, dict) and isinstance(after, dict):
            for name in sorted({*before, *after}):
                was, now = before.get(name, ABSENT), after.get(name, ABSENT)
                self._value(was, now, path + field_text(name), _below(fields, f"f:{name}"))
        elif isinstance(before, list) and isinstance(after, list):
            self._lists(before, after, path, fields)
        else:
            self._add(path, before, after)

    def _lists(self, before: list[KubeValue], after: list[KubeValue], path: str, fields: list[FieldSet]) -> None:
        were, are = _keyed(before, after, fields)
        if were is None or are is None or self._secret:
            self._by_place(before, after, path, fields)
            return
        before_fields, after_fields = _items_below(fields, before), _items_below(fields, after)
        for one in sorted({*were, *are}, key=lambda item: item.text):
            was = before[were[one]] if one in were else ABSENT
            now = after[are[one]] if one in are else ABSENT
            below = before_fields.get(were.get(one), []) + after_fields.get(are.get(one), [])
            self._value(was, now, path + one.text, below)
        order = [one.text for one in were if one in are], [one.text for one in are if one in were]
        if order[0] != order[1]:
            self._add(path, *order)

    def _by_place(self, before: list[KubeValue], after: list[KubeValue], path: str, fields: list[FieldSet]) -> None:
        if not all(isinstance(item, dict) for item in (*before, *after)):
            self._add(path, before, after)
            return
        for place in range(max(len(before), len(after))):
            was = before[place] if place < len(before) else ABSENT
            now = after[place] if place < len(after) else ABSENT
            self._value(was, now, f"{path}[{place}]", _below(fields, f"i:{place}"))

    def _add(self, path: str, before: KubeValue, after: KubeValue) -> None:
        if self._secret:
            self._hide(path)
            return
        self.differences.append(Difference(path_text(path), _present(before), _present(after)))

    def _hide(self, path: str) -> None:
        self.differences.append(Difference(path_text(path), hidden=True))


def _present(value: KubeValue) -> KubeValue:
    return None if value is ABSENT else value


def _map(value: KubeValue) -> KubeObject:
    return value if isinstance(value, dict) else {}


def _equal(one: KubeValue, other: KubeValue) -> bool:
    return one is other or (one is not ABSENT and other is not ABSENT and same(one, other))


def _below(fields: Iterable[FieldSet], text: str) -> list[FieldSet]:
    return [below[text] for below in fields if text in below]


def _items_below(fields: Iterable[FieldSet], items: list[KubeValue]) -> dict[int | None, list[FieldSet]]:
    """The field sets below each item, by its place."""
    found: dict[int | None, list[FieldSet]] = {}
    for below in fields:
        for text, (place, _) in found_items(below, items).items():
            found.setdefault(place, []).append(below[text])
    return found


_Places = dict[Element, int]


def _keyed(
    before: list[KubeValue], after: list[KubeValue], fields: Sequence[FieldSet]
) -> tuple[_Places | None, _Places | None]:
    """The place of each item by what tells it from the others, on both sides; None where nothing does."""
    named = [element(text) for below in fields for text in below if text != SELF]
    if any(one.kind == "v" for one in named):
        return _by_value(before), _by_value(after)
    for names in (*(one.names for one in named if one.kind == "k"), *_usual_keys):
        were, are = _by_keys(before, names), _by_keys(after, names)
        if were is not None and are is not None:
            return were, are
    return None, None


def _by_value(items: list[KubeValue]) -> _Places | None:
    if any(isinstance(item, dict | list) for item in items):
        return None
    places = {value_element(item): place for place, item in enumerate(items)}
    return places if len(places) == len(items) else None


def _by_keys(items: list[KubeValue], names: tuple[str, ...]) -> _Places | None:
    places: _Places = {}
    for place, item in enumerate(items):
        if not isinstance(item, dict) or not all(name in item for name in names):
            return None
        values = tuple(item[name] for name in names)
        if any(isinstance(value, dict | list) for value in values):
            return None
        places[key_element(names, values)] = place
    return places if len(places) == len(items) else None
