"""Who is woken by what is recorded: targets that wait for others, or leave an object to them."""

from collections.abc import Callable

from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.schedule import Trigger
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary import (
    ApplyFailed,
    Pinned,
    PlanApproved,
    PlanHeld,
    PlanRejected,
    ReconcileRequested,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    TargetDeclared,
    TargetRemoved,
    Unpinned,
    VerificationFailed,
)
from tidelog.storage import Recorded

_FAILED = (StageFailed, VerificationFailed, ApplyFailed, PlanHeld, RunEnded)
_ASKED = (PlanApproved, PlanRejected, Pinned, Unpinned, ReconcileRequested)


class Waker:
    """Wakes who waits for what an event says."""

    def __init__(self, engine: Engine, wake: Callable[[StreamName, Trigger], None]) -> None:
        self._engine = engine
        self._wake = wake
        self._waiting: dict[StreamName, set[StreamName]] = {}
        self._watching: dict[StreamName, set[StreamName]] = {}
        self._leaving: dict[StreamName, set[StreamName]] = {}

    def wait_for(self, who: StreamName, what: StreamName) -> None:
        """Has `who` woken at the next good news of `what`."""
        self._waiting.setdefault(what, set()).add(who)

    def leave_to(self, who: StreamName, what: StreamName) -> None:
        """Has `who` woken at whatever becomes of `what`: it may have taken what is left to it, or want it no more."""
        self._leaving.setdefault(what, set()).add(who)

    def watch_for(self, who: StreamName, what: StreamName) -> None:
        """Has `who` woken at the next change of the object of `what`, be it of its status alone."""
        self._watching.setdefault(what, set()).add(who)

    def wait_no_more(self, who: StreamName) -> None:
        """Takes note that `who` looks for itself again."""
        for waiting in (*self._waiting.values(), *self._watching.values(), *self._leaving.values()):
            waiting.discard(who)

    def changed(self, stream: StreamName) -> None:
        """The object of a source or target is not what it was."""
        for watching in sorted(self._watching.pop(stream, ())):
            self._wake(watching, Trigger(why=f"{ObjectKey.of_stream(stream).shown} changed"))

    def heard(self, recorded: Recorded) -> None:
        """An event was recorded."""
        envelope, event = recorded.envelope, recorded.event
        ended_well = isinstance(event, RunEnded) and event.outcome in ("succeeded", "unchanged")
        if ended_well or isinstance(event, SourceDeclared | SourceRemoved | TargetDeclared | TargetRemoved):
            self._good_news(envelope.stream, recorded)
        elif isinstance(event, RevisionSettled):
            for target in event.targets:
                self._good_news(target, recorded)
        elif isinstance(event, StageFailed) and event.waits_for in self._waiting.get(envelope.stream, ()):
            self._good_news(envelope.stream, recorded)  # two wait for each other: one of them may go on
        elif isinstance(event, RevisionFetched):
            for target in list(self._leaving):
                self._wake_leaving(target, recorded)
        elif isinstance(event, _ASKED) and envelope.run is None:
            # What a run records itself, it knows.
            self._wake(envelope.stream, trigger_of(recorded, forced=True))

        if isinstance(event, _FAILED):
            # Who is not ready itself looks again soon enough: two that leave something to each other, and both fail,
            # would wake each other without end.
            self._wake_leaving(envelope.stream, recorded, only_ready=True)

    def _good_news(self, stream: StreamName, recorded: Recorded) -> None:
        for waiting in sorted(self._waiting.pop(stream, ())):
            self._wake(waiting, trigger_of(recorded))
        self._wake_leaving(stream, recorded)

    def _wake_leaving(self, stream: StreamName, recorded: Recorded, *, only_ready: bool = False) -> None:
        leaving = self._leaving.get(stream, set())
        for who in sorted(leaving):
            standing = self._engine.memory.conditions.get(who)
            if not only_ready or (standing is not None and standing.ready == "True"):
                leaving.discard(who)
                self._wake(who, trigger_of(recorded))


def trigger_of(recorded: Recorded, *, forced: bool = False) -> Trigger:
    """What an event wakes by."""
    envelope = recorded.envelope
    return Trigger(why=envelope.type, actor=envelope.actor, trace=envelope.trace, cause=envelope.id, forced=forced)
