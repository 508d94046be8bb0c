"""Projections: named, versioned, pure folds of the log into rows.

A projection's state is a set of rows by key. Folding an event may put, change or drop rows and does nothing
else: no IO, no clock, no randomness; the same events give the same rows, byte for byte. A fold may change a
row in place, and then puts it again, so that whoever keeps the rows knows which of them changed.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgspec

from tidelog.events.canonical import encode_struct
from tidelog.events.codec import UnknownEvent, decode_data
from tidelog.events.envelope import Envelope, decode_envelope
from tidelog.events.vocabulary.base import BY_PAYLOAD, Event

Row = TypeVar("Row", bound=msgspec.Struct)


class Rows(Generic[Row]):
    """The rows of one projection while events are folded into it.

    `load` fetches a row that is not here yet from wherever the rows are kept.
    """

    def __init__(self, load: Callable[[str], Row | None] | None = None) -> None:
        self._rows: dict[str, Row | None] = {}
        self._load = load
        self._changed: dict[str, None] = {}

    def get(self, key: str) -> Row | None:
        """The row of a key, to be changed in place only if it is then put."""
        try:
            return self._rows[key]
        except KeyError:
            if self._load is None:
                return None
            row = self._rows[key] = self._load(key)
            return row

    def put(self, key: str, row: Row) -> None:
        """Makes `row` the row of a key."""
        self._rows[key] = row
        self._changed[key] = None

    def drop(self, key: str) -> None:
        """Leaves a key without a row."""
        self._rows[key] = None
        self._changed[key] = None

    def items(self) -> Iterable[tuple[str, Row]]:
        """The rows that are here, by key, in the order of the keys."""
        return ((key, row) for key, row in sorted(self._rows.items()) if row is not None)

    def take_changed(self) -> dict[str, Row | None]:
        """The rows changed since the last call, and None for those dropped."""
        changed = {key: self._rows[key] for key in self._changed}
        self._changed.clear()
        return changed

    def forget(self) -> None:
        """Lets go of every row; those that are needed again are loaded again."""
        self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)


Handler: TypeAlias = Callable[[Rows[Row], Envelope, Event], None]
E = TypeVar("E", bound=Event)


def on(payload: type[E], handler: Callable[[Rows[Row], Envelope, E], None]) -> tuple[type[Event], Handler[Row]]:
    """An entry of `Projection.handlers`: has `handler` fold the events of one type."""
    return payload, cast("Handler[Row]", handler)


class Projection(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """The definition of a projection."""

    name: str
    version: int
    """Raised whenever the same events would give other rows; stored rows of another version are rebuilt."""
    row: type[Row]
    handlers: Mapping[type[Event], Handler[Row]]
    every: Handler[Row] | None = None
    """Folds every event of the log, before the handler of its own type."""
    key_is_stream: bool = False
    """Whether a row is folded from the events of the stream that is its key, and of no other."""
    mention: Callable[[str], str] | None = None
    """From a key, a text that every event that changes its row holds; spares decoding the others."""
    append_only: bool = False
    """Whether a row, once put, never changes; its key then ends in `@<position>`."""
    columns: Mapping[str, str] = {}
    """What rows can be asked for by: the name of a column and the JSON path of its value in the row."""


def encode_row(row: msgspec.Struct) -> bytes:
    """The canonical bytes of a row."""
    return encode_struct(row)


_Bound: TypeAlias = tuple[Callable[[Any, Envelope, Event], None], Any]


class Fold:
    """Folds events into the rows of several projections at once, decoding each event only once."""

    def __init__(self) -> None:
        self._every: list[_Bound] = []
        self._handlers: dict[str, list[_Bound]] = {}

    def add(self, projection: Projection[Row], rows: Rows[Row]) -> None:
        """Has the events that come folded into `rows` too."""
        if projection.every is not None:
            self._every.append((projection.every, rows))
        for payload, handler in projection.handlers.items():
            self._handlers.setdefault(BY_PAYLOAD[payload].name, []).append((handler, rows))

    def fold(self, entries: Iterable[bytes]) -> int:
        """Folds stored envelopes, in the order of the log; returns the position of the last (0 for none).

        An event of a type, or of a newer schema version, that this release does not know is seen only by
        projections that fold every event.

        Raises:
            msgspec.DecodeError: for bytes that are no envelope.
            MalformedEventError: for a payload that does not fit its type.
        """
        handlers, every = self._handlers, self._every
        position = 0
        for entry in entries:
            envelope = decode_envelope(entry)
            position = envelope.position
            bound = handlers.get(envelope.type)
            if bound is None and not every:
                continue
            event = decode_data(envelope.type, envelope.schema, envelope.data)
            for handler, rows in every:
                handler(rows, envelope, event)
            if bound is None or type(event) is UnknownEvent:
                continue
            for handler, rows in bound:
                handler(rows, envelope, event)
        return position
