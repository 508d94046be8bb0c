"""Release records as one pass over a release knows them: each is read once, and what was written is known."""

from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.helm.errors import RecordExistsError
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore, Revision


class KnownReleases(ReleaseStore):
    """A store that asks for nothing twice; for one pass over one release.

    What others write meanwhile the next pass sees. Helm, too, acts on what it read when it began.
    """

    def __init__(self, cluster: Cluster, namespace: str, identity: Identity | None = None) -> None:
        super().__init__(cluster, namespace, identity)
        self._revisions: dict[str, dict[int, str]] = {}
        """The status of each version there is, where all are known."""
        self._records: dict[tuple[str, int], Record] = {}
        self._made: dict[str, int] = {}
        """The version that was written last: in whose place no other comes while it is under way."""

    async def revisions(self, name: str) -> list[Revision]:
        """As `ReleaseStore`; asked for once."""
        if name not in self._revisions:
            self._revisions[name] = {one.version: one.status for one in await super().revisions(name)}
        return [Revision(version, status) for version, status in sorted(self._revisions[name].items(), reverse=True)]

    async def last(self, name: str) -> Record | None:
        """As `ReleaseStore`; what this pass wrote last, where it did."""
        made = self._records.get((name, self._made.get(name, 0)))
        return await super().last(name) if made is None else made

    async def get(self, name: str, version: int) -> Record | None:
        """As `ReleaseStore`; each is read once, and one that is not among the known versions is not asked for."""
        if (name, version) in self._records:
            return self._records[name, version]
        if version not in self._revisions.get(name, (version,)):
            return None
        found = await super().get(name, version)
        if found is None:
            self._revisions.pop(name, None)
        else:
            self._records[name, version] = found
        return found

    async def create(self, record: Record, now: float) -> None:
        """As `ReleaseStore`."""
        try:
            await super().create(record, now)
        except RecordExistsError:
            self._forget(record.release.name)
            raise
        self._wrote(record)

    async def update(self, record: Record, now: float) -> None:
        """As `ReleaseStore`."""
        await super().update(record, now)
        self._wrote(record)

    async def delete(self, name: str, version: int) -> None:
        """As `ReleaseStore`."""
        self._records.pop((name, version), None)
        self._made.pop(name, None)
        await super().delete(name, version)
        self._revisions.get(name, {}).pop(version, None)

    def _wrote(self, record: Record) -> None:
        release = record.release
        self._records[release.name, release.version] = record
        self._made[release.name] = max(release.version, self._made.get(release.name, 0))
        if release.name in self._revisions:
            self._revisions[release.name][release.version] = release.info.status

    def _forget(self, name: str) -> None:
        self._revisions.pop(name, None)
        self._made.pop(name, None)
        self._records = {key: record for key, record in self._records.items() if key[0] != name}
