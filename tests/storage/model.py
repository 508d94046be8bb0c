"""An event log in the plainest words, against which the real one is compared."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tidelog.events.codec import bodies_of, type_of
from tidelog.events.digest import Digest
from tidelog.events.names import EventId, StreamName
from tidelog.storage.errors import (
    AppendError,
    BodyMissingError,
    CauseUnknownError,
    EventIdReusedError,
    VersionConflictError,
)
from tidelog.storage.log import ANY, NewEvent, Query, Recorded, StreamAppend


class Kept(NamedTuple):
    """An event of the model. `new` is None for those that the log wrote by itself."""

    position: int
    stream: StreamName
    version: int
    id: EventId
    type: str
    new: NewEvent | None


class Model:
    """What a log should hold and answer. Everything is looked for from the start of one list."""

    def __init__(self) -> None:
        self.events: list[Kept] = []
        self.bodies: dict[Digest, bytes] = {}

    def append(self, appends: Sequence[StreamAppend], bodies: dict[Digest, bytes]) -> list[Kept] | type[AppendError]:
        """The answer to an append."""
        wanted = [(StreamName(part.stream), new) for part in appends for new in part.events]
        known = {kept.id: kept for kept in self.events}
        found = [known.get(new.id) if new.id else None for _, new in wanted]
        if any(found):
            same = [kept and (kept.stream, kept.new) == pair for kept, pair in zip(found, wanted, strict=True)]
            return [kept for kept in found if kept] if all(same) else EventIdReusedError
        versions: dict[str, int] = {}
        for part in appends:
            version = versions.setdefault(part.stream, self.version(part.stream))
            if part.expected is not ANY and part.expected != version:
                return VersionConflictError
            versions[part.stream] += len(part.events)
        ids = set(known)
        for _, new in wanted:
            if new.cause and new.cause not in ids:
                return CauseUnknownError
            if new.id:
                ids.add(new.id)
        for _, new in wanted:
            for reference in bodies_of(new.event):
                if reference.digest not in self.bodies and reference.digest not in bodies:
                    return BodyMissingError
        self.bodies.update(bodies)
        first = len(self.events)
        for stream, new in wanted:
            assert new.id
            name = type_of(new.event).name
            self.events.append(Kept(len(self.events) + 1, stream, self.version(stream) + 1, new.id, name, new))
        return self.events[first:]

    def version(self, stream: str) -> int:
        return sum(kept.stream == stream for kept in self.events)

    def learn(self, recorded: Recorded) -> None:
        """Takes in an event that the log wrote by itself."""
        envelope = recorded.envelope
        assert envelope.position == len(self.events) + 1
        version = self.version(envelope.stream) + 1
        self.events.append(Kept(envelope.position, envelope.stream, version, envelope.id, envelope.type, None))

    def read(self, query: Query) -> list[int]:
        """The positions of the events that fulfil a query."""
        return [kept.position for kept in self.events if fulfils(kept, query)]


def fulfils(kept: Kept, query: Query) -> bool:
    new = kept.new
    return (
        kept.position > query.after
        and (query.until is None or kept.position <= query.until)
        and query.stream in (None, kept.stream)
        and (not query.types or kept.type in query.types)
        and query.run in (None, new and new.run)
        and query.trace in (None, new and new.trace)
        and query.cause in (None, new and new.cause)
    )


def agrees(kept: Kept, recorded: Recorded) -> bool:
    """Whether what the log gave is what the model holds."""
    envelope = recorded.envelope
    place = (envelope.position, envelope.stream, envelope.version, envelope.id, envelope.type)
    if place != kept[:5]:
        return False
    if kept.new is None:
        return True
    given = msgspec.structs.replace(
        kept.new,
        event=recorded.event,
        actor=envelope.actor,
        occurred=envelope.occurred,
        run=envelope.run,
        trace=envelope.trace,
        cause=envelope.cause,
    )
    return given == kept.new
