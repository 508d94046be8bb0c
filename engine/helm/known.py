"""Release records as one pass over a release knows them: each is read once, and what was written is known."""

import msgspec

from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.helm.errors import RecordExistsError
from tidelog.engine.helm.releases import digest_beside
from tidelog.engine.helm.storage import Record, RecordedChart, Release, secret_name
from tidelog.engine.helm.store import ReleaseStore, Revision
from tidelog.events.digest import Digest
from tidelog.events.vocabulary import ReleaseSnapshot


class Newest(msgspec.Struct, frozen=True):
    """The newest version of a release in Helm's storage."""

    release: Release
    digest: Digest
    """Of the release (contract HR-125)."""

    @classmethod
    def of(cls, record: Record | None, latest: ReleaseSnapshot | None) -> "Newest | None":
        """What a record says, to be held against the version that was made last as the log knows it."""
        return None if record is None else cls(record.release, digest_beside(record.release, latest))

    def without_files(self) -> "Newest":
        """The same, without what makes a record large: enough to see whether anything is to be done."""
        chart = None if self.release.chart is None else RecordedChart(metadata=self.release.chart.metadata)
        small = msgspec.structs.replace(self.release, chart=chart, config=None, manifest="", hooks=None)
        return msgspec.structs.replace(self, release=small)


class KnownReleases(ReleaseStore):
    """A store that asks for nothing twice; for one pass over one release.

    What others write meanwhile the next pass sees. Helm, too, acts on what it read when it began.
    """

    def __init__(self, cluster: Cluster, namespace: str, identity: Identity | None = None) -> None:
        super().__init__(cluster, namespace, identity)
        self._revisions: dict[str, dict[int, Revision]] = {}
        """Each version there is, where all are known."""
        self._records: dict[tuple[str, int], Record] = {}
        self._made: dict[str, int] = {}
        """The version that was written last: in whose place no other comes while it is under way."""

    async def revisions(self, name: str) -> list[Revision]:
        """As `ReleaseStore`; asked for once."""
        if name not in self._revisions:
            self._revisions[name] = {one.version: one for one in await super().revisions(name)}
        return [one for _, one in sorted(self._revisions[name].items(), reverse=True)]

    def resource_versions(self, name: str) -> dict[str, str]:
        """The resource version of each record there is, by its Secret's name; none where this pass did not ask."""
        return {one.secret: one.resource_version for one in self._revisions.get(name, {}).values()}

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

    async def create(self, record: Record, now: float) -> str:
        """As `ReleaseStore`."""
        try:
            version = await super().create(record, now)
        except RecordExistsError:
            self._forget(record.release.name)
            raise
        self._wrote(record, version)
        return version

    async def update(self, record: Record, now: float) -> str:
        """As `ReleaseStore`."""
        version = await super().update(record, now)
        self._wrote(record, version)
        return version

    async def delete(self, name: str, version: int) -> None:
        """As `ReleaseStore`."""
        self._records.pop((name, version), None)
        self._made.pop(name, None)
        await super().delete(name, version)
        self._revisions.get(name, {}).pop(version, None)

    def _wrote(self, record: Record, resource_version: str) -> None:
        release = record.release
        self._records[release.name, release.version] = record
        self._made[release.name] = max(release.version, self._made.get(release.name, 0))
        if release.name in self._revisions:
            secret = secret_name(release.name, release.version)
            written = Revision(release.version, release.info.status, secret, resource_version)
            self._revisions[release.name][release.version] = written

    def _forget(self, name: str) -> None:
        self._revisions.pop(name, None)
        self._made.pop(name, None)
        self._records = {key: record for key, record in self._records.items() if key[0] != name}
