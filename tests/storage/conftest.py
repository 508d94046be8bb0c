"""What the tests of the store share."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.missing import cannot

CHILDREN = Path(__file__).parent / "children"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "store"


@pytest.fixture(scope="session")
def children() -> Path:
    """The programs that tests start."""
    return CHILDREN


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether numbers are to be large."""
    return bool(os.environ.get("TIDELOG_SOAK"))


@pytest.fixture(scope="session")
def strace() -> None:
    """For tests that trace system calls: without strace they fail in CI, and are skipped elsewhere."""
    why = ""
    if shutil.which("strace") is None:
        why = "strace is not installed"
    else:
        tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            why = f"strace does not work here: {tried.stderr.strip()}"
    if why:
        cannot(f"{why}: that acknowledged means fsynced is NOT tested")
