"""`tidelog run --repo`: what is looked at before anything is written, and what is then made."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import click
import pytest

from tests.servers.repositories import Repository
from tidelog.engine.cli.bootstrap import Bootstrap, differences, look, make, make_when_gone, wanted_objects
from tidelog.engine.cluster.errors import NotFoundError, UnknownKindError
from tidelog.engine.cluster.port import Applied, Cluster, Kind
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.fetcher import GitFetcher
from tidelog.storage.artifacts.store import ArtifactStore

NAMESPACE = "flux-system"
DELETED = {"deletionTimestamp": "2026-11-25T10:00:00Z"}


class SmallCluster:
    """What is there, by kind; and what was written."""

    def __init__(self) -> None:
        self.objects: dict[str, KubeObject] = {}
        self.written: list[str] = []
        self.serves = True

    async def kind(self, api_version: str, kind: str) -> Kind:
        if not self.serves:
            raise UnknownKindError(f"{kind} is not served")
        group, _, version = api_version.rpartition("/")
        return Kind(group, version, kind, f"{kind.lower()}s", namespaced=True)

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        assert (namespace, name) == (NAMESPACE, "flux-system")
        if kind.kind not in self.objects:
            raise NotFoundError(f"no {kind.kind}")
        return self.objects[kind.kind]

    async def apply(self, obj: KubeObject, *, manager: str) -> Applied:
        assert manager == "tidelog"
        self.written.append(obj["kind"])
        live = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(len(self.written))}}
        self.objects[obj["kind"]] = live
        return Applied(live, created=True)

    def has(self, bootstrap: Bootstrap) -> None:
        """What that asks for is there."""
        for obj in wanted_objects(bootstrap, NAMESPACE):
            self.objects[obj["kind"]] = obj | {"metadata": obj["metadata"] | {"resourceVersion": "0"}}


@pytest.fixture
def cluster() -> SmallCluster:
    return SmallCluster()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = Repository.create(tmp_path / "shop")
    made.commit({"clusters/east/a.yaml": "kind: A\n", "file": "x"})
    return made.path


class Daemon:
    """What of a daemon reads repositories."""

    def __init__(self, fetcher: GitFetcher, artifacts: ArtifactStore) -> None:
        self.fetcher = fetcher
        self.artifacts = artifacts

    async def look(self, cluster: SmallCluster, bootstrap: Bootstrap) -> None:
        await look(cast("Cluster", cluster), self.fetcher, self.artifacts, bootstrap, NAMESPACE)


@pytest.fixture
async def daemon(tmp_path: Path, repository: Path) -> AsyncIterator[Daemon]:
    store = tmp_path / "store"
    store.mkdir()
    artifacts = await anyio.to_thread.run_sync(ArtifactStore.open, store)
    async with GitFetcher(artifacts, local=repository) as fetcher:
        yield Daemon(fetcher, artifacts)
    await anyio.to_thread.run_sync(artifacts.close)


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


def asked(
    repo: Path | str, path: str = "./clusters/east", branch: str = "main", *, confirmed: bool = False
) -> Bootstrap:
    local = None if "://" in str(repo) else Path(repo)
    return Bootstrap(repo=str(repo), local=local, path=path, branch=branch, interval="1m", confirmed=confirmed)


async def test_what_makes_sense_is_let_through_whether_the_kinds_are_there_or_not(
    cluster: SmallCluster, daemon: Daemon, repository: Path
) -> None:
    for serves in (False, True):
        cluster.serves = serves
        for path in ("./clusters/east", "clusters/east/", "./", ".", ""):
            await daemon.look(cluster, asked(repository, path))
    assert cluster.written == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"repo": "/nonexistent"}, "--repo: there is no directory /nonexistent"),
        ({"branch": "prod"}, "has not the branch 'prod': push it, or correct --branch"),
        (
            {"path": "./clusters/west"},
            r"has no directory './clusters/west' at main@sha1:\w+: push it",
        ),
        ({"path": "file"}, "has no directory 'file'"),
        ({"path": "../../etc"}, "has no directory"),
    ],
)
async def test_what_cannot_be_had_is_refused_even_where_it_was_confirmed(
    cluster: SmallCluster, daemon: Daemon, repository: Path, wrong: dict[str, Any], said: str
) -> None:
    cluster.has(asked("https://example.com/fleet.git"))
    with pytest.raises(FetchError, match=said):
        await daemon.look(cluster, asked(**({"repo": str(repository)} | wrong), confirmed=True))
    assert cluster.written == []


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"repo": "https://example.com/fleet.git"}, "has the repository https://example.com/fleet.git, and "),
        ({"repo": "/elsewhere/shop"}, "has the repository /elsewhere/shop, and "),
        ({"branch": "prod"}, "has the reference branch prod, and branch main was asked for"),
        ({"path": "./clusters/west"}, "has the path ./clusters/west, and ./clusters/east was asked for"),
    ],
)
async def test_what_is_there_and_says_otherwise_is_changed_only_when_somebody_says_so(
    cluster: SmallCluster, daemon: Daemon, repository: Path, there: dict[str, Any], said: str
) -> None:
    cluster.has(asked(**({"repo": str(repository)} | there)))
    with pytest.raises(RefusedError, match=said) as refused:
        await daemon.look(cluster, asked(repository))
    assert "--yes" in str(refused.value)
    await daemon.look(cluster, asked(repository, confirmed=True))
    assert cluster.written == []


async def test_in_a_terminal_it_is_asked(
    cluster: SmallCluster, daemon: Daemon, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    cluster.has(asked(repository, branch="prod"))
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    await daemon.look(cluster, asked(repository))
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(click.Abort):
        await daemon.look(cluster, asked(repository))


async def test_a_daemon_starts_again_while_the_repository_that_is_there_is_away(
    cluster: SmallCluster, daemon: Daemon
) -> None:
    away = "https://nowhere.invalid/fleet.git"
    cluster.has(asked(away, path="clusters/east"))
    await daemon.look(cluster, asked(away, path="./clusters/east/"))


async def test_what_is_being_deleted_counts_for_nothing(
    cluster: SmallCluster, daemon: Daemon, repository: Path
) -> None:
    cluster.has(asked("https://example.com/fleet.git"))
    for live in cluster.objects.values():
        live["metadata"] |= DELETED
    await daemon.look(cluster, asked(repository))


async def test_the_same_directory_is_nothing_else_after_it_was_handed_back(
    cluster: SmallCluster, daemon: Daemon, repository: Path
) -> None:
    for directory, same in ((repository, True), (repository.parent / "other", False)):
        cluster.has(asked(directory))
        cluster.objects["GitRepository"]["metadata"]["annotations"] = {"another": "stays"}
        if same:
            await daemon.look(cluster, asked(repository))
        else:
            with pytest.raises(RefusedError, match=r"has the repository https://localhost/.*/other, and "):
                await daemon.look(cluster, asked(repository))


async def test_a_source_that_follows_a_tag_is_another(repository: Path) -> None:
    source, _ = wanted_objects(asked(repository), NAMESPACE)
    other = source | {"spec": source["spec"] | {"ref": {"tag": "v1"}, "interval": "1h"}}
    assert [one.field for one in differences(other, source)] == ["reference"]


async def test_source_and_target_are_made_and_what_is_being_deleted_once_it_is_gone(
    cluster: SmallCluster, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.engine.cli.bootstrap.LOOK_S", 0.001)
    bootstrap = asked(repository)
    assert await make(cast("Cluster", cluster), bootstrap, NAMESPACE) == []
    assert cluster.written == ["Namespace", "GitRepository", "Kustomization"]

    cluster.objects["Kustomization"]["metadata"] |= DELETED
    cluster.written.clear()
    waiting = await make(cast("Cluster", cluster), bootstrap, NAMESPACE)
    assert cluster.written == ["Namespace", "GitRepository"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make_when_gone, cast("Cluster", cluster), waiting)
        await anyio.wait_all_tasks_blocked()
        assert cluster.written == ["Namespace", "GitRepository"]
        del cluster.objects["Kustomization"]
    assert cluster.written == ["Namespace", "GitRepository", "Kustomization"]
