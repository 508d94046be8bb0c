"""`tidelog log`: what each command prints, for people and for programs, and how it ends."""

import importlib.util
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import click
import pytest

from tests.verify.stores import BEGIN, file_hashes, secret
from tidelog.engine.cli.log import log as log_group
from tidelog.engine.moments import MalformedMomentError, position_of
from tidelog.events.canonical import encode
from tidelog.events.envelope import Actor, Proof
from tidelog.events.merkle import leaf_hash
from tidelog.events.moment import datetime_of, time_of
from tidelog.events.names import StreamName
from tidelog.events.projections import PROJECTIONS
from tidelog.events.vocabulary import Marked, ObjectObserved
from tidelog.storage.errors import MomentError
from tidelog.storage.layout import Layout
from tidelog.storage.log import ANY, NewEvent, Query
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import open_log, utc_now

Run: TypeAlias = Any
SCRIPT = Path(__file__).parents[2] / "tools" / "verify_log.py"
CHILD = [sys.executable, "-m", "tidelog.engine", "log"]
PATIENCE_S = 30


def entries(store: Path, query: Query | None = None) -> list[str]:
    reader = LogReader(Layout(store).log)
    try:
        return [entry.decode() for entry in reader.entries(query or Query())]
    finally:
        reader.close()


def value(store: Path, statement: str) -> str:
    with closing(sqlite3.connect(store / "log.db")) as database:
        return str(database.execute(statement).fetchone()[0])


async def appended(store: Path, *events: NewEvent) -> None:
    async with open_log(store) as log:
        await log.append(StreamName("east/apps/Deployment/shop/cli"), ANY, events)


# Help


def every_command() -> list[str]:
    return sorted(log_group.commands)


