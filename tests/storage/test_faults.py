"""What may go wrong: the disk, the clock, other people's files, producers that give up. Nothing is lost by it."""

import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.missing import cannot
from tests.storage.samples import (
    PATIENCE_S,
    check_tree,
    check_whole,
    event_id,
    everything,
    health,
    note,
    observed,
    positions,
    stream,
    texts,
)
from tidelog.events.bodies import Body
from tidelog.events.moment import Time
from tidelog.storage.errors import (
    AppendTooLargeError,
    EventIdReusedError,
    NotAStoreError,
    StoreClosedError,
    StoreError,
    StoreFailedError,
    StoreFullError,
    StoreNotFoundError,
    StoreTooNewError,
)
from tidelog.storage.layout import Layout
from tidelog.storage.log import ANY, Query, Recorded, StreamAppend, prepare, sqlite_log
from tidelog.storage.log.compression import StoredBody, pack
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log, read_log
from tidelog.storage.projections.views import open_views
from tidelog.storage.transfer import back_up, export_log, import_log, restore


class Connection:
    """The writer's connection, with a test's hand on its commits."""

    def __init__(self, log: SqliteEventLog) -> None:
        writer = log._store.writer
        self.real = writer._db
        self.commits = 0
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.fail_before: sqlite3.OperationalError | None = None
        self.fail_after: sqlite3.OperationalError | None = None
        writer._db = self  # type: ignore[assignment]

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> sqlite3.Cursor:
        rows = list(rows)
        if self.in_transaction or not rows:
            return self.real.executemany(statement, rows)
        return self._commit(lambda: self.real.executemany(statement, rows))

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if statement != "COMMIT":
            return self.real.execute(statement, values)
        return self._commit(lambda: self.real.execute(statement))

    def _commit(self, make: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        self.commits += 1
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        if self.fail_before:
            raise self.fail_before
        done = make()
        if self.fail_after:
            raise self.fail_after
        return done

    def hold(self) -> None:
        """Keeps the next commit from coming to its end."""
        self.begun.clear()
        self.go.clear()

    async def wait_begun(self) -> None:
        assert await anyio.to_thread.run_sync(self.begun.wait, PATIENCE_S)


def sqlite_error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    return error


async def settle() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def queued(log: SqliteEventLog, count: int) -> None:
    """Waits until so many appends wait for a commit."""
    with anyio.fail_after(PATIENCE_S):
        while log._commits._queue.qsize() < count:
            await anyio.lowlevel.checkpoint()


async def all_events(store: Path) -> list[Recorded]:
    async with read_log(store) as reader:
        events = await everything(reader.read(Query()))
    check_whole(events)
    await check_tree(store, events)
    return events


# A disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; `enlarge` gives it more. In CI it must be had, elsewhere it needs root."""
    target = tmp_path / "disk"
    target.mkdir()
    options = f"size=4m,mode=0700,uid={os.geteuid()}"
    mounted = as_root("mount", "-t", "tmpfs", "-o", options, "tidelog-test", str(target))
    if mounted.returncode != 0:
        cannot(f"cannot mount here ({mounted.stderr.strip()}): that a full disk loses nothing is shown in part only")
    try:
        yield target
    finally:
        as_root("umount", "--lazy", str(target)).check_returncode()


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(1024))


def enlarge(disk: Path) -> None:
    as_root("mount", "-o", "remount,size=200m", str(disk)).check_returncode()


