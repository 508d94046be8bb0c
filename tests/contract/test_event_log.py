"""What every event log promises, whatever keeps it; and what every reader of one does."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import anyio
import msgspec
import pytest

from tests.storage.samples import (
    PATIENCE_S,
    check_whole,
    event_id,
    everything,
    first,
    health,
    note,
    observed,
    positions,
    run_id,
    stream,
    texts,
    trace_id,
)
from tidelog.events.bodies import Body, BodyRef
from tidelog.events.codec import UnknownEvent
from tidelog.events.digest import Digest, digest_of, keyed_digest_of
from tidelog.events.envelope import ENVELOPE_BYTES_MAX, Actor, Proof
from tidelog.events.moment import Time
from tidelog.events.names import EventId, RunId, StreamName, TraceId
from tidelog.events.vocabulary import HealthChanged, Marked
from tidelog.storage.errors import (
    AppendError,
    AppendTooLargeError,
    BodyConflictError,
    BodyMissingError,
    BodyNotFoundError,
    CauseUnknownError,
    EventIdReusedError,
    EventTooLargeError,
    VersionConflictError,
)
from tidelog.storage.log import (
    ANY,
    APPEND_EVENTS_MAX,
    PAGE_EVENTS_MAX,
    EventLog,
    NewEvent,
    Query,
    Recorded,
    StreamAppend,
)
from tidelog.storage.log.sqlite_log import open_log, read_log


class Reads(Protocol):
    """The reading part of the port."""

    def read(self, query: Query) -> AsyncIterator[Recorded]: ...
    def subscribe(self, query: Query) -> AsyncIterator[Recorded]: ...
    async def head(self) -> int: ...
    async def body(self, digest: Digest) -> Body: ...


Opens: TypeAlias = Callable[[Path], AbstractAsyncContextManager[EventLog]]
OpensToRead: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Reads]]


class Implementation(NamedTuple):
    open: Opens
    read: OpensToRead


IMPLEMENTATIONS = {"sqlite": Implementation(open_log, read_log)}


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
async def log(implementation: Implementation, tmp_path: Path) -> AsyncIterator[EventLog]:
    async with implementation.open(tmp_path / "store") as log:
        yield log


@pytest.fixture(params=["the writer", "a reader of its own"])
async def reader(
    request: pytest.FixtureRequest, implementation: Implementation, log: EventLog, tmp_path: Path
) -> AsyncIterator[Reads]:
    if request.param == "the writer":
        yield log
    else:
        async with implementation.read(tmp_path / "store") as reader:
            yield reader


# Appending


async def test_append_gives_positions_and_versions_without_gaps(log: EventLog) -> None:
    head = await log.head()
    one = await log.append(stream(1), 0, [note("a"), note("b")])
    two = await log.append(stream(2), 0, [note("c")])
    three = await log.append(stream(1), 2, [note("d")])
    assert positions([*one, *two, *three]) == [head + 1, head + 2, head + 3, head + 4]
    assert [event.envelope.version for event in (*one, *two, *three)] == [1, 2, 1, 3]
    assert await log.head() == head + 4
    check_whole(await everything(log.read(Query())))


async def test_append_answers_with_what_is_read_back(log: EventLog) -> None:
    actor = Actor(kind="user", name="ada", proof=Proof(kind="authenticated", by="kubernetes"))
    cause = (await log.append(stream(), ANY, [note("cause")]))[0].envelope.id
    new = NewEvent(
        HealthChanged(health="Failed", reason="Zürich \U0001f30a \x00 \\ \"'", message="<&>"),
        actor=actor,
        id=event_id(),
        occurred=Time("2020-01-01T00:00:00.000001Z"),
        run=run_id(),
        trace=trace_id(),
        cause=cause,
    )
    (answered,) = await log.append(stream(), 1, [new])
    (read,) = await everything(log.read(Query(after=answered.envelope.position - 1)))
    assert read.raw == answered.raw
    assert (read.event, read.envelope.actor, read.envelope.id) == (new.event, actor, new.id)
    envelope = read.envelope
    assert (envelope.occurred, envelope.run, envelope.trace) == (new.occurred, new.run, new.trace)
    assert (envelope.cause, envelope.stream, envelope.type) == (cause, stream(), "HealthChanged")


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_append_at_another_version_is_a_conflict_that_tells_both(log: EventLog, expected: int) -> None:
    await log.append(stream(), 0, [note(), note()])
    head = await log.head()
    with pytest.raises(VersionConflictError) as caught:
        await log.append(stream(), expected, [note()])
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (stream(), expected, 2)
    assert isinstance(caught.value, AppendError)
    assert await log.head() == head
    assert (await log.append(stream(), 2, [note()]))[0].envelope.version == 3


async def test_any_version_is_expected_by_observations(log: EventLog) -> None:
    versions = [(await log.append(stream(), ANY, [note()]))[0].envelope.version for _ in range(3)]
    assert versions == [1, 2, 3]


async def test_of_two_appends_that_expect_one_version_one_is_made(log: EventLog) -> None:
    conflicts: list[VersionConflictError] = []
    made: list[Recorded] = []

    async def append(number: int) -> None:
        try:
            made.extend(await log.append(stream(), 0, [note(str(number))]))
        except VersionConflictError as conflict:
            conflicts.append(conflict)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(append, number)
    assert len(made) == 1
    assert [conflict.actual for conflict in conflicts] == [1] * 7


async def test_append_to_several_streams_is_one(log: EventLog) -> None:
    appends = [
        StreamAppend(stream(1), 0, [note("a"), note("b")]),
        StreamAppend(stream(2), ANY, [note("c")]),
        StreamAppend(stream(1), 2, [note("d")]),
    ]
    made = await log.append_all(appends)
    assert texts(made) == ["a", "b", "c", "d"]
    assert positions(made) == list(range(made[0].envelope.position, made[0].envelope.position + 4))
    assert [event.envelope.version for event in made] == [1, 2, 1, 3]


@pytest.mark.parametrize("conflicting", [0, 1, 2])
async def test_conflict_in_one_stream_keeps_all_streams_as_they_were(log: EventLog, conflicting: int) -> None:
    head = await log.head()
    body = Body.of(b"never kept")
    appends = [
        StreamAppend(stream(number), 7 if number == conflicting else 0, [note(), observed(body)]) for number in range(3)
    ]
    with pytest.raises(VersionConflictError):
        await log.append_all(appends, bodies=[body])
    assert await log.head() == head
    with pytest.raises(BodyNotFoundError):
        await log.body(body.ref.digest)
    made = await log.append_all([StreamAppend(stream(number), 0, [note()]) for number in range(3)])
    assert positions(made) == [head + 1, head + 2, head + 3]


async def test_version_expected_twice_in_one_append_counts_the_events_before(log: EventLog) -> None:
    with pytest.raises(VersionConflictError) as caught:
        await log.append_all([StreamAppend(stream(), 0, [note()]), StreamAppend(stream(), 0, [note()])])
    assert caught.value.actual == 1


async def test_times_are_given_by_the_log_and_never_decrease(log: EventLog) -> None:
    for _ in range(20):
        await log.append(stream(), ANY, [note(), note()])
    check_whole(await everything(log.read(Query())))


# Repeating


async def test_repeated_append_is_answered_as_the_first_time(log: EventLog) -> None:
    events = [note("a", id=event_id()), note("b", id=event_id())]
    first_answer = await log.append(stream(), 0, events)
    await log.append(stream(), ANY, [note("in between")])
    head = await log.head()
    # The stream has moved on, so by its version alone the append would be a conflict.
    assert await log.append(stream(), 0, events) == first_answer
    assert await log.head() == head


async def test_repeated_append_over_streams_with_bodies_is_answered_as_the_first_time(log: EventLog) -> None:
    body = Body.of(b"content")
    appends = [
        StreamAppend(stream(1), 0, [note("a", id=event_id())]),
        StreamAppend(stream(2), 0, [observed(body, id=event_id())]),
    ]
    first_answer = await log.append_all(appends, bodies=[body])
    assert await log.append_all(appends, bodies=[body]) == first_answer
    assert await log.append_all(appends) == first_answer


async def test_same_append_twice_at_once_is_made_once(log: EventLog) -> None:
    head = await log.head()
    events = [note("a", id=event_id())]
    answers: list[tuple[Recorded, ...]] = []

    async def append() -> None:
        answers.append(await log.append(stream(), 0, events))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(append)
    assert len(answers) == 6
    assert all(answer == answers[0] for answer in answers)
    assert await log.head() == head + 1


async def test_part_of_an_append_repeated_is_answered(log: EventLog) -> None:
    events = [note(text, id=event_id()) for text in "abc"]
    made = await log.append(stream(), 0, events)
    assert await log.append(stream(), 0, events[1:2]) == made[1:2]


OTHER_CONTENT = {
    "text": lambda new: msgspec.structs.replace(new, event=Marked(label="test", why="other")),
    "type": lambda new: msgspec.structs.replace(new, event=HealthChanged(health="Current")),
    "actor": lambda new: msgspec.structs.replace(
        new, actor=Actor(kind="user", name="eve", proof=Proof(kind="claimed"))
    ),
    "occurred": lambda new: msgspec.structs.replace(new, occurred=Time("2020-01-01T00:00:00.000000Z")),
    "run": lambda new: msgspec.structs.replace(new, run=run_id()),
    "trace": lambda new: msgspec.structs.replace(new, trace=trace_id()),
    "cause": lambda new: msgspec.structs.replace(new, cause=new.id),
}


@pytest.mark.parametrize("part", OTHER_CONTENT)
async def test_id_used_again_with_other_content_is_refused(log: EventLog, part: str) -> None:
    new = note("a", id=event_id())
    (made,) = await log.append(stream(), 0, [new])
    with pytest.raises(EventIdReusedError) as caught:
        await log.append(stream(), 1, [OTHER_CONTENT[part](new)])
    assert (caught.value.event_id, caught.value.position) == (new.id, made.envelope.position)
    assert await log.head() == made.envelope.position


async def test_id_used_again_in_another_stream_is_refused(log: EventLog) -> None:
    new = note("a", id=event_id())
    await log.append(stream(1), 0, [new])
    with pytest.raises(EventIdReusedError):
        await log.append(stream(2), 0, [new])


@pytest.mark.parametrize("new_first", [True, False])
async def test_id_used_again_beside_new_events_is_refused(log: EventLog, *, new_first: bool) -> None:
    known, new = note("a", id=event_id()), note("b", id=event_id())
    await log.append(stream(), 0, [known])
    head = await log.head()
    with pytest.raises(EventIdReusedError) as caught:
        await log.append(stream(), ANY, [new, known] if new_first else [known, new])
    assert caught.value.event_id == known.id
    assert await log.head() == head
    assert (await log.append(stream(), 1, [new]))[0].envelope.version == 2


# What is refused


async def test_append_without_events_is_refused(log: EventLog) -> None:
    for appends in ([], [StreamAppend(stream(), ANY, [])]):
        with pytest.raises(ValueError, match="without events"):
            await log.append_all(appends)


async def test_id_twice_in_one_append_is_refused(log: EventLog) -> None:
    one = event_id()
    with pytest.raises(ValueError, match="twice"):
        await log.append(stream(), ANY, [note("a", id=one), note("b", id=one)])


async def test_append_takes_as_many_events_as_it_says_and_no_more(log: EventLog) -> None:
    with pytest.raises(AppendTooLargeError):
        await log.append(stream(), 0, [note()] * (APPEND_EVENTS_MAX + 1))
    made = await log.append(stream(), 0, [note()] * APPEND_EVENTS_MAX)
    assert made[-1].envelope.version == APPEND_EVENTS_MAX


NOT_A_UUID7 = ("", "x", "0191d2c4-0000-4000-8000-000000000000", "0191D2C4-0000-7000-8000-000000000000")


@pytest.mark.parametrize("text", NOT_A_UUID7)
@pytest.mark.parametrize("field", ["id", "run", "trace", "cause"])
async def test_malformed_ids_are_refused(log: EventLog, field: str, text: str) -> None:
    new = {
        "id": note(id=EventId(text)),
        "run": note(run=RunId(text)),
        "trace": note(trace=TraceId(text)),
        "cause": note(cause=EventId(text)),
    }[field]
    with pytest.raises(ValueError, match="UUID"):
        await log.append(stream(), ANY, [new])


@pytest.mark.parametrize("name", ["", "east", "a/b/c/d", "a/b/c/d/e/f", "a//c/d/e", "a/b/c/d/ ", "a/b/c/d/\n"])
async def test_malformed_streams_are_refused(log: EventLog, name: str) -> None:
    with pytest.raises(ValueError, match="stream"):
        await log.append(StreamName(name), ANY, [note()])


async def test_malformed_versions_times_and_events_are_refused(log: EventLog) -> None:
    head = await log.head()
    with pytest.raises(ValueError, match="version"):
        await log.append(stream(), -1, [note()])
    with pytest.raises(ValueError, match="time"):
        await log.append(stream(), 0, [NewEvent(Marked(label=""), occurred=Time("2020-01-01"))])
    with pytest.raises(TypeError):
        await log.append(stream(), 0, [NewEvent(UnknownEvent(type="X", schema=1, data=msgspec.Raw(b"{}")))])
    with pytest.raises(TypeError):
        await log.append(stream(), 0, [NewEvent(Marked(label=7))])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"as NewEvent\(\.\.\.\), and not as a Marked"):
        await log.append(stream(), 0, [Marked(label="x")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="surrogate"):
        await log.append(stream(), 0, [note("\ud800")])
    assert await log.head() == head


async def test_event_of_the_largest_size_is_kept_and_one_byte_more_is_refused(log: EventLog) -> None:
    with pytest.raises(EventTooLargeError) as caught:
        await log.append(stream(), 0, [note("x" * ENVELOPE_BYTES_MAX)])
    fits = ENVELOPE_BYTES_MAX - (caught.value.size - ENVELOPE_BYTES_MAX)
    with pytest.raises(EventTooLargeError) as caught:
        await log.append(stream(), 0, [note("x" * (fits + 1))])
    assert caught.value.size == ENVELOPE_BYTES_MAX + 1
    with pytest.raises(EventTooLargeError):  # bytes count, not characters
        await log.append(stream(), 0, [note("x" * (fits - 1) + "é")])
    (made,) = await log.append(stream(), 0, [note("x" * fits)])
    # Room is left for positions of fifteen digits more than this one has.
    assert ENVELOPE_BYTES_MAX - 32 < len(made.raw) <= ENVELOPE_BYTES_MAX
    assert (await everything(log.read(Query(stream=stream()))))[0].raw == made.raw


async def test_event_of_ten_megabytes_is_refused(log: EventLog) -> None:
    head = await log.head()
    with pytest.raises(EventTooLargeError, match="body"):
        await log.append(stream(), 0, [note("x" * 10_000_000)])
    assert await log.head() == head


async def test_cause_must_be_in_the_log(log: EventLog) -> None:
    unknown = event_id()
    with pytest.raises(CauseUnknownError) as caught:
        await log.append(stream(), 0, [note(cause=unknown)])
    assert caught.value.cause == unknown


async def test_cause_may_stand_before_in_the_same_append_but_not_after(log: EventLog) -> None:
    one, two = event_id(), event_id()
    for refused in ([note(id=one, cause=two), note(id=two)], [note(id=one, cause=one)]):
        with pytest.raises(CauseUnknownError):
            await log.append(stream(), 0, refused)
    made = await log.append(stream(), 0, [note(id=one), note(id=two, cause=one)])
    assert made[1].envelope.cause == one
    assert positions(await everything(log.read(Query(cause=one)))) == positions(made[1:])


# Bodies


async def test_body_is_kept_with_the_event_that_names_it(log: EventLog, reader: Reads) -> None:
    for content in (b"", b"content", bytes(300_000)):
        body = Body.of(content)
        await log.append(stream(), ANY, [observed(body)], bodies=[body])
        assert await reader.body(body.ref.digest) == body


async def test_body_is_named_by_later_events_without_being_given(log: EventLog) -> None:
    body = Body.of(b"content")
    await log.append(stream(), 0, [observed(body)], bodies=[body])
    await log.append(stream(), 1, [observed(body)])
    assert (await log.append(stream(), 2, [observed(body)], bodies=[body, body]))[0].envelope.version == 3


async def test_event_that_names_a_missing_body_is_refused(log: EventLog) -> None:
    body, other = Body.of(b"content"), Body.of(b"other")
    with pytest.raises(BodyMissingError) as caught:
        await log.append(stream(), 0, [note(), observed(body)], bodies=[other])
    assert caught.value.digest == body.ref.digest
    with pytest.raises(BodyNotFoundError) as unknown:
        await log.body(other.ref.digest)
    assert unknown.value.digest == other.ref.digest


async def test_body_that_is_not_what_its_reference_says_is_refused(log: EventLog) -> None:
    head = await log.head()
    good = Body.of(b"content").ref
    wrong = (
        Body(ref=good, data=b"contents"),
        Body(ref=good, data=b"Content"),
        Body(ref=msgspec.structs.replace(good, size=6), data=b"content"),
        Body(ref=msgspec.structs.replace(good, digest=Digest("md5:0")), data=b"content"),
        Body(
            ref=BodyRef(digest=keyed_digest_of(b"p", b"key"), size=1, secret=True, stored=digest_of(b"cipher")),
            data=b"Cipher",
        ),
    )
    for body in wrong:
        with pytest.raises(ValueError, match="digest"):
            await log.append(stream(), 0, [note()], bodies=[body])
    assert await log.head() == head


def secret(ciphertext: bytes) -> Body:
    digest = keyed_digest_of(b"plain", b"key")
    return Body(ref=BodyRef(digest=digest, size=5, secret=True, stored=digest_of(ciphertext)), data=ciphertext)


async def test_secret_body_is_kept_as_its_ciphertext_and_never_under_another(log: EventLog) -> None:
    body = secret(b"cipher")
    await log.append(stream(), 0, [observed(body)], bodies=[body])
    assert await log.body(body.ref.digest) == body
    await log.append(stream(), 1, [observed(body)], bodies=[body])
    with pytest.raises(BodyConflictError):
        await log.append(stream(), 2, [note()], bodies=[secret(b"other")])
    with pytest.raises(BodyConflictError):
        await log.append(stream(), 2, [observed(secret(b"other"))])
    assert await log.body(body.ref.digest) == body


# Reading


class Filled(NamedTuple):
    events: list[Recorded]
    run: RunId
    trace: TraceId
    cause: EventId


async def fill(log: EventLog) -> Filled:
    """A log with something for every query."""
    run, trace, cause = run_id(), trace_id(), event_id()
    await log.append(stream(1), 0, [note("a", id=cause, run=run)])
    await log.append(stream(2), 0, [health("b"), note("c", run=run, trace=trace), note("d", trace=trace)])
    await log.append(stream(1), 1, [note("e", cause=cause), health("f"), note("g", cause=cause, run=run)])
    await log.append(stream(3), 0, [note("h", run=run_id(), trace=trace), note("i", cause=cause, trace=trace)])
    body = Body.of(b"content")
    await log.append(stream(2), ANY, [observed(body)], bodies=[body])
    return Filled(await everything(log.read(Query())), run, trace, cause)


def answers(query: Query, events: list[Recorded]) -> list[int]:
    """Which of `events` fulfil `query`, in the plainest words."""
    return [
        e.envelope.position
        for e in events
        if e.envelope.position > query.after
        and (query.until is None or e.envelope.position <= query.until)
        and query.stream in (None, e.envelope.stream)
        and (not query.types or e.envelope.type in query.types)
        and query.run in (None, e.envelope.run)
        and query.trace in (None, e.envelope.trace)
        and query.cause in (None, e.envelope.cause)
    ]


QUERIES: dict[str, Callable[[Filled], Query]] = {
    "all": lambda _: Query(),
    "after": lambda _: Query(after=4),
    "until": lambda _: Query(until=4),
    "until zero": lambda _: Query(until=0),
    "until beyond": lambda _: Query(until=10**6),
    "range": lambda _: Query(after=3, until=7),
    "one": lambda _: Query(after=3, until=4),
    "empty range": lambda _: Query(after=7, until=3),
    "after the end": lambda _: Query(after=10**6),
    "stream": lambda _: Query(stream=stream(1)),
    "stream and range": lambda _: Query(stream=stream(2), after=3, until=9),
    "unknown stream": lambda _: Query(stream=stream(99)),
    "type": lambda _: Query(types=("Marked",)),
    "types": lambda _: Query(types=("ObjectObserved", "HealthChanged")),
    "types and range": lambda _: Query(types=("Marked", "HealthChanged"), after=3, until=9),
    "same type twice": lambda _: Query(types=("HealthChanged", "HealthChanged")),
    "more types than a statement takes": lambda _: Query(types=(*(f"No{n}" for n in range(40_000)), "HealthChanged")),
    "unknown type": lambda _: Query(types=("Nothing",)),
    "unknown type and one": lambda _: Query(types=("Nothing", "HealthChanged")),
    "stream and types": lambda _: Query(stream=stream(2), types=("Marked", "HealthChanged")),
    "run": lambda filled: Query(run=filled.run),
    "run and stream": lambda filled: Query(run=filled.run, stream=stream(1)),
    "run and types": lambda filled: Query(run=filled.run, types=("Marked",), after=2),
    "unknown run": lambda _: Query(run=run_id()),
    "trace": lambda filled: Query(trace=filled.trace),
    "run and trace": lambda filled: Query(run=filled.run, trace=filled.trace),
    "trace and range": lambda filled: Query(trace=filled.trace, after=4, until=9),
    "unknown trace": lambda _: Query(trace=trace_id()),
    "cause": lambda filled: Query(cause=filled.cause),
    "cause and stream": lambda filled: Query(cause=filled.cause, stream=stream(1)),
    "cause, run and types": lambda filled: Query(cause=filled.cause, run=filled.run, types=("Marked",)),
    "cause and trace": lambda filled: Query(cause=filled.cause, trace=filled.trace),
    "unknown cause": lambda _: Query(cause=event_id()),
}
NOTHING = {name for name in QUERIES if "unknown" in name and "and one" not in name} | {
    "until zero",
    "empty range",
    "after the end",
}


@pytest.mark.parametrize("name", QUERIES)
async def test_read_gives_what_fulfils_the_query_in_order(log: EventLog, reader: Reads, name: str) -> None:
    filled = await fill(log)
    query = QUERIES[name](filled)
    wanted = answers(query, filled.events)
    assert bool(wanted) == (name not in NOTHING), "the query asks for nothing"
    assert positions(await everything(reader.read(query))) == wanted


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - NOTHING))
async def test_subscription_gives_what_read_gives(log: EventLog, reader: Reads, name: str) -> None:
    filled = await fill(log)
    query = QUERIES[name](filled)
    wanted = answers(query, filled.events)
    assert positions(await first(len(wanted), reader.subscribe(query))) == wanted


async def test_read_gives_many_pages_without_gap_or_duplicate(log: EventLog, reader: Reads) -> None:
    for number in range(3):
        count = PAGE_EVENTS_MAX if number < 2 else 1
        await log.append(stream(number), 0, [(note if place % 2 else health)(str(place)) for place in range(count)])
    head = await log.head()
    assert positions(await everything(reader.read(Query()))) == list(range(1, head + 1))
    both = positions(await everything(reader.read(Query(types=("Marked", "HealthChanged")))))
    assert len(both) == 2 * PAGE_EVENTS_MAX + 1
    assert both == sorted(set(both))
    one = await everything(reader.read(Query(types=("Marked",))))
    assert len(one) == PAGE_EVENTS_MAX
    assert len(await everything(reader.read(Query(stream=stream(1))))) == PAGE_EVENTS_MAX


async def test_read_ends_where_the_log_ended_when_it_began(log: EventLog, reader: Reads) -> None:
    await log.append(stream(), 0, [note("before")])
    found = []
    async for recorded in reader.read(Query(stream=stream())):
        found.append(recorded)
        await log.append(stream(), ANY, [note("after")])
    assert texts(found) == ["before"]


async def test_head_is_the_position_of_the_last_event(log: EventLog, reader: Reads) -> None:
    (made,) = await log.append(stream(), 0, [note()])
    assert await reader.head() == await log.head() == made.envelope.position


async def test_body_that_nobody_gave_is_not_found(log: EventLog, reader: Reads) -> None:
    with pytest.raises(BodyNotFoundError):
        await reader.body(digest_of(b"nobody"))


# Subscribing


async def test_subscription_catches_up_and_then_follows(log: EventLog, reader: Reads) -> None:
    await log.append(stream(), 0, [note("a"), note("b")])
    events = reader.subscribe(Query(stream=stream()))
    assert texts(await first(2, events)) == ["a", "b"]
    for version, text in enumerate("cde", start=2):
        await log.append(stream(), version, [note(text)])
        assert texts(await first(1, events)) == [text]


async def test_subscription_from_the_middle_gives_only_what_follows(log: EventLog, reader: Reads) -> None:
    made = await log.append(stream(), 0, [note("a"), note("b"), note("c")])
    events = reader.subscribe(Query(after=made[1].envelope.position))
    assert texts(await first(1, events)) == ["c"]


async def test_subscription_waits_for_what_it_asks_for(log: EventLog, reader: Reads) -> None:
    found: list[Recorded] = []

    async def follow() -> None:
        found.extend(await first(2, reader.subscribe(Query(types=("HealthChanged",)))))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for number in range(10):
                await log.append(stream(), ANY, [note(str(number))])
            await log.append(stream(), ANY, [health("wanted")])
            await log.append(stream(), ANY, [note("not wanted"), health("wanted too")])
    assert texts(found) == ["wanted", "wanted too"]


async def test_subscription_from_beyond_the_end_waits_until_the_log_has_come_so_far(
    log: EventLog, reader: Reads
) -> None:
    beyond = await log.head() + 3
    found: list[Recorded] = []

    async def follow() -> None:
        found.extend(await first(2, reader.subscribe(Query(after=beyond))))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for number in range(5):
                await log.append(stream(), ANY, [note(str(number))])
    assert positions(found) == [beyond + 1, beyond + 2]


@pytest.mark.parametrize("until", [0, 2, 4])
async def test_subscription_with_an_end_ends_there(log: EventLog, reader: Reads, until: int) -> None:
    found: list[Recorded] = []

    async def follow() -> None:
        found.extend(await everything(reader.subscribe(Query(until=until))))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for _ in range(5):
                await log.append(stream(), ANY, [note()])
    assert positions(found) == list(range(1, until + 1))


async def test_subscriptions_beside_appends_see_every_event_once(log: EventLog, reader: Reads) -> None:
    """Each begins at another moment of the writing, from another position."""
    rounds, readers = 40, 6
    total = await log.head() + rounds * 3
    found: dict[int, list[int]] = {}

    async def follow(after: int) -> None:
        found[after] = positions(await first(total - after, reader.subscribe(Query(after=after))))

    async def produce(number: int) -> None:
        for place in range(rounds):
            await log.append(stream(number), place, [note()])

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(produce, number)
            for number in range(readers):
                tasks.start_soon(follow, number)
                await log.append(stream(9 + number), ANY, [note()])
    assert found == {after: list(range(after + 1, total + 1)) for after in range(readers)}
