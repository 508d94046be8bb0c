"""Stand-ins for the controllers and the kubelet: workloads become ready after a while, or fail as they are told to.

Nothing runs. A Deployment gets its ReplicaSet and that its Pods, whose statuses then say what those of running
containers would. The annotation `tidelog.dev/stand-in` of a workload's pod template (or of a Pod, a
PersistentVolumeClaim or a Service) says how it is to fail.
"""

import hashlib
import heapq
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.objects import decoded, is_going, timestamp
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.store import Key, Record
from tidelog.engine.objects.kube import KubeObject

ANNOTATION: Final = "tidelog.dev/stand-in"
NODE: Final = "embedded"
MANAGER: Final = Options("kube-controller-manager")
KUBELET: Final = Options("kubelet")
Failure: TypeAlias = Literal["ImagePullBackOff", "CrashLoopBackOff", "QuotaExceeded", "NeverReady"]
FAILURES: Final = frozenset(get_args(Failure))
_HASH: Final = "pod-template-hash"
_REVISION: Final = "controller-revision-hash"
_MESSAGES: Final = {
    "ImagePullBackOff": "Back-off pulling image",
    "CrashLoopBackOff": "back-off 10s restarting failed container",
}
PODS: Final[Place] = ("", "pods")
DEPLOYMENTS: Final[Place] = ("apps", "deployments")
REPLICA_SETS: Final[Place] = ("apps", "replicasets")
STATEFUL_SETS: Final[Place] = ("apps", "statefulsets")
DAEMON_SETS: Final[Place] = ("apps", "daemonsets")
JOBS: Final[Place] = ("batch", "jobs")
CLAIMS: Final[Place] = ("", "persistentvolumeclaims")
SERVICES: Final[Place] = ("", "services")
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

    async def run(self) -> None:
        """Follows the journal until it is cancelled."""
        for place in self._reconcilers:
            for record in list(self._store.bucket(place).between("")):
                await self._reconcile((place, record.key))
        while True:
            changed = self._store.changed
            await self.settle()
            wait_s = max(0.0, self._due[0][0] - self._clock()) if self._due else None
            with anyio.move_on_after(wait_s) if wait_s is not None else anyio.CancelScope():
                await changed.wait()

    async def settle(self) -> None:
        """Does all that is due by now."""
        while True:
            for where in self._next():
                await self._reconcile(where)
                await anyio.lowlevel.checkpoint()
            if not self._journal and not (self._due and self._due[0][0] <= self._clock()):
                return

    def _next(self) -> Iterator[Where]:
        seen: dict[Where, None] = {}
        while self._journal:
            place, change = self._journal.popleft()
            if place in self._reconcilers and change.type != "DELETED":
                seen[place, change.record.key] = None
            for owner in self._owners(change.record) if place in (PODS, REPLICA_SETS) else ():
                seen[owner] = None
        while self._due and self._due[0][0] <= self._clock():
            seen[heapq.heappop(self._due)[1]] = None
        yield from seen

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
        except StatusError as error:
            if error.reason not in ("Conflict", "NotFound", "AlreadyExists", "Forbidden"):
                raise
            self._later(where, 0.5)

    def _later(self, where: Where, seconds: float) -> None:
        heapq.heappush(self._due, (self._clock() + seconds, where))

    # ------------------------------------------------------------------------------------------ pods

    async def _pod(self, resource: Resource, pod: KubeObject) -> None:
        """What scheduler and kubelet would say."""
        status = pod.get("status") or {}
        if status.get("phase") in ("Succeeded", "Failed"):
            return
        made = _moment(pod["metadata"]["creationTimestamp"])
        failure = _failure_of(pod["metadata"])
        is_ready = self._clock() >= made + self._pace.ready_s
        if not is_ready:
            self._later((resource.place, _key(pod)), made + self._pace.ready_s - self._clock())
        is_done = is_ready and _is_of_job(pod)
        new = self._pod_status(pod, failure, is_ready=is_ready, is_done=is_done)
        if new != status:
            await self._tell(resource, pod, new, KUBELET)

    def _pod_status(self, pod: KubeObject, failure: str, *, is_ready: bool, is_done: bool) -> KubeObject:
        was = pod.get("status") or {}
        runs = is_ready and failure not in ("ImagePullBackOff", "CrashLoopBackOff")
        works = runs and failure != "NeverReady"
        phase = "Pending" if not is_ready or failure == "ImagePullBackOff" else "Running"
        if is_done:
            phase = "Failed" if failure else "Succeeded"
        now = self._now()
        conditions = [
            _condition(was, "PodReadyToStartContainers", holds=is_ready and not is_done, now=now),
            _condition(was, "Initialized", holds=True, now=now, reason="PodCompleted" if phase == "Succeeded" else ""),
            _condition(was, "Ready", holds=works and not is_done, now=now, reason=_unready(phase)),
            _condition(was, "ContainersReady", holds=works and not is_done, now=now, reason=_unready(phase)),
            _condition(was, "PodScheduled", holds=True, now=now),
        ]
        containers = [
            self._container(each, failure, was, ready=works and not is_done, is_ready=is_ready, phase=phase)
            for each in pod["spec"].get("containers") or ()
        ]
        told = {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": containers,
            "hostIP": "127.0.0.1",
            "podIP": _address_of(pod),
            "podIPs": [{"ip": _address_of(pod)}],
            "qosClass": was.get("qosClass", "BestEffort"),
            "startTime": was.get("startTime", now),
        }
        return told if is_ready else {name: value for name, value in told.items() if name not in ("podIP", "podIPs")}

    def _container(
        self, container: KubeObject, failure: str, was: KubeObject, *, ready: bool, is_ready: bool, phase: str
    ) -> KubeObject:
        name = container["name"]
        before: KubeObject = next((one for one in was.get("containerStatuses") or () if one["name"] == name), {})
        state: KubeObject
        if phase in ("Succeeded", "Failed"):
            reason = "Completed" if phase == "Succeeded" else "Error"
            ends = before.get("state", {}).get("terminated") or {"finishedAt": self._now()}
            state = {"terminated": {**ends, "exitCode": 0 if phase == "Succeeded" else 1, "reason": reason}}
        elif not is_ready:
            state = {"waiting": {"reason": "ContainerCreating"}}
        elif failure in _MESSAGES:
            state = {"waiting": {"reason": failure, "message": f'{_MESSAGES[failure]} "{container["image"]}"'}}
        else:
            since = before.get("state", {}).get("running") or {"startedAt": self._now()}
            state = {"running": since}
        return {
            "name": name,
            "image": container.get("image", ""),
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 3 if failure == "CrashLoopBackOff" and is_ready else 0,
            "state": state,
        }

    # ------------------------------------------------------------------------------------------ replica sets

    async def _deployment(self, resource: Resource, obj: KubeObject) -> None:
        spec, template = obj["spec"], obj["spec"]["template"]
        wanted = spec.get("replicas", 1)
        digest = _digest(template)
        sets = self._owned(REPLICA_SETS, obj)
        new = next((one for one in sets if (one["metadata"].get("labels") or {}).get(_HASH) == digest), None)
        if new is None:
            new = await self._make(REPLICA_SETS, _replica_set_of(obj, digest, wanted))
            sets.append(new)
        elif new["spec"].get("replicas") != wanted:
            await self._scale(REPLICA_SETS, new, wanted)
        ready = (new.get("status") or {}).get("readyReplicas", 0)
        for old in sets:
            if old is not new and old["spec"].get("replicas") and ready >= wanted:
                await self._scale(REPLICA_SETS, old, 0)
        status = self._deployment_status(obj, new, sets, wanted)
        if status != (obj.get("status") or {}):
            await self._tell(resource, obj, status)

    def _deployment_status(self, obj: KubeObject, new: KubeObject, sets: list[KubeObject], wanted: int) -> KubeObject:
        def total(field: str) -> int:
            return sum((one.get("status") or {}).get(field, 0) for one in sets)

        was, now = obj.get("status") or {}, self._now()
        replicas, ready, available = total("replicas"), total("readyReplicas"), total("availableReplicas")
        updated = (new.get("status") or {}).get("replicas", 0)
        is_done = updated == wanted == replicas == available
        failed = next(
            (c for c in (new.get("status") or {}).get("conditions") or () if c["type"] == "ReplicaFailure"), None
        )
        progressing = self._progressing(obj, new, ready, is_done=is_done)
        least = "MinimumReplicasAvailable" if available >= wanted else "MinimumReplicasUnavailable"
        text = "Deployment has minimum availability." if available >= wanted else _UNAVAILABLE
        conditions = [
            _condition(was, "Available", holds=available >= wanted, now=now, reason=least, message=text, update=True),
            progressing,
        ]
        if failed is not None:
            conditions.append({**failed, "lastUpdateTime": failed["lastTransitionTime"]})
        told = {
            "observedGeneration": obj["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": available,
            "unavailableReplicas": max(0, max(wanted, replicas) - available),
        }
        return {name: value for name, value in told.items() if value} | {"conditions": conditions}

    def _progressing(self, obj: KubeObject, new: KubeObject, ready: int, *, is_done: bool) -> KubeObject:
        """The condition: a rollout fails when nothing went on for a time, and a scaling once it is done does not."""
        was, name = obj.get("status") or {}, new["metadata"]["name"]
        before: KubeObject = next((c for c in was.get("conditions") or () if c["type"] == "Progressing"), {})
        is_same = f'"{name}"' in before.get("message", "")
        has_moved = not is_same or ready > was.get("readyReplicas", 0)
        since = self._clock() if has_moved else _moment(before["lastUpdateTime"])
        deadline = since + obj["spec"].get("progressDeadlineSeconds", 600)
        if is_done or (is_same and before.get("reason") == "NewReplicaSetAvailable"):
            reason, words = "NewReplicaSetAvailable", "has successfully progressed."
        elif self._clock() >= deadline or (not has_moved and before.get("reason") == "ProgressDeadlineExceeded"):
            reason, words = "ProgressDeadlineExceeded", "has timed out progressing."
        else:
            reason, words = "ReplicaSetUpdated", "is progressing."
            self._later((DEPLOYMENTS, _key(obj)), deadline - self._clock())
        message, holds = f'ReplicaSet "{name}" {words}', reason != "ProgressDeadlineExceeded"
        told = _condition(was, "Progressing", holds=holds, now=self._now(), reason=reason, message=message, update=True)
        return told | ({"lastUpdateTime": self._now()} if has_moved else {})

    async def _replica_set(self, resource: Resource, obj: KubeObject) -> None:
        wanted = obj["spec"].get("replicas", 1)
        pods = [pod for pod in self._owned(PODS, obj) if not is_going(pod)]
        refused = _is_refused(obj)
        if not refused:
            pods += [await self._make(PODS, _pod_of(obj, "ReplicaSet")) for _ in range(wanted - len(pods))]
        for pod in pods[wanted:]:
            self._remove(PODS, pod)
        pods = pods[:wanted]
        ready = sum(map(_is_ready, pods))
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        status: KubeObject = {"replicas": len(pods), "observedGeneration": obj["metadata"]["generation"]}
        status |= {name: value for name, value in counts.items() if value}
        if refused and wanted:
            message = f'pods "{obj["metadata"]["name"]}-" is forbidden: exceeded quota'
            was = obj.get("status") or {}
            failed = _condition(
                was, "ReplicaFailure", now=self._now(), reason="FailedCreate", message=message, holds=True
            )
            status["conditions"] = [failed]
        if status != (obj.get("status") or {}):
            await self._tell(resource, obj, status)

    # ------------------------------------------------------------------------------------------ other sets

    async def _stateful_set(self, resource: Resource, obj: KubeObject) -> None:
        spec = obj["spec"]
        wanted, digest = spec.get("replicas", 1), _digest(spec["template"])
        name = obj["metadata"]["name"]
        pods = {pod["metadata"]["name"]: pod for pod in self._owned(PODS, obj) if not is_going(pod)}
        for gone in _surplus(list(pods.values()), spec, f"{name}-{digest}"):
            self._remove(PODS, gone)
            del pods[gone["metadata"]["name"]]
        parallel = spec.get("podManagementPolicy") == "Parallel"
        for number in range(0 if _is_refused(obj) else wanted):
            if f"{name}-{number}" not in pods:
                pods[f"{name}-{number}"] = await self._make(PODS, _pod_of(obj, "StatefulSet", number, digest))
            if not parallel and not _is_ready(pods[f"{name}-{number}"]):
                break
        ready = sum(map(_is_ready, pods.values()))
        updated = sum(pod["metadata"]["labels"].get(_REVISION) == f"{name}-{digest}" for pod in pods.values())
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
        digest = _digest(obj["spec"]["template"])
        pods = [pod for pod in self._owned(PODS, obj) if not is_going(pod)]
        for pod in list(pods):
            if pod["metadata"]["labels"].get(_REVISION) != digest:
                self._remove(PODS, pod)
                pods.remove(pod)
        if not pods and not _is_refused(obj):
            pods.append(await self._make(PODS, _pod_of(obj, "DaemonSet", digest=digest)))
        ready = sum(map(_is_ready, pods))
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
        if spec.get("suspend") or any(c["type"] in ("Complete", "Failed") for c in was.get("conditions") or ()):
            return
        wanted = spec.get("completions", 1)
        pods = [pod for pod in self._owned(PODS, obj) if not is_going(pod)]
        phases = [(pod.get("status") or {}).get("phase", "Pending") for pod in pods]
        done, failed = phases.count("Succeeded"), phases.count("Failed")
        active = len(pods) - done - failed
        if done < wanted and failed <= spec.get("backoffLimit", 6) and not _is_refused(obj):
            for _ in range(min(spec.get("parallelism", 1), wanted - done) - active):
                await self._make(PODS, _pod_of(obj, "Job"))
                active += 1
        now = self._now()
        status: KubeObject = {"startTime": was.get("startTime", now), "ready": 0, "terminating": 0}
        counts = {"active": active, "succeeded": done, "failed": failed}
        status |= {name: value for name, value in counts.items() if value}
        status["uncountedTerminatedPods"] = {}
        if done >= wanted:
            told = "Reached expected number of succeeded pods"
            status["conditions"] = [
                _condition(was, kind, holds=True, now=now, reason="CompletionsReached", message=told, probe=True)
                for kind in ("SuccessCriteriaMet", "Complete")
            ]
            status["completionTime"] = now
        elif failed > spec.get("backoffLimit", 6):
            told = "Job has reached the specified backoff limit"
            status["conditions"] = [
                _condition(was, kind, holds=True, now=now, reason="BackoffLimitExceeded", message=told, probe=True)
                for kind in ("FailureTarget", "Failed")
            ]
        if status != was:
            await self._tell(resource, obj, status)

    # ------------------------------------------------------------------------------------------ claims, services

    async def _claim(self, resource: Resource, obj: KubeObject) -> None:
        if (obj.get("status") or {}).get("phase") == "Bound" or _failure_of(obj["metadata"]):
            return
        ready = _moment(obj["metadata"]["creationTimestamp"]) + self._pace.ready_s
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
        if obj["spec"].get("type") != "LoadBalancer" or balanced or _failure_of(obj["metadata"]):
            return
        ready = _moment(obj["metadata"]["creationTimestamp"]) + self._pace.ready_s
        if self._clock() < ready:
            self._later((resource.place, _key(obj)), ready - self._clock())
            return
        ingress = {"ip": _public_address_of(obj), "ipMode": "VIP"}
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
        resource = self._api.registry.at(place)
        assert resource is not None  # noqa: S101 - built in
        uid = owner["metadata"]["uid"]
        mark = f'"uid":"{uid}"'.encode()
        records = self._store.bucket(place).between(owner["metadata"]["namespace"])
        found = [decoded(record, resource) for record in records if mark in record.data]
        return [obj for obj in found if any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ())]

    async def _make(self, place: Place, obj: KubeObject) -> KubeObject:
        resource = self._api.registry.at(place)
        assert resource is not None  # noqa: S101 - built in
        target = Target("create", resource, obj["metadata"]["namespace"], "")
        return (await self._api.writer.create(target, obj, MANAGER)).object

    def _remove(self, place: Place, obj: KubeObject) -> None:
        resource = self._api.registry.at(place)
        assert resource is not None  # noqa: S101 - built in
        self._api.writer.delete(Target("delete", resource, obj["metadata"]["namespace"], obj["metadata"]["name"]))

    async def _scale(self, place: Place, obj: KubeObject, replicas: int) -> None:
        resource = self._api.registry.at(place)
        assert resource is not None  # noqa: S101 - built in
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


