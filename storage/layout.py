"""What is where in a store's directory."""

import errno
import fcntl
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidelog.storage.errors import NotAStoreError, StoreBusyError, StoreFullError, StoreReadOnlyError

TEXT_BYTES_MAX = 2**20
"""Of a key or a signed note."""
PRIVATE = 0o600
"""The mode of every file that is made in a store, a backup or an export: they hold all that the log holds."""
PRIVATE_DIRECTORY = 0o700
LOCK_PATIENCE_S = 1.0
"""How long a writer waits for the lock: someone who only looked who has it lets go of it at once."""
CLUSTER_FILE = "cluster.db"


class Layout:
    """The files of the store at `directory`."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.log = self.directory / "log.db"
        """Events, bodies and the tree: the only state."""
        self.write_ahead_log = self.directory / f"{self.log.name}-wal"
        """SQLite's, beside it: what was committed and not moved yet."""
        self.views = self.directory / "views.db"
        """Projections of the log; may be deleted at any time."""
        self.key = self.directory / "log.key"
        """The seed (hex) of the key that signs checkpoints; readable by its owner only."""
        self.artifacts = self.directory / "artifacts.git"
        """The artifact store: a bare Git repository."""
        self.door = self.directory / "daemon.sock"
        """The unix socket of the daemon."""
        self.lock = self.directory / "writer.lock"
        """Locked, and filled with who it is, by the one writer."""
        self.keys = self.directory / "keys"
        """The data keys of what is secret, a file each, wrapped by the master key; a directory."""
        self.cluster = self.directory / CLUSTER_FILE
        """The objects of the embedded cluster, where that is used."""
        self.cluster_new = self.directory / f"{CLUSTER_FILE}.new"
        """While it is made."""
        self.cluster_lock = self.directory / "cluster.lock"
        """As `lock`, of the one writer of the embedded cluster's objects."""
        self.master = self.directory / "master.key"
        """The master key (hex), where none is given from elsewhere; readable by its owner only."""

    def is_own(self, name: str) -> bool:
        """Whether a file of a store may have this name."""
        return name in self.names or name.startswith(f"{self.key.name}.before-")

    @property
    def names(self) -> frozenset[str]:
        """The names that files of a store may have."""
        suffixes = ("", "-wal", "-shm", "-journal")  # a journal only while a new file is set to write ahead
        files = (self.log, self.views, self.cluster, self.cluster_new)
        databases = {f"{file.name}{suffix}" for file in files for suffix in suffixes}
        keys = {f"{file.name}{suffix}" for file in (self.key, self.master) for suffix in ("", ".new")}
        artifacts = {self.artifacts.name, f"{self.artifacts.name}.new"}
        return frozenset(
            databases | keys | artifacts | {self.keys.name, self.lock.name, self.cluster_lock.name, self.door.name}
        )


@contextmanager
def writer_lock(layout: Layout, file: Path | None = None) -> Iterator[None]:
    """Holds the store for one writer; or, with another lock's file, what that is of.

    The kernel lets go of it when the process dies, however it dies.

    Raises:
        StoreBusyError: when another writer has it; names that one.
        StoreReadOnlyError: when the directory cannot be written.
    """
    file = file or layout.lock
    create_private(file)
    with writing(layout.directory):
        lock = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _take_lock(lock, layout, file.name)
        try:
            with writing(layout.directory):
                os.ftruncate(lock, 0)
                os.pwrite(lock, json.dumps(_self()).encode(), 0)
            yield
            os.ftruncate(lock, 0)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # and not by closing alone: a process that was forked has the file too
    finally:
        os.close(lock)


def _take_lock(lock: int, layout: Layout, name: str) -> None:
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        raise StoreReadOnlyError(layout.directory, f"{name} is no regular file")
    patience = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience:
                raise StoreBusyError(layout.directory, _holder(lock)) from None
            time.sleep(0.02)
        else:
            return


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Has the system's errors in the block be those of this package.

    Raises:
        StoreFullError: when there is no room.
        NotAStoreError: when it is no directory.
        StoreReadOnlyError: when the directory cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFullError(directory, why) from None
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise NotAStoreError(directory, "it is a file, or lies below one: name a directory") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            why += "; name a directory that this user may write, or let them"
        raise StoreReadOnlyError(directory, why) from None


def create_private(path: Path) -> None:
    """Makes an empty file that its owner alone may read, whatever the umask; one that is there is left as it is.

    SQLite gives the files that it makes beside a database the mode of the database.

    Raises:
        StoreFullError, StoreReadOnlyError: when it cannot be made.
    """
    with writing(path.parent), suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        try:
            os.fchmod(descriptor, PRIVATE)
        finally:
            os.close(descriptor)


def read_text(path: Path) -> str:
    """A small text: a key, or a signed note.

    Raises:
        OSError: when it cannot be read, is no regular file (one could be waited for or read for ever), or is not small.
        UnicodeDecodeError: when it is no text.
    """
    return read_small(path).decode()


def read_small(path: Path) -> bytes:
    """The bytes of such a file, whatever they are.

    Raises:
        OSError: as `read_text`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > TEXT_BYTES_MAX:
            raise OSError(errno.EINVAL, f"it is no file of at most {TEXT_BYTES_MAX} bytes", str(path))
        return file.read()


def sync(path: Path) -> None:
    """Makes a file durable; of a directory, the names in it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def holder_of(layout: Layout) -> str | None:
    """Who is writing the store now; None when nobody is."""
    try:
        lock = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return f"not known: {layout.lock.name} may not be read by this user"
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
    # Of the command only its name: arguments may hold secrets.
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": Path(sys.argv[0]).name}


def _holder(lock: int) -> str:
    try:
        holder = json.loads(os.pread(lock, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
