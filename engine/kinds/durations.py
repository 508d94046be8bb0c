"""Durations as Go writes them: `1h30m`, `500ms`."""

import re
from typing import ClassVar, Self

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\N{MICRO SIGN}s": 1_000,
    "\N{GREEK SMALL LETTER MU}s": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_part = re.compile(rf"([0-9]*)(?:\.([0-9]*))?({'|'.join(sorted(_UNITS, key=len, reverse=True))})")
_sign = re.compile(r"[+-]?")
NANOSECONDS_MAX = (1 << 63) - 1
LENGTH_MAX = 100
"""Characters of a duration: more are no duration that anybody meant."""


class MalformedDurationError(ValueError):
    """Raised for a text that is no duration; the message shows the form that is wanted."""


class Duration(int):
    """A duration in nanoseconds, read and written as Go does."""

    pattern: ClassVar[str] = ""
    """What the API accepts of a field of this type; empty where only engines write it."""

    def __new__(cls, nanoseconds: int = 0) -> Self:
        """A duration of that many nanoseconds."""
        return super().__new__(cls, nanoseconds)

    @classmethod
    def of_seconds(cls, seconds: float) -> Self:
        """The nearest duration."""
        return cls(round(seconds * _UNITS["s"]))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The duration that `text` writes.

        Raises:
            MalformedDurationError: when it writes none, or one beyond the 292 years that Go can hold.
        """
        if cls.pattern and not re.fullmatch(cls.pattern.removeprefix("^").removesuffix("$"), text, re.ASCII):
            raise MalformedDurationError(f"{text!r} is no duration: write it like {cls.example()}")
        return cls(_nanoseconds(text))

    @classmethod
    def example(cls) -> str:
        """Durations that a field of this type takes, for messages."""
        return "30s, 5m or 1h30m" if "h" in cls.pattern or not cls.pattern else "500ms, 30s or 5m"

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return int(self) / _UNITS["s"]

    def __str__(self) -> str:
        return _text(int(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"


class Interval(Duration):
    """A duration that users write (contract CM-014)."""

    pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


class SourceTimeout(Duration):
    """The time limit of a source: users write it without hours (contract CM-014)."""

    pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$"


def _nanoseconds(text: str) -> int:
    malformed = MalformedDurationError(f"{text[:LENGTH_MAX]!r} is no duration: write it like {Duration.example()}")
    if len(text) > LENGTH_MAX:
        raise malformed
    sign = text[: len(_sign.match(text)[0])]  # type: ignore[index]
    rest = text[len(sign) :]
    if rest == "0":
        return 0
    total = 0
    while rest:
        part = _part.match(rest)
        if part is None or not (part[1] or part[2]):
            raise malformed
        unit = _UNITS[part[3]]
        total += int(part[1] or "0") * unit + int(part[2] or "0") * unit // 10 ** len(part[2] or "")
        rest = rest[part.end() :]
    if text == sign:
        raise malformed
    if total > NANOSECONDS_MAX:
        raise MalformedDurationError(f"{text!r} is too long: no duration is over 292 years")
    return -total if sign == "-" else total


def _text(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < _UNITS["s"]:
        unit = next(unit for unit in ("ms", "\N{MICRO SIGN}s", "ns") if left >= _UNITS[unit])
        return f"{sign}{_decimal(left, _UNITS[unit])}{unit}"
    minutes, left = divmod(left, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(left, _UNITS['s'])}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
