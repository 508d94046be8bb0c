"""What of the embedded cluster survives a restart, and files that it refuses."""

import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.cluster.embedded.small import APPS, CORE, READY_S, Small, open_small
from tests.cluster.embedded.test_caretaker import DEFINITIONS, THINGS, definition, thing
from tidelog.engine.cluster.embedded import backlog, keeper
from tidelog.engine.cluster.embedded.keeper import keeping, read_kept
from tidelog.engine.cluster.embedded.store import Store
from tidelog.storage import cluster_objects
from tidelog.storage.cluster_objects import ClusterObjects
from tidelog.storage.connection import LOG
from tidelog.storage.errors import NotAStoreError, StoreBusyError, StoreCorruptError, StoreError, StoreNotFoundError
from tidelog.storage.layout import Layout

MAPS = f"{CORE}/configmaps"


@asynccontextmanager
async def kept(directory: Path) -> AsyncIterator[Small]:
    store = Store()
    async with keeping(store, directory), open_small(store) as small:
        yield small


async def everything(small: Small) -> dict[Any, bytes]:
    buckets = {place: small.store.bucket(place) for place in small.store.places()}
    return {(place, key): record.data for place, bucket in buckets.items() for key, record in bucket.records.items()}


async def test_a_copy_of_what_is_kept_beside_its_writer(tmp_path: Path) -> None:
    store = Store()
    async with keeping(store, tmp_path):
        async with open_small(store) as small:
            await small.create(MAPS, {"metadata": {"name": "a"}})
        with anyio.fail_after(5):
            while (copy := await read_kept(tmp_path)).version != store.version:  # noqa: ASYNC110 - the keeper tells nobody
                await anyio.sleep(0.01)
        async with open_small(copy) as small:
            assert await small.exists(f"{MAPS}/a")
            await small.delete(f"{MAPS}/a")
    async with kept(tmp_path) as small:
        assert await small.exists(f"{MAPS}/a")


async def test_what_is_answered_is_kept(tmp_path: Path) -> None:
    async with kept(tmp_path) as small:
        for name in "abc":
            await small.create(MAPS, {"metadata": {"name": name}})
            assert name in await names_kept(tmp_path)
        await small.delete(f"{MAPS}/a")
        assert {"a", "b", "c"} & await names_kept(tmp_path) == {"b", "c"}


async def names_kept(directory: Path) -> set[str]:
    records = (await read_kept(directory)).bucket(("", "configmaps")).between("test")
    return {record.key.name for record in records}


