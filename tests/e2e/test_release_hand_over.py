"""Releases that the helm command and this engine have in turn: nothing is made anew (contract 4.5, HR-108, HR-125)."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from tests.e2e.releases import HELM, Releases, chart, told
from tests.e2e.world import SOURCE, World, is_ready
from tests.oracles.helm import helm
from tidelog.engine.helm.storage import Record, snapshot_digest
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.helm.values import values_digest
from tidelog.events.vocabulary import ReleaseActionStarted

Command = Callable[..., Awaitable[str]]
SECRET = 'apiVersion: v1\nkind: Secret\nmetadata: {name: "{{ .Release.Name }}-secret"}\nstringData: {a: b}\n'
# Of no Pods, for nothing runs them here. What is left out is filled in by the server: nobody may take that away.
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-pods", labels: {colour: "{{ .Values.colour }}"}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        ports: [{containerPort: 80}]
        env: [{name: A, value: b}]
        resources: {limits: {memory: 64Mi}}
"""
TEMPLATES = {"secret": SECRET, "deployment": DEPLOYMENT}


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


@pytest.fixture
def command(world: World, tmp_path: Path) -> Command:
    """The helm command, in the test's namespace."""
    where = ("--kubeconfig", str(world.kubeconfig), "--namespace", world.namespace)

    async def run(*words: str, fails: bool = False) -> str:
        return await anyio.to_thread.run_sync(lambda: helm(*words, *where, home=tmp_path, fails=fails))

    return run


def write_chart(folder: Path, version: str = "1.0.0") -> str:
    """The chart that is in the repository, in a folder."""
    for path, text in chart(version, **TEMPLATES).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))
    return str(folder / "charts/web")


async def identities(world: World) -> dict[str, tuple[str, object]]:
    """Of the release's objects: the uid, and what the Pods of the Deployment would be restarted for."""
    found: dict[str, tuple[str, object]] = {}
    for version, kind, name in (
        ("v1", "ConfigMap", "web"),
        ("v1", "Secret", "web-secret"),
        ("apps/v1", "Deployment", "web-pods"),
    ):
        live = await world.get(version, kind, name)
        assert live is not None, name
        spec = (live["metadata"]["generation"], live["spec"]["template"]) if kind == "Deployment" else None
        found[name] = live["metadata"]["uid"], spec
    return found


async def begin(releases: Releases) -> None:
    await releases.commit("1.0.0", **TEMPLATES)
    await releases.world.source()


async def test_helm_sees_and_acts_on_what_was_released_here(releases: Releases, command: Command) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release(values={"colour": "blue"})
        await releases.until_version(1)
        before = await identities(world)
        await releases.release(values={"colour": "green"})
        await releases.until_version(2)
        (listed,) = json.loads(await command("list", "-o", "json"))
        assert (listed["name"], listed["revision"], listed["status"]) == ("web", "2", "deployed")
        assert (listed["chart"], listed["app_version"]) == ("web-1.0.0", "9")
        history = json.loads(await command("history", "web", "-o", "json"))
        assert [(one["revision"], one["status"], one["description"]) for one in history] == [
            (1, "superseded", "Install complete"),
            (2, "deployed", "Upgrade complete"),
        ]
        assert "colour: green" in await command("get", "values", "web")
        assert "kind: ConfigMap" in await command("get", "all", "web")
        await running.idle()
    # Nobody looks after it any more: helm goes back, and takes it away.
    await command("rollback", "web", "1", "--force-conflicts")
    assert (await world.data("web") or {})["colour"] == "blue"
    assert await identities(world) == before
    await command("uninstall", "web")
    assert await world.data("web") is None
    assert await releases.statuses() == []
    # And who looks after it again, installs it.
    async with world.daemon():
        await releases.until(lambda obj: is_ready(obj) and obj["status"]["history"][0]["version"] == 1, "again")
        assert (await world.data("web") or {})["colour"] == "green"


async def test_what_is_handed_back_is_upgraded_by_helm(releases: Releases, command: Command, tmp_path: Path) -> None:
    world = releases.world
    await begin(releases)
    path = write_chart(tmp_path)
    await command("install", "web", path, "--set", "colour=helm")
    before = await identities(world)
    async with world.daemon() as running:
        await releases.release(values={"colour": "ours"})
        await releases.until_version(2)
        assert await identities(world) == before
        await releases.release(values={"colour": "ours"}, suspend=True)
        await running.idle()
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        await command("upgrade", "web", path, "--set", "colour=back", "--force-conflicts")
        assert (await world.data("web") or {})["colour"] == "back"
        assert await identities(world) == before
        assert [status for _, status in await releases.statuses()] == ["deployed", "superseded", "superseded"]
        # It comes back once more, and goes for good.
        await releases.release(values={"colour": "ours"})
        await releases.until_version(4)
        assert await identities(world) == before
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await releases.statuses() == []
        assert await world.data("web") is None


