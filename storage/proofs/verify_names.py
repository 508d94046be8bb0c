"""What a verification knows of the other tables while it looks at events: names by their numbers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import cast
from uuid import UUID

from tidelog.storage.proofs.tables import Row, Tables

KNOWN_NAMES_MAX = 16_384
"""Entries of each table that a worker keeps in memory."""
KNOWN_TEXTS_MAX = 100_000
AHEAD = 1_024
"""Names that are read at once, where the next ones will be needed soon."""
LISTED_MAX = 2**18
"""A number below it can be found in a list, which is quicker than a dictionary."""
ID_BYTES = 16
_MISSING = object()


def text_of(value: object) -> str:
    """A text as it was read, in whatever state it is."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else repr(value)


def _pair(run: object, trace: object) -> tuple[str | None, str | None]:
    return text_of(run) or None, text_of(trace) or None


def _id_text(column: object) -> str:
    return str(UUID(bytes=column)) if isinstance(column, bytes) and len(column) == ID_BYTES else text_of(column)


class Names:
    """What the numbers in a column of the events stand for, read from its table when it is first needed."""

    def __init__(self, statement: str, name: Callable[..., object], none: object = None, *, ahead: int = 1) -> None:
        """`statement` selects rows by their number, `name` makes a name of the rest of one; `none` is that of NULL.

        As many numbers as `ahead` are read at once: those to come, where a table is numbered as its rows are needed.
        """
        self._statement = statement
        self._ahead = ahead
        self._name = name
        self._none = none
        self._known: dict[object, object] = {None: none}

    def of(self, tables: Tables, numbers: Sequence[int | None]) -> tuple[object, ...]:
        """The name of each; for what the table does not have, something that no envelope can say."""
        names = tuple(map(self._known.get, numbers))
        if None in names and (new := set(numbers).difference(self._known)):
            self._read(tables, list(new))
            names = tuple(map(self._known.get, numbers))
        return names

    def _read(self, tables: Tables, numbers: list[int | None]) -> None:
        self._known.update(dict.fromkeys(numbers, _MISSING))
        for number, *columns in self._rows(tables, numbers):
            self._known[number] = self._name(*columns)

    def _rows(self, tables: Tables, numbers: list[int | None]) -> list[Row]:
        with suppress(TypeError):  # not all of them need be numbers
            first, last = min(cast("list[int]", numbers)), max(cast("list[int]", numbers))
            if last - first < self._ahead:
                return tables.rows(f"{self._statement} BETWEEN ?1 AND ?1 + ?2", (first, self._ahead - 1))
        return tables.rows(f"{self._statement} IN ({', '.join('?' * len(numbers))})", numbers)

    def add(self, numbers: Sequence[int | None], names: Sequence[object]) -> None:
        """Makes names known."""
        self._known.update(zip(numbers, names, strict=True))

    def forget(self) -> None:
        """See `Known.forget`."""
        if len(self._known) > KNOWN_NAMES_MAX:
            self._known = {None: self._none}


class ListedNames(Names):
    """The same, for a column without NULL: names of small numbers are kept in a list too."""

    def __init__(self, statement: str, name: Callable[..., object], *, ahead: int = 1) -> None:
        super().__init__(statement, name, ahead=ahead)
        self._listed: list[object] = [None]

    def of(self, tables: Tables, numbers: Sequence[int | None]) -> tuple[object, ...]:
        """As `Names.of`."""
        try:
            if min(cast("Sequence[int]", numbers)) > 0:
                names: tuple[object, ...] = itemgetter(0, *numbers)(self._listed)[1:]
                if None not in names:
                    return names
        except (IndexError, TypeError):  # a new number, or none at all
            pass
        names = super().of(tables, numbers)
        for number, name in zip(numbers, names, strict=True):
            self._list(number, name)
        return names

    def _list(self, number: object, name: object) -> None:
        if isinstance(number, int) and 0 < number < LISTED_MAX:
            self._listed += [None] * (number + 1 - len(self._listed))
            self._listed[number] = name

    def forget(self) -> None:
        """See `Known.forget`."""
        if len(self._known) > KNOWN_NAMES_MAX:
            self._listed = [None]
        super().forget()


class Known:
    """What a worker knows of the other tables, from one part to the next."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.streams = ListedNames("SELECT number, CAST(name AS BLOB) FROM streams WHERE number", text_of, ahead=AHEAD)
        self.types = ListedNames("SELECT number, CAST(name AS BLOB) FROM types WHERE number", text_of)
        self.correlations = Names(
            "SELECT number, CAST(run AS BLOB), CAST(trace AS BLOB) FROM correlations WHERE number",
            _pair,
            (None, None),
            ahead=AHEAD,
        )
        self.ids = Names("SELECT position, id FROM events WHERE position", _id_text)
        """Of events, by position, for those that are a cause and stand in another part."""
        self.references: set[bytes] = set()
        """To bodies, as they stand in envelopes that were looked at."""
        self.actors: set[bytes] = set()
        """As they stand there."""
        self.shown: tuple[set[object], ...] = (set(), set(), set())
        """Numbers of streams, types and correlations that an event was found to have by the right name."""

    def forget(self) -> None:
        """Keeps the memory small, and quick: what is needed again is read again."""
        for names in (self.streams, self.types, self.correlations, self.ids):
            names.forget()
        for texts in (self.references, self.actors):
            if len(texts) > KNOWN_TEXTS_MAX:
                texts.clear()
        for numbers in self.shown:
            if len(numbers) > KNOWN_TEXTS_MAX:
                numbers.clear()
