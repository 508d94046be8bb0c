"""Where bytes live: the event log, bodies, projections and proofs, on SQLite."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "new_id": "log.ids",
    "open_log": "log.sqlite_log",
    "read_log": "log.sqlite_log",
    "Report": "proofs.verify",
    "verify_store": "proofs.verify",
    "open_views": "projections.views",
    "read_views": "projections.views",
}
"""Where a name is, if not in `log`."""


def __getattr__(name: str) -> object:
    """Imports what is asked for, and no more: the workers of a verification need little, and start often."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'log')}"), name)
