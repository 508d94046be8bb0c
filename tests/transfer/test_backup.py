"""A backup is a store of its own, of one moment; who goes on from it is another incarnation of the log."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType

import anyio
import msgspec
import pytest

from tests.verify.stores import History, file_hashes, fill, known_of, read_all, verified
from tidelog.events.merkle import leaf_hash, verify_inclusion
from tidelog.events.note import VerifierKey, open_checkpoint
from tidelog.events.vocabulary import LogRestored
from tidelog.storage.errors import MomentError, NotAStoreError, OccupiedError, StoreCorruptError, StoreError
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.log.identity import LogIdentity, identity_of
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import open_log, read_log
from tidelog.storage.projections.views import open_views
from tidelog.storage.proofs.prover import Prover
from tidelog.storage.proofs.verify import verify_store
from tidelog.storage.transfer import back_up, export_log, import_log, restore

ROOT = Path(__file__).parents[2]


def identity(store: Path) -> LogIdentity:
    reader = LogReader(Layout(store).log)
    found = identity_of(reader)
    reader.close()
    assert found
    return found


def envelopes(store: Path) -> list[bytes]:
    reader = LogReader(Layout(store).log)
    found = reader.entries(Query(), 10_000)
    reader.close()
    return found


def test_a_backup_is_the_same_store_without_key_and_projections(store: Path, tmp_path: Path) -> None:
    assert back_up(Layout(store), tmp_path / "backup") == 600
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["log.db"]
    known = known_of(store)
    assert read_all(tmp_path / "backup", known, proofs=False) == read_all(store, known, proofs=False)
    assert verified(tmp_path / "backup").intact


async def test_a_backup_of_a_store_in_use_is_of_one_moment(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    async with open_log(directory) as log:
        history = History(Random(3))
        await fill(log, history, 200)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(fill, log, history, 900, at_once=5))
            sizes: list[int] = []
            while await log.head() < 900:
                target = tmp_path / f"backup-{len(sizes)}"
                sizes.append(await anyio.to_thread.run_sync(back_up, Layout(directory), target))
        assert len(sizes) > 1
        assert sizes == sorted(sizes)
    whole = await anyio.to_thread.run_sync(envelopes, directory)
    for number, size in enumerate(sizes):
        target = tmp_path / f"backup-{number}"
        report = await verify_store(target)
        assert (report.findings, report.events) == ((), size)
        assert report.checkpoints >= 1, "one of this moment"
        assert await anyio.to_thread.run_sync(envelopes, target) == whole[:size]


# Another user may not be able to read Python's own files: what it needs is loaded before.
READ = """
import os, sys
import anyio
import anyio._backends._asyncio
from tidelog.storage.log import schema
from tidelog.storage.errors import StoreReadOnlyError
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.proofs.prover import Prover
from tidelog.storage.log.sqlite_log import open_log, read_log
from tidelog.storage.proofs.verify import verify_store

anyio.run(anyio.to_thread.run_sync, len, [])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

async def main():
    async with read_log(sys.argv[1]) as log:
        count = len([recorded async for recorded in log.read(Query())])
    report = await verify_store(sys.argv[1])
    try:
        async with open_log(sys.argv[1]):
            refused = ""
    except StoreReadOnlyError as error:
        refused = str(error)
    prover = Prover(Layout(sys.argv[1]))
    print(count, report.intact, bool(refused), prover.checkpoint().splitlines()[1])

anyio.run(main)
"""


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A directory below which another user may read."""
    changed = []
    for directory in [tmp_path, *tmp_path.parents]:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if directory.stat().st_uid == os.getuid() and not mode & 0o001:
            changed.append((directory, mode))
            directory.chmod(mode | 0o055)
    yield tmp_path
    for directory, mode in changed:
        directory.chmod(mode)


