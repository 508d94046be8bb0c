"""When a CronJob is due: five fields or a short form, as the real server reads them (`robfig/cron` v3)."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple, Protocol

from tidelog.engine.cluster.embedded.builtin.scalars import UNITS, duration_ns

YEARS_MAX: Final = 5
"""How far a schedule is looked ahead, and back: the 31st of February is never."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORT: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_PARTS: Final = re.compile(r"([0-9.]*)([^0-9.]*)")
_EVERY: Final = "@every "
_SECOND_NS: Final = 1_000_000_000


class ScheduleError(ValueError):
    """Raised for a text that is no schedule; the message is the server's."""


class Schedule(Protocol):
    """When something is due, in seconds of Unix time."""

    def after(self, moment: float) -> float | None:
        """The first time after a moment; None for never."""

    def last(self, since: float, until: float) -> float | None:
        """The last time after one moment, and not after another."""


class _Bounds(NamedTuple):
    """Which numbers a field may hold, and their names."""

    least: int
    most: int
    names: Mapping[str, int] = {}


_FIELDS: Final = (
    _Bounds(0, 59),
    _Bounds(0, 23),
    _Bounds(1, 31),
    _Bounds(1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Bounds(0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


class _Field(NamedTuple):
    """The numbers that a field names."""

    numbers: frozenset[int]
    is_any: bool
    """Whether it says that every one will do."""


def parsed(text: str, zone: tzinfo = UTC) -> Schedule:
    """The schedule that a text writes, by the clocks of a zone.

    Raises:
        ScheduleError: when it writes none.
    """
    if not text:
        raise ScheduleError("empty spec string")
    if text.startswith(_EVERY):
        length_ns = duration_ns(said := text.removeprefix(_EVERY))
        if length_ns is None:
            raise ScheduleError(f'failed to parse duration {text}: time: {_why_no_duration(said)} duration "{said}"')
        return _Every(max(1, length_ns // _SECOND_NS))
    if text.startswith("@"):
        if text not in _SHORT:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        return parsed(_SHORT[text], zone)
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, hours, days, months, weekdays = map(_field, fields, _FIELDS)
    return _Calendar(minutes, hours, days, months, weekdays, zone)


def _why_no_duration(text: str) -> str:
    for number, unit in _PARTS.findall(text):
        if not unit and any(map(str.isdigit, number)):
            return "missing unit in"
        if unit and any(map(str.isdigit, number)) and unit not in UNITS:
            return f'unknown unit "{unit}" in'
    return "invalid"


def mistake(text: str) -> str:
    """What is wrong with a schedule, in the server's words, its zone aside; empty for nothing."""
    try:
        parsed(text.partition(" ")[2] if text.startswith(("TZ=", "CRON_TZ=")) else text)
    except ScheduleError as error:
        return str(error)
    return ""


def _field(text: str, bounds: _Bounds) -> _Field:
    numbers, is_any = set[int](), False
    for part in filter(None, text.split(",")):
        found, says_any = _range(part, bounds)
        numbers.update(found)
        is_any |= says_any
    return _Field(frozenset(numbers), is_any)


def _range(text: str, bounds: _Bounds) -> tuple[range, bool]:
    said, *steps = text.split("/")
    low, *highs = said.split("-")
    is_any = low in ("*", "?")
    if is_any:
        start, end = bounds.least, bounds.most
    else:
        start = end = _number(low, bounds.names)
        if len(highs) > 1:
            raise ScheduleError(f"too many hyphens: {text}")
        if highs:
            end = _number(highs[0], bounds.names)
    step = 1
    if len(steps) > 1:
        raise ScheduleError(f"too many slashes: {text}")
    if steps:
        step = _number(steps[0], {})
        end = end if highs else bounds.most
    _check_range(text, bounds, start, end, step)
    return range(start, end + 1, step), is_any and step == 1


def _check_range(text: str, bounds: _Bounds, start: int, end: int, step: int) -> None:
    if start < bounds.least:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({bounds.least}): {text}")
    if end > bounds.most:
        raise ScheduleError(f"end of range ({end}) above maximum ({bounds.most}): {text}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")


def _number(text: str, names: Mapping[str, int]) -> int:
    named = names.get(text.lower())
    if named is not None:
        return named
    said = f'failed to parse int from {text}: strconv.Atoi: parsing "{text}"'
    if _NUMBER.fullmatch(text) is None:
        raise ScheduleError(f"{said}: invalid syntax")
    if len(text) > 18:
        raise ScheduleError(f"{said}: value out of range")
    number = int(text)
    if number < 0:
        raise ScheduleError(f"negative number ({number}) not allowed: {text}")
    return number


class _Every(NamedTuple):
    """Again and again, some seconds after the time before."""

    seconds: int

    def after(self, moment: float) -> float | None:
        return float(int(moment) + self.seconds)

    def last(self, since: float, until: float) -> float | None:
        times = (int(until) - int(since)) // self.seconds
        return float(int(since) + times * self.seconds) if times > 0 else None


class _Calendar(NamedTuple):
    """At some minutes of some hours of some days."""

    minutes: _Field
    hours: _Field
    days: _Field
    months: _Field
    weekdays: _Field
    zone: tzinfo

    def after(self, moment: float) -> float | None:
        return next((found for found in self._moments(moment, 1) if found > moment), None)

    def last(self, since: float, until: float) -> float | None:
        found = next((found for found in self._moments(until, -1) if found <= until), None)
        return found if found is not None and found > since else None

    def _moments(self, moment: float, way: int) -> Iterator[float]:
        """The times on the days from that of a moment on, or back; those that the clocks leave out are none."""
        there = datetime.fromtimestamp(moment, self.zone)
        for number in range(YEARS_MAX * 366):
            day = there.date() + timedelta(days=way * number)
            for hour in sorted(self.hours.numbers)[::way] if self._has(day) else ():
                if number == 0 and way * hour < way * there.hour:
                    continue
                for minute in sorted(self.minutes.numbers)[::way]:
                    due = datetime.combine(day, time(hour, minute), self.zone).timestamp()
                    if (at := datetime.fromtimestamp(due, self.zone)).hour == hour and at.minute == minute:
                        yield due

    def _has(self, day: date) -> bool:
        """Whether a day is one; where both the month's and the week's are named, either will do."""
        in_month = day.day in self.days.numbers
        in_week = day.isoweekday() % 7 in self.weekdays.numbers
        is_day = in_month and in_week if self.days.is_any or self.weekdays.is_any else in_month or in_week
        return is_day and day.month in self.months.numbers
