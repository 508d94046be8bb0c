"""When something is due, of many: one timer for all."""

from heapq import heappop, heappush

import anyio

from tidelog.events.names import StreamName


class Due:
    """Streams, each with the moment at which it is due. One may stand there more than once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, StreamName]] = []
        self._sooner = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, stream: StreamName, seconds: float) -> float:
        """Has a stream due in so many seconds; returns the moment, by the loop's clock."""
        entry = (anyio.current_time() + seconds, stream)
        heappush(self._heap, entry)
        if self._heap[0] == entry:
            self._sooner.set()
        return entry[0]

    async def next(self) -> tuple[float, StreamName]:
        """Waits until one is due, and takes it; the moment for which it was added, and the stream."""
        while True:
            self._sooner = anyio.Event()
            left = self._heap[0][0] - anyio.current_time() if self._heap else None
            if left is not None and left <= 0:
                return heappop(self._heap)
            with anyio.move_on_after(left):
                await self._sooner.wait()