@pytest.mark.parametrize("command", every_command())
def test_every_command_has_help_that_begins_with_a_sentence(tidelog: Run, command: str) -> None:
    shown = tidelog("log", command, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert f"Usage: tidelog log {command}" in shown.out
    text = " ".join(shown.out.split("\n\n")[1].split())
    assert re.fullmatch(r"[A-Z].+\.", text), text
    assert "TIDELOG_STORE" in shown.out


def test_every_option_and_argument_is_explained() -> None:
    for name, command in log_group.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "new":
                assert parameter.help, f"{name} {parameter.name}"


def test_the_command_tells_its_version(tidelog: Run) -> None:
    assert re.fullmatch(r"tidelog, version \d+\.\d+\.\d+\n", tidelog("--version").out)


# tail and show


def test_tail_prints_the_last_events_a_line_each(store: Path, tidelog: Run) -> None:
    shown = tidelog("log", "tail")
    assert (shown.code, shown.err, len(shown.lines)) == (0, "", 20)
    for line, entry in zip(shown.lines, entries(store)[-20:], strict=True):
        envelope = json.loads(entry)
        assert line.split()[:4] == [
            str(envelope["position"]),
            envelope["time"],
            envelope["type"],
            envelope["stream"],
        ]
        assert f"by {envelope['actor']['kind']} {envelope['actor']['name']} (" in line


def test_tail_as_json_prints_the_stored_envelopes(store: Path, tidelog: Run) -> None:
    assert tidelog("log", "tail", "-n", "7", "-o", "json").lines == entries(store)[-7:]
    assert tidelog("log", "tail", "-n", "0", "-o", "json").lines == []
    assert tidelog("log", "tail", "-n", str(2**70), "-o", "json").lines == entries(store)


@pytest.mark.parametrize("field", ["stream", "type", "run", "trace", "cause"])
def test_tail_prints_only_what_was_asked_for(store: Path, tidelog: Run, field: str) -> None:
    every = [json.loads(entry) for entry in entries(store)]
    wanted = next(event[field] for event in every[100:] if event.get(field))
    expected = [event["position"] for event in every if event.get(field) == wanted]
    shown = tidelog("log", "tail", f"--{field}", wanted, "-n", "300", "-o", "json")
    assert [json.loads(line)["position"] for line in shown.lines] == expected


def test_tail_takes_several_types(store: Path, tidelog: Run) -> None:
    shown = tidelog("log", "tail", "--type", "Marked", "--type", "Resumed", "-n", "300", "-o", "json")
    assert {json.loads(line)["type"] for line in shown.lines} == {"Marked", "Resumed"}


def test_tail_of_what_does_not_occur_is_empty_and_says_what_was_looked_for(store: Path, tidelog: Run) -> None:
    told = "None of the log's 300 events has --stream a/b --type Nothing --type More.\n"
    for output in ("table", "json"):
        asked = ("--type", "Nothing", "--type", "More", "--stream", "a/b", "-o", output)
        assert tidelog("log", "tail", *asked) == (0, "", told)
    assert tidelog("log", "tail", "-n", 0, "--type", "Nothing") == (0, "", "")


def test_tail_of_a_cause_that_is_no_id_is_wrong_usage(store: Path, tidelog: Run) -> None:
    shown = tidelog("log", "tail", "--cause", "x")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == "Error: 'x' is no event id: a UUID of version 7\n"


@pytest.mark.parametrize("count", ["-1", "x"])
def test_tail_refuses_a_count_that_is_none(store: Path, tidelog: Run, count: str) -> None:
    shown = tidelog("log", "tail", "-n", count)
    assert shown.code == 2
    assert "Invalid value for '-n'" in shown.err


@pytest.mark.parametrize("position", [1, 2, 150, 300])
def test_show_prints_an_event_whole(store: Path, tidelog: Run, position: int) -> None:
    entry = entries(store)[position - 1]
    assert tidelog("log", "show", position, "-o", "json") == (0, entry + "\n", "")
    envelope = json.loads(entry)
    shown = tidelog("log", "show", position)
    facts, brace, data = shown.out.partition("{")
    assert json.loads(brace + data) == envelope["data"]
    found = dict(line.split(maxsplit=1) for line in facts.splitlines())
    assert found["position"].strip() == str(position)
    assert found["id"].strip() == envelope["id"]
    assert found["leaf"].strip() == leaf_hash(entry.encode()).hex()
    assert ("run" in found) == ("run" in envelope)


@pytest.mark.parametrize("position", [301, 10**15])
def test_show_of_no_event_says_so(store: Path, tidelog: Run, position: int) -> None:
    assert tidelog("log", "show", position) == (1, "", f"The log has no event {position}: its last is 300.\n")


@pytest.mark.parametrize("position", ["0", "-3", "x", str(2**70)])
def test_show_of_no_position_is_wrong_usage(store: Path, tidelog: Run, position: str) -> None:
    assert tidelog("log", "show", "--", position).code == 2


def test_show_of_an_event_that_a_later_release_wrote(store: Path, tidelog: Run) -> None:
    envelope = json.loads(entries(store)[-1])
    envelope |= {"type": "Unheard", "schema": 3, "data": {"of": [1, "\x1b[31m"]}}
    with closing(sqlite3.connect(store / "log.db")) as database:
        database.execute("UPDATE events SET envelope = ? WHERE position = 300", (encode(envelope).decode(),))
        database.commit()
    shown = tidelog("log", "show", 300)
    assert (shown.code, shown.err) == (0, "")
    assert "Unheard, schema 3 (not known to this release)" in shown.out
    assert '"\\u001b[31m"' in shown.out


HOSTILE = "eve\x1b[2J\x07\x9b31m\u202e\x00\r\n[red]x[/red]"


def test_control_characters_are_spelled_out_and_markup_is_text(store: Path, tidelog: Run) -> None:
    actor = Actor(kind="git", name=HOSTILE, proof=Proof(kind="claimed"))
    anyio.run(appended, store, NewEvent(Marked(label=HOSTILE, why=HOSTILE), actor=actor))
    for command in (("tail", "-n", 3), ("show", 301), ("tail", "-n", 3, "-o", "json"), ("show", 301, "-o", "json")):
        shown = tidelog("log", *command)
        assert shown.code == 0
        sent = set(shown.out) - {"\n"}
        assert all(char.isprintable() for char in sent) or "json" in command
        assert not sent & {"\x1b", "\x07", "\x00", "\r"}
    shown = tidelog("log", "tail", "-n", 1)
    assert "eve\\x1b[2J\\x07\\x9b31m\\x202e\\x00\\x0d\\x0a[red]x[/red]" in shown.out
    assert len(shown.lines) == 1


def test_control_characters_of_a_damaged_store_are_spelled_out(store: Path, tidelog: Run) -> None:
    with closing(sqlite3.connect(store / "views.db")) as database:
        key = database.execute("SELECT min(key) FROM actual").fetchone()[0]
        database.execute("UPDATE actual SET key = ? WHERE key = ?", ("\x1b[31m", key))
        database.commit()
    for command in (("verify",), ("state", "actual")):
        shown = tidelog("log", *command)
        assert shown.code in (1, 3)
        assert "\x1b" not in shown.out + shown.err
        assert "\\x1b[31m" in shown.out + shown.err


# Bodies


def test_body_prints_the_content_as_it_was(store: Path, tidelog: Run) -> None:
    digest = value(store, "SELECT digest FROM bodies WHERE secret = 0 LIMIT 1")
    shown = tidelog("log", "body", digest)
    assert (shown.code, shown.err) == (0, "")
    assert re.fullmatch(r"(body \d+ )+", shown.out)


def test_body_of_a_secret_shows_nothing(store: Path, tidelog: Run) -> None:
    digest = value(store, "SELECT digest FROM bodies WHERE secret = 1 LIMIT 1")
    size = value(store, f"SELECT size FROM bodies WHERE digest = '{digest}'")
    assert tidelog("log", "body", digest) == (
        1,
        "",
        f"{digest} is secret ({size} bytes): its content is not shown.\n",
    )


def test_no_command_shows_what_is_secret(store: Path, tidelog: Run) -> None:
    body = secret("hunter2")

    async def keep() -> None:
        event = ObjectObserved(uid="u", resource_version="1", state=body.ref)
        async with open_log(store) as log:
            await log.append(StreamName("east/apps/Deployment/shop/cli"), ANY, [NewEvent(event)], bodies=[body])

    anyio.run(keep)
    key = (store / "log.key").read_text(encoding="utf-8").strip()
    for command in (
        ("tail",),
        ("show", 301),
        ("show", 301, "-o", "json"),
        ("body", body.ref.digest),
        ("stat",),
        ("state", "actual"),
        ("verify",),
        ("prove", "--event", 301),
        ("checkpoint",),
    ):
        shown = tidelog("log", *command)
        for hidden in ("hunter2", key, body.data.hex()):
            assert hidden not in shown.out + shown.err, command


@pytest.mark.parametrize("kind", ["", "hmac-"])
def test_body_that_is_not_there(store: Path, tidelog: Run, kind: str) -> None:
    digest = f"{kind}sha256:" + "0" * 64
    assert tidelog("log", "body", digest) == (1, "", f"No body {digest}.\n")


@pytest.mark.parametrize("digest", ["nonsense", "", "sha256:00"])
def test_body_of_no_digest_is_wrong_usage(store: Path, tidelog: Run, digest: str) -> None:
    shown = tidelog("log", "body", digest)
    assert (shown.code, shown.out) == (2, "")
    assert f"{digest!r} is no digest" in shown.err


# stat and state


def test_stat_tells_what_is_there(store: Path, tidelog: Run) -> None:
    facts = json.loads(tidelog("log", "stat", "-o", "json").out)
    every = [json.loads(entry) for entry in entries(store)]
    assert (facts["events"], facts["incarnation"], facts["log"]) == (300, 1, every[0]["data"]["log"])
    assert facts["vkey"] == every[0]["data"]["vkey"]
    assert facts["streams"] == len({event["stream"] for event in every})
    assert facts["bodies"] == int(value(store, "SELECT count(*) FROM bodies"))
    assert (facts["first_event"], facts["last_event"]) == (every[0]["time"], every[-1]["time"])
    assert sum(facts["types"].values()) == 300
    assert facts["projections"] == {projection.name: 300 for projection in PROJECTIONS}
    assert facts["last_kept_checkpoint"] == 300
    assert facts["writer"] is None
    shown = tidelog("log", "stat")
    assert re.search(r"^events +300 *$", shown.out, re.MULTILINE)
    assert re.search(r"^LogCreated +1 *$", shown.out, re.MULTILINE)
    assert re.search(r"^object_versions +300 *$", shown.out, re.MULTILINE)


def test_stat_names_the_writer(store: Path, tidelog: Run) -> None:
    opened = OpenStore(Layout(store), utc_now)
    try:
        writer = json.loads(tidelog("log", "stat", "-o", "json").out)["writer"]
    finally:
        opened.close()
    assert writer.startswith(f"process {os.getpid()} on ")


def test_stat_says_when_the_log_is_ahead_of_the_clock(store: Path, tidelog: Run) -> None:
    shown = tidelog("log", "stat", "-o", "json")
    assert (shown.err, json.loads(shown.out)["seconds_ahead"]) == ("", None)
    ahead = time_of(datetime.now(UTC) + timedelta(hours=2))

    async def jump() -> None:
        async with open_log(store, clock=lambda: ahead) as log:
            await log.append(StreamName("east/apps/Deployment/shop/cli"), ANY, [NewEvent(Marked(label="jumped"))])
        async with open_log(store) as log:
            await log.append(StreamName("east/apps/Deployment/shop/cli"), ANY, [NewEvent(Marked(label="back"))])

    anyio.run(jump)
    shown = tidelog("log", "stat", "-o", "json")
    assert json.loads(shown.out)["last_event"] == ahead
    assert 7_100 < json.loads(shown.out)["seconds_ahead"] <= 7_200
    assert re.fullmatch(r"The last event's time lies 7\d\d\d seconds ahead of this machine's clock\. .*\n", shown.err)
    assert re.search(r"^seconds ahead +7\d\d\d *$", tidelog("log", "stat").out, re.MULTILINE)


def test_stat_without_projections(store: Path, tidelog: Run) -> None:
    (store / "views.db").unlink()
    shown = tidelog("log", "stat", "-o", "json")
    assert json.loads(shown.out)["projections"] == {}


@pytest.mark.parametrize("projection", [projection.name for projection in PROJECTIONS])
def test_state_prints_the_rows_of_a_projection(store: Path, tidelog: Run, projection: str) -> None:
    now = json.loads(tidelog("log", "state", projection, "-o", "json").out)
    assert (now["projection"], now["position"]) == (projection, 300)
    assert now["rows"]
    then = json.loads(tidelog("log", "state", projection, "--at", "150", "-o", "json").out)
    assert then["position"] == 150
    assert then["rows"] != now["rows"]
    shown = tidelog("log", "state", projection)
    assert shown.lines[0].startswith(f"{projection} at position 300: {len(now['rows'])} row")
    for key in now["rows"]:
        assert key in shown.lines
    (store / "views.db").unlink()
    again = json.loads(tidelog("log", "state", projection, "--at", "150", "-o", "json").out)
    assert again == then


def test_state_prints_one_row(store: Path, tidelog: Run) -> None:
    rows = json.loads(tidelog("log", "state", "runs", "-o", "json").out)["rows"]
    key = list(rows)[3]
    shown = tidelog("log", "state", "runs", key, "-o", "json")
    assert (shown.code, json.loads(shown.out)["rows"]) == (0, {key: rows[key]})
    table = tidelog("log", "state", "runs", key)
    assert table.lines[0] == "runs at position 300: 1 row"
    assert json.loads(table.out[table.out.index("{") :]) == rows[key]


def test_state_of_no_row_says_so(store: Path, tidelog: Run) -> None:
    shown = tidelog("log", "state", "runs", "nothing", "-o", "json")
    assert (shown.code, shown.err) == (1, "runs has no row nothing at position 300.\n")
    assert json.loads(shown.out)["rows"] == {}


def test_state_of_no_projection_is_wrong_usage(store: Path, tidelog: Run) -> None:
    assert tidelog("log", "state", "nothing").code == 2


# Moments


@pytest.fixture
def reader(original: Path) -> Any:
    opened = LogReader(Layout(original).log)
    yield opened
    opened.close()


def test_a_moment_is_a_position(reader: LogReader) -> None:
    now = datetime.now(UTC)
    assert [position_of(text, reader, now) for text in ("0", "1", "300", "0007")] == [0, 1, 300, 7]
    for text in ("301", "99999999999999999999999999"):
        with pytest.raises(MomentError, match="its last is 300"):
            position_of(text, reader, now)


def last_until(reader: LogReader, moment: datetime) -> int:
    """The right answer, found by looking at every event."""
    times = [recorded.envelope.time for recorded in reader.page(Query())]
    return sum(datetime.fromisoformat(time) <= moment for time in times)


def test_a_moment_is_a_time_with_or_without_a_zone(reader: LogReader, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    middle = BEGIN + timedelta(seconds=5)
    expected = last_until(reader, middle)
    assert 1 < expected < 300
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        for text in (
            "2026-03-01T12:00:05Z",
            "2026-03-01 12:00:05+00:00",
            "2026-03-01T14:00:05+02:00",
            "2026-03-01T12:00:05.000000Z",
            "20260301T120005Z",
            "2026-03-01T07:00:05",
        ):
            assert position_of(text, reader, now) == expected, text
    finally:
        monkeypatch.undo()
        time.tzset()
    assert position_of("2026-03-01T12:00:05.999999Z", reader, now) == expected
    assert position_of("2026-03-01T12:00:06Z", reader, now) > expected


def test_a_moment_is_so_long_ago(reader: LogReader) -> None:
    for text, ago in (
        ("3s ago", timedelta(seconds=3)),
        ("2m ago", timedelta(minutes=2)),
        ("2h ago", timedelta(hours=2)),
        ("1 d ago", timedelta(days=1)),
        (" 2w  ago ", timedelta(weeks=2)),
    ):
        assert position_of(text, reader, BEGIN + timedelta(seconds=5) + ago) == last_until(
            reader, BEGIN + timedelta(seconds=5)
        )


def test_a_time_yet_to_come_is_no_moment_of_the_log(reader: LogReader) -> None:
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert position_of("2026-11-01T12:00:00Z", reader, now) == 300
    for text in ("2026-11-01T12:00:00.000001Z", "2999-01-01"):
        with pytest.raises(MomentError, match=r"is yet to come \(it is 2026-11-01T12:00:00Z\): leave the moment out"):
            position_of(text, reader, now)


def test_a_time_that_the_log_has_reached_is_a_moment_though_this_clock_is_behind(reader: LogReader) -> None:
    last = datetime_of(reader.time_at(300))
    behind = last - timedelta(days=1)
    assert position_of(last.isoformat(), reader, behind) == 300
    middle = BEGIN + timedelta(seconds=5)
    assert position_of(middle.isoformat(), reader, BEGIN) == last_until(reader, middle)
    with pytest.raises(MomentError, match="is yet to come"):
        position_of((last + timedelta(seconds=1)).isoformat(), reader, behind)


def test_before_the_log_there_is_nothing(reader: LogReader) -> None:
    with pytest.raises(MomentError, match="the log begins after 2020-01-01T00:00:00Z"):
        position_of("2020-01-01T00:00Z", reader, datetime.now(UTC))


NONSENSE = [
    "",
    "yesterday",
    "-1",
    "1.5",
    "h ago",
    "2y ago",
    "2026-13-01",
    "2026-03-01T25:00Z",
    "\u00b2",
    "\u0663h ago",
    "99999999999999999999d ago",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "12:00",
    "9" * 5_000,
]


@pytest.mark.parametrize("text", NONSENSE, ids=ascii)
def test_nonsense_is_no_moment(reader: LogReader, text: str) -> None:
    with pytest.raises(MalformedMomentError, match="is no moment: give a position"):
        position_of(text, reader, datetime.now(UTC))


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("yesterday", 2, "Error: 'yesterday' is no moment: give"),
        ("301", 1, "The log has no position 301: its last is 300."),
        ("2020-01-01", 1, "The log begins after "),
        ("2999-01-01T00:00Z", 1, "2999-01-01T00:00:00Z is yet to come"),
    ],
)
def test_moments_that_are_none_end_in_a_sentence(store: Path, tidelog: Run, text: str, code: int, told: str) -> None:
    shown = tidelog("log", "state", "runs", "--at", text)
    assert (shown.code, shown.out, shown.err.count("\n")) == (code, "", 1)
    assert shown.err.startswith(told)


