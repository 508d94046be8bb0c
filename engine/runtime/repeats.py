"""Failures exactly like the one before: tried again as ever, and recorded less and less often.

The first is recorded at once; the next once the failure has lasted a minute, then whenever it has lasted twice as long,
and in the end every hour. What is recorded says how many tries there were, also those that were not: what is known of
each is that it failed in the same words, of the same revision. So nobody fills the log by failing once a second.
What fails while it writes to the cluster is recorded each time, and tried less and less often (`Engine.spaced`).
"""

from typing import Final

from tidelog.engine.runtime.waits import Waits
from tidelog.events.moment import Time, datetime_of
from tidelog.events.names import StreamName
from tidelog.events.projections import Standing

SOONEST_S: Final = 60.0
LATEST_S: Final = 3_600.0


class Repeats:
    """The tries that failed since the last failure of each source and target that was recorded."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._tries: dict[StreamName, tuple[Time | None, int]] = {}

    def tries(self, stream: StreamName, standing: Standing) -> int:
        """How many failed one after the other, those included that were not recorded."""
        last, tries = self._tries.get(stream, (None, 0))
        return tries if last == standing.failed and tries else standing.failures

    def count(self, stream: StreamName, standing: Standing) -> None:
        """Counts a try that is not recorded."""
        self._tries[stream] = standing.failed, self.tries(stream, standing) + 1

    def forget(self, stream: StreamName) -> None:
        """Lets go of a source or target that is no more."""
        self._tries.pop(stream, None)

    def is_due(self, stream: StreamName, standing: Standing) -> bool:
        """Whether the failure has lasted for so long that it is recorded once more."""
        if standing.failed is None or standing.since is None:
            return True
        lasted = (datetime_of(standing.failed) - datetime_of(standing.since)).total_seconds()
        pause = min(LATEST_S, max(SOONEST_S, lasted))
        return self._waits.seconds(stream, "failure", str(standing.failures), standing.failed) >= pause
