"""Times as the log writes them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.events.moment import Time, datetime_of, is_time, time_of

# A day from the ends, so that every zone can be turned into UTC.
moments = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis puts the zone
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def test_time_is_written_in_utc_with_microseconds() -> None:
    moment = datetime(2026, 11, 23, 2, 36, 51, 120000, timezone(timedelta(hours=1)))
    assert time_of(moment) == "2026-11-23T01:36:51.120000Z"
    assert time_of(datetime(2026, 11, 23, tzinfo=UTC)) == "2026-11-23T00:00:00.000000Z"
    assert time_of(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        time_of(datetime(2026, 11, 23))  # noqa: DTZ001 - that is the point


@given(moments)
def test_time_leads_back_to_the_moment(moment: datetime) -> None:
    time = time_of(moment)
    assert is_time(time)
    assert datetime_of(time) == moment
    assert datetime_of(time).utcoffset() == timedelta(0)
    assert time_of(datetime_of(time)) == time


@given(moments, moments)
def test_text_sorts_as_the_time_does(a: datetime, b: datetime) -> None:
    assert (time_of(a) < time_of(b)) == (a < b)
    assert (time_of(a) == time_of(b)) == (a == b)
    assert len(time_of(a)) == 27


@given(moments)
def test_one_microsecond_later_sorts_later(moment: datetime) -> None:
    assert time_of(moment) < time_of(moment + timedelta(microseconds=1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T01:36:51Z",
        "2026-11-23T01:36:51.123Z",
        "2026-11-23T01:36:51.1234567Z",
        "2026-11-23T01:36:51.123456",
        "2026-11-23T01:36:51.123456z",
        "2026-11-23 01:36:51.123456Z",
        "2026-11-23T01:36:51,123456Z",
        "2026-11-23T01:36:51.123456+00:00",
        "2026-11-23T01:36:51.123456Z\n",
        " 2026-11-23T01:36:51.123456Z",
        "2026-13-23T01:36:51.123456Z",
        "2026-02-29T01:36:51.123456Z",
        "2026-11-23T24:00:00.000000Z",
        "2026-11-23T01:36:60.000000Z",
        "0000-11-23T01:36:51.123456Z",
        "2026-W47-1T01:36:51.123456Z",
        "\N{ARABIC-INDIC DIGIT TWO}026-11-23T01:36:51.123456Z",
    ],
)
def test_other_text_is_no_time(text: str) -> None:
    assert not is_time(text)


@given(st.text(max_size=30))
def test_what_is_a_time_is_written_in_the_one_way(text: str) -> None:
    assert is_time(text) == (len(text) == 27 and _read(text) == text)


def _read(text: str) -> Time | None:
    try:
        return time_of(datetime.fromisoformat(text))
    except ValueError:
        return None
