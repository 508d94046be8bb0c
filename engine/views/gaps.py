"""Whether somebody looked at a moment: what a store says of one that nobody watched may have been otherwise."""

from collections.abc import Mapping

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import is_engine
from tidelog.events.moment import Time, shown_time
from tidelog.events.vocabulary import EngineStarted, EngineStopped, ObservationInterrupted, ObservationResumed
from tidelog.storage.log import Query, Recorded

KINDS_SHOWN_MAX = 5
_LIFE = ("EngineStarted", "EngineStopped")
_SIGHT = (*_LIFE, "ObservationInterrupted", "ObservationResumed")


def gap_of(archive: Archive) -> str | None:
    """The gap of observation that the moment falls into, in a sentence; None where all was watched."""
    unseen: dict[tuple[str, str], Time | None] = {}
    for recorded in archive.backwards(Query(types=_SIGHT)):
        time = recorded.envelope.time
        match recorded.event:
            case EngineStopped() if _is_of_an_engine(recorded):
                return f"no daemon was at work from {shown_time(time)} on: what changed after that is not in it"
            case EngineStarted() if _is_of_an_engine(recorded):
                return _of_a_killed_one(archive) or _said(unseen)
            case ObservationInterrupted() as event:
                for kind in event.kinds:
                    unseen.setdefault((event.cluster, kind), time)
            case ObservationResumed() as event:
                for kind in event.kinds:
                    unseen.setdefault((event.cluster, kind), None)
            case _:
                continue
    return _said(unseen)


def _is_of_an_engine(recorded: Recorded) -> bool:
    return is_engine(recorded.envelope.stream)


def _of_a_killed_one(archive: Archive) -> str | None:
    """Where the next event is the start of another daemon, and nobody said that the one before stopped."""
    following = archive.log.event(archive.position + 1) if archive.position < archive.log.head() else None
    if following is None or not isinstance(following.event, EngineStarted):
        return None
    started = shown_time(following.envelope.time)
    return f"it is the last that a daemon recorded before it was killed; the next one started at {started}"


def _said(unseen: Mapping[tuple[str, str], Time | None]) -> str | None:
    open_now = {kind: time for (_, kind), time in sorted(unseen.items()) if time is not None}
    if not open_now:
        return None
    names = list(open_now)
    more = f" and {len(names) - KINDS_SHOWN_MAX} more" if len(names) > KINDS_SHOWN_MAX else ""
    since = shown_time(min(open_now.values()))
    return f"changes of {', '.join(names[:KINDS_SHOWN_MAX])}{more} may have gone unseen from {since} on"
