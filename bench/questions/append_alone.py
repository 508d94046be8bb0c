"""How long does one durable append take, alone?

One producer appends one event, as in `append`, and nobody else does anything. The floor is one insert of the
row that was just written, in a commit of its own, over the same table, indexes and pragmas: one statement, which
SQLite fsyncs, on the thread that asks. Appends and inserts take turns, one and one, so that both meet the same
disk; the figure is that of the medians.

The log's append hands its event to the thread that commits and its answer back, so two thread switches are
measured with it.
"""

import statistics
import time
from contextlib import closing

import anyio

from bench.figures import Figure, Goal, figure
from bench.floors import EventTable, event_rows
from bench.producing import prepared
from bench.session import Session
from tidelog.storage.log.sqlite_log import open_log

NAME = "append-alone"
GROUPS = 36
"""Enough to outlast a bad second of the host, in which what waits for the processor takes longer by half."""
APPENDS_PER_GROUP = 100
GOAL = Goal("ratio", "at most", 2.0)


def measure(session: Session) -> list[Figure]:
    """The median latency of appends, and of inserts beside them, of several groups."""
    return anyio.run(_measure, session)


async def _measure(session: Session) -> list[Figure]:
    directory = session.scratch / NAME
    size = max(10, min(APPENDS_PER_GROUP, session.events // 100))
    measured, floor = [], []
    with closing(EventTable(directory / "floor" / "log.db")) as table:
        async with open_log(directory / "store") as log:
            (producer,) = await prepared(log, 1)
            groups = session.rounds(GROUPS) + 1  # the first one warms up
            with session.progress("append alone", groups) as advance:
                for group in range(groups):
                    appends, inserts = [], []
                    for _ in range(size):
                        work = producer.next()
                        head = await log.head()
                        start = time.perf_counter()
                        await log.append(work.stream, work.expected, work.events)
                        appends.append(time.perf_counter() - start)
                        (row,) = event_rows(log.layout.log, head)
                        start = time.perf_counter()
                        table.insert_alone(row)
                        inserts.append(time.perf_counter() - start)
                    measured.append(statistics.median(appends) * 1_000)
                    floor.append(statistics.median(inserts) * 1_000)
                    advance(group + 1)
    return [
        figure(
            NAME,
            f"one durable append, alone, median of {size}",
            "ms",
            measured[1:],
            floor_name="one fsynced insert of the same row",
            floor=floor[1:],
            goal=GOAL,
        )
    ]
