"""What the command does with the streams that it is started with, and with the keys of a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tidelog.engine.cli.main import cli

TIDELOG = [sys.executable, "-m", "tidelog.engine.cli.main"]
PATIENCE_S = 30.0


def seen_in_terminal(*words: object, environment: dict[str, str]) -> str:
    """What a command prints into a terminal."""
    ours, theirs = pty.openpty()
    command = [*TIDELOG, *map(str, words)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # the other end was closed
            while chunk := os.read(ours, 65536):
                seen += chunk
    os.close(ours)
    return seen.decode()


def test_an_error_has_colour_in_a_terminal_unless_it_is_not_wanted(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ("get", "all", "--store", tmp_path / "none")
    plain = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    told = f"Error: there is no Tidelog store at {tmp_path / 'none'}"
    assert f"\x1b[31m{told}" in seen_in_terminal(*words, environment=plain)
    assert seen_in_terminal(*words, environment=plain | {"NO_COLOR": "1"}) == f"{told}\r\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["log stat -o json", "log stat", "log tail -n 3 -o json", "log state runs -o json"])
def test_a_stream_that_is_closed_is_nothing_to_fail_for(
    store: Path, environment: dict[str, str], words: str, closed: str
) -> None:
    command = f"exec {sys.executable} -m tidelog.engine.cli.main {words} --store '{store}' {closed}"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "run --help",
        "settings",
        "settings -o yaml",
        "log tail -n 0",
        "log tail -n 300 -o json",
        "log state runs -o yaml",
    ],
)
def test_a_reader_that_has_seen_enough_is_nothing_to_fail_for(
    store: Path, environment: dict[str, str], words: str
) -> None:
    command = f"{sys.executable} -m tidelog.engine.cli.main {words}; echo ended with $? >&2"
    unread = subprocess.run(
        ["bash", "-c", f"({command}) | true"],
        env={**environment, "TIDELOG_STORE": str(store)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert unread.stderr == b"ended with 0\n"


def test_output_that_cannot_be_written_is_told(environment: dict[str, str]) -> None:
    command = f"exec {sys.executable} -m tidelog.engine.cli.main --version > /dev/full"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, b"Error: No space left on device\n")


@pytest.mark.parametrize("words", [("events", "-w", "-A"), ("log", "tail", "-f", "-n", "1")], ids=" ".join)
def test_ctrl_c_that_is_pressed_again_and_again_ends_it_as_quietly(
    store: Path, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    command = [*TIDELOG, *words, "-o", "json", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as following:
        assert following.stdout
        assert following.stderr
        try:
            assert json.loads(following.stdout.readline())
            while following.poll() is None:
                following.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    following.wait(0.05)
            # To a shell both are 130: Python lets go of handlers before the process ends.
            assert following.wait(PATIENCE_S) in (130, -signal.SIGINT)
            assert following.stderr.read().strip() == b""
        finally:
            following.kill()


@pytest.mark.parametrize("words", ["log stat", "log stat -o json", "get all", "--help"])
def test_output_for_which_there_is_no_room_is_an_error_without_a_number(
    store: Path, environment: dict[str, str], words: str
) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*TIDELOG, *words.split()]
        done = subprocess.run(
            command,
            env=environment | {"TIDELOG_STORE": str(store)},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (3, b"Error: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "an answer did not come in time"),
        (PermissionError(13, "Permission denied", "keys/a"), "keys/a: Permission denied"),
        (ExceptionGroup("both", [TimeoutError("no answer from a"), OSError()]), "no answer from a"),
    ],
    ids=repr,
)
def test_an_error_of_the_system_is_a_sentence(
    tidelog: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fails)
    done = tidelog("check")
    assert (done.code, done.err) == (3, f"Error: {told}\n")
