"""What revisions of sources were made of, as these say: of an OCI artifact, the commit that it was packed from."""

from collections.abc import Iterable

from tidelog.engine.kinds.meta import origin_in
from tidelog.engine.runtime.memory import Memory, find_fetched
from tidelog.events.names import Revision, StreamName

KEPT_MAX = 4_096


class OriginRevisions:
    """The revisions that revisions of sources were made of: the log knows them, and the latest are kept at hand."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._kept: dict[tuple[StreamName, Revision], str] = {}

    def known(self, source: StreamName, revision: Revision | None) -> str:
        """What a revision was made of, where that is at hand; empty where its source does not say."""
        if revision is None:
            return ""
        newest = self._of_newest(source, revision)
        return self._kept.get((source, revision), "") if newest is None else newest

    async def learn(self, source: StreamName, revisions: Iterable[Revision | None]) -> None:
        """Has it at hand what some revisions of a source were made of."""
        for revision in revisions:
            if revision is None or (source, revision) in self._kept:
                continue
            origin = self._of_newest(source, revision)
            if origin is None:
                fetched = await find_fetched(self._memory.log, source, revision)
                origin = origin_in(() if fetched is None else fetched.annotations)
            while len(self._kept) >= KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[source, revision] = origin

    def _of_newest(self, source: StreamName, revision: Revision) -> str | None:
        """The same of the newest revision, of which the projections have all; None of another."""
        row, standing = self._memory.desired.get(source), self._memory.conditions.get(source)
        if row is None or row.revision != revision or standing is None:
            return None
        return origin_in(standing.annotations)
