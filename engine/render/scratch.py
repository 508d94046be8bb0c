"""Where checkouts are while they are built: files that may hold secrets, and go with whoever made them.

A renderer that is killed leaves its directory behind. The lock on it goes with the process, however it ends, and so the
next one on the machine can tell whose is left, and removes it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final

PREFIX: Final = "tidelog-render-"
_PRIVATE: Final = 0o600
_TRIES: Final = 8


class Scratch:
    """A directory of one renderer, its owner's alone. Everything here blocks: it is for worker threads."""

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._lock = -1
        self._directory = Path()
        self._making = threading.Lock()

    def open(self) -> None:
        """Makes the directory, and removes those of the dead.

        Raises:
            OSError: when there is no place for it.
        """
        remove_left(self._parent)
        for _ in range(_TRIES):
            directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent)).resolve()
            lock = _locked(directory)
            if lock >= 0:
                self._directory, self._lock = directory, lock
                return
            shutil.rmtree(directory, ignore_errors=True)  # if it is there yet: someone took it for one that was left
        raise OSError(errno.ENOLCK, "no directory can be locked here; name another with TMPDIR", str(self._parent))

    def close(self) -> None:
        """Removes it, with all that is in it."""
        if self._lock >= 0:
            shutil.rmtree(self._directory, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def make(self) -> Path:
        """A place for one build, with `tree` and `home` in it."""
        with self._making:
            if not self._directory.is_dir():  # some machines tidy what is old
                self.close()
                self.open()
            place = Path(tempfile.mkdtemp(dir=self._directory))
        (place / "tree").mkdir()
        (place / "home").mkdir()
        return place


def remove_left(parent: Path) -> None:
    """Removes the directories that nobody holds any more, as far as they are ours."""
    for directory in parent.glob(f"{PREFIX}*"):
        lock = _locked(directory)
        if lock >= 0:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def make_private(directory: Path) -> None:
    """Leaves the owner alone to read the files below a directory, and removes links."""
    for parent, directories, files in os.walk(directory):  # it does not follow links
        for name in (*directories, *files):
            path = Path(parent, name)
            if path.is_symlink():
                path.unlink()
            elif name in files:
                path.chmod(_PRIVATE)


def _locked(directory: Path) -> int:
    """A lock on a directory of ours that stands at its name; -1 when there is none to be had."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.fstat(lock).st_uid == os.getuid()
        if is_ours and os.path.samestat(os.fstat(lock), directory.lstat()):
            return lock
    except OSError:
        pass
    os.close(lock)
    return -1