def as_root(*command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command as root, where that takes no password."""
    rights = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    try:
        return subprocess.run([*rights, *command], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


async def test_full_disk_refuses_what_has_no_room_and_keeps_the_rest(small_disk: Path) -> None:
    store = small_disk / "store"
    bodies: list[Body] = []
    async with open_log(store) as log:
        body = Body.of(random.randbytes(200_000))
        with suppress(StoreFullError):
            while True:
                await log.append(stream(), len(bodies), [observed(body, id=event_id())], bodies=[body])
                bodies.append(body)
                body = Body.of(random.randbytes(200_000))
        assert bodies
        events = await everything(log.read(Query()))
        assert len(events) == 1 + len(bodies)
        for kept in bodies:
            assert await log.body(kept.ref.digest) == kept
        again = [observed(body, id=event_id())]
        with pytest.raises(StoreFullError, match="full") as caught:
            await log.append(stream(), len(bodies), again, bodies=[body])
        assert str(store) in str(caught.value)
        await anyio.to_thread.run_sync(enlarge, small_disk)
        (made,) = await log.append(stream(), len(bodies), again, bodies=[body])
        assert made.envelope.version == len(bodies) + 1
    assert len(await all_events(store)) == 2 + len(bodies)


async def test_projections_on_a_full_disk_lag_and_go_on_once_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.storage.projections.views.FULL_RETRY_S", 0.01)
    store = small_disk / "store"
    async with open_log(store) as log, open_views(log) as views:
        await log.append(stream(), 0, [health(str(number)) for number in range(300)])
        await anyio.to_thread.run_sync(fill, small_disk)
        for _ in range(2):
            with pytest.raises(StoreFullError, match="full"):
                await views.catch_up()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.follow)
            await anyio.sleep(0.1)  # it is tried in vain
            assert views.position < await log.head()
            (small_disk / "filler").unlink()
            with anyio.fail_after(30):
                await views.wait_for(await log.head())
            tasks.cancel_scope.cancel()
        digests = await views.digests()
        await views.rebuild()
        assert await views.digests() == digests


@pytest.mark.parametrize("size", [6_000_000, 40_000_000], ids=["in the cache", "larger than the cache"])
async def test_one_large_body_on_a_full_disk_does_not_fail_what_shares_its_commit(small_disk: Path, size: int) -> None:
    outcomes: dict[str, int | str] = {}

    async def append(name: str, size: int) -> None:
        body = Body.of(random.randbytes(size))
        try:
            made = await log.append(stream(), ANY, [observed(body)], bodies=[body])
            outcomes[name] = made[0].envelope.version
        except StoreError as error:
            outcomes[name] = type(error).__name__

    async with open_log(small_disk / "store") as log:
        connection = Connection(log)
        connection.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append, "first", 10)
            await connection.wait_begun()
            tasks.start_soon(append, "before", 10)
            tasks.start_soon(append, "large", size)
            tasks.start_soon(append, "after", 10)
            await queued(log, 3)  # the large one is packed in a thread
            connection.go.set()
    assert outcomes.pop("large") == "StoreFullError"
    assert outcomes.pop("first") == 1
    assert sorted(map(str, outcomes.values())) == ["2", "3"]
    assert len(await all_events(small_disk / "store")) == 4


@pytest.mark.parametrize("room", [0, 8_192, 20_480, 40_960, 81_920])
async def test_store_is_not_made_on_a_full_disk(small_disk: Path, room: int) -> None:
    store = small_disk / "store"
    (small_disk / "other").write_bytes(bytes(4 * 2**20 - room))
    with pytest.raises(StoreError, match=r"full|No space") as caught:
        async with open_log(store):
            pytest.fail("opened")
    assert str(store) in str(caught.value)
    (small_disk / "other").unlink()
    async with open_log(store) as log:
        await log.append(stream(), 0, [note()])
    assert len(await all_events(store)) == 2


def test_files_that_may_not_grow_fail_the_store_until_it_is_opened_again(children: Path, store: Path) -> None:
    program = [sys.executable, str(children / "append_with_limit.py"), str(store)]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told["acknowledged"]) > 3
    assert told["errors"] == ["StoreFailedError"] * 2
    assert told["repeated"][0] == told["repeated"][1]
    assert told["found"][: len(told["acknowledged"])] == told["acknowledged"]
    assert told["found"].count(told["repeated"][0]) == 1


# A commit of which nobody knows what became


@pytest.mark.parametrize("kept", [False, True], ids=["was lost", "was kept"])
@pytest.mark.parametrize("name", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE"])
async def test_failed_commit_fails_the_store_until_it_is_opened_again(store: Path, name: str, *, kept: bool) -> None:
    before, during, after = ([note(text, id=event_id())] for text in ("before", "during", "after"))
    async with open_log(store) as log:
        made = await log.append(stream(), 0, before)
        connection = Connection(log)
        if kept:
            connection.fail_after = sqlite_error(name)
        else:
            connection.fail_before = sqlite_error(name)
        with pytest.raises(StoreFailedError, match="open it again"):
            await log.append(stream(), 1, during)
        connection.fail_after = connection.fail_before = None
        for events in (after, before):
            with pytest.raises(StoreFailedError):
                await log.append(stream(), ANY, events)
        assert connection.commits == 1, "something was written after the failure"
    async with open_log(store) as log:
        assert (len(await everything(log.read(Query(stream=stream())))) == 2) == kept
        assert await log.append(stream(), 0, before) == made
        (repeated,) = await log.append(stream(), 1, during)
        assert repeated.envelope.version == 2
        assert (await log.append(stream(), 2, after))[0].envelope.version == 3
    assert texts(await all_events(store)) == ["before", "during", "after"]


async def test_failed_commit_fails_every_append_of_it_and_all_that_wait(store: Path) -> None:
    errors: list[StoreFailedError] = []

    async def append(number: int) -> None:
        with pytest.raises(StoreFailedError) as caught:
            await log.append(stream(number), 0, [note()])
        errors.append(caught.value)

    async with open_log(store) as log:
        connection = Connection(log)
        connection.hold()
        connection.fail_before = sqlite_error("SQLITE_IOERR_FSYNC")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append, 0)
            await connection.wait_begun()
            for number in range(1, 10):
                tasks.start_soon(append, number)
            await settle()
            connection.go.set()
        assert connection.commits == 1
    assert len(errors) == 10
    assert len(await all_events(store)) == 1


def _replace(file: Path) -> None:
    copy = Path(shutil.copy(file, file.with_name("copy")))
    copy.replace(file)


AWAY: list[tuple[str, Callable[[Path], None], str]] = [
    ("log.db-wal", Path.unlink, "log.db-wal was taken away"),
    ("log.db", Path.unlink, "log.db was taken away"),
    ("log.db", _replace, "log.db was replaced"),
    ("log.db-wal", _replace, "log.db-wal was replaced"),
    ("log.db", lambda file: os.truncate(file, 4096), "log.db was cut short"),
]


@pytest.mark.parametrize(("name", "harm", "why"), AWAY, ids=[why for _, _, why in AWAY])
async def test_files_that_others_take_away_are_noticed_before_more_is_acknowledged(
    store: Path, name: str, harm: Callable[[Path], None], why: str
) -> None:
    async with open_log(store) as log:
        await log.append(stream(), 0, [note()])
        await log.append(stream(), 1, [note()])
        harm(store / name)
        for _ in range(2):
            with pytest.raises(StoreFailedError, match=why):
                await log.append(stream(), 2, [note()])


async def test_defect_in_a_commit_tells_the_producers_and_writes_no_more(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Time:
        raise ZeroDivisionError

    async with open_log(store) as log:
        monkeypatch.setattr(log._store.writer, "_clock", broken)
        with pytest.raises(StoreFailedError, match="ZeroDivisionError"):
            await log.append(stream(), 0, [note()])
        monkeypatch.undo()
        with pytest.raises(StoreFailedError):
            await log.append(stream(), 0, [note()])
    assert len(await all_events(store)) == 1


# Places that are no stores


def text_file(path: Path) -> None:
    path.write_text("hello")


def directory_with_files(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("hello")


def text_for_a_log(path: Path) -> None:
    path.mkdir()
    (path / "log.db").write_text("hello, I am a text and longer than a header of a hundred bytes " * 3)


def other_database(path: Path) -> None:
    path.mkdir()
    database = sqlite3.connect(path / "log.db")
    database.execute("PRAGMA application_id = 7")
    database.execute("CREATE TABLE mine (a)")
    database.commit()
    database.close()


def database_without_application(path: Path) -> None:
    path.mkdir()
    database = sqlite3.connect(path / "log.db")
    database.execute("CREATE TABLE mine (a)")
    database.commit()
    database.close()


def directory_for_a_log(path: Path) -> None:
    (path / "log.db").mkdir(parents=True)


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else path.rglob("*")
    return {str(file): file.read_bytes() for file in files if file.is_file() and file.name != "writer.lock"}


@pytest.mark.parametrize(
    "make",
    [
        text_file,
        directory_with_files,
        text_for_a_log,
        other_database,
        database_without_application,
        directory_for_a_log,
    ],
)
async def test_what_is_no_store_is_refused_and_left_as_it_is(store: Path, make: Callable[[Path], None]) -> None:
    make(store)
    before = contents(store)
    with pytest.raises(NotAStoreError, match=str(store)):
        async with open_log(store):
            pytest.fail("opened")
    assert contents(store) == before
    with pytest.raises((NotAStoreError, StoreNotFoundError), match=str(store)):
        async with read_log(store):
            pytest.fail("opened")
    assert contents(store) == before


async def test_store_that_is_not_there_is_made_only_when_asked_for(store: Path) -> None:
    opens: list[AbstractAsyncContextManager[object]] = [open_log(store, create=False), read_log(store)]
    for opened in opens:
        with pytest.raises(StoreNotFoundError, match=str(store)):
            async with opened:
                pytest.fail("opened")
        assert not await anyio.Path(store).exists()


async def make_store(store: Path) -> None:
    async with open_log(store) as log:
        await log.append(stream(), 0, [note("a")])


def raise_version(store: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(store / "log.db", check_same_thread=False)
    connection.execute("PRAGMA user_version = 99")
    return connection


@pytest.mark.parametrize("crashed", [False, True], ids=["closed", "crashed"])
async def test_store_of_a_newer_version_is_refused_and_left_as_it_is(
    store: Path, tmp_path: Path, *, crashed: bool
) -> None:
    """Also when the newer version stands in the write-ahead log alone."""
    await make_store(store)
    newer = raise_version(store)
    if crashed:
        shutil.copytree(store, tmp_path / "copy")
        store = tmp_path / "copy"
    newer.close()
    for opened in (open_log(store), read_log(store)) if not crashed else (open_log(store),):
        with pytest.raises(StoreTooNewError, match="upgrade"):
            async with opened:
                pytest.fail("opened")
    connection = sqlite3.connect(store / "log.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (99,)
    connection.close()


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user reaches."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def as_nobody(children: Path, what: str, store: Path) -> str:
    program = [sys.executable, str(children / "open_as_nobody.py"), what, str(store)]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert isinstance(told, str)
    return told


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    directory.chmod(0o555)
    try:
        yield
    finally:
        directory.chmod(0o755)


def test_store_in_a_read_only_directory_is_read_but_not_written(children: Path, public: Path) -> None:
    anyio.run(make_store, public / "store")
    share(public / "store")
    with read_only(public / "store"), read_only(public):
        assert as_nobody(children, "read", public / "store") == "read 2"
        told = as_nobody(children, "write", public / "store")
    assert told.startswith("StoreReadOnlyError: ")
    assert str(public / "store") in told


def share(store: Path) -> None:
    """Lets every user read a store, as its owner may."""
    store.chmod(0o755)
    (store / "log.db").chmod(0o644)


def test_a_reader_who_may_write_nothing_sees_a_writer_that_comes_later(children: Path, public: Path) -> None:
    """SQLite takes the file for one that nobody changes, as long as nobody does."""
    store = public / "store"
    anyio.run(make_store, store)
    share(store)
    program = [sys.executable, str(children / "look_as_nobody.py"), str(store)]

    async def append(*looks: Callable[[], None]) -> None:
        async with open_log(store) as log:
            for look in looks:
                await log.append(stream(), ANY, [note("x" * 5_000)] * 20)
                await anyio.to_thread.run_sync(look)

    with read_only(store), subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        found: list[list[object]] = []

        def look() -> None:
            assert child.stdin
            assert child.stdout
            print("look", file=child.stdin, flush=True)
            found.append(json.loads(child.stdout.readline()))

        try:
            look()
            assert found == [[2, True]]
            store.chmod(0o755)
            anyio.run(append, look, look)
            look()
            anyio.run(append, look)
        finally:
            child.kill()
    assert found == [[2, True], [22, False], [42, False], [42, False], [62, False]]


async def test_a_reader_who_may_not_read_what_the_writer_has_not_moved_yet_is_told(
    children: Path, public: Path
) -> None:
    store = public / "store"
    async with open_log(store) as log:
        await log.append(stream(), 0, [note()])
        share(store)
        for suffix in ("-wal", "-shm"):
            (store / f"log.db{suffix}").chmod(0o600 if os.geteuid() == 0 else 0)
        told = await anyio.to_thread.run_sync(as_nobody, children, "read", store)
    assert told.startswith(f"StoreUnreadableError: {store} cannot be read: log.db is being written, or was not closed")
    assert "log.db-wal" in told


def test_store_is_not_made_in_a_read_only_directory(children: Path, public: Path) -> None:
    with read_only(public):
        told = as_nobody(children, "write", public / "new")
    assert told.startswith("StoreReadOnlyError: ")
    assert not (public / "new").exists()


def test_an_embedded_cluster_is_not_kept_in_a_read_only_directory(children: Path, public: Path) -> None:
    """Nor in one that is not there yet, nor where its file is somebody else's."""
    advice = "Permission denied; name a directory that this user may write, or let them"
    with read_only(public):
        for directory in (public, public / "new"):
            told = as_nobody(children, "keep", directory)
            assert told == f"StoreReadOnlyError: {directory} cannot be written: {advice}"
        assert list(public.iterdir()) == []


def test_store_belongs_to_its_owner_alone(children: Path, public: Path) -> None:
    """Also where its directory was there before, for everybody."""
    (public / "store").mkdir(mode=0o777)
    anyio.run(make_store, public / "store")
    if os.geteuid() != 0:  # the child is this user still
        (public / "store" / "log.db").chmod(0)
    told = as_nobody(children, "read", public / "store")
    assert told == f"StoreUnreadableError: {public / 'store'} cannot be read: this user may not read log.db"
    (public / "store").chmod(0o700 if os.geteuid() == 0 else 0)
    told = as_nobody(children, "read", public / "store")
    assert told == f"StoreUnreadableError: {public / 'store'} cannot be read: Permission denied"


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}


