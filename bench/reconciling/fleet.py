"""The workload: one repository, one GitRepository, N targets of an app that runs no pods. Here, N Kustomizations.

The shape is that of the workload by which Flux measures itself: one namespace, a small app (Deployment without
replicas, ServiceAccount, Service, Ingress), and of it one instance a Kustomization, told apart by a variable.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.servers.repositories import Repository

NAMESPACE = "apps"
SOURCE = "apps"
WARM = "warm"
ACCOUNT = "flux"
"""The service account that engines act as."""
SOURCES = "source.toolkit.fluxcd.io/v1"
TARGETS = "kustomize.toolkit.fluxcd.io/v1"
REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"

Object = dict[str, Any]

_MATCH = "app.kubernetes.io/name"


def app(name: str, replicas: object, tag: str) -> dict[str, Object]:
    """The objects of one app, by kind."""
    labels = {_MATCH: name}
    container = {
        "name": "podinfod",
        "image": f"ghcr.io/stefanprodan/podinfo:{tag}",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 9898, "protocol": "TCP"}],
        "command": ["./podinfo", "--port=9898", "--level=info"],
        "env": [{"name": "PODINFO_UI_COLOR", "value": "#34577c"}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "initialDelaySeconds": 5},
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "1m", "memory": "16Mi"}},
    }
    pod = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": name, "containers": [container]}}
    path = {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": name, "port": {"name": "http"}}},
    }
    specs: dict[str, tuple[str, Object]] = {
        "ServiceAccount": ("v1", {}),
        "Service": (
            "v1",
            {
                "spec": {
                    "type": "ClusterIP",
                    "selector": labels,
                    "ports": [{"name": "http", "port": 9898, "targetPort": "http", "protocol": "TCP"}],
                }
            },
        ),
        "Deployment": (
            "apps/v1",
            {"spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}},
        ),
        "Ingress": (
            "networking.k8s.io/v1",
            {"spec": {"rules": [{"host": f"{name}.example.org", "http": {"paths": [path]}}]}},
        ),
    }
    return {
        kind: {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}, **rest}
        for kind, (version, rest) in specs.items()
    }


def files(tag: str) -> Mapping[str, str]:
    """The repository, with the app at an image tag."""
    parts = app("podinfo-${INDEX}", "${PODS}", tag)
    named = {f"app/{kind.lower()}.yaml": "".join(_yaml(obj)) for kind, obj in parts.items()}
    listed = json.dumps({"resources": [name.removeprefix("app/") for name in named]})
    warm = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": WARM}, "data": {"is": WARM}})
    return named | {"app/kustomization.yaml": listed, f"{WARM}/{WARM}.yaml": warm}


def _yaml(obj: Object, indent: str = "") -> Iterator[str]:
    """Block style at the outside, so that a variable may become a number: in JSON it would stay a text."""
    for name, value in obj.items():
        if isinstance(value, dict) and "${PODS}" in value.values():
            yield f"{indent}{name}:\n"
            yield from _yaml(value, indent + "  ")
        else:
            yield f"{indent}{name}: {value if value == '${PODS}' else json.dumps(value)}\n"


class Fleet(ABC):
    """The repository, and what is declared of it."""

    kind: str
    """Of the targets."""
    api_version: str
    """Of the targets."""
    source_kinds: tuple[str, ...]
    """Of what is between the repository and them."""

    def __init__(self, root: Path, url: str, count: int, *, apart: bool) -> None:
        self.count = count
        self.apart = apart
        """Whether each target has a namespace of its own, so that no two builds are the same."""
        self._repository = Repository.create(root / "apps.git")
        self._url = url
        self._commits = 0

    def commit(self, tag: str) -> str:
        """Commits the app at an image tag; returns what `is_at` knows it by."""
        self._commits += 1
        return self._committed(tag, self._repository.commit(self._files(tag), message=f"podinfo {tag}"))

    def namespaces(self) -> list[str]:
        """Where objects go."""
        return [NAMESPACE, *(self.namespace_of(index) for index in range(self.count) if self.apart)]

    def namespace_of(self, index: int) -> str:
        """Where the objects of one target go."""
        return f"{NAMESPACE}-{index % self.count}" if self.apart else NAMESPACE

    def source(self, name: str = SOURCE, interval: str = "60m") -> Object:
        """The GitRepository."""
        spec = {"interval": interval, "url": self._url, "ref": {"branch": "main"}}
        return {"apiVersion": SOURCES, "kind": "GitRepository", "metadata": named(name), "spec": spec}

    def sources(self, name: str = SOURCE, interval: str = "60m") -> list[Object]:
        """What is between the repository and the targets, in the order of declaring: the last is what they name."""
        return [self.source(name, interval)]

    def app_name(self, index: int) -> str:
        """Of the objects of a target."""
        return f"podinfo-{index}app"

    @abstractmethod
    def target(self, index: int, interval: str = "60m") -> Object:
        """A target."""

    @abstractmethod
    def warm(self) -> list[Object]:
        """Sources and a target to warm up with, that share no build with the fleet; in the order of declaring."""

    @abstractmethod
    def is_at(self, status: Object, revision: str) -> bool:
        """Whether a target that is ready is so at a revision."""

    @abstractmethod
    def status(self, index: int, revision: str, objects: Mapping[str, Object]) -> Object:
        """A status like that of a target that is ready."""

    @abstractmethod
    def owner_labels(self, index: int) -> dict[str, str]:
        """The labels that say of which target an object is."""

    @abstractmethod
    def _files(self, tag: str) -> Mapping[str, str]:
        """The repository, with the app at an image tag."""

    @abstractmethod
    def _committed(self, tag: str, commit: str) -> str:
        """What a status calls a commit."""


class KustomizationFleet(Fleet):
    """Kustomizations, told apart by a variable."""

    kind = "Kustomization"
    api_version = TARGETS
    source_kinds = ("GitRepository",)

    def target(self, index: int, interval: str = "60m") -> Object:
        return _target(
            target_name(index),
            SOURCE,
            "./app",
            interval,
            self.namespace_of(index),
            _variables(index),
        )

    def warm(self) -> list[Object]:
        return [self.source(WARM), _target(WARM, WARM, f"./{WARM}", "60m", NAMESPACE, {"IS": WARM})]

    def is_at(self, status: Object, revision: str) -> bool:
        return bool(status.get("lastAppliedRevision") == revision)

    def status(self, index: int, revision: str, objects: Mapping[str, Object]) -> Object:  # noqa: ARG002
        entries = [
            {"id": f"{obj['metadata']['namespace']}_{obj['metadata']['name']}_{_group(obj)}_{kind}", "v": "v1"}
            for kind, obj in objects.items()
        ]
        return {
            "conditions": [ready(revision), {**ready(revision), "type": "Healthy"}],
            "inventory": {"entries": entries},
            "lastAppliedRevision": revision,
            "lastAttemptedRevision": revision,
            "observedGeneration": 1,
        }

    def owner_labels(self, index: int) -> dict[str, str]:
        group = TARGETS.partition("/")[0]
        return {f"{group}/name": target_name(index), f"{group}/namespace": NAMESPACE}

    def _files(self, tag: str) -> Mapping[str, str]:
        return files(tag)

    def _committed(self, tag: str, commit: str) -> str:  # noqa: ARG002
        return f"main@sha1:{commit}"


def ready(revision: str) -> Object:
    """A condition that says so."""
    return {
        "type": "Ready",
        "status": "True",
        "reason": "ReconciliationSucceeded",
        "message": f"Applied revision: {revision}",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }


def _group(obj: Object) -> str:
    return str(obj["apiVersion"]).rpartition("/")[0]


def _variables(index: int) -> dict[str, str]:
    return {"INDEX": f"{index}app", "PODS": "0"}


def target_name(index: int) -> str:
    """Of a target."""
    return f"podinfo-{index}"


def _target(name: str, source: str, path: str, interval: str, namespace: str, variables: Mapping[str, str]) -> Object:
    spec = {
        "interval": interval,
        "retryInterval": "2m",
        "path": path,
        "prune": True,
        "wait": True,
        "timeout": "1m",
        "serviceAccountName": ACCOUNT,
        "targetNamespace": namespace,
        "sourceRef": {"kind": "GitRepository", "name": source},
        "postBuild": {"substitute": dict(variables)},
    }
    return {"apiVersion": TARGETS, "kind": "Kustomization", "metadata": named(name), "spec": spec}


def named(name: str) -> Object:
    """The metadata of what is declared."""
    return {"name": name, "namespace": NAMESPACE}
