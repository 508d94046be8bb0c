"""Verification of the structure of a database file: pages, indexes, definitions."""

import re
import sqlite3
from contextlib import suppress

from tidelog.events.merkle import TILE_WIDTH
from tidelog.storage.connection import LOG
from tidelog.storage.log.definitions import MAC_TABLES, TABLES, TILE_TABLES
from tidelog.storage.proofs.parts import FINDINGS_MAX, LOG_FILE, Finding, Part, PartResult
from tidelog.storage.proofs.tables import SharedTables, Tables, version_of
from tidelog.storage.proofs.verify_macs import stray_macs
from tidelog.storage.proofs.verify_names import text_of
from tidelog.storage.proofs.verify_tiles import TILES, count_entries, has_tile_indexes, stray_entries


def verify_structure(tables: Tables, part: Part, file: str) -> PartResult:
    """Verifies the pages of a database file, and that its indexes and tables agree."""
    result = PartResult(part=part)
    try:
        tables.rows("PRAGMA cell_size_check = OFF")  # the check at the end does the same, once
        names = {
            root: f"{text_of(kind)} {text_of(name)}"
            for kind, name, root in tables.rows(
                "SELECT CAST(type AS BLOB), CAST(name AS BLOB), rootpage FROM sqlite_schema WHERE rootpage > 0"
            )
        }
        if file == LOG_FILE:
            _check_definitions(tables, result)
            _check_names(tables, result)
            _check_tile_indexes(tables, result)
            result.findings += stray_macs(tables)
        answers = tables.rows(f"PRAGMA integrity_check({FINDINGS_MAX})")
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding(file, str(error)))
        return result
    for line in "\n".join(text_of(answer) for (answer,) in answers).split("\n"):
        if line != "ok" and not line.startswith("***"):
            result.findings.append(Finding(file + _place(tables, line, names), line))
    return result


def _check_definitions(tables: Tables, result: PartResult) -> None:
    """Whether every table, index and view is defined as this release defines it."""
    if version_of(tables) != LOG.version:
        return
    new = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statement in (*TABLES, *TILE_TABLES, *MAC_TABLES):
            new.execute(statement)
        due = _definitions(SharedTables(new))
    finally:
        new.close()
    there = _definitions(tables)
    result.findings += [
        Finding(f"{LOG_FILE}, {name}", "its definition is " + ("altered" if name in there else "missing"))
        for name, sql in due.items()
        if name not in there or there[name] != sql
    ]
    # Somebody may have added a view for himself; but a trigger changes what is written.
    result.findings += [
        Finding(f"{LOG_FILE}, {name}", "no log has triggers") for name in there if name.startswith("trigger ")
    ]


def _definitions(tables: Tables) -> dict[str, str | None]:
    """Tables, indexes, views and triggers, and how each is defined."""
    return {text_of(name): None if sql is None else text_of(sql) for name, sql in tables.rows(_DEFINITIONS)}


def _check_names(tables: Tables, result: PartResult) -> None:
    """Whether every stream, type and correlation is that of an event."""
    tiled = has_tile_indexes(tables)
    for table, column in (("streams", "stream"), ("types", "type"), ("correlations", "correlation")):
        used = f"{column}_tiles" if tiled and column != "stream" else "events"
        unused = f"SELECT number FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {used} WHERE {column} = {table}.number)"
        result.findings += [
            Finding(f"{LOG_FILE}, table {table}, row {number}", "no event has it")
            for (number,) in tables.rows(f"{unused} LIMIT {FINDINGS_MAX}")
        ]


def _check_tile_indexes(tables: Tables, result: PartResult) -> None:
    """Whether the last tile has no entry too many; of the others they are counted, and held against the events."""
    if has_tile_indexes(tables):
        tiles = result.part.last // TILE_WIDTH
        result.tile_entries = count_entries(tables, tiles)
        result.findings += stray_entries(tables, range(tiles, TILES.stop))


def _place(tables: Tables, line: str, names: dict[int, str]) -> str:
    """Where a line of SQLite's integrity check points: its table or index, and its page."""
    index, column, tree, page = _index(line), _column(line), _tree(line), _page(line)
    if index or column:
        return f", index {index[1]}" if index else f", table {column[1]}" if column else ""
    number = int(page[1]) if page else None
    name = names.get(int(tree[1])) if tree else names.get(number) if number else None
    if name is None and number is not None:
        with suppress(sqlite3.Error):  # not every SQLite is built with this table
            rows = tables.rows("SELECT CAST(name AS BLOB) FROM dbstat WHERE pageno = ?", (number,))
            name = next((known for known in names.values() if rows and known.endswith(f" {text_of(rows[0][0])}")), None)
    return (f", {name}" if name else "") + (f", page {number}" if number is not None else "")


# The words differ between SQLite's versions: `On tree page 7 cell 2: …`, `Tree 7 page 9 cell 2: …`.
_tree = re.compile(r"^Tree (\d+)").search
_page = re.compile(r"[Pp]age (\d+)").search
_index = re.compile(r"(?:missing from|in|of) index (\w+)").search
_column = re.compile(r"value in (\w+)\.").search
_DEFINITIONS = """
SELECT CAST(type || ' ' || name AS BLOB), CAST(sql AS BLOB)
FROM sqlite_schema WHERE tbl_name NOT LIKE '\\_%' ESCAPE '\\'
"""
