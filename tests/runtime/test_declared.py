"""What a watch tells of our own write is passed over, unless it tells anything else too."""

from typing import Any

import pytest

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.declared import read_declared


def kustomization(version: int, **metadata: Any) -> KubeObject:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {
            "name": "shop",
            "namespace": "apps",
            "uid": "u-1",
            "generation": 3,
            "resourceVersion": str(version),
            "finalizers": ["finalizers.fluxcd.io"],
            "annotations": {"owner": "ada"},
            **metadata,
        },
        "spec": {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "shop"}},
        "status": {"observedGeneration": version},
    }


def test_the_answer_to_our_own_write_is_told_again_by_the_watch() -> None:
    declared = read_declared(kustomization(7), "east")
    declared.live = kustomization(8)
    assert declared.is_echo(kustomization(8))


@pytest.mark.parametrize(
    "other",
    [
        {"generation": 4},
        {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}},
        {"annotations": None},
        {"finalizers": []},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"uid": "u-2"},
    ],
)
def test_what_somebody_else_changed_before_our_own_write_is_no_echo(other: dict[str, Any]) -> None:
    declared = read_declared(kustomization(7), "east")
    declared.live = kustomization(8, **other)
    assert not declared.is_echo(kustomization(8, **other))


def test_what_somebody_else_wrote_after_it_is_no_echo() -> None:
    declared = read_declared(kustomization(7), "east")
    declared.live = kustomization(8)
    assert not declared.is_echo(kustomization(9))
