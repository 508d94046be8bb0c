"""Workloads of the embedded cluster, as Tidelog's own reading of health sees them."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.cluster.embedded.small import APPS, BATCH, CORE, READY_S, WATCH_S, Small, open_small
from tidelog.engine.cluster.embedded.cluster import open_embedded
from tidelog.engine.cluster.embedded.cron_jobs import SCHEDULED
from tidelog.engine.cluster.embedded.likenesses import ANNOTATION
from tidelog.engine.cluster.embedded.standins import Pace
from tidelog.engine.expressions.evaluator import Evaluator

WEB = f"{APPS}/deployments/web"
BASE = f"{APPS}/statefulsets/base"
AGENT = f"{APPS}/daemonsets/agent"
TASK = f"{BATCH}/jobs/task"


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


def template(image: str = "web:1", failure: str = "", **spec: Any) -> Any:
    metadata: Any = {"labels": {"app": "web"}}
    if failure:
        metadata["annotations"] = {ANNOTATION: failure}
    return {"metadata": metadata, "spec": {"containers": [{"name": "web", "image": image}], **spec}}


def workload(name: str, failure: str = "", **spec: Any) -> Any:
    selector = {"matchLabels": {"app": "web"}}
    return {"metadata": {"name": name}, "spec": {"selector": selector, "template": template(failure=failure), **spec}}


async def deploy(small: Small, failure: str = "", **spec: Any) -> None:
    await small.create(f"{APPS}/deployments", workload("web", failure, **spec))
    await small.settle()


def images(pods: list[Any]) -> list[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in pods]


async def pods_of(small: Small) -> list[Any]:
    return await small.items(f"{CORE}/pods")


async def told(small: Small, path: str) -> tuple[str, str]:
    health = await small.health(path)
    return health.health, health.reason


# ---------------------------------------------------------------------------------------------- Deployments


async def test_a_deployment_gets_its_pods_and_becomes_available(small: Small) -> None:
    await deploy(small, replicas=2)
    assert (await small.health(WEB)).health == "InProgress"
    sets, pods = await small.items(f"{APPS}/replicasets"), await pods_of(small)
    assert [one["spec"]["replicas"] for one in sets] == [2]
    assert {pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods} == {sets[0]["metadata"]["uid"]}
    assert [pod["status"]["phase"] for pod in pods] == ["Pending", "Pending"]
    await small.after(READY_S)
    assert (await small.health(WEB)).health == "Current"
    for path in (f"{APPS}/replicasets/{sets[0]['metadata']['name']}", f"{CORE}/pods/{pods[0]['metadata']['name']}"):
        assert (await small.health(path)).health == "Current"
    status = (await small.get(WEB))["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (2, 2, 2)


async def test_a_deployment_is_scaled(small: Small) -> None:
    await deploy(small)
    await small.after(READY_S)
    await small.patch(WEB, {"spec": {"replicas": 3}})
    await small.settle()
    assert len(await pods_of(small)) == 3
    assert (await small.health(WEB)).health == "InProgress"
    await small.after(READY_S)
    assert (await small.health(WEB)).health == "Current"
    await small.patch(WEB, {"spec": {"replicas": 0}})
    await small.settle()
    assert await pods_of(small) == []
    assert (await small.health(WEB)).health == "Current"


async def test_a_new_template_rolls_over_once_it_is_ready(small: Small) -> None:
    await deploy(small)
    await small.after(READY_S)
    await small.patch(WEB, {"spec": {"template": template("web:2")}})
    await small.settle()
    assert sorted(images(await pods_of(small))) == ["web:1", "web:2"]
    assert (await small.health(WEB)).health == "InProgress"
    await small.after(READY_S)
    assert images(await pods_of(small)) == ["web:2"]
    assert (await small.health(WEB)).health == "Current"
    assert sorted(one["spec"]["replicas"] for one in await small.items(f"{APPS}/replicasets")) == [0, 1]


async def test_a_rollout_back_uses_the_replica_set_of_before(small: Small) -> None:
    await deploy(small)
    await small.after(READY_S)
    for image in ("web:2", "web:1"):
        await small.patch(WEB, {"spec": {"template": template(image)}})
        await small.after(READY_S)
    assert images(await pods_of(small)) == ["web:1"]
    assert len(await small.items(f"{APPS}/replicasets")) == 2
    assert (await small.health(WEB)).health == "Current"


def annotated(obj: Any, name: str) -> str | None:
    said: str | None = obj["metadata"].get("annotations", {}).get(f"deployment.kubernetes.io/{name}")
    return said


async def test_revisions_are_numbered_and_one_that_comes_back_is_the_last(small: Small) -> None:
    await deploy(small, replicas=2, strategy={"rollingUpdate": {"maxSurge": "30%"}})
    await small.patch(WEB, {"metadata": {"annotations": {"kubernetes.io/change-cause": "first"}}})
    await small.after(READY_S)
    for image in ("web:2", "web:1"):
        await small.patch(WEB, {"spec": {"template": template(image)}})
        await small.after(READY_S)
    assert annotated(await small.get(WEB), "revision") == "3"
    first, second = await small.items(f"{APPS}/replicasets")
    if annotated(first, "revision") == "2":
        first, second = second, first
    assert [annotated(one, "revision") for one in (first, second)] == ["3", "2"]
    assert [annotated(one, "revision-history") for one in (first, second)] == ["1", None]
    assert [annotated(first, name) for name in ("desired-replicas", "max-replicas")] == ["2", "3"]
    assert first["metadata"]["annotations"]["kubernetes.io/change-cause"] == "first"


async def test_no_more_revisions_are_kept_than_are_asked_for(small: Small) -> None:
    await deploy(small, revisionHistoryLimit=1)
    await small.after(READY_S)
    for image in ("web:2", "web:3", "web:4"):
        await small.patch(WEB, {"spec": {"template": template(image)}})
        await small.after(READY_S)
    sets = await small.items(f"{APPS}/replicasets")
    assert sorted(str(annotated(one, "revision")) for one in sets) == ["3", "4"]


@pytest.mark.parametrize("failure", ["ImagePullBackOff", "CrashLoopBackOff", "NeverReady"])
async def test_a_failing_deployment_waits_until_its_deadline(small: Small, failure: str) -> None:
    await deploy(small, failure, progressDeadlineSeconds=20)
    await small.after(READY_S + 1)
    (pod,) = await pods_of(small)
    container = pod["status"]["containerStatuses"][0]
    assert container["state"].get("waiting", {}).get("reason") == (failure if failure != "NeverReady" else None)
    assert not container["ready"]
    assert (
        await told(small, f"{CORE}/pods/{pod['metadata']['name']}")
        == {
            "ImagePullBackOff": ("InProgress", "PodPending"),
            "CrashLoopBackOff": ("Failed", "ContainerCrashLooping"),
            "NeverReady": ("InProgress", "PodRunningNotReady"),
        }[failure]
    )
    assert (await small.health(WEB)).health == "InProgress"
    await small.after(20)
    assert await told(small, WEB) == ("Failed", "ProgressDeadlineExceeded")


async def test_no_pods_are_made_beyond_a_quota(small: Small) -> None:
    await deploy(small, "QuotaExceeded", progressDeadlineSeconds=20)
    await small.after(READY_S)
    assert await pods_of(small) == []
    (name,) = await small.names(f"{APPS}/replicasets")
    assert await told(small, f"{APPS}/replicasets/{name}") == ("InProgress", "FailedCreate")
    conditions = {one["type"]: one for one in (await small.get(WEB))["status"]["conditions"]}
    assert "exceeded quota" in conditions["ReplicaFailure"]["message"]
    assert (await small.health(WEB)).health == "InProgress"
    await small.after(20)
    assert await told(small, WEB) == ("Failed", "ProgressDeadlineExceeded")


@pytest.mark.parametrize("failure", ["ImagePullBackOff", "QuotaExceeded"])
async def test_a_failed_rollout_keeps_the_old_pods_and_is_mended_by_the_next(small: Small, failure: str) -> None:
    await deploy(small, progressDeadlineSeconds=10)
    await small.after(READY_S)
    await small.patch(WEB, {"spec": {"template": template("web:2", failure)}})
    await small.after(15)
    assert await told(small, WEB) == ("Failed", "ProgressDeadlineExceeded")
    assert "web:1" in images(await pods_of(small))
    await small.patch(WEB, {"spec": {"template": {"metadata": {"annotations": None}, **template("web:3")}}})
    await small.patch(WEB, {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: None}}}}})
    await small.settle()
    assert (await small.health(WEB)).health == "InProgress"
    await small.after(READY_S)
    assert images(await pods_of(small)) == ["web:3"]
    assert (await small.health(WEB)).health == "Current"


async def test_the_deadline_counts_from_the_last_progress(small: Small) -> None:
    await deploy(small, progressDeadlineSeconds=10)
    await small.after(60)
    await small.patch(WEB, {"spec": {"replicas": 2}})
    await small.after(1)
    assert (await small.health(WEB)).health == "InProgress"  # and not Failed, because the ReplicaSet is old
    await small.after(READY_S)
    for image in ("web:2", "web:1"):
        await small.patch(WEB, {"spec": {"template": template(image)}})
        await small.after(1)
        assert (await small.health(WEB)).health == "InProgress"
        await small.after(60)
        assert (await small.health(WEB)).health == "Current"


async def test_a_pod_that_goes_is_made_again(small: Small) -> None:
    await deploy(small)
    await small.after(READY_S)
    (before,) = await small.names(f"{CORE}/pods")
    await small.delete(f"{CORE}/pods/{before}")
    await small.settle()
    (now,) = await small.names(f"{CORE}/pods")
    assert now != before
    assert (await small.health(WEB)).health == "InProgress"


async def test_what_a_deployment_owns_goes_with_it(small: Small) -> None:
    await deploy(small, replicas=2)
    await small.delete(WEB)
    await small.settle()
    assert await small.items(f"{APPS}/replicasets") == []
    assert await pods_of(small) == []


# ----------------------------------------------------------------------------------- StatefulSets, DaemonSets


async def test_a_stateful_set_comes_up_in_order(small: Small) -> None:
    await small.create(f"{APPS}/statefulsets", workload("base", replicas=3, serviceName="base"))
    await small.settle()
    for count in (1, 2, 3):
        assert await small.names(f"{CORE}/pods") == [f"base-{number}" for number in range(count)]
        assert (await small.health(BASE)).health == "InProgress"
        await small.after(READY_S)
    assert (await small.health(BASE)).health == "Current"
    await small.patch(BASE, {"spec": {"replicas": 1}})
    await small.settle()
    assert await small.names(f"{CORE}/pods") == ["base-0"]
    assert (await small.health(BASE)).health == "Current"


async def test_a_parallel_stateful_set_comes_up_at_once(small: Small) -> None:
    made = workload("base", replicas=3, serviceName="base", podManagementPolicy="Parallel")
    await small.create(f"{APPS}/statefulsets", made)
    await small.settle()
    assert len(await small.names(f"{CORE}/pods")) == 3


async def test_a_stateful_set_is_rolled_pod_by_pod_from_the_last(small: Small) -> None:
    made = workload("base", replicas=3, serviceName="base", podManagementPolicy="Parallel")
    await small.create(f"{APPS}/statefulsets", made)
    await small.after(READY_S)
    await small.patch(BASE, {"spec": {"template": template("web:2")}})
    await small.settle()
    for updated in (1, 2, 3):
        assert images(await pods_of(small)) == ["web:1"] * (3 - updated) + ["web:2"] * updated
        assert (await small.health(BASE)).health == "InProgress"
        await small.after(READY_S)
    assert (await small.health(BASE)).health == "Current"


async def test_a_partition_holds_the_first_pods_back(small: Small) -> None:
    update = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    made = workload("base", replicas=2, serviceName="base", updateStrategy=update)
    await small.create(f"{APPS}/statefulsets", made)
    await small.after(3 * READY_S)
    await small.patch(BASE, {"spec": {"template": template("web:2")}})
    await small.after(3 * READY_S)
    assert images(await pods_of(small)) == ["web:1", "web:2"]
    assert (await small.health(BASE)).health == "Current"


async def test_a_stateful_set_updated_on_deletion_keeps_its_pods(small: Small) -> None:
    made = workload("base", serviceName="base", updateStrategy={"type": "OnDelete"})
    await small.create(f"{APPS}/statefulsets", made)
    await small.after(READY_S)
    await small.patch(BASE, {"spec": {"template": template("web:2")}})
    await small.settle()
    assert images(await pods_of(small)) == ["web:1"]
    await small.delete(f"{CORE}/pods/base-0")
    await small.settle()
    assert images(await pods_of(small)) == ["web:2"]


async def test_a_stateful_set_has_claims_made_that_stay(small: Small) -> None:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = [{"metadata": {"name": "data", "labels": {"kept": "true"}}, "spec": asked}]
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]
    made = workload("base", replicas=2, serviceName="base", volumeClaimTemplates=claims)
    made["spec"]["template"]["spec"]["volumes"] = volumes
    await small.create(f"{APPS}/statefulsets", made)
    await small.after(3 * READY_S)
    found = await small.items(f"{CORE}/persistentvolumeclaims")
    assert [one["metadata"]["name"] for one in found] == ["data-base-0", "data-base-1"]
    assert [one["metadata"]["labels"] for one in found] == [{"app": "web", "kept": "true"}] * 2
    assert [one["status"]["phase"] for one in found] == ["Bound"] * 2
    pod = (await small.get(f"{CORE}/pods/base-1"))["spec"]
    used = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"][:2]}
    assert used == {"data": "data-base-1", "scratch": None}
    assert (pod["hostname"], pod["subdomain"]) == ("base-1", "base")
    await small.patch(BASE, {"spec": {"replicas": 0}})
    await small.delete(BASE)
    await small.settle()
    assert await small.names(f"{CORE}/persistentvolumeclaims") == ["data-base-0", "data-base-1"]


async def test_claims_go_with_a_stateful_set_that_says_so(small: Small) -> None:
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    kept = {"whenDeleted": "Delete"}
    claims = [{"metadata": {"name": "data"}, "spec": asked}]
    made = workload("base", volumeClaimTemplates=claims, persistentVolumeClaimRetentionPolicy=kept)
    await small.create(f"{APPS}/statefulsets", made)
    await small.settle()
    assert await small.names(f"{CORE}/persistentvolumeclaims") == ["data-base-0"]
    await small.delete(BASE)
    await small.settle()
    assert await small.names(f"{CORE}/persistentvolumeclaims") == []


async def test_a_daemon_set_has_a_pod_and_is_rolled(small: Small) -> None:
    await small.create(f"{APPS}/daemonsets", workload("agent"))
    await small.settle()
    assert (await small.health(AGENT)).health == "InProgress"
    (pod,) = await pods_of(small)
    assert pod["metadata"]["labels"]["pod-template-generation"] == "1"
    await small.after(READY_S)
    assert (await small.health(AGENT)).health == "Current"
    await small.patch(AGENT, {"spec": {"template": template("web:2")}})
    await small.settle()
    assert images(await pods_of(small)) == ["web:2"]
    assert (await small.health(AGENT)).health == "InProgress"
    await small.after(READY_S)
    assert (await small.health(AGENT)).health == "Current"


@pytest.mark.parametrize("plural", ["statefulsets", "daemonsets"])
@pytest.mark.parametrize("failure", ["ImagePullBackOff", "CrashLoopBackOff", "NeverReady", "QuotaExceeded"])
async def test_other_sets_fail_as_they_are_told_to(small: Small, plural: str, failure: str) -> None:
    more = {"serviceName": "it"} if plural == "statefulsets" else {}
    await small.create(f"{APPS}/{plural}", workload("it", failure, **more))
    await small.after(4 * READY_S)
    assert (await small.health(f"{APPS}/{plural}/it")).health == "InProgress"
    assert len(await pods_of(small)) == (0 if failure == "QuotaExceeded" else 1)


# ---------------------------------------------------------------------------------------------- Jobs


def job(failure: str = "", **spec: Any) -> Any:
    return {
        "metadata": {"name": "task"},
        "spec": {"template": template("task:1", failure, restartPolicy="Never"), **spec},
    }


async def test_a_job_completes(small: Small) -> None:
    await small.create(f"{BATCH}/jobs", job(completions=3, parallelism=2))
    await small.settle()
    assert len(await pods_of(small)) == 2
    assert (await small.health(TASK)).health == "InProgress"
    await small.after(READY_S)
    assert [pod["status"]["phase"] for pod in await pods_of(small)].count("Succeeded") == 2
    assert (await small.health(TASK)).health == "InProgress"
    await small.after(READY_S)
    assert await told(small, TASK) == ("Current", "JobComplete")
    assert (await small.get(TASK))["status"]["succeeded"] == 3


async def test_a_job_fails_after_its_last_try(small: Small) -> None:
    await small.create(f"{BATCH}/jobs", job("CrashLoopBackOff", backoffLimit=1))
    await small.after(READY_S)
    assert (await small.health(TASK)).health == "InProgress"
    await small.after(READY_S)
    assert await told(small, TASK) == ("Failed", "BackoffLimitExceeded")
    assert (await small.get(TASK))["status"]["failed"] == 2
    assert {pod["status"]["phase"] for pod in await pods_of(small)} == {"Failed"}


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("failure", "phase", "shown"),
    [("ImagePullBackOff", "Pending", "ImagePullBackOff"), ("NeverReady", "Running", "Running")],
)
async def test_a_job_whose_pod_never_comes_to_an_end_goes_on(
    small: Small, failure: str, phase: str, shown: str
) -> None:
    """As that of a real cluster, until its own deadline."""
    await small.create(f"{BATCH}/jobs", job(failure, backoffLimit=0, activeDeadlineSeconds=40))
    await small.after(READY_S + 30)
    (pod,) = await pods_of(small)
    assert (pod["status"]["phase"], pod["status"]["containerStatuses"][0]["ready"]) == (phase, False)
    status = (await small.get(TASK))["status"]
    assert (status["active"], status["ready"], status.get("failed"), status.get("conditions")) == (1, 0, None, None)
    assert (await small.health(TASK)).health == "InProgress"
    assert (await row(small, f"{BATCH}/jobs"))[:3] == ["task", "Running", "0/1"]
    assert (await row(small, f"{CORE}/pods"))[1:4] == ["0/1", shown, "0"]
    await small.after(10)
    assert await told(small, TASK) == ("Failed", "DeadlineExceeded")
    assert (await row(small, f"{BATCH}/jobs"))[:3] == ["task", "Failed", "0/1"]


async def row(small: Small, path: str) -> list[Any]:
    """What `kubectl get` shows of the one object that is there."""
    (only,) = (await small.ask("GET", path, accept=TABLE))["rows"]
    cells: list[Any] = only["cells"]
    return cells


async def test_a_job_is_taken_away_when_its_time_to_live_is_over(small: Small) -> None:
    await small.create(f"{BATCH}/jobs", job(ttlSecondsAfterFinished=3))
    await small.after(6)
    assert await told(small, TASK) == ("Current", "JobComplete")
    await small.after(4)
    assert not await small.exists(TASK)
    assert await small.names(f"{CORE}/pods") == []


async def test_a_job_that_takes_longer_than_it_may_fails(small: Small) -> None:
    await small.create(f"{BATCH}/jobs", job(activeDeadlineSeconds=2, completions=2))
    await small.after(1)
    assert len(await small.names(f"{CORE}/pods")) == 1
    await small.after(2)
    task = await small.get(TASK)
    failed = next(one for one in task["status"]["conditions"] if one["type"] == "Failed")
    assert failed["reason"] == "DeadlineExceeded"
    assert task["status"]["failed"] == 1
    assert await small.names(f"{CORE}/pods") == []


async def test_a_suspended_job_does_nothing_until_it_goes_on(small: Small) -> None:
    await small.create(f"{BATCH}/jobs", job(suspend=True, activeDeadlineSeconds=READY_S + 2))
    await small.after(READY_S)
    assert await pods_of(small) == []
    status = (await small.get(TASK))["status"]
    assert "startTime" not in status
    assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [
        ("Suspended", "True", "JobSuspended")
    ]
    await small.patch(TASK, {"spec": {"suspend": False}})
    await small.after(1)
    assert len(await pods_of(small)) == 1
    await small.patch(TASK, {"spec": {"suspend": True}})
    await small.after(READY_S)
    assert await pods_of(small) == []
    await small.patch(TASK, {"spec": {"suspend": False}})
    await small.after(READY_S)
    assert await told(small, TASK) == ("Current", "JobComplete")
    conditions = (await small.get(TASK))["status"]["conditions"]
    assert [(one["type"], one["status"]) for one in conditions] == [
        ("Suspended", "False"),
        ("SuccessCriteriaMet", "True"),
        ("Complete", "True"),
    ]


# ---------------------------------------------------------------------------------------------- CronJobs

OFTEN = f"{BATCH}/cronjobs/often"


def cron_job(schedule: str = "* * * * *", work: Any = None, **spec: Any) -> Any:
    work = job()["spec"] if work is None else work
    made = {"schedule": schedule, "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": work}, **spec}
    return {"metadata": {"name": "often"}, "spec": made}


async def test_a_cron_job_makes_a_job_whenever_it_is_due(small: Small) -> None:
    await small.create(f"{BATCH}/cronjobs", cron_job())
    await small.after(59)
    assert await small.names(f"{BATCH}/jobs") == []
    await small.after(1)
    (made,) = await small.items(f"{BATCH}/jobs")
    status = (await small.get(OFTEN))["status"]
    assert (made["metadata"]["name"], made["metadata"]["labels"]["a"]) == ("often-30000001", "b")
    assert made["metadata"]["annotations"] == {SCHEDULED: "2027-01-15T08:01:00Z"}
    assert [one["uid"] for one in status["active"]] == [made["metadata"]["uid"]]
    assert status["lastScheduleTime"] == "2027-01-15T08:01:00Z"
    await small.after(READY_S)
    status = (await small.get(OFTEN))["status"]
    assert status == {
        "lastScheduleTime": "2027-01-15T08:01:00Z",
        "lastSuccessfulTime": f"2027-01-15T08:01:{READY_S:02.0f}Z",
    }
    await small.after(60)
    assert await small.names(f"{BATCH}/jobs") == ["often-30000001", "often-30000002"]


async def test_a_cron_job_keeps_the_last_jobs_and_goes_with_all_of_them(small: Small) -> None:
    await small.create(f"{BATCH}/cronjobs", cron_job(successfulJobsHistoryLimit=2))
    await small.after(5 * 60 + READY_S)
    assert await small.names(f"{BATCH}/jobs") == ["often-30000004", "often-30000005"]
    failing = job("CrashLoopBackOff", backoffLimit=0)["spec"]
    await small.patch(OFTEN, {"spec": {"jobTemplate": {"spec": {"template": failing["template"], "backoffLimit": 0}}}})
    await small.after(2 * 60)
    assert await small.names(f"{BATCH}/jobs") == ["often-30000004", "often-30000005", "often-30000007"]
    await small.delete(OFTEN)
    await small.settle()
    assert await small.names(f"{BATCH}/jobs") == await small.names(f"{CORE}/pods") == []


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ("Allow", ["often-30000001", "often-30000002"]),
        ("Forbid", ["often-30000001"]),
        ("Replace", ["often-30000002"]),
    ],
)
async def test_a_job_that_is_still_at_work_when_the_next_is_due(small: Small, policy: str, left: list[str]) -> None:
    waiting = {**job()["spec"], "suspend": True}
    await small.create(f"{BATCH}/cronjobs", cron_job(work=waiting, concurrencyPolicy=policy))
    await small.after(2 * 60)
    assert await small.names(f"{BATCH}/jobs") == left
    assert [one["name"] for one in (await small.get(OFTEN))["status"]["active"]] == left
    if policy == "Forbid":  # what was due meanwhile is made up for
        await small.patch(f"{BATCH}/jobs/often-30000001", {"spec": {"suspend": False}})
        await small.after(READY_S)
        assert await small.names(f"{BATCH}/jobs") == ["often-30000001", "often-30000002"]


async def test_a_suspended_cron_job_makes_up_for_the_last_time_only(small: Small) -> None:
    await small.create(f"{BATCH}/cronjobs", cron_job(suspend=True))
    await small.after(5 * 60)
    assert await small.names(f"{BATCH}/jobs") == []
    await small.patch(OFTEN, {"spec": {"suspend": False}})
    await small.settle()
    assert await small.names(f"{BATCH}/jobs") == ["often-30000005"]


async def test_a_cron_job_makes_up_for_nothing_beyond_its_deadline(small: Small) -> None:
    await small.create(f"{BATCH}/cronjobs", cron_job(suspend=True, startingDeadlineSeconds=10))
    await small.after(5 * 60 + 11)
    await small.patch(OFTEN, {"spec": {"suspend": False}})
    await small.settle()
    assert await small.names(f"{BATCH}/jobs") == []
    await small.after(49)
    assert await small.names(f"{BATCH}/jobs") == ["often-30000006"]


async def test_a_cron_job_goes_by_the_clocks_of_its_zone(small: Small) -> None:
    await small.create(f"{BATCH}/cronjobs", cron_job("2 9 * * *", timeZone="Europe/Berlin"))
    await small.after(2 * 60)
    (made,) = await small.items(f"{BATCH}/jobs")
    assert made["metadata"]["annotations"] == {SCHEDULED: "2027-01-15T09:02:00+01:00"}
    await small.patch(OFTEN, {"spec": {"timeZone": "No/Where", "schedule": "* * * * *"}})
    await small.after(60)
    assert await small.names(f"{BATCH}/jobs") == [made["metadata"]["name"]]


# ---------------------------------------------------------------------------------------------- claims, services


def claim(**annotations: str) -> Any:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": "data", "annotations": annotations}, "spec": spec}


async def test_a_claim_is_bound(small: Small) -> None:
    path = f"{CORE}/persistentvolumeclaims"
    await small.create(path, claim())
    await small.settle()
    assert (await small.health(f"{path}/data")).health == "InProgress"
    await small.after(READY_S)
    assert (await small.health(f"{path}/data")).health == "Current"
    bound = await small.get(f"{path}/data")
    assert bound["spec"]["volumeName"]
    assert bound["status"]["capacity"] == {"storage": "1Gi"}


async def test_a_claim_that_is_to_fail_stays_pending(small: Small) -> None:
    path = f"{CORE}/persistentvolumeclaims"
    await small.create(path, claim(**{ANNOTATION: "NeverReady"}))
    await small.after(READY_S)
    assert await told(small, f"{path}/data") == ("InProgress", "NotBound")


async def test_a_claim_that_is_deleted_stays_while_a_pod_uses_it(small: Small) -> None:
    path = f"{CORE}/persistentvolumeclaims/data"
    await small.create(f"{CORE}/persistentvolumeclaims", claim())
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = template(volumes=volumes, nodeName="embedded")
    await small.create(f"{CORE}/pods", {"metadata": {"name": "user"}, "spec": pod["spec"]})
    await small.after(READY_S)
    await small.delete(path)
    await small.settle()
    assert "deletionTimestamp" in (await small.get(path))["metadata"]
    await small.delete(f"{CORE}/pods/user")
    await small.settle()
    assert not await small.exists(path)


async def test_a_namespace_goes_with_its_claims(small: Small) -> None:
    await small.create(f"{CORE}/persistentvolumeclaims", claim())
    await small.settle()
    await small.delete(CORE)
    await small.settle()
    assert not await small.exists(CORE)


async def test_a_volume_that_somebody_makes_may_be_had_and_goes(small: Small) -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    await small.create("/api/v1/persistentvolumes", {"metadata": {"name": "disk"}, "spec": spec})
    await small.settle()
    path = "/api/v1/persistentvolumes/disk"
    assert (await small.get(path))["status"]["phase"] == "Available"
    await small.delete(path)
    await small.settle()
    assert not await small.exists(path)


@pytest.mark.parametrize(("kind", "count"), [("LoadBalancer", 1), ("ClusterIP", 0)])
async def test_a_load_balancer_gets_its_address(small: Small, kind: str, count: int) -> None:
    spec = {"type": kind, "selector": {"app": "web"}, "ports": [{"port": 80}]}
    await small.create(f"{CORE}/services", {"metadata": {"name": "web"}, "spec": spec})
    await small.after(READY_S)
    status = (await small.get(f"{CORE}/services/web"))["status"]
    assert [one["ip"].rpartition(".")[0] for one in status["loadBalancer"].get("ingress", [])] == ["203.0.113"] * count


async def test_a_service_that_is_balanced_no_more_gives_its_address_back(small: Small) -> None:
    spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}
    made = await small.create(f"{CORE}/services", {"metadata": {"name": "web"}, "spec": spec})
    await small.after(READY_S)
    assert (await small.get(f"{CORE}/services/web"))["status"]["loadBalancer"]["ingress"]
    await small.patch(f"{CORE}/services/web", {"spec": {"type": "ClusterIP"}})
    await small.settle()
    after = await small.get(f"{CORE}/services/web")
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert after["status"] == {"loadBalancer": {}}


async def test_where_nobody_runs_pods_they_are_as_others_say() -> None:
    async with Evaluator() as judge, open_embedded(judge, pace=Pace(None)) as opened:
        cluster = opened.client()
        made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", **workload("web", replicas=1)}
        made["metadata"]["namespace"] = "default"
        await cluster.create(made, manager="test")
        kinds = [await cluster.kind(*one) for one in (("v1", "Pod"), ("apps/v1", "ReplicaSet"))]
        with anyio.fail_after(WATCH_S):
            while not (pods := (await cluster.list(kinds[0], namespace="default")).items):
                await anyio.wait_all_tasks_blocked()
        name = pods[0]["metadata"]["name"]
        said = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await cluster.patch(kinds[0], "default", name, said, type="merge", manager="test", subresource="status")
        with anyio.fail_after(WATCH_S):
            while not (await cluster.get(kinds[1], "default", "web")).get("status", {}).get("readyReplicas"):
                await anyio.wait_all_tasks_blocked()
        assert (await cluster.get(kinds[0], "default", name))["status"]["phase"] == "Running"


async def test_what_is_refused_stops_nobody_else(small: Small) -> None:
    await small.create(f"{APPS}/deployments", workload("a" * 250))  # the name of its ReplicaSet is too long
    await deploy(small)
    await small.after(READY_S)
    assert (await small.health(WEB)).health == "Current"


async def test_a_pod_that_somebody_else_gave_to_a_stateful_set_goes(small: Small) -> None:
    owner = await small.create(f"{APPS}/statefulsets", workload("base", serviceName="base"))
    await small.settle()
    reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "base", "uid": owner["metadata"]["uid"]}
    pod = {"metadata": {"name": "alien", "ownerReferences": [reference]}, "spec": template()["spec"]}
    await small.create(f"{CORE}/pods", pod)
    await small.after(READY_S)
    assert await small.names(f"{CORE}/pods") == ["base-0"]


async def test_nothing_is_written_at_rest(small: Small) -> None:
    await deploy(small, replicas=2)
    await small.create(f"{APPS}/deployments", workload("bad", "CrashLoopBackOff", progressDeadlineSeconds=10))
    await small.create(f"{APPS}/statefulsets", workload("base", replicas=2, serviceName="base"))
    await small.create(f"{APPS}/daemonsets", workload("agent"))
    await small.create(f"{BATCH}/jobs", job())
    await small.create(f"{BATCH}/cronjobs", cron_job("@yearly"))
    await small.create(f"{CORE}/persistentvolumeclaims", claim())
    await small.after(30)
    before = small.store.version
    await small.after(60)
    assert small.store.version == before