async def test_every_file_is_its_owners_alone_whatever_the_umask(store: Path, umask: int) -> None:
    """Also the write-ahead log, which SQLite makes."""
    async with open_log(store) as log, open_views(log):
        await log.append(stream(), 0, [note()])
        found = modes(store)
    assert {"log.db", "log.db-wal", "log.db-shm", "views.db", "views.db-wal", "log.key", "writer.lock"} <= found.keys()
    assert {name: mode for name, mode in found.items() if mode != 0o600} == {store.name: 0o700}


def test_every_file_of_a_copy_is_its_owners_alone_whatever_the_umask(store: Path, tmp_path: Path, umask: int) -> None:
    anyio.run(make_store, store)
    back_up(Layout(store), tmp_path / "backup")
    restore(tmp_path / "backup", Layout(tmp_path / "restored"))
    export_log(Layout(store), tmp_path / "export")
    import_log(tmp_path / "export", Layout(tmp_path / "imported"))
    for name in ("backup", "restored", "export", "imported"):
        found = modes(tmp_path / name)
        assert len(found) > 1
        assert {file: mode for file, mode in found.items() if mode != 0o600} == {name: 0o700}


# The clock


async def test_times_never_decrease_when_the_clock_goes_backwards(store: Path) -> None:
    times = [f"2026-01-01T00:00:{second:02}.000000Z" for second in (5, 9, 3, 3, 7, 10, 1)]
    clock = iter([Time(time) for time in times])
    async with open_log(store, clock=lambda: next(clock)) as log:
        for version in range(6):
            await log.append(stream(), version, [note()])
    async with open_log(store, clock=lambda: Time("1999-01-01T00:00:00.000000Z")) as log:
        await log.append(stream(), 6, [note()])
        events = await everything(log.read(Query()))
    assert [recorded.envelope.time[17:19] for recorded in events] == ["05", "09", "09", "09", "09", "10", "10", "10"]


