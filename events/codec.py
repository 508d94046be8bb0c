"""Between events and the bytes that are stored: encoding, decoding, and reading old schema versions.

Events are never rewritten. A payload of an older schema version is brought up to date on reading, by pure
functions that each take one step; a payload that this release does not know is an `UnknownEvent`, which can
be shown, verified and exported like any other.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.canonical import encode_struct
from tidelog.events.envelope import Envelope
from tidelog.events.typed import converter, decoder
from tidelog.events.vocabulary.base import BY_NAME, BY_PAYLOAD, Event, EventType

JsonObject: TypeAlias = dict[str, object]
Upcaster: TypeAlias = Callable[[JsonObject], JsonObject]
"""From the payload of one schema version to that of the next."""

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
"""By type name and the schema version that is read. Empty while every type is at its first version."""


class UnknownEvent(Event, frozen=True, kw_only=True):
    """An event of a type, or of a schema version, that this release does not know."""

    type: str
    schema: int
    data: msgspec.Raw


class MalformedEventError(ValueError):
    """Raised when a stored payload does not have the form that its type and schema version promise."""


_decoders = {entry.name: (entry.schema, decoder(entry.payload)) for entry in BY_NAME.values()}


def type_of(event: Event) -> EventType:
    """The vocabulary's entry for an event.

    Raises:
        TypeError: when its class was not declared as one.
    """
    try:
        return BY_PAYLOAD[type(event)]
    except KeyError:
        raise TypeError(f"{type(event).__name__} is no event of the vocabulary") from None


def encode_envelope(envelope: Envelope) -> bytes:
    """The canonical bytes of an envelope, as they are hashed and stored; its payload is canonical already."""
    return encode_struct(envelope, integers_fit=True)


def encode_event(event: Event) -> msgspec.Raw:
    """The canonical bytes of a payload.

    Raises:
        TypeError: when the event is none of the vocabulary, or a field holds what its type does not allow.
        NotCanonicalError: for integers beyond 64 bits and lone surrogates.
    """
    entry = type_of(event)
    try:
        read = _decoders[entry.name][1](msgspec.json.encode(event))
    except msgspec.ValidationError as error:
        raise TypeError(f"{entry.name}: {error}") from None
    except ValueError:
        read = event  # holds what JSON cannot say: refused below, in words
    if read != event:
        # msgspec writes bytes, times, ids and sets in forms that read as another type.
        wrong = next(f for f in event.__struct_fields__ if getattr(read, f) != getattr(event, f))
        raise TypeError(f"{entry.name}: {wrong} does not hold what its type allows")
    # Of what was read, because msgspec leaves a default out by identity: equal events must give equal bytes.
    return msgspec.Raw(encode_struct(read))


def decode_event(envelope: Envelope) -> Event:
    """The payload of an envelope, brought up to the present schema version.

    Raises:
        MalformedEventError: when the payload does not fit its type.
    """
    return decode_data(envelope.type, envelope.schema, envelope.data)


def decode_data(name: str, schema: int, data: msgspec.Raw) -> Event:
    """As `decode_event`, from the parts of an envelope."""
    current, decode = _decoders.get(name, (0, None))
    if decode is None or schema > current:
        return UnknownEvent(type=name, schema=schema, data=data)
    if schema < 1:
        raise MalformedEventError(f"a {name} of schema {schema}: the first is 1")
    try:
        if schema == current:
            return decode(data)
        return converter(BY_NAME[name].payload)(_upcast(name, schema, current, data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEventError(f"a {name} of schema {schema} is malformed: {error}") from None


def _upcast(name: str, schema: int, current: int, data: msgspec.Raw) -> JsonObject:
    payload = msgspec.json.decode(data, type=dict[str, object])
    for version in range(schema, current):
        payload = UPCASTERS[name, version](payload)
    return payload


def bodies_of(event: Event) -> Iterator[BodyRef]:
    """The bodies that an event names; of one that this release does not know, none."""
    for field in _body_fields.get(type(event), ()):
        reference = getattr(event, field)
        if reference is not None:
            yield reference


def _fields_of_bodies(payload: type[Event]) -> tuple[str, ...]:
    optional = BodyRef | None
    return tuple(field.name for field in msgspec.structs.fields(payload) if field.type in (BodyRef, optional))


_body_fields = {payload: _fields_of_bodies(payload) for payload in BY_PAYLOAD}
