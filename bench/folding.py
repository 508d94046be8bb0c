"""The fold that several questions measure: `desired` and `inventory`, from the log's pages."""

from collections.abc import Iterator

from tidelog.events.projection import Fold, Rows
from tidelog.events.projections import DESIRED, INVENTORY, Desired, Inventory
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader


class TargetFold:
    """Folds events into what every target wants and what it owns."""

    def __init__(self) -> None:
        self.desired = Rows[Desired]()
        self.inventory = Rows[Inventory]()
        self._fold = Fold()
        self._fold.add(DESIRED, self.desired)
        self._fold.add(INVENTORY, self.inventory)

    def run(self, reader: LogReader, after: int, until: int) -> None:
        """Folds the events after a position, up to another."""
        while after < until:
            after = self._fold.fold(reader.entries(Query(after=after, until=until)))


def slices(events: int, count: int) -> Iterator[tuple[int, int]]:
    """The positions of a log, cut into about `count` ranges (after, until)."""
    step = max(1, -(-events // count))
    return ((after, min(after + step, events)) for after in range(0, events, step))