_UNAVAILABLE: Final = "Deployment does not have minimum availability."


def _key(obj: KubeObject) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _failure_of(metadata: KubeObject) -> str:
    said = (metadata.get("annotations") or {}).get(ANNOTATION, "")
    return said if said in FAILURES else ""


def _is_refused(workload: KubeObject) -> bool:
    """Whether a quota stands against a workload's Pods."""
    return _failure_of(workload["spec"]["template"].get("metadata") or {}) == "QuotaExceeded"


def _surplus(pods: list[KubeObject], spec: KubeObject, revision: str) -> list[KubeObject]:
    """The Pods of a StatefulSet that are to go: too many, or the last that is not of its revision, once all do."""
    wanted, update = spec.get("replicas", 1), spec.get("updateStrategy") or {}
    too_many = [pod for pod in pods if _number_of(pod) >= wanted]
    left = sorted((pod for pod in pods if _number_of(pod) < wanted), key=_number_of)
    first = (update.get("rollingUpdate") or {}).get("partition", 0)
    old = [pod for pod in left[first:] if pod["metadata"]["labels"].get(_REVISION) != revision]
    rolls = update.get("type") != "OnDelete" and len(left) == wanted and all(map(_is_ready, left))
    return too_many + (old[-1:] if rolls else [])


