"""What a preview of a HelmRelease tells beside the plan: which version would be made, of what, and why."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tidelog.engine.helm.values import Given, Values, merged_values
from tidelog.engine.runtime.release_inputs import ReleaseValues


class ValuesTold(msgspec.Struct, frozen=True, kw_only=True):
    """Where some of the values come from. What they are is not told."""

    source: str
    """`spec.values`, or an object with the key in it: `Secret shop/creds, key values.yaml`."""
    secret: bool
    keys: tuple[str, ...]
    """The places of the values: `db.password`."""


class ReleaseTold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What would be done with a release."""

    action: str
    """`install`, `upgrade` and their like; `correct` for drift; `none`."""
    version: int = 0
    """Of the release, that it makes or acts on."""
    chart: str = ""
    """`web@1.1.0`."""
    why: str = ""
    then: str = ""
    """What follows it, as far as that can be said before: of a rollback, and of tests."""
    hooks: tuple[str, ...] = ()
    """Those that would run, with their events: `pre-upgrade Job web-migrate`."""
    values: tuple[ValuesTold, ...] = ()
    """Where its values come from: of the same key, the last."""

    @property
    def acts(self) -> bool:
        """Whether anything would be done."""
        return self.action != "none"


def values_told(values: ReleaseValues, inline: Values) -> tuple[ValuesTold, ...]:
    """Where the values of a release come from, in the order in which they are merged."""
    found = [
        ValuesTold(source=f"{one.kind} {one.name}, key {one.key}", secret=one.is_secret, keys=_keys_of(one))
        for one in values.given
        if one.data is not None
    ]
    own = [ValuesTold(source="spec.values", secret=False, keys=tuple(_places(inline)))] if inline else []
    return (*found, *own)


def _keys_of(given: Given) -> tuple[str, ...]:
    return (given.target_path,) if given.target_path else tuple(_places(merged_values({}, [given])))


def _places(value: Any, place: str = "") -> Iterator[str]:
    """The places of what is no map."""
    if isinstance(value, dict) and value:
        for name, held in value.items():
            yield from _places(held, f"{place}.{name}" if place else str(name))
    elif place:
        yield place
