"""The event log as a port: what it promises, whatever keeps it.

An append is atomic, acknowledged only when it is durable, and may be repeated: with the same ids and content
it is answered as the first time. Reads come in pages and in the order of the log.
"""

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Final, Protocol, TypeAlias

import msgspec

from tidelog.events.bodies import Body
from tidelog.events.codec import MalformedEventError, decode_event
from tidelog.events.digest import Digest
from tidelog.events.envelope import ENGINE, Actor, Envelope
from tidelog.events.moment import Time
from tidelog.events.names import EventId, RunId, TraceId
from tidelog.events.vocabulary.base import Event
from tidelog.storage.errors import StoreCorruptError

APPEND_EVENTS_MAX = 1_024
"""Events of one append. More would keep other producers waiting."""
APPEND_BODIES_BYTES_MAX = 64 * 2**20
"""Bytes of the bodies of one append, as stored."""
PAGE_EVENTS_MAX = 1_024
"""Events read at once: with the largest envelopes, 64 MiB."""


class AnyVersion(Enum):
    """The type of `ANY`."""

    ANY = "any"


ANY: Final = AnyVersion.ANY
"""Expect no particular version of a stream: for observations and requests."""

ExpectedVersion: TypeAlias = int | AnyVersion
"""The version of the last event in the stream (0 for none yet), or `ANY`."""


class NewEvent(msgspec.Struct, frozen=True):
    """An event to be appended."""

    event: Event
    actor: Actor = ENGINE
    id: EventId | None = None
    """Given by who wants to be able to repeat the append; otherwise the log makes one."""
    occurred: Time | None = None
    run: RunId | None = None
    trace: TraceId | None = None
    cause: EventId | None = None


class StreamAppend(msgspec.Struct, frozen=True):
    """Events for one stream."""

    stream: str
    expected: ExpectedVersion
    events: Sequence[NewEvent]


class Recorded(msgspec.Struct, frozen=True):
    """An event of the log."""

    raw: bytes
    """The canonical bytes of the envelope, as stored and hashed."""
    envelope: Envelope

    @property
    def event(self) -> Event:
        """The payload, brought up to the present schema version.

        Raises:
            StoreCorruptError: when it does not fit its type.
        """
        try:
            return decode_event(self.envelope)
        except MalformedEventError as error:
            raise StoreCorruptError(f"event {self.envelope.position}", str(error)) from None


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to read: those that fulfil every condition given."""

    after: int = 0
    """Only events at positions greater than this."""
    until: int | None = None
    """Only events at positions up to this one."""
    stream: str | None = None
    types: tuple[str, ...] = ()
    """Names of event types; none means all."""
    run: str | None = None
    trace: str | None = None
    cause: str | None = None


class EventLog(Protocol):
    """What every event log can do."""

    async def append(
        self,
        stream: str,
        expected: ExpectedVersion,
        events: Sequence[NewEvent],
        *,
        bodies: Sequence[Body] = (),
    ) -> tuple[Recorded, ...]:
        """Appends events to one stream; see `append_all`."""
        ...

    async def append_all(self, appends: Sequence[StreamAppend], *, bodies: Sequence[Body] = ()) -> tuple[Recorded, ...]:
        """Appends to several streams and stores `bodies`: all of it, or nothing.

        Returns when all of it is durable, with the events as recorded. If the caller is cancelled while it
        waits, the append may or may not be made; repeated with the same ids, it is made once.

        Raises:
            AppendError: when it is refused.
            StoreFullError: when there is no room.
            StoreFailedError: when the disk fails.
        """
        ...

    def read(self, query: Query) -> AsyncIterator[Recorded]:
        """The events that are in the log now and fulfil `query`, in order; never more than a page in memory."""
        ...

    def subscribe(self, query: Query) -> AsyncIterator[Recorded]:
        """The events that fulfil `query`: first those that are there, then each as it comes, until cancelled.

        A reader may be as slow as it likes: nothing is kept for it but its position.
        """
        ...

    async def head(self) -> int:
        """The position of the last event; 0 for an empty log."""
        ...

    async def body(self, digest: Digest) -> Body:
        """A body, checked against its digest (a secret one: against that of its ciphertext).

        Raises:
            BodyNotFoundError: when there is none.
            StoreCorruptError: when it is damaged.
        """
        ...
