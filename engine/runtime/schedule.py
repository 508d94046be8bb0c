"""When each source and target runs: woken by events, one run at a time each, fair between namespaces.

A key that is woken while it runs, runs once more after that, however often it was woken; of several triggers the
newest counts. What waits for a time is an entry here, not a task.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import msgspec

from tidelog.events.envelope import ENGINE, Actor
from tidelog.events.names import EventId, ObjectKey, StreamName, TraceId


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is for."""

    why: str
    actor: Actor = ENGINE
    trace: TraceId | None = None
    cause: EventId | None = None
    token: str = ""
    """The value of `reconcile.fluxcd.io/requestedAt`."""
    forced: bool = False
    """Whether to look even where nothing is known to have changed."""


TIMERS_SPARE = 64
"""Entries of timers that were replaced, before they are cleared away."""


class _Turn:
    """A key that runs."""

    __slots__ = ("again", "forgotten")

    def __init__(self) -> None:
        self.again: Trigger | None = None
        """What it was woken for meanwhile."""
        self.forgotten = False


Reconcile: TypeAlias = Callable[[StreamName, Trigger], Awaitable[float | None]]
"""Runs one key; returns in how many seconds it wants to run again, or None to wait for an event."""


class Scheduler:
    """Runs keys, at most `concurrency` at once."""

    def __init__(self, reconcile: Reconcile, concurrency: int) -> None:
        self._reconcile = reconcile
        self.concurrency = concurrency
        self._share = concurrency - concurrency // 4
        """How many keys of one namespace run at once: passes that hang leave others room."""
        self._at_work: Counter[str] = Counter()
        self._ready: OrderedDict[str, OrderedDict[StreamName, Trigger]] = OrderedDict()
        """By namespace; the next namespace to be served is the first."""
        self._running: dict[StreamName, _Turn] = {}
        self._timers: list[tuple[float, StreamName]] = []
        self._due: dict[StreamName, float] = {}
        self._changed = anyio.Event()

    def wake(self, key: StreamName, trigger: Trigger) -> None:
        """Has a key run as soon as its turn comes."""
        turn = self._running.get(key)
        if turn is not None:
            turn.again, turn.forgotten = _merged(turn.again, trigger), False
            return
        waiting = self._ready.setdefault(_namespace_of(key), OrderedDict())
        waiting[key] = _merged(waiting.get(key), trigger)
        self._changed.set()

    def wake_in(self, key: StreamName, seconds: float) -> None:
        """Has a key run in some seconds at the latest; whenever it runs, it asks for its next time anew."""
        due = anyio.current_time() + max(0.0, seconds)
        if self._due.get(key, due) < due:
            return
        self._due[key] = due
        heapq.heappush(self._timers, (due, key))
        if len(self._timers) > 2 * len(self._due) + TIMERS_SPARE:
            self._timers = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._timers)
        self._changed.set()

    def forget(self, key: StreamName) -> None:
        """Lets go of a key that is no more; what it asks for when its run ends is not heeded."""
        turn = self._running.get(key)
        if turn is not None:
            turn.again, turn.forgotten = None, True
        self._due.pop(key, None)
        self._ready.get(_namespace_of(key), OrderedDict()).pop(key, None)

    @property
    def queued(self) -> int:
        """How many keys wait for their turn."""
        return sum(len(waiting) for waiting in self._ready.values())

    def queued_of(self, kind: str) -> int:
        """How many keys of a kind wait for their turn."""
        return sum(ObjectKey.of_stream(key).kind == kind for waiting in self._ready.values() for key in waiting)

    @property
    def running(self) -> int:
        """How many keys run now."""
        return len(self._running)

    def is_idle(self, key: StreamName) -> bool:
        """Whether a key neither runs nor waits for its turn."""
        return key not in self._running and key not in self._ready.get(_namespace_of(key), ())

    async def run(self) -> None:
        """Serves, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                self._changed = anyio.Event()
                now = anyio.current_time()
                self._ring(now)
                while len(self._running) < self.concurrency and (turn := self._next()) is not None:
                    self._running[turn[0]] = _Turn()
                    self._at_work[_namespace_of(turn[0])] += 1
                    tasks.start_soon(self._serve, *turn)
                with anyio.move_on_after(self._until_next_timer(now)):
                    await self._changed.wait()

    def _ring(self, now: float) -> None:
        """Wakes the keys whose time has come."""
        while self._timers and self._timers[0][0] <= now:
            due, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self.wake(key, Trigger(why="its time has come"))

    def _until_next_timer(self, now: float) -> float | None:
        return max(0.0, self._timers[0][0] - now) if self._timers else None

    def _next(self) -> tuple[StreamName, Trigger] | None:
        for namespace, waiting in list(self._ready.items()):
            if not waiting:
                del self._ready[namespace]
            elif self._at_work[namespace] < self._share:
                self._ready.move_to_end(namespace)
                return waiting.popitem(last=False)
        return None

    async def _serve(self, key: StreamName, trigger: Trigger) -> None:
        turn = self._running[key]
        self._due.pop(key, None)
        try:
            delay = await self._reconcile(key, trigger)
            if delay is not None and not turn.forgotten:
                self.wake_in(key, delay)
        finally:
            del self._running[key]
            self._at_work -= Counter([_namespace_of(key)])
            if turn.again is not None:
                self.wake(key, turn.again)
            self._changed.set()


def _merged(older: Trigger | None, newer: Trigger) -> Trigger:
    """The newest trigger; what an older one asked for and the newer does not say, stays."""
    if older is None:
        return newer
    return msgspec.structs.replace(
        newer,
        token=newer.token or older.token,
        forced=newer.forced or older.forced,
        cause=newer.cause or older.cause,
        trace=newer.trace or older.trace,
    )


def _namespace_of(key: StreamName) -> str:
    return ObjectKey.of_stream(key).namespace
