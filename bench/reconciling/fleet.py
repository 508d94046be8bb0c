"""The workload: one repository, one GitRepository, N Kustomizations of an app that runs no pods.

The shape is that of the workload by which Flux measures itself: one namespace, a small app (Deployment without
replicas, ServiceAccount, Service, Ingress), and of it one instance a Kustomization, told apart by a variable.
"""

import json
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


class Fleet:
    """The repository, and what is declared of it."""

    def __init__(self, root: Path, url: str, count: int, *, apart: bool) -> None:
        self.count = count
        self.apart = apart
        """Whether each target has a namespace of its own, so that no two builds are the same."""
        self._repository = Repository.create(root / "apps.git")
        self._url = url
        self._commits = 0

    def commit(self, tag: str) -> str:
        """Commits the app at an image tag; returns the revision as Flux writes it."""
        self._commits += 1
        return f"main@sha1:{self._repository.commit(files(tag), message=f'podinfo {tag}')}"

    def namespaces(self) -> list[str]:
        """Where objects go."""
        return [NAMESPACE, *(self.namespace_of(index) for index in range(self.count) if self.apart)]

    def namespace_of(self, index: int) -> str:
        """Where the objects of one target go."""
        return f"{NAMESPACE}-{index % self.count}" if self.apart else NAMESPACE

    def source(self, name: str = SOURCE, interval: str = "60m") -> Object:
        """The GitRepository."""
        spec = {"interval": interval, "url": self._url, "ref": {"branch": "main"}}
        return {"apiVersion": SOURCES, "kind": "GitRepository", "metadata": _named(name), "spec": spec}

    def target(self, index: int, interval: str = "60m") -> Object:
        """A Kustomization."""
        return _target(
            target_name(index),
            SOURCE,
            "./app",
            interval,
            self.namespace_of(index),
            _variables(index),
        )

    def warm(self) -> tuple[Object, Object]:
        """A source and a target to warm up with, that share no build with the fleet."""
        return self.source(WARM), _target(WARM, WARM, f"./{WARM}", "60m", NAMESPACE, {"IS": WARM})


def _variables(index: int) -> dict[str, str]:
    return {"INDEX": f"{index}app", "PODS": "0"}


def target_name(index: int) -> str:
    """Of a Kustomization."""
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
    return {"apiVersion": TARGETS, "kind": "Kustomization", "metadata": _named(name), "spec": spec}


def _named(name: str) -> Object:
    return {"name": name, "namespace": NAMESPACE}
