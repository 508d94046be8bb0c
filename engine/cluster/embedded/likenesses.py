"""What the stand-ins of the embedded cluster make, and what they say of it: functions of objects, and of the time."""

import hashlib
import math
import sys
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from tidelog.engine.cluster.embedded.objects import LETTERS, timestamp
from tidelog.engine.objects.kube import KubeObject

ANNOTATION: Final = "tidelog.dev/stand-in"
NODE: Final = "embedded"
Failure: TypeAlias = Literal["ImagePullBackOff", "CrashLoopBackOff", "QuotaExceeded", "NeverReady"]
FAILURES: Final = frozenset(get_args(Failure))
HASH: Final = "pod-template-hash"
NUMBER: Final = "deployment.kubernetes.io/revision"
"""Annotation of a Deployment and its ReplicaSets: which revision of the template that is."""
_FORMER: Final = "deployment.kubernetes.io/revision-history"
_DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
_MOST: Final = "deployment.kubernetes.io/max-replicas"
_DIGITS_MAX: Final = 18
_OF_DEPLOYMENTS: Final = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        *(NUMBER, _FORMER, _DESIRED, _MOST),
    }
)
"""Annotations that a ReplicaSet does not take over."""
REVISION: Final = "controller-revision-hash"
_MESSAGES: Final = {
    "ImagePullBackOff": "Back-off pulling image",
    "CrashLoopBackOff": "back-off 10s restarting failed container",
}


def pod_status(pod: KubeObject, now: str, *, is_ready: bool, is_done: bool) -> KubeObject:
    """What scheduler and kubelet would say."""
    failure = failure_of(pod["metadata"])
    was = pod.get("status") or {}
    runs = is_ready and failure not in ("ImagePullBackOff", "CrashLoopBackOff")
    works = runs and failure != "NeverReady"
    phase = "Pending" if not is_ready or failure == "ImagePullBackOff" else "Running"
    if is_done:
        phase = "Failed" if failure else "Succeeded"
    conditions = [
        condition(was, "PodReadyToStartContainers", holds=is_ready and not is_done, now=now),
        condition(was, "Initialized", holds=True, now=now, reason="PodCompleted" if phase == "Succeeded" else ""),
        condition(was, "Ready", holds=works and not is_done, now=now, reason=_unready(phase)),
        condition(was, "ContainersReady", holds=works and not is_done, now=now, reason=_unready(phase)),
        condition(was, "PodScheduled", holds=True, now=now),
    ]
    containers = [
        _container(each, failure, was, now, ready=works and not is_done, is_ready=is_ready, phase=phase)
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
    container: KubeObject, failure: str, was: KubeObject, now: str, *, ready: bool, is_ready: bool, phase: str
) -> KubeObject:
    name = container["name"]
    before: KubeObject = next((one for one in was.get("containerStatuses") or () if one["name"] == name), {})
    state: KubeObject
    if phase in ("Succeeded", "Failed"):
        reason = "Completed" if phase == "Succeeded" else "Error"
        ends = before.get("state", {}).get("terminated") or {"finishedAt": now}
        state = {"terminated": {**ends, "exitCode": 0 if phase == "Succeeded" else 1, "reason": reason}}
    elif not is_ready:
        state = {"waiting": {"reason": "ContainerCreating"}}
    elif failure in _MESSAGES:
        state = {"waiting": {"reason": failure, "message": f'{_MESSAGES[failure]} "{container["image"]}"'}}
    else:
        since = before.get("state", {}).get("running") or {"startedAt": now}
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


