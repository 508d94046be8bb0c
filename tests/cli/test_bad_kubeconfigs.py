"""Every command that goes to a cluster, with a kubeconfig that leads to none: a sentence that says what to do."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cluster.conftest import write_kubeconfig
from tidelog.engine.cluster.credentials import Credentials

COMMANDS = [
    ("run", "--store", "new"),
    ("run", "--store", "new", "--until-ready", "--repo", "."),
    ("check", "--store", "new"),
    ("install",),
    ("uninstall", "--yes"),
    ("plan", "kustomization/app", "--store", "new"),
    ("reconcile", "kustomization/app", "--store", "new"),
    ("suspend", "kustomization/app", "--store", "new", "--why", "a test"),
    ("resume", "kustomization/app", "--store", "new"),
    ("resume", "kustomizations", "--all", "--store", "new"),
]
PLUGIN_S = 0.5


def plugin(directory: Path, script: str, **more: Any) -> dict[str, Any]:
    """A user whose credentials come from a program."""
    program = directory / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": str(program), "interactiveMode": "Never", **more}}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody comes to while the test lasts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = Credentials.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "plugin_s", PLUGIN_S)


def refused(tidelog: Run, *command: object) -> str:
    """What a command that fails says."""
    done = tidelog(*command)
    said = done.out + done.err
    assert done.code in (1, 3), said
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("what", ["absent", "nowhere"])
def test_every_command_says_it_in_a_sentence(
    tidelog: Run, command: tuple[str, ...], what: str, tmp_path: Path, closed_port: int
) -> None:
    path = tmp_path / "kubeconfig"
    words = f"cannot read the kubeconfig {path}"
    if what == "nowhere":
        write_kubeconfig(path, f"http://127.0.0.1:{closed_port}", {})
        words = f"no connection to http://127.0.0.1:{closed_port}: Connection refused; is it running"
    if "--repo" in command:
        (tmp_path / ".git").mkdir()
    assert words in refused(tidelog, *command, "--kubeconfig", path)


@pytest.mark.parametrize("command", [("run", "--store", "new"), ("check", "--store", "new")], ids=" ".join)
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sleep 60", f"gave no credentials within {PLUGIN_S:g} s, and was ended: does it wait for somebody to log in?"),
        ("echo hunter2", "did not print an ExecCredential; run it by hand"),
        ("echo 'log in first' >&2; exit 1", "failed with exit code 1: log in first"),
        ("exit 1", "failed with exit code 1: it says nothing; run it by hand"),
    ],
)
def test_a_plugin_that_does_not_do_its_work_is_told(
    tidelog: Run, command: tuple[str, ...], script: str, words: str, tmp_path: Path
) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", plugin(tmp_path, script))
    said = refused(tidelog, *command, "--kubeconfig", path)
    assert f"the exec plugin {str(tmp_path / 'plugin')!r} of context 'it' of {path}" in said
    assert words in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty: name another one with --kubeconfig"),
        ("hello", "is no kubeconfig, which has clusters, users and contexts"),
        ("users: [\n  token: hunter2\n: :", "is no YAML"),
        (json.dumps({"kind": "Config"}), "has no contexts"),
    ],
)
def test_a_broken_file_is_told(tidelog: Run, content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    said = refused(tidelog, "check", "--store", "new", "--kubeconfig", path)
    assert words in said
    assert "hunter2" not in said


def test_a_command_that_asks_for_a_run_says_so_once_it_has(tidelog: Run) -> None:
    done = tidelog("reconcile", "kustomization/app", "--store", "new", "--kubeconfig", "absent")
    assert "asked for a run" not in done.err
