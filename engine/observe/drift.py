"""Drift: which fields that we own are no longer as the server last answered, and who wrote them.

What is compared is two answers of the server, never an answer with a manifest: defaults and webhooks are in both, and
so can never be drift.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import (
    ABSENT,
    CONTAINERS,
    SELF,
    FieldSet,
    Owner,
    below,
    element,
    fields_of,
    found_items,
    is_leaf,
    is_presence,
    other_owners,
    path_text,
    paths_of,
    same,
    take_over_patch,
    taken_over_entries,
)
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary.observe import FieldDrift

FLAPPING_COUNT: Final = 5
FLAPPING_WITHIN: Final = timedelta(hours=1)
_nowhere: Final = (0, ABSENT)


def drift(applied: KubeObject, live: KubeObject, manager: str, *, secret: bool = False) -> tuple[FieldDrift, ...]:
    """The fields that `manager` applied and that are now another value, or gone.

    Where a whole map or item is gone, it is named once, and not with each field in it. What others add, and a field
    that only changed hands, is no drift.

    Args:
        applied: the server's answer when we last applied, or its state (`state_of`).
        live: the object as it is now.
        manager: our field manager.
        secret: whether a secret value went into the object: keys of items, which are values too, are then shown as `*`.

    Returns:
        Each with the manager that owns it now and wrote last; empty where nobody does, as after a removal.
    """
    drifted: dict[FieldDrift, None] = {}
    comparison = _Comparison(secret, drifted)
    comparison.compare(fields_of(applied, manager), applied, live, "", other_owners(live, manager))
    return tuple(sorted(drifted, key=lambda one: (one.path, one.manager)))


def left_behind(
    live: KubeObject, manager: str, overridden: Sequence[str] = (), *, secret: bool = False
) -> tuple[FieldDrift, ...]:
    """What kubectl and its like added to an object, and the next apply takes away (Flux contract KS-074 to KS-076)."""
    if not take_over_patch(live, manager, overridden):
        return ()
    entries = taken_over_entries(live, manager, overridden)
    ours = paths_of(fields_of(live, manager))
    left = {
        FieldDrift(path=path, manager=entry.get("manager") or "")
        for entry in entries
        for path in paths_of(entry.get("fieldsV1") or {}) - ours
    }
    if secret or not left:
        left = {FieldDrift(path="metadata", manager=entry.get("manager") or "") for entry in entries}
    return tuple(sorted(left or {FieldDrift(path="metadata")}, key=lambda one: (one.path, one.manager)))


class _Comparison(NamedTuple):
    secret: bool
    drifted: dict[FieldDrift, None]

    def compare(self, fields: FieldSet, applied: KubeValue, live: KubeValue, steps: str, owners: list[Owner]) -> None:
        before, now = _found(fields, applied), _found(fields, live)
        for text, children in fields.items():
            if text == SELF:
                continue
            step = element(text)
            path = steps + ("[*]" if self.secret and step.kind in {"k", "v"} else step.text)
            theirs = below(owners, text)
            was, item = before.get(text, _nowhere)[1], now.get(text, _nowhere)[1]
            if is_leaf(children) or is_presence(children):
                differs = _differs(was, item, whole=is_leaf(children) and not any(map(_has_parts, theirs)))
            else:
                differs = was is not ABSENT and type(was) is not type(item)
            if differs:
                self._add(path, theirs)
            elif not is_leaf(children) and was is not ABSENT:
                self.compare(children, was, item, path, theirs)
        if isinstance(live, list) and _order(before, now) != _order(now, before):
            self._add(steps, [])

    def _add(self, path: str, owners: list[Owner]) -> None:
        self.drifted[FieldDrift(path=path_text(path), manager=owners[0].manager if owners else "")] = None


def _found(fields: FieldSet, value: KubeValue) -> dict[str, tuple[int, KubeValue]]:
    if isinstance(value, list):
        return found_items(fields, value)
    if not isinstance(value, dict):
        return {}
    named = ((text, element(text)) for text in fields if text != SELF)
    return {text: (0, value[e.value]) for text, e in named if e.kind == "f" and e.value in value}


def _differs(was: KubeValue, item: KubeValue, *, whole: bool) -> bool:
    """Whether a field is another; what is in a map or list counts only if it is owned whole."""
    if was is ABSENT:  # owned and empty, so that the server dropped it
        return whole and item is not ABSENT and bool(item or type(item) not in CONTAINERS)
    if not whole and type(was) in CONTAINERS:
        return type(was) is not type(item)
    return not same(was, item)


def _has_parts(owner: Owner) -> bool:
    return not (is_leaf(owner.fields) or is_presence(owner.fields))


def _order(items: dict[str, tuple[int, KubeValue]], others: dict[str, tuple[int, KubeValue]]) -> list[str]:
    """The items that both have, in the order in which they stand here."""
    return [text for _, text in sorted((place, text) for text, (place, _) in items.items() if text in others)]


class Flap(msgspec.Struct, frozen=True):
    """A field that someone keeps on changing back."""

    object: ObjectKey
    path: str
    manager: str
    times: int
    """How often, within the time that is looked back on."""
    since: datetime
    """When the first of these was seen."""


class Flaps:
    """Recognises fields over which two managers fight, so that the engine can say so rather than fight on.

    A fold over drifts, in their order: it knows no clock but the times that it is given. Per field it keeps as many
    times as the threshold has, and forgets fields that have been quiet.
    """

    def __init__(self, count: int = FLAPPING_COUNT, within: timedelta = FLAPPING_WITHIN) -> None:
        """Flapping is `count` drifts of one field by one manager within `within`."""
        if count < 1:
            raise ValueError(f"flapping is one drift at least, and not {count}")
        self._count = count
        self._within = within
        self._seen: dict[tuple[ObjectKey, str, str], list[datetime]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, key: ObjectKey, fields: Iterable[FieldDrift], at: datetime) -> tuple[Flap, ...]:
        """Counts the drift of an object's fields, and returns those that flap now."""
        self._forget(at - self._within)
        return tuple(flap for field in fields if (flap := self._add(key, field, at)) is not None)

    def _add(self, key: ObjectKey, field: FieldDrift, at: datetime) -> Flap | None:
        # Taken out and put back: the dict then stands in the order of the last drift, the quietest first.
        times = [*self._seen.pop((key, field.path, field.manager), ()), at]
        # One that is yet to come is of a clock that was set back since.
        times = [time for time in times[-self._count :] if at - self._within < time <= at]
        self._seen[key, field.path, field.manager] = times
        if len(times) < self._count:
            return None
        return Flap(key, field.path, field.manager, len(times), times[0])

    def _forget(self, until: datetime) -> None:
        for seen in list(self._seen):
            if self._seen[seen][-1] > until:
                return
            del self._seen[seen]
