"""How the versions of streams follow each other in a part of the log."""

from collections.abc import Iterator, Sequence
from itertools import count

from tidelog.storage.proofs.tables import Tables
from tidelog.storage.proofs.verify_names import LISTED_MAX


class _Sparse(dict[int, int | None]):
    """Versions by any number, also of a stream that was not seen yet."""

    def __missing__(self, number: int) -> None:
        return None


class Versions:
    """The first and the last version of each stream of a part.

    A stream goes by its number, as a list is quicker than a dictionary of names; where numbers are too large for
    that, or not to be trusted, by one in a dictionary.
    """

    def __init__(self) -> None:
        """Of no stream yet."""
        self._last: list[int | None] | _Sparse = []
        self._first: dict[int, tuple[str, int]] = {}
        self._strangers: dict[str, int] = {}

    def follow(
        self, numbers: Sequence[int], streams: Sequence[str], versions: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Takes in events; yields the index, and the version before, of each that does not go on from there."""
        last = self._made_for(numbers)
        for number, version, index in zip(numbers, versions, count()):
            previous = last[number]
            if previous != version - 1:
                if previous is None:
                    self._first[number] = (streams[index], version)
                else:
                    yield index, previous
            last[number] = version

    def numbers_of(self, tables: Tables, streams: Sequence[str]) -> list[int]:
        """The numbers of streams by what envelopes say; those that the table does not have are given others."""
        known = {name: self._number_of(tables, name) for name in set(streams)}
        return [known[name] for name in streams]

    def spans(self) -> dict[str, tuple[int, int]]:
        """The first and the last version of each stream."""
        last = self._last
        return {
            name: (version, version if (end := last[number]) is None else end)
            for number, (name, version) in self._first.items()
        }

    def _made_for(self, numbers: Sequence[int]) -> list[int | None] | _Sparse:
        if isinstance(self._last, list):
            top = max(numbers)
            if top >= LISTED_MAX or min(numbers) <= 0:
                self._last = _Sparse(
                    (number, version) for number, version in enumerate(self._last) if version is not None
                )
            elif top >= len(self._last):
                self._last += [None] * (top + 1 - len(self._last))
        return self._last

    def _number_of(self, tables: Tables, name: str) -> int:
        rows = tables.rows("SELECT number FROM streams WHERE name = ?", (name,))
        if rows and rows[0][0] > 0:
            number: int = rows[0][0]
            return number
        return self._strangers.setdefault(name, -1 - len(self._strangers))
