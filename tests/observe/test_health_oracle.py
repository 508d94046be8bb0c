"""Health held against the library that Flux itself asks, on objects that a seed makes."""

import os
import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tests.missing import go_program
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.observe.health import health_of

ORACLE = Path(__file__).resolve().parents[1] / "oracles" / "kstatus"
OBJECTS = 40_000 if os.environ.get("TIDELOG_SOAK") else 4_000
NOW = datetime.now(UTC)
KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Namespace"),
    ("batch/v1", "CronJob"),
    ("policy/v1", "PodDisruptionBudget"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("example.com/v1", "Widget"),
    ("serving.knative.dev/v1", "Service"),
)
CONDITIONS = (
    "Ready", "Reconciling", "Stalled", "Available", "Progressing", "ReplicaFailure", "PodScheduled", "Established",
    "NamesAccepted", "Complete", "Failed", "ContainersReady",
)  # fmt: skip
REASONS = ("ProgressDeadlineExceeded", "NewReplicaSetAvailable", "Unschedulable", "Installing", "Because", "")


class Maker:
    """Objects whose fields are near where the rules look."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._well = False

    def objects(self) -> KubeObject:
        version, kind = self._random.choice(KINDS)
        self._well = self._random.random() < 0.5  # half of them but for a detail or two, so that all rules are reached
        metadata: KubeObject = {
            "name": "x",
            "creationTimestamp": self._one("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"),
        }
        self._perhaps(metadata, "generation", lambda: 3 if self._well else self._one(1, 2, 3, 3), 0.9)
        self._perhaps(metadata, "deletionTimestamp", lambda: "2026-01-01T00:00:00Z", 0.03)
        self._perhaps(metadata, "finalizers", lambda: ["x"], 0.1)
        obj: KubeObject = {"apiVersion": version, "kind": kind, "metadata": metadata}
        self._perhaps(obj, "spec", self._spec, 0.9)
        self._perhaps(obj, "status", self._status, 0.9)
        return obj

    def _one(self, *choices: KubeValue) -> KubeValue:
        return self._random.choice(choices)

    def _perhaps(self, into: KubeObject, name: str, make: Callable[[], KubeValue], chance: float) -> None:
        if self._random.random() < (0.97 if self._well and chance >= 0.8 else chance):
            into[name] = make()

    def _count(self) -> int:
        return self._random.choice((0, 1, 3)) if self._random.random() < (0.03 if self._well else 0.4) else 2

    def _spec(self) -> KubeObject:
        spec: KubeObject = {}
        self._perhaps(spec, "replicas", self._count, 0.8)
        self._perhaps(spec, "progressDeadlineSeconds", lambda: 600, 0.6)
        self._perhaps(spec, "type", lambda: self._one("ClusterIP", "LoadBalancer", "ExternalName"), 0.7)
        self._perhaps(spec, "clusterIP", lambda: self._one("", "None", "10.0.0.1"), 0.6)
        self._perhaps(spec, "suspend", lambda: self._one(True, False), 0.2)
        self._perhaps(spec, "updateStrategy", self._strategy, 0.6)
        return spec

    def _strategy(self) -> KubeObject:
        strategy: KubeObject = {}
        self._perhaps(strategy, "type", lambda: self._one("OnDelete", "RollingUpdate", "RollingUpdate"), 0.8)
        self._perhaps(strategy, "rollingUpdate", lambda: self._one({}, {"partition": 0}, {"partition": 1}), 0.5)
        return strategy

    def _status(self) -> KubeObject:
        status: KubeObject = {}
        self._perhaps(status, "observedGeneration", lambda: 3 if self._well else self._one(-1, 1, 2, 3, 3, 3), 0.8)
        for name in (
            "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas",
            "fullyLabeledReplicas", "desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled",
            "numberAvailable", "numberReady",
        ):  # fmt: skip
            self._perhaps(status, name, self._count, 0.9)
        for name in ("currentRevision", "updateRevision"):
            self._perhaps(status, name, lambda: self._one("a", "a", "b"), 0.9)
        phases = ("Pending", "Running", "Succeeded", "Failed", "Bound", "Lost", "Active", "Unknown")
        self._perhaps(status, "phase", lambda: self._one(*phases), 0.9)
        self._perhaps(status, "conditions", self._conditions, 0.9)
        self._perhaps(status, "containerStatuses", self._containers, 0.6)
        self._perhaps(status, "initContainerStatuses", self._containers, 0.2)
        self._perhaps(status, "loadBalancer", lambda: self._one({}, {"ingress": [{"ip": "1.2.3.4"}]}), 0.3)
        return status

    def _conditions(self) -> list[KubeObject]:
        chosen = self._random.sample(CONDITIONS, self._random.randrange(0, 6))
        if self._random.random() < 0.7:  # else what is abnormal hides all that is behind it
            chosen = [kind for kind in chosen if kind not in {"Reconciling", "Stalled"}]
        rolled_out = [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "Available", "status": "True"},
        ]
        if self._well:
            chosen = [kind for kind in chosen if kind not in {"Progressing", "Available"}]
        return (rolled_out if self._well else []) + [
            {"type": kind, "status": self._one("True", "True", "False", "Unknown"), "reason": self._one(*REASONS)}
            for kind in chosen
        ]

    def _containers(self) -> list[KubeObject]:
        states: tuple[KubeObject, ...] = (
            {"running": {}},
            {"waiting": {"reason": "CrashLoopBackOff"}},
            {"waiting": {"reason": "ImagePullBackOff"}},
            {"terminated": {"exitCode": 1}},
        )
        return [{"name": f"c{n}", "state": self._one(*states)} for n in range(self._random.randrange(0, 3))]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The oracle, built."""
    return go_program(tmp_path_factory.mktemp("oracle") / "kstatus", ORACLE, "health is not held against kstatus")


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first build of the oracle fetches its modules
def test_health_is_that_of_kstatus(oracle: Path, seed: int) -> None:
    maker = Maker(seed)
    objects = [maker.objects() for _ in range(OBJECTS)]
    lines = b"\n".join(msgspec.json.encode(obj) for obj in objects)
    said = subprocess.run([oracle], input=lines, capture_output=True, check=True).stdout.decode().split()
    assert len(said) == OBJECTS
    ours = [health_of(obj, NOW).health for obj in objects]
    differ = [(obj, theirs, our) for obj, theirs, our in zip(objects, said, ours, strict=True) if theirs != our]
    assert not differ, (
        f"{len(differ)} of {OBJECTS} differ; kstatus says {differ[0][1]}, we say {differ[0][2]}: {differ[0][0]}"
    )
    assert {"Current", "InProgress", "Failed", "Terminating", "Unknown"} == set(said)  # the objects ask every question
