"""What a watch tells of Helm's records: which there are, at which resource versions, and never what is in them.

So a release whose records are as a pass left them is not read again at each interval. What the watch has not told yet
a pass does not see, as little as what is written a moment after it has looked.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Final, NoReturn

import anyio
import msgspec

from tidelog.engine.cluster.port import Cluster, Kind, Listing, WatchEvent
from tidelog.engine.helm.known import Newest
from tidelog.engine.helm.store import SECRET
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.reflector import Reflector
from tidelog.engine.observe.room import Room
from tidelog.events.names import ObjectKey

LABELS: Final = "owner=helm"


class _Kept(msgspec.Struct, frozen=True):
    newest: Newest
    versions: Mapping[str, str]
    """The resource version of each record, by its Secret's name."""


class RecordWatch:
    """Remembers of each release the newest record, for as long as nobody writes to its records.

    Args:
        cluster: where they are.
        namespace: the only one that is watched; empty for all.
        room: bounds how many are known; None where the server is believed.
    """

    def __init__(self, cluster: Cluster, namespace: str, room: Room | None = None) -> None:
        self._reflector = Reflector(_MetadataOnly(cluster), SECRET, namespace=namespace, labels=LABELS, room=room)
        self._told: dict[tuple[str, str], dict[str, str]] = {}
        """What the watch tells, by the namespace and the name of the release: versions by the Secret's name."""
        self._release_of: dict[tuple[str, str], str] = {}
        """The release of each record, by namespace and name of the Secret."""
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._wanted = anyio.Event()
        self._is_watching = False

    async def run(self) -> NoReturn:
        """Watches, from the first release that there is, until cancelled."""
        await self._wanted.wait()
        try:
            await self._reflector.run(self)
        finally:
            self._is_watching = False

    def newest(self, namespace: str, name: str) -> Newest | None:
        """The newest record of a release, where its records are as they were when it was kept."""
        self._wanted.set()
        kept = self._kept.get((namespace, name))
        if kept is None or not self._is_watching or kept.versions != self._told.get((namespace, name)):
            return None
        return kept.newest

    def keep(self, namespace: str, name: str, newest: Newest, versions: Mapping[str, str]) -> None:
        """Remembers the newest record of a release.

        Args:
            namespace: where the records are.
            name: of the release.
            newest: what is known of it.
            versions: the resource version of each record of the release then, by its Secret's name.
        """
        self._kept[namespace, name] = _Kept(newest.without_files(), versions)

    def forget(self, namespace: str, name: str) -> None:
        """Says that the newest record of a release is to be read again."""
        self._kept.pop((namespace, name), None)

    # What the watch tells.

    async def changed(self, obj: KubeObject) -> None:
        """Takes note of a record; or of what is none any more, as it has lost its labels."""
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        secret = metadata["namespace"], metadata["name"]
        release = labels.get("name", "") if labels.get("owner") == "helm" else ""
        if release != self._release_of.get(secret, ""):
            self._forget(*secret)
        if release:
            self._release_of[secret] = release
            self._told.setdefault((secret[0], release), {})[secret[1]] = metadata["resourceVersion"]

    async def gone(self, key: ObjectKey, uid: str) -> None:  # noqa: ARG002 - as a handler is told
        """Takes note that a record is no more."""
        self._forget(key.namespace, key.name)

    def _forget(self, namespace: str, secret: str) -> None:
        release = namespace, self._release_of.pop((namespace, secret), "")
        told = self._told.get(release, {})
        told.pop(secret, None)
        if not told:
            self._told.pop(release, None)
            self._kept.pop(release, None)

    async def interrupted(self, why: str) -> None:  # noqa: ARG002 - as a handler is told
        """Until further notice, records are read."""
        self._is_watching = False

    async def resumed(self) -> None:
        """All records have been told of."""
        self._is_watching = True


class _MetadataOnly:
    """A cluster, of whose objects a reflector is told the metadata alone."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        return await self._cluster.get(kind, namespace, name)

    def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing, None]:
        return self._cluster.pages(kind, namespace=namespace, labels=labels, fields=fields, only_metadata=True)

    def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        return self._cluster.watch(
            kind,
            resource_version=resource_version,
            namespace=namespace,
            labels=labels,
            fields=fields,
            only_metadata=True,
        )
