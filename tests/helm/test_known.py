"""What a pass knows of Helm's records is asked for once, and what it wrote is known."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.helm.errors import RecordExistsError
from tidelog.engine.helm.known import KnownReleases
from tidelog.engine.helm.storage import Info, Record, RecordedChart, Release
from tidelog.engine.helm.store import ReleaseStore

NOW = 1_767_323_045.5


class Counting:
    """A cluster that counts what is asked of it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self._cluster, name)


@pytest.fixture
async def cluster(kubernetes: Servers) -> AsyncIterator[Cluster]:
    async with open_cluster(kubernetes.kubeconfig) as cluster:
        yield cluster


@pytest.fixture
def counting(cluster: Cluster) -> Counting:
    return Counting(cluster)


@pytest.fixture
def known(counting: Counting, namespace: str) -> KnownReleases:
    return KnownReleases(counting, namespace)


def record(version: int, status: str, name: str = "box") -> Record:
    release = Release(name=name, info=Info(status=status), chart=RecordedChart(), version=version, namespace="space")
    return Record(release, {"of": "us"})


async def test_an_upgrade_asks_for_each_record_once(
    known: KnownReleases, counting: Counting, cluster: Cluster, namespace: str
) -> None:
    store = ReleaseStore(cluster, namespace)
    await store.create(record(1, "superseded"), NOW)
    await store.create(record(2, "deployed"), NOW)
    assert await known.last("box") == record(2, "deployed")
    assert await known.last("box") == record(2, "deployed")
    assert await known.get("box", 3) is None
    assert await known.trim("box", 3) == []
    await known.create(record(3, "pending-upgrade"), NOW)
    assert await known.get("box", 2) == record(2, "deployed")
    await known.update(record(2, "superseded"), NOW)
    await known.update(record(3, "deployed"), NOW)
    assert await known.last("box") == record(3, "deployed")
    assert counting.asked == {"table": 1, "get": 1, "create": 1, "replace": 2}
    found = await known.revisions("box")
    assert [(one.version, one.status) for one in found] == [(3, "deployed"), (2, "superseded"), (1, "superseded")]
    assert found == await store.revisions("box"), "with the versions of their Secrets"


async def test_an_install_asks_once_whether_there_is_one(known: KnownReleases, counting: Counting) -> None:
    assert await known.last("box") is None
    assert await known.last("box") is None
    assert await known.get("box", 1) is None
    await known.create(record(1, "pending-install"), NOW)
    await known.update(record(1, "deployed"), NOW)
    assert await known.last("box") == record(1, "deployed")
    assert counting.asked == {"table": 1, "create": 1, "replace": 1}


async def test_the_next_pass_of_an_action_reads_the_version_that_it_makes_and_no_list(
    known: KnownReleases, counting: Counting, cluster: Cluster, namespace: str
) -> None:
    await ReleaseStore(cluster, namespace).create(record(1, "pending-install"), NOW)
    assert await known.get("box", 1) == record(1, "pending-install")
    await known.update(record(1, "deployed"), NOW)
    assert await known.last("box") == record(1, "deployed")
    assert counting.asked == {"get": 1, "replace": 1}


async def test_a_version_that_another_made_meanwhile_is_read_then(
    known: KnownReleases, cluster: Cluster, namespace: str
) -> None:
    assert await known.last("box") is None
    theirs = record(1, "deployed")
    await ReleaseStore(cluster, namespace).create(theirs, NOW)
    with pytest.raises(RecordExistsError):
        await known.create(record(1, "pending-install"), NOW)
    assert await known.last("box") == theirs
    assert await known.get("box", 1) == theirs


async def test_what_is_gone_is_read_anew(known: KnownReleases, cluster: Cluster, namespace: str) -> None:
    store = ReleaseStore(cluster, namespace)
    for version, status in ((1, "superseded"), (2, "deployed")):
        await store.create(record(version, status), NOW)
    assert len(await known.revisions("box")) == 2
    await store.delete("box", 2)
    assert await known.last("box") == record(1, "superseded")
    await known.delete("box", 1)
    assert await known.last("box") is None
    assert await known.get("box", 1) is None


async def test_releases_of_one_namespace_are_told_apart(known: KnownReleases) -> None:
    await known.create(record(1, "deployed"), NOW)
    assert await known.last("other") is None
    assert await known.last("box") == record(1, "deployed")
