"""A worker process loads what its work needs: each daemon starts some, and a stranger's bytes are read in them."""

import os
import subprocess
import sys

import pytest

LOADED = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"


@pytest.mark.parametrize(
    ("worker", "foreign"),
    [
        ("tidelog.engine.sources.git.worker", ("aiohttp", "asyncio", "tidelog.engine.connector")),
        ("tidelog.engine.render.worker", ("asyncio", "cryptography", "sqlite3", "tidelog.storage.keys")),
    ],
)
def test_a_worker_does_without(worker: str, foreign: tuple[str, ...]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, worker], env=environment, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert worker in loaded
    assert loaded.isdisjoint(foreign)
