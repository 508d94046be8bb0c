"""What a producer, a bystander or an attacker may do, and what then holds."""

import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tidelog.events import Actor, Body, BodyRef, Proof
from tidelog.events.digest import digest_of, keyed_digest_of
from tidelog.events.vocabulary import Event, LogCreated, LogRestored, Marked, ObjectObserved
from tidelog.storage import ANY, NewEvent, Query, open_log, open_views, read_log, verify_store
from tidelog.storage.errors import NotAStoreError, StoreBusyError
from tidelog.storage.layout import Layout, holder_of
from tidelog.storage.log.identity import LogIdentity, identity_of
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import SqliteEventLog
from tidelog.storage.proofs.publish import publish_tiles

WEB = "prod/apps/Deployment/default/web"


async def mark(log: SqliteEventLog, count: int = 1) -> None:
    for number in range(count):
        await log.append(WEB, ANY, [NewEvent(Marked(label=str(number)))])


def outsider(store: Path, statement: str) -> None:
    """Another program opens the log to write, and closes it."""
    script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]).fetchall(); db.close()"
    subprocess.run([sys.executable, "-c", script, str(store / "log.db"), statement], check=True, timeout=60)


async def test_an_outsider_who_closes_the_database_does_not_take_the_write_ahead_log_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with open_log(store):
        pass
    async with open_log(store) as log, open_views(log) as views:
        await mark(log, 5)
        await views.catch_up()
        assert [recorded async for recorded in log.read(Query())]
        before = (store / "log.db-wal").stat().st_ino
        await anyio.to_thread.run_sync(outsider, store, "SELECT count(*) FROM events")
        assert (store / "log.db-wal").stat().st_ino == before
        await mark(log, 5)
        async with read_log(store) as reading:
            assert await reading.head() == await log.head() == 11


async def test_a_lock_of_another_program_refuses_an_append_and_does_not_end_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.storage.connection.BUSY_TIMEOUT_S", 0.1)
    async with open_log(tmp_path / "store") as log:
        script = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
        )
        async with await anyio.open_process(
            [sys.executable, "-c", script, str(tmp_path / "store" / "log.db")]
        ) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            assert (await other.stdout.receive()).startswith(b"locked")
            with pytest.raises(StoreBusyError, match="another program"):
                await mark(log)
            await other.stdin.aclose()
            await other.wait()
        await mark(log)
        assert await log.head() == 2


