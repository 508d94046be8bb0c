"""How long does it take to see one thing as it was at a random position of the log?

`Views.row` of a target in `desired` and in `inventory`, of an object in `actual`, and `Views.object_at` of an
object with a random outside time, each of a random key at a random position. Files are warm (all have been read
once, and each kind of question was asked before); every question opens its own connections, as it does always,
and the hop to a worker thread counts.

The floor is what would be needed without snapshots and indexes: a full fold of the log, into `desired` and
`inventory`, in memory. It runs in slices, and some questions of each kind are asked after each slice, so that
both meet the same machine. At the end of a slice the fold stands at a known position: some of the answers are
held against it.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from random import Random
from typing import TypeAlias

import anyio

from bench.big_log import BigLog
from bench.figures import Figure, Goal, figure
from bench.folding import TargetFold, slices
from bench.session import Session
from bench.workload import SEED, SPAN, START
from tidelog.events.moment import time_of
from tidelog.events.projections import ACTUAL, DESIRED, INVENTORY
from tidelog.storage.log.sqlite_log import read_log
from tidelog.storage.projections.views import Views, read_views

NAME = "as-of"
SLICES = 20
QUESTIONS_PER_SLICE = 12
GOAL = Goal("ratio", "at most", 1 / 200)

Ask: TypeAlias = Callable[[int], Awaitable[object]]
"""Asks a question of a random key at a position."""


def measure(session: Session) -> list[Figure]:
    """Milliseconds of each kind of question, as a part of the full fold's."""
    log = session.log
    with session.progress("make the projections", log.events) as advance:
        log.make_views(advance)
    log.warm()
    return anyio.run(_measure, session, log)


async def _measure(session: Session, log: BigLog) -> list[Figure]:
    random = Random(SEED)
    fold = TargetFold()
    full = 0.0
    async with read_log(log.layout.directory) as reader:
        views = read_views(reader)
        kinds = _kinds(log, views, random)
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for ask in kinds.values():
            await ask(log.events // 2)
        with closing(log.reader()) as pages, session.progress("as of", log.events) as advance:
            for after, until in slices(log.events, session.rounds(SLICES)):
                start = time.perf_counter()
                fold.run(pages, after, until)
                full += time.perf_counter() - start
                await _check(log, views, fold, until, random)
                for name, ask in kinds.items():
                    for _ in range(QUESTIONS_PER_SLICE):
                        position = random.randint(1, log.events)
                        start = time.perf_counter()
                        await ask(position)
                        seconds[name].append(time.perf_counter() - start)
                advance(until)
    return [
        figure(
            NAME,
            f"{name} as of a random position",
            "ms",
            [value * 1_000 for value in values],
            floor_name=f"full fold of {log.events:,} events",
            floor=[full * 1_000] * len(values),
            goal=GOAL,
        )
        for name, values in seconds.items()
    ]


def _kinds(log: BigLog, views: Views, random: Random) -> dict[str, Ask]:
    targets, objects = log.fleet.target_streams, log.fleet.object_streams
    return {
        "a target in desired": lambda at: views.row(DESIRED, random.choice(targets), at=at),
        "a target in inventory": lambda at: views.row(INVENTORY, random.choice(targets), at=at),
        "an object in actual": lambda at: views.row(ACTUAL, random.choice(objects), at=at),
        "an object at an outside time,": lambda at: views.object_at(
            random.choice(objects), time_of(START + SPAN * random.random()), at=at
        ),
    }


async def _check(log: BigLog, views: Views, fold: TargetFold, position: int, random: Random) -> None:
    """Whether the answers are those of the fold."""
    for target in random.sample(log.fleet.target_streams, 3):
        assert await views.row(DESIRED, target, at=position) == fold.desired.get(target)
        assert await views.row(INVENTORY, target, at=position) == fold.inventory.get(target)
