"""The file of the projections: rows, cursors and snapshots. It can be deleted at any time and is made again.

Each projection has a table of its own name with its rows as they are at its cursor, and `<name>_history`: at
every snapshot position the rows that changed since the snapshot before. A past row is then the last one in the
history that is not after the snapshot, with the events since folded into it. Every row carries a checksum.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.projection import Projection, encode_row
from tidelog.events.typed import decoder
from tidelog.storage.connection import VIEWS, connect_to_read, connect_to_write, translate, version_of
from tidelog.storage.errors import StoreCorruptError, StoreError

CHECKSUM_BYTES = 16

Row = TypeVar("Row", bound=msgspec.Struct)
AnyProjection = Projection[Any]


class Cursor(msgspec.Struct, frozen=True):
    """How far a projection has come."""

    version: int
    """Of the projection's definition."""
    position: int
    """Of the last event folded."""
    leaf: bytes
    """Leaf hash of that event: tells the log that was folded from another with the same positions."""
    snapshot: int
    """Of the last snapshot."""


START = Cursor(0, 0, b"", 0)


class ViewStore:
    """The projections' file at `path`. Blocks; for worker threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._db.text_factory = bytes

    @classmethod
    def to_write(cls, path: Path) -> Self:
        """Opens the file to write, and makes it, or makes it anew if another release made it in another form."""
        connection = connect_to_write(path, VIEWS)
        try:
            if version_of(connection) != VIEWS.version:
                connection.close()
                connection = _made_anew(path)
            # Losing the last rows to a power cut only means folding their events again.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 8000")
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, path) from None
        return cls(path, connection)

    @classmethod
    def to_read(cls, path: Path) -> Self | None:
        """Opens the file to read; None when there is none of this release's form."""
        if not path.exists():
            return None
        connection = connect_to_read(path, VIEWS)
        try:
            known = version_of(connection) == VIEWS.version
        except sqlite3.Error as error:
            connection.close()
            raise _damaged(error, path) from None
        if not known:
            connection.close()
            return None
        return cls(path, connection)

    def close(self) -> None:
        """Closes the file; repeated calls do nothing."""
        self._db.close()

    def begin_read(self) -> None:
        """Has all reads from now on see one state of the file."""
        self._rows("BEGIN")

    def cursor(self, projection: AnyProjection) -> Cursor:
        """How far a projection has come; `START` when it has no rows of its present version.

        Raises:
            StoreCorruptError: when that is not what was written.
        """
        statement = "SELECT version, position, leaf, snapshot, checksum FROM cursors WHERE projection = ?"
        rows = self._rows(statement, (projection.name,))
        if not rows:
            return START
        cursor = Cursor(*rows[0][:-1])
        if rows[0][-1] != _cursor_checksum(projection.name, cursor):
            raise StoreCorruptError(
                f"projection {projection.name}, cursor", f"its checksum differs; {self.path.name} can be deleted"
            )
        return cursor if cursor.version == projection.version else START

    def reset(self, projection: AnyProjection) -> None:
        """Makes the tables of a projection anew, without rows."""
        name = projection.name
        columns = "".join(
            f", {column} ANY GENERATED ALWAYS AS (json_extract(row, '{path}')) VIRTUAL"
            for column, path in projection.columns.items()
        )
        statements = [
            f"DROP TABLE IF EXISTS {name}",
            f"DROP TABLE IF EXISTS {name}_history",
            f"""
            CREATE TABLE {name} (
                key TEXT PRIMARY KEY, position INTEGER NOT NULL, row TEXT, checksum BLOB NOT NULL{columns}
            ) STRICT
            """,
            f"CREATE INDEX {name}_position ON {name} (position)",
            f"CREATE INDEX {name}_dropped ON {name} (key) WHERE row IS NULL",
            f"""
            CREATE TABLE {name}_history (
                key TEXT NOT NULL, position INTEGER NOT NULL, row TEXT, checksum BLOB NOT NULL,
                PRIMARY KEY (key, position)
            ) STRICT, WITHOUT ROWID
            """,
            *(f"CREATE INDEX {name}_{column} ON {name} ({column})" for column in projection.columns),
        ]
        with _Transaction(self._db, self.path):
            for statement in statements:
                self._db.execute(statement)
            self._put_cursor(projection, msgspec.structs.replace(START, version=projection.version))

    def advance(
        self,
        changes: Iterable[tuple[Projection[Any], dict[str, Any]]],
        position: int,
        leaf: bytes,
        *,
        snapshot: bool,
    ) -> None:
        """Brings projections to `position`: rows, snapshots and cursors in one transaction."""
        with _Transaction(self._db, self.path):
            for projection, rows in changes:
                previous = self.cursor(projection).snapshot
                self._put_rows(projection, rows, position)
                if snapshot and not projection.append_only:
                    self._snapshot(projection, previous, position)
                reached = position if snapshot else previous
                self._put_cursor(projection, Cursor(projection.version, position, leaf, reached))

    def row(self, projection: Projection[Row], key: str) -> Row | None:
        """The row of a key at the projection's cursor."""
        return self._last(projection, projection.name, key, None)

    def row_at(self, projection: Projection[Row], key: str, snapshot: int) -> Row | None:
        """The row of a key at a snapshot."""
        return self._last(projection, f"{projection.name}_history", key, snapshot)

    def rows(self, projection: Projection[Row]) -> Iterator[tuple[str, Row]]:
        """All rows at the projection's cursor."""
        yield from self._decoded(projection, projection.name)

    def rows_where(self, projection: Projection[Row], column: str, value: str) -> Iterator[tuple[str, Row]]:
        """The rows at the projection's cursor of which a column has a value, in the order of their keys."""
        if column not in projection.columns:
            raise ValueError(f"{projection.name} cannot be asked by {column}")
        yield from self._decoded(projection, projection.name, f"WHERE {column} = ? ORDER BY key", (value,))

    def rows_at(self, projection: Projection[Row], snapshot: int) -> Iterator[tuple[str, Row]]:
        """All rows at a snapshot."""
        history = f"{projection.name}_history"
        yield from self._decoded(
            projection, history, "WHERE position <= ? GROUP BY key", (snapshot,), position="max(position)"
        )

    def digest(self, projection: AnyProjection) -> Digest:
        """The SHA-256 over all keys and rows at the cursor, in the order of the keys."""
        total = hashlib.sha256()
        statement = f"SELECT key, row FROM {projection.name} WHERE row IS NOT NULL ORDER BY key"
        for key, row in self._each(statement):
            total.update(len(key).to_bytes(4) + key + len(row).to_bytes(4) + row)
        return Digest(f"sha256:{total.hexdigest()}")

    def damaged_rows(self, projection: AnyProjection) -> Iterator[tuple[str, str]]:
        """The tables and keys whose row is not what was written.

        Raises:
            StoreCorruptError: when not all rows can be read, or the projection's cursor is not what was written.
        """
        if self.cursor(projection) == START:
            return
        for table in (projection.name, f"{projection.name}_history"):
            for key, position, row, checksum in self._each(f"SELECT key, position, row, checksum FROM {table}"):
                if checksum != _checksum(table, key, position, row):
                    yield table, _text(key)

    def _last(self, projection: Projection[Row], table: str, key: str, until: int | None) -> Row | None:
        which: str = "WHERE key = ?"
        values: tuple[str | int, ...] = (key,)
        if until is not None:
            which, values = f"{which} AND position <= ? ORDER BY position DESC LIMIT 1", (key, until)
        for _, row in self._decoded(projection, table, which, values):
            return row
        return None

    def _decoded(
        self,
        projection: Projection[Row],
        table: str,
        which: str = "",
        values: tuple[str | int, ...] = (),
        *,
        position: str = "position",
    ) -> Iterator[tuple[str, Row]]:
        decode = decoder(projection.row)
        statement = f"SELECT key, {position}, row, checksum FROM {table} {which}"
        for key, at, row, checksum in self._rows(statement, values):
            if checksum != _checksum(table, key, at, row):
                raise StoreCorruptError(
                    f"projection {projection.name}, row {_text(key)}",
                    f"its checksum differs; {self.path.name} can be deleted",
                )
            if row is not None:
                yield key.decode(), decode(row)

    def _put_rows(self, projection: AnyProjection, rows: dict[str, Any], position: int) -> None:
        self._db.executemany(
            f"INSERT OR REPLACE INTO {projection.name} (key, position, row, checksum) VALUES (?, ?, ?, ?)",
            (_values(projection.name, key, position, row) for key, row in rows.items()),
        )

    def _snapshot(self, projection: AnyProjection, previous: int, position: int) -> None:
        """Copies what changed since the last snapshot to the history; then what was dropped can go."""
        name, history = projection.name, f"{projection.name}_history"
        changed = self._rows(f"SELECT key, row FROM {name} WHERE position > ?", (previous,))
        self._db.executemany(
            f"INSERT INTO {history} VALUES (?, ?, ?, ?)",
            (
                (key.decode(), position, None if row is None else row.decode(), _checksum(history, key, position, row))
                for key, row in changed
            ),
        )
        self._db.execute(f"DELETE FROM {name} WHERE row IS NULL")

    def _put_cursor(self, projection: AnyProjection, cursor: Cursor) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?)",
            (projection.name, *msgspec.structs.astuple(cursor), _cursor_checksum(projection.name, cursor)),
        )

    def _rows(self, statement: str, values: tuple[str | int, ...] = ()) -> list[tuple[Any, ...]]:
        return list(self._each(statement, values))

    def _each(self, statement: str, values: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise _damaged(error, self.path) from None


class _Transaction:
    """A transaction of the projections' file."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None:
            self._db.execute("COMMIT")
            return
        self._db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise _damaged(error, self._path) from None


def _damaged(error: sqlite3.Error, path: Path) -> StoreError:
    translated = translate(error, path)
    if isinstance(translated, StoreCorruptError):
        return StoreCorruptError(str(path), f"{error}; it can be deleted, and is made again from the log")
    return translated


def remove_views(path: Path) -> None:
    """Throws a projections' file away; it is made again from the log."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _made_anew(path: Path) -> sqlite3.Connection:
    remove_views(path)
    connection = connect_to_write(path, VIEWS)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {VIEWS.application}")
    connection.execute(f"PRAGMA user_version = {VIEWS.version}")
    connection.execute(
        """
        CREATE TABLE cursors (
            projection TEXT PRIMARY KEY, version INTEGER NOT NULL, position INTEGER NOT NULL, leaf BLOB NOT NULL,
            snapshot INTEGER NOT NULL, checksum BLOB NOT NULL
        ) STRICT
        """
    )
    connection.execute("COMMIT")
    return connection


def _values(table: str, key: str, position: int, row: msgspec.Struct | None) -> tuple[str, int, str | None, bytes]:
    data = None if row is None else encode_row(row)
    return key, position, None if data is None else data.decode(), _checksum(table, key.encode(), position, data)


def _checksum(table: str, key: object, position: object, row: object) -> bytes:
    """The checksum of a row; an empty one where the columns hold what they never do.

    It holds the table's name: a damaged page may lead to the rows of another table, which are whole.
    """
    if not isinstance(key, bytes) or not isinstance(position, int) or not isinstance(row, bytes | None):
        return b""
    return _hash(b"%s %d %d " % (table.encode(), position, len(key)) + key + (b"" if row is None else b"\0" + row))


def _cursor_checksum(name: str, cursor: Cursor) -> bytes:
    return _hash(repr((name, *msgspec.structs.astuple(cursor))).encode())


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM_BYTES).digest()


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
