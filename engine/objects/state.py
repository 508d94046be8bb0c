"""What of an object counts: its state, and the values of the fields that a manager owns in it.

An object is unchanged while the fields that our manager owns are as the server last answered. That is asked for
every watch event, so field set and object are walked once for state and values together, and nothing is copied.
"""

from typing import Final

from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import (
    CONTAINERS,
    SELF,
    FieldSet,
    element,
    entry_of,
    fields_of,
    found_items,
    is_leaf,
    is_presence,
    other_owners,
    path_text,
)

BOOKKEEPING: Final = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "managedFields"}
)
"""Fields of `metadata` in which the API server keeps its own books."""


def state_of(obj: KubeObject, manager: str) -> KubeObject:
    """An object less status and bookkeeping; of `managedFields`, what `manager` applied stays, without its time.

    Two observations whose states are equal differ in nothing that anyone asks about. `owned_values` of the state
    are those of the object.
    """
    return state_and_owned(obj, manager)[0]


def owned_values(obj: KubeObject, manager: str) -> dict[str, KubeValue]:
    """The values of the fields that `manager` applied and still owns, by their paths.

    A field that was taken over, or removed, by someone else is not among them; nor is what others add. A map or list
    that the server takes as one value has one entry. What is owned and empty is None, whether the server keeps it as
    empty, drops it, or others have filled it meanwhile. Of lists with keys, and sets, the path of the list itself
    says in which order the owned items stand: the server puts them back into the order of the manifest.
    """
    return _Walk(obj, manager).values


def state_and_owned(obj: KubeObject, manager: str) -> tuple[KubeObject, dict[str, KubeValue]]:
    """`state_of` and `owned_values` of an object, in one walk."""
    walk = _Walk(obj, manager)
    metadata = {name: value for name, value in obj["metadata"].items() if name not in BOOKKEEPING}
    entry = entry_of(obj, manager)
    if entry is not None:
        fields = _with_presence(entry.get("fieldsV1") or {}, walk.granular)
        kept = {name: value for name, value in entry.items() if name != "time"}
        metadata["managedFields"] = [{**kept, "fieldsV1": fields}]
    state = {name: value for name, value in obj.items() if name != "status"}
    state["metadata"] = metadata
    return state, walk.values


class _Walk:
    """One walk along a manager's field set through an object."""

    def __init__(self, obj: KubeObject, manager: str) -> None:
        self.values: dict[str, KubeValue] = {}
        self._obj = obj
        self._manager = manager
        self._others: list[FieldSet] | None = None
        self._above: list[str] = []
        self.granular: list[tuple[str, ...]] = []
        """The owned maps and lists without owned children that others own parts of."""
        self._into(fields_of(obj, manager), obj, "")

    def _into(self, fields: FieldSet, value: KubeValue, steps: str) -> None:
        if type(value) is list:
            here = found_items(fields, value)
            for text, children in fields.items():
                if text != SELF:
                    self._at(text, children, here[text][1] if text in here else None, steps + element(text).text)
            if len(here) > 1:
                ordered = sorted((place, element(text).text) for text, (place, _) in here.items())
                self.values[path_text(steps)] = [text for _, text in ordered]
            return
        inside = value if type(value) is dict else {}
        for text, children in fields.items():
            if text != SELF:
                kind, _, name, shown = element(text)
                self._at(text, children, inside.get(name) if kind == "f" else None, steps + shown)

    def _at(self, text: str, children: FieldSet, item: KubeValue, path: str) -> None:
        if children and not is_presence(children):
            self._above.append(text)
            self._into(children, item, path)
            self._above.pop()
        elif type(item) not in CONTAINERS:
            self.values[path_text(path)] = item
        else:
            self.values[path_text(path)] = self._leaf(text, item) if item and not children else None

    def _leaf(self, text: str, item: KubeValue) -> KubeValue:
        """A map or list that is owned whole, or nothing where others own parts of it."""
        if not self._has_parts(text):
            return item
        self.granular.append((*self._above, text))
        return None

    def _has_parts(self, text: str) -> bool:
        if self._others is None:
            self._others = [owner.fields for owner in other_owners(self._obj, self._manager)]
        return any(_goes_below(fields, (*self._above, text)) for fields in self._others)


def _goes_below(fields: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether a field set owns something below a path."""
    for text in path:
        below = fields.get(text)
        if below is None:
            return False
        fields = below
    return not (is_leaf(fields) or is_presence(fields))


def _with_presence(fields: FieldSet, paths: list[tuple[str, ...]]) -> FieldSet:
    """A field set in which the fields at `paths` are owned as being there, and not with all that is in them."""
    for path in paths:
        fields = _presence_at(fields, path)
    return fields


def _presence_at(fields: FieldSet, path: tuple[str, ...]) -> FieldSet:
    if not path:
        return {SELF: {}}
    return {**fields, path[0]: _presence_at(fields[path[0]], path[1:])}