def deployment_status(obj: KubeObject, new: KubeObject, sets: list[KubeObject], moment: float) -> KubeObject:
    """Of a Deployment with these ReplicaSets, of which one is of its template."""
    wanted = obj["spec"].get("replicas", 1)

    def total(field: str) -> int:
        return sum((one.get("status") or {}).get(field, 0) for one in sets)

    was, now = obj.get("status") or {}, timestamp(moment)
    replicas, ready, available = total("replicas"), total("readyReplicas"), total("availableReplicas")
    updated = (new.get("status") or {}).get("replicas", 0)
    is_done = updated == wanted == replicas == available
    failed = next((c for c in (new.get("status") or {}).get("conditions") or () if c["type"] == "ReplicaFailure"), None)
    progressing = _progressing(obj, new, ready, moment, is_done=is_done)
    least = "MinimumReplicasAvailable" if available >= wanted else "MinimumReplicasUnavailable"
    text = "Deployment has minimum availability." if available >= wanted else _UNAVAILABLE
    conditions = [
        condition(was, "Available", holds=available >= wanted, now=now, reason=least, message=text, update=True),
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
    counts = {name: value for name, value in told.items() if value}
    return counts | {"terminatingReplicas": 0, "conditions": conditions}


def _progressing(obj: KubeObject, new: KubeObject, ready: int, moment: float, *, is_done: bool) -> KubeObject:
    """The condition: a rollout fails when nothing went on for a time, and a scaling once it is done does not."""
    was, name, now = obj.get("status") or {}, new["metadata"]["name"], timestamp(moment)
    before: KubeObject = next((c for c in was.get("conditions") or () if c["type"] == "Progressing"), {})
    is_same = f'"{name}"' in before.get("message", "")
    has_moved = not is_same or ready > was.get("readyReplicas", 0)
    late = not has_moved and moment >= deadline_of(obj["spec"], before)
    if is_done or (is_same and before.get("reason") == "NewReplicaSetAvailable"):
        reason, words = "NewReplicaSetAvailable", "has successfully progressed."
    elif late or (not has_moved and before.get("reason") == "ProgressDeadlineExceeded"):
        reason, words = "ProgressDeadlineExceeded", "has timed out progressing."
    else:
        reason, words = "ReplicaSetUpdated", "is progressing."
    message, holds = f'ReplicaSet "{name}" {words}', reason != "ProgressDeadlineExceeded"
    told = condition(was, "Progressing", holds=holds, now=now, reason=reason, message=message, update=True)
    return told | ({"lastUpdateTime": now} if has_moved else {})


_UNAVAILABLE: Final = "Deployment does not have minimum availability."


def deadline_of(spec: KubeObject, progressing: KubeObject) -> float:
    """When a rollout has failed, if nothing goes on since its condition `Progressing` was updated."""
    return moment_of(progressing["lastUpdateTime"]) + float(spec.get("progressDeadlineSeconds", 600))


def moment_of(text: str) -> float:
    """A time that an object writes."""
    return datetime.fromisoformat(text).timestamp()


def failure_of(metadata: KubeObject) -> str:
    """How the annotation says that something fails; empty where it does not."""
    said = (metadata.get("annotations") or {}).get(ANNOTATION, "")
    return said if said in FAILURES else ""


def is_refused(workload: KubeObject) -> bool:
    """Whether a quota stands against a workload's Pods."""
    return failure_of(workload["spec"]["template"].get("metadata") or {}) == "QuotaExceeded"


def surplus(pods: list[KubeObject], spec: KubeObject, revision: str) -> list[KubeObject]:
    """The Pods of a StatefulSet that are to go: too many, or the last that is not of its revision, once all do."""
    wanted, update = spec.get("replicas", 1), spec.get("updateStrategy") or {}
    too_many = [pod for pod in pods if _number_of(pod) >= wanted]
    left = sorted((pod for pod in pods if _number_of(pod) < wanted), key=_number_of)
    first = (update.get("rollingUpdate") or {}).get("partition", 0)
    old = [pod for pod in left[first:] if revision_of(pod) != revision]
    rolls = update.get("type") != "OnDelete" and len(left) == wanted and all(map(is_ready, left))
    return too_many + (old[-1:] if rolls else [])


def _number_of(pod: KubeObject) -> int:
    """Its number in its StatefulSet; of a Pod that somebody else gave to it, one that is too many."""
    number = pod["metadata"]["name"].rpartition("-")[2]
    return int(number) if number.isdecimal() else sys.maxsize


def revision_of(pod: KubeObject) -> str:
    """The revision of a workload that a Pod is of."""
    revision: str = (pod["metadata"].get("labels") or {}).get(REVISION, "")
    return revision


def has_end(pod: KubeObject) -> bool:
    """Whether a Pod's containers come to an end: those of a Job do, but for one that never began, or is never ready."""
    is_of_job = any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences") or ())
    return is_of_job and failure_of(pod["metadata"]) not in ("ImagePullBackOff", "NeverReady")


def ending_of(job: KubeObject) -> KubeObject:
    """The condition that says how a Job ended; an empty one while it has not."""
    told: list[KubeObject] = (job.get("status") or {}).get("conditions") or []
    return next((one for one in told if one["type"] in ("Complete", "Failed") and one["status"] == "True"), {})


def is_ready(pod: KubeObject) -> bool:
    """Whether a Pod is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _unready(phase: str) -> str:
    return "PodCompleted" if phase == "Succeeded" else "PodFailed" if phase == "Failed" else "ContainersNotReady"


def condition(
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


_SUSPENDED: Final = "Suspended"


def is_suspended(status: KubeObject) -> bool:
    """Whether a Job says that it is suspended."""
    return any(one["type"] == _SUSPENDED and one["status"] == "True" for one in status.get("conditions") or ())


def suspension_of(was: KubeObject, now: str, *, suspends: bool) -> KubeObject | None:
    """What a Job says of its suspension; nothing where it never was suspended."""
    conditions: list[KubeObject] = was.get("conditions") or []
    before = next((one for one in conditions if one["type"] == _SUSPENDED), None)
    if not suspends and before is None:
        return None
    if before is not None and suspends == (before["status"] == "True"):
        return before
    reason, message = ("JobSuspended", "Job suspended") if suspends else ("JobResumed", "Job resumed")
    return condition({}, _SUSPENDED, holds=suspends, now=now, reason=reason, message=message, probe=True)


def digest_of(template: KubeObject) -> str:
    """Ten letters for a pod template, of those that Kubernetes uses for such."""
    digest = hashlib.sha256(msgspec.json.encode(template, order="sorted")).digest()
    return "".join(LETTERS[byte % len(LETTERS)] for byte in digest[:10])


def owner_of(obj: KubeObject, kind: str) -> KubeObject:
    """The reference of what an object makes, to it."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": kind,
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def replica_set_of(deployment: KubeObject, digest: str, replicas: int) -> KubeObject:
    """The ReplicaSet for the template of a Deployment."""
    spec, name = deployment["spec"], deployment["metadata"]["name"]
    template = msgspec.json.decode(msgspec.json.encode(spec["template"]))
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), HASH: digest}
    labels = template["metadata"]["labels"]
    selector = {**spec["selector"]}
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-{digest}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": dict(labels),
            "annotations": _sizes_of(deployment),
            "ownerReferences": [owner_of(deployment, "Deployment")],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }


def numbered(replica_set: KubeObject, deployment: KubeObject, others: list[KubeObject]) -> KubeObject:
    """The ReplicaSet of the template of a Deployment, with the number of its revision, which is above all others."""
    said = deployment["metadata"].get("annotations") or {}
    annotations = {**(replica_set["metadata"].get("annotations") or {})}
    annotations |= {name: said[name] for name in said if name not in _OF_DEPLOYMENTS}
    last, was = max(map(number_of, others), default=0), number_of(replica_set)
    if was <= last:
        annotations[NUMBER] = str(last + 1)
        if was:
            annotations[_FORMER] = ",".join(filter(None, (annotations.get(_FORMER, ""), str(was))))
    return {**replica_set, "metadata": {**replica_set["metadata"], "annotations": annotations}}


def resized(replica_set: KubeObject, deployment: KubeObject, replicas: int) -> KubeObject:
    """A ReplicaSet of a Deployment, with so many replicas."""
    annotations = {**(replica_set["metadata"].get("annotations") or {}), **_sizes_of(deployment)}
    metadata = {**replica_set["metadata"], "annotations": annotations}
    return {**replica_set, "metadata": metadata, "spec": {**replica_set["spec"], "replicas": replicas}}


def number_of(obj: KubeObject) -> int:
    """The number of the revision that a ReplicaSet or a Deployment says; 0 where it says none."""
    said = (obj["metadata"].get("annotations") or {}).get(NUMBER, "")
    return int(said) if said.isdecimal() and len(said) <= _DIGITS_MAX else 0


def forgotten(sets: list[KubeObject], limit: int) -> list[KubeObject]:
    """The former ReplicaSets of a Deployment that are too many to be kept."""
    empty = [one for one in sets if not one["spec"].get("replicas") and not (one.get("status") or {}).get("replicas")]
    return sorted(empty, key=number_of)[: max(0, len(empty) - limit)]


