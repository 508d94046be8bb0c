"""One writer: a second one is refused and told by whom; readers are not in its way."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.storage.samples import PATIENCE_S, check_whole, everything, first, note, positions, stream, texts
from tidelog.storage.errors import StoreBusyError
from tidelog.storage.layout import Layout, holder_of
from tidelog.storage.log import ANY, Query, Recorded
from tidelog.storage.log.sqlite_log import open_log, read_log


@contextmanager
def holder(children: Path, store: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the store open to write."""
    child = subprocess.Popen(
        [sys.executable, str(children / "hold.py"), str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        yield child
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE_S)


async def test_second_writer_in_the_same_process_is_refused(store: Path) -> None:
    async with open_log(store) as log:
        with pytest.raises(StoreBusyError, match=f"process {os.getpid()} "):
            async with open_log(store):
                pytest.fail("opened")
        await log.append(stream(), 0, [note()])
    async with open_log(store) as log:
        await log.append(stream(), 1, [note()])


async def test_second_writer_is_refused_with_the_name_of_the_first(children: Path, store: Path) -> None:
    with holder(children, store) as child:
        with pytest.raises(StoreBusyError) as caught:
            async with open_log(store):
                pytest.fail("opened")
        assert f"process {child.pid} on {os.uname().nodename}" in caught.value.holder
        assert "hold.py" in caught.value.holder
        assert str(store) in str(caught.value)
        assert caught.value.holder in str(caught.value)
        async with read_log(store) as reader:
            assert await reader.head() == 1


def test_who_writes_is_not_known_to_who_may_not_read_the_lock(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    assert holder_of(Layout(store)) is None
    monkeypatch.setattr("tidelog.storage.layout.os.open", refuse)
    assert holder_of(Layout(store)) == "not known: writer.lock may not be read by this user"


async def test_store_is_free_when_its_writer_was_killed(children: Path, store: Path) -> None:
    with holder(children, store) as child:
        child.kill()
        await anyio.to_thread.run_sync(child.wait)
        async with open_log(store) as log:
            assert await log.append(stream(), 0, [note()])


async def test_store_is_free_when_its_writer_closed_it_though_a_child_of_it_lives(store: Path) -> None:
    async with open_log(store):
        program = "import sys; print('up', flush=True); sys.stdin.read()"
        child = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        )
    try:
        assert child.stdout is not None
        assert await anyio.to_thread.run_sync(child.stdout.readline) == b"up\n"
        async with open_log(store) as log:
            assert await log.head() == 1
    finally:
        await anyio.to_thread.run_sync(child.communicate, b"")


async def test_readers_in_other_processes_go_on_while_the_writer_writes(children: Path, store: Path) -> None:
    """They see every event once and in order, whatever the writer does meanwhile."""
    count = 150
    async with open_log(store) as log:
        followers = [
            subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [sys.executable, str(children / "follow.py"), str(store), str(count + 1)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        try:
            lines = [follower.stdout for follower in followers]
            for version in range(count):
                await log.append(stream(), version, [note("x" * 2_000)])
                if version == 10:
                    for pipe in lines:
                        assert pipe is not None
                        assert await anyio.to_thread.run_sync(pipe.readline) == "1\n"
            for follower in followers:
                output, _ = await anyio.to_thread.run_sync(follower.communicate)
                assert output.split() == [str(position) for position in range(2, count + 2)]
        finally:
            for follower in followers:
                follower.kill()
                await anyio.to_thread.run_sync(follower.wait)


async def test_a_log_that_is_closed_is_one_file_though_a_reader_stays(store: Path) -> None:
    """Someone who then alters it alters what is read."""
    async with open_log(store) as log, read_log(store) as reader:
        await log.append(stream(), 0, [note("spoken truly")])
        await first(2, reader.subscribe(Query()))
        await log.close()
        assert (store / "log.db-wal").stat().st_size == 0
        (store / "log.db").write_bytes((store / "log.db").read_bytes().replace(b"spoken truly", b"spoken false"))
        async with read_log(store) as other:
            assert texts(await everything(other.read(Query()))) == ["spoken false"]


async def test_reader_goes_on_when_the_writer_closes_and_another_comes(store: Path) -> None:
    async with open_log(store) as log:
        await log.append(stream(), ANY, [note("one")])
    async with read_log(store) as reader:
        events: AsyncIterator[Recorded] = reader.subscribe(Query())
        found = await first(2, events)
        for text in ("two", "three"):
            async with open_log(store) as log:
                await log.append(stream(), ANY, [note(text)])
            found += await first(1, events)
        check_whole(found)
        assert positions(await everything(reader.read(Query()))) == [1, 2, 3, 4]
