"""What the benchmarks of one run share: how much to do, where, the big log, and the progress bar."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.big_log import BigLog
from bench.reconciling.phases import Workload

SCRATCH = "/var/tmp"  # noqa: S108 - on a disk, where /tmp may be memory, in which an fsync costs nothing
REFRESH_INTERVAL_S = 0.2


class Session:
    """One run of benchmarks."""

    def __init__(self, *, events: int, quick: bool, keep: Path | None, workload: Workload) -> None:
        self.events = events
        self.quick = quick
        self.workload = workload
        """Of the questions that need a cluster."""
        self._keep = keep
        self._log: BigLog | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        if self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix="tidelog-bench-", dir=self._keep or SCRATCH)
        self.scratch = Path(self._exit.enter_context(temporary))
        """A directory of this run, on the disk that is measured."""
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
            auto_refresh=False,  # no thread of its own beside what is measured
        )
        self._bar = self._exit.enter_context(bar)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def rounds(self, count: int) -> int:
        """How often to measure: less where the run is to be quick."""
        return max(2, count // 3) if self.quick else count

    @property
    def log(self) -> BigLog:
        """The big log; made when it is first asked for."""
        if self._log is None:
            log = BigLog((self._keep or self.scratch) / f"log-{self.events}", self.events)
            with self.progress("make the log", self.events) as advance:
                log.make(advance)
            log.warm()
            self._log = log
        return self._log

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar while something goes on; the function is told how far it has come."""
        task = self._bar.add_task(what, total=total)
        drawn = 0.0

        def advance(done: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn >= REFRESH_INTERVAL_S:
                drawn = now
                self._bar.update(task, completed=done, refresh=True)

        advance(0)
        try:
            yield advance
        finally:
            self._bar.remove_task(task)
            self._bar.refresh()