class Disk:
    """One that is slow: it writes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_write = threading.Event()
        self.may_write.set()
        real = ClusterObjects.write

        def write(file: ClusterObjects, objects: Any) -> None:
            assert self.may_write.wait(10)
            real(file, objects)

        monkeypatch.setattr(ClusterObjects, "write", write)


async def test_an_answer_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, answered = Disk(monkeypatch), list[str]()

    async def make(name: str) -> None:
        await small.create(MAPS, {"metadata": {"name": name}})
        answered.append(name)

    async with kept(tmp_path) as small, anyio.create_task_group() as tasks:
        disk.may_write.clear()
        for name in "abc":
            tasks.start_soon(make, name)
        while not await small.exists(f"{MAPS}/c"):
            await anyio.lowlevel.checkpoint()
        assert answered == []
        disk.may_write.set()
    assert sorted(answered) == ["a", "b", "c"]


async def test_nobody_begins_to_write_while_much_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr(backlog, "CHANGES_MAX", 4)
    async with kept(tmp_path) as small, anyio.create_task_group() as tasks:
        disk.may_write.clear()
        for name in "abcdefghijkl":
            tasks.start_soon(small.create, MAPS, {"metadata": {"name": name}})
        await anyio.sleep(0.2)
        made = {name for name in await small.names(MAPS) if len(name) == 1}
        assert len(made) <= 5
        disk.may_write.set()
    assert len(await names_kept(tmp_path)) == 13  # with the root certificate


async def test_who_waits_for_the_disk_at_the_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, cut_off = Disk(monkeypatch), list[str]()

    async def make(name: str) -> None:
        try:
            await small.create(MAPS, {"metadata": {"name": name}})
        except ConnectionError:
            cut_off.append(name)

    async def end_soon() -> None:
        await anyio.sleep(0.1)
        disk.may_write.set()

    async with anyio.create_task_group() as requests:  # as those of a server are no part of what is ended
        with anyio.CancelScope() as scope:
            async with kept(tmp_path) as small:
                disk.may_write.clear()
                for name in "ab":  # the second comes while the first is written
                    requests.start_soon(make, name)
                    await anyio.sleep(0.2)
                requests.start_soon(end_soon)
                scope.cancel()
                await anyio.sleep_forever()
    assert cut_off == ["b"]
    assert await names_kept(tmp_path) == {"a", "b", "kube-root-ca.crt"}


async def test_there_is_no_copy_of_what_was_never_kept(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        await read_kept(tmp_path)
    assert not Layout(tmp_path).cluster.exists()


async def test_objects_and_their_versions_survive(tmp_path: Path) -> None:
    async with kept(tmp_path) as small:
        await small.create(MAPS, {"metadata": {"name": "a"}, "data": {"one": "1"}})
        await small.create(MAPS, {"metadata": {"name": "b"}})
        await small.patch(f"{MAPS}/a", {"data": {"one": "2"}})
        await small.delete(f"{MAPS}/b")
        before, version = await everything(small), small.store.version
    async with kept(tmp_path) as small:
        assert await everything(small) == before
        assert small.store.version == version
        assert (await small.get(f"{MAPS}/a"))["data"] == {"one": "2"}
        assert not await small.exists(f"{MAPS}/b")
        made = await small.create(MAPS, {"metadata": {"name": "b"}})
        assert int(made["metadata"]["resourceVersion"]) == version + 1


async def test_a_watch_from_before_a_restart_lists_again(tmp_path: Path) -> None:
    async with kept(tmp_path) as small:
        early = small.store.version
        await small.create(MAPS, {"metadata": {"name": "a"}})
        version = small.store.version
    async with kept(tmp_path) as small:
        (event,) = await small.watch(f"{MAPS}?resourceVersion={early}", 2)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        async with small.watching(f"{MAPS}?resourceVersion={version}", 1) as taken:
            await small.create(MAPS, {"metadata": {"name": "b"}})
        assert [event["object"]["metadata"]["name"] for event in taken] == ["b"]


async def test_custom_kinds_are_served_again(tmp_path: Path) -> None:
    async with kept(tmp_path) as small:
        await small.create(DEFINITIONS, definition())
        made = await small.create(THINGS, thing("a"))
    async with kept(tmp_path) as small:
        assert await small.get(f"{THINGS}/a") == made
        await small.create(THINGS, thing("b"))
        assert await small.names(THINGS) == ["a", "b"]


async def test_objects_of_a_definition_that_went_are_not_found_by_the_next(tmp_path: Path) -> None:
    async with kept(tmp_path) as small:
        await small.create(DEFINITIONS, definition())
        await small.create(THINGS, thing("a"))
        await small.delete(f"{DEFINITIONS}/things.example.com")
    async with kept(tmp_path) as small:
        assert not await small.exists(THINGS)
        await small.create(DEFINITIONS, definition())
        assert await small.names(THINGS) == []


async def test_workloads_go_on(tmp_path: Path) -> None:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    async with kept(tmp_path) as small:
        await small.create(f"{APPS}/deployments", {"metadata": {"name": "web"}, "spec": spec})
        await small.settle()
        (pod,) = await small.names(f"{CORE}/pods")
    async with kept(tmp_path) as small:
        assert await small.names(f"{CORE}/pods") == [pod]
        await small.patch(f"{CORE}/pods/{pod}", {"metadata": {"labels": {"seen": "1"}}})
        await small.after(READY_S)
        assert (await small.health(f"{APPS}/deployments/web")).health == "Current"


async def test_more_changes_than_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BATCH_MAX", 2)
    async with kept(tmp_path) as small:
        for name in "abcde":
            await small.create(MAPS, {"metadata": {"name": name}})
        before = await everything(small)
    async with kept(tmp_path) as small:
        assert await everything(small) == before


async def test_one_writes_the_file_at_a_time(tmp_path: Path) -> None:
    async with kept(tmp_path) as small:
        await small.create(MAPS, {"metadata": {"name": "a"}})
        assert str(os.getpid()) in await refused(tmp_path, StoreBusyError)
        await small.create(MAPS, {"metadata": {"name": "b"}})
    async with kept(tmp_path) as small:
        assert {"a", "b"} <= set(await small.names(MAPS))


async def test_versions_that_were_lost_with_the_process_do_not_come_again(tmp_path: Path) -> None:
    def killed() -> Store:
        """One that was killed before its last writes were kept."""
        store = Store()
        file = ClusterObjects.open(tmp_path)
        store.load([], file.version())
        file.close(is_whole=False)
        return store

    async with kept(tmp_path) as small:
        known = small.store.version + 1_000
    (await anyio.to_thread.run_sync(killed)).version += 1_000
    async with kept(tmp_path) as small:
        assert small.store.version > known
        (event,) = await small.watch(f"{MAPS}?resourceVersion={known}", 1)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        version = small.store.version
    async with kept(tmp_path) as small:  # and it goes on as before where all was kept
        assert small.store.version == version


# ---------------------------------------------------------------------------------------------- other files


async def refused(directory: Path, kind: type[StoreError]) -> str:
    with pytest.raises(kind) as told:
        async with kept(directory):
            raise AssertionError("it was opened")
    return str(told.value)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()


def of_the_log(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {LOG.application}")
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()


def no_database(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [foreign, of_the_log, no_database, directory])
async def test_the_file_of_another_program_is_refused(tmp_path: Path, make: Any) -> None:
    path = Layout(tmp_path).cluster
    await anyio.to_thread.run_sync(make, path)
    before = path.read_bytes() if path.is_file() else None
    said = await refused(tmp_path, NotAStoreError)
    assert str(tmp_path) in said
    assert path.name in said
    assert before is None or path.read_bytes() == before


async def test_an_empty_file_is_not_taken_for_a_new_cluster(tmp_path: Path) -> None:
    path = Layout(tmp_path).cluster
    path.touch()
    told = await refused(tmp_path, StoreCorruptError)
    assert told == f"{path} is damaged: it is empty (0 bytes); put a copy back, or delete it to begin anew"
    with pytest.raises(StoreCorruptError, match="it is empty"):
        await read_kept(tmp_path)
    assert path.stat().st_size == 0
    path.unlink()
    async with kept(tmp_path) as small:
        await small.create(MAPS, {"metadata": {"name": "a"}})


async def test_a_first_start_that_was_cut_off_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has its name once it is whole: an empty one is never what such a start left."""
    layout = Layout(tmp_path)

    def cut_off(connection: sqlite3.Connection) -> None:
        assert layout.cluster_new.exists()
        assert not layout.cluster.exists()
        raise OSError("the power fails")

    with monkeypatch.context() as patched:
        patched.setattr(cluster_objects, "_make", cut_off)
        with pytest.raises(OSError, match="the power fails"):
            await anyio.to_thread.run_sync(ClusterObjects.open, tmp_path)
    layout.cluster_new.write_bytes(b"half of it")
    async with kept(tmp_path) as small:
        await small.create(MAPS, {"metadata": {"name": "a"}})
    async with kept(tmp_path) as small:
        assert await small.exists(f"{MAPS}/a")
    assert set(await anyio.to_thread.run_sync(os.listdir, tmp_path)) <= layout.names


