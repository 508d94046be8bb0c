"""A repository as Flux's users lay it out, with infrastructure and apps as HelmReleases over several HelmRepositories.

It is laid out as the public example of Flux is: Kustomizations that depend on one another, HelmReleases with their
repositories in a base and an overlay. The charts are our own, served on loopback.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.releases import Releases, told
from tests.e2e.test_fleet import flux_target, kustomization
from tests.e2e.world import HELM, SOURCE, Running, World, documents, is_ready, manifest
from tests.oracles.helm import helm
from tests.servers.chart_server import ChartServer, chart_server

ISSUER = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: issuers.{group}
spec:
  group: {group}
  names: {{kind: Issuer, plural: issuers, singular: issuer}}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {{type: object, properties: {{server: {{type: string}}}}}}
"""
CONTROLLER = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-controller"}
data: {replicas: {{ .Values.replicas | quote }}}
"""
HOOK = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-prepared
  annotations: {"helm.sh/hook": "pre-install,pre-upgrade"}
data: {revision: {{ .Release.Revision | quote }}}
"""
APP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data:
  version: {{ .Chart.Version | quote }}
  host: {{ .Values.host | quote }}
  replicas: {{ .Values.replicas | quote }}
---
{{- if .Values.broken }}
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  selector: {matchLabels: {app: podinfo}}
  template:
    metadata: {labels: {app: podinfo}}
    spec: {containers: [{name: podinfo, image: "podinfo:1"}]}
{{- end }}
"""


def write(directory: Path, name: str, values: str, **files: str) -> Path:
    """A chart; `files` by their path, with `__` for a slash."""
    chart = directory / name
    for path, text in {
        "Chart_yaml": f"apiVersion: v2\nname: {name}\nversion: 0.0.0\n",
        "values_yaml": values,
        **files,
    }.items():
        file = chart / path.replace("__", "/").replace("_yaml", ".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return chart


class Repository:
    """A repository of charts, to which versions come."""

    def __init__(self, server: ChartServer, home: Path) -> None:
        self.server = server
        self._home = home

    async def publish(self, chart: Path, version: str) -> None:
        """Packages a version of a chart, and lists it in the index."""
        await anyio.to_thread.run_sync(self._publish, chart, version)

    def _publish(self, chart: Path, version: str) -> None:
        root = self.server.root
        helm("package", chart, "--version", version, "--destination", root, home=self._home)
        helm("repo", "index", root, home=self._home)


WAITS = {"SourceNotReady", "DependencyNotReady", "ArtifactFailed"}
"""Why a release waits for its chart, or for another."""


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[tuple[Repository, Repository]]:
    home = tmp_path / "home"
    home.mkdir()
    roots = tmp_path / "infra", tmp_path / "apps"
    for root in roots:
        root.mkdir()
    with chart_server(roots[0], tls=False) as infra, chart_server(roots[1], tls=False) as apps:
        yield Repository(infra, home), Repository(apps, home)


def repository(name: str, namespace: str, url: str) -> str:
    return manifest(
        SOURCE, "HelmRepository", name, metadata={"namespace": namespace}, spec={"interval": "24h", "url": url}
    )


def release(name: str, namespace: str, chart: str, version: str, source: str, **spec: Any) -> str:
    template = {"chart": chart, "version": version, "sourceRef": {"kind": "HelmRepository", "name": source}}
    whole = {"interval": "30m", "chart": {"spec": {**template, "interval": "12h"}}, **spec}
    return manifest(HELM, "HelmRelease", name, metadata={"namespace": namespace}, spec=whole)


def fleet(ns: str, infra: str, apps: str) -> dict[str, str | bytes]:
    """clusters/production names infrastructure, in two steps, and apps."""
    group = f"issuers-{ns}.example.org"
    return {
        "clusters/production/infrastructure.yaml": documents(
            flux_target("infra-controllers", ns, "./infrastructure/controllers", wait=True),
            flux_target("infra-configs", ns, "./infrastructure/configs", dependsOn=[{"name": "infra-controllers"}]),
        ),
        "clusters/production/apps.yaml": flux_target(
            "apps", ns, "./apps/production", dependsOn=[{"name": "infra-configs"}], wait=True
        ),
        "infrastructure/controllers/kustomization.yaml": kustomization("issuer.yaml"),
        "infrastructure/controllers/issuer.yaml": documents(
            repository("infra", ns, infra),
            release(
                "issuer",
                ns,
                "issuer",
                "1.x",
                "infra",
                targetNamespace=f"{ns}-infra",
                releaseName="issuer",
                install={"createNamespace": True, "crds": "Create"},
                upgrade={"crds": "CreateReplace"},
                values={"replicas": 2},
            ),
        ),
        "infrastructure/configs/kustomization.yaml": kustomization("issuer.yaml"),
        "infrastructure/configs/issuer.yaml": manifest(
            f"{group}/v1", "Issuer", "letsencrypt", metadata={"namespace": ns}, spec={"server": "https://acme.test"}
        ),
        "apps/base/podinfo/kustomization.yaml": kustomization("repository.yaml", "release.yaml"),
        "apps/base/podinfo/repository.yaml": repository("apps", ns, apps),
        "apps/base/podinfo/release.yaml": release(
            "podinfo",
            ns,
            "podinfo",
            "*",
            "apps",
            releaseName="podinfo",
            dependsOn=[{"name": "issuer"}],
            timeout="2s",
            upgrade={"remediation": {"retries": 0, "remediateLastFailure": True}},
            driftDetection={"mode": "enabled"},
            values={"replicas": 1, "host": "podinfo.local"},
        ),
        "apps/production/kustomization.yaml": kustomization("../base/podinfo")
        + "patches:\n- path: podinfo-values.yaml\n  target:\n    kind: HelmRelease\n",
        "apps/production/podinfo-values.yaml": (
            f"apiVersion: {HELM}\nkind: HelmRelease\nmetadata:\n  name: podinfo\n  namespace: {ns}\n"
            'spec:\n  chart:\n    spec:\n      version: ">=1.0.0"\n  values:\n    host: podinfo.production\n'
        ),
    }


@asynccontextmanager
async def running_fleet(
    world: World, repositories: tuple[Repository, Repository], charts: Path
) -> AsyncIterator[tuple[Running, Path]]:
    """The fleet, reconciled from its first commit."""
    infra, apps = repositories
    group = f"issuers-{world.namespace}.example.org"
    issuer = write(
        charts,
        "issuer",
        "replicas: 1\n",
        crds__issuer_yaml=ISSUER.format(group=group),
        templates__controller_yaml=CONTROLLER,
        templates__hook_yaml=HOOK,
    )
    podinfo = write(charts, "podinfo", "replicas: 1\nhost: ''\nbroken: false\n", templates__app_yaml=APP)
    await infra.publish(issuer, "1.0.0")
    await apps.publish(podinfo, "1.0.0")
    world.commit(fleet(world.namespace, infra.server.url, apps.server.url), message="the fleet")
    async with daemon_with_door(world) as running:
        await world.source()
        await world.target("flux-system", "./clusters/production")
        await world.until_applied("flux-system", "infra-controllers", "infra-configs", "apps")
        await running.idle()
        yield running, podinfo


async def test_the_fleet_from_its_first_commit_to_its_end(
    world: World, repositories: tuple[Repository, Repository], tmp_path: Path
) -> None:
    releases, (_, apps) = Releases(world), repositories
    async with running_fleet(world, repositories, tmp_path / "charts") as (running, podinfo):
        assert await world.data("podinfo") == {"version": "1.0.0", "host": "podinfo.production", "replicas": "1"}
        infra = f"{world.namespace}-infra"
        controller = await world.get("v1", "ConfigMap", "issuer-controller", infra)
        assert controller is not None
        assert controller["data"] == {"replicas": "2"}
        group = f"issuers-{world.namespace}.example.org"
        assert await world.get(f"{group}/v1", "Issuer", "letsencrypt") is not None

        # A new version of the chart, in the range of the release.
        await apps.publish(podinfo, "1.1.0")
        await world.ask("HelmRepository", "apps")
        await releases.until_version(2, "1.1.0", "podinfo")
        assert (await world.data("podinfo") or {})["version"] == "1.1.0"
        await running.idle()
        last_week = running.daemon.engine.memory.position

        # One whose objects never become ready: it is rolled back.
        broken = podinfo / "values.yaml"
        good = broken.read_text()
        broken.write_text(good.replace("broken: false", "broken: true"))
        await apps.publish(podinfo, "1.2.0")
        await world.ask("HelmRepository", "apps")
        found = await releases.until(
            lambda obj: told(obj).get("Remediated") == ("True", "RollbackSucceeded"), "rolled back", "podinfo"
        )
        assert told(found)["Released"] == ("False", "UpgradeFailed")
        assert (await world.data("podinfo") or {})["version"] == "1.1.0"
        assert await world.get("apps/v1", "Deployment", "podinfo") is None

        # The next is good again, and somebody changes an object by hand.
        broken.write_text(good)
        await apps.publish(podinfo, "1.3.0")
        await world.ask("HelmRepository", "apps")
        await releases.until(
            lambda obj: is_ready(obj) and "1.3.0" in str(obj["status"]["history"][0]), "1.3", "podinfo"
        )
        await world.patch("v1", "ConfigMap", "podinfo", {"data": {"host": "by hand"}})
        await world.until_data("podinfo", {"version": "1.3.0", "host": "podinfo.production", "replicas": "1"})

        # It goes back to how it was last week, and forward again with the next version.
        await running.idle()
        gone_back = await tidelog(world, "reapply", "hr/podinfo", "--at", last_week, "--why", "1.3 is slow", "--yes")
        assert gone_back.code == 0, gone_back
        await world.until_data("podinfo", {"version": "1.1.0", "host": "podinfo.production", "replicas": "1"})
        await apps.publish(podinfo, "1.4.0")
        await world.ask("HelmRepository", "apps")
        await world.until_data("podinfo", {"version": "1.4.0", "host": "podinfo.production", "replicas": "1"})

        # The app leaves Git.
        await running.idle()
        await world.push({"apps/production/kustomization.yaml": "resources: []\n"}, message="no apps any more")
        await world.until_gone(HELM, "HelmRelease", "podinfo")
        assert await world.data("podinfo") is None
        assert await releases.statuses("podinfo") == []
        await running.idle()
        await its_history_is_complete(world, last_week)


async def its_history_is_complete(world: World, last_week: int) -> None:
    """Each step is in the history of the release, in order, and nothing else is; and so it is of its object."""
    ready = {"outcome": "succeeded", "reason": "", "message": "", "pinned": None, "created": 0, "pruned": 0}
    made = ready | {"configured": 1}
    stalled = {"outcome": "failed", "reason": "RetriesExceeded", "message": "Failed to upgrade after 1 attempt(s)"}
    drifted = f"ConfigMap/{world.namespace}/podinfo was changed: data.host by test"
    pinned = f"Pinned to what it was at position {last_week}, leaving revision 1.3.0: 1.3 is slow"
    expected: list[tuple[str, str, dict[str, Any], list[str]]] = [
        ("revision 1.0.0", "1.0.0", made | {"created": 1, "configured": 0}, ["install podinfo.v1 succeeded"]),
        ("revision 1.1.0", "1.1.0", made, ["upgrade podinfo.v2 succeeded"]),
        # The Deployment comes and goes; the ConfigMap changes, and changes back.
        (
            "revision 1.2.0",
            "1.2.0",
            made | stalled | {"created": 1, "configured": 2, "pruned": 1},
            ["upgrade podinfo.v3 failed", "rollback podinfo.v4 succeeded"],
        ),
        ("revision 1.3.0", "1.3.0", made, ["upgrade podinfo.v5 succeeded"]),
        (drifted, "1.3.0", made, []),
        (pinned, "1.1.0", made | {"pinned": last_week}, ["upgrade podinfo.v6 succeeded"]),
        ("revision 1.4.0", "1.4.0", made, ["upgrade podinfo.v7 succeeded"]),
        ("Was removed", "1.4.0", ready | {"configured": 0, "pruned": 1}, ["uninstall podinfo.v7 succeeded"]),
    ]
    runs = json.loads((await tidelog(world, "history", "hr/podinfo", "--limit", 0, "-o", "json")).out)[::-1]
    # Until its chart is there it waits, once or more often: that is before all else, and is no step.
    waited = [run["reason"] for run in runs if run["reason"] in WAITS]
    assert [run["reason"] for run in runs[: len(waited)]] == waited
    found = [
        (
            run["why"],
            run["revision"],
            {name: run[name] for name in made},
            [f"{one['action']} {one['release']} {one['outcome']}" for one in run["actions"]],
        )
        for run in runs[len(waited) :]
    ]
    assert found == expected
    assert [run["position"] for run in runs] == sorted(run["position"] for run in runs)

    versions = json.loads((await tidelog(world, "history", "configmap/podinfo", "--limit", 0, "-o", "json")).out)[::-1]
    by_engine, by_hand = "engine tidelog (authenticated by process)", "manager test (inferred)"
    said = [(one["what"].partition(" ")[0], one["by"], one["fields"]) for one in versions]
    version = ("Configured", by_engine, ["data.version"])
    assert said == [
        ("Created", by_engine, []),
        version,  # 1.1.0
        version,  # 1.2.0
        version,  # and back
        version,  # 1.3.0
        ("Is", by_hand, ["data.host"]),  # now at another version
        ("Configured", by_engine, ["data.host"]),
        ("Configured", runs[len(waited) + 5]["by"], ["data.version"]),  # as last week, for who asked for that
        version,  # 1.4.0
        ("Deleted", by_engine, []),
    ]
    assert runs[len(waited) + 5]["by"].startswith("user ")
