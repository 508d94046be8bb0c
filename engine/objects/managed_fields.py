"""Which manager owns which fields: `metadata.managedFields`, read as the API server means it.

A field set (FieldsV1) is a tree of path elements: `f:name` is a field, `k:{"name":"app"}` the item of a list with
those keys, `v:"x"` the member of a set, `i:0` a place in a list. An element without children, or with a `.` among
them, is owned itself; where the server takes a map or a list as one value, no element goes below it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeObject, KubeValue, MalformedObjectError, flagged

FieldSet: TypeAlias = dict[str, Any]
"""FieldsV1 as decoded JSON: element -> the elements below it. Never changed in place."""

SELF: Final = "."
CONTAINERS: Final = frozenset({dict, list})
FLUX_MANAGER: Final = "kustomize-controller"
SSA_FLAG: Final = "kustomize.toolkit.fluxcd.io/ssa"
_client_manager = "flux-client-side-apply"
# What client-side appliers leave behind, and what Flux removes when it takes an object over (KS-076).
_left_annotations = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/checksum",
    "fluxcd.io/sync-checksum",
)
_left_labels = ("fluxcd.io/sync-gc-mark",)
_plain_name = re.compile(r"[A-Za-z_$][\w$-]*", re.ASCII)
_json = msgspec.json.Encoder()


class Absent:
    """The type of `ABSENT`: nothing stands there, which is not the same as null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class Element(NamedTuple):
    """One step of a path."""

    kind: Literal["f", "k", "v", "i"]
    names: tuple[str, ...]
    """Of `k`: the names of the keys, sorted."""
    value: KubeValue
    """Of `f` the field's name, of `k` the keys' values in the order of `names`, of `v` the value, of `i` the place."""
    text: str
    """As people read it, to be put behind the path so far: `.image`, `[name="app"]`."""


class Owner(NamedTuple):
    """An entry of `managedFields`, and what it owns below the place that is being looked at."""

    manager: str
    time: str
    fields: FieldSet


@lru_cache(maxsize=16_384)
def element(text: str) -> Element:
    """A path element, parsed; the same few thousand stand in all objects of a cluster.

    Raises:
        MalformedObjectError: when it has no form that is known.
    """
    kind, _, rest = text.partition(":")
    try:
        match kind:
            case "f":
                return Element("f", (), rest, field_text(rest))
            case "k":
                keys = sorted(msgspec.json.decode(rest, type=dict[str, Any]).items())
                return key_element(tuple(name for name, _ in keys), tuple(value for _, value in keys))
            case "v":
                return value_element(msgspec.json.decode(rest))
            case "i":
                return Element("i", (), int(rest), f"[{int(rest)}]")
            case _:
                pass
    except ValueError as error:
        raise MalformedObjectError(f"managedFields: {text!r} is no path element: {error}") from error
    raise MalformedObjectError(f"managedFields: {text!r} is no path element")


def key_element(names: tuple[str, ...], values: tuple[KubeValue, ...]) -> Element:
    """The item of a list that has `values` in its keys `names`."""
    shown = ",".join(f"{name}={_shown(value)}" for name, value in zip(names, values, strict=True))
    return Element("k", names, values, f"[{shown}]")


def value_element(value: KubeValue) -> Element:
    """The member of a set."""
    return Element("v", (), value, f"[={_shown(value)}]")


def field_text(name: str) -> str:
    """A field's name, to be put behind a path: `.image`, and `["example.com/x"]` where a dot would mislead."""
    return f".{name}" if _plain_name.fullmatch(name) else f"[{_shown(name)}]"


def path_text(steps: str) -> str:
    """The texts of a path's elements, joined, as people read it."""
    return steps.removeprefix(".")


def _shown(value: KubeValue) -> str:
    return _json.encode(value).decode()


def found_items(elements: Iterable[str], value: list[KubeValue]) -> dict[str, tuple[int, KubeValue]]:
    """Which items of a list sibling elements name: element -> (place, item); absent ones are left out."""
    items: dict[str, tuple[int, KubeValue]] = {}
    keyed: dict[tuple[str, ...], dict[KubeValue, int]] = {}
    for text in elements:
        if text == SELF:
            continue
        kind, names, wanted, _ = element(text)
        place: int | None = None
        if kind == "k":
            places = keyed.get(names)
            if places is None:
                places = keyed[names] = _places(names, value)
            place = places.get(wanted)
        elif kind == "v":
            place = next((n for n, item in enumerate(value) if same(item, wanted)), None)
        elif kind == "i" and wanted < len(value):
            place = wanted
        if place is not None:
            items[text] = (place, value[place])
    return items


def _places(names: tuple[str, ...], value: list[KubeValue]) -> dict[KubeValue, int]:
    """Where in a list the item with each combination of keys stands; of equals, the first."""
    places: dict[KubeValue, int] = {}
    for place, item in enumerate(value):
        if type(item) is dict:
            keys = tuple(item.get(name) for name in names)
            try:
                places.setdefault(keys, place)
            except TypeError:  # a map or list where a key should be: no element names such an item
                continue
    return places


def same(one: KubeValue, other: KubeValue) -> bool:
    """Whether two values are one in JSON: true is not 1, as it is in Python."""
    if type(one) in CONTAINERS or type(other) in CONTAINERS:
        return one == other and msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    return one is other or (one == other and isinstance(one, bool) == isinstance(other, bool))


def is_leaf(fields: FieldSet) -> bool:
    """Whether nothing below an element is owned apart from it."""
    return not fields


def is_presence(fields: FieldSet) -> bool:
    """Whether an element is owned, as being there, and nothing below it."""
    return len(fields) == 1 and SELF in fields


