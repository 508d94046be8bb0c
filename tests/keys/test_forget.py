"""Forgetting: afterwards the value is nowhere, the log verifies, and nothing looks like damage."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import pytest

from tests.keys.conftest import DOCUMENT, OTHER, PLANTED, STREAM, Made, places_of
from tidelog.events.envelope import Actor, Proof
from tidelog.events.moment import shown_time
from tidelog.events.vocabulary import ObjectObserved, StreamForgotten
from tidelog.storage import ANY, NewEvent, open_log, open_views, verify_store
from tidelog.storage.errors import ForgottenError, KeyDamagedError, KeyMissingError, NotAStoreError, StoreReadOnlyError
from tidelog.storage.forget import FORGETTINGS, Forgetting
from tidelog.storage.key_files import KeyFiles
from tidelog.storage.keys import KeyRing
from tidelog.storage.layout import Layout
from tidelog.storage.log.reader import LogReader
from tidelog.storage.transfer import back_up, export_log, import_log, restore

ADA = Actor(kind="user", name="ada", proof=Proof(kind="authenticated", by="unix"))
ROOT = Path(__file__).parents[2]


async def forget(made: Made, *, master: bool = False) -> Forgetting | None:
    async with open_log(made.directory) as log:
        key = await anyio.to_thread.run_sync(lambda: made.master) if master else None
        ring = await anyio.to_thread.run_sync(KeyRing.open, log.layout, key)
        return await ring.forget(log, STREAM, why="asked to", actor=ADA)


def key_files(layout: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(layout.keys.iterdir())}


def key_bytes(made: Made) -> bytes:
    """The wrapped key of the stream."""
    files = KeyFiles(made.layout)
    (name,) = files.of(STREAM)
    return bytes.fromhex(files.read(name).wrapped)


async def test_what_is_forgotten_can_be_read_by_nobody_and_the_log_verifies(made: Made) -> None:
    wrapped = await anyio.to_thread.run_sync(key_bytes, made)
    size = (await verify_store(made.directory)).events
    forgetting = await forget(made)
    assert forgetting
    assert (
        str(forgetting) == f"forgotten on {shown_time(forgetting.time)} by user ada (authenticated by unix): asked to"
    )

    def look() -> None:
        assert len(KeyFiles(made.layout).of(STREAM)) == 0
        for path in made.directory.rglob("*"):
            if path.is_file():
                assert wrapped not in path.read_bytes()
                assert wrapped.hex().encode() not in path.read_bytes()
        assert places_of(PLANTED, made.directory) == []
        assert not [path for path in made.directory.glob("*-wal") if path.stat().st_size]
        ring = made.ring()
        with pytest.raises(ForgottenError, match=r"core/Secret/shop/db was forgotten on .* by user ada .*: asked to"):
            ring.open_body(made.body)
        assert ring.open_body(made.other) == DOCUMENT

    await anyio.to_thread.run_sync(look)
    report = await verify_store(made.directory)
    assert (report.findings, report.events, report.bodies) == ((), size + 1, 2)


async def test_the_event_says_which_keys_who_and_why(made: Made) -> None:
    (name,) = await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)
    forgetting = await forget(made)
    assert forgetting
    async with open_log(made.directory) as log:
        events = [recorded async for recorded in log.read(FORGETTINGS)]
    (recorded,) = events
    assert recorded.event == StreamForgotten(keys=(name.id,), why="asked to")
    assert (recorded.envelope.stream, recorded.envelope.actor) == (STREAM, ADA)
    assert recorded.envelope.position == forgetting.position


async def test_a_key_in_use_seals_and_opens_no_more_and_the_next_one_is_new(made: Made) -> None:
    async with open_log(made.directory) as log:
        master = await anyio.to_thread.run_sync(lambda: made.master)
        ring = await anyio.to_thread.run_sync(KeyRing.open, log.layout, master)
        held = await ring.key(STREAM)
        assert await ring.forget(log, STREAM, why="asked to", actor=ADA)
        with pytest.raises(ForgottenError):
            held.seal(b"more")
        with pytest.raises(ForgottenError):
            held.open(made.body)
        with pytest.raises(ForgottenError):
            await anyio.to_thread.run_sync(ring.open_body, made.body)
        body = (await ring.key(STREAM)).seal(DOCUMENT)
        assert body.ref.digest != made.body.ref.digest
        event = ObjectObserved(uid="u", resource_version="2", state=body.ref)
        await log.append(STREAM, ANY, [NewEvent(event)], bodies=[body])
    for _ in range(2):  # opened again, the new key stays
        async with open_log(made.directory):
            pass
        assert await anyio.to_thread.run_sync(lambda: made.ring().open_body(body)) == DOCUMENT


async def test_a_stream_without_a_key_is_not_forgotten(made: Made) -> None:
    assert await forget(made)
    assert await forget(made) is None
    assert (await verify_store(made.directory)).events == 4


async def test_the_projections_rebuild_to_the_same_rows(made: Made) -> None:
    from tidelog.events.projections import PROJECTIONS

    async def rows() -> list[object]:
        async with open_log(made.directory) as log, open_views(log) as views:
            await views.catch_up()
            return [await views.rows(projection, at=3) for projection in PROJECTIONS]

    before = await rows()
    await forget(made)
    await anyio.Path(made.layout.views).unlink()
    assert await rows() == before


# Crashes


async def test_a_crash_before_the_key_is_gone_is_finished_by_the_next_start(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KeyFiles, "destroy", crash)
        with pytest.raises(KeyboardInterrupt):
            await forget(made)
    ring = await anyio.to_thread.run_sync(made.ring)
    with pytest.raises(ForgottenError):  # by who only reads, already
        await anyio.to_thread.run_sync(ring.open_body, made.body)
    assert await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)
    async with open_log(made.directory):
        assert not await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)
        assert await anyio.to_thread.run_sync(KeyFiles(made.layout).of, OTHER)


async def test_a_tombstone_that_cannot_be_written_destroys_nothing(made: Made) -> None:
    before = await anyio.to_thread.run_sync(key_files, made.layout)

    class Full:
        async def append(self, *_: object) -> NoReturn:
            raise StoreReadOnlyError(made.directory, "no")

    async with open_log(made.directory) as log:
        ring = await anyio.to_thread.run_sync(lambda: KeyRing.open(log.layout, made.master))
        with pytest.raises(StoreReadOnlyError):
            await ring.forget(Full(), STREAM, why="asked to", actor=ADA)
        assert (await ring.key(STREAM)).open(made.body) == DOCUMENT
    assert await anyio.to_thread.run_sync(key_files, made.layout) == before


async def test_a_cancelled_forgetting_is_done_whole_or_not_at_all(made: Made) -> None:
    async with open_log(made.directory) as log:
        ring = await anyio.to_thread.run_sync(KeyRing.open, log.layout, None)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ring.forget(log, STREAM, why="asked to", actor=ADA)
        assert not await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)


async def test_a_key_that_comes_back_is_destroyed_at_the_next_start(made: Made) -> None:
    (name,) = await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)
    copy = (made.layout.keys / name.file).read_bytes()
    await forget(made)
    (made.layout.keys / name.file).write_bytes(copy)
    async with open_log(made.directory):
        pass
    assert not await anyio.to_thread.run_sync(KeyFiles(made.layout).of, STREAM)


async def test_a_tombstone_touches_no_key_of_another_stream(made: Made) -> None:
    (other,) = await anyio.to_thread.run_sync(KeyFiles(made.layout).of, OTHER)
    keys = (other.id, "../../log", "x" * 32)
    async with open_log(made.directory) as log:
        await log.append(STREAM, ANY, [NewEvent(StreamForgotten(keys=keys, why="forged"))])
    before = await anyio.to_thread.run_sync(key_files, made.layout)
    async with open_log(made.directory):
        pass
    assert await anyio.to_thread.run_sync(key_files, made.layout) == before


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_no_body_is_sealed_under_a_key_that_a_crash_loses(tmp_path: Path, part: int, seed: int) -> None:
    chance = random.Random(f"{seed} {part}")
    program = Path(__file__).parent / "children" / "seal_and_tell.py"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    store = tmp_path / "store"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, program, store], stdout=subprocess.PIPE, env=environment)
        try:
            assert child.stdout is not None
            assert child.stdout.read(chance.randrange(1, 60))
        finally:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    async def open_all() -> int:
        async with open_log(store) as log:
            layout = log.layout

            def every() -> int:
                ring = Made(store, None, None).ring()  # type: ignore[arg-type]
                reader = LogReader(layout.log)
                try:
                    bodies = [reader.body(stored.digest) for stored in reader.stored_bodies()]
                finally:
                    reader.close()
                assert all(ring.open_body(body).startswith(b"secret ") for body in bodies)
                return len(bodies)

            return await anyio.to_thread.run_sync(every)

    assert anyio.run(open_all) >= 3


# Copies


def test_exports_and_backups_hold_no_value_and_no_key(made: Made, tmp_path: Path) -> None:
    export_log(made.layout, tmp_path / "export")
    back_up(made.layout, tmp_path / "backup")
    hidden = [path.read_bytes().strip() for path in (made.layout.master, made.layout.key)]
    hidden += key_files(made.layout).values()
    for copy in (tmp_path / "export", tmp_path / "backup"):
        assert places_of(PLANTED, copy) == []
        assert not (copy / "keys").exists()
        assert not (copy / "master.key").exists()
        for path in copy.rglob("*"):
            assert not [secret for secret in hidden if secret in path.read_bytes()]


@pytest.mark.parametrize("way", ["import", "restore"])
async def test_a_copy_without_keys_verifies_cannot_be_read_and_goes_on(made: Made, tmp_path: Path, way: str) -> None:
    there = Layout(tmp_path / "there")

    def copy() -> None:
        if way == "import":
            export_log(made.layout, tmp_path / "copy")
            import_log(tmp_path / "copy", there)
        else:
            back_up(made.layout, tmp_path / "copy")
            restore(tmp_path / "copy", there)

    await anyio.to_thread.run_sync(copy)
    assert (await verify_store(there.directory)).intact
    async with open_log(there.directory) as log:
        from tidelog.storage.master_key import find_master_key

        master = await anyio.to_thread.run_sync(lambda: find_master_key(there, {}, create=True))
        ring = await anyio.to_thread.run_sync(KeyRing.open, there, master)
        with pytest.raises(KeyMissingError):
            await anyio.to_thread.run_sync(ring.open_body, made.body)
        body = (await ring.key(STREAM)).seal(DOCUMENT)
        event = ObjectObserved(uid="u", resource_version="2", state=body.ref)
        await log.append(STREAM, ANY, [NewEvent(event)], bodies=[body])
        assert await anyio.to_thread.run_sync(ring.open_body, body) == DOCUMENT
    assert (await verify_store(there.directory)).intact


def test_a_copy_with_keys_can_be_read(made: Made, tmp_path: Path) -> None:
    back_up(made.layout, tmp_path / "backup", with_keys=True)
    backup = Made(tmp_path / "backup", made.body, made.other)
    assert backup.ring().open_body(made.body) == DOCUMENT
    assert key_files(backup.layout) == key_files(made.layout)
    assert {path.stat().st_mode & 0o777 for path in backup.layout.keys.iterdir()} == {0o600}
    restore(tmp_path / "backup", Layout(tmp_path / "with"), with_keys=True)
    restored = Made(tmp_path / "with", made.body, made.other)
    assert restored.ring(create=True).load(STREAM).seal(DOCUMENT) == made.body
    restore(tmp_path / "backup", Layout(tmp_path / "without"))
    assert not (tmp_path / "without" / "keys").exists()


def test_a_damaged_key_is_copied_as_it_is(made: Made, tmp_path: Path) -> None:
    (name,) = KeyFiles(made.layout).of(OTHER)
    (made.layout.keys / name.file).write_bytes(b"\xff\x00")
    back_up(made.layout, tmp_path / "backup", with_keys=True)
    assert Made(tmp_path / "backup", made.body, made.other).ring().open_body(made.body) == DOCUMENT
    with pytest.raises(KeyDamagedError):
        Made(tmp_path / "backup", made.body, made.other).ring().open_body(made.other)


def test_keys_that_a_backup_has_not_are_not_restored_in_silence(made: Made, tmp_path: Path) -> None:
    back_up(made.layout, tmp_path / "backup")
    with pytest.raises(NotAStoreError, match="no keys"):
        restore(tmp_path / "backup", Layout(tmp_path / "there"), with_keys=True)
    assert not (tmp_path / "there").exists()


async def test_what_is_forgotten_stays_forgotten_in_every_copy(made: Made, tmp_path: Path) -> None:
    await forget(made)

    def copy() -> None:
        export_log(made.layout, tmp_path / "export")
        import_log(tmp_path / "export", Layout(tmp_path / "imported"))
        back_up(made.layout, tmp_path / "backup", with_keys=True)
        restore(tmp_path / "backup", Layout(tmp_path / "restored"), with_keys=True)
        for name in ("imported", "backup", "restored"):
            ring = KeyRing.open(Layout(tmp_path / name), None, create=False)
            with pytest.raises(ForgottenError, match="by user ada"):
                ring.open_body(made.body)

    await anyio.to_thread.run_sync(copy)
    for name in ("imported", "backup", "restored"):
        assert (await verify_store(tmp_path / name)).intact


def test_data_keys_beside_no_log_are_what_is_left_of_a_store(made: Made, tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    shutil.copytree(made.layout.keys, tmp_path / "left" / "keys")

    async def begin() -> None:
        async with open_log(tmp_path / "left"):
            pass

    with pytest.raises(NotAStoreError, match="left of a store"):
        anyio.run(begin)
