"""How an object does: the rules of kstatus, which Flux's health checks and command line go by (KS-099, CM-026).

First what holds for any object (it is being deleted, its controller has not seen its last change, it says that it
reconciles or is stalled), then the rules of its kind, then its `Ready` condition; an object of which nothing says
otherwise is as it should be. Jobs differ from kstatus as Flux's do (KS-103). Flux's own kinds have no rules of their
own: their conditions say it all (KS-105).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from tidelog.engine.objects.fields import at, int_at, text_at
from tidelog.engine.objects.kube import KubeObject, group_of
from tidelog.events.vocabulary.observe import Health

SCHEDULING_TIME: Final = timedelta(seconds=15)
"""How long a new Pod that nothing has room for is not held to have failed: a node may be on its way."""


class ObjectHealth(msgspec.Struct, frozen=True):
    """An object's health, and why it is that."""

    health: Health
    reason: str = ""
    """One word, for programs: the reason of the condition that told, or a name of the rule."""
    message: str = ""
    """A sentence, for people. Of a Secret's values it has none: status and conditions hold none."""


_Rule = Callable[[KubeObject, datetime | None], ObjectHealth]
_CURRENT: Final = ObjectHealth("Current")
NOT_FOUND: Final = ObjectHealth("NotFound", "NotFound", "it does not exist")


def health_of(obj: KubeObject | None, now: datetime | None = None) -> ObjectHealth:
    """The health of an object as the server says it is; None is one that does not exist.

    Args:
        obj: the object, with its status.
        now: the time, zoned. It counts for one rule only: a Pod that cannot be scheduled has failed after 15 seconds.
            Without it such a Pod is in progress.
    """
    if obj is None:
        return NOT_FOUND
    told = _generic(obj)
    if told is not None:
        return told
    rule = _rules.get((group_of(text_at(obj, "apiVersion")), text_at(obj, "kind")), _by_ready_condition)
    return rule(obj, now)


def _generic(obj: KubeObject) -> ObjectHealth | None:
    if text_at(obj, "metadata", "deletionTimestamp"):
        return ObjectHealth("Terminating", "Terminating", _terminating(obj))
    generation, observed = at(obj, "metadata", "generation"), at(obj, "status", "observedGeneration")
    if isinstance(generation, int) and isinstance(observed, int) and generation != observed:
        return _waiting("LatestGenerationNotObserved", f"generation {generation} is not observed yet: {observed} is")
    for condition in _conditions(obj):
        if condition.get("type") == "Reconciling" and condition.get("status") == "True":
            return _by(condition, "InProgress")
        if condition.get("type") == "Stalled" and condition.get("status") == "True":
            return _by(condition, "Failed")
    return None


def _terminating(obj: KubeObject) -> str:
    finalizers = at(obj, "metadata", "finalizers") or []
    waits = f", and waits for its finalizers {', '.join(map(str, finalizers))}" if finalizers else ""
    return f"it is being deleted{waits}"


