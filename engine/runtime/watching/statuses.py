"""Statuses that changed again within a minute, and are recorded when it is over: of each object, the last."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from tidelog.engine.runtime.watching.due import Due
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
        self._due = Due()
        """With an entry for each of `_told`."""

    def __len__(self) -> int:
        return len(self._told)

    def add(self, stream: StreamName, told: StatusTold, seconds: float) -> None:
        """Keeps a status for some seconds, or for as long as the one that it takes the place of."""
        if stream not in self._told:
            self._due.add(stream, seconds)
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
            _, stream = await self._due.next()
            await time_is_over(stream, self._told.pop(stream))
