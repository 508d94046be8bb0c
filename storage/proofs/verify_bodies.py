"""Verification of the bodies of a log."""

import sqlite3
from collections.abc import Iterator

from tidelog.storage.errors import StoreCorruptError
from tidelog.storage.log.compression import unpack
from tidelog.storage.log.reader import stored_body
from tidelog.storage.proofs.parts import FINDINGS_MAX, Finding, Part, PartResult
from tidelog.storage.proofs.tables import Tables

_BODY = "SELECT CAST(digest AS BLOB), secret, size, CAST(stored AS BLOB), data FROM bodies WHERE rowid = ?"
_BATCH = 1_000


def verify_bodies(tables: Tables, part: Part) -> PartResult:
    """Verifies every body: its stored bytes, and for one that may be seen, its content."""
    result = PartResult(part=part)
    for number in _body_rows(tables, result):
        result.count += 1
        try:
            rows = tables.rows(_BODY, (number,))
            if not rows:
                raise StoreCorruptError(f"log.db, table bodies, row {number}", "it is not found again")
            unpack(stored_body(rows[0]))
        except StoreCorruptError as error:
            result.findings.append(Finding(error.what, error.why))
        except sqlite3.DatabaseError as error:
            result.findings.append(Finding(f"log.db, table bodies, row {number}", f"cannot be read: {error}"))
        if len(result.findings) >= FINDINGS_MAX:
            break
    return result


def _body_rows(tables: Tables, result: PartResult) -> Iterator[int]:
    try:
        for batch in tables.batches("SELECT rowid FROM bodies NOT INDEXED", _BATCH):
            yield from (number for (number,) in batch)
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding("log.db, table bodies", f"cannot be read to its end: {error}"))
