"""How event types are declared: an explicit name and a schema version, never a class path."""

from collections.abc import Callable
from typing import TypeVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of an event.

    Rules for changing one: a new field has a default; a field never changes its type or meaning; anything
    else is a new schema version with an upcaster. A default is None, empty, zero, one or false: msgspec leaves a
    field out when it holds the very object that is the default, and of these there is one each, so that equal
    events have equal bytes. No floats, so that the canonical form is the same everywhere.
    """


class EventType(msgspec.Struct, frozen=True):
    """One entry of the vocabulary."""

    name: str
    schema: int
    payload: type[Event]


E = TypeVar("E", bound=type[Event])

BY_NAME: dict[str, EventType] = {}
BY_PAYLOAD: dict[type[Event], EventType] = {}


def event(name: str, *, schema: int = 1) -> Callable[[E], E]:
    """Declares the class below as the payload of the event type `name`."""

    def declare(payload: E) -> E:
        if name in BY_NAME:
            raise ValueError(f"two event types are named {name}")
        BY_NAME[name] = BY_PAYLOAD[payload] = EventType(name, schema, payload)
        return payload

    return declare