def _number_of(pod: KubeObject) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def _is_of_job(pod: KubeObject) -> bool:
    return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences") or ())


def _is_ready(pod: KubeObject) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _unready(phase: str) -> str:
    return "PodCompleted" if phase == "Succeeded" else "PodFailed" if phase == "Failed" else "ContainersNotReady"


def _condition(
    was: KubeObject,
    kind: str,
    *,
    holds: bool,
    now: str,
    reason: str = "",
    message: str = "",
    update: bool = False,
    probe: bool = False,
) -> KubeObject:
    """A condition; its times are those of before for as long as it says the same."""
    status = "True" if holds else "False"
    before: KubeObject = next((one for one in was.get("conditions") or () if one["type"] == kind), {})
    same = before.get("status") == status
    told: KubeObject = {"type": kind, "status": status}
    told["lastTransitionTime"] = before["lastTransitionTime"] if same else now
    if probe:
        told["lastProbeTime"] = before.get("lastProbeTime", now)
    if update:
        unchanged = same and (before.get("reason"), before.get("message")) == (reason, message)
        told["lastUpdateTime"] = before["lastUpdateTime"] if unchanged else now
    if reason and (not holds or update or probe or kind in ("ReplicaFailure", "Initialized")):
        told["reason"] = reason
    if message:
        told["message"] = message
    return told


