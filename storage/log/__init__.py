"""The event log: what it promises (the port, whose names are here), and how SQLite keeps it."""

from tidelog.storage.log.port import (
    ANY,
    APPEND_BODIES_BYTES_MAX,
    APPEND_EVENTS_MAX,
    PAGE_EVENTS_MAX,
    EventLog,
    ExpectedVersion,
    NewEvent,
    Query,
    Recorded,
    StreamAppend,
)

__all__ = [
    "ANY",
    "APPEND_BODIES_BYTES_MAX",
    "APPEND_EVENTS_MAX",
    "PAGE_EVENTS_MAX",
    "EventLog",
    "ExpectedVersion",
    "NewEvent",
    "Query",
    "Recorded",
    "StreamAppend",
]
