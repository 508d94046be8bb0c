"""An export holds the log as it is, and an import makes the same log of it, or nothing."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.verify.stores import file_hashes, known_of, read_all, verified
from tidelog.events.canonical import encode
from tidelog.events.envelope import ENVELOPE_BYTES_MAX
from tidelog.events.note import SignerKey
from tidelog.events.projections import PROJECTIONS
from tidelog.storage import transfer
from tidelog.storage.errors import (
    NotAnExportError,
    OccupiedError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
)
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.log.compression import StoredBody
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.writer import LogWriter
from tidelog.storage.projections.projector import Projector
from tidelog.storage.transfer import export_log, import_log

FILES = ["bodies.jsonl", "checkpoint", "events.jsonl", "vkey"]
ROOT = Path(__file__).parents[2]


def digests(store: Path) -> dict[str, str]:
    projector = Projector.open(Layout(store), PROJECTIONS)
    try:
        projector.catch_up()
        return dict(projector.digests())
    finally:
        projector.close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_export_passes_the_check_without_tidelog(exported: Path, script: Path) -> None:
    assert names(exported) == FILES
    checked = subprocess.run(
        [sys.executable, "-I", str(script), "export", str(exported)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "positions run from 1 to 600" in checked.stdout
    assert checked.stdout.endswith("all of this holds\n")


def test_an_export_has_the_stored_envelopes_byte_for_byte(original: Path, exported: Path) -> None:
    reader = LogReader(Layout(original).log)
    stored = reader.entries(Query())
    reader.close()
    assert (exported / "events.jsonl").read_bytes() == b"".join(entry + b"\n" for entry in stored)


def test_progress_of_an_export_and_an_import_ends_with_all_events(original: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    export_log(Layout(original), tmp_path / "export", lambda done, total: told.append((done, total)))
    import_log(tmp_path / "export", Layout(tmp_path / "new"), None, lambda done, total: told.append((done, total)))
    assert told == [(600, 600), (600, 600)]


def test_an_import_is_the_same_log(original: Path, exported: Path, tmp_path: Path) -> None:
    signed = import_log(exported, Layout(tmp_path / "new"))
    assert names(tmp_path / "new") == ["log.db"]
    report = verified(tmp_path / "new", checkpoint=(exported / "checkpoint").read_text(encoding="utf-8"))
    assert (report.findings, report.root, report.events) == ((), signed.root.hex(), 600)
    known = known_of(original)
    theirs, ours = read_all(original, known, proofs=False), read_all(tmp_path / "new", known, proofs=False)
    assert ours.events == theirs.events
    assert ours.bodies == theirs.bodies
    assert (ours.root, ours.nodes, ours.leaves) == (theirs.root, theirs.nodes, theirs.leaves)
    assert (ours.positions, ours.streams, ours.types) == (theirs.positions, theirs.streams, theirs.types)
    assert ours.identity == theirs.identity
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    assert digests(tmp_path / "new") == digests(copy)


def test_an_export_of_an_import_is_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    import_log(exported, Layout(tmp_path / "new"))
    export_log(Layout(tmp_path / "new"), tmp_path / "again")
    assert file_hashes(tmp_path / "again") == file_hashes(exported)


Fault: TypeAlias = Callable[[Path], None]


def edit(name: str, line: int, change: Callable[[bytes], bytes]) -> Fault:
    """Changes a line (from 0; negative from the end) of a file."""

    def fault(export: Path) -> None:
        lines = (export / name).read_bytes().split(b"\n")[:-1]
        changed = change(lines[line])
        assert changed != lines[line]
        lines[line] = changed
        (export / name).write_bytes(b"".join(line + b"\n" for line in lines))

    return fault


def fields(**changes: object) -> Callable[[bytes], bytes]:
    return lambda line: encode(json.loads(line) | changes)


def remove(name: str, line: int) -> Fault:
    def fault(export: Path) -> None:
        lines = (export / name).read_bytes().splitlines(keepends=True)
        del lines[line]
        (export / name).write_bytes(b"".join(lines))

    return fault


def twice(name: str, line: int) -> Fault:
    def fault(export: Path) -> None:
        lines = (export / name).read_bytes().splitlines(keepends=True)
        (export / name).write_bytes(b"".join([*lines[: line + 1], lines[line], *lines[line + 1 :]]))

    return fault


def cut(name: str, size: int) -> Fault:
    return lambda export: os.truncate(export / name, (export / name).stat().st_size - size)


def same_id(export: Path) -> None:
    lines = (export / "events.jsonl").read_bytes().splitlines()
    lines[50] = fields(id=json.loads(lines[20])["id"])(lines[50])
    (export / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def spaced(line: bytes) -> bytes:
    return line.replace(b'":', b'": ', 1)


def other_body(line: bytes) -> bytes:
    return encode(json.loads(line) | {"body": base64.b64encode(b"other").decode()})


def write_key(text: str) -> Fault:
    def fault(export: Path) -> None:
        (export / "vkey").write_text(text, encoding="utf-8")

    return fault


def without(name: str) -> Fault:
    return lambda export: (export / name).unlink()


def as_directory(name: str) -> Fault:
    def fault(export: Path) -> None:
        (export / name).unlink()
        (export / name).mkdir()

    return fault


def pad(line: bytes) -> bytes:
    """An event that is larger than any may be, and otherwise right."""
    event = json.loads(line)
    return encode(event | {"actor": event["actor"] | {"name": "x" * ENVELOPE_BYTES_MAX}})


def unbound(export: Path) -> None:
    """An event that names a secret body without the digest of its ciphertext."""
    lines = (export / "events.jsonl").read_bytes().splitlines(keepends=True)
    changed = [re.sub(rb',"stored":"sha256:[0-9a-f]{64}"', b"", line) for line in lines]
    assert changed != lines
    (export / "events.jsonl").write_bytes(b"".join(changed))


STRANGER = SignerKey("example.com/stranger", bytes(32))
LONG_AGO = "2020-01-01T00:00:00.000000Z"
NOBODY = "01890000-0000-7000-8000-000000000000"
NEVER = "its events are not those that its checkpoint signs"
FAULTS: dict[str, tuple[Fault, str]] = {
    "an event altered": (edit("events.jsonl", 30, fields(actor={"kind": "x"})), "event 31"),
    "an event altered in a way that is valid": (edit("events.jsonl", 30, fields(occurred=LONG_AGO)), NEVER),
    "the last event altered": (edit("events.jsonl", -1, fields(occurred=LONG_AGO)), NEVER),
    "an outside time that is none": (
        edit("events.jsonl", 30, fields(occurred="2020")),
        "event 31 .* '2020' is no time",
    ),
    "no stream": (edit("events.jsonl", 30, fields(stream="a/b")), "event 31 is damaged: 'a/b' is no stream"),
    "a run that is none": (edit("events.jsonl", 30, fields(run="x")), "event 31 is damaged: 'x' is no UUID"),
    "a trace that is none": (edit("events.jsonl", 30, fields(trace="x")), "event 31 is damaged: 'x' is no UUID"),
    "a cause that is not there": (edit("events.jsonl", 30, fields(cause=NOBODY)), "event 31 .* its cause .* does not"),
    "a payload that is malformed": (edit("events.jsonl", 0, fields(data={})), "event 1 is damaged: a LogCreated of"),
    "an event that is too large": (edit("events.jsonl", 30, pad), "events.jsonl, line 31 is damaged: it has more than"),
    "an event without end": (edit("events.jsonl", -1, lambda _: b"x" * 200_000), "events.jsonl, line 600 is damaged"),
    "a reference that binds nothing": (unbound, "event .* names no body: a secret one has"),
    "no JSON": (edit("events.jsonl", 30, lambda line: line[:-1]), "event 31"),
    "no UTF-8": (edit("events.jsonl", 30, lambda line: line.replace(b'"east/', b'"\xffast/')), "event 31"),
    "not canonical": (edit("events.jsonl", 30, spaced), "event 31 is damaged: it is not in canonical form"),
    "an event missing": (remove("events.jsonl", 30), "event 31 is damaged: position and version are not 31 and"),
    "the first event missing": (remove("events.jsonl", 0), "event 1 is damaged: position and version are not 1"),
    "the last event missing": (remove("events.jsonl", -1), NEVER),
    "an event twice": (twice("events.jsonl", 30), "event 32 is damaged: position and version are not 32 and"),
    "an id twice": (same_id, "event 51 is damaged: its id .* stands before it"),
    "an id that is none": (edit("events.jsonl", 30, fields(id="x")), "event 31 is damaged: 'x' is no UUID"),
    "a cause that is no id": (edit("events.jsonl", 30, fields(cause="x")), "event 31 is damaged: 'x' is no UUID"),
    "a version gap": (edit("events.jsonl", 30, fields(version=77)), "event 31 is damaged: position and version"),
    "a time that goes back": (
        edit("events.jsonl", 30, fields(time="2020-01-01T00:00:00.000000Z")),
        "event 31 is damaged: its time is before",
    ),
    "no time": (edit("events.jsonl", -1, fields(time="tomorrow")), "event 600 is damaged: 'tomorrow' is no time"),
    "events cut off in a line": (cut("events.jsonl", 30), "event 600"),
    "events cut off to nothing": (lambda export: os.truncate(export / "events.jsonl", 0), NEVER),
    "an empty line": (edit("events.jsonl", 30, lambda _: b""), "event 31"),
    "a body altered": (edit("bodies.jsonl", 3, other_body), "bodies.jsonl, line 4"),
    "a body that is no base64": (edit("bodies.jsonl", 3, fields(body="?")), "bodies.jsonl, line 4"),
    "a body without digest": (edit("bodies.jsonl", 3, lambda _: b"{}"), "bodies.jsonl, line 4"),
    "a body under another digest": (
        edit("bodies.jsonl", 3, fields(digest="sha256:" + "0" * 64, secret=False)),
        "bodies.jsonl, line 4",
    ),
    "a body twice": (twice("bodies.jsonl", 3), "body .* it stands there twice"),
    "a body missing": (remove("bodies.jsonl", 3), "event .* the body .* that it names is not there"),
    "bodies cut off in a line": (cut("bodies.jsonl", 30), "bodies.jsonl, line"),
    "a checkpoint altered": (edit("checkpoint", 1, lambda _: b"599"), "checkpoint is damaged: bad signature"),
    "a checkpoint cut off": (cut("checkpoint", 30), "checkpoint is damaged: malformed note"),
    "another key": (
        write_key(STRANGER.verifier.text),
        "checkpoint is damaged: no signature by a known key",
    ),
    "a key that is none": (
        write_key("key"),
        "checkpoint is damaged: malformed key",
    ),
    **{f"no {name}": (without(name), f"there is no file {name}") for name in FILES},
    **{f"{name} is a directory": (as_directory(name), f"no export of a log: .*{name}") for name in FILES},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_that_was_changed_is_refused_and_nothing_is_left(exported: Path, tmp_path: Path, fault: str) -> None:
    export = Path(shutil.copytree(exported, tmp_path / "export"))
    change, message = FAULTS[fault]
    change(export)
    with pytest.raises(StoreError, match=message) as caught:
        import_log(export, Layout(tmp_path / "new"))
    assert isinstance(caught.value, StoreCorruptError | NotAnExportError)
    assert "tidelog log verify" not in str(caught.value), "there is no store to verify"
    assert names(tmp_path) == ["export"]


@pytest.mark.parametrize("most", [1, 3_000, 16 * 2**20])
def test_an_import_commits_by_bytes_too(
    exported: Path, tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    adopt = LogWriter.adopt

    def counting(self: LogWriter, entries: list[bytes], bodies: list[StoredBody]) -> None:
        sizes = [len(entry) for entry in entries] + [len(body.data) for body in bodies]
        assert sum(sizes[:-1]) < most
        batches.append(sum(sizes))
        adopt(self, entries, bodies)

    monkeypatch.setattr(LogWriter, "adopt", counting)
    monkeypatch.setattr(transfer, "IMPORT_BATCH_BYTES", most)
    assert import_log(exported, Layout(tmp_path / "new")).size == 600
    assert (len(batches) == 2) == (most == 16 * 2**20), "the events in one, the bodies in another"
    assert verified(tmp_path / "new").intact


def test_an_export_signed_by_another_than_the_trusted_key_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreCorruptError, match="no signature by a known key"):
        import_log(exported, Layout(tmp_path / "new"), STRANGER.verifier.text)
    assert names(tmp_path) == []
    vkey = (exported / "vkey").read_text(encoding="utf-8").strip()
    assert import_log(exported, Layout(tmp_path / "new"), vkey).size == 600


def test_what_is_there_already_is_not_touched(original: Path, exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine", encoding="utf-8")
    for copy in (export_log, lambda layout, directory: import_log(exported, Layout(directory))):
        with pytest.raises(OccupiedError, match="is there already"):
            copy(Layout(original), target)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(OccupiedError, match="is there already"):
        export_log(Layout(original), tmp_path / "file")
    assert names(tmp_path) == ["file", "target"]
    assert names(target) == ["mine"]


def test_an_empty_directory_may_be_the_target(original: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    export_log(Layout(original), tmp_path / "export")
    assert file_hashes(tmp_path / "export") == file_hashes(exported)


def test_a_store_that_is_not_there_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        export_log(Layout(tmp_path / "nowhere"), tmp_path / "export")
    assert names(tmp_path) == []


def test_a_damaged_body_is_not_exported(store: Path, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(store / "log.db") as database:
        database.execute("UPDATE bodies SET data = zeroblob(9) WHERE rowid = 5")
    database.close()
    with pytest.raises(StoreCorruptError, match="its stored bytes have another digest"):
        export_log(Layout(store), tmp_path / "export")
    assert names(tmp_path) == ["store"]


CHILD = """
import os, resource, sys
from pathlib import Path
from tidelog.storage import transfer
from tidelog.storage.errors import StoreFullError
from tidelog.storage.layout import Layout
action, source, target, how = sys.argv[1:]
def run(progress=None):
    if action == "import":
        transfer.import_log(Path(source), Layout(target), None, progress)
    elif action == "export":
        transfer.export_log(Layout(source), Path(target), progress)
    elif action == "backup":
        transfer.back_up(Layout(source), Path(target), progress)
    else:
        transfer.restore(Path(source), Layout(target), progress)