@pytest.mark.parametrize("digest", ["sha256:", "sha512:", "wrong"])
async def test_what_flux_released_is_in_sync_as_long_as_its_digest_is_right(
    releases: Releases, command: Command, tmp_path: Path, digest: str
) -> None:
    world = releases.world
    await begin(releases)
    values = {"colour": "flux"}
    await command("install", "web", write_chart(tmp_path), "--set", "colour=flux")
    before = await identities(world)
    (release,) = await releases.records()
    await releases.release(values=values)
    snapshot = {
        "apiVersion": "v2",
        "name": "web",
        "namespace": world.namespace,
        "version": 1,
        "status": "deployed",
        "action": "install",
        "digest": snapshot_digest(release, like=digest) if digest != "wrong" else "sha256:" + "0" * 64,
        "chartName": "web",
        "chartVersion": "1.0.0",
        "appVersion": "9",
        "configDigest": values_digest(values),
        "firstDeployed": release.info.first_deployed,
        "lastDeployed": release.info.last_deployed,
    }
    status = {
        "history": [snapshot],
        "storageNamespace": world.namespace,
        "helmChart": f"{world.namespace}/{world.namespace}-web",
        "lastAttemptedGeneration": 1,
        "lastAttemptedRevision": "1.0.0",
        "lastAttemptedConfigDigest": values_digest(values),
        "lastAttemptedReleaseAction": "install",
        "observedGeneration": 1,
    }
    await releases.set_status(HELM, "HelmRelease", "web", status)
    async with world.daemon() as running:
        await releases.until(is_ready, "ready")
        await running.idle()
        if digest != "wrong":
            assert running.events(ReleaseActionStarted) == []
            assert await releases.statuses() == [(1, "deployed")]
            await releases.release(values={"colour": "ours"})
        found = await releases.until_version(2)
        assert await identities(world) == before
        assert told(found)["Released"] == ("True", "UpgradeSucceeded")
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]


async def test_the_chart_that_flux_made_goes_with_its_template(
    releases: Releases, command: Command, tmp_path: Path
) -> None:
    world = releases.world
    await begin(releases)
    await command("install", "web", write_chart(tmp_path))
    source = {"kind": "GitRepository", "name": "fleet"}
    spec = {"interval": "1h", "chart": "./charts/web", "sourceRef": source}
    owner = {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": world.namespace}
    for name, labels, manager in (("made-by-flux", owner, "helm-controller"), ("named-since", {}, "test")):
        metadata = {"name": name, "labels": labels}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": metadata, "spec": spec}, manager)
    await releases.release(chartRef={"kind": "HelmChart", "name": "named-since"})
    (release,) = await releases.records()
    snapshot = {
        "name": "web",
        "namespace": world.namespace,
        "version": 1,
        "status": "deployed",
        "digest": snapshot_digest(release),
        "chartName": "web",
        "chartVersion": "1.0.0",
        "configDigest": values_digest({}),
        "firstDeployed": release.info.first_deployed,
        "lastDeployed": release.info.last_deployed,
    }
    chart = f"{world.namespace}/made-by-flux"
    status = {"history": [snapshot], "storageNamespace": world.namespace, "helmChart": chart}
    await releases.set_status(HELM, "HelmRelease", "web", status)
    async with world.daemon():
        await releases.until(is_ready, "ready")
        await world.until_gone(SOURCE, "HelmChart", "made-by-flux")
        found = await releases.until(lambda obj: "helmChart" not in obj["status"], "told")
        assert found["status"]["history"][0]["version"] == 1


async def test_helm_upgrades_meanwhile_and_what_it_left_pending_is_put_right(
    releases: Releases, command: Command, tmp_path: Path
) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        before = await identities(world)
        await running.idle()
    await command("upgrade", "web", write_chart(tmp_path), "--set", "colour=helm", "--force-conflicts")
    store = ReleaseStore(world.cluster, world.namespace)
    record = await store.get("web", 2)
    assert record is not None
    info = msgspec.structs.replace(record.release.info, status="pending-upgrade")
    await store.update(Record(msgspec.structs.replace(record.release, info=info), record.labels), 1.0)
    assert "another operation" in await command("upgrade", "web", str(tmp_path / "charts/web"), fails=True)
    async with world.daemon():
        await releases.until_version(3)
        assert (await world.data("web") or {})["colour"] == "red"
        assert await identities(world) == before
        assert [status for _, status in await releases.statuses()][:1] == ["deployed"]
        assert not any(status.startswith("pending") for _, status in await releases.statuses())
