"""What is asked of a HelmRelease becomes what Flux's tools write, in the version that the kind is served in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.asking.conftest import Run
from tests.servers import embedded_servers
from tidelog.engine.cli.serve import wait_for_kinds
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.kinds.crds import crds
from tidelog.engine.kinds.registry import BY_NAME
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import ReconcileRequested, SourceDeclared, TargetDeclared
from tidelog.storage import ANY, NewEvent, Query, open_log, read_log

GIT = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository"}
TEMPLATE = {"chart": "charts/web", "sourceRef": {"kind": "GitRepository", "name": "shop", "namespace": "flux-system"}}
RELEASE: KubeObject = {
    "apiVersion": "helm.toolkit.fluxcd.io/v2",
    "kind": "HelmRelease",
    "metadata": {"name": "web", "namespace": "apps"},
    "spec": {"interval": "10m", "chart": {"spec": TEMPLATE}},
}
OF_REGISTRY: KubeObject = {
    "apiVersion": "source.toolkit.fluxcd.io/v1",
    "kind": "HelmChart",
    "metadata": {"name": "pulled", "namespace": "flux-system"},
    "spec": {"chart": "web", "interval": "10m", "sourceRef": {"kind": "HelmRepository", "name": "registry"}},
}
OBJECTS: tuple[KubeObject, ...] = (
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}},
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}},
    {
        **GIT,
        "metadata": {"name": "shop", "namespace": "flux-system"},
        "spec": {"url": "https://git.example.com/shop", "interval": "1m"},
    },
    {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "HelmChart",
        "metadata": {"name": "apps-web", "namespace": "flux-system"},
        "spec": {"chart": "charts/web", "interval": "1m", "sourceRef": {"kind": "GitRepository", "name": "shop"}},
    },
    {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "HelmRepository",
        "metadata": {"name": "registry", "namespace": "flux-system"},
        "spec": {"type": "oci", "url": "oci://registry.example.com", "interval": "1m"},
    },
    OF_REGISTRY,
    RELEASE,
)
REQUESTED, FORCED, RESET = (f"reconcile.fluxcd.io/{what}" for what in ("requestedAt", "forceAt", "resetAt"))


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster with a HelmRelease and all that it is made of; no store."""
    monkeypatch.setenv("TIDELOG_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FLUX_SYSTEM_NAMESPACE", raising=False)
    with embedded_servers.start(tmp_path / "cluster") as servers:
        monkeypatch.setenv("KUBECONFIG", str(servers.kubeconfig))
        anyio.run(_fill, servers.kubeconfig, crds())
        yield servers.kubeconfig


async def _fill(kubeconfig: Path, made: Sequence[KubeObject]) -> None:
    async with open_cluster(kubeconfig, None) as cluster:
        for obj in made:
            await cluster.apply(obj, manager="test")
        await wait_for_kinds(cluster, made)
        for obj in OBJECTS:
            await cluster.apply(obj, manager="test")


def live(kubeconfig: Path, kind: str, namespace: str, name: str) -> KubeObject:
    async def get() -> KubeObject:
        async with open_cluster(kubeconfig, None) as cluster:
            found = await cluster.kind(BY_NAME[kind].resource.api_version, kind)
            return await cluster.get(found, namespace, name)

    return anyio.run(get)


def asked(kubeconfig: Path, kind: str, namespace: str, name: str) -> dict[str, str]:
    """The annotations that ask for something."""
    annotations: dict[str, str] = live(kubeconfig, kind, namespace, name)["metadata"].get("annotations") or {}
    return {name: value for name, value in annotations.items() if name in (REQUESTED, FORCED, RESET)}


def test_a_release_is_suspended_and_resumed_without_a_store(kubeconfig: Path, tidelog: Run) -> None:
    done = tidelog("suspend", "hr/web", "-n", "apps", "--why", "incident 7")
    assert done.code == 0, done.err
    assert live(kubeconfig, "HelmRelease", "apps", "web")["spec"]["suspend"] is True
    assert tidelog("reconcile", "hr/web", "-n", "apps", "--no-wait").code == 1
    assert tidelog("resume", "helmrelease", "web", "-n", "apps").code == 0
    assert "suspend" not in live(kubeconfig, "HelmRelease", "apps", "web")["spec"]


