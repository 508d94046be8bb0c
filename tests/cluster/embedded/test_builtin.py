"""What the built-in kinds do by themselves; `test_builtin_oracle.py` holds them to the real server."""

import copy

import pytest

from tidelog.engine.cluster.embedded import builtin
from tidelog.engine.cluster.embedded.builtin.pods import pull_policy, quality_of_service
from tidelog.engine.cluster.embedded.builtin.scalars import quantity, total, written
from tidelog.engine.cluster.embedded.builtin.types import DURATION, MICRO_TIME, TIME
from tidelog.engine.objects.kube import KubeObject

DEPLOYMENT = ("apps", "Deployment")
SERVICE = ("", "Service")


def deployment() -> KubeObject:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "1"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
        "status": {"replicas": 7},
    }


def service(**spec: object) -> KubeObject:
    metadata = {"name": "web", "namespace": "shop", "uid": "1"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}], **spec}}


def created(kind: tuple[str, str], obj: KubeObject) -> KubeObject:
    builtin.set_defaults(kind, obj)
    builtin.prepare_create(kind, obj)
    return obj


def updated(kind: tuple[str, str], obj: KubeObject, old: KubeObject) -> KubeObject:
    builtin.set_defaults(kind, obj)
    builtin.prepare_update(kind, obj, old)
    return obj


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("0.5Gi", "512Mi"),
        ("100000", "100k"),
        ("1e3", "1e3"),
        ("1.5e3", "1500"),
        ("0", "0"),
        ("0.1Ki", "102400m"),
        ("-1500m", "-1500m"),
        ("1E", "1E"),
        ("+1", "1"),
        ("1x", "1x"),
    ],
)
def test_a_quantity_is_written_in_its_canonical_form(said: str, kept: str) -> None:
    assert quantity(said) == kept


def test_quantities_are_added() -> None:
    assert total(["100m", "1"]) == "1100m"
    assert total(["512Mi", "512Mi"]) == "1Gi"


def test_times_are_written_in_utc() -> None:
    assert written(TIME, "2024-01-02T03:04:05.9+01:00") == "2024-01-02T02:04:05Z"
    assert written(MICRO_TIME, "2024-01-02T03:04:05.5Z") == "2024-01-02T03:04:05.500000Z"
    assert written(DURATION, "90s") == "1m30s"
    assert written(DURATION, "1h") == "1h0m0s"
    assert written(DURATION, "1500us") == "1.5ms"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("h:5000/a", "Always"),
        ("a@sha256:0", "IfNotPresent"),
    ],
)
def test_latest_is_pulled_always(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_a_pod_without_requests_is_served_last() -> None:
    limits = {"cpu": "1", "memory": "1Gi"}
    assert quality_of_service({"containers": [{}]}) == "BestEffort"
    assert quality_of_service({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}) == "Burstable"
    guaranteed = {"containers": [{"resources": {"limits": limits, "requests": limits}}]}
    assert quality_of_service(guaranteed) == "Guaranteed"


def test_a_generation_counts_the_changes_of_the_spec() -> None:
    old = created(DEPLOYMENT, deployment())
    assert old["metadata"]["generation"] == 1
    assert old["status"] == {}
    same = updated(DEPLOYMENT, copy.deepcopy(old), old)
    assert same == old
    changed = copy.deepcopy(old)
    changed["spec"]["replicas"] = 3
    assert updated(DEPLOYMENT, changed, old)["metadata"]["generation"] == 2
    annotated = copy.deepcopy(old)
    annotated["metadata"]["annotations"] = {"a": "b"}
    assert updated(DEPLOYMENT, annotated, old)["metadata"]["generation"] == 2
    assert builtin.has_generation(DEPLOYMENT)
    assert not builtin.has_generation(("", "ConfigMap"))


def test_a_status_is_changed_only_through_its_subresource() -> None:
    old = created(DEPLOYMENT, deployment())
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 3
    new["status"] = {"replicas": 1}
    assert updated(DEPLOYMENT, copy.deepcopy(new), old)["status"] == {}
    builtin.prepare_status_update(DEPLOYMENT, new, old)
    assert new["spec"] == old["spec"]
    assert new["status"] == {"replicas": 1}
    assert new["metadata"]["generation"] == 1


def test_a_service_keeps_what_it_was_given() -> None:
    old = created(SERVICE, service(type="NodePort"))
    assert old["spec"]["clusterIP"].startswith("10.")
    assert 30000 <= old["spec"]["ports"][0]["nodePort"] < 32768
    assert created(SERVICE, service(type="NodePort")) == old
    assert updated(SERVICE, service(type="NodePort"), old)["spec"] == old["spec"]
    inner = updated(SERVICE, service(type="ClusterIP"), old)["spec"]
    assert inner["clusterIP"] == old["spec"]["clusterIP"]
    assert "nodePort" not in inner["ports"][0]
    outer = updated(SERVICE, service(type="ExternalName", externalName="example.com", ports=None), old)["spec"]
    assert "clusterIP" not in outer


def test_a_selector_is_refused_in_the_words_of_the_server() -> None:
    old = created(DEPLOYMENT, deployment())
    new = copy.deepcopy(old)
    new["spec"]["selector"] = {"matchLabels": {"c": "d"}}
    new["spec"]["template"]["metadata"]["labels"] = {"c": "d"}
    (cause,) = builtin.problems_on_update(DEPLOYMENT, updated(DEPLOYMENT, new, old), old)
    assert cause.field == "spec.selector"
    assert cause.message == 'Invalid value: {"matchLabels":{"c":"d"}}: field is immutable'


def test_what_is_not_built_in_is_left_alone() -> None:
    kind = ("example.com", "Thing")
    obj: KubeObject = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "x": None}
    assert created(kind, copy.deepcopy(obj)) == obj
    assert builtin.problems_on_create(kind, obj) == []
