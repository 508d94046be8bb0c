"""Who holds a Lease: the name by which a daemon of ours is known there, and whether its process is gone.

That a process ended can be told without doubt on its own host alone, by whoever sees the same processes: the same boot
of the same kernel, and the same process and time namespaces. A name without all of that tells nothing.
"""

import hashlib
import os
import re
import socket
from pathlib import Path

import anyio.to_thread
import msgspec

from tidelog.storage.log.ids import new_id

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES = ("pid", "time")
_name = re.compile(
    r"(?P<host>.+)_(?P<process>[0-9]+)_(?:(?P<view>[0-9a-f]{16})-(?P<start>[0-9]+)_)?[0-9a-f-]{36}", re.ASCII
)


def lease_name(controller: str) -> str:
    """The name of a controller's Lease (Flux contract FL-006)."""
    return f"{controller}-leader-election"


class Holder(msgspec.Struct, frozen=True):
    """A daemon of ours, as a Lease names it."""

    host: str
    process: int
    view: str = ""
    """Of the processes that it saw; empty where that cannot be told."""
    start: int = 0
    """When its process began, in the kernel's ticks since the boot."""

    @classmethod
    def parse(cls, name: str) -> "Holder | None":
        """The daemon that a Lease names; None where that is none of ours."""
        found = _name.fullmatch(name)
        if found is None:
            return None
        return cls(found["host"], int(found["process"]), found["view"] or "", int(found["start"] or 0))

    @property
    def is_gone(self) -> bool:
        """Whether its process ran here and is no more; false where there is any doubt."""
        if not self.view or self.host != socket.gethostname() or self.view != _view():
            return False
        try:
            os.kill(self.process, 0)  # asks alone
        except ProcessLookupError:
            return True
        except OSError:
            pass  # somebody's; its start tells whether it is the same
        begun = _start(self.process)
        return begun is not None and begun != self.start


async def is_gone(name: str) -> bool:
    """Whether who a Lease names ran on this host, and is gone."""
    holder = Holder.parse(name)
    return holder is not None and await anyio.to_thread.run_sync(lambda: holder.is_gone)


def own_name() -> str:
    """The name of this daemon, which no other has."""
    process, view = os.getpid(), _view()
    start = _start(process) if view else None
    place = f"{view}-{start}_" if view and start else ""
    return f"{socket.gethostname()}_{process}_{place}{new_id()}"


def _view() -> str:
    """A name for the processes that are seen from here; empty where that cannot be told."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return ""  # the files of another process namespace
        namespaces = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in _NAMESPACES]
        parts = [_BOOT_ID.read_text(encoding="ascii"), *namespaces]
    except OSError:
        return ""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _start(process: int) -> int | None:
    """When a process began; 0 for one that ended, and that its parent has not taken note of. None: not known."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        # After the name, which may hold anything: the state is field 3, the threads 20 and the start 22.
        fields = text.rpartition(")")[2].split()
        if fields[0] in ("Z", "X") and int(fields[17]) <= 1:
            return 0
        return int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