def entries_of(obj: KubeObject) -> list[KubeObject]:
    """The entries of `metadata.managedFields`."""
    return (obj.get("metadata") or {}).get("managedFields") or []


def entry_of(obj: KubeObject, manager: str) -> KubeObject | None:
    """The entry of what `manager` applied; the server keeps one at most."""
    for entry in entries_of(obj):
        if entry.get("manager") == manager and _is_applied(entry):
            return entry
    return None


def _is_applied(entry: KubeObject) -> bool:
    return entry.get("operation") == "Apply" and not entry.get("subresource")


def fields_of(obj: KubeObject, manager: str) -> FieldSet:
    """What `manager` applied, and still owns."""
    entry = entry_of(obj, manager)
    return (entry.get("fieldsV1") or {}) if entry else {}


def other_owners(obj: KubeObject, manager: str) -> list[Owner]:
    """Everyone else who owns fields, subresources and plain updates included, the latest first."""
    owners = [
        Owner(entry.get("manager") or "", entry.get("time") or "", entry.get("fieldsV1") or {})
        for entry in entries_of(obj)
        if not (entry.get("manager") == manager and _is_applied(entry))
    ]
    return sorted(owners, key=lambda owner: owner.time, reverse=True)


def below(owners: Iterable[Owner], text: str) -> list[Owner]:
    """The owners who own something at or below the element `text`, narrowed to it."""
    return [Owner(manager, time, fields[text]) for manager, time, fields in owners if text in fields]


def paths_of(fields: FieldSet) -> frozenset[str]:
    """The paths that a field set owns, as people read them."""
    return frozenset(path_text(steps) for steps in _members(fields, ""))


def _members(fields: FieldSet, steps: str) -> Iterator[str]:
    for text, children in fields.items():
        if text == SELF:
            continue
        here = steps + element(text).text
        if is_leaf(children) or SELF in children:
            yield here
        yield from _members(children, here)


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """What either of two field sets owns."""
    # Each element once: what is in both would be joined twice, and twice again at each level below.
    joined = {text: _joined(one.get(text), other.get(text)) for text in {**one, **other} if text != SELF}
    return {SELF: {}, **joined} if SELF in one or SELF in other else joined


def _joined(one: FieldSet | None, other: FieldSet | None) -> FieldSet:
    if one is None or other is None:
        return one if one is not None else other or {}
    if is_leaf(one) and is_leaf(other):
        return {}
    itself: FieldSet = {SELF: {}}
    both = union(one or itself, other or itself)
    return {} if is_presence(both) else both


def managed_fields_taken_over(
    obj: KubeObject, manager: str = FLUX_MANAGER, overridden: Sequence[str] = ()
) -> list[KubeObject] | None:
    """`managedFields` once `manager` has taken over what kubectl and its like own (KS-074, KS-075).

    What they own and the manifest does not name then goes with the next apply. None when nothing is to be done, which
    is so for an object flagged `ssa: Merge`.

    Args:
        obj: the live object.
        manager: who takes over.
        overridden: further managers to take over from, by their exact names, whatever they did.
    """
    if flagged(obj, SSA_FLAG, "Merge"):
        return None
    ours = entry_of(obj, manager)
    kept: list[KubeObject] = []
    taken = False
    for entry in entries_of(obj):
        if entry is ours:
            continue
        if not _to_take_over(entry, manager, overridden):
            kept.append(entry)
            continue
        taken = True
        if ours is None:
            ours = {**entry, "manager": manager, "operation": "Apply"}
        else:
            ours = {**ours, "fieldsV1": union(ours.get("fieldsV1") or {}, entry.get("fieldsV1") or {})}
    return [*kept, ours] if taken and ours is not None else None


def _to_take_over(entry: KubeObject, manager: str, overridden: Sequence[str]) -> bool:
    name, operation = entry.get("manager") or "", entry.get("operation")
    if entry.get("subresource") or name == _client_manager or (name == manager and operation == "Apply"):
        return False
    # Helm leaves to kubectl what is kubectl's.
    if name in overridden or (manager == FLUX_MANAGER and name.startswith("kubectl")):
        return True
    return operation == "Update" and name in {"before-first-apply", manager}


def taken_over_entries(
    obj: KubeObject, manager: str = FLUX_MANAGER, overridden: Sequence[str] = ()
) -> list[KubeObject]:
    """The entries of `managedFields` whose fields `manager` takes over with its next apply (KS-074, KS-075)."""
    return [entry for entry in entries_of(obj) if _to_take_over(entry, manager, overridden)]


def take_over_patch(obj: KubeObject, manager: str = FLUX_MANAGER, overridden: Sequence[str] = ()) -> list[KubeObject]:
    """The JSON patch that has `manager` take over an object (KS-074 to KS-076); empty when nothing is to be done.

    It holds the version that it was made against, so that the server refuses it once the object has moved on.
    """
    if flagged(obj, SSA_FLAG, "Merge"):
        return []
    metadata = obj.get("metadata") or {}
    patch: list[KubeObject] = []
    managed = managed_fields_taken_over(obj, manager, overridden)
    if managed is not None:
        patch.append({"op": "replace", "path": "/metadata/managedFields", "value": managed})
    for place, left in (("annotations", _left_annotations), ("labels", _left_labels)):
        there = metadata.get(place) or {}
        patch += [{"op": "remove", "path": f"/metadata/{place}/{_pointer(name)}"} for name in left if name in there]
    if patch and metadata.get("resourceVersion"):
        patch.append({"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]})
    return patch


def _pointer(name: str) -> str:
    """A field's name in a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
