"""Schedules of CronJobs: which are none, in the words of the real server, and which moments the others name."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.cluster.embedded.beside import Beside
from tidelog.engine.cluster.embedded.builtin.schedules import parsed

SCHEDULES = (
    *(
        "* * * * *",
        "0 0 31 2 *",
        "*/5 1-5 1,15 jan-Mar MON,fri",
        "? ? ? ? ?",
        "1-5/2 * * * *",
        "3/15 * * * *",
        "@daily",
    ),
    *(
        "@every 1h30m",
        "@every 1.5h",
        "@every 100ms",
        "@every 0",
        "@every -5m",
        ", * * * *",
        "1,,2 * * * *",
        "+5 * * * *",
    ),
    *("* *", "* * * * * *", " * * * * * ", "@never", "@every", "@every ", "@every 5", "@every x", "@Daily", "@daily "),
    *("60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 7", "* * * mon *", "x * * * *"),
    *("5-1 * * * *", "1-2-3 * * * *", "*-2-3 * * * *", "1/2/3 * * * *", "*/0 * * * *", "*/x * * * *", "-1 * * * *"),
    *("1--2 * * * *", "1- * * * *", "/5 * * * *", "99999999999999999999 * * * *", "1.5 * * * *", "*/-5 * * * *"),
    *("TZ=UTC * * * * *", "CRON_TZ=UTC * * * * *", "* * * * 1-9", "5-70/5 * * * *", "\u0665 * * * *", "*/100 * * * *"),
)


@pytest.mark.slow
async def test_schedules_are_refused_in_the_words_of_the_server(beside: Beside) -> None:
    path = f"/apis/batch/v1/namespaces/{beside.namespace}/cronjobs?dryRun=All&fieldManager=m"
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
    for text in SCHEDULES:
        spec = {"schedule": text, "jobTemplate": {"spec": {"template": {"spec": pod}}}}
        await beside.same("POST", path, {"metadata": {"name": "a"}, "spec": spec})
    assert not beside.differences, "\n".join(beside.differences)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("schedule", "since", "due"),
    [
        ("* * * * *", "2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z"),
        ("* * * * *", "2027-01-15T08:00:59Z", "2027-01-15T08:01:00Z"),
        ("30 7 * * *", "2027-01-15T08:00:00Z", "2027-01-16T07:30:00Z"),
        ("*/20 8-9 * * *", "2027-01-15T08:41:00Z", "2027-01-15T09:00:00Z"),
        ("0 0 29 2 *", "2027-01-15T08:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 1 * sun", "2027-01-15T08:00:00Z", "2027-01-17T00:00:00Z"),  # the first, or a Sunday
        ("0 0 */2 * sun", "2027-01-18T08:00:00Z", "2027-01-19T00:00:00Z"),
        ("0 0 * * 1-3", "2027-01-15T08:00:00Z", "2027-01-18T00:00:00Z"),
        ("@weekly", "2027-01-15T08:00:00Z", "2027-01-17T00:00:00Z"),
        ("@every 90s", "2027-01-15T08:00:00Z", "2027-01-15T08:01:30Z"),
        ("@every 1ms", "2027-01-15T08:00:00Z", "2027-01-15T08:00:01Z"),
    ],
)
def test_the_next_time_that_it_is_due(schedule: str, since: str, due: str) -> None:
    found = parsed(schedule)
    assert found.after(moment(since)) == moment(due)
    assert found.last(moment(since), moment(due)) == moment(due)
    assert found.last(moment(since), moment(due) - 0.001) is None


def test_the_last_time_of_many() -> None:
    since, until = moment("2020-01-01T00:00:00Z"), moment("2027-01-15T08:00:30Z")
    assert parsed("* * * * *").last(since, until) == moment("2027-01-15T08:00:00Z")
    assert parsed("0 12 1 jul *").last(since, until) == moment("2026-07-01T12:00:00Z")
    assert parsed("@every 7s").last(since, until) == since + (until - since) // 7 * 7


def test_a_day_that_never_comes() -> None:
    never = parsed("0 0 31 2 *")
    assert never.after(moment("2027-01-15T08:00:00Z")) is None
    assert never.last(0.0, moment("2027-01-15T08:00:00Z")) is None


def test_clocks_that_are_set() -> None:
    """On 2027-03-28 the clocks of Berlin go from 2:00 to 3:00, on 2027-10-31 from 3:00 to 2:00."""
    zone = ZoneInfo("Europe/Berlin")
    daily = parsed("30 2 * * *", zone)
    found, days = moment("2027-03-27T00:00:00Z"), list[str]()
    for _ in range(2):
        found = daily.after(found) or 0.0
        days.append(datetime.fromtimestamp(found, UTC).isoformat())
    assert days == ["2027-03-27T01:30:00+00:00", "2027-03-29T00:30:00+00:00"]
    assert daily.after(moment("2027-10-31T00:00:00Z")) == moment("2027-10-31T00:30:00Z")
    assert daily.after(moment("2027-10-31T00:30:00Z")) == moment("2027-11-01T01:30:00Z")
