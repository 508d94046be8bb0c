"""Durations are read and written as Go's `time` does; the table was printed by a Go program."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.kinds.durations import (
    NANOSECONDS_MAX,
    Duration,
    Interval,
    MalformedDurationError,
    SourceTimeout,
)

BY_GO = [
    ("0", 0, "0s"),
    ("0s", 0, "0s"),
    ("1s", 1_000_000_000, "1s"),
    ("1h", 3_600_000_000_000, "1h0m0s"),
    ("1h30m", 5_400_000_000_000, "1h30m0s"),
    ("500ms", 500_000_000, "500ms"),
    ("1.5h", 5_400_000_000_000, "1h30m0s"),
    ("1m0.5s", 60_500_000_000, "1m0.5s"),
    ("2h45m30.25s", 9_930_250_000_000, "2h45m30.25s"),
    (".5s", 500_000_000, "500ms"),
    ("1.s", 1_000_000_000, "1s"),
    ("1us", 1_000, "1\N{MICRO SIGN}s"),
    ("1\N{MICRO SIGN}s", 1_000, "1\N{MICRO SIGN}s"),
    ("1\N{GREEK SMALL LETTER MU}s", 1_000, "1\N{MICRO SIGN}s"),
    ("1500ns", 1_500, "1.5\N{MICRO SIGN}s"),
    ("1h1h", 7_200_000_000_000, "2h0m0s"),
    ("-1m", -60_000_000_000, "-1m0s"),
    ("+3s", 3_000_000_000, "3s"),
    ("9223372036s", 9_223_372_036_000_000_000, "2562047h47m16s"),
    ("2562047h47m16.854775807s", 9_223_372_036_854_775_807, "2562047h47m16.854775807s"),
    ("1ms1us1ns", 1_001_001, "1.001001ms"),
    ("0.000000001s", 1, "1ns"),
    ("100000h", 360_000_000_000_000_000, "100000h0m0s"),
    ("90s", 90_000_000_000, "1m30s"),
    ("0.3s", 300_000_000, "300ms"),
    ("1.1h", 3_960_000_000_000, "1h6m0s"),
    ("0.1ms", 100_000, "100\N{MICRO SIGN}s"),
    ("1.23456789s", 1_234_567_890, "1.23456789s"),
]
REFUSED_BY_GO = ["", "s", "1", "1 s", "1d", "1e3s", "--1s", "+-1s", "-", "1h-3m", ".s", "9223372037s"]


@pytest.mark.parametrize(("text", "nanoseconds", "printed"), BY_GO)
def test_a_duration_is_read_and_printed_as_go_does(text: str, nanoseconds: int, printed: str) -> None:
    duration = Duration.parse(text)
    assert int(duration) == nanoseconds
    assert str(duration) == printed


@pytest.mark.parametrize("text", [*REFUSED_BY_GO, "1h" * 60, "1s\n", "\N{ARABIC-INDIC DIGIT ONE}s"])
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(MalformedDurationError):
        Duration.parse(text)


@given(st.integers(-NANOSECONDS_MAX, NANOSECONDS_MAX))
def test_what_is_printed_is_read_as_the_same(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))) == nanoseconds


@pytest.mark.parametrize("text", ["-1m", "1us", "0", "", "1m ", ".5s", "1h30"])
def test_users_write_positive_durations_down_to_milliseconds(text: str) -> None:
    with pytest.raises(MalformedDurationError, match="30s, 5m or 1h30m"):
        Interval.parse(text)


def test_a_source_has_no_time_limit_in_hours() -> None:
    assert SourceTimeout.parse("1m30s").seconds == 90
    with pytest.raises(MalformedDurationError, match="500ms, 30s or 5m"):
        SourceTimeout.parse("1h")
