"""What is being worked on right now: for the statuses of runs that take their time, and for metrics."""

import anyio

from tidelog.events.names import StreamName


class Activity:
    """The step that each running source or target is at."""

    def __init__(self) -> None:
        self._steps: dict[StreamName, tuple[str, str, float]] = {}

    def begin(self, stream: StreamName, step: str, revision: str) -> None:
        """A step has begun."""
        before = self._steps.get(stream)
        since = anyio.current_time() if before is None else before[2]
        self._steps[stream] = step, revision, since

    def end(self, stream: StreamName) -> None:
        """The pass is over."""
        self._steps.pop(stream, None)

    def of(self, stream: StreamName) -> tuple[str, str, float] | None:
        """The step, its revision, and for how many seconds the pass has been going on; None when nothing runs."""
        found = self._steps.get(stream)
        return None if found is None else (found[0], found[1], anyio.current_time() - found[2])

    def slow(self, seconds: float) -> list[StreamName]:
        """What has been going on for longer than that."""
        now = anyio.current_time()
        return [stream for stream, (_, _, since) in self._steps.items() if now - since >= seconds]
