"""Objects no deeper than we can deal with.

The API server takes ten thousand collections within one another. Python's stack, and the canonical JSON of the log, end
long before, and what somebody put into one object must not end the watch of all.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.events.digest import digest_of

DEPTH_MAX: Final = 150
"""Of an object, in collections within one another; its `managedFields` are some deeper than its fields."""
KubeObject: TypeAlias = dict[str, Any]
Collection: TypeAlias = dict[str, Any] | list[Any]
_sorted: Final = msgspec.json.Encoder(order="sorted")


def is_deep(obj: KubeObject) -> bool:
    """Whether an object has more collections within one another than `DEPTH_MAX`."""
    level: list[Collection] = [obj]
    for _ in range(DEPTH_MAX):
        level = [value for value in _within(level) if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def scalars(obj: KubeObject) -> Iterator[Any]:
    """All in an object that is no map and no list."""
    level: list[Collection] = [obj]
    while level:
        inner = list(_within(level))
        yield from (value for value in inner if not isinstance(value, dict | list))
        level = [value for value in inner if isinstance(value, dict | list)]


def _within(level: list[Collection]) -> Iterator[Any]:
    return (value for one in level for value in (one.values() if isinstance(one, dict) else one))


def bounded(obj: KubeObject) -> KubeObject:
    """The object; of one that is too deep a copy, with digests in the place of what lies deeper.

    In `metadata` nothing stands there instead: in a set of fields, which may be that deep, it is no field either.
    """
    if not is_deep(obj):
        return obj
    return {
        name: _cut(value, DEPTH_MAX - 1, _nothing if name == "metadata" else _digest) for name, value in obj.items()
    }


def _cut(value: Any, depth: int, in_place_of: Callable[[Collection], Any]) -> Any:
    if not isinstance(value, dict | list):
        return value
    if depth <= 0:
        return in_place_of(value)
    if isinstance(value, dict):
        return {name: _cut(held, depth - 1, in_place_of) for name, held in value.items()}
    return [_cut(held, depth - 1, in_place_of) for held in value]


def _nothing(value: Collection) -> Collection:
    return type(value)()


def _digest(value: Collection) -> str:
    return digest_of(_sorted.encode(value))
