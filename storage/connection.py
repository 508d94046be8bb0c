"""Opening the store's SQLite files, and telling what is wrong with one that will not open."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from tidelog.storage.errors import (
    NotAStoreError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFailedError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnreadableError,
)
from tidelog.storage.layout import CLUSTER_FILE, create_private

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
C = TypeVar("C", bound=sqlite3.Connection)


class Kind(NamedTuple):
    """A kind of database file: what its header says of it."""

    application: int
    """`PRAGMA application_id`: tells it from the databases of other programs."""
    version: int
    """`PRAGMA user_version` as this release writes it; raised whenever the tables change."""


LOG = Kind(0x54444C47, 3)
"""`TDLG`"""
VIEWS = Kind(0x54444C56, 2)
"""`TDLV`"""
SQLITE_MIN = (3, 37, 0)
"""STRICT tables came with this version."""
BUSY_TIMEOUT_S = 10.0
"""How long a reader waits for SQLite's own short locks (recovery, the end of a checkpoint)."""


def stamp_of(path: Path) -> Stamp:
    """What changes whenever somebody writes a database, to it or to its write-ahead log."""
    return tuple(_state_of(file) for file in (path, path.with_name(path.name + "-wal")))


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class FrozenConnection(sqlite3.Connection):
    """A connection that takes a file for one that nobody changes.

    It is right for as long as `stamp_of` gives its `stamp`: a writer that came since is not seen, and what was read
    meanwhile may be of no one moment.
    """

    stamp: Stamp


def connect_to_write(path: Path, kind: Kind) -> sqlite3.Connection:
    """A connection for the one writer of `path`, which need not exist yet: then its owner alone may read it.

    Raises:
        NotAStoreError: when there is something else; it was not touched.
        StoreError: when it cannot be opened to write.
    """
    _require_sqlite(path)
    _require_file(path)
    if not path.exists():  # one that is there is never opened but through SQLite: see `_require_file`
        create_private(path)
    connection = _connect(f"file:{_quoted(path)}?mode=rw", path, sqlite3.Connection)
    with closing_on_error(connection, path):
        _require_kind(connection, path, kind)
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreReadOnlyError(path.parent, "its file system does not allow SQLite's write-ahead log")
        # FULL: a commit has been fsynced when it returns. Everything that Tidelog promises hangs on this line.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA cache_size = -32000")
    return connection


def connect_to_read(path: Path, kind: Kind) -> sqlite3.Connection:
    """A connection that cannot write; texts come as bytes, so that damage cannot hide in decoding.

    A store that was closed in good order can be read from a place that cannot be written (a backup on
    read-only media); SQLite must then be told that nobody else changes it. That connection is a `FrozenConnection`.

    Raises:
        StoreNotFoundError: when there is no file.
        NotAStoreError: when it is something else.
        StoreUnreadableError: when this user may not read it.
        StoreError: when it cannot be opened.
    """
    _require_sqlite(path)
    _require_file(path)
    if not path.exists():
        raise StoreNotFoundError(path.parent)
    stamp = stamp_of(path)
    connection = _connect(f"file:{_quoted(path)}?mode=ro", path, sqlite3.Connection)
    if not _can_read(connection, path):
        frozen = _connect(f"file:{_quoted(path)}?mode=ro&immutable=1", path, FrozenConnection)
        frozen.stamp = stamp
        connection = frozen
    with closing_on_error(connection, path):
        _require_kind(connection, path, kind)
        connection.text_factory = bytes
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA cache_size = -16000")
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """The version of a file's tables; 0 when it has none yet."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _can_read(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether SQLite can read; if not, because it would have to write beside the file, the connection is closed."""
    with closing_on_error(connection, path):
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
                raise
            if _has_wal(path):
                raise StoreUnreadableError(
                    path.parent,
                    f"{path.name} is being written, or was not closed, and this user may not read {path.name}-wal and "
                    f"{path.name}-shm, or not make them",
                ) from None
            connection.close()
            return False
    return True


def _require_file(path: Path) -> None:
    """Refuses what is no file, by its name alone; says nothing of what is not there.

    The file is never opened but through SQLite: closing it would drop the locks that SQLite holds on it for this
    process (POSIX, fcntl), and the next program to close the database would delete the write-ahead log under the
    writer.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreUnreadableError(path.parent, error.strerror or str(error)) from None
    if not stat.S_ISREG(mode):
        what = "directory" if stat.S_ISDIR(mode) else "special file"
        raise NotAStoreError(path.parent, f"{path.name} is a {what}")
    if not os.access(path, os.R_OK):
        raise StoreUnreadableError(path.parent, f"this user may not read {path.name}")


def _require_kind(connection: sqlite3.Connection, path: Path, kind: Kind) -> None:
    """Refuses the database of another program, before anything of it is changed."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    is_new = application == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None
    if application != kind.application and not is_new:
        raise NotAStoreError(path.parent, f"{path.name} is a database of another program")


@contextmanager
def closing_on_error(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Closes a connection where the block fails, and says why in the words of this package."""
    try:
        yield
    except UnicodeDecodeError:
        # SQLite's own words quote the damage, and Python cannot decode them.
        connection.close()
        raise _corrupt(path, "malformed database schema") from None
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from None
    except BaseException:
        connection.close()
        raise


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error in the words of this package."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_BUSY"):
        return StoreBusyError(path.parent, f"another program, which has locked {path.name}")
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
        return StoreFullError(path.parent, "the disk or a quota is full")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreReadOnlyError(path.parent, str(error))
    if name == "SQLITE_NOTADB":
        return NotAStoreError(path.parent, f"{path.name} is no SQLite database, or its first page is damaged")
    if name.startswith("SQLITE_CORRUPT"):
        return _corrupt(path, str(error))
    return StoreFailedError(path.parent, f"{error} ({name or type(error).__name__})")


def _corrupt(path: Path, why: str) -> StoreCorruptError:
    if path.name == CLUSTER_FILE:  # of which the log knows nothing
        return StoreCorruptError(str(path), why, "put a copy back, or delete the file to begin anew")
    return StoreCorruptError(str(path), why)


def _connect(uri: str, path: Path, factory: type[C]) -> C:
    try:
        return sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S, factory=factory
        )
    except sqlite3.Error as error:
        raise translate(error, path) from None


def _has_wal(path: Path) -> bool:
    wal = path.with_name(path.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _require_sqlite(path: Path) -> None:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        raise StoreFailedError(path.parent, f"SQLite {sqlite3.sqlite_version} is too old, {wanted} is needed")
