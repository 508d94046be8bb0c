"""The least that any engine must write, sent by a bare client."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio

from bench.reconciling.client import CONNECTIONS, Client
from bench.reconciling.fleet import ACCOUNT, NAMESPACE, Fleet, Object, app, ready
from bench.reconciling.releases import ReleaseFleet, helm_chart

DECLARED = "declared"
"""Of the writes of a floor, the one that no engine makes: who deploys does, in both."""
WRITES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "Kustomization": {
        "install": {DECLARED: 1, "apply": 4, "status": 1},
        "upgrade": {"apply": 1, "status": 1},
    },
    "HelmRelease": {
        # Helm's record: pending before anything is done, deployed after it.
        "install": {DECLARED: 1, "create of Secrets": 1, "apply": 4, "update of Secrets": 1, "status": 1},
        # And that of the version before: superseded.
        "upgrade": {"create of Secrets": 1, "apply": 1, "update of Secrets": 2, "status": 1},
    },
}
"""By kind and phase, what must be written of a target: requests by sort, as `requests` counts those of an engine."""
SOURCE_WRITES: Mapping[str, int] = {"install": 2, "upgrade": 1}
"""Beyond these where each target has a source of its own: declared and a status, or another version named."""


def least(kind: str, phase: str, *, sources: bool = False) -> int:
    """The requests of one target."""
    return sum(WRITES[kind][phase].values()) + (SOURCE_WRITES[phase] if sources else 0)


async def floor(client: Client, fleet: Fleet, phase: str, tag: str, revision: str, *, sources: bool) -> float:
    """The seconds that the requests of a phase take; with a source for each target, or one for all."""
    source_status = {"observedGeneration": 1, "conditions": [ready(revision)]}
    # Beside those without sources, in the same cluster.
    first = fleet.count if sources else 0
    indexes = range(first, first + fleet.count)
    # Made before: the floor packs nothing.
    records = {index: _records(fleet, index, phase, tag) for index in indexes}

    async def recorded(index: int, version: int, status: str) -> None:
        record = records[index].get((version, status))
        if record is None:
            return
        if status.startswith("pending"):
            await client.create(record, user=_user())
        else:
            await client.replace(record, user=_user())

    async def installed(index: int) -> None:
        if sources:
            own = _own_source(fleet, index)
            await client.apply(own)
            await client.patch_status(own, source_status)
        target = fleet.target(index)
        await client.apply(target)
        await recorded(index, 1, "pending-install")
        objects = _objects(fleet, index, tag)
        for obj in objects.values():
            await client.apply(obj, user=_user())
        await recorded(index, 1, "deployed")
        await client.patch_status(target, fleet.status(index, revision, objects))

    async def upgraded(index: int) -> None:
        objects = _objects(fleet, index, tag)
        if sources:
            await client.apply(fleet.target(index, interval="59m"))
        await recorded(index, 2, "pending-upgrade")
        await client.apply(objects["Deployment"], user=_user())
        await recorded(index, 1, "superseded")
        await recorded(index, 2, "deployed")
        await client.patch_status(fleet.target(index), fleet.status(index, revision, objects))

    began = time.perf_counter()
    if not sources:
        for source in fleet.sources():
            if phase == "install":
                await client.apply(source)
            await client.patch_status(source, source_status)
    await _spread(indexes, installed if phase == "install" else upgraded)
    return time.perf_counter() - began


async def _spread(indexes: Iterable[int], work: Callable[[int], Awaitable[None]]) -> None:
    left = iter(indexes)

    async def worker() -> None:
        for index in left:
            await work(index)

    async with anyio.create_task_group() as tasks:
        for _ in range(CONNECTIONS):
            tasks.start_soon(worker)


def _own_source(fleet: Fleet, index: int) -> Object:
    name = f"apps-{index}"
    return helm_chart(name, source="apps") if isinstance(fleet, ReleaseFleet) else fleet.source(name)


def _records(fleet: Fleet, index: int, phase: str, tag: str) -> dict[tuple[int, str], Object]:
    """The records that a phase writes, by version and status; only releases have them."""
    if not isinstance(fleet, ReleaseFleet):
        return {}
    written = {
        "install": [(1, "pending-install"), (1, "deployed")],
        "upgrade": [(2, "pending-upgrade"), (1, "superseded"), (2, "deployed")],
    }
    return {(version, status): fleet.record(index, tag, version, status) for version, status in written[phase]}


def _objects(fleet: Fleet, index: int, tag: str) -> dict[str, Object]:
    objects = app(fleet.app_name(index), 0, tag)
    for obj in objects.values():
        obj["metadata"]["namespace"] = fleet.namespace_of(index)
        obj["metadata"]["labels"] = obj["metadata"]["labels"] | fleet.owner_labels(index)
    return objects


def _user() -> str:
    return f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
