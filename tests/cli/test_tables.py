"""Tables: nothing is cut off, no name is broken, and no line ends in blanks."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from tests.cli.conftest import Run
from tests.questions.scenes import APPS, shop
from tidelog.engine.cli.output import plain_table
from tidelog.events.names import RunId
from tidelog.events.vocabulary import StageFailed
from tidelog.storage.log.ids import new_id

MESSAGE = "the server said a great deal about it " * 12
NAMES = ("gitrepository/a-source-with-a-long-name", "main@sha1:4a3b4a3b", "False")


@pytest.fixture
def long_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose last run ended with a long message."""
    scene = shop()
    run = RunId(new_id())
    scene.tell(
        APPS,
        StageFailed(stage="apply", reason="ReconciliationFailed", message=MESSAGE.strip(), final=False),
        run=run,
    )
    store = tmp_path / "store"
    scene.write(store)
    monkeypatch.setenv("TIDELOG_STORE", str(store))
    monkeypatch.delenv("FLUX_SYSTEM_NAMESPACE", raising=False)
    return store


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is for people, 80 columns wide."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def seen(text: str) -> list[str]:
    """The lines, without what gives them colour."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


COMMANDS = [("get", "all", "-A"), ("get", "ks"), ("history", "ks/apps"), ("plans",), ("trace", "deployment/web")]


@pytest.mark.usefixtures("long_store")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_there_is_no_terminal_each_row_is_a_line_that_ends_where_its_text_does(
    tidelog: Run, command: tuple[str, ...]
) -> None:
    lines = tidelog(*command).lines
    assert lines
    assert [line for line in lines if line != line.rstrip()] == []
    assert not any(line.startswith(" ") for line in lines), "a row went on"


@pytest.mark.usefixtures("long_store", "terminal")
@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_in_a_terminal_no_line_is_too_wide_and_every_name_is_whole(
    tidelog: Run, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = seen(tidelog(*command).out)
    assert [line for line in narrow if len(line) > 80 or line != line.rstrip()] == []
    monkeypatch.setenv("COLUMNS", "999")
    wide = seen(tidelog(*command).out)
    words = {word for line in wide for word in line.split()}
    assert words == {word for line in narrow for word in line.split()}


def test_only_the_last_column_is_folded(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    table = plain_table("NAME", "REVISION", "READY", "MESSAGE")
    table.add_row(*NAMES, Text(MESSAGE))
    table.add_row("b", "", "True", "")
    table.print()
    printed = seen(capsys.readouterr().out)
    header, header_below, row, *below, last = printed
    assert [*header.split(), header_below.strip()] == ["NAME", "REVISION", "READY", "MESSAGE"]
    assert row == "  ".join(NAMES)
    # Too little is left for the message: it stands below, and is folded there.
    assert " ".join(" ".join(below).split()) == MESSAGE.strip()
    assert all(line.startswith("    ") and len(line) <= 80 for line in below)
    assert last.split() == ["b", "True"]


def test_what_does_not_fit_goes_on_at_a_columns_edge(
    terminal: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "45")
    table = plain_table("NAME", "REVISION", "READY", "MESSAGE")
    table.add_row(*NAMES, "short")
    table.print()
    assert seen(capsys.readouterr().out)[-2:] == [NAMES[0], f"    {NAMES[1]}  False  short"]


@pytest.mark.usefixtures("terminal")
def test_what_is_captured_has_no_progress_bar(store: Path, tidelog: Run) -> None:
    done = tidelog("log", "verify")
    assert (done.code, done.err) == (0, "")
    assert store.exists()


@pytest.mark.parametrize(
    ("command", "drawn"),
    [(("verify",), "verifying"), (("show", "3"), "\x1b[")],
    ids=["a progress bar", "coloured JSON"],
)
@pytest.mark.usefixtures("store")
def test_a_terminal_is_drawn_upon(environment: dict[str, str], command: tuple[str, ...], drawn: str) -> None:
    leader, follower = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-m", "tidelog.engine", "log", *command],
        env={**os.environ, **environment, "TERM": "xterm-256color"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    printed = _all_of(leader)
    assert (started.wait(60), drawn in printed) == (0, True), printed


def _all_of(terminal: int) -> str:
    """What is drawn upon a terminal until its last user has closed it."""
    drawn = b""
    with open(terminal, "rb", buffering=0) as screen:
        try:
            while piece := screen.read(4096):
                drawn += piece
        except OSError:  # how Linux says that nobody has it open any more
            pass
    return drawn.decode()
