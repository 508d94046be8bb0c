"""The command, run inside the test's own process, and a store for it to read."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import anyio
import pytest

from tests.verify.stores import make_store
from tidelog.engine.cli.main import main

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run: TypeAlias = Callable[..., Done]


@pytest.fixture
def tidelog(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs the command as a shell would, but for the process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["tidelog", *map(str, arguments)])
        capsysbinary.readouterr()
        code: object = 0
        handler = signal.getsignal(signal.SIGINT)
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            if signal.getsignal(signal.SIGINT) is not handler:  # as a command that is interrupted leaves it
                signal.signal(signal.SIGINT, handler)
        out, err = capsysbinary.readouterr()
        assert isinstance(code, int)
        return Done(code, out.decode(), err.decode())

    return run


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 300 events with projections, closed. Not to be changed."""
    directory = tmp_path_factory.mktemp("cli") / "store"
    anyio.run(partial(make_store, directory, 5, (120, 300)))
    return directory


@pytest.fixture
def store(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store, which is the one that commands take."""
    copy = Path(shutil.copytree(original, tmp_path / "store"))
    monkeypatch.setenv("TIDELOG_STORE", str(copy))
    return copy


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For a child that runs the command."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / '.dev'}", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def children() -> Path:
    """Programs that tests run."""
    return Path(__file__).with_name("children")