def _sizes_of(deployment: KubeObject) -> dict[str, str]:
    spec = deployment["spec"]
    wanted, strategy = spec.get("replicas", 1), spec.get("strategy") or {}
    surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", 0) if strategy.get("type") != "Recreate" else 0
    more = math.ceil(int(surge.removesuffix("%")) * wanted / 100) if isinstance(surge, str) else surge
    return {_DESIRED: str(wanted), _MOST: str(wanted + more)}


def pod_of(owner: KubeObject, kind: str, number: int | None = None, digest: str = "") -> KubeObject:
    """A Pod of a workload."""
    template = msgspec.json.decode(msgspec.json.encode(owner["spec"]["template"]))
    name = owner["metadata"]["name"]
    metadata = {**(template.get("metadata") or {}), "namespace": owner["metadata"]["namespace"]}
    metadata.pop("creationTimestamp", None)
    labels = dict(metadata.get("labels") or {})
    if kind == "StatefulSet":
        metadata["name"] = f"{name}-{number}"
        labels |= {REVISION: f"{name}-{digest}", "statefulset.kubernetes.io/pod-name": f"{name}-{number}"}
        labels["apps.kubernetes.io/pod-index"] = str(number)
    else:
        metadata["generateName"] = f"{name}-"
        if kind == "DaemonSet":
            labels |= {REVISION: digest, **_template_generation(owner)}
    metadata |= {"labels": labels, "ownerReferences": [owner_of(owner, kind)]}
    spec = {**template["spec"], "nodeName": NODE}
    if kind == "StatefulSet":
        spec |= {"hostname": metadata["name"], "subdomain": owner["spec"].get("serviceName", "")}
        spec |= _with_claims(spec, owner, number or 0)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _template_generation(daemon_set: KubeObject) -> dict[str, str]:
    said = (daemon_set["metadata"].get("annotations") or {}).get("deprecated.daemonset.template.generation")
    return {"pod-template-generation": said} if said else {}


def _with_claims(spec: KubeObject, stateful_set: KubeObject, number: int) -> KubeObject:
    """The volumes of a Pod of a StatefulSet: its claims, and those of its template that have other names."""
    claims = {
        template["metadata"]["name"]: _claim_name(stateful_set, template, number)
        for template in stateful_set["spec"].get("volumeClaimTemplates") or ()
    }
    own = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
    claimed = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()]
    return {"volumes": claimed + own} if claims else {}


def _claim_name(stateful_set: KubeObject, template: KubeObject, number: int) -> str:
    return f"{template['metadata']['name']}-{stateful_set['metadata']['name']}-{number}"


def claims_for(stateful_set: KubeObject, number: int) -> list[KubeObject]:
    """The claims of one Pod of a StatefulSet; they go with it only where it says so."""
    spec, found = stateful_set["spec"], []
    goes_along = (spec.get("persistentVolumeClaimRetentionPolicy") or {}).get("whenDeleted") == "Delete"
    for template in spec.get("volumeClaimTemplates") or ():
        said = template["metadata"]
        labels = {**(said.get("labels") or {}), **(spec["selector"].get("matchLabels") or {})}
        metadata: KubeObject = {"name": _claim_name(stateful_set, template, number)}
        metadata |= {"namespace": stateful_set["metadata"]["namespace"], "labels": labels}
        if said.get("annotations"):
            metadata["annotations"] = dict(said["annotations"])
        if goes_along:
            metadata["ownerReferences"] = [owner_of(stateful_set, "StatefulSet")]
        found.append(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {**template["spec"]}}
        )
    return found


def _address_of(pod: KubeObject) -> str:
    """An address that no network has (RFC 6598), the same at each look."""
    digest = hashlib.sha256(pod["metadata"]["uid"].encode()).digest()
    return f"100.{64 + digest[0] % 64}.{digest[1]}.{1 + digest[2] % 254}"


def public_address_of(service: KubeObject) -> str:
    """One for documentation (RFC 5737)."""
    return f"203.0.113.{1 + hashlib.sha256(service['metadata']['uid'].encode()).digest()[0] % 254}"
