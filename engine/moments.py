"""Moments as people name them: a position, a time, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

from tidelog.events.moment import Time, datetime_of, time_of
from tidelog.storage.errors import MomentError
from tidelog.storage.log.reader import LogReader

_ago = re.compile(r"([0-9]+)\s*(s|m|h|d|w)\s+ago")
DIGITS_MAX = 1_000
"""Of a position that is read as one: Python refuses to convert ever more of them."""
_units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class MalformedMomentError(ValueError):
    """Raised for a text that names no moment; the message shows the forms that do."""


def position_of(text: str, reader: LogReader, now: datetime) -> int:
    """The position of the log at the moment that `text` names.

    A position is itself; a time is the last position not after it. A time yet to come is none: what the log will have
    learned by then is not known, and to answer with the present would pass for it. A time beyond this machine's clock,
    but not beyond the log's last event, is one that another clock gave.

    Raises:
        MalformedMomentError: when the text names no moment.
        MomentError: when the log has no such position, or nothing as old, or the time is yet to come.
    """
    if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX:
        position = int(text)
        head = reader.head()
        if position > head:
            raise MomentError(f"the log has no position {position}: its last is {head}")
        return position
    time = time_of(_moment(text, now))
    position = reader.position_at(time)
    if position == 0:
        raise MomentError(f"the log begins after {_shown(time)}")
    if time > time_of(now) and position == reader.head() and time > reader.time_at(position):
        raise MomentError(f"{_shown(time)} is yet to come (it is {_shown(time_of(now))}): leave the moment out for now")
    return position


def _shown(time: Time) -> str:
    return f"{datetime_of(time):%Y-%m-%d %H:%M:%S} UTC"


def _moment(text: str, now: datetime) -> datetime:
    ago = _ago.fullmatch(text.strip())
    try:
        if ago:
            return now - timedelta(**{_units[ago[2]]: int(ago[1])})
        # A time without a zone is the reader's own.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedMomentError(
            f"{text!r} is no moment: give a position (120), a time (2026-11-23T14:05Z) or how long ago (2h ago)"
        ) from None
