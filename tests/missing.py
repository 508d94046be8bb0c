"""What cannot run on a machine: skipped loudly, by name, and failed in CI, where it has to be there."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest


def cannot(why: str) -> NoReturn:
    """Says why something is not tested here; in CI, that fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def need_go(untested: str) -> None:
    """Goes on where Go is installed; `untested` is what is not tested without it."""
    if shutil.which("go") is None:
        cannot(f"Go is missing: {untested}")


def go_program(program: Path, source: Path, untested: str) -> Path:
    """An oracle in Go, built from the module in `source`. The first build fetches what it needs."""
    need_go(untested)
    built = subprocess.run(["go", "build", "-o", program, "."], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program
