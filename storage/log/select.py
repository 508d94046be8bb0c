"""The SQL that answers a query of the log."""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from tidelog.events.merkle import TILE_BITS
from tidelog.events.names import MalformedNameError, is_uuid7
from tidelog.storage.log import Query
from tidelog.storage.log.tile_index import CAUSES, CORRELATIONS, IN_TILE, TYPES, TileIndex, tile_of

Value: TypeAlias = int | str | bytes
Values: TypeAlias = tuple[Value, ...]

_WALKS_MAX: Final = 100
"""Of how many types each is sought in the index: more are nearly all there are, and SQLite joins 500 at most."""
_STREAM = "(SELECT number FROM streams WHERE name = ?)"
_TYPE = "(SELECT number FROM types WHERE name = ?)"
_RUN = "(SELECT number FROM correlations WHERE run = ?)"
_TRACE = "(SELECT number FROM correlations WHERE trace = ?)"
_CAUSE = "(SELECT position FROM events WHERE id = ?)"


class Select(NamedTuple):
    """A statement, and its values."""

    statement: str
    values: Values


class _Form(NamedTuple):
    """What a statement gives, whatever is asked for."""

    columns: str
    order: str
    limit: int


class _Key(NamedTuple):
    """What is sought in an index of tiles: a condition on its key, and the value of that."""

    tiles: TileIndex
    condition: str
    value: Value


class _Where(NamedTuple):
    """Conditions on events."""

    conditions: tuple[str, ...] = ()
    values: Values = ()

    def also(self, condition: str, *values: Value) -> "_Where":
        return _Where((*self.conditions, condition), (*self.values, *values))

    def __str__(self) -> str:
        return " AND ".join(self.conditions)


def select_events(
    query: Query, limit: int, *, tiled: bool, last: bool = False, columns: str = "envelope, position"
) -> Select:
    """The first (or last) `limit` events that fulfil a query, in this order.

    What is narrowest is said, because SQLite cannot know that of run, stream and type it is the run. `tiled` is
    whether the log has indexes of tiles; a log of an older release has others, of which SQLite then chooses.
    """
    form = _Form(columns, "DESC" if last else "ASC", limit)
    where, narrow = _where(query), _narrow(query)
    if not tiled:
        return _scan("", _and_types(where, query), form)
    if narrow is not None:
        return _walk(narrow, query, _and_types(where, query), form)
    if query.stream is not None:
        return _scan("INDEXED BY events_stream", _and_types(where, query), form)
    if 0 < len(query.types) <= _WALKS_MAX:
        keys = [_Key(TYPES, f"= {_TYPE}", name) for name in dict.fromkeys(query.types)]
        return _merge([_walk(key, query, where, form) for key in keys], form)
    return _scan("NOT INDEXED", _and_types(where, query), form)


def id_value(text: str) -> bytes:
    """An event's id, as its column holds it.

    Raises:
        MalformedNameError: when it is none.
    """
    if not is_uuid7(text):
        raise MalformedNameError(f"{text!r} is no event id: a UUID of version 7")
    return UUID(text).bytes


def _where(query: Query) -> _Where:
    """All conditions of a query but that on the type."""
    where = _Where().also("position > ?", query.after)
    if query.until is not None:
        where = where.also("position <= ?", query.until)
    if query.stream is not None:
        where = where.also(f"stream = {_STREAM}", query.stream)
    if query.run is not None:
        where = where.also(f"events.correlation IN {_RUN}", query.run)
    if query.trace is not None:
        where = where.also(f"events.correlation IN {_TRACE}", query.trace)
    if query.cause is not None:
        where = where.also(f"cause = {_CAUSE}", id_value(query.cause))
    return where


def _and_types(where: _Where, query: Query) -> _Where:
    if not query.types:
        return where
    # As one value: a statement has only so many.
    names = json.dumps(query.types)
    return where.also("events.type IN (SELECT number FROM types WHERE name IN (SELECT value FROM json_each(?)))", names)


def _narrow(query: Query) -> _Key | None:
    """What is sought in an index of tiles where few tiles answer a query."""
    if query.cause is not None:
        return _Key(CAUSES, f"= ({_CAUSE} - 1) >> {TILE_BITS}", id_value(query.cause))
    if query.run is not None:
        return _Key(CORRELATIONS, f"IN {_RUN}", query.run)
    if query.trace is not None:
        return _Key(CORRELATIONS, f"IN {_TRACE}", query.trace)
    return None


def _walk(key: _Key, query: Query, where: _Where, form: _Form) -> Select:
    """Walks the tiles of an index from one end of the query's range, and filters their events."""
    index = key.tiles
    entry = _Where().also(f"{index.table}.{index.key} {key.condition}", key.value)
    entry = entry.also("tile >= ?", query.after >> TILE_BITS)
    if query.until is not None:
        entry = entry.also("tile <= ?", tile_of(query.until))
    return Select(
        f"SELECT {form.columns} FROM {index.table} CROSS JOIN events NOT INDEXED WHERE {entry} AND {IN_TILE} "
        f"AND {index.of_event} = {index.table}.{index.key} AND {where} "
        f"ORDER BY tile {form.order}, position {form.order} LIMIT ?",
        (*entry.values, *where.values, form.limit),
    )


def _scan(hint: str, where: _Where, form: _Form) -> Select:
    """Looks at events in the order of the log, or of an index that is in it."""
    return Select(
        f"SELECT {form.columns} FROM events {hint} WHERE {where} ORDER BY position {form.order} LIMIT ?",
        (*where.values, form.limit),
    )


def _merge(walks: Sequence[Select], form: _Form) -> Select:
    """The first of several walks."""
    union = " UNION ALL ".join(f"SELECT * FROM ({walk.statement})" for walk in walks)
    values = tuple(value for walk in walks for value in walk.values)
    return Select(f"{union} ORDER BY position {form.order} LIMIT ?", (*values, form.limit))
