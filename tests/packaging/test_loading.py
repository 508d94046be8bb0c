"""A program loads what its work needs: a daemon starts workers, and a stranger's bytes are read in them."""

import os
import subprocess
import sys

import pytest

from tidelog.engine.cli.main import MODULES, cli

LOADED = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"


def modules(name: str) -> set[str]:
    """What a module has with it when it is imported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, name], env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("worker", "foreign"),
    [
        ("tidelog.engine.sources.intake.worker", ("aiohttp", "asyncio", "tidelog.engine.connector")),
        ("tidelog.engine.render.worker", ("asyncio", "cryptography", "sqlite3", "tidelog.storage.keys")),
    ],
)
def test_a_worker_does_without(worker: str, foreign: tuple[str, ...]) -> None:
    loaded = modules(worker)
    assert worker in loaded
    assert loaded.isdisjoint(foreign)


def test_a_command_does_without_the_others() -> None:
    loaded = modules("tidelog.engine.cli.main")
    assert "tidelog.engine.cli.output" in loaded
    assert loaded.isdisjoint(f"tidelog.engine.cli.{module}" for module in MODULES.values())


@pytest.mark.parametrize("name", MODULES)
def test_a_command_is_where_it_is_looked_for(name: str) -> None:
    assert cli.commands[name].name == name
