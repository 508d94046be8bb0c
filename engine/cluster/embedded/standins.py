"""Stand-ins for the controllers and the kubelet: workloads become ready after a while, or fail as they are told to.

Nothing runs. A Deployment gets its ReplicaSet and that its Pods, whose statuses then say what those of running
containers would. The annotation `tidelog.dev/stand-in` of a workload's pod template (or of a Pod, a
PersistentVolumeClaim or a Service) says how it is to fail.
"""

import heapq
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeAlias

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.fault_log import log_fault
from tidelog.engine.cluster.embedded.likenesses import (
    HASH,
    condition,
    deadline_of,
    deployment_status,
    digest_of,
    failure_of,
    is_of_job,
    is_ready,
    is_refused,
    moment_of,
    pod_of,
    pod_status,
    public_address_of,
    replica_set_of,
    revision_of,
    surplus,
)
from tidelog.engine.cluster.embedded.objects import decoded, is_going, timestamp
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.store import Key, Record
from tidelog.engine.objects.kube import KubeObject

MANAGER: Final = Options("kube-controller-manager")
KUBELET: Final = Options("kubelet")
PODS: Final[Place] = ("", "pods")
DEPLOYMENTS: Final[Place] = ("apps", "deployments")
REPLICA_SETS: Final[Place] = ("apps", "replicasets")
STATEFUL_SETS: Final[Place] = ("apps", "statefulsets")
DAEMON_SETS: Final[Place] = ("apps", "daemonsets")
JOBS: Final[Place] = ("batch", "jobs")
CLAIMS: Final[Place] = ("", "persistentvolumeclaims")
SERVICES: Final[Place] = ("", "services")
AT_ONCE: Final = 50
"""Pods that are made of one workload before others are looked at, and requests answered; each asks for another look."""
AGAIN_S: Final = 0.5
REFUSED_S: Final = 60.0
"""Until the next try at what the API does not take, as a name that is too long."""
Where: TypeAlias = tuple[Place, Key]
Reconcile: TypeAlias = Callable[[Resource, KubeObject], Awaitable[None]]


class Pace(Struct, frozen=True):
    """How quick the stand-ins are."""

    ready_s: float = 1.0
    """From a Pod's creation until it is ready, or a Job's Pod is done."""