def test_what_it_is_made_of_is_asked_first_and_force_and_reset_have_the_same_token(
    kubeconfig: Path, tidelog: Run
) -> None:
    words = ("reconcile", "hr/web", "-n", "apps", "--with-source", "--force", "--reset", "--no-wait")
    done = tidelog(*words)
    assert done.code == 0, done.err
    told = [line.split()[1] for line in done.err.splitlines() if line.startswith("►")]
    assert told == [
        "GitRepository/flux-system/shop:",
        "HelmChart/flux-system/apps-web:",
        "HelmRelease/apps/web:",
    ]
    release = asked(kubeconfig, "HelmRelease", "apps", "web")
    assert set(release) == {REQUESTED, FORCED, RESET}
    assert len(set(release.values())) == 1
    for kind, name in (("GitRepository", "shop"), ("HelmChart", "apps-web")):
        assert set(asked(kubeconfig, kind, "flux-system", name)) == {REQUESTED}
    assert tidelog("reconcile", "hr/web", "-n", "apps", "--no-wait").code == 0
    again = asked(kubeconfig, "HelmRelease", "apps", "web")
    assert again[REQUESTED] != again[FORCED] == release[FORCED], "so that it is a request without force"


def test_a_registry_is_not_asked_for_anything(kubeconfig: Path, tidelog: Run) -> None:
    done = tidelog("reconcile", "helmchart/pulled", "--with-source", "--no-wait")
    assert done.code == 0, done.err
    assert done.err.count("asked for a run") == 1
    assert asked(kubeconfig, "HelmRepository", "flux-system", "registry") == {}


def test_a_chart_that_is_not_there_yet_is_left_out(kubeconfig: Path, tidelog: Run) -> None:
    async def take_away() -> None:
        async with open_cluster(kubeconfig, None) as cluster:
            kind = await cluster.kind("source.toolkit.fluxcd.io/v1", "HelmChart")
            await cluster.delete(kind, "flux-system", "apps-web")

    anyio.run(take_away)
    done = tidelog("reconcile", "hr/web", "-n", "apps", "--with-source", "--no-wait")
    assert (done.code, done.err.count("asked for a run")) == (0, 1), done.err


def test_only_a_release_is_forced(kubeconfig: Path, tidelog: Run) -> None:
    done = tidelog("reconcile", "git/shop", "--force", "--no-wait")
    assert (done.code, "is no HelmRelease" in done.err) == (1, True)
    assert asked(kubeconfig, "GitRepository", "flux-system", "shop") == {}


# With a store, and no daemon.


@pytest.fixture
def logged(kubeconfig: Path, tmp_path: Path) -> Path:
    """A store whose log knows the release, its chart and their repository."""

    async def write() -> None:
        async with open_log(tmp_path / "store") as log:
            for obj in OBJECTS[2:]:
                kind, metadata = obj["kind"], obj["metadata"]
                key = ObjectKey(BY_NAME[kind].resource.group, kind, metadata["namespace"], metadata["name"])
                spec = Body.of(encode(obj["spec"]))
                declared: Any = TargetDeclared if kind == "HelmRelease" else SourceDeclared
                event = declared(uid=metadata["name"], generation=1, spec=spec.ref)
                await log.append(key.stream("default"), ANY, [NewEvent(event)], bodies=[spec])

    anyio.run(write)
    return tmp_path / "store"


def requests(store: Path) -> list[ReconcileRequested]:
    async def read() -> list[ReconcileRequested]:
        async with read_log(store) as log:
            found = [one.event async for one in log.read(Query(types=("ReconcileRequested",)))]
        return [event for event in found if isinstance(event, ReconcileRequested)]

    return anyio.run(read)


def test_force_is_recorded_with_who_and_why_under_the_token_that_the_cluster_is_told(
    kubeconfig: Path, logged: Path, tidelog: Run
) -> None:
    words = ("reconcile", "hr/web", "-n", "apps", "--force", "--with-source", "--why", "again", "--no-wait")
    done = tidelog(*words)
    assert done.code == 0, done.err
    told = asked(kubeconfig, "HelmRelease", "apps", "web")
    assert set(told) == {REQUESTED, FORCED}
    of_release = [one for one in requests(logged) if one.force]
    assert [(one.why, one.token, one.reset) for one in of_release] == [("again", told[FORCED], False)]
    assert told[REQUESTED] == told[FORCED]


def test_what_only_the_cluster_can_be_told_is_refused_without_one(
    logged: Path, tidelog: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    done = tidelog("reconcile", "hr/web", "-n", "apps", "--reset", "--no-wait")
    assert (done.code, "no cluster is at hand" in done.err) == (1, True), done.err
    assert requests(logged) == []
