"""Starting a process that works, and watching its memory from outside."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import IO, NamedTuple

from bench.machine import ROOT

SAMPLE_INTERVAL_S = 0.01
MIB = 2**20


class Watched(NamedTuple):
    """What was seen of a process."""

    seconds: float
    before: float
    """MiB of anonymous memory, when all was imported and nothing begun."""
    peak: float
    """The most that was seen, in MiB."""


def watch(work: str, store: Path, progress: Callable[[int], None]) -> Watched:
    """Has a fresh process do a work of `bench.child`, and samples its memory all the while."""
    command = [sys.executable, "-m", "bench.child", work, str(store)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = peak = anonymous(process.pid)
        lines: list[str] = []
        listener = Thread(target=_listen, args=(process.stdout, lines))
        listener.start()
        process.stdin.write("go\n")
        process.stdin.flush()
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            progress(_position(lines))
            time.sleep(SAMPLE_INTERVAL_S)
        listener.join()
    assert process.returncode == 0, f"{work} ended with {process.returncode}"
    assert lines[-1].startswith("seconds ")
    return Watched(float(lines[-1].split()[1]), before, peak)


def _listen(stdout: IO[str], lines: list[str]) -> None:
    lines.extend(stdout)


def _position(lines: list[str]) -> int:
    return int(lines[-1]) if lines and lines[-1].strip().isdigit() else 0


def anonymous(pid: int) -> float:
    """MiB of a process's memory that no file backs; 0 when it has just ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024 / MIB
    except (OSError, ValueError):
        pass
    return 0.0
