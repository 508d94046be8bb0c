"""How a verification works: beside a writer, without a trace, and with many processes."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.verify.stores import History, file_hashes, fill, make_store, verified
from tidelog.storage.errors import NotAStoreError, StoreCorruptError, StoreNotFoundError
from tidelog.storage.layout import Layout
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.sqlite_log import open_log, utc_now
from tidelog.storage.proofs import verify
from tidelog.storage.proofs.prover import Prover
from tidelog.storage.proofs.verify import verify_store
from tidelog.storage.transfer import back_up, restore


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has small logs verified as large ones are."""
    monkeypatch.setattr(verify, "IN_PROCESS_EVENTS_MAX", 0)
    monkeypatch.setattr(verify, "PART_EVENTS", 256)


DAMAGE = [
    "SELECT 1",
    "UPDATE events SET envelope = replace(envelope, '\"kind\"', '\"kinD\"') WHERE position IN (5, 256, 257, 599)",
    "DELETE FROM events WHERE position IN (256, 257)",
    "UPDATE events SET version = version + 1 WHERE position = 258",
    "UPDATE bodies SET data = zeroblob(3) WHERE rowid % 9 = 0",
    "DELETE FROM nodes",
]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_many_processes_report_what_one_does(
    store: Path, damage: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with closing(sqlite3.connect(store / "log.db")) as database:
        database.execute(damage)
        database.commit()
    alone = verified(store)
    assert alone.intact == (damage == "SELECT 1")
    request.getfixturevalue("processes")
    assert verified(store, workers=2) == alone


def dying(part: str, how: str) -> list[str]:
    """A worker that dies of one part, and answers the others."""
    program = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "import msgspec\n"
        "from tidelog.storage.proofs.verify_part import Part, PartVerifier\n"
        "for line in sys.stdin.buffer:\n"
        "    part = msgspec.json.decode(line, type=Part)\n"
        f"    if (part.kind, part.first) == {part}:\n"
        f"        {how}\n"
        "    answer = msgspec.json.encode(PartVerifier(Path(sys.argv[1])).verify(part))\n"
        "    sys.stdout.buffer.write(answer + b'\\n')\n"
        "    sys.stdout.buffer.flush()\n"
    )
    return [sys.executable, "-c", program]


DEATHS = {
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "exits": ("os._exit(3)", 3),
    "in the middle of its answer": ("os.write(1, b'{\"part\":'); os._exit(4)", 4),
    "answers nonsense, and is killed": ("os.write(1, b'nonsense\\n'); signal.pause()", -signal.SIGKILL),
}


@pytest.mark.slow
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize(
    ("part", "name"), [(("events", 257), "events 257 to 512"), (("bodies", 0), "bodies")], ids=["events", "bodies"]
)
def test_a_worker_that_dies_is_reported_with_what_it_read(
    store: Path,
    processes: None,
    monkeypatch: pytest.MonkeyPatch,
    death: str,
    part: tuple[str, int],
    name: str,
) -> None:
    how, code = DEATHS[death]
    start = anyio.open_process

    async def started(command: Sequence[str], **options: object) -> anyio.abc.Process:
        return await start([*dying(str(part), how), command[-1]], **options)  # type: ignore[arg-type]

    monkeypatch.setattr(verify.anyio, "open_process", started)  # type: ignore[attr-defined]

    async def run() -> verify.Report:
        with anyio.fail_after(60):
            return await verify_store(store, workers=2)

    report = anyio.run(run)
    named = {finding.what: finding.problem for finding in report.findings}
    assert f"a worker died (exit code {code})" in named[name]
    others = [finding for finding in report.findings if finding.what != name]
    assert all(finding.what.startswith("checkpoint") for finding in others)
    assert report.events == (600 if name == "bodies" else 600 - 256)


@pytest.mark.slow
async def test_a_store_that_is_being_written_is_found_intact(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with open_log(directory) as log:
        history = History(Random(3))
        await fill(log, history, 250)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(fill, log, history, 1_600, at_once=3))
            sizes = []
            while await log.head() < 1_600:
                report = await verify_store(directory)
                assert report.findings == ()
                sizes.append(report.events)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2, "it should have been verified at several sizes"


def test_verification_leaves_every_file_as_it_is(store: Path) -> None:
    before = file_hashes(store)
    assert verified(store).intact
    after = file_hashes(store)
    assert {name: after.pop(name) for name in before} == before
    # SQLite's own files, which hold nothing of the store: a log without frames, and the index of it.
    assert after.keys() <= {"log.db-wal", "log.db-shm", "views.db-wal", "views.db-shm"}
    assert not any((store / name).stat().st_size for name in after if name.endswith("-wal"))


def test_progress_ends_with_all_events(store: Path) -> None:
    told: list[tuple[int, int]] = []
    anyio.run(partial(verify_store, store, progress=lambda done, total: told.append((done, total))))
    assert told[-1] == (600, 600)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        verified(tmp_path / "nowhere")
    (tmp_path / "log.db").write_bytes(b"no database" * 400)
    with pytest.raises(NotAStoreError):
        verified(tmp_path)


def test_an_empty_store_is_intact(tmp_path: Path) -> None:
    anyio.run(make_store, tmp_path / "store", 1, (1,))
    report = verified(tmp_path / "store")
    assert (report.events, report.intact) == (1, True)