def _digest(template: KubeObject) -> str:
    """Ten letters for a pod template, of those that Kubernetes uses for such."""
    digest = hashlib.sha256(msgspec.json.encode(template, order="sorted")).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


def _owner(obj: KubeObject, kind: str) -> KubeObject:
    return {
        "apiVersion": obj["apiVersion"],
        "kind": kind,
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _replica_set_of(deployment: KubeObject, digest: str, replicas: int) -> KubeObject:
    spec, name = deployment["spec"], deployment["metadata"]["name"]
    template = msgspec.json.decode(msgspec.json.encode(spec["template"]))
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), _HASH: digest}
    labels = template["metadata"]["labels"]
    selector = {**spec["selector"]}
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), _HASH: digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-{digest}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": dict(labels),
            "annotations": {
                "deployment.kubernetes.io/desired-replicas": str(replicas),
                "deployment.kubernetes.io/revision": "1",
            },
            "ownerReferences": [_owner(deployment, "Deployment")],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }


def _pod_of(owner: KubeObject, kind: str, number: int | None = None, digest: str = "") -> KubeObject:
    template = msgspec.json.decode(msgspec.json.encode(owner["spec"]["template"]))
    name = owner["metadata"]["name"]
    metadata = {**(template.get("metadata") or {}), "namespace": owner["metadata"]["namespace"]}
    metadata.pop("creationTimestamp", None)
    labels = dict(metadata.get("labels") or {})
    if kind == "StatefulSet":
        metadata["name"] = f"{name}-{number}"
        labels |= {_REVISION: f"{name}-{digest}", "statefulset.kubernetes.io/pod-name": f"{name}-{number}"}
        labels["apps.kubernetes.io/pod-index"] = str(number)
    else:
        metadata["generateName"] = f"{name}-"
        if kind == "DaemonSet":
            labels[_REVISION] = digest
    metadata |= {"labels": labels, "ownerReferences": [_owner(owner, kind)]}
    spec = {**template["spec"], "nodeName": NODE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _address_of(pod: KubeObject) -> str:
    """An address that no network has (RFC 6598), the same at each look."""
    digest = hashlib.sha256(pod["metadata"]["uid"].encode()).digest()
    return f"100.{64 + digest[0] % 64}.{digest[1]}.{1 + digest[2] % 254}"


def _public_address_of(service: KubeObject) -> str:
    """One for documentation (RFC 5737)."""
    return f"203.0.113.{1 + hashlib.sha256(service['metadata']['uid'].encode()).digest()[0] % 254}"
