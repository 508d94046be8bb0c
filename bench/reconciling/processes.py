"""What processes use, from /proc: CPU time, and memory that no file backs."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from bench.watching import anonymous

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_INTERVAL_S = 0.25
CPUCLOCK_SCHED = 2
"""In the id of a process's clock, which Linux makes of its pid: the time that it was run."""


def descendants(root: int) -> list[int]:
    """A process and all below it, as far as they live."""
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children(pid)
    return found


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command(pid: int) -> list[str]:
    """The words of a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds that processes have used, with the children that they have waited for."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def exact_cpu_s(pid: int) -> float:
    """Seconds that a process has used, to the nanosecond; without its children."""
    return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)


class Peak:
    """The most memory that some processes have together, in MiB, sampled until the block ends."""

    def __init__(self, pids: Callable[[], Iterable[int]], every_s: float = SAMPLE_INTERVAL_S) -> None:
        self._pids = pids
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            began = time.monotonic()
            self.mib = max(self.mib, sum(anonymous(pid) for pid in self._pids()))
            # Adding up the pages of a large process takes time: never more than a fiftieth.
            if self._ended.wait(max(self._every_s, 50 * (time.monotonic() - began))):
                return
