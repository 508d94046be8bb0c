"""What stand-ins do to objects, through the same writer as everybody else; and how many Pods they make."""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.objects import decoded, encoded, timestamp
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.store import Key
from tidelog.engine.objects.kube import KubeObject

MANAGER: Final = Options("kube-controller-manager")
KUBELET: Final = Options("kubelet")
PODS: Final[Place] = ("", "pods")
PODS_OF_ONE_MAX: Final = 1_000
"""Pods of one workload: a Deployment of a million replicas would fill the memory, and hold up all others."""
PODS_MAX: Final = 10_000
"""Pods of the whole cluster, beyond which stand-ins make none."""
AT_ONCE: Final = 50
"""Pods that are made of one workload before others are looked at, and requests answered; each asks for another look."""
Where: TypeAlias = tuple[Place, Key]
Later: TypeAlias = Callable[[Where, float], None]
"""Has an object looked at again in some seconds."""


class Hands:
    """Reads and writes for the stand-ins of one cluster."""

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        """`clock` gives the time of day."""
        self._writer = api.writer
        self._registry = api.registry
        self._store = api.store
        self._clock = clock

    def now(self) -> str:
        """The time, as objects write it."""
        return timestamp(self._clock())

    def room(self, pods: int) -> int:
        """How many Pods a workload that has some may be given more."""
        return max(0, min(PODS_OF_ONE_MAX - pods, PODS_MAX - len(self._store.bucket(PODS).records)))

    def owned(self, place: Place, owner: KubeObject) -> list[KubeObject]:
        """The objects of a kind that an object owns."""
        resource = self._registry.builtin(place)
        uid = owner["metadata"]["uid"]
        mark = f'"uid":"{uid}"'.encode()
        records = self._store.bucket(place).between(owner["metadata"]["namespace"])
        found = [decoded(record, resource) for record in records if mark in record.data]
        return [obj for obj in found if any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ())]

    def within(self, place: Place, obj: KubeObject) -> list[KubeObject]:
        """The objects of a kind in the namespace of an object."""
        resource = self._registry.builtin(place)
        return [decoded(record, resource) for record in self._store.bucket(place).between(obj["metadata"]["namespace"])]

    def has(self, place: Place, key: Key) -> bool:
        """Whether there is such an object."""
        return self._store.get(place, key) is not None

    async def make(self, place: Place, obj: KubeObject) -> KubeObject:
        """Makes an object."""
        resource = self._registry.builtin(place)
        target = Target("create", resource, obj["metadata"]["namespace"], "")
        options = msgspec.structs.replace(MANAGER, size=len(encoded(obj)))
        return (await self._writer.create(target, obj, options)).object

    def remove(self, place: Place, obj: KubeObject, propagation: str = "Background") -> None:
        """Deletes an object."""
        resource = self._registry.builtin(place)
        target = Target("delete", resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._writer.delete(target, propagation=propagation)

    async def put(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """Writes an object anew, but for its status."""
        target = Target("update", resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        return (await self._writer.replace(target, obj, MANAGER)).object

    async def put_in(self, place: Place, obj: KubeObject) -> KubeObject:
        """Writes an object of a built-in kind anew, but for its status."""
        return await self.put(self._registry.builtin(place), obj)

    async def tell(self, resource: Resource, obj: KubeObject, status: KubeObject, options: Options = MANAGER) -> None:
        """Writes the status of an object, and its annotations."""
        target = Target(
            "update",
            resource,
            obj["metadata"].get("namespace", ""),
            obj["metadata"]["name"],
            resource.subresources["status"],
        )
        await self._writer.replace(target, {**obj, "status": status}, options)


def key_of(obj: KubeObject) -> Key:
    """Where an object is kept."""
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
