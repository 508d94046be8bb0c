"""What the engine knows now: the rows that decisions are made from, and the one door into the log.

Every event that the engine records goes through `Memory.append`, which folds it as soon as it is durable and
then tells the listeners. So a decision is never made from rows that lag behind what was recorded, and no event
is waited for by polling. After a start the rows come from the projections' file.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import anyio

from tidelog.engine.plan.model import Plan
from tidelog.events.bodies import Body
from tidelog.events.envelope import ENGINE, Actor
from tidelog.events.names import EventId, Revision, RunId, StreamName, TraceId
from tidelog.events.projection import Fold, Projection, Row, Rows
from tidelog.events.projections import (
    ACTUAL,
    CONDITIONS,
    DESIRED,
    INVENTORY,
    RELEASES,
    Actual,
    Desired,
    Inventory,
    ReleaseRow,
    Standing,
)
from tidelog.events.typed import decoder
from tidelog.events.vocabulary import Event, Planned, RevisionFetched
from tidelog.storage import ANY, NewEvent, Query, Recorded, StreamAppend
from tidelog.storage.log import ExpectedVersion
from tidelog.storage.log.sqlite_log import SqliteEventLog, SqliteLogReader
from tidelog.storage.projections.views import Views

Listener: TypeAlias = Callable[[Recorded], None]
"""Called with each event, in the order of the log, once it is durable and folded. Must neither block nor raise."""


class Origin:
    """Who and what stands behind the events of one run: written into each envelope."""

    __slots__ = ("actor", "cause", "run", "trace")

    def __init__(
        self,
        *,
        actor: Actor = ENGINE,
        run: RunId | None = None,
        trace: TraceId | None = None,
        cause: EventId | None = None,
    ) -> None:
        self.actor = actor
        self.run = run
        self.trace = trace
        self.cause = cause


class Facts:
    """The rows of `conditions`, `desired`, `inventory`, `actual` and `releases`, as they are at one position."""

    def __init__(self, log: SqliteLogReader) -> None:
        self.log = log
        self.conditions: Rows[Standing] = Rows()
        self.desired: Rows[Desired] = Rows()
        self.inventory: Rows[Inventory] = Rows()
        self.actual: Rows[Actual] = Rows()
        self.releases: Rows[ReleaseRow] = Rows()
        self._position = 0

    async def load(self, views: Views) -> None:
        """Takes the rows as they are at the log's head; what is appended meanwhile is not in them."""
        self._position = await self.log.head()
        await _load(views, CONDITIONS, self.conditions, self._position)
        await _load(views, DESIRED, self.desired, self._position)
        await _load(views, INVENTORY, self.inventory, self._position)
        await _load(views, ACTUAL, self.actual, self._position)
        await _load(views, RELEASES, self.releases, self._position)

    @property
    def position(self) -> int:
        """The position that is folded."""
        return self._position


class Memory(Facts):
    """The same rows, kept up with every append."""

    log: SqliteEventLog

    def __init__(self, log: SqliteEventLog) -> None:
        super().__init__(log)
        self._fold = Fold()
        self._fold.add(CONDITIONS, self.conditions)
        self._fold.add(DESIRED, self.desired)
        self._fold.add(INVENTORY, self.inventory)
        self._fold.add(ACTUAL, self.actual)
        self._fold.add(RELEASES, self.releases)
        self._versions: dict[StreamName, int] = {}
        self._early: dict[int, Recorded] = {}
        self._listeners: list[Listener] = []

    def version_of(self, stream: StreamName) -> ExpectedVersion:
        """The version of the last event in a stream, if it was recorded since the start."""
        return self._versions.get(stream, ANY)

    def listen(self, listener: Listener) -> None:
        """Has `listener` called with every event from now on."""
        self._listeners.append(listener)

    async def append(
        self,
        stream: StreamName,
        events: Sequence[Event],
        origin: Origin,
        *,
        bodies: Sequence[Body] = (),
        expected: ExpectedVersion = ANY,
    ) -> tuple[Recorded, ...]:
        """Records events in one stream, each caused by the one before; see `EventLog.append_all` for errors.

        An append that was begun is seen through even if the caller is cancelled: what is durable is folded.
        """
        new = [
            NewEvent(event, actor=origin.actor, run=origin.run, trace=origin.trace, cause=origin.cause)
            for event in events
        ]
        return await self.append_all([StreamAppend(stream, expected, new)], bodies=bodies)

    async def append_all(self, appends: Sequence[StreamAppend], *, bodies: Sequence[Body] = ()) -> tuple[Recorded, ...]:
        """Records events in several streams, all or none; they are folded when this returns."""
        with anyio.CancelScope(shield=True):
            recorded = await self.log.append_all(appends, bodies=bodies)
            self._take(recorded)
            if recorded and self._position < recorded[-1].envelope.position:
                await self.read_missing()  # of an earlier commit, whose appender has not been answered yet
        return recorded

    async def read_missing(self) -> None:
        """Folds what is durable and not folded yet, whoever recorded it."""
        with anyio.CancelScope(shield=True):
            async for recorded in self.log.read(Query(after=self._position)):
                self._take([recorded])

    def _take(self, recorded: Sequence[Recorded]) -> None:
        """Takes what is durable, and may have come another way before."""
        for one in recorded:
            if one.envelope.position > self._position:
                self._early[one.envelope.position] = one
        self._settle()

    def _settle(self) -> None:
        """Folds what has come, in the order of the log: of two commits, the later may be answered first."""
        while (recorded := self._early.pop(self._position + 1, None)) is not None:
            self._fold.fold([recorded.raw])
            self._position += 1
            self._versions[recorded.envelope.stream] = recorded.envelope.version
            for rows in (self.conditions, self.desired, self.inventory, self.actual, self.releases):
                rows.take_changed()
            for listener in self._listeners:
                listener(recorded)


def newest_of(facts: Facts, source: StreamName) -> tuple[Revision, str] | None:
    """The newest revision of a source, with its tree; None where it has none that could be built."""
    row = facts.desired.get(source)
    return None if row is None or row.revision is None or row.tree is None else (row.revision, row.tree)


async def plan_of(log: SqliteLogReader, planned: Planned) -> Plan:
    """A plan, as it was recorded."""
    return decoder(Plan)((await log.body(planned.waves.digest)).data)


async def find_fetched(log: SqliteLogReader, source: StreamName, revision: Revision) -> RevisionFetched | None:
    """The event with which a source's revision was fetched last; None where the log has none."""
    found = None
    async for recorded in log.read(Query(stream=source, types=(RevisionFetched.__name__,))):
        if isinstance(recorded.event, RevisionFetched) and recorded.event.revision == revision:
            found = recorded.event
    return found


async def _load(views: Views, projection: Projection[Row], rows: Rows[Row], position: int) -> None:
    for key, row in (await views.rows(projection, at=position)).items():
        rows.put(key, row)
    rows.take_changed()
