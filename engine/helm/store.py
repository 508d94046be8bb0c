"""Where release records live: Secrets of a namespace, as Helm's own storage driver keeps them (contract HR-108)."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

import anyio.to_thread
import msgspec

from tidelog.engine.cluster.errors import AlreadyExistsError, ClusterError, NotFoundError
from tidelog.engine.cluster.port import Cluster, Identity, Kind
from tidelog.engine.helm.errors import RecordError, RecordExistsError, RecordTooLargeError
from tidelog.engine.helm.releases import DEPLOYED, full_name
from tidelog.engine.helm.storage import Record, read_secret, record_secret, secret_name
from tidelog.engine.objects.kube import KubeObject

MANAGER: Final = "helm-controller"
SECRET: Final = Kind("", "v1", "Secret", "secrets", namespaced=True)
SECRET_BYTES_MAX: Final = 1024 * 1024
"""Of the data of a Secret: Kubernetes' own limit."""
NAME_MAX: Final = 53
PAGE: Final = 10
"""Records in a page of a list, for each may have a MiB."""
_TRIES: Final = 3
_valid_name: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Revision(msgspec.Struct, frozen=True):
    """What the labels of a record say, without its content."""

    version: int
    status: str
    secret: str = ""
    """What the Secret is called."""
    resource_version: str = ""
    """Of that."""


class ReleaseStore:
    """The release records in a namespace.

    What the cluster's port raises comes through, besides the errors that are named. Records are packed and unpacked in
    threads, as a large one takes a while.

    Args:
        cluster: where they are.
        namespace: the storage namespace.
        identity: whom to act as; nobody else where it is None.
    """

    def __init__(self, cluster: Cluster, namespace: str, identity: Identity | None = None) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity

    async def revisions(self, name: str) -> list[Revision]:
        """Which records of a release there are, newest first; none of them is read."""
        table = await self._cluster.table(
            SECRET,
            namespace=self._namespace,
            labels=_selector(name),
            objects="Metadata",
            identity=self._identity,
        )
        found = [_revision(row.object) for row in table.rows if row.object is not None]
        return sorted(found, key=lambda revision: revision.version, reverse=True)

    async def history(self, name: str) -> list[Record]:
        """All records of a release, newest first.

        Raises:
            RecordError: when one cannot be read; it names the Secret.
        """
        listing = await self._cluster.list(
            SECRET, namespace=self._namespace, labels=_selector(name), limit=PAGE, identity=self._identity
        )
        found = await anyio.to_thread.run_sync(_read_all, listing.items)
        return sorted(found, key=lambda record: record.release.version, reverse=True)

    async def last(self, name: str) -> Record | None:
        """The newest record of a release, and no other is read; None when there is none.

        Raises:
            RecordError: when it cannot be read; it names the Secret.
        """
        for _ in range(_TRIES):
            revisions = await self.revisions(name)
            if not revisions:
                return None
            found = await self.get(name, revisions[0].version)
            if found is not None:
                return found
        raise RecordError(
            f"the records of release {self._namespace}/{name} change faster than they can be read; "
            "see who else acts on it"
        )

    async def get(self, name: str, version: int) -> Record | None:
        """One record; None when it is not there.

        Raises:
            RecordError: when it cannot be read; it names the Secret.
        """
        _selector(name)
        try:
            secret = await self._cluster.get(
                SECRET, self._namespace, secret_name(name, version), identity=self._identity
            )
        except NotFoundError:
            return None
        found = await anyio.to_thread.run_sync(read_secret, secret)
        if (found.release.name, found.release.version) != (name, version):
            # Version after version would be made of it, and the newest would stay what it is.
            raise RecordError(
                f"the Secret {self._namespace}/{secret['metadata']['name']} holds another release than its name says; "
                "delete it, or take off its label owner"
            )
        return found

    async def create(self, record: Record, now: float) -> str:
        """Writes a record of a new revision.

        Args:
            record: the release.
            now: seconds since 1970.

        Returns:
            The Secret's resource version.

        Raises:
            RecordExistsError: when the revision is there.
            RecordTooLargeError: when a Secret cannot hold it.
        """
        secret = await anyio.to_thread.run_sync(
            lambda: record_secret(record, self._namespace, created_at=int(now)),
        )
        _require_size(secret, record)
        try:
            made = await self._cluster.create(secret, manager=MANAGER, identity=self._identity)
        except AlreadyExistsError:
            raise RecordExistsError(
                f"there is a record of {full_name(record.release)} already: "
                f"the Secret {self._namespace}/{secret['metadata']['name']}; another acted on the release meanwhile"
            ) from None
        return _resource_version(made)

    async def update(self, record: Record, now: float) -> str:
        """Writes a record again that is there, whoever wrote it last, as Helm does.

        Args:
            record: the release.
            now: seconds since 1970.

        Returns:
            The Secret's resource version.

        Raises:
            RecordTooLargeError: when a Secret cannot hold it.
        """
        secret = await anyio.to_thread.run_sync(
            lambda: record_secret(record, self._namespace, modified_at=int(now)),
        )
        _require_size(secret, record)
        return _resource_version(await self._cluster.replace(secret, manager=MANAGER, identity=self._identity))

    async def delete(self, name: str, version: int) -> None:
        """Deletes a record, if it is there."""
        _selector(name)
        with suppress(NotFoundError):
            await self._cluster.delete(SECRET, self._namespace, secret_name(name, version), identity=self._identity)

    async def trim(self, name: str, keep: int, protected: Collection[int] = ()) -> list[int]:
        """Makes room for one record more, as Helm does before it writes it: with that one there are `keep`.

        The oldest go first. The last deployed one stays, though there are then more.

        Args:
            name: of the release.
            keep: how many records there may be; 0 for as many as there are.
            protected: revisions that stay too.

        Returns:
            The revisions that were deleted, oldest first.
        """
        if keep <= 0:
            return []
        gone: list[int] = []
        errors: list[ClusterError] = []
        for version in surplus(await self.revisions(name), keep - 1, protected):
            try:
                await self.delete(name, version)
            except ClusterError as error:
                errors.append(error)
            else:
                gone.append(version)
        if errors:
            # What could be deleted is: where the server slows us down, the next trim goes on.
            raise errors[0]
        return gone


