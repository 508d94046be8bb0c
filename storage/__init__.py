"""Where bytes live: the event log, bodies, projections and proofs, on SQLite."""

from tidelog.storage.log import ANY, EventLog, NewEvent, Query, Recorded, StreamAppend
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.sqlite_log import open_log, read_log
from tidelog.storage.projections.views import open_views, read_views
from tidelog.storage.proofs.verify import Report, verify_store

__all__ = [
    "ANY",
    "EventLog",
    "NewEvent",
    "Query",
    "Recorded",
    "Report",
    "StreamAppend",
    "new_id",
    "open_log",
    "open_views",
    "read_log",
    "read_views",
    "verify_store",
]
