"""Where the objects of an embedded cluster are kept over restarts: one small database beside the log."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import sqlite_utils

from tidelog.storage.connection import Kind, closing_on_error, connect_to_read, connect_to_write, translate, version_of
from tidelog.storage.errors import StoreCorruptError, StoreTooNewError
from tidelog.storage.layout import Layout, sync, writer_lock, writing

CLUSTER = Kind(0x54444C4F, 1)
"""`TDLO`"""
JUMP: Final = 1_000_000
"""More versions than are given between a write and the moment it is kept."""
_OPEN: Final = 2
"""The row that is there while somebody writes the file."""
_decode = msgspec.json.Decoder(msgspec.Raw).decode


class KeptObject(NamedTuple):
    """An object; `data` is its JSON, None where it went."""

    group: str
    plural: str
    namespace: str
    name: str
    version: int
    uid: str
    data: bytes | None


def read_objects(directory: Path) -> tuple[list[KeptObject], int]:
    """All objects that a directory keeps, and the version of the last write; also beside a writer. Blocks.

    Raises:
        StoreNotFoundError: when none ever were.
        StoreError: when they cannot be read.
    """
    path = Layout(directory).cluster
    _require_whole(path)
    connection = connect_to_read(path, CLUSTER)
    try:
        if version_of(connection) > CLUSTER.version:
            raise StoreTooNewError(path, version_of(connection), CLUSTER.version)
        connection.text_factory = str
        connection.execute("BEGIN")  # both of one moment
        file = ClusterObjects(path, connection)
        return file.read(), file.version()
    except sqlite3.Error as error:
        raise translate(error, path) from None
    finally:
        connection.close()


class ClusterObjects:
    """The file. Every method blocks."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: ExitStack | None = None) -> None:
        self._path = path
        self._db = connection
        self._lock = lock

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens the file in a store's directory, for this one writer; makes it where there is none.

        Raises:
            StoreBusyError: when somebody else writes it.
            StoreError: when it cannot be opened.
        """
        with writing(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout = Layout(directory)
        path = layout.cluster
        with ExitStack() as lock:
            lock.enter_context(writer_lock(layout, layout.cluster_lock))
            _require_whole(path)
            if not path.exists():
                _create(layout)
            connection = connect_to_write(path, CLUSTER)
            with closing_on_error(connection, path):
                found = version_of(connection)
                if found > CLUSTER.version:
                    raise StoreTooNewError(path, found, CLUSTER.version)
                _make(connection)
                file = cls(path, connection, lock)
                file._begin()
            file._lock = lock.pop_all()
        return file

    def _begin(self) -> None:
        """Notes that it is written from here on, and jumps where the last who wrote it did not come to its end.

        Such a one (it was killed, the power failed) had not kept all, and clients may know later versions than the last
        that was kept. None of those may come again, or a watch that goes on from one would miss what comes now.
        """
        if self._db.execute("SELECT 1 FROM versions WHERE id = ?", (_OPEN,)).fetchone() is not None:
            self._db.execute("UPDATE versions SET version = version + ? WHERE id = 1", (JUMP,))
        self._db.execute("INSERT OR REPLACE INTO versions VALUES (?, 0)", (_OPEN,))

    def version(self) -> int:
        """The version of the last write; 0 for none.

        Raises:
            StoreError: when it cannot be read.
        """
        try:
            row = self._db.execute("SELECT max(version) FROM versions").fetchone()
        except sqlite3.Error as error:
            raise translate(error, self._path) from None
        return int(row[0] or 0)

    def read(self) -> list[KeptObject]:
        """All objects.

        Raises:
            StoreError: when they cannot be read.
        """
        try:
            rows = self._db.execute('SELECT "group", plural, namespace, name, version, uid, data FROM objects')
            return [self._sound(KeptObject(*row)) for row in rows]
        except sqlite3.Error as error:
            raise translate(error, self._path) from None

    def _sound(self, one: KeptObject) -> KeptObject:
        try:
            _decode(one.data or b"")
        except (msgspec.DecodeError, TypeError):
            where = f"the object {one.namespace}/{one.name} of {one.plural}.{one.group}"
            raise StoreCorruptError(str(self._path), f"{where} is no JSON", "delete the file to begin anew") from None
        return one

    def write(self, objects: Sequence[KeptObject]) -> None:
        """Keeps changes, in their order, all or none.

        Raises:
            StoreError: when they cannot be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._put(objects)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, self._path) from None

    def _put(self, objects: Iterable[KeptObject]) -> None:
        last = 0
        for one in objects:
            last = one.version
            if one.data is None:
                where = '"group" = ? AND plural = ? AND namespace = ? AND name = ?'
                self._db.execute(f"DELETE FROM objects WHERE {where}", one[:4])
            else:
                self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", one)
        self._db.execute("INSERT OR REPLACE INTO versions VALUES (1, ?)", (last,))

    def close(self, *, is_whole: bool = True) -> None:
        """Closes the file; `is_whole` says that all was kept that is to be."""
        try:
            if is_whole:
                with suppress(sqlite3.Error):  # then the next to open it takes it for one that was not closed
                    self._db.execute("DELETE FROM versions WHERE id = ?", (_OPEN,))
            self._db.close()
        finally:
            if self._lock is not None:
                self._lock.close()


def _require_whole(path: Path) -> None:
    """Refuses an empty file, which SQLite would take for a new database: what was in it is not silently forgotten."""
    with suppress(OSError):  # what cannot be looked at is told when it is opened
        if path.stat().st_size == 0 and path.is_file():
            raise StoreCorruptError(str(path), "it is empty (0 bytes)", "put a copy back, or delete it to begin anew")


def _create(layout: Layout) -> None:
    """Makes the file, whole before it has its name: one that is empty was never left so by who was killed meanwhile."""
    new = layout.cluster_new
    with writing(layout.directory):
        for suffix in ("", "-wal", "-shm"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)
    connection = connect_to_write(new, CLUSTER)
    with closing_on_error(connection, new):
        _make(connection)
    connection.close()
    with writing(layout.directory):
        new.rename(layout.cluster)
        sync(layout.directory)


def _make(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id = {CLUSTER.application}")
    connection.execute(f"PRAGMA user_version = {CLUSTER.version}")
    db = sqlite_utils.Database(connection)
    db.table("objects").create(
        {"group": str, "plural": str, "namespace": str, "name": str, "version": int, "uid": str, "data": bytes},
        pk=("group", "plural", "namespace", "name"),
        if_not_exists=True,
    )
    db.table("versions").create({"id": int, "version": int}, pk="id", if_not_exists=True)