# rebuild and verify


def test_rebuild_makes_the_projections_again(store: Path, tidelog: Run) -> None:
    before = tidelog("log", "state", "actual", "-o", "json").out
    with closing(sqlite3.connect(store / "views.db")) as database:
        database.execute("DELETE FROM actual")
        database.commit()
    assert tidelog("log", "rebuild") == (0, "Folded 300 events.\n", "")
    assert tidelog("log", "state", "actual", "-o", "json").out == before


def test_rebuild_leaves_a_store_alone_that_is_being_written(store: Path, tidelog: Run) -> None:
    opened = OpenStore(Layout(store), utc_now)
    before = file_hashes(store)
    try:
        shown = tidelog("log", "rebuild")
        assert file_hashes(store) == before
    finally:
        opened.close()
    assert (shown.code, shown.out) == (3, "")
    assert re.fullmatch(rf"Error: .* is being written by process {os.getpid()} on .*: stop it first.*\n", shown.err)


def test_verify_of_an_intact_store(store: Path, tidelog: Run) -> None:
    shown = tidelog("log", "verify")
    assert (shown.code, shown.err) == (0, "")
    assert re.fullmatch(r"intact: 300 events, \d+ bodies, 2 checkpoints\nroot [0-9a-f]{64}\n", shown.out)
    report = json.loads(tidelog("log", "verify", "-o", "json").out)
    assert (report["intact"], report["events"], report["findings"]) == (True, 300, [])
    assert report["root"] in shown.out