WRITER = """
import os, sys, anyio
from pathlib import Path
from random import Random
from tests.verify.stores import History, fill
from tidelog.storage.log.sqlite_log import open_log

async def main():
    async with open_log(sys.argv[1]) as log:
        history = History(Random(5))
        await fill(log, history, 60, at_once=1)
        Path(sys.argv[1] + ".note").write_text(await log.checkpoint())
        os._exit(0)

anyio.run(main)
"""


@pytest.fixture(scope="module")
def unclosed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose process ended without closing it: its last events stand in the write-ahead log alone."""
    directory = tmp_path_factory.mktemp("unclosed") / "store"
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", WRITER, str(directory)],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / '.dev'}"},
    )
    assert (directory / "log.db-wal").stat().st_size > 100_000
    return directory


def test_a_store_that_was_not_closed_is_intact(unclosed: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(unclosed, tmp_path / "store"))
    note = Path(f"{unclosed}.note").read_text(encoding="utf-8")
    report = verified(store, checkpoint=note)
    assert (report.events, report.findings) == (60, ())


FRAME = 24 + 4_096
"""Bytes of a frame of the write-ahead log, whose header has 32."""


def flip(store: Path, offset: int, bit: int) -> None:
    """Changes a bit of the write-ahead log, as if the machine had been started anew since."""
    (store / "log.db-shm").unlink(missing_ok=True)  # otherwise its index vouches for the frames
    data = bytearray((store / "log.db-wal").read_bytes())
    data[offset] ^= 1 << bit
    (store / "log.db-wal").write_bytes(data)


def place_of(offset: int) -> str:
    return f"log.db-wal, frame {(offset - 32) // FRAME + 1}" if offset >= 32 else "log.db-wal, header"


def test_a_flipped_bit_in_the_write_ahead_log_is_named_by_its_frame(
    unclosed: Path, tmp_path: Path, seed: int, soak: bool
) -> None:
    """SQLite takes a frame with a wrong checksum for the end of its log, and what was acknowledged after it is gone.

    The store then is that of an earlier moment, and whole: the commits that stand behind the frame tell of it. Of the
    last ones it may be that they were cut off by a power failure before they were acknowledged: what they lose only a
    checkpoint that was kept elsewhere can tell.
    """
    note = Path(f"{unclosed}.note").read_text(encoding="utf-8")
    size = (unclosed / "log.db-wal").stat().st_size
    random = Random(seed)
    sizes = set()
    for number in range(200 if soak else 12):
        store = Path(shutil.copytree(unclosed, tmp_path / str(number)))
        at = random.randrange(32) if number % 12 == 0 else random.randrange(32, size)
        flip(store, at, random.randrange(8))
        report, held = verified(store), verified(store, checkpoint=note)
        sizes.add(report.events)
        found = [finding.what for finding in report.findings]
        if report.events > 57:
            assert found in ([], [place_of(at)]), at
        else:
            assert found == [place_of(at)], at
        told = [finding for finding in held.findings if finding.what == "the given checkpoint"]
        assert [finding.what for finding in held.findings] == found + [finding.what for finding in told]
        if report.events == 60:
            assert not held.findings
        else:
            # A log of which nothing is left does not say its key either.
            why = "its end was cut off" if report.events else "no signature by a known key"
            assert why in told[0].problem
        if report.events:
            Prover(Layout(store)).close()
    assert len(sizes) > 3


def test_a_log_that_lost_commits_is_not_gone_on_with_but_by_another_incarnation(unclosed: Path, tmp_path: Path) -> None:
    """Who went on with it would hand out the positions of the events that are lost a second time."""
    store = Path(shutil.copytree(unclosed, tmp_path / "store"))
    middle = (store / "log.db-wal").stat().st_size // 2
    flip(store, middle, 3)
    before = file_hashes(store)
    with pytest.raises(StoreCorruptError, match=place_of(middle)) as caught:
        OpenStore(Layout(store), utc_now)
    assert "`tidelog log backup`" in str(caught.value)
    after = file_hashes(store)
    assert {name: after[name] for name in before if name != "writer.lock"} == {
        name: value for name, value in before.items() if name != "writer.lock"
    }
    left = verified(store).events
    assert 10 < left < 57
    assert back_up(Layout(store), tmp_path / "backup") == left
    assert restore(tmp_path / "backup", Layout(tmp_path / "restored")).incarnation == 2
    report = verified(tmp_path / "restored")
    assert (report.events, report.findings) == (left + 1, ())


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_last_commit_that_was_cut_off_is_no_damage(unclosed: Path, tmp_path: Path, frames: int) -> None:
    """A power failure may leave any part of what was not fsynced, in any order, and its last frame whole."""
    store = Path(shutil.copytree(unclosed, tmp_path / "store"))
    wal = (store / "log.db-wal").read_bytes()
    commits = [at for at in range(32, len(wal), FRAME) if int.from_bytes(wal[at + 4 : at + 8])]
    last = [at for at in range(32, len(wal), FRAME) if at > commits[-2]]
    assert commits[-1] == last[-1]
    assert len(last) > 3
    for at in last[: -frames or None]:
        flip(store, at + 100, 0)
    report = verified(store)
    assert (report.events, report.findings) == (59, ())
    OpenStore(Layout(store), utc_now).close()