def surplus(revisions: Sequence[Revision], maximum: int, protected: Collection[int] = ()) -> list[int]:
    """The revisions beyond `maximum`, oldest first, without the last deployed one and those that are protected."""
    deployed = max((found.version for found in revisions if found.status == DEPLOYED), default=None)
    old = sorted(found.version for found in revisions)
    spare = [version for version in old if version != deployed and version not in protected]
    return spare[: max(0, len(old) - maximum)]


def _selector(name: str) -> str:
    """The labels of a release's records.

    Raises:
        RecordError: when no release can be called so; as a selector, the name might choose others' Secrets.
    """
    if len(name) > NAME_MAX or not _valid_name.fullmatch(name):
        raise RecordError(
            f"{name[:NAME_MAX]!r} cannot be the name of a release: "
            f"it has to be of a-z, 0-9, - and ., and of {NAME_MAX} characters at most"
        )
    return f"name={name},owner=helm"


def _resource_version(secret: KubeObject) -> str:
    version: str = secret["metadata"]["resourceVersion"]
    return version


def _revision(secret: KubeObject) -> Revision:
    metadata = secret["metadata"]
    labels = metadata.get("labels") or {}
    version = str(labels.get("version", ""))
    if not version.isdecimal():
        raise RecordError(
            f"the Secret {metadata['name']} is labelled as a release record, and its label version is no number; "
            "correct it, or take off its label owner"
        )
    return Revision(int(version), str(labels.get("status", "")), metadata["name"], metadata["resourceVersion"])


def _read_all(secrets: Sequence[KubeObject]) -> list[Record]:
    return [read_secret(secret) for secret in secrets]


def _require_size(secret: KubeObject, record: Record) -> None:
    text = secret["data"]["release"]
    size = len(text) * 3 // 4 - text[-2:].count("=")
    if size > SECRET_BYTES_MAX:
        raise RecordTooLargeError(
            f"the record of release {full_name(record.release)} takes {size} bytes, packed, and a Secret holds "
            f"{SECRET_BYTES_MAX} at most; make the chart smaller: a record has all of its files (.helmignore leaves "
            "some out) and its manifest"
        )
