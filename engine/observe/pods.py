"""Why a workload is not available: what its Pods, or those who should make them, say of it.

What a container itself wrote (its termination message) is never taken: it may hold what it was given as a secret.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tidelog.engine.objects.fields import at, text_at
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.observe.health import SCHEDULING_TIME
from tidelog.events.vocabulary import Because

WORKLOADS: Final = frozenset(
    {("apps", "Deployment"), ("apps", "ReplicaSet"), ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("batch", "Job")}
)
STARTING_TIME: Final = timedelta(seconds=30)
"""How long a Pod that only takes its time is no reason for anything."""
EVENTS_COUNT_FOR: Final = timedelta(minutes=15)
_REVISION: Final = "deployment.kubernetes.io/revision"
_STARTS: Final = frozenset({"", "PodInitializing", "ContainerCreating"})
_LOOPS: Final = "CrashLoopBackOff"
_BY_RUNTIME: Final = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of an end whose message the container runtime wrote."""
_ALIKE: Final = {"ErrImagePull": "ImagePullBackOff"}
"""What the kubelet says by turns, of one thing."""


class Trouble(msgspec.Struct, frozen=True, order=True):
    """What is wrong with a Pod; the worse, the smaller."""

    rank: int
    reason: str = ""
    message: str = ""


class Found(msgspec.Struct, frozen=True):
    """What was read of a workload's Pods."""

    sets: Sequence[KubeObject] = ()
    """The ReplicaSets of a Deployment."""
    pods: Sequence[KubeObject] = ()
    """Those that the workload, or its sets, control."""


def controlled_by(objects: Iterable[KubeObject], uids: frozenset[str]) -> list[KubeObject]:
    """Those objects whose controller has one of these uids."""
    return [one for one in objects if _controller(one) in uids]


def cause_of(workload: KubeObject, found: Found, now: datetime, *, patient: bool = True) -> Because | None:
    """The one thing that most keeps a workload from being available; None where nothing is seen of it.

    Args:
        workload: a Deployment, ReplicaSet, StatefulSet, DaemonSet or Job.
        found: its ReplicaSets and Pods.
        now: the time, zoned.
        patient: whether Pods that are merely not ready yet are given their time.
    """
    newest = sorted(found.sets, key=_age_of_set, reverse=True)
    place = {one["metadata"]["uid"]: number for number, one in enumerate(newest)}
    told = [
        (place.get(_controller(pod), 0), trouble, pod["metadata"]["name"], pod)
        for pod in found.pods
        if (trouble := _trouble_for(workload, pod, now, patient=patient)) is not None
    ]
    refused = [(place.get(one["metadata"]["uid"], 0), one) for one in (*newest, workload) if _refusal(one)]
    worst = min(told, key=lambda each: each[:3], default=None)
    first = min(refused, key=lambda each: each[0], default=None)
    if first is not None and (worst is None or first[0] < worst[0] or worst[1].rank > _REFUSED):
        return Because(
            object=key_of(first[1]).id, reason="FailedCreate", message=text_at(_refusal(first[1]), "message")
        )
    if worst is None:
        return None
    return Because(object=key_of(worst[3]).id, reason=worst[1].reason, message=worst[1].message)


def has_begun_nothing(found: Found, because: Because, now: datetime) -> KubeObject | None:
    """The Pod that is the cause, if none of its containers began: of why, nothing but the kubelet's Events tell."""
    for pod in found.pods:
        if key_of(pod).id == because.object:
            trouble = _trouble(pod, now, patient=False)
            return pod if trouble is not None and trouble.rank == _STARTING else None
    return None


def told_by(events: Iterable[KubeObject], reasons: frozenset[str], now: datetime) -> Trouble | None:
    """What the newest of some Events says of an object, of those that warn for one of these reasons."""
    warning = [one for one in events if one.get("type") == "Warning" and one.get("reason") in reasons]
    newest = max(warning, key=_time_of_event, default=None)
    if newest is None or _time_of_event(newest) < _stamp(now - EVENTS_COUNT_FOR):
        return None
    return Trouble(_STARTING, text_at(newest, "reason"), text_at(newest, "message"))


def same_cause(one: Because | None, other: Because | None) -> bool:
    """Whether two say the same, be it in other words: counts and times in a message change all the time."""
    if one is None or other is None:
        return one is other
    reasons = (_ALIKE.get(each.reason, each.reason) for each in (one, other))
    return one.object == other.object and len(set(reasons)) == 1


# Ranks of what is wrong, from the worst.
_CANNOT_START, _CRASHES, _ENDED, _REFUSED, _UNSCHEDULABLE, _STARTING, _NOT_READY, _REPLACED = range(8)