@pytest.mark.parametrize(
    "event",
    [
        LogCreated(log="other", incarnation=2, vkey="", software=""),
        LogRestored(log="other", incarnation=2, vkey="", software="", root=""),
    ],
)
async def test_no_producer_can_say_which_log_it_is(event: Event, tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        with pytest.raises(ValueError, match="only the log itself"):
            await log.append(f"{log.identity.log}/engine", ANY, [NewEvent(event)])
        await mark(log)


async def test_what_claims_to_be_a_birth_and_is_none_is_neither_believed_nor_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    async with open_log(store) as log:
        known = log.identity
        event = LogRestored(log=known.log, incarnation=9, vkey=known.vkey, software="", root="")
        monkeypatch.setattr("tidelog.storage.log.prepare.LogRestored", Marked)  # as if another release had let it pass
        await log.append(WEB, ANY, [NewEvent(event)])
    key = (store / "log.key").read_text()
    async with open_log(store) as log:
        assert log.identity == known
    assert (store / "log.key").read_text() == key
    assert ("event 2", "it claims to say which log this is, and was not made by the log") in [
        (finding.what, finding.problem) for finding in (await verify_store(store)).findings
    ]


async def test_a_key_that_is_not_the_logs_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with open_log(store):
        pass
    (store / "log.key").write_text("ab" * 32)
    async with open_log(store) as log:
        assert log.identity.incarnation == 2
    (kept,) = store.glob("log.key.before-*")
    assert kept.read_text() == "ab" * 32
    assert await anyio.to_thread.run_sync(identity_in, store) == log.identity


def identity_in(store: Path) -> LogIdentity | None:
    reader = LogReader(store / "log.db")
    try:
        return identity_of(reader)
    finally:
        reader.close()


@pytest.mark.parametrize(
    "actor",
    [
        Actor(kind="git", name="J\udcf6rg", proof=Proof(kind="claimed")),
        Actor(kind="root", name="x", proof=Proof(kind="claimed")),  # type: ignore[arg-type]
        Actor(kind="git", name="x", proof=Proof(kind="trust-me")),  # type: ignore[arg-type]
        Actor(kind="git", name=b"x", proof=Proof(kind="claimed")),  # type: ignore[arg-type]
        Actor(kind="git", name=("a", "b"), proof=Proof(kind="claimed")),  # type: ignore[arg-type]
    ],
    ids=["a lone surrogate", "an unknown kind", "an unknown proof", "bytes", "a tuple"],
)
async def test_an_actor_that_could_not_be_read_again_is_refused_and_harms_nobody(actor: Actor, tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        with pytest.raises(ValueError, match="an actor that"):
            await log.append(WEB, ANY, [NewEvent(Marked(label="x"), actor=actor)])
        await mark(log)
        assert await log.head() == 2


@pytest.mark.parametrize(
    "reference",
    [
        BodyRef(digest=digest_of(b"x"), size=1, stored=digest_of(b"y")),
        BodyRef(digest=digest_of(b"x"), size=1, secret=True, stored=digest_of(b"y")),
        BodyRef(digest=keyed_digest_of(b"x", b"key"), size=1),
        BodyRef(digest=keyed_digest_of(b"x", b"key"), size=1, secret=True),
    ],
    ids=["stored without secret", "secret with a plain digest", "a keyed digest alone", "secret without stored"],
)
async def test_a_reference_binds_a_body_or_is_refused(reference: BodyRef, tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        await log.append(WEB, ANY, [NewEvent(Marked(label="x"))], bodies=[Body.of(b"x")])
        event = ObjectObserved(uid="u", resource_version="1", state=reference)
        with pytest.raises(ValueError, match="a secret body, and no other"):
            await log.append(WEB, ANY, [NewEvent(event)])


async def test_a_checkpoint_of_another_log_shows_nothing(tmp_path: Path) -> None:
    for name in ("one", "other"):
        async with open_log(tmp_path / name) as log:
            await mark(log)
    async with open_log(tmp_path / "other") as log:
        note, vkey = await log.checkpoint(), log.identity.vkey
    for given in ((note, vkey), (None, vkey), (note, None)):
        assert not (await verify_store(tmp_path / "one", checkpoint=given[0], vkey=given[1])).intact


async def test_two_logs_are_never_published_in_one_place(tmp_path: Path) -> None:
    for name in ("one", "other"):
        async with open_log(tmp_path / name) as log:
            await mark(log)
    public = tmp_path / "public"
    await anyio.to_thread.run_sync(publish_tiles, Layout(tmp_path / "one"), public)
    with pytest.raises(NotAStoreError, match="not of this log"):
        await anyio.to_thread.run_sync(publish_tiles, Layout(tmp_path / "other"), public)


async def test_who_holds_the_store_is_told_without_the_arguments_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/daemon", "--token=hunter2"])
    async with open_log(tmp_path / "store") as log:
        assert "hunter2" not in (tmp_path / "store" / "writer.lock").read_text()
        holder = await anyio.to_thread.run_sync(holder_of, log.layout)
        assert holder is not None
        assert "daemon" in holder


async def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    store, victim = tmp_path / "store", tmp_path / "victim"
    victim.write_text("precious")
    async with open_log(store):
        pass
    (store / "writer.lock").unlink()
    (store / "writer.lock").symlink_to(victim)
    with pytest.raises(Exception, match="cannot be written"):
        async with open_log(store):
            pass
    assert victim.read_text() == "precious"


async def test_verification_runs_no_code_of_the_directory_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path / "store") as log:
        await mark(log)
    (tmp_path / "zstandard.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tidelog.storage.proofs.verify.IN_PROCESS_EVENTS_MAX", 0)
    assert (await verify_store(tmp_path / "store")).intact
    assert not (tmp_path / "ran").exists()


async def test_a_log_that_was_removed_beside_its_write_ahead_log_is_not_begun_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with open_log(store):
        pass
    (store / "log.db").unlink()
    (store / "log.key").unlink()
    (store / "log.db-wal").write_bytes(b"acknowledged events")
    with pytest.raises(NotAStoreError, match="the log was removed or emptied"):
        async with open_log(store):
            pass
    assert (store / "log.db-wal").read_bytes() == b"acknowledged events"


@pytest.mark.parametrize("expected", [None, True, "0", 1.0])
async def test_an_expected_version_is_an_integer_or_any(expected: object, tmp_path: Path) -> None:
    async with open_log(tmp_path / "store") as log:
        with pytest.raises(TypeError, match="an integer or ANY"):
            await log.append(WEB, expected, [NewEvent(Marked(label="x"))])  # type: ignore[arg-type]
