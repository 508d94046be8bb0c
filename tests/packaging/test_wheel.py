"""hatchling can leave files out of a wheel and exit with 0: docs/decisions/0001-packaging.md."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.packaging.conftest import Built

ROOMS = ("engine", "events", "storage")


def files(directory: Path) -> set[str]:
    """The files below `directory`, caches and the results of benchmarks left out."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not {"__pycache__", "results"} & set(path.parts)}


def test_wheel_holds_the_tree_and_nothing_else(root: Path, built: "Built") -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    tree = {f"tidelog/{room}/{name}" for room in ROOMS for name in files(root / room)}
    assert {name for name in names if ".dist-info/" not in name} == tree | {
        "tidelog/__init__.py",
        "tidelog/py.typed",
    }


def test_wheel_has_one_name_at_the_top(root: Path, built: "Built") -> None:
    config = str(root / "pyproject.toml")
    command = [sys.executable, "-m", "check_wheel_contents", "--config", config, str(built.wheel)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_wheel_has_its_licence_and_its_command(built: "Built") -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
        (entry_points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        assert any(name.endswith("/licenses/LICENSE") for name in names)
        assert "tidelog = tidelog.engine.cli.main:main" in wheel.read(entry_points).decode()


def test_sdist_holds_what_a_distributor_needs(root: Path, built: "Built") -> None:
    with tarfile.open(built.sdist) as sdist:
        members = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    wanted = {f"{folder}/{name}" for folder in (*ROOMS, "tests", "bench") for name in files(root / folder)}
    wanted |= {"LICENSE", "README.md", "pyproject.toml", ".dev/tidelog/__init__.py", ".dev/tidelog/py.typed"}
    assert not wanted - members
