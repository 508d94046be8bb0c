"""The watch of Helm's records, on a real API server: what is remembered of a release holds while nobody writes."""

from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.helm.known import KnownReleases, Newest
from tidelog.engine.helm.storage import Info, Record, RecordedChart, Release, secret_name
from tidelog.engine.helm.store import SECRET, ReleaseStore
from tidelog.engine.runtime.watching.records import RecordWatch

TIME = "2026-01-02T03:04:05Z"
LIMIT_S = 60
SECRET_VALUE = "not-to-be-kept"


def record(version: int, status: str = "deployed") -> Record:
    metadata = {"name": "box", "version": "1.2.3", "apiVersion": "v2"}
    chart = RecordedChart(metadata, templates=msgspec.Raw(b'[{"name": "a", "data": "Yg=="}]'))
    info = Info(TIME, TIME, None, "As it was", status)
    return Record(Release("box", info, chart, config={"password": SECRET_VALUE}, manifest="a: b\n", version=version))


@pytest.fixture
async def cluster(kubernetes: Servers) -> AsyncIterator[Cluster]:
    async with open_cluster(kubernetes.kubeconfig) as opened:
        yield opened


@pytest.fixture
async def watch(cluster: Cluster, namespace: str) -> AsyncIterator[RecordWatch]:
    records = RecordWatch(cluster, namespace)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(records.run)
        yield records
        tasks.cancel_scope.cancel()


async def until(watch: RecordWatch, namespace: str, *, remembered: bool) -> Newest | None:
    with anyio.fail_after(LIMIT_S):
        while ((found := watch.newest(namespace, "box")) is not None) is not remembered:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    return found


async def read(cluster: Cluster, namespace: str, watch: RecordWatch) -> KnownReleases:
    """What a pass does that finds all as it is to be."""
    known = KnownReleases(cluster, namespace)
    newest = Newest.of(await known.last("box"), None)
    assert newest is not None
    watch.keep(namespace, "box", newest, known.resource_versions("box"))
    return known


async def test_what_was_read_is_remembered_without_what_is_large_or_secret(
    cluster: Cluster, namespace: str, watch: RecordWatch
) -> None:
    await ReleaseStore(cluster, namespace).create(record(1), now=0.0)
    assert watch.newest(namespace, "box") is None
    known = await read(cluster, namespace, watch)
    found = await until(watch, namespace, remembered=True)
    assert found == Newest.of(await known.last("box"), None).without_files()  # type: ignore[union-attr]
    assert found is not None
    assert SECRET_VALUE.encode() not in msgspec.json.encode(found)
    assert found.release.chart == RecordedChart({"name": "box", "version": "1.2.3", "apiVersion": "v2"})
    assert (found.release.manifest, found.release.info.status) == ("", "deployed")


async def test_it_is_forgotten_when_another_writes(cluster: Cluster, namespace: str, watch: RecordWatch) -> None:
    store = ReleaseStore(cluster, namespace)
    await store.create(record(1), now=0.0)
    await read(cluster, namespace, watch)
    await until(watch, namespace, remembered=True)
    await store.create(record(2), now=0.0)
    await until(watch, namespace, remembered=False)
    await read(cluster, namespace, watch)
    await until(watch, namespace, remembered=True)
    await store.update(record(2, "failed"), now=0.0)
    await until(watch, namespace, remembered=False)
    await read(cluster, namespace, watch)
    await until(watch, namespace, remembered=True)
    await store.delete("box", 1)
    await until(watch, namespace, remembered=False)
    await read(cluster, namespace, watch)
    await until(watch, namespace, remembered=True)
    unlabelled = {"metadata": {"labels": {"owner": None}}}
    await cluster.patch(SECRET, namespace, secret_name("box", 2), unlabelled, type="merge", manager="test")
    await until(watch, namespace, remembered=False)


async def test_what_the_pass_itself_wrote_is_known(cluster: Cluster, namespace: str, watch: RecordWatch) -> None:
    await ReleaseStore(cluster, namespace).create(record(1), now=0.0)
    known = await read(cluster, namespace, watch)
    await until(watch, namespace, remembered=True)
    await known.create(record(2, "pending-upgrade"), now=0.0)
    await known.update(record(1, "superseded"), now=0.0)
    await known.update(record(2), now=0.0)
    newest = Newest.of(await known.last("box"), None)
    assert newest is not None
    watch.keep(namespace, "box", newest, known.resource_versions("box"))
    found = await until(watch, namespace, remembered=True)
    assert found is not None
    assert found.release.version == 2


async def test_nothing_is_remembered_where_the_watch_is_interrupted(
    cluster: Cluster, namespace: str, watch: RecordWatch
) -> None:
    await ReleaseStore(cluster, namespace).create(record(1), now=0.0)
    await read(cluster, namespace, watch)
    await until(watch, namespace, remembered=True)
    await watch.interrupted("the server is gone")
    assert watch.newest(namespace, "box") is None
    await watch.resumed()
    assert watch.newest(namespace, "box") is not None
