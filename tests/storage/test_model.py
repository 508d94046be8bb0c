"""Random appends, crashes, reopenings and reads, against the model."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.storage.model import Model, agrees
from tests.storage.samples import check_tree, check_whole, everything, first, health, note, observed, stream
from tidelog.events.bodies import Body
from tidelog.events.names import EventId, RunId, TraceId, uuid7
from tidelog.storage.errors import AppendError, BodyNotFoundError
from tidelog.storage.log import ANY, ExpectedVersion, NewEvent, Query, Recorded, StreamAppend
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log, read_log

STREAMS = 3
IDS = [EventId(uuid7(number, bytes([number] * 10))) for number in range(12)]
"""Few, so that they come again."""
RUNS = [RunId(uuid7(number, b"run" * 4)) for number in range(2)]
TRACES = [TraceId(uuid7(number, b"trace" * 2)) for number in range(2)]
BODIES = [Body.of(bytes([number]) * 50) for number in range(3)]
TYPES = ["Marked", "HealthChanged", "ObjectObserved", "LogCreated", "LogRestored", "Nothing"]

some_body = st.sampled_from(BODIES)
new_events = st.one_of(
    st.builds(
        lambda text, run, trace, cause: note(text, run=run, trace=trace, cause=cause),
        st.sampled_from("ab"),
        st.none() | st.sampled_from(RUNS),
        st.none() | st.sampled_from(TRACES),
        st.none() | st.none() | st.sampled_from(IDS),
    ),
    st.builds(health, st.sampled_from("ab")),
    st.builds(observed, some_body),
)
parts = st.tuples(
    st.integers(0, STREAMS - 1),
    st.sampled_from(["any", "right", "right", "wrong"]),
    st.lists(st.tuples(new_events, st.none() | st.none() | st.sampled_from(IDS)), min_size=1, max_size=3),
)
appends = st.tuples(st.lists(parts, min_size=1, max_size=3), st.lists(some_body, max_size=2))
queries = st.builds(
    Query,
    after=st.integers(0, 30),
    until=st.none() | st.integers(0, 30),
    stream=st.none() | st.builds(stream, st.integers(0, STREAMS)),
    types=st.lists(st.sampled_from(TYPES), max_size=3).map(tuple),
    run=st.none() | st.none() | st.sampled_from(RUNS),
    trace=st.none() | st.none() | st.sampled_from(TRACES),
    cause=st.none() | st.none() | st.sampled_from(IDS),
)
Part = tuple[int, str, list[tuple[NewEvent, EventId | None]]]
Append = tuple[list[Part], list[Body]]
Submitted = tuple[list[StreamAppend], list[Body]]


async def submit(log: SqliteEventLog, submitted: list[Submitted]) -> list[tuple[Recorded, ...] | AppendError]:
    """Appends at once; the log takes them in their order."""
    outcomes: dict[int, tuple[Recorded, ...] | AppendError] = {}

    async def one(number: int) -> None:
        try:
            outcomes[number] = await log.append_all(submitted[number][0], bodies=submitted[number][1])
        except AppendError as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        for number in range(len(submitted)):
            tasks.start_soon(one, number)
    return [outcomes[number] for number in range(len(submitted))]


async def read_by_another(store: Path, query: Query) -> list[Recorded]:
    async with read_log(store) as reader:
        return await everything(reader.read(query))


class LogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.end = ExitStack()
        directory = self.end.enter_context(tempfile.TemporaryDirectory())
        self.directory = Path(directory)
        self.portal: BlockingPortal = self.end.enter_context(start_blocking_portal())
        self.model = Model()
        self.submitted: list[Submitted] = []
        self.ids = self.stores = 0
        self.store = self.directory / "0"
        self.log: SqliteEventLog
        self.opened: AbstractContextManager[SqliteEventLog]

    def open(self) -> None:
        self.opened = self.portal.wrap_async_context_manager(open_log(self.store))
        self.log = self.opened.__enter__()

    def close(self) -> None:
        self.opened.__exit__(None, None, None)

    @initialize()
    def create(self) -> None:
        self.open()
        self.learn()

    def learn(self) -> None:
        """Takes in what the log wrote by itself on being opened."""
        for recorded in self.read(self.log.read(Query(after=len(self.model.events)))):
            assert recorded.envelope.type in ("LogCreated", "LogRestored")
            self.model.learn(recorded)

    def read(self, events: AsyncIterator[Recorded]) -> list[Recorded]:
        return self.portal.call(everything, events)

    def new_id(self) -> EventId:
        self.ids += 1
        return EventId(uuid7(1_000 + self.ids, bytes(10)))

    def build(self, append: Append) -> Submitted:
        made: list[StreamAppend] = []
        used: set[EventId] = set()
        for number, expected, events in append[0]:
            version = self.model.version(stream(number))
            versions: dict[str, ExpectedVersion] = {"any": ANY, "right": version, "wrong": version + 2}
            new: list[NewEvent] = []
            for event, known in events:
                id = known if known and known not in used else self.new_id()
                used.add(id)
                new.append(msgspec.structs.replace(event, id=id))
            made.append(StreamAppend(stream(number), versions[expected], new))
        return made, append[1]

    def check(self, submitted: list[Submitted]) -> None:
        outcomes = self.portal.call(submit, self.log, submitted)
        for (parts, bodies), outcome in zip(submitted, outcomes, strict=True):
            wanted = self.model.append(parts, {body.ref.digest: body.data for body in bodies})
            if isinstance(wanted, list):
                assert isinstance(outcome, tuple), outcome
                assert all(agrees(*pair) for pair in zip(wanted, outcome, strict=True))
                self.submitted.append((parts, bodies))
            else:
                assert type(outcome) is wanted

    @rule(append=appends)
    def append(self, append: Append) -> None:
        self.check([self.build(append)])

    @rule(several=st.lists(appends, min_size=2, max_size=4))
    def append_at_once(self, several: list[Append]) -> None:
        self.check([self.build(append) for append in several])

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), part=st.booleans())
    def repeat(self, data: st.DataObject, *, part: bool) -> None:
        parts, bodies = data.draw(st.sampled_from(self.submitted))
        self.check([(parts[:1] if part else parts, bodies)])

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def use_an_id_again(self, data: st.DataObject) -> None:
        parts, bodies = data.draw(st.sampled_from(self.submitted))
        event = msgspec.structs.replace(parts[0].events[0], event=note("other").event)
        self.check([([StreamAppend(parts[0].stream, ANY, [event])], bodies)])

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule(lose_key=st.booleans())
    def crash(self, *, lose_key: bool) -> None:
        """The files as they are, without having been closed, are all that is left."""
        self.stores += 1
        copy = self.directory / str(self.stores)
        shutil.copytree(self.store, copy)
        self.close()
        self.store = copy
        if lose_key:
            (copy / "log.key").unlink()
        self.open()
        before = len(self.model.events)
        self.learn()
        assert len(self.model.events) - before == lose_key

    @rule(query=queries)
    def read_query(self, query: Query) -> None:
        found = self.read(self.log.read(query))
        assert [recorded.envelope.position for recorded in found] == self.model.read(query)

    @rule(query=queries)
    def read_in_another_place(self, query: Query) -> None:
        found = self.portal.call(read_by_another, self.store, query)
        assert [recorded.envelope.position for recorded in found] == self.model.read(query)

    @rule(query=queries)
    def subscribe(self, query: Query) -> None:
        wanted = self.model.read(query)
        found = self.portal.call(first, len(wanted), self.log.subscribe(query))
        assert [recorded.envelope.position for recorded in found] == wanted

    @rule(body=some_body)
    def read_body(self, body: Body) -> None:
        if body.ref.digest in self.model.bodies:
            assert self.portal.call(self.log.body, body.ref.digest) == body
        else:
            with pytest.raises(BodyNotFoundError):
                self.portal.call(self.log.body, body.ref.digest)

    @invariant()
    def head_is_as_modelled(self) -> None:
        if hasattr(self, "log"):
            assert self.portal.call(self.log.head) == len(self.model.events)

    def teardown(self) -> None:
        try:
            if hasattr(self, "log"):
                try:
                    self.check_all()
                finally:
                    self.close()
        finally:
            self.end.close()

    def check_all(self) -> None:
        events = self.read(self.log.read(Query()))
        check_whole(events)
        assert all(agrees(*pair) for pair in zip(self.model.events, events, strict=True))
        self.portal.call(check_tree, self.store, events)


SOAK = bool(os.environ.get("TIDELOG_SOAK"))
TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(
    max_examples=1_000 if SOAK else 50,
    stateful_step_count=100 if SOAK else 25,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLogMachine = pytest.mark.slow(TestLogMachine)