@pytest.mark.parametrize("below", ["", "store"])
async def test_what_is_a_file_is_no_directory(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("something")
    told = await refused(file / below, NotAStoreError)
    assert told == f"{file / below} is no Tidelog store: it is a file, or lies below one: name a directory"
    assert file.read_text() == "something"


def with_other_version(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


async def test_the_file_of_a_later_release_is_refused(tmp_path: Path) -> None:
    async with kept(tmp_path):
        pass
    path = Layout(tmp_path).cluster
    await anyio.to_thread.run_sync(with_other_version, path, 99)
    said = await refused(tmp_path, StoreError)
    assert str(path) in said
    assert "newer" in said


def damage_pages(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[4096:] = b"\xa5" * (len(whole) - 4096)
    path.write_bytes(whole)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8192])


def damage_object(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE objects SET data = ? WHERE name = 'a'", (b'{"metadata": {"na',))
    connection.commit()
    connection.close()


def damage_versions(path: Path) -> None:
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'versions'").fetchone()
    connection.close()
    whole = bytearray(path.read_bytes())
    whole[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", [damage_pages, cut, damage_object, damage_versions])
async def test_a_damaged_file_is_refused(tmp_path: Path, damage: Any) -> None:
    async with kept(tmp_path) as small:
        await small.create(MAPS, {"metadata": {"name": "a"}, "data": {"a": "x" * 20_000}})
    path = Layout(tmp_path).cluster
    await anyio.to_thread.run_sync(damage, path)
    told = await refused(tmp_path, StoreCorruptError)
    assert str(path) in told
    assert told.endswith("delete the file to begin anew")  # and not: ask the log, which knows nothing of it


async def test_what_cannot_be_written_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = ClusterObjects.write, 0

    def fail_once(self: ClusterObjects, objects: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreCorruptError("cluster.db", "a test says so")
        real(self, objects)

    async def write_until_it_fails() -> None:
        async with kept(tmp_path) as small:
            await anyio.wait_all_tasks_blocked()
            monkeypatch.setattr(ClusterObjects, "write", fail_once)
            await small.create(MAPS, {"metadata": {"name": "a"}})
            await anyio.sleep(10)

    with pytest.raises(StoreError, match="a test says so"):
        await write_until_it_fails()
    async with kept(tmp_path) as small:
        assert await small.exists(f"{MAPS}/a")
