"""Times as the log writes them: RFC 3339, UTC, microseconds, always 27 characters.

One width and one zone make the text sort as the time does.
"""

import re
from datetime import UTC, datetime
from typing import NewType

Time = NewType("Time", str)
"""For example `2026-11-23T01:36:51.123456Z`."""

_form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def time_of(moment: datetime) -> Time:
    """A zoned `datetime` as the log writes it.

    Raises:
        ValueError: when `moment` has no zone, and so could mean any of several times.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    # Far quicker than `strftime`, and each commit waits for it.
    return Time(f"{moment.isoformat(timespec='microseconds')[:-6]}Z")


def datetime_of(time: Time) -> datetime:
    """The zoned `datetime` behind a time of the log."""
    return datetime.fromisoformat(time)


def shown_time(time: Time) -> str:
    """A time for people, to the second, with its zone: typed as a moment again, it is that second."""
    return f"{time[:19]}Z"


def is_time(text: str) -> bool:
    """Whether `text` is a time as the log writes it."""
    if not _form.fullmatch(text):
        return False
    try:
        return time_of(datetime.fromisoformat(text)) == text  # not, for example, 24:00
    except ValueError:
        return False
