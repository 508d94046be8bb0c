"""Which tiles are known again by their MACs."""

import sqlite3
from collections.abc import Sequence

from tidelog.events.merkle import TILE_WIDTH
from tidelog.storage.log.tile_index import tile_of
from tidelog.storage.log.tile_macs import MACS_VERSION, mac_of
from tidelog.storage.proofs.parts import FINDINGS_MAX, LOG_FILE, Finding, PartResult
from tidelog.storage.proofs.tables import Tables, version_of

_TABLE = f"{LOG_FILE}, table tile_macs"
_MACS = "SELECT tile, mac FROM tile_macs WHERE tile BETWEEN ? AND ?"


class TileMacs:
    """The MACs of a part's tiles, held against them with `key`; without a key, none fits and none is wrong."""

    def __init__(self, tables: Tables, result: PartResult, key: bytes | None) -> None:
        """What is wrong with them is told in `result`."""
        self._result = result
        self._key = key or b""
        self._macs = _read(tables, result) if key else {}

    def fit(self, first: int, root: bytes, columns: Sequence[Sequence[bytes | int | None]]) -> bool:
        """Whether the tile that begins at a position is as it was when its MAC was made."""
        tile = tile_of(first)
        mac = self._macs.get(tile)
        return mac is not None and mac == mac_of(self._key, tile, root, columns)

    def tell(self, first: int) -> None:
        """Names the MAC of a tile that it does not fit, although nothing is wrong with the tile."""
        tile = tile_of(first)
        if tile in self._macs:
            self._result.findings.append(Finding(_TABLE, f"its MAC of tile {tile} is not that of the tile"))


def _read(tables: Tables, result: PartResult) -> dict[int, bytes]:
    if version_of(tables) < MACS_VERSION:
        return {}
    try:
        return dict(tables.rows(_MACS, (tile_of(result.part.first), tile_of(result.part.last))))
    except sqlite3.DatabaseError as error:
        result.findings.append(Finding(_TABLE, f"cannot be read: {error}"))
        return {}


def stray_macs(tables: Tables) -> list[Finding]:
    """MACs of tiles that are none, or not full."""
    if version_of(tables) < MACS_VERSION:
        return []
    full = f"(SELECT coalesce(max(position), 0) FROM events) / {TILE_WIDTH}"
    rows = tables.rows(f"SELECT tile FROM tile_macs WHERE tile < 0 OR tile >= {full} LIMIT {FINDINGS_MAX}")
    return [Finding(_TABLE, f"it has one of tile {tile}, which is not there") for (tile,) in rows]
