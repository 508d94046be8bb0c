"""Where the objects of an embedded cluster are kept over restarts: one small database beside the log."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import sqlite_utils

from tidelog.storage.connection import Kind, closing_on_error, connect_to_read, connect_to_write, translate, version_of
from tidelog.storage.errors import StoreCorruptError, StoreTooNewError
from tidelog.storage.layout import Layout

CLUSTER = Kind(0x54444C4F, 1)
"""`TDLO`"""
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

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens the file in a store's directory; makes it where there is none.

        Raises:
            StoreError: when it cannot be opened.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = Layout(directory).cluster
        connection = connect_to_write(path, CLUSTER)
        with closing_on_error(connection, path):
            found = version_of(connection)
            if found > CLUSTER.version:
                raise StoreTooNewError(path, found, CLUSTER.version)
            # The log can be trusted; this need only be whole: a write of the last moment may be lost with the power.
            connection.execute("PRAGMA synchronous = NORMAL")
            _make(connection)
        return cls(path, connection)

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

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


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
