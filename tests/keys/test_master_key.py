"""Where the master key comes from, and what is told when it does not."""

import base64
import os
import shlex
import sys
import time
from pathlib import Path

import anyio
import pytest

from tests.keys.conftest import DOCUMENT, Made
from tidelog.storage import open_log
from tidelog.storage.errors import MasterKeyError, StoreReadOnlyError
from tidelog.storage.keys import MasterKey
from tidelog.storage.layout import Layout
from tidelog.storage.master_key import COMMAND, FILE, VALUE, find_master_key

PATIENCE_S = 15
HEX = "00112233445566778899aabbccddeeff" * 2
SAME = MasterKey(bytes.fromhex(HEX), "")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Of an empty store."""

    async def make() -> None:
        async with open_log(tmp_path / "store"):
            pass

    anyio.run(make)
    return Layout(tmp_path / "store")


def command(program: str) -> str:
    """A command that runs a Python program."""
    return f"{sys.executable} -c {shlex.quote(program)}"


@pytest.mark.parametrize("text", [HEX, HEX.upper(), f"  {HEX}\n", base64.b64encode(bytes.fromhex(HEX)).decode() + "\n"])
def test_a_key_is_the_same_wherever_it_comes_from(text: str, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    ways = {VALUE: text, FILE: str(tmp_path / "key"), COMMAND: f"cat {shlex.quote(str(tmp_path / 'key'))}"}
    found = [find_master_key(layout, {name: value}, create=True) for name, value in ways.items()]
    wrapped = SAME.wrap(b"x" * 32, [b"a"])
    assert [key.unwrap(wrapped, [b"a"]) for key in found] == [b"x" * 32] * 3
    assert {key.id for key in found} == {SAME.id}
    assert found[0].unwrap(wrapped, [b"b"]) is None
    assert not layout.master.exists()


def test_a_store_that_is_given_none_makes_its_own_once(layout: Layout) -> None:
    with pytest.raises(MasterKeyError):
        find_master_key(layout, {}, create=False)
    first = find_master_key(layout, {}, create=True)
    assert find_master_key(layout, {}, create=True).id == find_master_key(layout, {}, create=False).id == first.id
    assert layout.master.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in layout.directory.glob("master*")) == ["master.key"]


async def test_a_store_with_its_own_master_key_opens_as_before(made: Made) -> None:
    async with open_log(made.directory):
        pass
    assert await anyio.to_thread.run_sync(lambda: made.ring().open_body(made.body)) == DOCUMENT


async def test_a_master_key_may_be_put_into_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "master.key").write_text(HEX)
    async with open_log(tmp_path / "store"):
        pass


def test_a_master_key_that_was_lost_is_not_made_anew(made: Made) -> None:
    made.layout.master.unlink()
    with pytest.raises(MasterKeyError, match="put it back"):
        find_master_key(made.layout, {}, create=True)
    assert not made.layout.master.exists()


def test_what_a_killed_process_left_is_no_key(layout: Layout) -> None:
    left = layout.master.with_name("master.key.new")
    left.write_text(HEX[:10])
    assert find_master_key(layout, {}, create=True).id != SAME.id
    assert not left.exists()


def test_an_own_key_that_others_may_read_is_refused(layout: Layout) -> None:
    find_master_key(layout, {}, create=True)
    layout.master.chmod(0o640)
    with pytest.raises(MasterKeyError, match="chmod 600"):
        find_master_key(layout, {}, create=True)


def test_a_directory_that_cannot_be_written_is_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreReadOnlyError):
        find_master_key(layout, {}, create=True)
    assert not layout.master.exists()


def test_two_keys_are_one_too_many(layout: Layout) -> None:
    with pytest.raises(MasterKeyError, match=f"{VALUE} and {FILE}"):
        find_master_key(layout, {VALUE: HEX, FILE: "x"}, create=True)


@pytest.mark.parametrize(
    "text", ["", "hunter2-hunter2", HEX[:-2], HEX + "00", "é" * 64, base64.b64encode(b"x" * 31).decode()]
)
def test_what_is_no_key_is_refused_and_not_told(text: str, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    for name, value in ((VALUE, text or " "), (FILE, str(tmp_path / "key")), (COMMAND, f"cat {tmp_path / 'key'}")):
        with pytest.raises(MasterKeyError, match="32 bytes in hex or base64") as caught:
            find_master_key(layout, {name: value}, create=True)
        assert not text or text not in str(caught.value)


@pytest.mark.parametrize("path", ["nowhere", ".", "/dev/zero"])
def test_a_file_that_cannot_be_read_is_told(path: str, tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="no master key from the file"):
        MasterKey.of_file(tmp_path / path)


# Commands


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import time; time.sleep(60)", "took too long"),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", "took too long"),
        ("while True: print('x' * 1000)", "more than 4096 bytes"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", "no text"),
    ],
)
def test_a_command_that_gives_no_key_is_ended_and_told(program: str, why: str) -> None:
    with pytest.raises(MasterKeyError, match=why):
        MasterKey.of_command(command(program), seconds=1.5)


@pytest.mark.parametrize(
    ("text", "why"), [("", "empty"), ("'", "quotation"), ("no-such-program-here x", "No such file")]
)
def test_a_command_that_cannot_be_run_is_told(text: str, why: str) -> None:
    with pytest.raises(MasterKeyError, match=why):
        MasterKey.of_command(text)


def test_what_a_command_says_of_its_failure_is_told_without_keys() -> None:
    token = "s.AbCdEfGhIjKlMnOpQrStUvWx"
    program = f"import sys; print('{HEX}'); sys.exit('no access with {token} to {HEX}: \\x1b[31mdenied')"
    with pytest.raises(MasterKeyError) as caught:
        MasterKey.of_command(command(program))
    assert "no access with *** to ***" in str(caught.value)
    assert "denied" in str(caught.value)
    assert not [hidden for hidden in (HEX, token, "\x1b", sys.executable) if hidden in str(caught.value)]


def test_a_command_that_says_much_beside_its_key_is_no_trouble() -> None:
    program = f"import sys; sys.stderr.write('x' * 10**6); print('{HEX}')"
    assert MasterKey.of_command(command(program)).id == SAME.id


def test_a_command_does_not_see_a_master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VALUE, "f" * 64)
    program = f"import os; print(os.environ.get('{VALUE}', '{HEX}'))"
    assert MasterKey.of_command(command(program)).id == SAME.id


def test_what_a_command_started_does_not_outlive_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    program = (
        "import subprocess, sys, pathlib; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"pathlib.Path({str(told)!r}).write_text(str(child.pid)); print('{HEX}', flush=True)"
    )
    with pytest.raises(MasterKeyError, match="too long"):  # its child holds the pipe
        MasterKey.of_command(command(program), seconds=2)
    limit = time.monotonic() + PATIENCE_S
    while is_alive(told.read_text()):
        assert time.monotonic() < limit, "the child is still at work"
        time.sleep(0.02)


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
