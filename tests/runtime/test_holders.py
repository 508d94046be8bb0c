"""Who holds a Lease, and whether its process is gone: beyond doubt, or not said."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from tidelog.engine.runtime.holders import Holder, own_name

SAY = "import sys; from tidelog.engine.runtime.holders import own_name; print(own_name(), flush=True); sys.stdin.read()"


def parsed(name: str) -> Holder:
    holder = Holder.parse(name)
    assert holder is not None
    return holder


@contextmanager
def another() -> Iterator[tuple[subprocess.Popen[str], Holder]]:
    """Another process, and the name that it gives itself."""
    with subprocess.Popen(
        [sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, parsed(process.stdout.readline().strip())
        process.kill()


def test_a_name_says_where_and_when_a_process_began() -> None:
    one, other = own_name(), own_name()
    assert one != other, "no two daemons have one name"
    holder = parsed(one)
    assert (holder.host, holder.process) == (socket.gethostname(), os.getpid())
    assert holder.view
    assert holder.start
    assert not holder.is_gone


def test_who_was_killed_is_gone_and_not_before() -> None:
    with another() as (process, holder):
        assert holder.process == process.pid
        assert not holder.is_gone
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert holder.is_gone, "also where its parent has not asked what became of it"
    assert holder.is_gone


def test_whose_number_another_process_has_by_now_is_gone() -> None:
    assert msgspec.structs.replace(parsed(own_name()), start=1).is_gone


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"view": "0" * 16}, {"view": ""}])
def test_of_another_host_or_boot_or_of_other_processes_nothing_is_known(change: dict[str, str]) -> None:
    with another() as (_, holder):
        pass
    assert holder.is_gone
    assert not msgspec.structs.replace(holder, **change).is_gone


def test_a_name_without_it_tells_nothing() -> None:
    older = f"{socket.gethostname()}_{2**22 + 1}_0190b3b8-0000-7000-8000-000000000000"
    assert not parsed(older).is_gone
    assert Holder.parse("kustomize-controller-7d4_0190b3b8-0000-7000-8000-000000000000") is None