def test_verify_of_a_damaged_store_names_the_damage_and_ends_with_1(store: Path, tidelog: Run) -> None:
    with closing(sqlite3.connect(store / "log.db")) as database:
        database.execute("UPDATE events SET version = 99 WHERE position = 42")
        database.commit()
    shown = tidelog("log", "verify")
    assert shown.code == 1
    assert re.search(r"^event 42 +not what its envelope says: version *$", shown.out, re.MULTILINE)
    assert "damaged: 1 fault in 300 events" in shown.out
    as_json = tidelog("log", "verify", "-o", "json")
    assert as_json.code == 1
    report = json.loads(as_json.out)
    assert report["findings"] == [{"what": "event 42", "problem": "not what its envelope says: version"}]


def test_verify_of_a_log_that_cannot_be_opened_says_what_to_do(store: Path, tidelog: Run) -> None:
    """It is damage like any other, and the sentence that other commands end with must lead somewhere."""
    with (store / "log.db").open("r+b") as file:
        file.seek(100)
        file.write(bytes(200))
    (store / "views.db").unlink()
    assert "run `tidelog log verify` for the whole picture" in tidelog("log", "tail").err
    shown = tidelog("log", "verify")
    assert (shown.code, shown.err) == (1, "")
    assert "cannot be opened" in shown.out
    assert "tidelog log restore" in shown.out
    assert "tidelog log verify" not in shown.out
    report = json.loads(tidelog("log", "verify", "-o", "json").out)
    assert (report["intact"], report["events"], report["findings"][0]["what"]) == (False, 0, str(store / "log.db"))


