from datetime import UTC, datetime

import pytest

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.health import ObjectHealth, health_of

NEW = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC)


def obj(kind: str, version: str, status: KubeObject, **parts: KubeObject) -> KubeObject:
    metadata = {"name": "x", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"}
    metadata |= parts.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "status": status, **parts}


def condition(kind: str, status: str = "True", reason: str = "Because", message: str = "it is so") -> KubeObject:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def test_what_is_not_there_is_not_found() -> None:
    assert health_of(None).health == "NotFound"


def test_of_what_nothing_is_said_all_is_well() -> None:
    assert health_of({"apiVersion": "e/v1", "kind": "W", "metadata": {"name": "w"}}) == ObjectHealth("Current")


def test_what_is_being_deleted_says_what_it_waits_for() -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion", "example.com/x"]}
    found = health_of(obj("Namespace", "v1", {"phase": "Terminating"}, metadata=going))
    assert found.health == "Terminating"
    assert "foregroundDeletion, example.com/x" in found.message


@pytest.mark.parametrize(
    ("kind", "version"),
    [("Kustomization", "kustomize.toolkit.fluxcd.io/v1"), ("GitRepository", "source.toolkit.fluxcd.io/v1")],
)
@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({"observedGeneration": -1}, "InProgress"),  # as a Flux object is created (CM-012)
        ({"observedGeneration": 1, "conditions": [condition("Ready")]}, "InProgress"),
        ({"observedGeneration": 2, "conditions": [condition("Ready")]}, "Current"),
        ({"observedGeneration": 2, "conditions": [condition("Ready", "False")]}, "InProgress"),
        ({"observedGeneration": 2, "conditions": [condition("Ready", "Unknown")]}, "InProgress"),
        ({"observedGeneration": 2, "conditions": [condition("Reconciling"), condition("Ready")]}, "InProgress"),
        ({"observedGeneration": 2, "conditions": [condition("Stalled"), condition("Ready", "False")]}, "Failed"),
        ({"observedGeneration": 2, "conditions": [condition("Stalled", "False"), condition("Ready")]}, "Current"),
    ],
)
def test_objects_of_flux_do_as_their_conditions_say(kind: str, version: str, status: KubeObject, health: str) -> None:
    assert health_of(obj(kind, version, status)).health == health


def test_the_condition_that_told_gives_reason_and_message() -> None:
    stalled = condition("Stalled", reason="InvalidURL", message="the URL has no host")
    status = {"observedGeneration": 2, "conditions": [stalled]}
    found = health_of(obj("GitRepository", "source.toolkit.fluxcd.io/v1", status))
    assert found == ObjectHealth("Failed", "InvalidURL", "the URL has no host")


@pytest.mark.parametrize(
    ("spec", "conditions", "health"),
    [
        ({}, [], "InProgress"),
        ({}, [condition("Complete")], "Current"),
        ({}, [condition("SuccessCriteriaMet")], "InProgress"),
        ({}, [condition("Complete", "False")], "InProgress"),
        ({}, [condition("Failed", reason="BackoffLimitExceeded")], "Failed"),
        ({"suspend": True}, [], "Current"),
        ({"suspend": True}, [condition("Failed")], "Failed"),
        ({"suspend": False}, [condition("Suspended", "False")], "InProgress"),
    ],
)
def test_a_job_is_well_once_it_has_ended_well_or_is_suspended(
    spec: KubeObject, conditions: list[KubeObject], health: str
) -> None:
    assert health_of(obj("Job", "batch/v1", {"active": 1, "conditions": conditions}, spec=spec)).health == health


def test_a_stateful_set_whose_pods_cannot_be_scheduled_is_in_progress() -> None:
    counts = {"replicas": 3, "readyReplicas": 2, "currentReplicas": 2, "updatedReplicas": 1}
    status = {"observedGeneration": 2, **counts, "currentRevision": "a", "updateRevision": "b"}
    found = health_of(obj("StatefulSet", "apps/v1", status, spec={"replicas": 3}))
    assert found == ObjectHealth("InProgress", "LessReady", "ready replicas: 2/3")


@pytest.mark.parametrize(("now", "health"), [(None, "InProgress"), (NEW, "InProgress"), (LATER, "Failed")])
def test_a_pod_that_nothing_has_room_for_has_failed_after_a_while(now: datetime | None, health: str) -> None:
    conditions = [condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")]
    assert health_of(obj("Pod", "v1", {"phase": "Pending", "conditions": conditions}), now).health == health


def test_a_deployment_that_gets_no_further_has_failed() -> None:
    stuck = condition("Progressing", "False", "ProgressDeadlineExceeded", "it took too long")
    found = health_of(obj("Deployment", "apps/v1", {"observedGeneration": 2, "conditions": [stuck]}))
    assert found == ObjectHealth("Failed", "ProgressDeadlineExceeded", "it took too long")


@pytest.mark.parametrize(
    "status",
    [None, [], "x", {"conditions": None}, {"conditions": "x"}, {"conditions": ["x", {}]}, {"observedGeneration": "2"}],
)
@pytest.mark.parametrize(
    ("kind", "version"), [("Deployment", "apps/v1"), ("Pod", "v1"), ("Job", "batch/v1"), ("Widget", "example.com/v1")]
)
def test_a_status_of_another_form_is_no_reason_to_fail(kind: str, version: str, status: KubeObject) -> None:
    assert health_of(obj(kind, version, status)).health in {"InProgress", "Current"}
