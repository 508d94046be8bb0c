"""`tidelog demo`: what it prints is what the commands that it names print."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

TITLES = ("?", "in a copy of the store")
"""How the lines end that part the commands."""


def answers_of(text: str) -> list[tuple[str, str]]:
    """Each command that is shown, with what stands below it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.partition("\nThe store is in ")[0].splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line.endswith(TITLES):
            found.append(("", []))
        elif found:
            found[-1][1].append(line)
    return [(command, "\n".join(answer).strip()) for command, answer in found if command]


@pytest.mark.slow
def test_every_answer_is_that_of_the_command_above_it(tidelog: Run, tmp_path: Path) -> None:
    shown = tidelog("demo", "--fast", "--store", tmp_path / "store")
    assert (shown.code, shown.err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "what it tampered with is left"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    asked = []
    for command, answer in answers_of(shown.out):
        name, *rest = shlex.split(command)
        if name == "export":
            assert rest == [f"TIDELOG_STORE={tmp_path / 'store'}"]
            environment["TIDELOG_STORE"] = str(tmp_path / "store")
        elif name == "tidelog":
            asked.append(rest[1])
            done = subprocess.run(
                [name, *rest], capture_output=True, text=True, check=False, timeout=60, env=environment
            )
            assert done.stdout.strip() == answer, command
        else:
            assert (name, answer) in [("cp", ""), ("sed", ""), ("rm", "")]
            subprocess.run([name, *rest], check=True, timeout=60)
    assert sorted(set(asked)) == ["body", "show", "state", "tail", "verify"]
