"""What reconciles: Tidelog, or whatever commands start."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from bench.reconciling.processes import descendants
from tests.servers.kubernetes_servers import LIBC, PR_SET_PDEATHSIG

EngineName: TypeAlias = Literal["tidelog", "external"]
END_S = 20.0
NOTHING = "127.0.0.1:0"


class Engine:
    """A running engine: one process or more."""

    def __init__(self, processes: Sequence["subprocess.Popen[bytes]"], logs: Sequence[Path]) -> None:
        self._processes = processes
        self._logs = logs

    def pids(self) -> list[int]:
        """All its processes."""
        return [pid for process in self._processes for pid in descendants(process.pid)]

    def check(self) -> None:
        """Notices that it ended.

        Raises:
            AssertionError: with the end of what it said.
        """
        for process, log in zip(self._processes, self._logs, strict=True):
            if process.poll() is not None:
                said = log.read_text(errors="replace")[-2_000:]
                raise AssertionError(f"{process.args!r} ended with {process.returncode}:\n{said}")


@contextmanager
def running(name: EngineName, commands: Sequence[str], kubeconfig: Path, directory: Path) -> Iterator[Engine]:
    """Runs an engine on a cluster, with what it keeps and says in `directory`, until the block ends."""
    directory.mkdir(parents=True)
    told = (
        [_tidelog(kubeconfig, directory)] if name == "tidelog" else [["bash", "-c", f"exec {one}"] for one in commands]
    )
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "RUNTIME_NAMESPACE": "flux-system"}
    logs = [directory / f"engine-{number}.log" for number in range(len(told))]
    with ExitStack() as stack:
        processes = []
        for command, log in zip(told, logs, strict=True):
            out = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call
            )
            stack.callback(_end, process)
            processes.append(process)
        yield Engine(processes, logs)


def _tidelog(kubeconfig: Path, directory: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "tidelog.engine", "run"),
        *("--kubeconfig", str(kubeconfig), "--store", str(directory / "store")),
        *("--storage-addr", NOTHING, "--health-addr", "", "--metrics-addr", ""),
    ]


def _die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that was started here."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
