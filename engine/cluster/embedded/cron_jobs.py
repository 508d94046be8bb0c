"""A stand-in for the controller of CronJobs: it makes their Jobs when they are due, and takes old ones away."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio.to_thread
import msgspec

from tidelog.engine.cluster.embedded.builtin.schedules import ScheduleError, parsed
from tidelog.engine.cluster.embedded.hands import Hands, Later, Where, key_of
from tidelog.engine.cluster.embedded.likenesses import ending_of, moment_of, owner_of
from tidelog.engine.cluster.embedded.objects import is_going, timestamp
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.workloads import JOBS
from tidelog.engine.objects.kube import KubeObject

CRON_JOBS: Final[Place] = ("batch", "cronjobs")
PLANNED_MAX: Final = 1_000
SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
SOON_S: Final = 1.0
"""Before it is due, every look asks for another: one that comes a moment too early must not be the last."""
_LIMITS: Final = {"Complete": ("successfulJobsHistoryLimit", 3), "Failed": ("failedJobsHistoryLimit", 1)}
"""How many Jobs are kept that ended so: the field that says it, and its default."""


class CronJobs:
    """Reconciles CronJobs, one at a time."""

    def __init__(self, hands: Hands, clock: Callable[[], float], later: Later) -> None:
        """`clock` gives the time of day."""
        self._hands = hands
        self._clock = clock
        self._later = later
        self._planned: dict[Where, float] = {}
        """When each is looked at again: whatever wakes one in between asks for no other look."""

    async def cron_job(self, resource: Resource, obj: KubeObject) -> None:
        """Has a Job for the last time that it was due, and no older ones than are kept."""
        was, jobs = obj.get("status") or {}, self._hands.owned(JOBS, obj)
        for old in _surplus(obj["spec"], jobs):
            self._hands.remove(JOBS, old)
        status, zone = _status(was, jobs), await _zone_of(obj["spec"])
        due = None if zone is None else self._due(resource, obj, zone)
        if due is not None:
            await self._begin(obj, jobs, status, datetime.fromtimestamp(due, zone))
        if status != was:
            await self._hands.tell(resource, obj, status)

    def _due(self, resource: Resource, obj: KubeObject, zone: tzinfo) -> float | None:
        """The last time that it was due, and made no Job; it is looked at again at the next."""
        spec, now = obj["spec"], self._clock()
        if spec.get("suspend"):
            return None
        try:
            schedule = parsed(spec["schedule"], zone)
        except ScheduleError:
            return None
        since = moment_of((obj.get("status") or {}).get("lastScheduleTime") or obj["metadata"]["creationTimestamp"])
        if (deadline_s := spec.get("startingDeadlineSeconds")) is not None:
            since = max(since, now - deadline_s)
        found = schedule.last(since, now)
        self._plan((resource.place, key_of(obj)), schedule.after(since if found is None else found))
        return found

    def _plan(self, where: Where, moment: float | None) -> None:
        now = self._clock()
        if len(self._planned) > PLANNED_MAX:  # of those that are gone, too
            self._planned = {each: then for each, then in self._planned.items() if then > now}
        if moment is not None and (self._planned.get(where) != moment or moment < now + SOON_S):
            self._planned[where] = moment
            self._later(where, moment - now)

    async def _begin(self, obj: KubeObject, jobs: list[KubeObject], status: KubeObject, due: datetime) -> None:
        """Makes the Job of a time, as far as others let it."""
        policy, active = obj["spec"].get("concurrencyPolicy", "Allow"), list(status.get("active") or ())
        wanted = _job_of(obj, due)
        name = wanted["metadata"]["name"]
        there = next((job for job in jobs if job["metadata"]["name"] == name), None)
        is_done = any(one["name"] == name for one in active) or (there is not None and ending_of(there))
        if is_done or (policy == "Forbid" and active):
            return
        if policy == "Replace":
            replaced = {one["uid"] for one in active}
            for job in jobs:
                if job["metadata"]["uid"] in replaced and not is_going(job):
                    self._hands.remove(JOBS, job)
            active = []
        made = there or await self._hands.make(JOBS, wanted)
        status |= {"active": [*active, _reference_to(made)], "lastScheduleTime": timestamp(due.timestamp())}


async def _zone_of(spec: KubeObject) -> tzinfo | None:
    """The zone that it goes by; None for one that is not known here."""
    name = spec.get("timeZone")
    if not name:
        return UTC
    try:
        return await anyio.to_thread.run_sync(ZoneInfo, name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _status(was: KubeObject, jobs: list[KubeObject]) -> KubeObject:
    """What is told of the Jobs that are there: which are at work, and when one last ended well."""
    at_work = {job["metadata"]["uid"] for job in jobs if not ending_of(job)}
    done = [job["status"].get("completionTime", "") for job in jobs if ending_of(job).get("type") == "Complete"]
    told = {
        "active": [one for one in was.get("active") or () if one["uid"] in at_work],
        "lastScheduleTime": was.get("lastScheduleTime"),
        "lastSuccessfulTime": max([*done, was.get("lastSuccessfulTime", "")]),
    }
    return {name: value for name, value in told.items() if value}


def _surplus(spec: KubeObject, jobs: list[KubeObject]) -> Iterator[KubeObject]:
    """The Jobs that ended, beyond those that are kept: the oldest."""
    for how, (field, default) in _LIMITS.items():
        those = [job for job in jobs if ending_of(job).get("type") == how and not is_going(job)]
        those.sort(key=lambda job: (job["status"].get("startTime", ""), job["metadata"]["name"]))
        yield from those[: max(0, len(those) - spec.get(field, default))]


def _job_of(cron_job: KubeObject, due: datetime) -> KubeObject:
    """The Job of a time that a CronJob was due at; its name says the minute."""
    template = msgspec.json.decode(msgspec.json.encode(cron_job["spec"]["jobTemplate"]))
    said, metadata = template.get("metadata") or {}, cron_job["metadata"]
    moment = due.isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{metadata['name']}-{int(due.timestamp()) // 60}",
            "namespace": metadata["namespace"],
            "labels": said.get("labels") or {},
            "annotations": {**(said.get("annotations") or {}), SCHEDULED: moment},
            "ownerReferences": [owner_of(cron_job, "CronJob")],
        },
        "spec": template["spec"],
    }


def _reference_to(job: KubeObject) -> KubeObject:
    """As a status names a Job."""
    named = {name: job["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {"apiVersion": "batch/v1", "kind": "Job", **named}
