"""Why a workload is not available, from its Pods as a kubelet reports them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.observe.pods import Found, cause_of, controlled_by, told_by
from tidelog.events.vocabulary import Because

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
LONG_AGO = "2026-05-01T11:00:00Z"
JUST_NOW = "2026-05-01T11:59:58Z"
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "cannot log in with hunter2"}}
NO_IMAGE = {"waiting": {"reason": "ErrImagePull", "message": 'failed to pull "nginx:9.9": not found'}}


def owned(kind: str, name: str, by: str, **fields: Any) -> KubeObject:
    """An object with a controller, and its name as its uid."""
    metadata: KubeObject = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": LONG_AGO}
    metadata |= {"ownerReferences": [{"uid": by, "controller": True}]} if by else {}
    group = {"Pod": "v1", "Job": "batch/v1"}.get(kind, "apps/v1")
    return {"apiVersion": group, "kind": kind, "metadata": metadata, **fields}


def pod(name: str, *containers: KubeObject, by: str = "new", phase: str = "Pending", **status: Any) -> KubeObject:
    statuses = [{"name": f"c{number}", "ready": False, **one} for number, one in enumerate(containers)]
    return owned("Pod", name, by, status={"phase": phase, "containerStatuses": statuses, **status})


def replica_set(name: str, revision: int, **fields: Any) -> KubeObject:
    made = owned("ReplicaSet", name, "web", **fields)
    made["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(revision)}
    return made


def cause(*pods: KubeObject, workload: str = "Deployment", patient: bool = True) -> Because | None:
    sets = [replica_set("old", 9), replica_set("new", 10)]
    return cause_of(owned(workload, "web", ""), Found(sets, pods), NOW, patient=patient)


def condition(kind: str, status: str, reason: str, message: str) -> list[KubeObject]:
    return [{"type": kind, "status": status, "reason": reason, "message": message}]


@pytest.mark.parametrize(
    ("seen", "reason", "message"),
    [
        (pod("a", {"state": NO_IMAGE}), "ErrImagePull", 'container c0: failed to pull "nginx:9.9": not found'),
        (
            pod(
                "a", {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}}
            ),
            "CreateContainerConfigError",
            'container c0: secret "s" not found',
        ),
        (
            pod(
                "a",
                {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}}, "lastState": CRASHED},
            ),
            "CrashLoopBackOff",
            "container c0 ends again and again, last with exit code 1 (Error)",
        ),
        (
            pod("a", {"state": {"running": {}}, "lastState": CRASHED, "restartCount": 2}, phase="Running"),
            "CrashLoopBackOff",
            "container c0 ends again and again, last with exit code 1 (Error)",
        ),
        (
            pod("a", conditions=condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")),
            "Unschedulable",
            "0/3 nodes are available",
        ),
        (
            pod(
                "a", {}, phase="Running", conditions=condition("Ready", "False", "ContainersNotReady", "unready: [c0]")
            ),
            "ContainersNotReady",
            "unready: [c0]",
        ),
        (
            pod("a", {"state": {"waiting": {"reason": "ContainerCreating"}}}),
            "ContainerCreating",
            "none of its containers began",
        ),
        (
            pod("a", phase="Failed", reason="Evicted", message="The node was low on resource: memory"),
            "Evicted",
            "The node was low on resource: memory",
        ),
    ],
)
def test_what_a_pod_says_is_the_cause(seen: KubeObject, reason: str, message: str) -> None:
    found = cause(seen)
    assert found is not None
    assert (found.object, found.reason, found.message) == (key_of(seen).id, reason, message)


def test_what_a_container_wrote_at_its_end_is_never_told() -> None:
    for workload in ("Deployment", "Job"):
        for state in ({"state": CRASHED}, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": CRASHED}):
            found = cause(pod("a", state, phase="Failed"), workload=workload)
            assert found is not None
            assert "hunter2" not in found.message


def test_why_a_program_could_not_be_started_is_told_by_the_runtime() -> None:
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": 'exec: "nosuch": not found'}}
    found = cause(pod("a", {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}))
    assert found is not None
    assert found.message.endswith('last with exit code 128 (StartError): exec: "nosuch": not found')


def test_pods_of_the_newest_set_count_before_those_that_go() -> None:
    crashing = pod("a", {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": CRASHED}, by="old")
    waiting = pod("b", phase="Running", conditions=condition("Ready", "False", "ContainersNotReady", "probe"))
    found = cause(crashing, waiting)
    assert found is not None
    assert found.object.endswith("/b")
    only_old = cause(crashing)
    assert only_old is not None
    assert only_old.reason == "CrashLoopBackOff"


def test_what_was_evicted_is_no_cause_while_what_came_in_its_place_has_one() -> None:
    evicted = pod("a", phase="Failed", reason="Evicted")
    found = cause(evicted, pod("b", {"state": NO_IMAGE}))
    assert found is not None
    assert found.reason == "ErrImagePull"


def test_pods_that_only_take_their_time_are_given_it() -> None:
    young = pod("a", {"state": {"waiting": {"reason": "ContainerCreating"}}})
    young["metadata"]["creationTimestamp"] = JUST_NOW
    assert cause(young) is None
    assert cause(young, patient=False) is not None
    assert cause(pod("a", {"ready": True}, phase="Running", conditions=condition("Ready", "True", "", ""))) is None
    gone = pod("a", {"state": NO_IMAGE})
    gone["metadata"]["deletionTimestamp"] = JUST_NOW
    assert cause(gone) is None


def test_a_quota_is_told_by_the_set_that_makes_the_pods() -> None:
    status = {"conditions": condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota: small")}
    sets = [replica_set("old", 9), replica_set("new", 10, status=status)]
    found = cause_of(owned("Deployment", "web", ""), Found(sets, [pod("a", {"ready": True}, by="old")]), NOW)
    assert found == Because(object=key_of(sets[1]).id, reason="FailedCreate", message="exceeded quota: small")


def test_only_what_a_workload_controls_is_its_own() -> None:
    others = [pod("a", by="other"), pod("b", by="web")]
    assert controlled_by(others, frozenset({"web"})) == others[1:]
    assert controlled_by([{"metadata": {"name": "bare"}}], frozenset({"web"})) == []


def test_the_newest_warning_of_a_kind_is_what_events_say() -> None:
    def warning(reason: str, message: str, minutes: int, kind: str = "Warning") -> KubeObject:
        last = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"type": kind, "reason": reason, "message": message, "lastTimestamp": last, "metadata": {}}

    mount = frozenset({"FailedMount"})
    events = [warning("FailedMount", "older", 5), warning("FailedMount", "newer", 1), warning("BackOff", "other", 0)]
    told = told_by(events, mount, NOW)
    assert told is not None
    assert told.message == "newer"
    assert told_by([warning("FailedMount", "long ago", 60)], mount, NOW) is None
    assert told_by([warning("FailedMount", "no warning", 1, "Normal")], mount, NOW) is None
