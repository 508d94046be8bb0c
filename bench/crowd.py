"""A process with an embedded cluster of many objects, which says how it does: `python -m bench.crowd OBJECTS`.

One namespace is made by applying its objects, and the controllers do their part; the others are copies of what came
of it, under ids of their own, each written twice, as if changed once. When all rest, the process prints a line of JSON,
and one for each word that it reads: `list`, `begin`, `change` (microseconds of CPU an object), `fork`.
"""

import os
import re
import sys
import time
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from random import Random
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bench.watching import MIB, anonymous
from tidelog.engine.cluster.embedded.cluster import EmbeddedCluster, open_embedded
from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.standins import Pace
from tidelog.engine.cluster.embedded.store import Key, Record, Store
from tidelog.engine.cluster.port import Kind
from tidelog.engine.expressions.evaluator import Evaluator

MANAGER: Final = "kustomize-controller"
NAMESPACE: Final = "team-0000"
A_NAMESPACE: Final = 200
"""Objects that are applied in it; the controllers add theirs."""
CHANGES: Final = 1_000
CHANGED_OF: Final = 100
"""Of so many ConfigMaps, one is changed in a fork."""
CONFIG_MAPS: Final[Place] = ("", "configmaps")
NAMESPACES: Final[Place] = ("", "namespaces")
QUIET_S: Final = 0.3
_VERSION = re.compile(rb'"resourceVersion":"\d+"')


class Full(Struct, frozen=True):
    """A cluster that is full, and at rest."""

    objects: int
    json_mib: float
    """Of the objects as they are kept."""
    mib: float
    """Of anonymous memory that they take."""


class Forked(Struct, frozen=True):
    """What a fork takes."""

    ms: float
    share: float
    """Of the memory of the objects."""
    share_changed: float
    """When one of a hundred objects was changed in it."""


