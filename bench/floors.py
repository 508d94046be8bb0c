"""Floors that several questions share: the least that a program over the same SQLite file would do."""

import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from tidelog.events.envelope import Envelope
from tidelog.events.projection import Projection
from tidelog.events.vocabulary.base import BY_NAME, BY_PAYLOAD
from tidelog.storage.connection import LOG, connect_to_write
from tidelog.storage.log.schema import migrate

INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
EventRow: TypeAlias = tuple[Any, ...]


def event_rows(log: Path, after: int) -> list[EventRow]:
    """The rows of a log's table of events after a position, with the values that an insert takes."""
    connection = sqlite3.connect(f"file:{log}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT * FROM events WHERE position > ? ORDER BY position", (after,)).fetchall()
    finally:
        connection.close()


class EventTable:
    """The log's table of events with its indexes, in a file of its own, opened with the log's own pragmas."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self._db = connect_to_write(path, LOG)
        migrate(self._db)

    def insert_together(self, commits: Sequence[Sequence[EventRow]]) -> None:
        """Inserts rows, some of them in each commit."""
        execute, executemany = self._db.execute, self._db.executemany
        for rows in commits:
            execute("BEGIN IMMEDIATE")
            executemany(INSERT, rows)
            execute("COMMIT")

    def insert_alone(self, row: EventRow) -> None:
        """Inserts a row, in a commit of its own."""
        self._db.execute(INSERT, row)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


class Decoding:
    """Reads rows of a log and decodes envelope and payload with msgspec, to the types that the engine has."""

    def __init__(self, connection: sqlite3.Connection, projections: Sequence[Projection[Any]] = ()) -> None:
        self._db = connection
        payloads = {payload for projection in projections for payload in projection.handlers}
        names = {BY_PAYLOAD[payload].name for payload in payloads} if projections else set(BY_NAME)
        self._decoders = {name: msgspec.json.Decoder(BY_NAME[name].payload).decode for name in names}

    def run(self, after: int, until: int) -> None:
        """Decodes every event of a range; with projections given, the payloads of those that they handle."""
        envelope_of = msgspec.json.Decoder(Envelope).decode
        decoders = self._decoders
        statement = "SELECT envelope FROM events WHERE position > ? AND position <= ? ORDER BY position"
        for (raw,) in self._db.execute(statement, (after, until)):
            envelope = envelope_of(raw)
            decode = decoders.get(envelope.type)
            if decode is not None:
                decode(envelope.data)


def hash_all(connection: sqlite3.Connection) -> int:
    """Hashes every stored envelope, row by row; returns how many there were."""
    count = 0
    for (raw,) in connection.execute("SELECT envelope FROM events ORDER BY position"):
        sha256(raw).digest()
        count += 1
    return count
