"""How a verification reads a database: all rows of an answer at once, and texts as bytes.

Damage may be in any text, and decoding must not stumble over it: a statement asks for `CAST(name AS BLOB)`.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import apsw

from tidelog.storage.connection import BUSY_TIMEOUT_S, FrozenConnection, Kind, connect_to_read

Row: TypeAlias = tuple[Any, ...]
Values: TypeAlias = Sequence[int | str | bytes | None]

MAPPED_BYTES_MAX = 2**40


class Tables(Protocol):
    """A database that can be read. Every error is a `sqlite3.DatabaseError`."""

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """All rows of an answer."""
        ...

    def batches(self, statement: str, size: int) -> Iterator[list[Row]]:
        """The rows of a long answer, `size` at a time."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


def open_tables(file: Path, kind: Kind, *, alone: bool = False) -> Tables:
    """Opens a database to read.

    Args:
        file: it.
        kind: what it must be.
        alone: whether nothing else in this process has it open, or will. It is then read through APSW, in two thirds
            of the time, and through memory: a file that is shorter than it says ends the process with a signal.

    Raises:
        StoreError: when there is no such database, or it cannot be opened.
    """
    connection = connect_to_read(file, kind)
    if not alone:
        return SharedTables(connection)
    # Closed before the other opens it: the locks of one copy of SQLite are nothing to another in the same process.
    connection.close()
    return LoneTables(file, frozen=isinstance(connection, FrozenConnection))


def version_of(tables: Tables) -> int:
    """The version of a file's tables; 0 when it has none yet."""
    version: int = tables.rows("PRAGMA user_version")[0][0]
    return version


class SharedTables:
    """Through `sqlite3`, which the rest of the process uses too."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Closes `connection` in the end."""
        self._db = connection

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """As `Tables.rows`."""
        return self._db.execute(statement, values).fetchall()

    def batches(self, statement: str, size: int) -> Iterator[list[Row]]:
        """As `Tables.batches`."""
        cursor = self._db.execute(statement)
        while batch := cursor.fetchmany(size):
            yield batch

    def close(self) -> None:
        """As `Tables.close`."""
        self._db.close()


class LoneTables:
    """Through APSW, which brings a SQLite of its own."""

    def __init__(self, file: Path, *, frozen: bool) -> None:
        """With `frozen`, nobody changes the file."""
        options = "mode=ro&immutable=1" if frozen else "mode=ro"
        with _as_sqlite3_errors():
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            self._db = apsw.Connection(f"{file.absolute().as_uri()}?{options}", flags=flags)
            self._db.set_busy_timeout(int(BUSY_TIMEOUT_S * 1000))
            self._db.execute(f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
            self._db.execute("PRAGMA cell_size_check = ON")

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """As `Tables.rows`."""
        with _as_sqlite3_errors():
            return self._db.execute(statement, values).fetchall()

    def batches(self, statement: str, size: int) -> Iterator[list[Row]]:
        """As `Tables.batches`."""
        with _as_sqlite3_errors():
            cursor = self._db.execute(statement)
            while batch := list(islice(cursor, size)):
                yield batch

    def close(self) -> None:
        """As `Tables.close`."""
        self._db.close()


@contextmanager
def _as_sqlite3_errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise sqlite3.DatabaseError(str(error)) from None
    except UnicodeDecodeError:
        raise sqlite3.DatabaseError("a text that is no UTF-8") from None
