"""What a manager owns, read from the books that a real API server keeps."""

import copy
import random
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import element, fields_of, found_items, is_leaf, paths_of, take_over_patch
from tidelog.engine.objects.state import owned_values, state_of
from tidelog.engine.observe.drift import drift

OURS = "kustomize-controller"
WIDGETS = "widgets.test.tidelog.dev"
POD: KubeObject = {
    "securityContext": {},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [],
    "initContainers": [{"name": "first", "image": "a:1"}, {"name": "second", "image": "a:1"}],
    "containers": [
        {
            "name": "app",
            "image": "a:1",
            "args": ["serve", "--all"],
            "resources": {},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [
                {"name": "tcp", "containerPort": 53},
                {"name": "udp", "containerPort": 53, "protocol": "UDP"},
            ],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 53}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        },
        {"name": "side", "image": "b:1", "resources": {"requests": {"cpu": "100m"}}},
    ],
    "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "made", "configMap": {"name": "made", "optional": True}}],
}
MANIFESTS: dict[str, tuple[str, KubeObject]] = {
    "deployment": (
        "/apis/apps/v1/namespaces/{ns}/deployments",
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "spec": {
                "replicas": 2,
                "strategy": {},
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD},
            },
        },
    ),
    "stateful set": (
        "/apis/apps/v1/namespaces/{ns}/statefulsets",
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "spec": {
                "serviceName": "web",
                "replicas": 1,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD},
            },
        },
    ),
    "service": (
        "/api/v1/namespaces/{ns}/services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "spec": {
                "selector": {"app": "web"},
                "ports": [
                    {"name": "tcp", "port": 53},
                    {"name": "udp", "port": 53, "protocol": "UDP"},
                    {"name": "http", "port": 80, "targetPort": "http"},
                ],
            },
        },
    ),
    "ingress": (
        "/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "spec": {
                "tls": [{"hosts": ["a.example.com"], "secretName": "tls"}],
                "rules": [
                    {
                        "host": "a.example.com",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                                }
                            ]
                        },
                    }
                ],
            },
        },
    ),
    "config map": (
        "/api/v1/namespaces/{ns}/configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a.conf": "x\ny\n", "b": ""}, "binaryData": {"c": "AAE="}},
    ),
    "secret": ("/api/v1/namespaces/{ns}/secrets", {"apiVersion": "v1", "kind": "Secret", "data": {"password": "MQ=="}}),
    "service account": (
        "/api/v1/namespaces/{ns}/serviceaccounts",
        {"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [], "automountServiceAccountToken": False},
    ),
    "role": (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}],
        },
    ),
    "role binding": (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "it"},
            "subjects": [{"kind": "ServiceAccount", "name": "it", "namespace": "default"}],
        },
    ),
    "autoscaler": (
        "/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers",
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "it"},
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                    }
                ],
            },
        },
    ),
    "network policy": (
        "/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]},
        },
    ),
    "job": (
        "/apis/batch/v1/namespaces/{ns}/cronjobs",
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "spec": {
                "schedule": "0 0 * * *",
                "jobTemplate": {
                    "spec": {
                        "template": {
                            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "a:1"}]}
                        }
                    }
                },
            },
        },
    ),
    "custom resource": (
        "/apis/test.tidelog.dev/v1/namespaces/{ns}/widgets",
        {
            "apiVersion": "test.tidelog.dev/v1",
            "kind": "Widget",
            "spec": {
                "size": 3,
                "ratio": 0.5,
                "free": {"any": {"thing": [1, {"x": True}]}},
                "tags": ["b", "a", "c"],
                "plain": [{"x": 1}, {"x": 2}],
                "atomicMap": {"a": "1", "b": "2"},
                "parts": [{"id": 1, "where": "left", "note": "one"}, {"id": 1, "where": "right"}, {"id": 2}],
                "empty": {},
            },
        },
    ),
}
DEFINITION: KubeObject = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": WIDGETS},
    "spec": {
        "group": "test.tidelog.dev",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer"},
                                    "ratio": {"type": "number"},
                                    "colour": {"type": "string", "default": "red"},
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "tags": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "plain": {
                                        "type": "array",
                                        "items": {"type": "object", "properties": {"x": {"type": "integer"}}},
                                    },
                                    "atomicMap": {
                                        "type": "object",
                                        "additionalProperties": {"type": "string"},
                                        "x-kubernetes-map-type": "atomic",
                                    },
                                    "empty": {"type": "object", "properties": {"note": {"type": "string"}}},
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["id", "where"],
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "properties": {
                                                "id": {"type": "integer"},
                                                "where": {"type": "string", "default": "left"},
                                                "note": {"type": "string"},
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}


class Cluster:
    """One namespace of a real API server."""

    def __init__(self, servers: Servers, namespace: str) -> None:
        self._servers = servers
        self._namespace = namespace

    def apply(self, name: str, manager: str = OURS, extra: KubeObject | None = None) -> KubeObject:
        collection, manifest = MANIFESTS[name]
        labels = {"app": "web", "kustomize.toolkit.fluxcd.io/name": "it"}
        obj = {**(extra or copy.deepcopy(manifest)), "metadata": {"name": "it", "labels": labels, **_metadata(extra)}}
        where = f"{collection.format(ns=self._namespace)}/it?{urlencode({'fieldManager': manager, 'force': 'true'})}"
        return self._done("PATCH", where, obj, "application/apply-patch+yaml")

    def get(self, name: str) -> KubeObject:
        return self._done("GET", f"{MANIFESTS[name][0].format(ns=self._namespace)}/it", None, "application/json")

    def change(self, name: str, changed: KubeObject, manager: str = "kubectl-edit", *, dry: bool = False) -> KubeObject:
        """Replaces the object; `dry` has the server say what would be."""
        where = f"{MANIFESTS[name][0].format(ns=self._namespace)}/it?fieldManager={manager}" + "&dryRun=All" * dry
        while True:  # controllers write too, and the change is to win
            version = self.get(name)["metadata"]["resourceVersion"]
            latest = {**changed, "metadata": {**changed["metadata"], "resourceVersion": version}}
            try:
                return self._done("PUT", where, latest, "application/json")
            except RefusedError as error:
                if error.status != 409:
                    raise

    def patch(self, name: str, patch: list[KubeObject]) -> KubeObject:
        where = f"{MANIFESTS[name][0].format(ns=self._namespace)}/it?fieldManager={OURS}"
        answer = self._servers.request("PATCH", where, patch, "application/json-patch+json")
        if answer.status != 200:
            raise RefusedError(answer.status, answer.body)
        return dict(answer.body)

    def _done(self, method: str, where: str, body: KubeObject | None, content_type: str) -> KubeObject:
        answer = self._servers.request(method, where, body, content_type)
        if answer.status not in {200, 201}:
            raise RefusedError(answer.status, answer.body)
        return dict(answer.body)


class RefusedError(Exception):
    """Raised when the server does not take a change: the field is immutable, or may not have that value."""

    def __init__(self, status: int, body: KubeObject) -> None:
        super().__init__(status, body)
        self.status = status


def _metadata(extra: KubeObject | None) -> KubeObject:
    return (extra or {}).get("metadata") or {}


@pytest.fixture
def cluster(kubernetes: Servers, namespace: str) -> Cluster:
    where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{WIDGETS}"
    kubernetes.request("PATCH", f"{where}?fieldManager=test&force=true", DEFINITION, "application/apply-patch+yaml")
    cluster = Cluster(kubernetes, namespace)
    while kubernetes.request("GET", MANIFESTS["custom resource"][0].format(ns=namespace)).status != 200:
        pass  # until the definition is served
    return cluster


every_kind = pytest.mark.parametrize("name", MANIFESTS)


def owned_places(obj: KubeObject) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The path of each owned leaf as people read it, and where it stands in the object."""
    yield from _places(fields_of(obj, OURS), obj, "", ())


def _places(
    fields: KubeObject, value: KubeValue, steps: str, place: tuple[str | int, ...]
) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    items = found_items(fields, value) if isinstance(value, list) else {}
    for text, children in fields.items():
        if text == ".":
            continue
        step = element(text)
        if text in items:
            at: str | int = items[text][0]
        elif isinstance(value, dict) and step.kind == "f" and step.value in value:
            at = step.value
        else:
            continue
        path = steps + step.text
        if is_leaf(children):
            yield path.removeprefix("."), (*place, at)
        else:
            yield from _places(children, value[at], path, (*place, at))


def changed_at(obj: KubeObject, place: tuple[str | int, ...], value: KubeValue) -> KubeObject:
    """The object with another value at a place; None takes out what stands there."""
    changed = copy.deepcopy(obj)
    within: KubeValue = changed
    for step in place[:-1]:
        within = within[step]
    if value is None:
        del within[place[-1]]
    else:
        within[place[-1]] = value
    return changed


def value_at(obj: KubeValue, place: tuple[str | int, ...]) -> KubeValue:
    for step in place:
        obj = obj[step]
    return obj


def another(value: KubeValue) -> KubeValue:
    """A value of the same form that is another."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case [first, *rest]:
            return [*rest, first] if rest and rest[-1] != first else [another(first)]
        case dict() if value:
            name = next(iter(value))
            return {**value, name: another(value[name])}
        case _:
            return None


@every_kind
def test_what_is_owned_is_what_was_applied(cluster: Cluster, name: str) -> None:
    applied = cluster.apply(name)
    owned = owned_values(applied, OURS)
    assert 'metadata.labels["kustomize.toolkit.fluxcd.io/name"]' in owned
    # Each value that the manifest gives is there, at the place that the path names.
    for path, place in owned_places(applied):
        value = value_at(applied, place)
        assert owned[path] == (value if value not in ({}, []) else None), path
    assert {path for path, _ in owned_places(applied)} <= set(owned)


@every_kind
def test_applying_the_same_again_changes_nothing(cluster: Cluster, name: str) -> None:
    first = cluster.apply(name)
    again = cluster.apply(name)
    assert owned_values(again, OURS) == owned_values(first, OURS)
    assert drift(state_of(first, OURS), cluster.get(name), OURS) == ()


@every_kind
def test_the_state_owns_what_the_object_owns(cluster: Cluster, name: str) -> None:
    applied = cluster.apply(name)
    state = state_of(applied, OURS)
    assert owned_values(state, OURS) == owned_values(applied, OURS)
    assert "status" not in state
    assert not {"uid", "resourceVersion", "generation", "creationTimestamp"} & state["metadata"].keys()


@every_kind
def test_what_others_add_is_no_drift(cluster: Cluster, name: str) -> None:
    applied = cluster.apply(name)
    changed = copy.deepcopy(applied)
    changed["metadata"]["labels"]["theirs"] = "x"
    changed["metadata"]["annotations"] = {"theirs.example.com/x": "y"}
    spec = changed.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or {}
    if pod:
        pod["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
        pod["containers"][0]["env"].insert(0, {"name": "THEIRS", "value": "1"})
        pod["containers"].append({"name": "theirs", "image": "c"})
        pod["securityContext"] = {"runAsUser": 1}
        pod["volumes"][0]["emptyDir"] = {"sizeLimit": "1Gi"}
    if name == "service":
        spec["ports"].insert(0, {"name": "theirs", "port": 81})
    if name == "custom resource":
        spec["tags"].insert(1, "theirs")
        spec["parts"].insert(0, {"id": 9, "note": "theirs"})
        spec["empty"] = {"note": "theirs"}
    if name == "config map":
        changed["data"]["theirs"] = "x"
    live = cluster.change(name, changed, "other")
    assert owned_values(live, OURS) == owned_values(applied, OURS)
    assert owned_values(state_of(live, OURS), OURS) == owned_values(applied, OURS)
    assert drift(state_of(applied, OURS), live, OURS) == ()
    again = cluster.apply(name)
    assert owned_values(again, OURS) == owned_values(applied, OURS)


@every_kind
def test_every_owned_field_that_someone_changes_is_drift(cluster: Cluster, name: str, seed: int) -> None:
    applied = cluster.apply(name)
    state, digest = state_of(applied, OURS), owned_values(applied, OURS)
    places = list(owned_places(applied))
    random.Random(seed).shuffle(places)
    seen = 0
    for path, place in places:
        value = value_at(applied, place)
        for changed in (another(value), None):
            if changed is None and value in ({}, []):
                continue
            try:
                live = cluster.change(name, changed_at(applied, place, changed), dry=True)
            except RefusedError:
                continue  # the server does not let anyone do that
            drifted = drift(state, live, OURS)
            if not drifted:
                # The server put it back, or keeps it: then it is as it was.
                assert owned_values(live, OURS) == digest, (path, changed)
                continue
            seen += 1
            assert owned_values(live, OURS) != digest, (path, changed)
            assert any(path.startswith(one.path) or one.path.startswith(path) for one in drifted), (path, drifted)
            if changed is not None and path in {one.path for one in drifted}:
                manager = {one.path: one.manager for one in drifted}[path]
                assert manager in {"kubectl-edit", ""}, (path, drifted)
    assert seen >= 2


@every_kind
def test_our_next_apply_undoes_drift(cluster: Cluster, name: str) -> None:
    applied = cluster.apply(name)
    label = ("metadata", "labels", "app")
    live = cluster.change(name, changed_at(applied, label, "theirs"))
    (drifted,) = drift(state_of(applied, OURS), live, OURS)
    assert (drifted.path, drifted.manager) == ("metadata.labels.app", "kubectl-edit")
    again = cluster.apply(name)
    assert owned_values(again, OURS) == owned_values(applied, OURS)
    assert drift(state_of(applied, OURS), again, OURS) == ()


def test_another_order_of_keyed_lists_and_sets_is_drift_and_is_undone(cluster: Cluster) -> None:
    applied = cluster.apply("custom resource")
    changed = copy.deepcopy(applied)
    changed["spec"]["tags"].reverse()
    changed["spec"]["parts"].reverse()
    live = cluster.change("custom resource", changed)
    assert [one.path for one in drift(state_of(applied, OURS), live, OURS)] == ["spec.parts", "spec.tags"]
    assert owned_values(live, OURS) != owned_values(applied, OURS)
    assert owned_values(cluster.apply("custom resource"), OURS) == owned_values(applied, OURS)


def test_a_list_that_was_applied_empty_and_that_another_fills_is_drift(cluster: Cluster) -> None:
    applied = cluster.apply("service account")
    assert "imagePullSecrets" not in applied  # the server drops it, and keeps it as owned
    live = cluster.change("service account", {**applied, "imagePullSecrets": [{"name": "theirs"}]}, "other")
    assert [(one.path, one.manager) for one in drift(applied, live, OURS)] == [("imagePullSecrets", "other")]
    assert owned_values(live, OURS) != owned_values(applied, OURS)
    assert owned_values(cluster.apply("service account"), OURS) == owned_values(applied, OURS)


def test_what_another_takes_over_by_force_is_no_longer_owned(cluster: Cluster) -> None:
    applied = cluster.apply("custom resource")
    theirs = {"apiVersion": "test.tidelog.dev/v1", "kind": "Widget", "metadata": {"labels": {}}, "spec": {"size": 9}}
    live = cluster.apply("custom resource", "rival", theirs)
    assert "spec.size" not in owned_values(live, OURS)
    assert [(one.path, one.manager) for one in drift(applied, live, OURS)] == [("spec.size", "rival")]
    assert "spec.size" in paths_of(fields_of(live, "rival"))


def test_a_second_applier_of_the_same_value_changes_nothing_of_ours(cluster: Cluster) -> None:
    applied = cluster.apply("custom resource")
    theirs = {"apiVersion": "test.tidelog.dev/v1", "kind": "Widget", "metadata": {"labels": {}}, "spec": {"size": 3}}
    live = cluster.apply("custom resource", "friend", theirs)
    assert owned_values(live, OURS) == owned_values(applied, OURS)


def test_after_taking_over_the_next_apply_removes_what_kubectl_added(cluster: Cluster) -> None:
    applied = cluster.apply("config map")
    changed = copy.deepcopy(applied)
    changed["data"]["by-hand"] = "x"
    changed["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    live = cluster.change("config map", changed, "kubectl-edit")
    annotated = copy.deepcopy(live)
    annotated["metadata"]["annotations"]["kept"] = "yes"
    annotated["data"]["kept"] = "yes"
    live = cluster.change("config map", annotated, "flux-client-side-apply")
    taken = cluster.patch("config map", take_over_patch(live))
    assert take_over_patch(taken) == []
    again = cluster.apply("config map")
    assert again["data"] == {**MANIFESTS["config map"][1]["data"], "kept": "yes"}
    assert again["metadata"]["annotations"] == {"kept": "yes"}
    assert owned_values(again, OURS) == owned_values(applied, OURS)


def test_an_object_that_has_moved_on_is_not_taken_over(cluster: Cluster) -> None:
    applied = cluster.apply("config map")
    live = cluster.change("config map", changed_at(applied, ("data", "b"), "x"))
    patch = take_over_patch(live)
    cluster.change("config map", changed_at(live, ("data", "b"), "y"))
    with pytest.raises(RefusedError, match="409"):
        cluster.patch("config map", patch)
