"""Which value of an old object stands for which of the new one (k8s.io/apiserver, `pkg/cel/common`).

What was wrong before a change and did not change is let pass: KEP-4008, ratcheting.
"""

from collections.abc import Hashable
from typing import Final

from tidelog.engine.cluster.embedded.schema import Raw
from tidelog.engine.objects.kube import KubeValue

SCALARS: Final = (bool, int, float, str)


class Correlated:
    """A value, and the one that stood in its place. An old value of None is none."""

    def __init__(self, new: KubeValue, old: KubeValue, raw: Raw | None) -> None:
        """`raw` is the schema of both."""
        self.new = new
        self.old = old
        self._raw = raw
        self._equal: bool | None = None
        self._by_keys: dict[Hashable, KubeValue] | None = None

    def key(self, name: str) -> "Correlated | None":
        """The values under a key; None unless both have it, and the schema knows it."""
        if self._raw is None or not (isinstance(self.new, dict) and isinstance(self.old, dict)):
            return None
        if name not in self.new or name not in self.old:
            return None
        raw = (self._raw.get("properties") or {}).get(name)
        if raw is None:
            free = self._raw.get("additionalProperties")
            raw = free if isinstance(free, dict) else None
        return None if raw is None else Correlated(self.new[name], self.old[name], raw)

    def index(self, index: int) -> "Correlated | None":
        """The values of an item: of a list of type `map` alone."""
        if self._raw is None or not isinstance(self.new, list):
            return None
        old = self._old_like(self.new[index], self._raw)
        items = self._raw.get("items")
        return None if old is None or not isinstance(items, dict) else Correlated(self.new[index], old, items)

    def _old_like(self, item: KubeValue, raw: Raw) -> KubeValue:
        """As `item_like`, for many items of the same lists."""
        if not is_map_list(raw) or not isinstance(self.old, list):
            return None
        if self._by_keys is None:
            self._by_keys = {_keys(each, raw): each for each in reversed(self.old)}
        wanted = _keys(item, raw)
        return None if wanted is None else self._by_keys.get(wanted)

    @property
    def is_same(self) -> bool:
        """Whether nothing changed. Maps with what the schema does not know count as changed, as on the server."""
        if self._equal is None:
            self._equal = self._compare()
        return self._equal

    def _compare(self) -> bool:
        if isinstance(self.new, dict) and isinstance(self.old, dict):
            children = (self.key(name) for name in self.new)
            return len(self.new) == len(self.old) and all(child is not None and child.is_same for child in children)
        if isinstance(self.new, list) and isinstance(self.old, list):
            if len(self.new) != len(self.old):
                return False
            if is_map_list(self._raw) and self.new:
                items = (self.index(i) for i in range(len(self.new)))
                return all(child is not None and child.is_same for child in items)
        return same(self.new, self.old)


def is_map_list(raw: Raw | None) -> bool:
    """Whether a schema is that of a list whose items are told apart by keys."""
    return (
        raw is not None and raw.get("x-kubernetes-list-type") == "map" and bool(raw.get("x-kubernetes-list-map-keys"))
    )


def item_like(item: KubeValue, old: KubeValue, raw: Raw) -> KubeValue:
    """The item of an old list with the keys of `item`; None for none."""
    wanted = _keys(item, raw) if is_map_list(raw) and isinstance(old, list) else None
    if wanted is None:
        return None
    return next((each for each in old if _keys(each, raw) == wanted), None)


def _keys(item: KubeValue, raw: Raw) -> tuple[object, ...] | None:
    if not isinstance(item, dict):
        return None
    names = raw["x-kubernetes-list-map-keys"]
    if any(not isinstance(item.get(name), SCALARS) for name in names):
        return None
    return tuple((type(item[name]), item[name]) for name in names)


def identity(value: KubeValue) -> Hashable:
    """What is equal for values that are the `same`, and for no others: of many, those that repeat are found at once."""
    if isinstance(value, dict):
        return dict, frozenset((name, identity(each)) for name, each in value.items())
    if isinstance(value, list):
        return list, tuple(map(identity, value))
    return type(value), value


def same(one: KubeValue, other: KubeValue) -> bool:
    """Whether two values are the same, types and all: 1 is neither 1.0 nor true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
