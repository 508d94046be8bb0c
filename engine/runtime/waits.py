"""For how long something has been waited for, also where the clock is set meanwhile.

The log's times tell what was before the daemon began. From then on it is measured by a clock that nobody sets: else a
wait would end at once when the wall clock goes forward (a laptop that slept), and not for hours when it goes back.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import anyio

from tidelog.events.moment import Time
from tidelog.events.names import StreamName

For: TypeAlias = Literal["failure", "health", "hook", "termination"]


class _Wait(NamedTuple):
    run: str
    since: Time
    began: float
    """By the clock that nobody sets."""


class Waits:
    """The waits of sources and targets. `seconds_since` says how long ago a time of the log was."""

    def __init__(self, seconds_since: Callable[[Time], float]) -> None:
        self._seconds_since = seconds_since
        self._waits: dict[tuple[StreamName, For], _Wait] = {}

    def seconds(self, stream: StreamName, what: For, run: str, since: Time) -> float:
        """For how long a run has waited for something, since a time of the log."""
        wait = self._waits.get((stream, what))
        now = anyio.current_time()
        if wait is None or (wait.run, wait.since) != (run, since):
            wait = self._waits[stream, what] = _Wait(run, since, now - self._seconds_since(since))
        return now - wait.began

    def forget(self, stream: StreamName) -> None:
        """Lets go of a source or target that is no more."""
        for key in [key for key in self._waits if key[0] == stream]:
            del self._waits[key]
