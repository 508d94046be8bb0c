"""Statuses that changed again within a minute, and are recorded when it is over: of each object, the last."""

from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import TypeAlias

import anyio
import msgspec

from tidelog.events.bodies import Body
from tidelog.events.envelope import Actor
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import ObjectObserved


class StatusTold(msgspec.Struct, frozen=True):
    """An object of which nothing but the status is other than recorded: of the object itself, no more than digests."""

    event: ObjectObserved
    body: Body | None
    """The status; none where there is none any more."""
    by: Actor


TimeIsOver: TypeAlias = Callable[[StreamName, StatusTold], Awaitable[None]]


class StatusesThatWait:
    """At most one status an object, and one timer for all."""

    def __init__(self) -> None:
        self._told: dict[StreamName, StatusTold] = {}
        self._due: list[tuple[float, StreamName]] = []
        """A heap, with an entry for each of `_told`."""
        self._sooner = anyio.Event()

    def __len__(self) -> int:
        return len(self._told)

    def add(self, stream: StreamName, told: StatusTold, seconds: float) -> None:
        """Keeps a status for some seconds, or for as long as the one that it takes the place of."""
        if stream not in self._told:
            entry = (anyio.current_time() + seconds, stream)
            heappush(self._due, entry)
            if self._due[0] == entry:
                self._sooner.set()
        self._told[stream] = told

    def replace(self, stream: StreamName, told: StatusTold) -> bool:
        """Keeps a status in the place of one that waits already; whether one did."""
        waits = stream in self._told
        if waits:
            self._told[stream] = told
        return waits

    async def run(self, time_is_over: TimeIsOver) -> None:
        """Hands on each status when its time is over, until cancelled; where none waits, so does this.

        Whether it is still news then, who takes it knows.
        """
        while True:
            self._sooner = anyio.Event()
            left = self._due[0][0] - anyio.current_time() if self._due else None
            if left is None:
                await self._sooner.wait()
            elif left > 0:
                with anyio.move_on_after(left):
                    await self._sooner.wait()
            else:
                _, stream = heappop(self._due)
                await time_is_over(stream, self._told.pop(stream))
