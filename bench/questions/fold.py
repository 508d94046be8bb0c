"""How many events a second does a full fold take in?

The whole log is read page by page and folded into `desired` and `inventory`, as when a projection is made anew
or read as of a moment without a projections' file. The floor reads the same rows through one cursor and has
msgspec decode envelope and payload of each to the types that the engine has, and drops them.

The log is cut into slices, and fold and floor take turns at each, one first and then the other, so that the
kernel's cache serves both alike.

The fold leaves out what the floor does not: the payloads of events that neither projection handles. The second
row therefore has a stricter floor, that leaves them out as well.
"""

import time
from collections.abc import Callable
from contextlib import closing

from bench.figures import Figure, Goal, figure
from bench.floors import Decoding
from bench.folding import TargetFold, slices
from bench.session import Session
from tidelog.events.projections import DESIRED, INVENTORY
from tidelog.storage.connection import LOG, connect_to_read

NAME = "fold"
SLICES = 20
GOAL = Goal("ratio", "at least", 0.45)


def measure(session: Session) -> list[Figure]:
    """Events a second of the fold and of two floors, slice by slice."""
    log = session.log
    fold = TargetFold()
    with (
        closing(log.reader()) as reader,
        closing(connect_to_read(log.layout.log, LOG)) as everything,
        closing(connect_to_read(log.layout.log, LOG)) as handled,
        session.progress("fold", log.events) as advance,
    ):
        full, strict = Decoding(everything), Decoding(handled, (DESIRED, INVENTORY))
        runs: list[Callable[[int, int], None]] = [
            lambda after, until: fold.run(reader, after, until),
            full.run,
            strict.run,
        ]
        rates: list[list[float]] = [[], [], []]
        for number, (after, until) in enumerate(slices(log.events, session.rounds(SLICES))):
            for turn in range(len(runs)):
                index = (number + turn) % len(runs)
                start = time.perf_counter()
                runs[index](after, until)
                rates[index].append((until - after) / (time.perf_counter() - start))
            advance(until)
    assert len(dict(fold.desired.items())) >= len(log.fleet.targets)
    name = f"fold of {log.events:,} events into desired and inventory"
    return [
        figure(
            NAME,
            name,
            "events/s",
            rates[0],
            floor_name="read and decode the same rows",
            floor=rates[1],
            goal=GOAL,
        ),
        figure(
            NAME,
            name,
            "events/s",
            rates[0],
            floor_name="the same, of payloads only those that are folded",
            floor=rates[2],
        ),
    ]
