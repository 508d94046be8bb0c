"""The workload of `mttp --kind helmrelease`: N HelmReleases of one chart, which renders the app of the others.

The chart lies in the repository. One HelmChart packages it for all, and each HelmRelease names that (`chartRef`).
"""

import base64
import json
from collections.abc import Mapping

import msgspec

from bench.reconciling.fleet import (
    ACCOUNT,
    NAMESPACE,
    SOURCE,
    SOURCES,
    WARM,
    Fleet,
    Object,
    app,
    named,
    ready,
    target_name,
)
from tidelog.engine.helm.storage import Info, Record, RecordedChart, Release, record_secret

RELEASES = "helm.toolkit.fluxcd.io/v2"
CHART = "podinfo"
TIME = "2026-01-01T00:00:00Z"
_TEXT_REPLICAS = '"{{ .Values.replicas }}"'


def chart(name: str, tag: str) -> dict[str, str]:
    """The files of a chart that renders the app under the name of its release; by their names in the chart."""
    metadata = {"apiVersion": "v2", "name": name, "version": tag, "appVersion": tag, "description": "Runs no pods."}
    values = {"replicas": 1, "image": {"tag": tag}}
    parts = app("{{ .Release.Name }}", "{{ .Values.replicas }}", "{{ .Values.image.tag }}")
    # In JSON the number would stay a text.
    templates = {kind: json.dumps(obj).replace(_TEXT_REPLICAS, _TEXT_REPLICAS[1:-1]) for kind, obj in parts.items()}
    return {
        "Chart.yaml": json.dumps(metadata),
        "values.yaml": json.dumps(values),
        **{f"templates/{kind.lower()}.yaml": text for kind, text in templates.items()},
    }


class ReleaseFleet(Fleet):
    """HelmReleases, whose objects are told apart by the release's name; with drift detection, as in Flux's workload."""

    kind = "HelmRelease"
    api_version = RELEASES
    source_kinds = ("GitRepository", "HelmChart")

    def app_name(self, index: int) -> str:
        return target_name(index)

    def sources(self, name: str = SOURCE, interval: str = "60m", path: str = CHART) -> list[Object]:
        return [self.source(name, interval), helm_chart(name, interval, path=path)]

    def target(self, index: int, interval: str = "60m") -> Object:
        return _target(target_name(index), SOURCE, interval, self.namespace_of(index))

    def warm(self) -> list[Object]:
        return [*self.sources(WARM, path=WARM), _target(WARM, WARM, "60m", NAMESPACE)]

    def is_at(self, status: Object, revision: str) -> bool:
        history = status.get("history") or [{}]
        return bool(history[0].get("chartVersion") == revision)

    def status(self, index: int, revision: str, objects: Mapping[str, Object]) -> Object:  # noqa: ARG002
        version = {
            "name": target_name(index),
            "namespace": self.namespace_of(index),
            "version": 1,
            "status": "deployed",
            "digest": f"sha256:{'0' * 64}",
            "chartName": CHART,
            "chartVersion": revision,
            "appVersion": revision,
            "configDigest": f"sha256:{'0' * 64}",
            "firstDeployed": TIME,
            "lastDeployed": TIME,
        }
        return {
            "conditions": [ready(revision), {**ready(revision), "type": "Released"}],
            "history": [version],
            "lastAttemptedRevision": revision,
            "lastAttemptedConfigDigest": version["configDigest"],
            "lastAttemptedReleaseAction": "install",
            "lastAttemptedGeneration": 1,
            "observedGeneration": 1,
            "storageNamespace": NAMESPACE,
        }

    def owner_labels(self, index: int) -> dict[str, str]:
        group = RELEASES.partition("/")[0]
        return {f"{group}/name": target_name(index), f"{group}/namespace": NAMESPACE}

    def record(self, index: int, tag: str, version: int, status: str) -> Object:
        """Helm's record of a version."""
        contents = chart(CHART, tag)
        manifest = "".join(
            f"---\n# Source: {CHART}/templates/{kind.lower()}.yaml\n{json.dumps(obj)}\n"
            for kind, obj in app(target_name(index), 0, tag).items()
        )
        templates = [
            {"name": name, "data": base64.b64encode(text.encode()).decode()}
            for name, text in contents.items()
            if name.startswith("templates/")
        ]
        release = Release(
            name=target_name(index),
            info=Info(first_deployed=TIME, last_deployed=TIME, status=status, description="Install complete"),
            chart=RecordedChart(
                metadata=json.loads(contents["Chart.yaml"]),
                templates=msgspec.Raw(msgspec.json.encode(templates)),
                values=msgspec.Raw(contents["values.yaml"].encode()),
            ),
            config={"replicas": 0},
            manifest=manifest,
            version=version,
            namespace=self.namespace_of(index),
            apply_method="ssa",
        )
        return record_secret(Record(release), NAMESPACE, created_at=0)

    def _files(self, tag: str) -> Mapping[str, str]:
        charts = {CHART: chart(CHART, tag), WARM: chart(WARM, "1.0.0")}
        return {f"{name}/{file}": text for name, files in charts.items() for file, text in files.items()}

    def _committed(self, tag: str, commit: str) -> str:  # noqa: ARG002
        return tag


def helm_chart(name: str, interval: str = "60m", *, path: str = CHART, source: str = "") -> Object:
    """A HelmChart of the repository."""
    spec = {
        "interval": interval,
        "chart": f"./{path}",
        "reconcileStrategy": "ChartVersion",
        "sourceRef": {"kind": "GitRepository", "name": source or name},
    }
    return {"apiVersion": SOURCES, "kind": "HelmChart", "metadata": named(name), "spec": spec}


def _target(name: str, source: str, interval: str, namespace: str) -> Object:
    spec = {
        "interval": interval,
        "timeout": "1m",
        "serviceAccountName": ACCOUNT,
        "releaseName": name,
        "targetNamespace": namespace,
        "storageNamespace": NAMESPACE,
        "chartRef": {"kind": "HelmChart", "name": source},
        "driftDetection": {"mode": "enabled"},
        "values": {"replicas": 0},
    }
    return {"apiVersion": RELEASES, "kind": "HelmRelease", "metadata": named(name), "spec": spec}
