"""Whether the indexes of tiles say what the events do."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence

from tidelog.events.merkle import TILE_WIDTH
from tidelog.storage.connection import version_of
from tidelog.storage.log.tile_index import (
    CAUSES,
    CORRELATIONS,
    IN_TILE,
    TILE_INDEXES,
    TILED_VERSION,
    TYPES,
    TileIndex,
    tile_of,
)
from tidelog.storage.proofs.parts import FINDINGS_MAX, LOG_FILE, Finding

TILES = range(-(2**63), 2**63)
"""All that a table can hold."""
_TILE_BITS_MAX = 32
_TILE_MASK = 2**_TILE_BITS_MAX - 1
"""An entry is looked for as one number: the key, and below it the tile in so many bits."""


def has_tile_indexes(connection: sqlite3.Connection) -> bool:
    """Whether the log has them: one of an older release has not."""
    return version_of(connection) >= TILED_VERSION


class TileEntries:
    """The entries that a part of the events calls for."""

    def __init__(self) -> None:
        """None yet."""
        self._due: dict[TileIndex, list[int]] = {index: [] for index in TILE_INDEXES}
        self.found: Counter[str] = Counter()
        """How many of full tiles are there, by table."""

    def add(
        self,
        positions: Sequence[int],
        types: Sequence[int],
        correlations: Sequence[int | None],
        causes: Sequence[int | None],
    ) -> None:
        """Takes in the columns of a tile, once they are known to be right."""
        tile = tile_of(positions[0])
        keys = {
            TYPES: set(types),
            CORRELATIONS: {number for number in set(correlations) if number is not None},
            CAUSES: {tile_of(cause) for cause in set(causes) if cause is not None},
        }
        for index, found in keys.items():
            self._due[index] += [key << _TILE_BITS_MAX | tile for key in found]
            if len(positions) == TILE_WIDTH:
                self.found[index.table] += len(found)

    def check(self, connection: sqlite3.Connection) -> list[Finding]:
        """Those that are missing."""
        findings = []
        for index, due in self._due.items():
            if _count_of(connection, index, due) == len(due):
                continue
            missing = [entry for entry in due if not _count_of(connection, index, [entry])]
            self.found[index.table] -= len(missing)
            findings += [
                _finding(index, entry >> _TILE_BITS_MAX, entry & _TILE_MASK, "is missing") for entry in missing
            ]
        return findings


def _count_of(connection: sqlite3.Connection, index: TileIndex, entries: Sequence[int]) -> int:
    """How many of some entries there are."""
    statement = (
        f"SELECT count(*) FROM json_each(?) CROSS JOIN {index.table} "
        f"ON {index.table}.{index.key} = value >> {_TILE_BITS_MAX} AND tile = value & {_TILE_MASK}"
    )
    count: int = connection.execute(statement, (str(entries),)).fetchone()[0]
    return count


def count_entries(connection: sqlite3.Connection, tiles: int) -> dict[str, int]:
    """How many entries the first `tiles` tiles have, by table."""
    statement = "SELECT count(*) FROM {} WHERE tile < ?"
    return {
        index.table: connection.execute(statement.format(index.table), (tiles,)).fetchone()[0] for index in TILE_INDEXES
    }


def stray_entries(connection: sqlite3.Connection, tiles: range, but_of: Collection[int] = ()) -> list[Finding]:
    """Entries of a range of tiles that no event calls for, but those of some of them."""
    findings = []
    for index in TILE_INDEXES:
        statement = (
            f"SELECT {index.key}, tile FROM {index.table} WHERE tile BETWEEN ? AND ? AND NOT EXISTS "
            f"(SELECT 1 FROM events NOT INDEXED WHERE {IN_TILE} AND {index.of_event} = {index.table}.{index.key}) "
            "LIMIT ?"
        )
        rows = connection.execute(statement, (tiles.start, tiles.stop - 1, FINDINGS_MAX))
        findings += [_finding(index, key, tile, "is that of no event") for key, tile in rows if tile not in but_of]
    return findings


def _finding(index: TileIndex, key: int, tile: int, problem: str) -> Finding:
    return Finding(f"{LOG_FILE}, table {index.table}", f"its entry of {index.key} {key} in tile {tile} {problem}")
