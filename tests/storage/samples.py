"""Events, ids and streams for the tests of the log."""

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread

from tidelog.events.bodies import Body
from tidelog.events.merkle import TreeBuilder, leaf_hash
from tidelog.events.names import EventId, RunId, StreamName, TraceId, uuid7
from tidelog.events.vocabulary import HealthChanged, Marked, ObjectObserved
from tidelog.storage.log import ANY, NewEvent, Recorded, StreamAppend
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.reader import LogReader

PATIENCE_S = 15
"""How long a test waits for what must come."""


def stream(number: int = 0) -> StreamName:
    return StreamName(f"east/apps/Deployment/shop/web-{number}")


def event_id(random: Random | None = None) -> EventId:
    """A new id; the same ones again from a `Random` of the same seed."""
    return EventId(uuid7(random.getrandbits(40), random.randbytes(10))) if random else new_id()


def run_id() -> RunId:
    return RunId(new_id())


def trace_id() -> TraceId:
    return TraceId(new_id())


def note(
    text: str = "",
    *,
    id: EventId | None = None,
    run: RunId | None = None,
    trace: TraceId | None = None,
    cause: EventId | None = None,
) -> NewEvent:
    """An event that holds a text."""
    return NewEvent(Marked(label="test", why=text), id=id, run=run, trace=trace, cause=cause)


def health(text: str = "", *, id: EventId | None = None) -> NewEvent:
    """An event of another type that holds a text."""
    return NewEvent(HealthChanged(health="Current", message=text), id=id)


def observed(body: Body, *, id: EventId | None = None) -> NewEvent:
    """An event that names a body."""
    return NewEvent(ObjectObserved(uid="u", resource_version="1", state=body.ref), id=id)


def text_of(recorded: Recorded) -> str:
    """What `note` or `health` was given."""
    event = recorded.event
    if isinstance(event, Marked):
        return event.why
    assert isinstance(event, HealthChanged)
    return event.message


def positions(events: Iterable[Recorded]) -> list[int]:
    return [recorded.envelope.position for recorded in events]


def texts(events: Iterable[Recorded]) -> list[str]:
    """The texts of those events that a test made."""
    return [text_of(recorded) for recorded in events if recorded.envelope.type in ("Marked", "HealthChanged")]


async def check_tree(store: Path, events: Iterable[Recorded]) -> None:
    """The tree that is stored is the one over the events."""

    def stored() -> bytes:
        reader = LogReader(store / "log.db")
        try:
            return reader.tree().root()
        finally:
            reader.close()

    assert await anyio.to_thread.run_sync(stored) == root_over(events)


async def everything(events: AsyncIterator[Recorded]) -> list[Recorded]:
    with anyio.fail_after(PATIENCE_S):
        return [recorded async for recorded in events]


async def first(count: int, events: AsyncIterator[Recorded]) -> list[Recorded]:
    """The first `count` of events that may never end."""
    found: list[Recorded] = []
    with anyio.fail_after(PATIENCE_S):
        while len(found) < count:
            found.append(await anext(events))
    return found


def root_over(events: Iterable[Recorded]) -> bytes:
    """The root of the Merkle tree, from the envelopes alone."""
    tree = TreeBuilder()
    for recorded in events:
        tree.add(leaf_hash(recorded.raw))
    return tree.root()


def check_whole(events: Sequence[Recorded]) -> None:
    """Of a whole log: no position is missing, versions have no gaps, ids are unique, times never decrease."""
    assert positions(events) == list(range(1, len(events) + 1))
    versions: dict[StreamName, int] = {}
    for recorded in events:
        envelope = recorded.envelope
        versions[envelope.stream] = versions.get(envelope.stream, 0) + 1
        assert envelope.version == versions[envelope.stream], envelope
    assert len({recorded.envelope.id for recorded in events}) == len(events)
    times = [recorded.envelope.time for recorded in events]
    assert times == sorted(times)


def appends_of(event: EventId, streams: int) -> tuple[list[StreamAppend], list[Body]]:
    """An append over some streams that follows from one id, in one of four cases with a body."""
    body = Body.of(event.encode() * 500)
    ids = [EventId(event[:-1] + digit) for digit in "0123"]
    appends = [
        StreamAppend(stream((int(event[-3], 16) + number) % 6), ANY, [note(event, id=ids[number])])
        for number in range(streams)
    ]
    if int(event[-4], 16) % 4:
        return appends, []
    return [*appends, StreamAppend(stream(7), ANY, [observed(body, id=ids[3])])], [body]
