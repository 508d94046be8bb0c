"""The embedded cluster in a process of its own, and bare clients of it."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import msgspec

from bench.reconciling.client import Client, connect

START_S = 60.0


@contextmanager
def cluster_up(directory: Path, *, is_kept: bool = False) -> Iterator[Path]:
    """`tidelog cluster up` while the block lasts, whose objects may be kept there; gives its kubeconfig."""
    kubeconfig = directory / "kubeconfig"
    command = [str(Path(sys.executable).with_name("tidelog")), "cluster", "up", "--kubeconfig", str(kubeconfig)]
    if is_kept:
        command += ["--store", str(directory / "store")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S
        while not kubeconfig.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the embedded cluster did not start")
            time.sleep(0.05)
        yield kubeconfig
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=START_S)


@asynccontextmanager
async def bare_client(kubeconfig: Path) -> AsyncIterator[Client]:
    """A bare client of it."""
    document = msgspec.json.decode(await anyio.Path(kubeconfig).read_bytes())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = ssl.create_default_context()
    authority.load_verify_locations(cadata=msgspec.convert(cluster["certificate-authority-data"], bytes).decode())
    async with connect(cluster["server"], authority, user["token"]) as client:
        yield client
