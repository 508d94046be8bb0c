"""Appends before they meet the log: encoded, and checked as far as that needs no log."""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.codec import bodies_of, encode_envelope, encode_event, type_of
from tidelog.events.envelope import ENVELOPE_BYTES_MAX, Actor, Envelope
from tidelog.events.moment import Time, is_time
from tidelog.events.names import EventId, StreamName, is_uuid7, stream_name
from tidelog.events.typed import decoder
from tidelog.events.vocabulary import LogCreated, LogRestored
from tidelog.storage.errors import AppendTooLargeError, EventTooLargeError
from tidelog.storage.log import ANY, APPEND_BODIES_BYTES_MAX, APPEND_EVENTS_MAX, NewEvent, StreamAppend
from tidelog.storage.log.compression import StoredBody
from tidelog.storage.log.ids import new_id

EVENT_OVERHEAD_BYTES = 1_024
"""What an event in the queue weighs beside its payload, for back-pressure."""
ENVELOPE_FIXED_BYTES_MAX = 1_000
"""Of an envelope, all but its payload and the names of stream and actor."""
POSITION_MAX = 10**15
"""Positions and versions stay below it; it tells how large an envelope may become when it gets its place."""
_A_TIME = Time("2026-01-01T00:00:00.000000Z")


class PreparedEvent(msgspec.Struct, frozen=True):
    """An event, encoded and checked as far as it can be without the log."""

    stream: StreamName
    id: EventId
    new: NewEvent
    type: str
    schema: int
    data: msgspec.Raw
    bodies: tuple[BodyRef, ...]

    def envelope(self, position: int, version: int, time: Time) -> Envelope:
        """The event, in its place."""
        new = self.new
        return Envelope(
            position=position,
            stream=self.stream,
            version=version,
            id=self.id,
            time=time,
            actor=new.actor,
            type=self.type,
            schema=self.schema,
            data=self.data,
            occurred=new.occurred,
            run=new.run,
            trace=new.trace,
            cause=new.cause,
        )


class PreparedStream(msgspec.Struct, frozen=True):
    """The events of an append that go to one stream."""

    stream: StreamName
    expected: int | None
    events: tuple[PreparedEvent, ...]


class PreparedAppend(msgspec.Struct, frozen=True):
    """An append that is ready for a transaction."""

    streams: tuple[PreparedStream, ...]
    bodies: tuple[StoredBody, ...]
    size: int
    """Bytes that it holds in memory, about."""

    @property
    def events(self) -> list[PreparedEvent]:
        """All events, in the order in which they will stand in the log."""
        return [event for part in self.streams for event in part.events]

    @property
    def count(self) -> int:
        """How many events it has."""
        return sum(len(part.events) for part in self.streams)


def prepare(appends: Sequence[StreamAppend], bodies: Sequence[StoredBody], *, by_log: bool = False) -> PreparedAppend:
    """Encodes an append, and refuses what no state of the log could make right.

    Only the log itself (`by_log`) may say which log it is.

    Raises:
        AppendTooLargeError, EventTooLargeError: when it is too large.
        ValueError, TypeError: when an event is none, a name is malformed, or the same id stands twice.
    """
    streams = tuple(_prepare_stream(append) for append in appends)
    events = [event for part in streams for event in part.events]
    if not events:
        raise ValueError("an append without events")
    if len(events) > APPEND_EVENTS_MAX:
        raise AppendTooLargeError(f"an append of {len(events)} events; {APPEND_EVENTS_MAX} is the most")
    ids: set[EventId] = set()
    event_bytes = 0
    for event in events:
        if not by_log and isinstance(event.new.event, LogCreated | LogRestored):
            raise ValueError("only the log itself says which log it is")
        ids.add(event.id)
        event_bytes += len(memoryview(event.data)) + EVENT_OVERHEAD_BYTES
    if len(ids) != len(events):
        raise ValueError("an event id stands twice in one append")
    body_bytes = sum(len(body.data) for body in bodies)
    if body_bytes > APPEND_BODIES_BYTES_MAX:
        raise AppendTooLargeError(f"an append with {body_bytes} bytes of bodies; {APPEND_BODIES_BYTES_MAX} is the most")
    return PreparedAppend(streams, tuple(bodies), body_bytes + event_bytes)


def _prepare_stream(append: StreamAppend) -> PreparedStream:
    stream = stream_name(append.stream)
    expected = None if append.expected is ANY else append.expected
    if append.expected is not ANY and type(append.expected) is not int:
        raise TypeError(f"a stream's expected version is an integer or ANY, not {append.expected!r}")
    if expected is not None and expected < 0:
        raise ValueError(f"{expected} is no version of a stream")
    return PreparedStream(stream, expected, tuple(_prepare_event(stream, new) for new in append.events))


def _prepare_event(stream: StreamName, new: NewEvent) -> PreparedEvent:
    if not isinstance(new, NewEvent):
        raise TypeError(f"an event is appended as NewEvent(...), and not as a {type(new).__name__} itself")
    entry = type_of(new.event)
    for name in (new.id, new.run, new.trace, new.cause):
        if name is not None and not is_uuid7(name):
            raise ValueError(f"{name!r} is no UUID of version 7")
    if new.occurred is not None and not is_time(new.occurred):
        raise ValueError(f"{new.occurred!r} is no time of the log (RFC 3339, UTC, microseconds)")
    _check_actor(new.actor)
    references = tuple(bodies_of(new.event))
    for reference in references:
        _check_reference(entry.name, reference)
    event = PreparedEvent(
        stream,
        new.id or new_id(),
        new,
        entry.name,
        entry.schema,
        encode_event(new.event),
        references,
    )
    if _most_bytes(event) > ENVELOPE_BYTES_MAX:
        size = len(encode_envelope(event.envelope(POSITION_MAX, POSITION_MAX, _A_TIME)))
        if size > ENVELOPE_BYTES_MAX:
            raise EventTooLargeError(entry.name, size, ENVELOPE_BYTES_MAX)
    return event


@lru_cache(maxsize=4_096)
def _check_actor(actor: Actor) -> None:
    """Refuses an actor that could not be read again: an envelope that is stored is stored for ever."""
    try:
        read = decoder(Actor)(msgspec.json.encode(actor))
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"an actor that cannot be written: {error}") from None
    if read != actor:
        raise ValueError(f"an actor that does not hold what its type allows: {actor!r}")


def _check_reference(name: str, reference: BodyRef) -> None:
    """Refuses a reference that is neither one to a body that may be seen, nor one to a secret body."""
    if not reference.binds:
        raise ValueError(
            f"a {name} names {reference.digest!r}: a secret body, and no other, has a keyed digest and `stored`"
        )


def _most_bytes(event: PreparedEvent) -> int:
    """More than the envelope can have: what is not of a fixed size may be escaped, at six bytes a character."""
    actor = event.new.actor
    texts = len(event.stream) + len(actor.name) + len(actor.proof.by)
    return len(memoryview(event.data)) + 6 * texts + ENVELOPE_FIXED_BYTES_MAX
