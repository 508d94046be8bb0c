"""One file has one name, in the working tree and in the wheel."""

import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.packaging.conftest import Built

IMPORT_ALL = """
import importlib, pkgutil, sys
import tidelog
for module in pkgutil.walk_packages(tidelog.__path__, "tidelog."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"engine", "events", "storage", "tidelog"}))
print(tidelog.__file__)
for room in ("engine", "events", "storage"):
    assert f"tidelog.{room}" in sys.modules, room
"""


@pytest.fixture(scope="module")
def wheel_venv(built: "Built", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and borrows the dependencies from the one that runs the tests."""
    venv = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(built.wheel)], check=True)
    # A path in a .pth file is appended, and .pth files found there are not read: so what is borrowed comes
    # after the wheel, and without the link to the working tree.
    (borrowed,) = venv.glob("lib/python*/site-packages")
    (borrowed / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_working_tree_is_imported_by_its_full_names(root: Path) -> None:
    # From the top of the tree, where the bare names would be found.
    names, _ = run(sys.executable, "-c", IMPORT_ALL, cwd=root).splitlines()
    assert names == "tidelog"


def test_wheel_is_imported_by_the_same_names(wheel_venv: Path, tmp_path: Path) -> None:
    names, origin = run(wheel_venv / "bin" / "python", "-c", IMPORT_ALL, cwd=tmp_path).splitlines()
    assert names == "tidelog"
    assert origin.startswith(str(wheel_venv))


def test_command_of_the_wheel_tells_its_version(wheel_venv: Path, tmp_path: Path) -> None:
    assert metadata.version("tidelog") in run(wheel_venv / "bin" / "tidelog", "--version", cwd=tmp_path)


def test_version_is_written_once_more_only() -> None:
    import tidelog

    assert tidelog.__version__ == metadata.version("tidelog")