# Sizes


async def test_append_with_too_many_bytes_of_bodies_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = Body.of(random.randbytes(1_000))
    async with open_log(store) as log:
        monkeypatch.setattr(prepare, "APPEND_BODIES_BYTES_MAX", 2_000)
        with pytest.raises(AppendTooLargeError, match="bodies"):
            await log.append(stream(), 0, [observed(body)], bodies=[body, Body.of(random.randbytes(1_000))])
        assert await log.append(stream(), 0, [observed(body)], bodies=[body])


# Many producers, and such as give up


async def test_many_producers_share_commits_and_lose_nothing(store: Path) -> None:
    producers, rounds = 64, 5

    async def produce(number: int) -> None:
        for version in range(rounds):
            await log.append(stream(number), version, [note(f"{number} {version}")])

    async with open_log(store) as log:
        connection = Connection(log)
        async with anyio.create_task_group() as tasks:
            for number in range(producers):
                tasks.start_soon(produce, number)
        assert connection.commits < producers * rounds / 4
    events = await all_events(store)
    assert len(events) == 1 + producers * rounds


async def test_refused_append_does_not_fail_what_shares_its_commit(store: Path) -> None:
    outcomes: list[str] = []

    async def append(expected: int) -> None:
        try:
            await log.append(stream(), expected, [note()])
            outcomes.append("made")
        except StoreError as error:
            outcomes.append(type(error).__name__)

    async with open_log(store) as log:
        connection = Connection(log)
        connection.hold()
        async with anyio.create_task_group() as tasks:
            for expected in (0, 1, 7, 2):
                tasks.start_soon(append, expected)
                await settle()
            connection.go.set()
        assert connection.commits <= 2
    assert sorted(outcomes) == ["VersionConflictError", "made", "made", "made"]


