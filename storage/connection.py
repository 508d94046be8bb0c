"""Opening the store's SQLite files, and telling what is wrong with one that will not open."""

import sqlite3
from pathlib import Path

from tidelog.storage.errors import (
    NotAStoreError,
    StoreCorruptError,
    StoreError,
    StoreFailedError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreTooNewError,
)

APPLICATION_ID = 0x54444C47
"""`TDLG`, in the header of the file: tells a log from any other SQLite database."""
SCHEMA_VERSION = 1
"""`PRAGMA user_version`; raised by every migration."""
SQLITE_MIN = (3, 37, 0)
"""STRICT tables came with this version."""
BUSY_TIMEOUT_S = 10.0
"""How long a reader waits for SQLite's own short locks (recovery, the end of a checkpoint)."""

_MAGIC = b"SQLite format 3\0"


def connect_to_write(path: Path) -> sqlite3.Connection:
    """A connection for the one writer of `path`, which need not exist yet."""
    _require_sqlite(path)
    connection = _connect(f"file:{_quoted(path)}?mode=rwc", path)
    try:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StoreReadOnlyError(path.parent, "its file system does not allow SQLite's write-ahead log")
        # FULL: a commit has been fsynced when it returns. Everything that Tidelog promises hangs on this line.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA cache_size = -32000")
    except UnicodeDecodeError:
        connection.close()
        raise _malformed(path) from None
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from None
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; texts come as bytes, so that damage cannot hide in decoding.

    A store that was closed in good order can be read from a place that cannot be written (a backup on
    read-only media); SQLite must then be told that nobody else changes it.

    Raises:
        StoreNotFoundError, NotAStoreError, StoreTooNewError: when it cannot be opened.
    """
    _require_sqlite(path)
    if not path.exists():
        raise StoreNotFoundError(path.parent)
    connection = _connect(f"file:{_quoted(path)}?mode=ro", path)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorname not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY") or _has_wal(path):
            raise translate(error, path) from None
        connection = _connect(f"file:{_quoted(path)}?mode=ro&immutable=1", path)
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from None
    try:
        connection.text_factory = bytes
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA cache_size = -16000")
    except UnicodeDecodeError:
        connection.close()
        raise _malformed(path) from None
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from None
    return connection


def check_header(path: Path) -> int:
    """The schema version of the log at `path`, read from the file's header; 0 for one that is empty.

    Raises:
        NotAStoreError: when it is another kind of file.
        StoreTooNewError: when a newer release wrote it.
    """
    if path.is_dir():
        raise NotAStoreError(path.parent, f"{path.name} is a directory")
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except PermissionError:
        raise StoreReadOnlyError(path.parent, f"{path.name} may not be read by this user") from None
    if not header:
        return 0
    if not header.startswith(_MAGIC):
        raise NotAStoreError(path.parent, f"{path.name} is no SQLite database")
    application, version = int.from_bytes(header[68:72]), int.from_bytes(header[60:64])
    if application == 0 and version == 0:
        return 0
    if application != APPLICATION_ID:
        raise NotAStoreError(path.parent, f"{path.name} is a database of another program")
    if version > SCHEMA_VERSION:
        raise StoreTooNewError(path.parent, version, SCHEMA_VERSION)
    return version


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """SQLite's error in the words of this package."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "SQLITE_FULL":
        return StoreFullError(path.parent, "the disk or a quota is full")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreReadOnlyError(path.parent, str(error))
    if name == "SQLITE_NOTADB":
        return NotAStoreError(path.parent, f"{path.name} is no SQLite database")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreCorruptError(str(path), str(error))
    return StoreFailedError(path.parent, f"{error} ({name or type(error).__name__})")


def _malformed(path: Path) -> StoreError:
    # SQLite's own words quote the damage, and Python cannot decode them.
    return StoreCorruptError(str(path), "malformed database schema")


def _connect(uri: str, path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S)
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
