"""The objects of the embedded cluster, in memory: encoded, each under its place, and what changed lately.

An object is kept as the JSON that is sent, so that a list or a watch costs no encoding, and a copy of the whole
(`fork`) shares every object with the original, and the order they are kept in where neither has changed it since.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, Protocol, Self, TypeAlias

import anyio
from msgspec import Struct

from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.shared_map import SharedMap

ChangeType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED"]
HISTORY_MAX: Final = 10_000
"""Changes of one place that are remembered; a watch from before is told that they are gone."""
HISTORY_BYTES_MAX: Final = 64 << 20
"""What the objects of these changes may come to, as JSON: some thousand writes of a large one would fill any memory."""


class Key(Struct, frozen=True, order=True, gc=False):
    """Which object of a place: `namespace` is empty for kinds without."""

    namespace: str
    name: str

    @property
    def path(self) -> str:
        """As etcd has it below that of its place: objects are listed in the order of these."""
        return f"{self.namespace}/{self.name}"


class Record(Struct, frozen=True, gc=False):
    """An object as it is kept. It holds nothing that the garbage collector, which would walk over all, could find."""

    key: Key
    version: int
    """Its resourceVersion."""
    data: bytes
    """JSON, with the resourceVersion in it."""
    uid: str


class Change(NamedTuple):
    """A change of one object. The record of a deletion has the version of the deletion."""

    type: ChangeType
    record: Record
    previous: Record | None


Journal: TypeAlias = "deque[tuple[Place, Change]]"


class Keeper(Protocol):
    """What keeps the changes of a store elsewhere, a moment after they are made."""

    def add(self, place: Place, change: Change) -> None:
        """Notes a change that is to be kept."""

    async def room(self) -> None:
        """Waits until more may be written."""

    async def kept(self, version: int) -> None:
        """Waits until all changes up to a version are kept.

        Raises:
            ConnectionError: when nobody knows whether they will be.
        """


class Bucket:
    """The objects of one place, in the order of their keys."""

    def __init__(self, version: int, records: SharedMap[str, Record] | None = None) -> None:
        """As of `version`: how it came to that is not known."""
        self.records: SharedMap[str, Record] = SharedMap() if records is None else records
        """By the paths of their keys."""
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self.compacted = version
        """Changes up to this version are forgotten."""
        self.changed = anyio.Event()
        """Set at the next change, and then another."""

    def between(self, namespace: str, after: Key | None = None) -> Iterator[Record]:
        """The objects of a namespace, or of all (empty), that come after a key."""
        start = after or (Key(namespace, "") if namespace else None)
        for _, record in self.records.items(start.path if start else None):
            if namespace and record.key.namespace != namespace:
                return
            if record.key != after:
                yield record

    def since(self, version: int) -> list[Change] | None:
        """The changes after `version`; None when some of them are forgotten."""
        if version < self.compacted:
            return None
        found: list[Change] = []
        for change in reversed(self._changes):
            if change.record.version <= version:
                break
            found.append(change)
        found.reverse()
        return found

    def take(self, change: Change) -> None:
        """Carries out a change."""
        path = change.record.key.path
        if change.type == "DELETED":
            self.records.pop(path)
        else:
            self.records.set(path, change.record)
        self._changes.append(change)
        self._bytes += len(change.record.data)
        while len(self._changes) > HISTORY_MAX or (self._bytes > HISTORY_BYTES_MAX and len(self._changes) > 1):
            self.compacted = self._forget_first()
        self.wake()

    def _forget_first(self) -> int:
        forgotten = self._changes.popleft().record
        self._bytes -= len(forgotten.data)
        return forgotten.version

    def forget(self, version: int) -> None:
        """Forgets the changes up to `version`."""
        while self._changes and self._changes[0].record.version <= version:
            self._forget_first()
        self.compacted = max(self.compacted, version)
        self.wake()

    def wake(self) -> None:
        """Has those look that wait for a change."""
        done, self.changed = self.changed, anyio.Event()
        done.set()

    def copy(self, version: int) -> Self:
        """One with the same objects, and no memory of how they came there."""
        return type(self)(version, self.records.copy())


class Store:
    """All objects. What is written is there at once; every write has a version of its own."""

    def __init__(self) -> None:
        """Empty."""
        self.version = 1
        self._buckets: dict[Place, Bucket] = {}
        self._journals: list[Journal] = []
        self.keeper: Keeper | None = None
        self.changed = anyio.Event()
        """Set at the next change, and then another."""

    def bucket(self, place: Place) -> Bucket:
        """The objects of a place."""
        found = self._buckets.get(place)
        if found is None:
            found = self._buckets[place] = Bucket(0 if self.version == 1 else self.version)
        return found

    def places(self) -> list[Place]:
        """Those where something is, or was."""
        return list(self._buckets)

    def get(self, place: Place, key: Key) -> Record | None:
        """One object."""
        return self.bucket(place).records.get(key.path)

    def next_version(self) -> int:
        """The version of the next write."""
        return self.version + 1

    def put(self, place: Place, record: Record) -> None:
        """Makes or changes an object; its version is `next_version`."""
        previous = self.get(place, record.key)
        self._take(place, Change("ADDED" if previous is None else "MODIFIED", record, previous))

    def remove(self, place: Place, record: Record) -> None:
        """Removes an object; `record` is its last state, in the version of the deletion."""
        self._take(place, Change("DELETED", record, self.get(place, record.key)))

    def _take(self, place: Place, change: Change) -> None:
        self.version = change.record.version
        self.bucket(place).take(change)
        if self.keeper is not None:
            self.keeper.add(place, change)
        for journal in self._journals:
            journal.append((place, change))
        done, self.changed = self.changed, anyio.Event()
        done.set()

    def follow(self) -> "Journal":
        """All changes from now on, for one who takes them away as they come."""
        journal: Journal = deque()
        self._journals.append(journal)
        return journal

    async def room(self) -> None:
        """Waits until more may be written: what is to be kept elsewhere must not pile up."""
        if self.keeper is not None:
            await self.keeper.room()

    async def kept(self) -> None:
        """Waits until all that is written by now is kept, where it is kept at all.

        Raises:
            ConnectionError: when nobody knows whether it will be.
        """
        if self.keeper is not None:
            await self.keeper.kept(self.version)

    def load(self, objects: Iterable[tuple[Place, Record]], version: int) -> None:
        """Takes in objects that were kept elsewhere, into an empty store, as of `version`."""
        found: dict[Place, dict[str, Record]] = {}
        for place, record in objects:
            found.setdefault(place, {})[record.key.path] = record
        self.version = max(self.version, version)
        self._buckets = {
            place: Bucket(self.version, SharedMap(sorted(records.items()))) for place, records in found.items()
        }

    def compact(self) -> None:
        """Forgets all changes so far, as etcd does every few minutes: whoever lags behind must list again."""
        for bucket in self._buckets.values():
            bucket.forget(self.version)

    def drop(self, place: Place) -> None:
        """Forgets a place whose kind is no longer served; those that watch it are to see that."""
        found = self._buckets.pop(place, None)
        if found is not None:
            found.wake()

    def fork(self) -> "Store":
        """A copy that shares the objects; what happens to one is not seen by the other."""
        made = Store()
        made.version = self.version
        made._buckets = {place: bucket.copy(self.version) for place, bucket in self._buckets.items()}
        return made