def test_a_backup_can_be_read_where_nothing_can_be_written(store: Path, public: Path) -> None:
    backup = public / "backup"
    back_up(Layout(store), backup)
    (backup / "log.db").chmod(0o444)
    backup.chmod(0o555)
    before = file_hashes(backup)
    read = subprocess.run(
        [sys.executable, "-c", READ, str(backup)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".dev"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    backup.chmod(0o755)
    assert read.returncode == 0, read.stderr
    assert read.stdout.split() == ["600", "True", "True", "600"]
    assert file_hashes(backup) == before


def test_a_restored_log_is_another_incarnation_with_another_key(store: Path, tmp_path: Path) -> None:
    back_up(Layout(store), tmp_path / "backup")
    was = identity(store)
    new = restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == ["log.db", "log.key"]
    assert (new.log, new.incarnation) == (was.log, was.incarnation + 1)
    assert new.vkey != was.vkey
    assert identity(tmp_path / "restored") == new
    raw = envelopes(tmp_path / "restored")
    assert raw[:600] == envelopes(store)
    reader = LogReader(Layout(tmp_path / "restored").log)
    recorded = reader.event(601)
    reader.close()
    assert len(raw) == 601
    assert recorded
    assert isinstance(recorded.event, LogRestored)
    assert recorded.event.vkey == new.vkey
    assert verified(tmp_path / "restored").findings == ()
    assert file_hashes(tmp_path / "backup").keys() == {"log.db"} | set(file_hashes(tmp_path / "backup"))


def check(checker: ModuleType, proof: msgspec.Struct, vkey: str) -> int:
    """The number of faults that the stand-alone checker finds in a proof."""
    given = json.loads(msgspec.json.encode(proof))
    checker.found.clear()
    checkpoints = list(checker._open_notes(given, vkey))
    if not checker.found:
        checker._check_proof(given, checkpoints)
    return sum(checker.found.values())


def test_old_proofs_hold_under_the_old_key_and_new_ones_under_the_new(
    store: Path, tmp_path: Path, checker: ModuleType
) -> None:
    prover = Prover(Layout(store))
    old, old_note = prover.inclusion(300), prover.checkpoint()
    prover.close()
    back_up(Layout(store), tmp_path / "backup")
    new = restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    prover = Prover(Layout(tmp_path / "restored"))
    later, note = prover.inclusion(300), prover.checkpoint()
    with_old = prover.consistency(600, 601)
    prover.close()
    assert check(checker, old, old.vkey) == 0
    assert check(checker, later, new.vkey) == 0
    assert check(checker, with_old, new.vkey) == 0
    assert check(checker, later, old.vkey) > 0
    assert check(checker, old, new.vkey) > 0
    assert open_checkpoint(note, [new.verifier]).size == 601
    report = verified(tmp_path / "restored", checkpoint=old_note, vkey=old.vkey)
    assert report.findings == (), "what the first incarnation signed is in the second"


async def reopened(store: Path) -> LogIdentity:
    async with open_log(store) as log:
        return log.identity


async def test_a_log_goes_on_as_another_incarnation_wherever_its_key_is_not(store: Path, tmp_path: Path) -> None:
    before = await anyio.to_thread.run_sync(identity, store)
    assert await reopened(store) == before
    await anyio.to_thread.run_sync(back_up, Layout(store), tmp_path / "backup")
    await anyio.to_thread.run_sync(export_log, Layout(store), tmp_path / "export")
    await anyio.to_thread.run_sync(import_log, tmp_path / "export", Layout(tmp_path / "imported"))
    (store / "log.key").unlink()
    keys = {before.vkey}
    for copy in (tmp_path / "backup", tmp_path / "imported", store):
        new = await reopened(copy)
        assert (new.log, new.incarnation) == (before.log, 2)
        assert new.vkey not in keys
        keys.add(new.vkey)
        assert await reopened(copy) == new
        report = await verify_store(copy)
        assert (report.findings, report.events) == ((), 601)


async def test_a_key_of_another_log_makes_another_incarnation(store: Path, tmp_path: Path) -> None:
    async with open_log(tmp_path / "other"):
        pass
    shutil.copy(tmp_path / "other" / "log.key", store / "log.key")
    assert (await reopened(store)).incarnation == 2


async def test_a_key_file_that_holds_no_key_is_refused_and_left(store: Path) -> None:
    (store / "log.key").write_text("what", encoding="utf-8")
    before = await anyio.to_thread.run_sync(file_hashes, store)
    with pytest.raises(NotAStoreError, match=r"log\.key holds no key"):
        await reopened(store)
    after = await anyio.to_thread.run_sync(file_hashes, store)
    assert {name: after[name] for name in before if name != "writer.lock"} == {
        name: value for name, value in before.items() if name != "writer.lock"
    }


def test_a_backup_proves_what_the_store_signed_before(store: Path, tmp_path: Path, checker: ModuleType) -> None:
    back_up(Layout(store), tmp_path / "backup")
    prover = Prover(Layout(tmp_path / "backup"))
    try:
        assert check(checker, prover.inclusion(1), prover.identity.vkey) == 0
        assert check(checker, prover.consistency(200, 600), prover.identity.vkey) == 0
        with pytest.raises(MomentError, match="neither the log's key nor a signed checkpoint of 300 events"):
            prover.checkpoint(300)
    finally:
        prover.close()


def test_the_key_is_its_owners_alone_and_stands_nowhere_else(store: Path, tmp_path: Path) -> None:
    key = store / "log.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    seed = key.read_text(encoding="utf-8").strip()
    back_up(Layout(store), tmp_path / "backup")
    export_log(Layout(store), tmp_path / "export")
    restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    assert stat.S_IMODE((tmp_path / "restored" / "log.key").stat().st_mode) == 0o600
    shown = subprocess.run(
        [sys.executable, "-m", "tidelog.engine", "log", "stat", "--store", str(store), "-o", "json"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".dev")},
    )
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != key}
    contents[Path("stat")] = shown.stdout + shown.stderr
    assert len(contents) > 8
    for path, content in contents.items():
        assert seed.encode() not in content, path
        assert bytes.fromhex(seed) not in content, path
        assert seed.upper().encode() not in content, path


