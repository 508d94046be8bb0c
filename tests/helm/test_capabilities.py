"""A chart finds what the cluster serves, as it does when helm installs it there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helm.charts import head, written
from tests.helm.conftest import Run
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.discovery import served_in
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.spec import RenderJob
from tidelog.engine.render.documents import documents

TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data:
  all: {{ .Capabilities.APIVersions | toJson | quote }}
  version: {{ .Capabilities.KubeVersion | toJson | quote }}
  old: {{ .Capabilities.APIVersions.Has "extensions/v1beta1" | quote }}
  kind: {{ .Capabilities.APIVersions.Has "apps/v1/Deployment" | quote }}
"""


def seen(content: Any) -> Any:
    data = content["data"]
    return {**data, "all": sorted(json.loads(data["all"]))}


@pytest.mark.timeout(900)  # the first build of the oracle
async def test_chart_finds_what_it_finds_when_helm_installs_it(
    helm: Run, renderer: ChartRenderer, kubernetes: Servers, namespace: str, tmp_path: Path
) -> None:
    chart = written({"Chart.yaml": head("c"), "templates/a.yaml": TEMPLATE}, tmp_path / "c")
    ran = helm(
        *("install", "rel", str(chart), "-n", namespace, "--dry-run=server", "-o", "json"),
        kubeconfig=kubernetes.kubeconfig,
    )
    assert ran.returncode == 0, ran.stderr
    wanted = documents(json.loads(ran.stdout)["manifest"])[0].value
    async with open_cluster(kubernetes.kubeconfig) as cluster:
        version, served = await cluster.version(), await cluster.api_versions()
    job = RenderJob(
        *(str(chart), "rel", namespace),
        kube_version=version,
        api_versions=served,
    )
    ours = (await renderer.render(job)).manifests[0].content
    assert seen(ours) == seen(wanted)
    assert (seen(ours)["old"], seen(ours)["kind"]) == ("false", "true")


def test_kinds_of_an_api_service_that_does_not_answer_are_not_served() -> None:
    versions = [
        {"version": "v1", "freshness": "Stale", "resources": [{"resource": "o", "responseKind": {"kind": "Old"}}]}
    ]
    items = [{"metadata": {"name": "example.org"}, "versions": versions}]
    found = served_in(json.dumps({"kind": "APIGroupDiscoveryList", "items": items}).encode())
    assert found.names == {"example.org/v1"}
