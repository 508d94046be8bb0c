"""Targets as the cluster would have them."""

from typing import Any, cast

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, read_declared


def target(
    name: str = "app", namespace: str = "shop", *, generation: int = 1, deleting: bool = False, **spec: Any
) -> DeclaredKustomization:
    """One of the source `fleet`, with some fields of its spec."""
    metadata: KubeObject = {"name": name, "namespace": namespace, "uid": name, "generation": generation}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    whole = {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "fleet"}, **spec}
    live = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": whole,
    }
    return cast("DeclaredKustomization", read_declared(live, "east"))
