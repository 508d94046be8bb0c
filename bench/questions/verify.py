"""How many events a second does a verification take in?

The whole of `verify_store`, with as many processes as it takes by itself: hashes, columns, order, bodies, the
tree, every checkpoint, and SQLite's own check of the file. The floor reads every envelope through one cursor of
SQLite, row by row, and hashes it with SHA-256, in one process.

The first row is the log alone. The others have no goal: with the projections' file, of which the pages and every
row's checksum are verified too (the count stays that of the log's events); and the log alone in one process, to
be held against a floor that has but one.

Rounds alternate. That nothing is found and all is seen is checked.
"""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext

import anyio

from bench.big_log import BigLog
from bench.figures import Figure, Goal, figure
from bench.floors import hash_all
from bench.session import Session
from tidelog.storage.connection import LOG, connect_to_read
from tidelog.storage.proofs.verify import verify_store

NAME = "verify"
ROUNDS = 3
GOAL = Goal("ratio", "at least", 0.40)
FLOOR = "SHA-256 of each envelope, row by row"


def measure(session: Session) -> list[Figure]:
    """Events a second of three verifications, each beside the floor."""
    log = session.log
    with session.progress("make the projections", log.events) as advance:
        log.make_views(advance)
    works: list[tuple[str, Goal | None, Callable[[], float]]] = [
        ("verification of the log", GOAL, lambda: _verify(log)),
        ("verification of the log and its projections", None, lambda: _verify(log, views=True)),
        ("verification of the log, in one process", None, lambda: _verify(log, workers=1)),
    ]
    measured: list[list[float]] = [[] for _ in works]
    floor: list[float] = []
    rounds = session.rounds(ROUNDS)
    with session.progress("verify", rounds * (len(works) + 1)) as advance:
        for number in range(rounds):
            floor.append(_floor(log))
            advance(number * (len(works) + 1) + 1)
            for index, (_, _, work) in enumerate(works):
                measured[index].append(work())
                advance(number * (len(works) + 1) + index + 2)
    return [
        figure(NAME, name, "events/s", rates, floor_name=FLOOR, floor=floor, goal=goal)
        for (name, goal, _), rates in zip(works, measured, strict=True)
    ]


def _floor(log: BigLog) -> float:
    with closing(connect_to_read(log.layout.log, LOG)) as connection:
        start = time.perf_counter()
        assert hash_all(connection) == log.events
        return log.events / (time.perf_counter() - start)


def _verify(log: BigLog, *, views: bool = False, workers: int | None = None) -> float:
    with nullcontext() if views else log.without_views():
        start = time.perf_counter()
        report = anyio.run(lambda: verify_store(log.layout.directory, workers=workers))
        seconds = time.perf_counter() - start
    assert report.intact, report.findings
    assert report.events == log.events
    return log.events / seconds
