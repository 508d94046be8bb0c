"""The command, run as a person runs it, beside a daemon that runs in the test's own process."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio

from tests.e2e.world import Running, World
from tidelog.engine.http.server import serving
from tidelog.engine.runtime.telling.metrics import Metrics

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


async def tidelog(world: World, *arguments: object) -> Done:
    """Runs the command on the test's store and cluster; sources and targets are looked for in its namespace."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / '.dev'}",
        "TIDELOG_STORE": str(world.store),
        "KUBECONFIG": str(world.servers.kubeconfig),
        "FLUX_SYSTEM_NAMESPACE": world.namespace,
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "tidelog.engine.cli.main", *map(str, arguments)]
    with anyio.fail_after(LIMIT_S):
        done = await anyio.run_process(command, env=environment, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@asynccontextmanager
async def daemon_with_door(world: World) -> AsyncIterator[Running]:
    """A daemon whose door is open."""
    async with world.daemon() as running, serving(running.daemon, Metrics(), world.store):
        yield running
