"""The log opens in other programs as it is: Datasette, and the `sqlite3` module."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.verify.stores import file_hashes
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader

# In a process of its own: what Datasette warns about is its own affair.
DATASETTE = """
import asyncio, json, sys
from datasette.app import Datasette

async def main():
    datasette = Datasette([sys.argv[1]])
    await datasette.invoke_startup()
    answers = {}
    for path in json.loads(sys.argv[2]):
        response = await datasette.client.get(path, follow_redirects=True)
        text = response.text
        answers[path] = [response.status_code, json.loads(text) if ".json" in path else text]
    print(json.dumps(answers))

asyncio.run(main())
"""


def ask(file: Path, *paths: str) -> list[list[object]]:
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DATASETTE, str(file), json.dumps(paths)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert asked.returncode == 0, asked.stderr
    return list(json.loads(asked.stdout).values())


@pytest.mark.slow
def test_datasette_shows_the_log_as_it_is(original: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(original, tmp_path / "store"))
    before = file_hashes(store)
    (
        (_, tables),
        (_, events),
        (_, bodies),
        (_, readable),
        (status, page),
        (row_status, row),
    ) = ask(
        store / "log.db",
        "/log.json",
        "/log/events.json?_shape=objects&_labels=on&_size=3&_sort=position",
        "/log/bodies.json?_shape=objects&_size=1&secret=0",
        "/log/readable.json?_shape=objects&_size=1000",
        "/log/events",
        "/log/events/300",
    )
    assert isinstance(tables, dict)
    assert {table["name"]: table["count"] for table in tables["tables"]}["events"] == 300
    assert [view["name"] for view in tables["views"]] == ["readable"]

    reader = LogReader(Layout(original).log)
    recorded = reader.page(Query())
    reader.close()
    assert isinstance(events, dict)
    first, second, third = events["rows"]
    assert first["envelope"] == recorded[0].raw.decode()
    for shown, event in zip((first, second, third), recorded, strict=False):
        assert shown["stream"]["label"] == event.envelope.stream, "a foreign key is shown by its name"
        assert shown["type"]["label"] == event.envelope.type

    assert isinstance(bodies, dict)
    assert bodies["rows"][0]["digest"].startswith("sha256:")
    assert isinstance(readable, dict)
    assert [line["position"] for line in readable["rows"]] == list(range(1, 301))
    for line, event in zip(readable["rows"], recorded, strict=True):
        envelope = event.envelope
        assert (line["time"], line["stream"], line["version"]) == (envelope.time, envelope.stream, envelope.version)
        assert (line["type"], line["actor"]) == (envelope.type, envelope.actor.name)
        assert json.loads(line["data"]) == json.loads(bytes(envelope.data))
        assert (line["run"] or None, line["trace"] or None) == (envelope.run, envelope.trace)

    assert (status, row_status) == (200, 200)
    assert recorded[0].envelope.type in str(page)
    assert recorded[299].envelope.id in str(row)
    after = file_hashes(store)
    assert {name: after[name] for name in before} == before


def test_the_sqlite3_module_alone_reads_envelopes_as_json(original: Path) -> None:
    with closing(sqlite3.connect(f"file:{original / 'log.db'}?mode=ro&immutable=1", uri=True)) as database:
        rows = database.execute(
            "SELECT position, json_extract(envelope, '$.position'), json_type(envelope, '$.data'), "
            "json_valid(envelope), envelope FROM events ORDER BY position"
        ).fetchall()
        types = database.execute("SELECT type, count(*) FROM readable GROUP BY type").fetchall()
        (broken,) = database.execute("PRAGMA foreign_key_check").fetchall() or [None]
    assert [row[:4] for row in rows] == [(position, position, "object", 1) for position in range(1, 301)]
    assert all(json.loads(row[4])["position"] == row[0] for row in rows)
    assert sum(count for _, count in types) == 300
    assert broken is None
