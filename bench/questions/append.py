"""How many events a second can 64 producers make durable?

Each of 64 producers appends one event at a time and waits until it is durable before it appends the next: every
other time an observation (any version, no run), every other time an applied object (the version it expects,
run, trace, and its event before as the cause). Both name a body that the store has already.

The floor inserts the very rows that the log wrote, read back from it: the same table and indexes (the log's own
migration makes them), the same pragmas (the log's own function opens the file), 64 rows a commit with one
`executemany`, from one thread, from rows that lie ready in memory. It need not hash, know no names, refuse
nothing and tell nobody.

The events of the producers lie ready in memory too; that they are checked, encoded and hashed is measured.
Rounds alternate, so that both meet the same disk, and both files grow alike.
"""

import time
from collections.abc import Sequence
from contextlib import closing

import anyio

from bench.figures import Figure, Goal, figure
from bench.floors import EventTable, event_rows
from bench.producing import prepared
from bench.session import Session
from tidelog.storage.log import StreamAppend
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log

NAME = "append"
PRODUCERS = 64
ROUNDS = 9
APPENDS_PER_ROUND = 128
"""Of each producer."""
GOAL = Goal("ratio", "at least", 0.20)


def measure(session: Session) -> list[Figure]:
    """Events a second, of the log and of its floor."""
    return anyio.run(_measure, session)


async def _measure(session: Session) -> list[Figure]:
    directory = session.scratch / NAME
    appends = max(2, min(APPENDS_PER_ROUND, session.events // (4 * PRODUCERS)))
    count = appends * PRODUCERS
    measured, floor = [], []
    with closing(EventTable(directory / "floor" / "log.db")) as table:
        async with open_log(directory / "store") as log:
            producers = await prepared(log, PRODUCERS)
            rounds = session.rounds(ROUNDS) + 1  # the first one warms up
            with session.progress("append", rounds) as advance:
                for number in range(rounds):
                    work = [[producer.next() for _ in range(appends)] for producer in producers]
                    head = await log.head()
                    measured.append(count / await _append(log, work))
                    rows = event_rows(log.layout.log, head)
                    assert len(rows) == count
                    commits = [rows[first : first + PRODUCERS] for first in range(0, count, PRODUCERS)]
                    start = time.perf_counter()
                    table.insert_together(commits)
                    floor.append(count / (time.perf_counter() - start))
                    advance(number + 1)
    return [
        figure(
            NAME,
            f"durable appends, {PRODUCERS} producers, one event each",
            "events/s",
            measured[1:],
            floor_name=f"executemany of the same rows, {PRODUCERS} a commit",
            floor=floor[1:],
            goal=GOAL,
        )
    ]


async def _append(log: SqliteEventLog, work: Sequence[Sequence[StreamAppend]]) -> float:
    """Has every producer append its events; returns the seconds."""

    async def produce(appends: Sequence[StreamAppend]) -> None:
        for append in appends:
            await log.append(append.stream, append.expected, append.events)

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for appends in work:
            tasks.start_soon(produce, appends)
    return time.perf_counter() - start
