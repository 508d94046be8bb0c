"""Making ids: the one place of this package that asks for randomness."""

import os
import time

from tidelog.events.names import EventId, uuid7


def new_id() -> EventId:
    """A new UUIDv7, of now: for an event, a run or a trace."""
    return EventId(uuid7(time.time_ns() // 1_000_000, os.urandom(10)))
