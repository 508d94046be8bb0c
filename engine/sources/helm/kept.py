"""Files that were just fetched or made, so that who asks next for the same does not fetch them again."""

import os
import shutil
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import msgspec

KEPT_BYTES_MAX: Final = 128 * 2**20
KEPT_MAX: Final = 256


class _File(msgspec.Struct, frozen=True):
    path: Path
    size: int
    told: Any


class Kept:
    """Files by what they were asked with; the least recently used go first.

    Its methods block: for worker threads, one at a time.

    Args:
        directory: where they are; nobody else writes there.
        bytes_max: all of them together.
    """

    def __init__(self, directory: Path, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._files: OrderedDict[Hashable, _File] = OrderedDict()
        self._size = 0
        self._count = 0

    def place(self) -> Path:
        """A name that nothing has."""
        self._count += 1
        return self._directory / str(self._count)

    def keep(self, key: Hashable, path: Path, told: Any) -> None:
        """Keeps a file, with what is to be told of it."""
        self.forget(key)
        size = path.stat().st_size
        self._files[key] = _File(path, size, told)
        self._size += size
        while len(self._files) > 1 and (self._size > self._bytes_max or len(self._files) > KEPT_MAX):
            self.forget(next(iter(self._files)))

    def forget(self, key: Hashable) -> None:
        """Lets a file go."""
        file = self._files.pop(key, None)
        if file is not None:
            self._size -= file.size
            file.path.unlink(missing_ok=True)

    def told(self, key: Hashable) -> Any:
        """What is to be told of a file; None when it is not kept."""
        file = self._files.get(key)
        return None if file is None else file.told

    def take(self, key: Hashable, into: Path) -> Any:
        """Puts a file at `into`, and tells what is to be told of it; None when it is not kept."""
        file = self._files.get(key)
        if file is None:
            return None
        self._files.move_to_end(key)
        put(file.path, into)
        return file.told


def put(path: Path, into: Path) -> None:
    """Puts a file where another name is wanted too, in one step. Neither is written afterwards."""
    beside = into.with_name(f".{into.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        os.link(path, beside)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, beside)
    beside.replace(into)