async def test_one_slow_producer_holds_up_nobody(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body takes long to be packed: what others append meanwhile is committed, and its own event after it."""
    begun, go = threading.Event(), threading.Event()

    def slow_pack(body: Body) -> StoredBody:
        begun.set()
        assert go.wait(PATIENCE_S)
        return pack(body)

    monkeypatch.setattr(sqlite_log, "pack", slow_pack)
    body = Body.of(random.randbytes(100_000))
    slow: list[Recorded] = []

    async def produce() -> None:
        slow.extend(await log.append(stream(1), 0, [observed(body)], bodies=[body]))

    async with open_log(store) as log, anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        assert await anyio.to_thread.run_sync(begun.wait, PATIENCE_S)
        with anyio.fail_after(PATIENCE_S):
            made = [await log.append(stream(), version, [note()]) for version in range(20)]
        assert not slow
        go.set()
    assert [positions(answer) for answer in made] == [[position] for position in range(2, 22)]
    assert positions(slow) == [22]
    assert len(await all_events(store)) == 22


async def test_repeat_while_the_first_still_waits_is_answered_alike(store: Path) -> None:
    answers: list[tuple[Recorded, ...]] = []
    events = [note("a", id=event_id())]

    async def append() -> None:
        answers.append(await log.append(stream(), 0, events))

    async with open_log(store) as log:
        connection = Connection(log)
        connection.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.append, stream(1), 0, [note()])
            await connection.wait_begun()
            for _ in range(3):
                tasks.start_soon(append)
            await settle()
            connection.go.set()
        assert connection.commits == 2
    assert len(answers) == 3
    assert answers[0] == answers[1] == answers[2]
    assert len(await all_events(store)) == 3


async def test_ids_that_come_in_no_order_are_known_again(store: Path) -> None:
    """A greater id than all is new without a look; any other is looked for, also by who opens the log anew."""
    least, middle, greatest = sorted(event_id() for _ in range(3))
    made: list[Recorded] = []
    async with open_log(store) as log:
        for name in (greatest, least, middle):
            made += await log.append(stream(), ANY, [note("a", id=name)])
        for name, first in zip((greatest, least, middle), made, strict=True):
            assert await log.append(stream(), ANY, [note("a", id=name)]) == (first,)
    async with open_log(store) as log:
        for name, first in zip((greatest, least, middle), made, strict=True):
            assert await log.append(stream(), ANY, [note("a", id=name)]) == (first,)
            with pytest.raises(EventIdReusedError):
                await log.append(stream(), ANY, [note("b", id=name)])
    assert len(await all_events(store)) == 4


@pytest.mark.parametrize("while_committing", [False, True])
async def test_append_that_was_cancelled_is_made_once_when_repeated(store: Path, *, while_committing: bool) -> None:
    events = [note("a", id=event_id())]
    async with open_log(store) as log:
        connection = Connection(log)
        connection.hold()
        async with anyio.create_task_group() as tasks:
            if not while_committing:
                tasks.start_soon(log.append, stream(1), 0, [note("other")])
                await connection.wait_begun()
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(log.append, stream(), 0, events)
                if while_committing:
                    await connection.wait_begun()
                await settle()
                doomed.cancel_scope.cancel()
            connection.go.set()
        (made,) = await log.append(stream(), 0, events)
        assert made.envelope.version == 1
    assert texts(await all_events(store)).count("a") == 1


# Closing


async def test_closing_makes_the_appends_that_wait(store: Path) -> None:
    answers: list[int] = []

    async def append(log: SqliteEventLog, number: int) -> None:
        answers.extend(positions(await log.append(stream(number), 0, [note()])))

    async with anyio.create_task_group() as tasks, open_log(store) as log:
        connection = Connection(log)
        connection.hold()
        for number in range(5):
            tasks.start_soon(append, log, number)
        await connection.wait_begun()
        await settle()
        tasks.start_soon(anyio.to_thread.run_sync, connection.go.set)
    assert sorted(answers) == [2, 3, 4, 5, 6]
    assert len(await all_events(store)) == 6


async def test_log_is_closed_when_its_user_is_cancelled(store: Path) -> None:
    with anyio.move_on_after(0.01):
        async with open_log(store):
            await anyio.sleep_forever()
    async with open_log(store) as log:
        assert await log.append(stream(), 0, [note()])


async def test_error_of_its_user_leaves_the_log_as_it_is(store: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_log(store):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        async with read_log(store):
            raise ZeroDivisionError


async def use_read(log: SqliteEventLog) -> object:
    return await everything(log.read(Query()))


async def use_subscribe(log: SqliteEventLog) -> object:
    return await everything(log.subscribe(Query()))


USES: dict[str, Callable[[SqliteEventLog], AsyncIterator[object] | object]] = {
    "append": lambda log: log.append(stream(), ANY, [note()]),
    "append_all": lambda log: log.append_all([StreamAppend(stream(), ANY, [note()])]),
    "append with a large body": lambda log: log.append(stream(), ANY, [note()], bodies=[Body.of(bytes(100_000))]),
    "read": use_read,
    "subscribe": use_subscribe,
    "head": lambda log: log.head(),
    "body": lambda log: log.body(Body.of(b"").ref.digest),
    "position_at": lambda log: log.position_at(Time("2026-01-01T00:00:00.000000Z")),
    "checkpoint": lambda log: log.checkpoint(),
}


@pytest.mark.parametrize("use", USES)
async def test_log_that_was_closed_says_so(store: Path, use: str) -> None:
    async with open_log(store) as log:
        pass
    with pytest.raises(StoreClosedError, match="closed"):
        await USES[use](log)  # type: ignore[misc]


async def test_a_log_that_was_removed_is_not_begun_anew_beside_its_key(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with open_log(store):
        pass
    key = (store / "log.key").read_text()
    (store / "log.db").unlink()
    with pytest.raises(NotAStoreError, match="the log was removed or emptied"):
        async with open_log(store):
            pass
    assert (store / "log.key").read_text() == key
