"""Commands about what is secret: it is shown to who asks for it and has the keys, and forgotten for ever."""

import fcntl
import json
import os
import re
from pathlib import Path

import anyio
import pytest

from tests.cli.conftest import Run
from tests.keys.conftest import DOCUMENT, OTHER, PLANTED, STREAM, Made, make, places_of


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Not to be changed."""
    return anyio.run(make, tmp_path_factory.mktemp("secrets") / "store")


@pytest.fixture
def made(first: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy of the store, which is the one that commands take."""
    copy = first.in_copy(tmp_path / "secret-store")
    monkeypatch.setenv("TIDELOG_STORE", str(copy.directory))
    for name in ("TIDELOG_MASTER_KEY", "TIDELOG_MASTER_KEY_FILE", "TIDELOG_MASTER_KEY_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    return copy


def forget(tidelog: Run, *more: object) -> None:
    done = tidelog("log", "forget", STREAM, "--why", "asked to", "--yes", *more)
    assert done.code == 0, done.err


def test_a_secret_is_shown_only_when_asked_for(made: Made, tidelog: Run) -> None:
    digest = made.body.ref.digest
    hidden = tidelog("log", "body", digest)
    assert (hidden.code, hidden.out) == (1, "")
    assert "is secret" in hidden.err
    assert tidelog("log", "body", digest, "--reveal") == (0, DOCUMENT.decode(), "")


def test_it_is_shown_to_nobody_without_the_keys(made: Made, tidelog: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = made.layout.master.read_text()
    made.layout.master.unlink()
    shown = tidelog("log", "body", made.body.ref.digest, "--reveal")
    assert (shown.code, shown.out, shown.err.count("\n")) == (3, "", 1)
    assert "no master key" in shown.err
    assert not made.layout.master.exists()  # who only reads makes none
    monkeypatch.setenv("TIDELOG_MASTER_KEY", "0" * 64)
    shown = tidelog("log", "body", made.body.ref.digest, "--reveal")
    assert (shown.code, shown.out) == (3, "")
    assert "is not the one that wraps" in shown.err
    monkeypatch.setenv("TIDELOG_MASTER_KEY", kept)
    assert tidelog("log", "body", made.body.ref.digest, "--reveal").out == DOCUMENT.decode()


def test_forget_destroys_says_so_and_leaves_the_log_intact(made: Made, tidelog: Run) -> None:
    made.layout.master.unlink()  # it needs no master key
    done = tidelog("log", "forget", STREAM, "--why", "asked to", "--yes", "-o", "json")
    assert (done.code, json.loads(done.out)) == (0, {"position": 4})
    assert tidelog("log", "verify").code == 0
    told = r"forgotten on 20\S+ by user \S+ \(authenticated by unix\): asked to"
    for command in (("body", made.body.ref.digest), ("body", made.body.ref.digest, "--reveal")):
        shown = tidelog("log", *command)
        assert (shown.code, shown.out) == (1, "")
        assert_matches(rf"{made.body.ref.digest} was {told}\n", shown.err)
    shown = tidelog("log", "show", 2)
    assert shown.code == 0
    assert_matches(rf"(?s).*\n{made.body.ref.digest} was {told}\n", shown.out)
    assert "forgotten" not in tidelog("log", "show", 3).out
    for moment in ((), ("--at", 2)):
        shown = tidelog("log", "state", "actual", STREAM, *moment)
        assert shown.code == 0
        assert_matches(rf"(?s).*\n{made.body.ref.digest} was {told}\n", shown.out)
    shown = tidelog("log", "state", "actual", "-o", "json")
    assert list(json.loads(shown.out)["forgotten"]) == [made.body.ref.digest]
    assert places_of(PLANTED, made.directory) == []


def assert_matches(pattern: str, text: str) -> None:
    assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize(
    ("typed", "said"),
    [("n", "Aborted: nothing was done.\n"), (None, "\nAborted: nothing was done; --yes answers yes.\n")],
    ids=["no", "nobody there"],
)
def test_forget_asks_first_and_does_nothing_unless_the_answer_is_yes(
    made: Made, tidelog: Run, monkeypatch: pytest.MonkeyPatch, typed: str | None, said: str
) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("click.termui.visible_prompt_func", answer)
    aborted = tidelog("log", "forget", STREAM, "--why", "asked to")
    assert (aborted.code, aborted.err) == (130, said)
    assert "1 secret body can never be read again" in asked[0]
    assert tidelog("log", "body", made.body.ref.digest, "--reveal").code == 0
    assert tidelog("log", "tail", "-o", "json").out.count("\n") == 3


def test_forget_says_why_there_is_nothing_to_forget(made: Made, tidelog: Run) -> None:
    nothing = tidelog("log", "forget", "east/core/Secret/shop/none", "--why", "x", "--yes")
    assert (nothing.code, nothing.out) == (1, "")
    assert "nothing secret is kept of it" in nothing.err
    forget(tidelog)
    again = tidelog("log", "forget", STREAM, "--why", "again", "--yes")
    assert again.code == 1
    assert "it was forgotten on" in again.err
    assert tidelog("log", "forget", "no stream", "--why", "x").code == 2
    assert tidelog("log", "forget", OTHER).code == 2


def test_forget_needs_the_store_to_itself(made: Made, tidelog: Run) -> None:
    lock = os.open(made.layout.lock, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy = tidelog("log", "forget", STREAM, "--why", "x", "--yes")
    finally:
        os.close(lock)
    assert busy.code == 3
    assert "is being written" in busy.err
    assert tidelog("log", "body", made.body.ref.digest, "--reveal").code == 0


@pytest.mark.parametrize("with_keys", [False, True])
def test_backup_and_restore_take_the_keys_when_asked_to(
    made: Made, tidelog: Run, tmp_path: Path, with_keys: bool
) -> None:
    flags = ("--with-keys",) if with_keys else ()
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    assert tidelog("log", "backup", backup, *flags).code == 0
    assert tidelog("log", "restore", backup, "--store", restored, *flags).code == 0
    for store in (backup, restored):
        shown = tidelog("log", "body", made.body.ref.digest, "--reveal", "--store", store)
        assert (shown.code, shown.out) == ((0, DOCUMENT.decode()) if with_keys else (3, ""))
    assert tidelog("log", "restore", backup, "--store", tmp_path / "other", "--with-keys").code == (
        0 if with_keys else 3
    )


def test_no_command_shows_a_secret_unasked(made: Made, tidelog: Run, tmp_path: Path) -> None:
    forget(tidelog)
    hidden = [PLANTED, made.layout.master.read_text().strip(), made.other.data.hex()]
    hidden += [json.loads(path.read_bytes())["wrapped"] for path in made.layout.keys.iterdir()]
    for command in (
        ("tail",),
        ("tail", "-o", "json"),
        ("show", 3),
        ("show", 4),
        ("show", 4, "-o", "json"),
        ("body", made.body.ref.digest),
        ("body", made.other.ref.digest),
        ("stat",),
        ("state", "actual"),
        ("state", "object_versions", "-o", "json"),
        ("verify",),
        ("prove", "--event", 4),
        ("checkpoint",),
        ("rebuild",),
        ("export", tmp_path / "export"),
        ("backup", tmp_path / "backup"),
        ("tiles", tmp_path / "tiles"),
    ):
        shown = tidelog("log", *command)
        assert not [value for value in hidden if value in shown.out + shown.err], command
    for copy in ("export", "backup", "tiles"):
        assert places_of(PLANTED, tmp_path / copy) == []
