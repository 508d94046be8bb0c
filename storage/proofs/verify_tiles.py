"""Whether the indexes of tiles say what the events do."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import repeat

from tidelog.events.merkle import TILE_WIDTH
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
from tidelog.storage.proofs.tables import Tables, version_of

TILES = range(-(2**63), 2**63)
"""All that a table can hold."""


def has_tile_indexes(tables: Tables) -> bool:
    """Whether the log has them: one of an older release has not."""
    return version_of(tables) >= TILED_VERSION


class TileEntries:
    """The entries that a part of the events calls for."""

    def __init__(self) -> None:
        """None yet."""
        self._due: dict[str, list[tuple[int, int]]] = {index.table: [] for index in TILE_INDEXES}
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
        tile, full = tile_of(positions[0]), len(positions) == TILE_WIDTH
        for index, keys in (
            (TYPES, set(types)),
            (CORRELATIONS, {number for number in set(correlations) if number is not None}),
            (CAUSES, {tile_of(cause) for cause in set(causes) if cause is not None}),
        ):
            self._due[index.table] += zip(keys, repeat(tile))
            if full:
                self.found[index.table] += len(keys)

    def check(self, tables: Tables) -> list[Finding]:
        """Those that are missing."""
        findings = []
        for index in TILE_INDEXES:
            missing = set(self._due[index.table]).difference(_entries(tables, index, self._due[index.table]))
            self.found[index.table] -= len(missing)
            findings += [_finding(index, key, tile, "is missing") for key, tile in sorted(missing)]
        return findings


def _entries(tables: Tables, index: TileIndex, due: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is there, in the tiles that are named, of the keys that are named."""
    if not due:
        return []
    keys = sorted({key for key, _ in due})
    statement = (
        f"SELECT {index.table}.{index.key}, tile FROM json_each(?) CROSS JOIN {index.table} "
        f"ON {index.table}.{index.key} = value AND tile BETWEEN ? AND ?"
    )
    return tables.rows(statement, (str(keys), due[0][1], due[-1][1]))


def count_entries(tables: Tables, tiles: int) -> dict[str, int]:
    """How many entries the first `tiles` tiles have, by table."""
    statement = "SELECT count(*) FROM {} WHERE tile < ?"
    return {index.table: tables.rows(statement.format(index.table), (tiles,))[0][0] for index in TILE_INDEXES}


def stray_entries(tables: Tables, tiles: range, but_of: Collection[int] = ()) -> list[Finding]:
    """Entries of a range of tiles that no event calls for, but those of some of them."""
    findings = []
    for index in TILE_INDEXES:
        statement = (
            f"SELECT {index.key}, tile FROM {index.table} WHERE tile BETWEEN ? AND ? AND NOT EXISTS "
            f"(SELECT 1 FROM events NOT INDEXED WHERE {IN_TILE} AND {index.of_event} = {index.table}.{index.key}) "
            "LIMIT ?"
        )
        rows = tables.rows(statement, (tiles.start, tiles.stop - 1, FINDINGS_MAX))
        findings += [_finding(index, key, tile, "is that of no event") for key, tile in rows if tile not in but_of]
    return findings


def _finding(index: TileIndex, key: int, tile: int, problem: str) -> Finding:
    return Finding(f"{LOG_FILE}, table {index.table}", f"its entry of {index.key} {key} in tile {tile} {problem}")
