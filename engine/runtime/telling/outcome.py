"""How a source or target stands, for who asked for a run and waits for what comes of it."""

import msgspec

from tidelog.engine.kinds.conditions import ready_reason
from tidelog.engine.runtime.context import Engine
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections import Standing


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it stands now."""

    over: bool
    """Whether nothing goes on any more: no pass runs or is due, and none waits for health."""
    ready: str = "Unknown"
    reason: str = ""
    message: str = ""
    revision: str = ""
    """The last that it ended well with."""


def outcome_of(engine: Engine, stream: StreamName) -> Outcome | None:
    """How a source or target stands; None when there is none of that name."""
    standing = engine.memory.conditions.get(stream)
    if standing is None:
        return None
    idle = engine.targets.is_idle(stream) and engine.sources.is_idle(stream)
    return Outcome(
        over=idle and not _waits(standing),
        ready=standing.ready,
        reason=ready_reason(ObjectKey.of_stream(stream).kind, standing.reason),
        message=standing.message,
        revision=standing.applied or "",
    )


def _waits(standing: Standing) -> bool:
    """Whether an open run goes on by itself: it waits for health, and for nobody's approval."""
    return standing.run is not None and standing.held is None
