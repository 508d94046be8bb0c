"""Whether the files that a writer has open are still those that stand in the store.

SQLite goes on with files that somebody else unlinked, replaced or cut short: what it then acknowledges is lost when
the process ends.
"""

import os
from pathlib import Path


class OpenFiles:
    """A database and its write-ahead log, as they were last seen."""

    def __init__(self, database: Path) -> None:
        """Of files that are to be seen yet: the write-ahead log comes with the first commit."""
        self._paths = (str(database), f"{database}-wal")
        self._seen: dict[str, tuple[int, int]] = {}
        """Inode and size."""

    def fault(self) -> str | None:
        """What befell one of them since it was last asked for; None when all is well."""
        for path in self._paths:
            try:
                found = os.stat(path)  # noqa: PTH116 - each commit waits for it, and a Path is slower
            except FileNotFoundError:
                if path in self._seen:
                    return f"{_name(path)} was taken away while it was in use"
                continue
            inode, size = found.st_ino, found.st_size
            seen = self._seen.get(path)
            if seen is not None and inode != seen[0]:
                return f"{_name(path)} was replaced while it was in use"
            if seen is not None and size < seen[1] and path == self._paths[0]:
                return f"{_name(path)} was cut short while it was in use: it had {seen[1]} bytes, and has {size}"
            self._seen[path] = inode, size
        return None


def _name(path: str) -> str:
    return Path(path).name
