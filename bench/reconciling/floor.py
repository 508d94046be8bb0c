"""The least that any engine must write, sent by a bare client."""

import time
from collections.abc import Awaitable, Callable, Iterable

import anyio

from bench.reconciling.client import CONNECTIONS, Client
from bench.reconciling.fleet import ACCOUNT, NAMESPACE, Fleet, Object, app

LEAST = {"install": 6, "upgrade": 2}
"""Requests of one target: declared, four objects applied, a status; and one object applied, a status."""
WITH_SOURCES = {"install": 8, "upgrade": 3}
"""The same where each target has a source of its own, which is declared and gets a status, or names another version."""


async def floor(client: Client, fleet: Fleet, phase: str, tag: str, revision: str, *, sources: bool) -> float:
    """The seconds that the requests of a phase take; with a source for each target, or one for all."""
    source = fleet.source()
    source_status = {"observedGeneration": 1, "conditions": [_ready(revision)]}
    # Beside those without sources, in the same cluster.
    first = fleet.count if sources else 0

    async def installed(index: int) -> None:
        if sources:
            own = fleet.source(f"apps-{index}")
            await client.apply(own)
            await client.patch_status(own, source_status)
        target = fleet.target(index)
        await client.apply(target)
        objects = _objects(fleet, index, tag)
        for obj in objects.values():
            await client.apply(obj, user=_user())
        await client.patch_status(target, status(revision, objects))

    async def upgraded(index: int) -> None:
        objects = _objects(fleet, index, tag)
        if sources:
            await client.apply(fleet.target(index, interval="59m"))
        await client.apply(objects["Deployment"], user=_user())
        await client.patch_status(fleet.target(index), status(revision, objects))

    began = time.perf_counter()
    if not sources:
        if phase == "install":
            await client.apply(source)
        await client.patch_status(source, source_status)
    await _spread(range(first, first + fleet.count), installed if phase == "install" else upgraded)
    return time.perf_counter() - began


async def _spread(indexes: Iterable[int], work: Callable[[int], Awaitable[None]]) -> None:
    left = iter(indexes)

    async def worker() -> None:
        for index in left:
            await work(index)

    async with anyio.create_task_group() as tasks:
        for _ in range(CONNECTIONS):
            tasks.start_soon(worker)


def _objects(fleet: Fleet, index: int, tag: str) -> dict[str, Object]:
    objects = app(f"podinfo-{index}app", 0, tag)
    for obj in objects.values():
        obj["metadata"]["namespace"] = fleet.namespace_of(index)
        obj["metadata"]["labels"] = obj["metadata"]["labels"] | {
            "kustomize.toolkit.fluxcd.io/name": f"podinfo-{index}",
            "kustomize.toolkit.fluxcd.io/namespace": NAMESPACE,
        }
    return objects


def _user() -> str:
    return f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"


def status(revision: str, objects: dict[str, Object]) -> Object:
    """A status like that of a Kustomization that is ready."""
    entries = [
        {"id": f"{obj['metadata']['namespace']}_{obj['metadata']['name']}_{_group(obj)}_{kind}", "v": "v1"}
        for kind, obj in objects.items()
    ]
    return {
        "conditions": [_ready(revision), {**_ready(revision), "type": "Healthy"}],
        "inventory": {"entries": entries},
        "lastAppliedRevision": revision,
        "lastAttemptedRevision": revision,
        "observedGeneration": 1,
    }


def _group(obj: Object) -> str:
    return str(obj["apiVersion"]).rpartition("/")[0]


def _ready(revision: str) -> Object:
    return {
        "type": "Ready",
        "status": "True",
        "reason": "ReconciliationSucceeded",
        "message": f"Applied revision: {revision}",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
