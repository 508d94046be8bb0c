"""Why workloads are not available: their Pods are looked at while they are not, less and less often, one by one.

A Deployment whose image cannot be pulled says nothing of it, and its status does not change; nothing but a look finds
out. What is found is handed on, to be recorded where it is news. Who may not list Pods learns nothing, and no more.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final, TypeAlias

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.selecting import selector_text
from tidelog.engine.observe.health import ObjectHealth, health_of
from tidelog.engine.observe.pods import (
    WORKLOADS,
    Found,
    cause_of,
    controlled_by,
    has_begun_nothing,
    told_by,
)
from tidelog.engine.runtime.watching.due import Due
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary import Because
from tidelog.events.vocabulary.observe import Health

FIRST_LOOK_S: Final = 5.0
"""After a workload was seen not to be available: most are by then."""
LOOK_EVERY_S_MAX: Final = 300.0
LOOK_LIMIT_S: Final = 10.0
PODS_MAX: Final = 100
"""Pods of a workload that are looked at, and ReplicaSets of a Deployment, and Events of a Pod."""
UNWELL: Final[frozenset[Health]] = frozenset({"InProgress", "Failed"})
_NO_PODS: Final = frozenset({"FailedCreate"})
_NO_START: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume"})


class Looked(msgspec.Struct, frozen=True):
    """What a look at a workload found."""

    uid: str
    health: ObjectHealth
    because: Because | None
    """None where nothing is seen that would keep it from being available."""


Record: TypeAlias = Callable[[StreamName, Looked], Awaitable[None]]


class Causes:
    """Looks at the Pods of the workloads of a cluster that are not available."""

    def __init__(self, cluster: Cluster, record: Record, clock: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._record = record
        self._clock = clock
        self._first_look = FIRST_LOOK_S
        self._next: dict[StreamName, tuple[float, float]] = {}
        """Of each workload that is not available: when it is looked at next, and how long it then was since before."""
        self._due = Due()
        """With an entry for each of `_next`, and for some that are well by now."""

    def note(self, stream: StreamName, health: Health) -> None:
        """Takes in how an object was just seen to be."""
        key = ObjectKey.of_stream(stream)
        if (key.group, key.kind) not in WORKLOADS:
            return
        if health not in UNWELL:
            self.forget(stream)
        elif stream not in self._next:
            self._add(stream, self._first_look)

    def forget(self, stream: StreamName) -> None:
        """An object is well, or no more."""
        self._next.pop(stream, None)

    def _add(self, stream: StreamName, seconds: float) -> None:
        self._next[stream] = self._due.add(stream, seconds), seconds

    async def run(self) -> None:
        """Looks, until cancelled."""
        while True:
            due, stream = await self._due.next()
            entry = self._next.get(stream)
            if entry is None or entry[0] != due:
                continue  # it was well meanwhile
            await self.look(stream)
            if self._next.get(stream) == entry:
                self._add(stream, min(2 * entry[1], LOOK_EVERY_S_MAX))

    async def look(self, stream: StreamName, *, patient: bool = True) -> None:
        """Looks at one workload, and hands on what keeps it from being available."""
        try:
            with anyio.move_on_after(LOOK_LIMIT_S):
                looked = await self._looked(ObjectKey.of_stream(stream), patient=patient)
                if looked is not None and looked.health.health in UNWELL:
                    await self._record(stream, looked)
        except ClusterError:
            return  # it may not be asked, or does not answer: what is known stays known

    async def _looked(self, key: ObjectKey, *, patient: bool) -> Looked | None:
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        workload = await self._cluster.get(kind, key.namespace, key.name)
        now, selector = self._clock(), (workload.get("spec") or {}).get("selector")
        if not selector:
            return None
        labels, uid = selector_text(selector), workload["metadata"]["uid"]
        sets: list[KubeObject] = []
        if key.kind == "Deployment":
            sets = controlled_by(await self._first("apps/v1", "ReplicaSet", key.namespace, labels), frozenset({uid}))
        makers = frozenset({uid, *(one["metadata"]["uid"] for one in sets)})
        pods = controlled_by(await self._first("v1", "Pod", key.namespace, labels), makers)
        found = Found(sets, pods)
        because = cause_of(workload, found, now, patient=patient)
        return Looked(uid, health_of(workload), await self._by_events(key, uid, found, because, now))

    async def _by_events(
        self, key: ObjectKey, uid: str, found: Found, because: Because | None, now: datetime
    ) -> Because | None:
        """In the words of Events, where nothing else says it: no Pods could be made, or a volume is missing."""
        if because is None and key.kind != "Deployment":
            told = told_by(await self._events(key.namespace, uid), _NO_PODS, now)
            return None if told is None else Because(object=key.id, reason=told.reason, message=told.message)
        waiting = None if because is None else has_begun_nothing(found, because, now)
        if because is None or waiting is None:
            return because
        told = told_by(await self._events(key.namespace, waiting["metadata"]["uid"]), _NO_START, now)
        return because if told is None else msgspec.structs.replace(because, reason=told.reason, message=told.message)

    async def _events(self, namespace: str, uid: str) -> list[KubeObject]:
        try:
            return await self._first("v1", "Event", namespace, fields=f"involvedObject.uid={uid}")
        except ClusterError:
            return []  # what the Pods say is said without them

    async def _first(
        self, api_version: str, kind: str, namespace: str, labels: str = "", fields: str = ""
    ) -> list[KubeObject]:
        """The first page of a list; more are not looked at."""
        asked = await self._cluster.kind(api_version, kind)
        pages = self._cluster.pages(asked, namespace=namespace, labels=labels, fields=fields, limit=PODS_MAX)
        async with aclosing(pages):
            async for page in pages:
                return page.items
        return []
