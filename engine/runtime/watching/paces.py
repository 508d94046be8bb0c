"""How often what becomes of an object is recorded, where nobody answers for the server that tells it.

So many times at once, and then once a minute; what is large counts for more. What is left out is made good: when its
time has come, the object is asked for by its name, and recorded as it then is. So what such a server makes the log
grow by is bounded by what was applied there.
"""

from collections.abc import Callable, Iterable
from typing import Final

import anyio

from tidelog.events.bodies import Body

AT_ONCE: Final = 30
EVERY_S: Final = 60.0
BODY_BYTES: Final = 64 << 10
"""Bytes that count as much as one more."""
KEPT_MAX: Final = 1_024
"""Of those that have paid all, as many are remembered before they are looked through."""


class Paces:
    """For each name (of an object, of a kind) when all that was recorded of it is paid for."""

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self._clock = clock
        self._paid: dict[str, float] = {}
        self._look_at = KEPT_MAX

    def __len__(self) -> int:
        return len(self._paid)

    def wait_s(self, name: str) -> float:
        """In how many seconds something of it may be recorded; 0 for now."""
        paid = self._paid.get(name)
        return 0.0 if paid is None else max(0.0, paid - AT_ONCE * EVERY_S - self._clock() + EVERY_S)

    def charge(self, name: str, bodies: Iterable[Body] = ()) -> None:
        """Takes note that something of it was recorded."""
        now = self._clock()
        cost = EVERY_S * (1 + sum(body.ref.size for body in bodies) / BODY_BYTES)
        self._paid[name] = max(now, self._paid.get(name, now)) + cost
        if len(self._paid) > self._look_at:
            self._paid = {known: paid for known, paid in self._paid.items() if paid > now}
            self._look_at = max(KEPT_MAX, 2 * len(self._paid))