class StandIns:
    """Reconciles workloads, as the journal and the clock call for it."""

    def __init__(self, api: Api, clock: Callable[[], float], pace: Pace = Pace()) -> None:  # noqa: B008 - immutable
        """Of the cluster behind `api`."""
        self._api = api
        self._store = api.store
        self._clock = clock
        self._pace = pace
        self._journal = api.store.follow()
        self._due: list[tuple[float, Where]] = []
        self._waiting: dict[Where, None] = {}
        """Those whose turn it is, in their order."""
        self._reconcilers: dict[Place, Reconcile] = {
            PODS: self._pod,
            DEPLOYMENTS: self._deployment,
            REPLICA_SETS: self._replica_set,
            STATEFUL_SETS: self._stateful_set,
            DAEMON_SETS: self._daemon_set,
            JOBS: self._job,
            CLAIMS: self._claim,
            SERVICES: self._service,
        }

    def fork(self, api: Api) -> "StandIns":
        """Those of a fork of this cluster; they go on where these are."""
        made = StandIns(api, self._clock, self._pace)
        made._journal.extend(self._journal)
        made._due, made._waiting = list(self._due), dict(self._waiting)
        return made

    def begin(self) -> None:
        """Has every workload looked at that is there already."""
        for place in self._reconcilers:
            for record in self._store.bucket(place).between(""):
                self._waiting[place, record.key] = None

    async def run(self) -> None:
        """Follows the journal until it is cancelled."""
        while True:
            changed = self._store.changed
            await self.settle()
            wait_s = max(0.0, self._due[0][0] - self._clock()) if self._due else None
            with anyio.move_on_after(wait_s) if wait_s is not None else anyio.CancelScope():
                await changed.wait()

    @property
    def is_at_rest(self) -> bool:
        """Whether all is done that is due."""
        return not self._journal and not self._waiting

    async def settle(self) -> None:
        """Does all that is due by now."""
        while True:
            self._take_in()
            while self._waiting:
                await self._store.room()
                where = next(iter(self._waiting))
                await self._reconcile(where)
                del self._waiting[where]  # not before: a fork does again what is half done
                await anyio.lowlevel.checkpoint()
            if not self._journal and not (self._due and self._due[0][0] <= self._clock()):
                return

    def _take_in(self) -> None:
        """Takes from the journal, and of what waits for its time, what is to be looked at."""
        while self._journal:
            place, change = self._journal.popleft()
            if place in self._reconcilers and change.type != "DELETED":
                self._waiting[place, change.record.key] = None
            for owner in self._owners(change.record) if place in (PODS, REPLICA_SETS) else ():
                self._waiting[owner] = None
        while self._due and self._due[0][0] <= self._clock():
            self._waiting[heapq.heappop(self._due)[1]] = None

    async def _reconcile(self, where: Where) -> None:
        place, key = where
        resource, record = self._api.registry.at(place), self._store.get(place, key)
        if resource is None or record is None:
            return
        obj = decoded(record, resource)
        if is_going(obj):
            return
        try:
            await self._reconcilers[place](resource, obj)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are still looked after
            if not isinstance(error, StatusError):
                log_fault(error, f"{resource.qualified} {key.namespace}/{key.name}")
                self._later(where, REFUSED_S)
                return
            passes = error.reason in ("Conflict", "NotFound", "AlreadyExists", "Forbidden")
            self._later(where, AGAIN_S if passes else REFUSED_S)

    def _later(self, where: Where, seconds: float) -> None:
        heapq.heappush(self._due, (self._clock() + seconds, where))

    # ------------------------------------------------------------------------------------------ pods

    async def _pod(self, resource: Resource, pod: KubeObject) -> None:
        """What scheduler and kubelet would say."""
        status = pod.get("status") or {}
        if status.get("phase") in ("Succeeded", "Failed"):
            return
        made = moment_of(pod["metadata"]["creationTimestamp"])
        is_ready = self._clock() >= made + self._pace.ready_s
        if not is_ready:
            self._later((resource.place, _key(pod)), made + self._pace.ready_s - self._clock())
        new = pod_status(pod, self._now(), is_ready=is_ready, is_done=is_ready and is_of_job(pod))
        if new != status:
            await self._tell(resource, pod, new, KUBELET)

    # ------------------------------------------------------------------------------------------ replica sets

    async def _deployment(self, resource: Resource, obj: KubeObject) -> None:
        spec, template = obj["spec"], obj["spec"]["template"]
        wanted = spec.get("replicas", 1)
        digest = digest_of(template)
        sets = self._owned(REPLICA_SETS, obj)
        new = next((one for one in sets if (one["metadata"].get("labels") or {}).get(HASH) == digest), None)
        if new is None:
            new = await self._make(REPLICA_SETS, replica_set_of(obj, digest, wanted))
            sets.append(new)
        elif new["spec"].get("replicas") != wanted:
            await self._scale(REPLICA_SETS, new, wanted)
        ready = (new.get("status") or {}).get("readyReplicas", 0)
        for old in sets:
            if old is not new and old["spec"].get("replicas") and ready >= wanted:
                await self._scale(REPLICA_SETS, old, 0)
        status = deployment_status(obj, new, sets, self._clock())
        progressing = next(one for one in status["conditions"] if one["type"] == "Progressing")
        if progressing["reason"] == "ReplicaSetUpdated":
            self._later((DEPLOYMENTS, _key(obj)), deadline_of(spec, progressing) - self._clock())
        if status != (obj.get("status") or {}):
            await self._tell(resource, obj, status)

    async def _replica_set(self, resource: Resource, obj: KubeObject) -> None:
        wanted = obj["spec"].get("replicas", 1)
        pods = [pod for pod in self._owned(PODS, obj) if not is_going(pod)]
        refused = is_refused(obj)
        if not refused:
            missing = min(wanted - len(pods), AT_ONCE)
            pods += [await self._make(PODS, pod_of(obj, "ReplicaSet")) for _ in range(missing)]
        for pod in pods[wanted:]:
            self._remove(PODS, pod)
        pods = pods[:wanted]
        ready = sum(map(is_ready, pods))
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        status: KubeObject = {"replicas": len(pods), "observedGeneration": obj["metadata"]["generation"]}
        status |= {name: value for name, value in counts.items() if value}
        if refused and wanted:
            message = f'pods "{obj["metadata"]["name"]}-" is forbidden: exceeded quota'
            was = obj.get("status") or {}
            failed = condition(
                was, "ReplicaFailure", now=self._now(), reason="FailedCreate", message=message, holds=True
            )
            status["conditions"] = [failed]
        if status != (obj.get("status") or {}):
            await self._tell(resource, obj, status)

    # ------------------------------------------------------------------------------------------ other sets

    async def _stateful_set(self, resource: Resource, obj: KubeObject) -> None:
        spec = obj["spec"]
        wanted, digest = spec.get("replicas", 1), digest_of(spec["template"])
        name = obj["metadata"]["name"]
        pods = {pod["metadata"]["name"]: pod for pod in self._owned(PODS, obj) if not is_going(pod)}
        for gone in surplus(list(pods.values()), spec, f"{name}-{digest}"):
            self._remove(PODS, gone)
            del pods[gone["metadata"]["name"]]
        parallel = spec.get("podManagementPolicy") == "Parallel"
        most = len(pods) + AT_ONCE
        for number in range(0 if is_refused(obj) else wanted):
            if f"{name}-{number}" not in pods:
                if len(pods) == most:
                    break
                pods[f"{name}-{number}"] = await self._make(PODS, pod_of(obj, "StatefulSet", number, digest))
            if not parallel and not is_ready(pods[f"{name}-{number}"]):
                break
        ready = sum(map(is_ready, pods.values()))
        updated = sum(revision_of(pod) == f"{name}-{digest}" for pod in pods.values())
        was = obj.get("status") or {}
        is_done = ready == updated == wanted
        current = f"{name}-{digest}" if is_done else was.get("currentRevision", f"{name}-{digest}")
        status = {
            "observedGeneration": obj["metadata"]["generation"],
            "replicas": len(pods),
            "collisionCount": 0,
            "currentRevision": current,
            "updateRevision": f"{name}-{digest}",
            "availableReplicas": ready,
        }
        counts = {"readyReplicas": ready, "updatedReplicas": updated, "currentReplicas": len(pods) if is_done else 0}
        status |= {field: value for field, value in counts.items() if value}
        if status != was:
            await self._tell(resource, obj, status)

    async def _daemon_set(self, resource: Resource, obj: KubeObject) -> None:
        """There is one node."""
        digest = digest_of(obj["spec"]["template"])
        pods = [pod for pod in self._owned(PODS, obj) if not is_going(pod)]
        for pod in list(pods):
            if revision_of(pod) != digest:
                self._remove(PODS, pod)
                pods.remove(pod)
        if not pods and not is_refused(obj):
            pods.append(await self._make(PODS, pod_of(obj, "DaemonSet", digest=digest)))
        ready = sum(map(is_ready, pods))
        status = {
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": 1,
            "numberMisscheduled": 0,
            "numberReady": ready,
            "observedGeneration": obj["metadata"]["generation"],
            **({"updatedNumberScheduled": len(pods)} if pods else {}),
            **({"numberAvailable": ready} if ready else {"numberUnavailable": 1}),
        }
        if status != (obj.get("status") or {}):
            await self._tell(resource, obj, status)

    async def _job(self, resource: Resource, obj: KubeObject) -> None:
        spec, was = obj["spec"], obj.get("status") or {}
        ended = [
            c for c in was.get("conditions") or () if c["type"] in ("Complete", "Failed") and c["status"] == "True"
        ]
        if ended:
            self._expire(resource, obj, ended[0])
            return
        if spec.get("suspend"):
            return
        wanted = spec.get("completions", 1)
        pods = [pod for pod in self._owned(PODS, obj) if not is_going(pod)]
        phases = [(pod.get("status") or {}).get("phase", "Pending") for pod in pods]
        done, failed = phases.count("Succeeded"), phases.count("Failed")
        active = len(pods) - done - failed
        is_late = self._is_late(obj)
        if is_late:
            for pod, phase in zip(pods, phases, strict=True):
                if phase not in ("Succeeded", "Failed"):
                    self._remove(PODS, pod)
            failed, active = failed + active, 0
        elif done < wanted and failed <= spec.get("backoffLimit", 6) and not is_refused(obj):
            for _ in range(min(spec.get("parallelism", 1) - active, wanted - done - active, AT_ONCE)):
                await self._make(PODS, pod_of(obj, "Job"))
                active += 1
        now = self._now()
        status: KubeObject = {"startTime": was.get("startTime", now), "ready": 0, "terminating": 0}
        counts = {"active": active, "succeeded": done, "failed": failed}
        status |= {name: value for name, value in counts.items() if value}
        status["uncountedTerminatedPods"] = {}
        if done >= wanted:
            told = "Reached expected number of succeeded pods"
            status["conditions"] = [
                condition(was, kind, holds=True, now=now, reason="CompletionsReached", message=told, probe=True)
                for kind in ("SuccessCriteriaMet", "Complete")
            ]
            status["completionTime"] = now
        elif is_late or failed > spec.get("backoffLimit", 6):
            reason = "DeadlineExceeded" if is_late else "BackoffLimitExceeded"
            told = "Job was active longer than specified deadline"
            told = told if is_late else "Job has reached the specified backoff limit"
            status["conditions"] = [
                condition(was, kind, holds=True, now=now, reason=reason, message=told, probe=True)
                for kind in ("FailureTarget", "Failed")
            ]
        if status != was:
            await self._tell(resource, obj, status)
        deadline_s = spec.get("activeDeadlineSeconds")
        if deadline_s is not None and "conditions" not in status:
            self._later((resource.place, _key(obj)), moment_of(status["startTime"]) + deadline_s - self._clock())

    def _is_late(self, obj: KubeObject) -> bool:
        """Whether a Job has been at work for longer than it may."""
        began = str((obj.get("status") or {}).get("startTime", ""))
        deadline_s = obj["spec"].get("activeDeadlineSeconds")
        return began != "" and deadline_s is not None and self._clock() >= moment_of(began) + deadline_s

    def _expire(self, resource: Resource, job: KubeObject, ended: KubeObject) -> None:
        """Deletes a Job whose time to live is over."""
        lives_s = job["spec"].get("ttlSecondsAfterFinished")
        if lives_s is None or is_going(job):
            return
        ends = moment_of(ended["lastTransitionTime"]) + lives_s
        if self._clock() < ends:
            self._later((resource.place, _key(job)), ends - self._clock())
            return
        self._remove(resource.place, job, "Foreground")

    # ------------------------------------------------------------------------------------------ claims, services

    async def _claim(self, resource: Resource, obj: KubeObject) -> None:
        if (obj.get("status") or {}).get("phase") == "Bound" or failure_of(obj["metadata"]):
            return
        ready = moment_of(obj["metadata"]["creationTimestamp"]) + self._pace.ready_s
        if self._clock() < ready:
            self._later((resource.place, _key(obj)), ready - self._clock())
            return
        spec = obj["spec"]
        if not spec.get("volumeName"):
            named = {**obj, "spec": {**spec, "volumeName": f"pvc-{obj['metadata']['uid']}"}}
            target = Target("update", resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
            obj = (await self._api.writer.replace(target, named, MANAGER)).object
        capacity = (spec.get("resources") or {}).get("requests") or {}
        status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": capacity}
        await self._tell(resource, obj, status)

    async def _service(self, resource: Resource, obj: KubeObject) -> None:
        balanced = (obj.get("status") or {}).get("loadBalancer")
        if obj["spec"].get("type") != "LoadBalancer":
            if balanced:
                await self._tell(resource, obj, {"loadBalancer": {}})
            return
        if balanced or failure_of(obj["metadata"]):
            return
        ready = moment_of(obj["metadata"]["creationTimestamp"]) + self._pace.ready_s
        if self._clock() < ready:
            self._later((resource.place, _key(obj)), ready - self._clock())
            return
        ingress = {"ip": public_address_of(obj), "ipMode": "VIP"}
        await self._tell(resource, obj, {"loadBalancer": {"ingress": [ingress]}})

    # ------------------------------------------------------------------------------------------ the store

    def _now(self) -> str:
        return timestamp(self._clock())

    def _owners(self, record: Record) -> Iterator[Where]:
        metadata = msgspec.json.decode(record.data)["metadata"]
        for owner in metadata.get("ownerReferences") or ():
            group, _, _ = str(owner.get("apiVersion", "")).rpartition("/")
            resource = self._api.registry.in_group(group, str(owner.get("kind", "")))
            if resource is not None and resource.place in self._reconcilers:
                yield resource.place, Key(record.key.namespace, str(owner.get("name", "")))

    def _owned(self, place: Place, owner: KubeObject) -> list[KubeObject]:
        resource = self._api.registry.builtin(place)
        uid = owner["metadata"]["uid"]
        mark = f'"uid":"{uid}"'.encode()
        records = self._store.bucket(place).between(owner["metadata"]["namespace"])
        found = [decoded(record, resource) for record in records if mark in record.data]
        return [obj for obj in found if any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ())]

    async def _make(self, place: Place, obj: KubeObject) -> KubeObject:
        resource = self._api.registry.builtin(place)
        target = Target("create", resource, obj["metadata"]["namespace"], "")
        return (await self._api.writer.create(target, obj, MANAGER)).object

    def _remove(self, place: Place, obj: KubeObject, propagation: str = "Background") -> None:
        resource = self._api.registry.builtin(place)
        target = Target("delete", resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._api.writer.delete(target, propagation=propagation)

    async def _scale(self, place: Place, obj: KubeObject, replicas: int) -> None:
        resource = self._api.registry.builtin(place)
        scaled = {**obj, "spec": {**obj["spec"], "replicas": replicas}}
        target = Target("update", resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
        await self._api.writer.replace(target, scaled, MANAGER)

    async def _tell(self, resource: Resource, obj: KubeObject, status: KubeObject, options: Options = MANAGER) -> None:
        target = Target(
            "update",
            resource,
            obj["metadata"]["namespace"],
            obj["metadata"]["name"],
            resource.subresources["status"],
        )
        await self._api.writer.replace(target, {**obj, "status": status}, options)


def _key(obj: KubeObject) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
