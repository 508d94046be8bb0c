"""What is where in a store's directory."""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidelog.storage.errors import StoreBusyError, StoreReadOnlyError


class Layout:
    """The files of the store at `directory`."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.log = self.directory / "log.db"
        """Events, bodies and the tree: the only state."""
        self.views = self.directory / "views.db"
        """Projections of the log; may be deleted at any time."""
        self.key = self.directory / "log.key"
        """The seed (hex) of the key that signs checkpoints; readable by its owner only."""
        self.lock = self.directory / "writer.lock"
        """Locked, and filled with who it is, by the one writer."""


@contextmanager
def writer_lock(layout: Layout) -> Iterator[None]:
    """Holds the store for one writer. The kernel lets go of it when the process dies, however it dies.

    Raises:
        StoreBusyError: when another writer has it; names that one.
        StoreReadOnlyError: when the directory cannot be written.
    """
    try:
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreReadOnlyError(layout.directory, os.strerror(error.errno or 0)) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusyError(layout.directory, _holder(lock)) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(_self()).encode(), 0)
        yield
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def holder_of(layout: Layout) -> str | None:
    """Who is writing the store now; None when nobody is."""
    try:
        lock = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(lock)
    return None


def _self() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)[:200]}


def _holder(lock: int) -> str:
    try:
        holder = json.loads(os.pread(lock, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
