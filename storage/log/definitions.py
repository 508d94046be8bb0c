"""The statements that make the log's tables, by the version that brought them."""

from collections.abc import Sequence

from tidelog.events.merkle import TILE_BITS
from tidelog.storage.log.tile_index import TILE_INDEXES, TileIndex

TABLES: Sequence[str] = (
    "CREATE TABLE streams (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE types (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
    # One row for each pair that occurs, so that one small index serves both lookups. Empty text for none.
    """
    CREATE TABLE correlations (
        number INTEGER PRIMARY KEY, run TEXT NOT NULL, trace TEXT NOT NULL, UNIQUE (run, trace)
    ) STRICT
    """,
    "CREATE INDEX correlations_trace ON correlations (trace)",
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        envelope TEXT NOT NULL,
        leaf BLOB NOT NULL,
        id BLOB NOT NULL,
        stream INTEGER NOT NULL REFERENCES streams (number),
        version INTEGER NOT NULL,
        type INTEGER NOT NULL REFERENCES types (number),
        correlation INTEGER REFERENCES correlations (number),
        cause INTEGER REFERENCES events (position)
    ) STRICT
    """,
    # An index ends in the row's key: within a stream, a type, … events are found in the order of the log.
    "CREATE UNIQUE INDEX events_id ON events (id)",
    "CREATE INDEX events_stream ON events (stream)",
    "CREATE INDEX events_type ON events (type)",
    "CREATE INDEX events_correlation ON events (correlation) WHERE correlation IS NOT NULL",
    "CREATE INDEX events_cause ON events (cause) WHERE cause IS NOT NULL",
    # Roots of complete subtrees of 256**level leaves, level 1 and up; level 0 is events.leaf.
    """
    CREATE TABLE nodes (
        level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE bodies (
        digest TEXT PRIMARY KEY,
        secret INTEGER NOT NULL,
        size INTEGER NOT NULL,
        stored TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT
    """,
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",
    """
    CREATE VIEW readable AS
    SELECT events.position, json_extract(envelope, '$.time') AS time, streams.name AS stream, version,
           types.name AS type, run, trace, json_extract(envelope, '$.actor.name') AS actor,
           json_extract(envelope, '$.data') AS data
    FROM events
    JOIN streams ON streams.number = events.stream
    JOIN types ON types.number = events.type
    LEFT JOIN correlations ON correlations.number = events.correlation
    """,
)
"""Events as hashed, the columns that derive from them, the tree above them, and the bodies they name."""


def _in_place_of_index(index: TileIndex) -> tuple[str, str, str]:
    return (
        f"DROP INDEX events_{index.key.removesuffix('_tile')}",
        (
            f"CREATE TABLE {index.table} ({index.key} INTEGER NOT NULL, tile INTEGER NOT NULL, "
            f"PRIMARY KEY ({index.key}, tile)) STRICT, WITHOUT ROWID"
        ),
        (
            f"INSERT INTO {index.table} SELECT DISTINCT {index.of_event}, (position - 1) >> {TILE_BITS} "
            f"FROM events WHERE {index.of_event} IS NOT NULL"
        ),
    )


TILE_TABLES: Sequence[str] = tuple(statement for index in TILE_INDEXES for statement in _in_place_of_index(index))
"""By type, correlation and cause, the tiles are found, and no longer each event."""
MAC_TABLES: Sequence[str] = ("CREATE TABLE tile_macs (tile INTEGER PRIMARY KEY, mac BLOB NOT NULL) STRICT",)
"""What tiles are known by again. Those of an older store have none: nobody watched their rows from the beginning."""