transfer.PAGE_EVENTS_MAX = 50
transfer.COPY_PAGES = 10
if how == "kill":
    run(lambda done, total: done * 2 > total and os.kill(os.getpid(), 9))
elif how == "whole":
    run()
else:
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
    try:
        run()
    except Exception as error:
        print(type(error).__name__, error)
"""


def child(action: str, source: Path, target: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, action, str(source), str(target), how],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".dev")},
    )


@pytest.mark.parametrize("action", ["import", "backup", "restore"])
def test_one_that_is_killed_leaves_no_half_store_and_can_be_repeated(
    store: Path, exported: Path, tmp_path: Path, action: str
) -> None:
    source, target = exported if action == "import" else store, tmp_path / "made" / "new"
    target.parent.mkdir()
    for _ in range(2):
        assert child(action, source, target, "kill").returncode == -signal.SIGKILL
        assert not target.exists()
    assert all(name.startswith(".unfinished-") for name in names(target.parent))
    done = child(action, source, target, "whole")
    assert done.returncode == 0, done.stderr
    report = verified(target)
    assert report.intact
    assert report.events == (601 if action == "restore" else 600)


@pytest.mark.parametrize("action", ["import", "export", "backup", "restore"])
def test_one_for_which_there_is_no_room_leaves_nothing(
    store: Path, exported: Path, tmp_path: Path, action: str
) -> None:
    source, target = exported if action == "import" else store, tmp_path / "made" / "new"
    target.parent.mkdir()
    done = child(action, source, target, "full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith((StoreFullError.__name__, StoreReadOnlyError.__name__)), done.stdout + done.stderr
    assert str(target) in done.stdout
    assert "append" not in done.stdout
    assert names(target.parent) == []