def _trouble_for(workload: KubeObject, pod: KubeObject, now: datetime, *, patient: bool) -> Trouble | None:
    """What is wrong with a Pod, to its workload: but for a Job, another Pod comes in the place of one that ended."""
    found = _trouble(pod, now, patient=patient)
    if found is None or workload["kind"] == "Job" or text_at(pod, "status", "phase") != "Failed":
        return found
    return msgspec.structs.replace(found, rank=_REPLACED)


def _trouble(pod: KubeObject, now: datetime, *, patient: bool) -> Trouble | None:
    if text_at(pod, "metadata", "deletionTimestamp"):
        return None
    phase = text_at(pod, "status", "phase")
    containers = list(_containers(pod))
    found = min((wrong for one in containers if (wrong := _of_container(one)) is not None), default=None)
    if found is not None and phase != "Succeeded":
        return found
    if phase == "Failed":  # evicted, or its node is lost
        return Trouble(_ENDED, text_at(pod, "status", "reason") or "PodFailed", text_at(pod, "status", "message"))
    age = now - _moment(text_at(pod, "metadata", "creationTimestamp"), now)
    scheduled = _condition(pod, "PodScheduled")
    if text_at(scheduled, "status") == "False" and (age >= SCHEDULING_TIME or not patient):
        return Trouble(_UNSCHEDULABLE, text_at(scheduled, "reason") or "Unschedulable", text_at(scheduled, "message"))
    ready = _condition(pod, "Ready")
    if phase == "Succeeded" or text_at(ready, "status") == "True" or (patient and age < STARTING_TIME):
        return None
    if phase == "Running":
        return Trouble(_NOT_READY, text_at(ready, "reason") or "NotReady", text_at(ready, "message"))
    waiting = next((one for one in containers if at(one, "state", "waiting") is not None), {})
    return Trouble(
        _STARTING, text_at(waiting, "state", "waiting", "reason") or "Pending", "none of its containers began"
    )


def _of_container(status: KubeObject) -> Trouble | None:
    name, reason = text_at(status, "name"), text_at(status, "state", "waiting", "reason")
    if reason not in _STARTS | {_LOOPS}:
        said = text_at(status, "state", "waiting", "message")
        return Trouble(_CANNOT_START, reason, f"container {name}" + (f": {said}" if said else ""))
    ended = at(status, "state", "terminated") or at(status, "lastState", "terminated") or {}
    failed = isinstance(ended, dict) and ended.get("exitCode", 0) != 0
    again = (status.get("restartCount") or 0) > 0 and status.get("ready") is not True
    how = f"exit code {ended.get('exitCode', 0)}" + (f" ({text_at(ended, 'reason') or 'Error'})" if failed else "")
    if failed and text_at(ended, "reason") in _BY_RUNTIME:
        how += f": {text_at(ended, 'message')}"
    if reason == _LOOPS or (again and failed):
        last = f", last with {how}" if ended else ""
        return Trouble(_CRASHES, _LOOPS, f"container {name} ends again and again{last}")
    if failed and at(status, "state", "terminated") is not None:
        return Trouble(_ENDED, text_at(ended, "reason") or "Error", f"container {name} ended with {how}")
    return None


def _containers(pod: KubeObject) -> Iterator[KubeObject]:
    for where in ("initContainerStatuses", "containerStatuses"):
        for one in at(pod, "status", where) or ():
            if isinstance(one, dict):
                yield one


def _refusal(owner: KubeObject) -> KubeObject:
    """The condition that no Pods can be made, as for a quota; empty where it does not hold."""
    failure = _condition(owner, "ReplicaFailure")
    return failure if text_at(failure, "status") == "True" else {}


def _age_of_set(owner: KubeObject) -> tuple[int, str, str]:
    revision = ((owner["metadata"].get("annotations") or {}).get(_REVISION)) or ""
    number = int(revision) if revision.isascii() and revision.isdigit() and len(revision) < 12 else 0
    return number, text_at(owner, "metadata", "creationTimestamp"), owner["metadata"]["name"]


def _controller(obj: KubeObject) -> str:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(one["uid"]) for one in owners if one.get("controller")), "")


def _time_of_event(event: KubeObject) -> str:
    """RFC 3339 in UTC, which sorts as it is; a fraction of a second does not matter."""
    told = (text_at(event, "series", "lastObservedTime"), text_at(event, "lastTimestamp"), text_at(event, "eventTime"))
    return max(*told, text_at(event, "metadata", "creationTimestamp"))


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(text) if text else otherwise


def _condition(obj: KubeObject, kind: str) -> KubeObject:
    conditions = at(obj, "status", "conditions") or ()
    return next((one for one in conditions if isinstance(one, dict) and one.get("type") == kind), {})
