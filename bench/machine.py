"""Where and on what the figures were measured: without it they mean nothing."""

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, its software, and the state of the code."""

    date: str
    commit: str
    """With `+changes` when the working tree is not as committed; empty outside a checkout."""
    processor: str
    cores: int
    memory_mib: int
    load: float
    """Processes that wanted to run, on average of the minute before: what more than a little spoils figures."""
    file_system: str
    """Of the stores that are measured."""
    kernel: str
    python: str
    sqlite: str


def machine(directory: Path) -> Machine:
    """This machine, with the file system of `directory`."""
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        processor=_field("/proc/cpuinfo", "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        load=round(os.getloadavg()[0], 2),
        file_system=_file_system(directory),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=sqlite3.sqlite_version,
    )


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}+changes" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _file_system(directory: Path) -> str:
    """The type of the file system with the longest mount point above `directory`."""
    path = directory.resolve()
    found = (Path("/"), "?")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        mounted = Path(point)
        if path.is_relative_to(mounted) and len(mounted.parts) >= len(found[0].parts):
            found = mounted, kind
    return found[1]
