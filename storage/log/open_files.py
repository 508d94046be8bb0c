"""Whether the files that a writer has open are still those that stand in the store.

SQLite goes on with files that somebody else unlinked, replaced or cut short: what it then acknowledges is lost when
the process ends.
"""

from pathlib import Path
from typing import NamedTuple


class _File(NamedTuple):
    inode: int
    size: int


class OpenFiles:
    """A database and its write-ahead log, as they were last seen."""

    def __init__(self, database: Path) -> None:
        """Of files that are to be seen yet: the write-ahead log comes with the first commit."""
        self._paths = (database, database.with_name(database.name + "-wal"))
        self._seen: dict[Path, _File] = {}

    def fault(self) -> str | None:
        """What befell one of them since it was last asked for; None when all is well."""
        for path in self._paths:
            try:
                found = path.stat()
            except FileNotFoundError:
                if path in self._seen:
                    return f"{path.name} was taken away while it was in use"
                continue
            file, seen = _File(found.st_ino, found.st_size), self._seen.get(path)
            if seen is not None and file.inode != seen.inode:
                return f"{path.name} was replaced while it was in use"
            if seen is not None and file.size < seen.size and path == self._paths[0]:
                return f"{path.name} was cut short while it was in use: it had {seen.size} bytes, and has {file.size}"
            self._seen[path] = file
        return None
