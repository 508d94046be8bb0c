"""How much memory does a full fold take?

A fresh process imports the package and what it needs, and is measured; then it folds the whole log into
`desired` and `inventory`, and is measured from outside every 10 ms until it ends. What counts is anonymous
memory (`Anonymous` of `/proc/<pid>/smaps_rollup`): what the kernel cannot take back by dropping a file's pages.
SQLite's page cache is part of it.

The floor is the memory after the import. The figure is what the fold adds to it at its peak.
"""

from bench.figures import Figure, Goal, figure
from bench.session import Session
from bench.watching import watch

NAME = "memory"
RUNS = 3
GOAL = Goal("measured", "at most", 150.0)


def measure(session: Session) -> list[Figure]:
    """MiB that a fold adds."""
    log = session.log
    with session.progress("memory", RUNS) as advance:
        seen = []
        for run in range(1 if session.quick else RUNS):
            seen.append(watch("fold", log.layout.directory, lambda _: None))
            advance(run + 1)
    return [
        figure(
            NAME,
            f"memory that a fold of {log.events:,} events of {len(log.fleet.targets):,} targets adds",
            "MiB",
            [run.peak - run.before for run in seen],
            floor_name="memory after the import",
            floor=[run.before for run in seen],
            goal=GOAL,
        )
    ]
