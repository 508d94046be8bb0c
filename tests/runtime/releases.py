"""HelmReleases as the cluster would have them, and what the log knows of their releases."""

from typing import Any, cast

from tidelog.engine.kinds.helmrelease import HelmReleaseStatus
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.watching.declared import DeclaredRelease, read_declared
from tidelog.events.vocabulary.release import ReleaseSnapshot

CONFIG = "sha256:" + "c" * 64


def release(
    name: str = "web",
    namespace: str = "shop",
    *,
    generation: int = 1,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> DeclaredRelease:
    """One with a chart of its own, with some fields of its spec."""
    metadata: KubeObject = {
        "name": name,
        "namespace": namespace,
        "uid": name,
        "generation": generation,
        "resourceVersion": "7",
        "annotations": annotations or {},
    }
    live = {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": metadata,
        "spec": {
            "interval": "10m",
            **({} if "chart" in spec else {"chartRef": {"kind": "HelmChart", "name": "c"}}),
            **spec,
        },
    }
    declared = cast("DeclaredRelease", read_declared(live, "east"))
    assert declared.problems == ()
    return declared


def told(declared: DeclaredRelease, status: HelmReleaseStatus) -> DeclaredRelease:
    """The same, with this status."""
    declared.status = status
    return declared


def version(number: int = 1, status: str = "deployed", **fields: Any) -> ReleaseSnapshot:
    """A version of the release."""
    whole: dict[str, Any] = {
        "name": "web",
        "namespace": "shop",
        "version": number,
        "status": status,
        "digest": f"sha256:{number:064}",
        "chart_name": "podinfo",
        "chart_version": f"1.0.{number}",
        "config_digest": CONFIG,
        "first_deployed": "2026-11-23T10:00:00.123456789Z",
        "last_deployed": "2026-11-23T12:00:01.987654321+01:00",
        "api_version": "v2",
        **fields,
    }
    return ReleaseSnapshot(**whole)