class Crowd:
    """The cluster, full."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self._cluster = cluster
        self._client = cluster.client()
        self._store = cluster.api.store
        self._empty = 0.0
        self._size = 0.0

    async def fill(self, count: int) -> Full:
        """Fills it with about so many objects."""
        for obj in _wanted():
            await self._client.apply(obj, manager=MANAGER)
        await _rest(self._cluster)
        before, self._empty = self._json(), anonymous(os.getpid())
        places = [place for place in self._store.places() if next(self._store.bucket(place).between(NAMESPACE), None)]
        team = [(place, one) for place in places for one in self._store.bucket(place).between(NAMESPACE)]
        (space,) = [one for one in self._store.bucket(NAMESPACES).between("") if one.key.name == NAMESPACE]
        random = Random(1)
        for number in range(1, count // len(team) + 1):
            _copy(self._store, [(NAMESPACES, space), *team], f"team-{number:04}", random)
            await anyio.lowlevel.checkpoint()
        await _rest(self._cluster)
        self._size = anonymous(os.getpid()) - self._empty
        objects, size = (after - was for after, was in zip(self._json(), before, strict=True))
        return Full(int(objects), size / MIB, self._size)

    async def list(self) -> float:
        """All ConfigMaps, in pages of 500, decoded."""
        kind = await self._client.kind("v1", "ConfigMap")
        began, count = time.process_time(), 0
        async with aclosing(self._client.pages(kind)) as pages:
            async for page in pages:
                count += len(page.items)
        return (time.process_time() - began) * 1e6 / count

    async def begin(self) -> float:
        """A watch that begins with all ConfigMaps, until it has told of them."""
        count = len(self._store.bucket(CONFIG_MAPS).records)
        return await self._watched(await self._client.kind("v1", "ConfigMap"), "0", count) * 1e6 / count

    async def change(self) -> float:
        """Changes of ConfigMaps, one by one, until a watch that was there before has told of each."""
        kind = await self._client.kind("v1", "ConfigMap")
        there = list(self._store.bucket(CONFIG_MAPS).between(""))
        records = Random(2).sample(there, min(CHANGES, len(there)))
        version = str(self._store.version)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_change_all, self._store, records)
            seconds = await self._watched(kind, version, len(records))
        return seconds * 1e6 / len(records)

    async def _watched(self, kind: Kind, version: str, count: int) -> float:
        """The seconds until a watch has told of so many changes."""
        began, left = time.process_time(), count
        async with aclosing(self._client.watch(kind, resource_version=version)) as events:
            async for _ in events:
                left -= 1
                if not left:
                    break
        return time.process_time() - began

    async def fork(self) -> Forked:
        """A fork, and changes in it."""
        began = time.process_time()
        async with self._cluster.fork():
            seconds = time.process_time() - began
        # Anonymous memory would not tell: there are holes enough in what the original has.
        tracemalloc.start()
        try:
            async with self._cluster.fork() as fork:
                alone = tracemalloc.get_traced_memory()[0]
                objects = list(fork.api.store.bucket(CONFIG_MAPS).between(""))[::CHANGED_OF]
                await _change_all(fork.api.store, objects)
                await _rest(fork)
                del objects
                changed = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        return Forked(seconds * 1000, alone / MIB / self._size, changed / MIB / self._size)

    def _json(self) -> tuple[int, int]:
        """How many objects there are, and the bytes of their JSON."""
        buckets = [self._store.bucket(place) for place in self._store.places()]
        sizes = [len(record.data) for bucket in buckets for record in bucket.between("")]
        return len(sizes), sum(sizes)


async def _rest(cluster: EmbeddedCluster) -> None:
    """Waits until the controllers have nothing more to do."""
    version = -1
    while version != cluster.api.store.version or not cluster.is_at_rest:
        version = cluster.api.store.version
        await anyio.sleep(QUIET_S)


def _wanted() -> Iterator[dict[str, Any]]:
    """A namespace with ConfigMaps, ServiceAccounts and Deployments: of ten objects seven, two and one."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for number in range(A_NAMESPACE):
        labels = {
            "app.kubernetes.io/name": f"app-{number}",
            "kustomize.toolkit.fluxcd.io/name": "apps",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        }
        metadata = {"name": f"app-{number}", "namespace": NAMESPACE, "labels": labels}
        match number % 10:
            case 0:
                container = {"name": "app", "image": "app:1", "ports": [{"containerPort": 9898, "name": "http"}]}
                template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
                spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
                yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
            case 1 | 2:
                yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
            case _:
                data = {"config.yaml": f"name: app-{number}\n" + "verbose: true\n" * 20}
                yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _copy(store: Store, team: list[tuple[Place, Record]], name: str, random: Random) -> None:
    """Writes the objects of a namespace once more, as those of another; each twice."""
    uids = {record.uid: str(uuid.UUID(int=random.getrandbits(128), version=4)) for _, record in team}
    pattern = re.compile("|".join(uids).encode())
    for place, record in team:
        data = pattern.sub(lambda match: uids[match[0].decode()].encode(), record.data)
        data = data.replace(NAMESPACE.encode(), name.encode())
        key = Key("", name) if place == NAMESPACES else Key(name, record.key.name)
        _write(store, place, Record(key, 0, data, uids[record.uid]))
        _write(store, place, Record(key, 0, data, uids[record.uid]))


def _write(store: Store, place: Place, record: Record) -> None:
    version = store.next_version()
    data = _VERSION.sub(b'"resourceVersion":"%d"' % version, record.data, count=1)
    store.put(place, replace(record, version=version, data=data))


async def _change_all(store: Store, records: list[Record]) -> None:
    for record in records:
        _write(store, CONFIG_MAPS, record)
        await anyio.lowlevel.checkpoint()


async def _serve(count: int) -> None:
    async with Evaluator() as judge, open_embedded(judge, pace=Pace(0.0)) as cluster:
        crowd = Crowd(cluster)
        _say(await crowd.fill(count))
        answers: dict[str, Callable[[], Awaitable[object]]] = {
            "list": crowd.list,
            "begin": crowd.begin,
            "change": crowd.change,
            "fork": crowd.fork,
        }
        while word := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            _say(await answers[word]())


def _say(value: object) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


if __name__ == "__main__":
    anyio.run(_serve, int(sys.argv[1]))
