"""The coarse indexes of the log: which tiles of 256 events hold one of a type, of a correlation, or led to by another.

A tile holds few types, and events of one run stand close together: such an index has a tenth of the entries that one
of events has, so that it costs little to keep and little to prove. A query walks the tiles, and filters their events.
"""

from functools import lru_cache
from typing import NamedTuple

from tidelog.events.merkle import TILE_BITS

TILED_VERSION = 2
"""The version of the log's tables that brought them."""


class TileIndex(NamedTuple):
    """One of them: a table of pairs (`key`, `tile`)."""

    table: str
    key: str
    """Its column that says what the tile holds."""
    of_event: str
    """The same in SQL, of a row of `events`; NULL where the event has no entry."""


TYPES = TileIndex("type_tiles", "type", "events.type")
CORRELATIONS = TileIndex("correlation_tiles", "correlation", "events.correlation")
CAUSES = TileIndex("cause_tiles", "cause_tile", f"(events.cause - 1) >> {TILE_BITS}")
"""By the tile of the cause: its effects follow it closely, and share a tile or two."""
TILE_INDEXES = (TYPES, CORRELATIONS, CAUSES)
IN_TILE = f"events.position BETWEEN (tile << {TILE_BITS}) + 1 AND (tile + 1) << {TILE_BITS}"
"""In SQL: that an event is in the tile of an entry."""


class TileEntry(NamedTuple):
    """That a tile holds an event with this key."""

    table: str
    key: int
    tile: int


def tile_of(position: int) -> int:
    """The number of the tile, from 0, that holds an event."""
    return (position - 1) >> TILE_BITS


def entries_of(position: int, kind: int, correlation: int | None, cause: int | None) -> tuple[TileEntry, ...]:
    """What an event has in the indexes; `kind` is the number of its type, and `cause` the position of its cause."""
    return _entries(tile_of(position), kind, correlation, None if cause is None else tile_of(cause))


@lru_cache(maxsize=1_024)
def _entries(tile: int, kind: int, correlation: int | None, cause_tile: int | None) -> tuple[TileEntry, ...]:
    keys = (TYPES, kind), (CORRELATIONS, correlation), (CAUSES, cause_tile)
    return tuple(TileEntry(index.table, key, tile) for index, key in keys if key is not None)