def _by_ready_condition(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    ready = _condition(obj, "Ready")
    if ready is None or ready.get("status") not in {"True", "False", "Unknown"}:
        return _CURRENT
    return _by(ready, "Current" if ready["status"] == "True" else "InProgress")


def _always(_obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    return _CURRENT


def _deployment(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    progressing = _condition(obj, "Progressing") or {}
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return _by(progressing, "Failed")
    wanted = int_at(obj, 1, "spec", "replicas")
    there, updated = int_at(obj, 0, "status", "replicas"), int_at(obj, 0, "status", "updatedReplicas")
    short = (
        _fewer("replicas", there, wanted)
        or _fewer("updated replicas", updated, wanted)
        or _more(there, wanted)
        or _fewer("available replicas", int_at(obj, 0, "status", "availableReplicas"), updated)
        or _fewer("ready replicas", int_at(obj, 0, "status", "readyReplicas"), wanted)
    )
    if short is not None:
        return short
    # Without a deadline there is no condition that says that the rollout has come to its end.
    done = progressing.get("status") == "True" and progressing.get("reason") == "NewReplicaSetAvailable"
    if not done and at(obj, "spec", "progressDeadlineSeconds") is not None:
        return _waiting("ReplicaSetNotAvailable", "the new ReplicaSet is not available yet")
    if (_condition(obj, "Available") or {}).get("status") != "True":
        return _waiting("DeploymentNotAvailable", "the Deployment is not available yet")
    return _CURRENT


def _stateful_set(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    if text_at(obj, "spec", "updateStrategy", "type") == "OnDelete":
        return _CURRENT
    wanted = int_at(obj, 1, "spec", "replicas")
    there, updated = int_at(obj, 0, "status", "replicas"), int_at(obj, 0, "status", "updatedReplicas")
    short = (
        _fewer("replicas", there, wanted)
        or _fewer("ready replicas", int_at(obj, 0, "status", "readyReplicas"), wanted)
        or _more(there, wanted)
    )
    if short is not None:
        return short
    partition = at(obj, "spec", "updateStrategy", "rollingUpdate", "partition")
    if isinstance(partition, int):
        return _fewer("updated replicas of the partition", updated, wanted - partition) or _CURRENT
    short = _fewer("current replicas", int_at(obj, 0, "status", "currentReplicas"), wanted)
    if short is not None:
        return short
    if text_at(obj, "status", "currentRevision") != text_at(obj, "status", "updateRevision"):
        return _waiting("RevisionMismatch", "the new revision is not rolled out yet")
    return _CURRENT


def _replica_set(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    failure = _condition(obj, "ReplicaFailure") or {}
    if failure.get("status") == "True":
        return _by(failure, "InProgress")
    wanted = int_at(obj, 1, "spec", "replicas")
    return (
        _fewer("labelled replicas", int_at(obj, 0, "status", "fullyLabeledReplicas"), wanted)
        or _fewer("available replicas", int_at(obj, 0, "status", "availableReplicas"), wanted)
        or _fewer("ready replicas", int_at(obj, 0, "status", "readyReplicas"), wanted)
        or _more(int_at(obj, 0, "status", "replicas"), wanted)
        or _CURRENT
    )


def _daemon_set(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    if at(obj, "metadata", "generation") is None or at(obj, "status", "observedGeneration") is None:
        return _waiting("LatestGenerationNotObserved", "its controller has not seen it yet")
    wanted = int_at(obj, -1, "status", "desiredNumberScheduled")
    if wanted == -1:
        return _waiting("NoDesiredNumber", "it is not known yet how many nodes it belongs on")
    return (
        _fewer("scheduled pods", int_at(obj, 0, "status", "currentNumberScheduled"), wanted)
        or _fewer("updated pods", int_at(obj, 0, "status", "updatedNumberScheduled"), wanted)
        or _fewer("available pods", int_at(obj, 0, "status", "numberAvailable"), wanted)
        or _fewer("ready pods", int_at(obj, 0, "status", "numberReady"), wanted)
        or _CURRENT
    )


def _pod(obj: KubeObject, now: datetime | None) -> ObjectHealth:
    match text_at(obj, "status", "phase"):
        case "Succeeded":
            return ObjectHealth("Current", "PodSucceeded", "the Pod has ended well")
        case "Failed":  # kstatus takes it for done, as what will not change any more
            return ObjectHealth("Current", "PodFailed", "the Pod has ended with a failure")
        case "Running":
            return _running_pod(obj)
        case "Pending":
            return _pending_pod(obj, now)
        case "":
            return _waiting("PodNotObserved", "the Pod has no phase yet")
        case phase:
            return ObjectHealth("Unknown", "UnknownPhase", f"the Pod's phase is {phase}")


def _running_pod(obj: KubeObject) -> ObjectHealth:
    if (_condition(obj, "Ready") or {}).get("status") == "True":
        return _CURRENT
    containers = at(obj, "status", "containerStatuses") or []
    looping = [text_at(container, "name") for container in containers if _loops(container)]
    if looping:
        return ObjectHealth("Failed", "ContainerCrashLooping", f"containers keep on crashing: {', '.join(looping)}")
    return _waiting("PodRunningNotReady", "the Pod runs and is not ready yet")


def _loops(container: KubeObject) -> bool:
    return text_at(container, "state", "waiting", "reason") == "CrashLoopBackOff"


def _pending_pod(obj: KubeObject, now: datetime | None) -> ObjectHealth:
    scheduled = _condition(obj, "PodScheduled") or {}
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return _waiting("PodPending", "the Pod is pending")
    created = text_at(obj, "metadata", "creationTimestamp")
    if now is None or (created and now < _time(created) + SCHEDULING_TIME):
        return _waiting("PodNotScheduled", "the Pod is not scheduled yet")
    return _by(scheduled, "Failed")


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _claim(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    phase = text_at(obj, "status", "phase")
    return _CURRENT if phase == "Bound" else _waiting("NotBound", f"the claim is not bound: it is {phase or 'new'}")


def _service(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    if text_at(obj, "spec", "type") == "LoadBalancer" and not text_at(obj, "spec", "clusterIP"):
        return _waiting("NoIPAssigned", "the Service has no address yet")
    return _CURRENT


def _job(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    for condition in _conditions(obj):
        if condition.get("status") == "True" and condition.get("type") == "Complete":
            return ObjectHealth("Current", "JobComplete", "the Job has ended well")
        if condition.get("status") == "True" and condition.get("type") == "Failed":
            return _by(condition, "Failed")
    if at(obj, "spec", "suspend") is True:
        return ObjectHealth("Current", "JobSuspended", "the Job is suspended")
    return _waiting("JobInProgress", "the Job has not ended yet")


def has_ended(obj: KubeObject) -> bool:
    """Whether an object is a Job that is done, and that its `ttlSecondsAfterFinished` will take away (KS-103)."""
    if (group_of(obj["apiVersion"]), obj["kind"]) != ("batch", "Job"):
        return False
    ended = any(one.get("type") in {"Complete", "Failed"} and one.get("status") == "True" for one in _conditions(obj))
    return ended and at(obj, "spec", "ttlSecondsAfterFinished") is not None


def outcome_of(job: KubeObject) -> Health:
    """How a Job that is done has ended, be it that it is being taken away already."""
    failed = any(one.get("type") == "Failed" and one.get("status") == "True" for one in _conditions(job))
    return "Failed" if failed else "Current"


def _definition(obj: KubeObject, _now: datetime | None) -> ObjectHealth:
    for condition in _conditions(obj):
        kind, status = condition.get("type"), condition.get("status")
        if kind == "NamesAccepted" and status == "False":
            return _by(condition, "Failed")
        if kind == "Established" and status == "False" and condition.get("reason") != "Installing":
            return _by(condition, "Failed")
        if kind == "Established" and status == "True":
            return _CURRENT
    return _waiting("Installing", "the definition is not established yet")


_rules: Final[dict[tuple[str, str], _Rule]] = {
    ("", "ConfigMap"): _always,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Secret"): _always,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "CronJob"): _always,
    ("batch", "Job"): _job,
    ("policy", "PodDisruptionBudget"): _always,
}


def _waiting(reason: str, message: str) -> ObjectHealth:
    return ObjectHealth("InProgress", reason, message)


def _by(condition: KubeObject, health: Health) -> ObjectHealth:
    """As a condition says it."""
    reason, message = condition.get("reason"), condition.get("message")
    return ObjectHealth(health, str(reason or condition.get("type") or ""), str(message or ""))


def _fewer(what: str, there: int, wanted: int) -> ObjectHealth | None:
    return (
        _waiting("Less" + what.partition(" ")[0].capitalize(), f"{what}: {there}/{wanted}") if there < wanted else None
    )


def _more(there: int, wanted: int) -> ObjectHealth | None:
    return _waiting("ExtraPods", f"pods that are to go: {there - wanted}") if there > wanted else None


def _conditions(obj: KubeObject) -> list[KubeObject]:
    conditions = at(obj, "status", "conditions")
    return [one for one in conditions if isinstance(one, dict)] if isinstance(conditions, list) else []


def _condition(obj: KubeObject, kind: str) -> KubeObject | None:
    return next((one for one in _conditions(obj) if one.get("type") == kind), None)
