"""What is to be made of something of a source that the artifact store has no more."""

from typing import Final

from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.schedule import Trigger
from tidelog.events.names import StreamName

LOST_MAX: Final = 3
"""How often what is lost is fetched again at once."""


def fetched_again(engine: Engine, source: StreamName, why: str, reason: str, tries: int) -> StageError:
    """Has a source fetched again of which something is lost (SC-014); the failure to record meanwhile.

    Args:
        engine: wakes the source.
        source: whose artifact it is.
        why: what is lost.
        reason: of the condition of who found that.
        tries: how many passes over that failed, one after the other.
    """
    engine.lost.add(source)
    if tries >= LOST_MAX:
        return StageError("fetch", reason, why)
    engine.wake(source, Trigger(why="something of it is lost"))
    return StageError("fetch", reason, f"{why}: its source is fetched again", waits_for=source)
