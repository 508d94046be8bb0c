"""Stand-ins for the controllers of workloads: what a Deployment, StatefulSet, DaemonSet or Job has made for it."""

from collections.abc import Callable
from typing import Final

from tidelog.engine.cluster.embedded.hands import AT_ONCE, PODS, PODS_MAX, PODS_OF_ONE_MAX, Hands, Later, Where, key_of
from tidelog.engine.cluster.embedded.likenesses import (
    HASH,
    NUMBER,
    claims_for,
    condition,
    deadline_of,
    deployment_status,
    digest_of,
    ending_of,
    forgotten,
    is_ready,
    is_refused,
    is_suspended,
    moment_of,
    number_of,
    numbered,
    pod_of,
    replica_set_of,
    resized,
    revision_of,
    surplus,
    suspension_of,
)
from tidelog.engine.cluster.embedded.objects import is_going
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.volumes import CLAIMS
from tidelog.engine.objects.kube import KubeObject

DEPLOYMENTS: Final[Place] = ("apps", "deployments")
REPLICA_SETS: Final[Place] = ("apps", "replicasets")
STATEFUL_SETS: Final[Place] = ("apps", "statefulsets")
DAEMON_SETS: Final[Place] = ("apps", "daemonsets")
JOBS: Final[Place] = ("batch", "jobs")
NO_ROOM: Final = f"this cluster has {PODS_OF_ONE_MAX} Pods of a workload at most, and {PODS_MAX} in all"
NO_ROOM_S: Final = 60.0
"""Until the next look at a workload that may have no more Pods."""


