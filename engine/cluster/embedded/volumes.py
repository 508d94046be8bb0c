"""Stand-ins for the controllers of volumes: claims are bound, volumes offered, and what is in use is kept for now."""

from collections.abc import Callable, Iterator
from typing import Final

from tidelog.engine.cluster.embedded.hands import PODS, Hands, Later, key_of
from tidelog.engine.cluster.embedded.likenesses import failure_of, moment_of
from tidelog.engine.cluster.embedded.objects import is_going
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.store import Key
from tidelog.engine.objects.kube import KubeObject

CLAIMS: Final[Place] = ("", "persistentvolumeclaims")
VOLUMES: Final[Place] = ("", "persistentvolumes")
_PROTECTION: Final = {CLAIMS: "kubernetes.io/pvc-protection", VOLUMES: "kubernetes.io/pv-protection"}


class Volumes:
    """Reconciles claims and volumes, one at a time."""

    def __init__(self, hands: Hands, clock: Callable[[], float], later: Later, ready_s: float | None) -> None:
        """`ready_s` after its creation a claim is bound; with None nobody binds any."""
        self._hands = hands
        self._clock = clock
        self._later = later
        self._ready_s = ready_s

    async def claim(self, resource: Resource, obj: KubeObject) -> None:
        """Has a volume given to it; or lets it go that is deleted, once no Pod uses it."""
        if is_going(obj):
            if not any(_uses(pod, obj["metadata"]["name"]) for pod in self._hands.within(PODS, obj)):
                await self._release(resource, obj)
            return
        if self._ready_s is None or (obj.get("status") or {}).get("phase") == "Bound" or failure_of(obj["metadata"]):
            return
        ready = moment_of(obj["metadata"]["creationTimestamp"]) + self._ready_s
        if self._clock() < ready:
            self._later((resource.place, key_of(obj)), ready - self._clock())
            return
        spec = obj["spec"]
        if not spec.get("volumeName"):
            named = {**obj, "spec": {**spec, "volumeName": f"pvc-{obj['metadata']['uid']}"}}
            obj = await self._hands.put(resource, named)
        capacity = (spec.get("resources") or {}).get("requests") or {}
        status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": capacity}
        await self._hands.tell(resource, obj, status)

    async def volume(self, resource: Resource, obj: KubeObject) -> None:
        """Says of one that somebody made that it may be had; or lets it go that is deleted, unless it is bound."""
        status = obj.get("status") or {}
        if is_going(obj):
            if status.get("phase") != "Bound":
                await self._release(resource, obj)
        elif status.get("phase") == "Pending":
            await self._hands.tell(resource, obj, {**status, "phase": "Available"})

    async def _release(self, resource: Resource, obj: KubeObject) -> None:
        finalizers = obj["metadata"].get("finalizers") or []
        left = [one for one in finalizers if one != _PROTECTION[resource.place]]
        if left != finalizers:
            await self._hands.put(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": left}})


def claims_of(pod: KubeObject) -> Iterator[Key]:
    """The claims that a Pod names."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield Key(pod["metadata"].get("namespace", ""), claim["claimName"])


def _uses(pod: KubeObject, name: str) -> bool:
    """Whether a Pod that has a node, and has not ended, uses a claim."""
    phase = (pod.get("status") or {}).get("phase")
    has_node = bool(pod["spec"].get("nodeName")) or phase == "Running"
    return has_node and phase not in ("Succeeded", "Failed") and any(key.name == name for key in claims_of(pod))