def test_verify_takes_a_checkpoint_that_was_kept_elsewhere(store: Path, tidelog: Run, tmp_path: Path) -> None:
    note, vkey = tidelog("log", "checkpoint").out, tidelog("log", "checkpoint", "--vkey").out.strip()
    kept = tmp_path / "kept"
    kept.write_text(note, encoding="utf-8")
    assert tidelog("log", "verify", "--checkpoint", kept, "--vkey", vkey).code == 0
    with closing(sqlite3.connect(store / "log.db")) as database:
        database.execute("DELETE FROM events WHERE position = 300")
        database.execute("DELETE FROM checkpoints WHERE size = 300")
        database.commit()
    shown = tidelog("log", "verify", "--checkpoint", kept)
    assert shown.code == 1
    assert "it is of 300 events, the log has 299: its end was cut off" in shown.out


def test_verify_refuses_what_is_no_checkpoint(store: Path, tidelog: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("nonsense", encoding="utf-8")
    shown = tidelog("log", "verify", "--checkpoint", tmp_path / "kept")
    assert (shown.code, shown.out) == (3, ""), "it says nothing about the log"
    assert "kept is no checkpoint: malformed note" in shown.err
    assert tidelog("log", "verify", "--checkpoint", tmp_path / "nowhere").code == 2


@pytest.mark.parametrize("command", ["verify", "import"])
def test_a_key_that_is_none_is_wrong_usage(store: Path, tidelog: Run, tmp_path: Path, command: str) -> None:
    shown = tidelog("log", command, "--vkey", "nonsense", *([tmp_path] if command == "import" else []))
    assert (shown.code, shown.out) == (2, "")
    assert "Invalid value for '--vkey': malformed key 'nonsense'" in shown.err


def test_verify_of_a_checkpoint_that_is_no_text(store: Path, tidelog: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"\xff\xfe")
    shown = tidelog("log", "verify", "--checkpoint", tmp_path / "kept")
    assert (shown.code, shown.out) == (3, "")
    assert "kept is no checkpoint: it is not UTF-8" in shown.err


# prove and checkpoint


def check(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the stand-alone checker in this process."""
    spec = importlib.util.spec_from_file_location("verify_log", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["verify_log.py", *arguments])
    code = module._main()
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    "arguments", [("--event", 7), ("--event", 300), ("--from", 7, "--to", 150), ("--from", 120), ("--from", 300)]
)
def test_what_is_proved_passes_the_check_without_tidelog(
    store: Path, tidelog: Run, tmp_path: Path, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tidelog("log", "prove", *arguments)
    assert (shown.code, shown.err) == (0, "")
    (tmp_path / "proof").write_text(shown.out, encoding="utf-8")
    vkey = tidelog("log", "checkpoint", "--vkey").out.strip()
    assert check(["proof", str(tmp_path / "proof"), "--vkey", vkey], monkeypatch) == 0


@pytest.mark.parametrize("arguments", [(), ("--event", 1, "--from", 1), ("--to", 5), ("--event", 1, "--to", 5)])
def test_prove_needs_to_know_what(store: Path, tidelog: Run, arguments: tuple[object, ...]) -> None:
    assert tidelog("log", "prove", *arguments).code == 2


@pytest.mark.parametrize("arguments", [("--event", 301), ("--from", 1, "--to", 301), ("--from", 9, "--to", 5)])
def test_what_the_log_does_not_have_is_not_proved(store: Path, tidelog: Run, arguments: tuple[object, ...]) -> None:
    shown = tidelog("log", "prove", *arguments)
    assert (shown.code, shown.out, shown.err.count("\n")) == (1, "", 1)


def test_checkpoint_of_an_earlier_size(store: Path, tidelog: Run) -> None:
    assert tidelog("log", "checkpoint", "--size", 120).out == value(
        store, "SELECT note FROM checkpoints WHERE size = 120"
    )
    assert tidelog("log", "checkpoint").out.splitlines()[1] == "300"
    assert tidelog("log", "checkpoint", "--size", 301).code == 1


# Moving


def test_export_and_import(store: Path, tidelog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = json.loads(tidelog("log", "verify", "-o", "json").out)["root"]
    shown = tidelog("log", "export", tmp_path / "export", "-o", "json")
    assert (shown.code, json.loads(shown.out)) == (0, {"events": 300, "root": root})
    again = tidelog("log", "export", tmp_path / "export")
    assert again.code == 3
    assert "is there already, and not empty: name a new directory" in again.err
    assert check(["export", str(tmp_path / "export")], monkeypatch) == 0
    new = ("--store", tmp_path / "new")
    assert tidelog("log", "import", tmp_path / "export", *new) == (
        0,
        f"Imported 300 events into {tmp_path / 'new'}.\n",
        "",
    )
    assert json.loads(tidelog("log", "verify", *new, "-o", "json").out)["root"] == root
    assert tidelog("log", "tail", *new).out == tidelog("log", "tail").out
    assert tidelog("log", "import", tmp_path / "export", *new).code == 3
    shown = tidelog("log", "import", tmp_path / "export", "--store", tmp_path / "third", "-o", "json")
    assert (shown.code, json.loads(shown.out), shown.err) == (0, {"events": 300, "root": root}, "")
    assert tidelog("log", "export", tmp_path / "second").out == f"Exported 300 events to {tmp_path / 'second'}.\n"


def test_backup_and_restore(store: Path, tidelog: Run, tmp_path: Path) -> None:
    shown = tidelog("log", "backup", tmp_path / "backup")
    assert shown == (0, f"Backed up 300 events to {tmp_path / 'backup'}.\n", "")
    assert tidelog("log", "tail", "--store", tmp_path / "backup").out == tidelog("log", "tail").out
    shown = tidelog("log", "backup", tmp_path / "second", "-o", "json")
    assert (shown.code, json.loads(shown.out), shown.err) == (0, {"events": 300}, "")
    new = ("--store", tmp_path / "new")
    shown = tidelog("log", "restore", tmp_path / "backup", *new, "-o", "json")
    facts = json.loads(shown.out)
    assert (shown.code, facts["incarnation"]) == (0, 2)
    stat = json.loads(tidelog("log", "stat", *new, "-o", "json").out)
    assert (stat["events"], stat["incarnation"], stat["log"]) == (301, 2, facts["log"])
    assert tidelog("log", "restore", tmp_path / "backup", *new).code == 3
    assert tidelog("log", "restore", tmp_path / "nowhere").code == 2


# What is no store

READING = [
    ("tail",),
    ("show", 1),
    ("body", "sha256:" + "0" * 64),
    ("stat",),
    ("state", "runs"),
    ("rebuild",),
    ("verify",),
    ("prove", "--event", 1),
    ("checkpoint",),
    ("export", "target"),
    ("backup", "target"),
    ("tail", "-f"),
]


@pytest.mark.parametrize("arguments", READING, ids=lambda case: " ".join(map(str, case)))
@pytest.mark.parametrize("kind", ["nothing", "an empty directory", "a file", "another database", "no database"])
def test_what_is_no_store_ends_in_one_sentence_and_is_left_as_it_is(
    tidelog: Run, tmp_path: Path, arguments: tuple[object, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    if kind == "a file":
        place.write_text("mine", encoding="utf-8")
    elif kind != "nothing":
        place.mkdir()
    if kind == "no database":
        (place / "log.db").write_bytes(b"mine" * 1_000)
    elif kind == "another database":
        with closing(sqlite3.connect(place / "log.db")) as database:
            database.execute("PRAGMA application_id = 7")
            database.execute("CREATE TABLE mine (x)")
    monkeypatch.chdir(tmp_path)
    before = file_hashes(tmp_path)
    shown = tidelog("log", *arguments, "--store", place)
    assert (shown.code, shown.out) == (3, "")
    assert re.fullmatch(r"Error: [^\n]*place[^\n]*\n", shown.err)
    assert {name: hashed for name, hashed in file_hashes(tmp_path).items() if name != "place/writer.lock"} == before


def test_the_store_is_the_one_that_the_option_names_then_the_environment_then_the_usual_one(
    store: Path, tidelog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tidelog("log", "show", 300).code == 0
    assert "nowhere" in tidelog("log", "show", 300, "--store", tmp_path / "nowhere").err
    monkeypatch.delenv("TIDELOG_STORE")
    monkeypatch.chdir(tmp_path)
    said = "Error: there is no Tidelog store at tidelog-store: name its directory with --store, or in TIDELOG_STORE\n"
    assert tidelog("log", "show", 300).err == said
    store.rename(tmp_path / "tidelog-store")
    assert tidelog("log", "show", 300).code == 0


# As a process


def test_tail_follows_what_another_process_appends_and_ends_quietly(store: Path, environment: dict[str, str]) -> None:
    command = [*CHILD, "tail", "-f", "-n", "1", "-o", "json", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as following:
        assert following.stdout
        assert following.stderr
        try:
            assert json.loads(following.stdout.readline())["position"] == 300
            anyio.run(appended, store, *(NewEvent(Marked(label=str(number))) for number in range(3)))
            followed = [json.loads(following.stdout.readline()) for _ in range(3)]
            assert [event["position"] for event in followed] == [301, 302, 303]
            assert [event["data"]["label"] for event in followed] == ["0", "1", "2"]
            following.send_signal(signal.SIGINT)
            assert following.wait(PATIENCE_S) == 130
            assert following.stdout.read() == b""
            assert following.stderr.read() == b""
        finally:
            following.kill()


def test_a_reader_that_has_seen_enough_is_no_error(store: Path, environment: dict[str, str]) -> None:
    for arguments in (["tail", "-n", "300"], ["tail", "-n", "300", "-o", "json"], ["state", "object_versions"]):
        command = [*CHILD, *arguments, "--store", str(store)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as writing:
            assert writing.stdout
            assert writing.stderr
            assert writing.stdout.readline()
            writing.stdout.close()
            assert writing.stderr.read() == b""
            assert writing.wait(PATIENCE_S) == 0


def test_without_a_terminal_there_is_neither_colour_nor_progress(store: Path, environment: dict[str, str]) -> None:
    for arguments in (["verify"], ["stat"], ["tail"], ["rebuild"]):
        done = subprocess.run(
            [*CHILD, *arguments, "--store", str(store)],
            capture_output=True,
            check=True,
            timeout=60,
            env=environment,
        )
        assert b"\x1b" not in done.stdout + done.stderr
        assert done.stderr == b""
