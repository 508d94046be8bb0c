"""How many events a second go into the projections' file, when all of it is made anew?

A fresh process throws the file away and makes all projections again from the log, with their snapshots, on
disk: `rebuild` of `storage/projections/projector.py`, as after a change of a projection's version. Its memory is
watched as in `memory`. Neither has a goal, and so no floor.
"""

from bench.figures import Figure, figure
from bench.session import Session
from bench.watching import watch

NAME = "rebuild"


def measure(session: Session) -> list[Figure]:
    """Events a second, and the memory that it adds."""
    log = session.log
    with session.progress("rebuild", log.events) as advance:
        seen = watch("rebuild", log.layout.directory, advance)
    size = log.layout.views.stat().st_size / log.layout.log.stat().st_size
    return [
        figure(
            NAME,
            "rebuild of all projections",
            "events/s",
            [log.events / seen.seconds],
            note=f"the file of the projections has {size:.0%} of the size of the log's",
        ),
        figure(
            NAME,
            "memory that a rebuild of all projections adds",
            "MiB",
            [seen.peak - seen.before],
            floor_name="memory after the import",
            floor=[seen.before],
        ),
    ]
