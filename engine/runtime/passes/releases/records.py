"""Helm's records of a release, as the log keeps and tells them."""

from collections.abc import Sequence

import anyio.to_thread
import msgspec

from tidelog.engine.helm.decisions import SNAPSHOT_VERSION
from tidelog.engine.helm.releases import digest_beside
from tidelog.engine.helm.storage import Release, decode_release, encode_release, snapshot_digest
from tidelog.engine.helm.values import values_digest
from tidelog.engine.kinds.helmrelease import HelmReleaseStatus
from tidelog.engine.runtime.context import Engine
from tidelog.events.bodies import Body, BodyRef
from tidelog.events.canonical import encode
from tidelog.events.names import StreamName
from tidelog.events.projections.releases import ReleaseRow
from tidelog.events.vocabulary import ReleaseAdopted, ReleaseSnapshot
from tidelog.events.vocabulary.release import ReleaseTest
from tidelog.storage.keys import DataKey
from tidelog.storage.log.sqlite_log import SqliteLogReader
from tidelog.storage.sealed import key_id_of


class LostRecordError(Exception):
    """Raised for a record whose key was destroyed (`tidelog log forget`)."""


def snapshot_of(
    release: Release,
    *,
    action: str = "",
    oci_digest: str = "",
    tests: Sequence[ReleaseTest] = (),
    tested: bool = False,
) -> ReleaseSnapshot:
    """A version of a release, as a status tells it (contract HR-123)."""
    chart = (release.chart.metadata if release.chart else None) or {}
    info = release.info
    return ReleaseSnapshot(
        name=release.name,
        namespace=release.namespace,
        version=release.version,
        status=info.status,
        digest=snapshot_digest(release, oci_digest),
        chart_name=str(chart.get("name") or ""),
        chart_version=str(chart.get("version") or ""),
        app_version=str(chart.get("appVersion") or ""),
        config_digest=values_digest(release.config or {}),
        first_deployed=info.first_deployed or "",
        last_deployed=info.last_deployed or "",
        deleted=info.deleted or "",
        action=action,
        oci_digest=oci_digest,
        api_version=SNAPSHOT_VERSION,
        tests=tuple(tests),
        tested=tested,
    )


def changed(before: ReleaseSnapshot | None, release: Release, action: str = "") -> ReleaseSnapshot:
    """A version whose record has changed; what the log alone knows of it stays."""
    if before is None:
        return snapshot_of(release, action=action)
    return snapshot_of(
        release,
        action=action or before.action,
        oci_digest=before.oci_digest,
        tests=before.tests,
        tested=before.tested,
    )


def find(row: ReleaseRow, release: Release) -> ReleaseSnapshot | None:
    """What is known of a version."""
    named = release.name, release.namespace, release.version
    return next((one for one in row.history if (one.name, one.namespace, one.version) == named), None)


async def sealed_record(engine: Engine, stream: StreamName, release: Release) -> Body:
    """A record as the log keeps it: gzipped, and sealed, as values and manifests may hold what is secret."""
    data = await anyio.to_thread.run_sync(encode_release, release)
    return (await engine.keys.key(stream)).seal(data)


async def sealed_texts(engine: Engine, stream: StreamName, texts: Sequence[str]) -> Body:
    """Texts that are secret, as the log keeps them."""
    return (await engine.keys.key(stream)).seal(encode(list(texts)))


async def opened_texts(log: SqliteLogReader, key: DataKey, reference: BodyRef) -> list[str]:
    """Texts that the log keeps; none where their key was destroyed."""
    body = await log.body(reference.digest)
    if key_id_of(body) != key.id:
        return []
    return msgspec.json.decode(key.open(body), type=list[str])


async def opened_record(log: SqliteLogReader, key: DataKey, reference: BodyRef) -> Release:
    """A record that the log keeps.

    Args:
        log: the log.
        key: of the stream of the HelmRelease.
        reference: the record.

    Raises:
        LostRecordError: when its key was destroyed.
    """
    body = await log.body(reference.digest)
    if key_id_of(body) != key.id:
        raise LostRecordError("the record of the release was forgotten")
    return await anyio.to_thread.run_sync(decode_release, key.open(body))


def is_as_known(release: Release, snapshot: ReleaseSnapshot) -> bool:
    """Whether the record of a version is the one that was left there (contract HR-073, HR-095)."""
    return snapshot.api_version != SNAPSHOT_VERSION or snapshot.digest == digest_beside(release, snapshot)


def adopted(status: HelmReleaseStatus) -> ReleaseAdopted:
    """What a status says that another engine has written."""
    history = tuple(
        ReleaseSnapshot(
            name=one.name,
            namespace=one.namespace,
            version=one.version,
            status=one.status,
            digest=one.digest,
            chart_name=one.chart_name,
            chart_version=one.chart_version,
            app_version=one.app_version,
            config_digest=one.config_digest,
            first_deployed=one.first_deployed,
            last_deployed=one.last_deployed,
            deleted=one.deleted,
            action=one.action,
            oci_digest=one.oci_digest,
            api_version=one.api_version,
            tests=tuple(
                ReleaseTest(name=name, phase=hook.phase, started=hook.last_started, completed=hook.last_completed)
                for name, hook in sorted((one.test_hooks or {}).items())
            ),
            tested=one.test_hooks is not None,
        )
        for one in sorted(status.history, key=lambda one: -one.version)
    )
    return ReleaseAdopted(
        history=history,
        storage_namespace=status.storage_namespace or "",
        failures=status.failures,
        install_failures=status.install_failures,
        upgrade_failures=status.upgrade_failures,
        last_action=status.last_attempted_release_action or "",
        attempted_generation=status.last_attempted_generation,
        attempted_version=status.last_attempted_revision,
        attempted_config=status.last_attempted_config_digest,
        observed_generation=status.observed_generation,
        post_renderers=status.observed_post_renderers_digest,
        common_metadata=status.observed_common_metadata_digest,
        handled_force=status.last_handled_force_at,
        handled_reset=status.last_handled_reset_at,
        helm_chart=None if status.helm_chart_key is None else status.helm_chart_key.id,
    )