class Workloads:
    """Reconciles workloads, one at a time."""

    def __init__(self, hands: Hands, clock: Callable[[], float], later: Later) -> None:
        """`clock` gives the time of day."""
        self._hands = hands
        self._clock = clock
        self._later = later
        self._full: dict[Where, float] = {}
        """Workloads that may have no more Pods, and when they are looked at again."""

    async def deployment(self, resource: Resource, obj: KubeObject) -> None:
        """Has a ReplicaSet of its template, and those of former ones go."""
        spec, template = obj["spec"], obj["spec"]["template"]
        wanted = spec.get("replicas", 1)
        digest = digest_of(template)
        sets = self._hands.owned(REPLICA_SETS, obj)
        new = next((one for one in sets if (one["metadata"].get("labels") or {}).get(HASH) == digest), None)
        others = [one for one in sets if one is not new]
        new = await self._current(obj, new, others, digest)
        sets = [*others, new]
        ready = (new.get("status") or {}).get("readyReplicas", 0)
        for old in others:
            if old["spec"].get("replicas") and ready >= wanted:
                await self._hands.put_in(REPLICA_SETS, resized(old, obj, 0))
        status = deployment_status(obj, new, sets, self._clock())
        progressing = next(one for one in status["conditions"] if one["type"] == "Progressing")
        if progressing["reason"] == "ReplicaSetUpdated":
            self._later((DEPLOYMENTS, key_of(obj)), deadline_of(spec, progressing) - self._clock())
        said = str(number_of(new))
        if status != (obj.get("status") or {}) or (obj["metadata"].get("annotations") or {}).get(NUMBER) != said:
            metadata = {**obj["metadata"], "annotations": {**(obj["metadata"].get("annotations") or {}), NUMBER: said}}
            await self._hands.tell(resource, {**obj, "metadata": metadata}, status)
        if progressing["reason"] == "NewReplicaSetAvailable":
            for old in forgotten(others, spec.get("revisionHistoryLimit", 10)):
                self._hands.remove(REPLICA_SETS, old)

    async def _current(
        self, obj: KubeObject, found: KubeObject | None, others: list[KubeObject], digest: str
    ) -> KubeObject:
        """The ReplicaSet of the template of a Deployment, as large as that wants it; made where there is none."""
        wanted = obj["spec"].get("replicas", 1)
        if found is None:
            made = replica_set_of(obj, digest, wanted)
            return await self._hands.make(REPLICA_SETS, numbered(made, obj, others))
        current = numbered(found, obj, others)
        if found["spec"].get("replicas") != wanted:
            current = resized(current, obj, wanted)
        return current if current == found else await self._hands.put_in(REPLICA_SETS, current)

    async def replica_set(self, resource: Resource, obj: KubeObject) -> None:
        """Has as many Pods as are wanted."""
        wanted = obj["spec"].get("replicas", 1)
        pods = [pod for pod in self._hands.owned(PODS, obj) if not is_going(pod)]
        room = self._room(resource, obj, len(pods))
        refused = "exceeded quota" if is_refused(obj) else ""
        if not refused:
            missing = min(wanted - len(pods), room, AT_ONCE)
            pods += [await self._hands.make(PODS, pod_of(obj, "ReplicaSet")) for _ in range(missing)]
            refused = NO_ROOM if room <= missing and len(pods) < wanted else ""
        for pod in pods[wanted:]:
            self._hands.remove(PODS, pod)
        pods = pods[:wanted]
        ready = sum(map(is_ready, pods))
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        status: KubeObject = {"replicas": len(pods), "observedGeneration": obj["metadata"]["generation"]}
        status |= {name: value for name, value in counts.items() if value}
        status["terminatingReplicas"] = 0  # Pods are gone at once
        if refused and wanted:
            message = f'pods "{obj["metadata"]["name"]}-" is forbidden: {refused}'
            was = obj.get("status") or {}
            failed = condition(
                was, "ReplicaFailure", now=self._hands.now(), reason="FailedCreate", message=message, holds=True
            )
            status["conditions"] = [failed]
        if status != (obj.get("status") or {}):
            await self._hands.tell(resource, obj, status)

    # ------------------------------------------------------------------------------------------ other sets

    async def stateful_set(self, resource: Resource, obj: KubeObject) -> None:
        """Has Pods with numbers, one after the other."""
        spec = obj["spec"]
        wanted, digest = spec.get("replicas", 1), digest_of(spec["template"])
        name = obj["metadata"]["name"]
        pods = {pod["metadata"]["name"]: pod for pod in self._hands.owned(PODS, obj) if not is_going(pod)}
        for gone in surplus(list(pods.values()), spec, f"{name}-{digest}"):
            self._hands.remove(PODS, gone)
            del pods[gone["metadata"]["name"]]
        parallel = spec.get("podManagementPolicy") == "Parallel"
        most = len(pods) + min(AT_ONCE, self._room(resource, obj, len(pods)))
        for number in range(0 if is_refused(obj) else wanted):
            if f"{name}-{number}" not in pods:
                if len(pods) == most:
                    break
                pods[f"{name}-{number}"] = await self._numbered_pod(obj, number, digest)
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
            await self._hands.tell(resource, obj, status)

    async def _numbered_pod(self, obj: KubeObject, number: int, digest: str) -> KubeObject:
        """Makes a Pod of a StatefulSet, and before it the claims that it has not yet."""
        for claim in claims_for(obj, number):
            if not self._hands.has(CLAIMS, key_of(claim)):
                await self._hands.make(CLAIMS, claim)
        return await self._hands.make(PODS, pod_of(obj, "StatefulSet", number, digest))

    async def daemon_set(self, resource: Resource, obj: KubeObject) -> None:
        """There is one node."""
        digest = digest_of(obj["spec"]["template"])
        pods = [pod for pod in self._hands.owned(PODS, obj) if not is_going(pod)]
        for pod in list(pods):
            if revision_of(pod) != digest:
                self._hands.remove(PODS, pod)
                pods.remove(pod)
        if not pods and not is_refused(obj) and self._room(resource, obj, 0):
            pods.append(await self._hands.make(PODS, pod_of(obj, "DaemonSet", digest=digest)))
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
            await self._hands.tell(resource, obj, status)

    async def job(self, resource: Resource, obj: KubeObject) -> None:
        """Has Pods until enough of them have ended well."""
        spec, was = obj["spec"], obj.get("status") or {}
        if ending := ending_of(obj):
            self._expire(resource, obj, ending)
            return
        wanted = spec.get("completions", 1)
        pods = [pod for pod in self._hands.owned(PODS, obj) if not is_going(pod)]
        phases = [(pod.get("status") or {}).get("phase", "Pending") for pod in pods]
        done, failed = phases.count("Succeeded"), phases.count("Failed")
        active = len(pods) - done - failed
        suspends, is_late = bool(spec.get("suspend")), self._is_late(obj)
        if suspends or is_late:
            for pod, phase in zip(pods, phases, strict=True):
                if phase not in ("Succeeded", "Failed"):
                    self._hands.remove(PODS, pod)
            failed, active = failed + (active if is_late else 0), 0
        elif done < wanted and failed <= spec.get("backoffLimit", 6) and not is_refused(obj):
            room = min(AT_ONCE, self._room(resource, obj, len(pods)))
            for _ in range(min(spec.get("parallelism", 1) - active, wanted - done - active, room)):
                await self._hands.make(PODS, pod_of(obj, "Job"))
                active += 1
        now = self._hands.now()
        status: KubeObject = {"ready": 0, "terminating": 0}
        if suspension := suspension_of(was, now, suspends=suspends):
            status["conditions"] = [suspension]
        has_begun = "startTime" in was and not (is_suspended(was) and not suspends)
        if has_begun or not suspends:
            status["startTime"] = was["startTime"] if has_begun else now
        counts = {"active": active, "succeeded": done, "failed": failed}
        status |= {name: value for name, value in counts.items() if value}
        status["uncountedTerminatedPods"] = {}
        if done >= wanted:
            told = "Reached expected number of succeeded pods"
            status.setdefault("conditions", []).extend(
                condition(was, kind, holds=True, now=now, reason="CompletionsReached", message=told, probe=True)
                for kind in ("SuccessCriteriaMet", "Complete")
            )
            status["completionTime"] = now
        elif is_late or failed > spec.get("backoffLimit", 6):
            reason = "DeadlineExceeded" if is_late else "BackoffLimitExceeded"
            told = "Job was active longer than specified deadline"
            told = told if is_late else "Job has reached the specified backoff limit"
            status.setdefault("conditions", []).extend(
                condition(was, kind, holds=True, now=now, reason=reason, message=told, probe=True)
                for kind in ("FailureTarget", "Failed")
            )
        if status != was:
            await self._hands.tell(resource, obj, status)
        deadline_s = spec.get("activeDeadlineSeconds")
        if deadline_s is not None and not suspends and not ending_of({"status": status}):
            self._later((resource.place, key_of(obj)), moment_of(status["startTime"]) + deadline_s - self._clock())

    def _room(self, resource: Resource, obj: KubeObject, pods: int) -> int:
        """How many Pods it may be given more; where that is none, it is looked at again."""
        room, where = self._hands.room(pods), (resource.place, key_of(obj))
        if room:
            self._full.pop(where, None)
        elif self._full.get(where, 0.0) <= self._clock():
            self._full[where] = self._clock() + NO_ROOM_S
            self._later(where, NO_ROOM_S)
        return room

    def _is_late(self, obj: KubeObject) -> bool:
        """Whether a Job has been at work for longer than it may; one that is suspended, or goes on now, is not."""
        status = obj.get("status") or {}
        began = "" if obj["spec"].get("suspend") or is_suspended(status) else str(status.get("startTime", ""))
        deadline_s = obj["spec"].get("activeDeadlineSeconds")
        return began != "" and deadline_s is not None and self._clock() >= moment_of(began) + deadline_s

    def _expire(self, resource: Resource, job: KubeObject, ended: KubeObject) -> None:
        """Deletes a Job whose time to live is over."""
        lives_s = job["spec"].get("ttlSecondsAfterFinished")
        if lives_s is None or is_going(job):
            return
        ends = moment_of(ended["lastTransitionTime"]) + lives_s
        if self._clock() < ends:
            self._later((resource.place, key_of(job)), ends - self._clock())
            return
        self._hands.remove(resource.place, job, "Foreground")
