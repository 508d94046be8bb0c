"""Verification of the bodies of a log."""

import sqlite3
from collections.abc import Iterator

from tidelog.storage.errors import StoreCorruptError
from tidelog.storage.log.compression import unpack
from tidelog.storage.log.reader import stored_body
from tidelog.storage.proofs.parts import FINDINGS_MAX, Finding, Part, PartResult

_BODY = "SELECT digest, secret, size, stored, data FROM bodies WHERE rowid = ?"


def verify_bodies(connection: sqlite3.Connection, part: Part) -> PartResult:
    """Verifies every body: its stored bytes, and for one that may be seen, its content."""
    result = PartResult(part=part)
    for number in _body_rows(connection, result):
        result.count += 1
        try:
            row = connection.execute(_BODY, (number,)).fetchone()
            if row is None:
                raise StoreCorruptError(f"log.db, table bodies, row {number}", "it is not found again")
            unpack(stored_body(row))
        except StoreCorruptError as error:
            result.findings.append(Finding(error.what, error.why))
        except sqlite3.DatabaseError as error:
            result.findings.append(Finding(f"log.db, table bodies, row {number}", f"cannot be read: {error}"))
        if len(result.findings) >= FINDINGS_MAX:
            break
    return result


def _body_rows(connection: sqlite3.Connection, result: PartResult) -> Iterator[int]:
    try:
        for (number,) in connection.execute("SELECT rowid FROM bodies NOT INDEXED"):
            yield number
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding("log.db, table bodies", f"cannot be read to its end: {error}"))