def test_what_is_no_backup_is_not_restored(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "other" / "log.db")) as database:
        database.execute("PRAGMA application_id = 7")
        database.execute("CREATE TABLE mine (x)")
    for source in ("nothing", "other"):
        with pytest.raises(StoreError):
            restore(tmp_path / source, Layout(tmp_path / "restored"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nothing", "other"]


def test_a_damaged_backup_is_named_where_it_is(store: Path, tmp_path: Path) -> None:
    back_up(Layout(store), tmp_path / "backup")
    file = tmp_path / "backup" / "log.db"
    pages = bytearray(file.read_bytes())
    pages[4096::4096] = b"w" * len(pages[4096::4096])
    file.write_bytes(pages)
    with pytest.raises(StoreCorruptError, match="no store was made") as caught:
        restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    assert caught.value.what.startswith(str(file))
    assert "unfinished" not in str(caught.value)
    assert not (tmp_path / "restored").exists()


def test_a_backup_that_would_change_what_is_written_is_not_restored(store: Path, tmp_path: Path) -> None:
    back_up(Layout(store), tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup" / "log.db")) as database:
        database.execute("CREATE TRIGGER quiet AFTER INSERT ON events BEGIN DELETE FROM bodies; END")
    with pytest.raises(StoreCorruptError, match="trigger quiet is damaged: no log has triggers"):
        restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]


def test_a_store_is_not_restored_over_another(store: Path, tmp_path: Path) -> None:
    back_up(Layout(store), tmp_path / "backup")
    before = file_hashes(store)
    for copy in (lambda: restore(tmp_path / "backup", Layout(store)), lambda: back_up(Layout(store), store)):
        with pytest.raises(OccupiedError, match="is there already"):
            copy()
    assert {name: digest for name, digest in file_hashes(store).items() if name in before} == before


async def test_projections_of_a_restored_log_are_those_of_the_first(store: Path, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(back_up, Layout(store), tmp_path / "backup")
    await anyio.to_thread.run_sync(restore, tmp_path / "backup", Layout(tmp_path / "restored"))
    async with open_log(store) as log, open_views(log) as views:
        expected = await views.digests()
    async with open_log(tmp_path / "restored") as log, open_views(log) as views:
        assert await views.digests() == expected


async def test_read_log_reads_a_backup(store: Path, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(back_up, Layout(store), tmp_path / "backup")
    async with read_log(tmp_path / "backup") as log:
        assert await log.head() == 600


# Proofs


@pytest.mark.slow
def test_every_event_of_a_log_can_be_proved_and_no_other(
    store: Path, checker: ModuleType, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    random = Random(seed)
    prover = Prover(Layout(store))
    vkey = prover.identity.vkey
    root = open_checkpoint(prover.checkpoint(), [VerifierKey.parse(vkey)]).root
    for position in range(1, 601):
        proof = prover.inclusion(position)
        hashes = [checker.unbase64(value) for value in proof.hashes]
        assert verify_inclusion(leaf_hash(proof.event.encode()), position - 1, 600, hashes, root)
        if position % 4 == 0:
            assert check(checker, proof, vkey) == 0, position
            altered = list(proof.hashes)
            at = random.randrange(len(altered))
            altered[at] = ("A" if altered[at][0] != "A" else "B") + altered[at][1:]
            assert check(checker, msgspec.structs.replace(proof, hashes=tuple(altered)), vkey) == 1
            event = proof.event.replace('"kind":"', '"kind":"x', 1)
            assert check(checker, msgspec.structs.replace(proof, event=event), vkey) == 1
            assert check(checker, msgspec.structs.replace(proof, index=position), vkey) == 1
    prover.close()


@pytest.mark.slow
def test_a_log_can_be_proved_to_begin_with_each_smaller_one(
    store: Path, checker: ModuleType, seed: int, soak: bool
) -> None:
    random = Random(seed)
    pairs = [(1, 1), (1, 600), (256, 600), (512, 600), (255, 257), (599, 600), (600, 600), (256, 512)]
    pairs += [tuple(sorted(random.choices(range(1, 601), k=2))) for _ in range(5_000 if soak else 150)]  # type: ignore[misc]
    prover = Prover(Layout(store))
    vkey = prover.identity.vkey
    for old, new in pairs:
        proof = prover.consistency(old, new)
        assert check(checker, proof, vkey) == 0, (old, new)
        for at in range(0, len(proof.hashes), 3):
            altered = list(proof.hashes)
            altered[at] = ("A" if altered[at][0] != "A" else "B") + altered[at][1:]
            assert check(checker, msgspec.structs.replace(proof, hashes=tuple(altered)), vkey) == 1, (old, new)
        if old < new:
            assert check(checker, msgspec.structs.replace(proof, from_=proof.to, to=proof.from_), vkey) == 1
    prover.close()


@pytest.mark.parametrize("position", [0, 601, 10_000])
def test_what_the_log_does_not_have_is_not_proved(store: Path, position: int) -> None:
    prover = Prover(Layout(store))
    with pytest.raises(MomentError):
        prover.inclusion(position)
    for old, new in ((0, 600), (600, 601), (5, 4)):
        with pytest.raises(MomentError):
            prover.consistency(old, new)
    with pytest.raises(MomentError):
        prover.checkpoint(601)
    prover.close()
