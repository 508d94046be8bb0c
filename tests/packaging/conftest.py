"""The tree as committed, and what is built from it."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.missing import cannot

ROOT = Path(__file__).parents[2]


class Built(NamedTuple):
    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def committed(root: Path) -> list[str]:
    """The paths that are, or are about to be, in the repository."""
    if not (root / ".git").exists():
        cannot("no Git checkout: that the tree is as it should be is NOT tested")
    # CI may run as another user than the one that cloned.
    git = ["git", "-c", "safe.directory=*"]
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(path for path in listed.split("\0") if path and (root / path).is_file())


@pytest.fixture(scope="session")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel built from that sdist, with the installed hatchling: no network."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(root)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (sdist,) = directory.glob("*.tar.gz")
    (wheel,) = directory.glob("*.whl")
    return Built(sdist, wheel)
