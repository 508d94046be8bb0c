"""A storm of changes that others make: the daemon stays small, answers, and puts right afterwards what is its own."""

import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest

from tests.conftest import SOAK
from tests.e2e.test_crashes import ADDRESSES, daemon_process, stopped
from tests.e2e.world import World, config_map, documents
from tidelog.engine.cluster.port import Kind
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.kinds.meta import OWNER_NAME, OWNER_NAMESPACE
from tidelog.engine.observe.drift import FLAPPING_COUNT
from tidelog.events.vocabulary import ApplyStarted, DriftDetected, ObjectObserved
from tidelog.storage import Query, open_log, verify_store

CHANGES = 100_000 if SOAK else 3_000
OWN, ALIEN = (200, 1_000) if SOAK else (50, 100)
FOUGHT = OWN // 10
"""Of our own objects, those of which others change what we own."""
CLIENTS = 8
GROWS_MIB_MAX = 160.0 if SOAK else 40.0
"""What the log keeps in memory fills up once: SQLite's pages (32 MB), and its writer's caches (65,536 entries each)."""
ANSWERS_WITHIN_S = 5.0
SETTLES_WITHIN_S = 300.0


class Storm:
    """Clients that change objects as quickly as they can: ours, strangers, and strangers that bear our labels."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made = 0

    async def blow(self) -> None:
        async with anyio.create_task_group() as tasks:
            for client in range(CLIENTS):
                tasks.start_soon(self._client, client)

    async def _client(self, number: int) -> None:
        async with open_cluster(self.world.servers.kubeconfig) as cluster:
            kind = await cluster.kind("v1", "ConfigMap")
            for n in range(number, CHANGES, CLIENTS):
                await self._change(cluster, kind, n)
                self.made += 1

    async def _change(self, cluster: RealCluster, kind: Kind, n: int) -> None:
        round_ = n // 2
        if n % 2:
            name, data = f"alien-{round_ % ALIEN}", {"n": str(n)}
        else:
            number = round_ % OWN
            name, data = f"own-{number}", {"value": str(n)} if number < FOUGHT else {"theirs": str(n)}
        await cluster.patch(kind, self.world.namespace, name, {"data": data}, type="merge", manager="storm")


class Watch:
    """What is seen of a daemon from outside, while others make a storm."""

    def __init__(self, process: subprocess.Popen[bytes], health: str) -> None:
        self._process = process
        self._health = health
        self.before = anonymous(process.pid)
        self.peak = 0.0
        self.slowest = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sample)
            tasks.start_soon(self._ask)
            yield
            tasks.cancel_scope.cancel()

    async def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, anonymous(self._process.pid))
            await anyio.sleep(0.1)

    async def _ask(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                began = time.monotonic()
                async with session.get(f"http://{self._health}/readyz") as answer:
                    assert answer.status == 200
                self.slowest = max(self.slowest, time.monotonic() - began)
                await anyio.sleep(0.2)


async def aliens(world: World) -> None:
    """Some have the labels of a target that is not there, some those of ours, which has never heard of them."""
    owners: tuple[dict[str, str], ...] = (
        {},
        {OWNER_NAME: "nobody", OWNER_NAMESPACE: world.namespace},
        {OWNER_NAME: "app"},
    )
    for n in range(ALIEN):
        labels = owners[n % 3] | ({OWNER_NAMESPACE: world.namespace} if n % 3 == 2 else {})
        await world.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"alien-{n}", "labels": labels}}
        )


async def all_is_as_wanted(world: World) -> None:
    kind = await world.cluster.kind("v1", "ConfigMap")
    with anyio.fail_after(SETTLES_WITHIN_S):
        while True:
            found = (await world.cluster.list(kind, namespace=world.namespace)).items
            own = [one["data"] for one in found if one["metadata"]["name"].startswith("own-")]
            if len(own) == OWN and all(data["value"] == "1" for data in own):
                return
            await anyio.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_a_storm_of_changes_is_weathered(world: World) -> None:
    world.commit({"app/all.yaml": documents(*(config_map(f"own-{n}", value="1") for n in range(OWN)))})
    await aliens(world)
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    health = f"127.0.0.1:{free_port()}"
    storm = Storm(world)
    with daemon_process(world, at={**ADDRESSES, "health": health}) as process:
        await world.until_target("app", lambda obj: obj.get("status", {}).get("lastAppliedRevision") == world.revision)
        watch = Watch(process, health)
        store = size_of(world.store)
        began = time.monotonic()
        async with watch.watching():
            await storm.blow()
            blown = time.monotonic() - began
            await world.until_told("app", "DriftFlapping", "ConfigMap")
            await world.ask("Kustomization", "app")
            await all_is_as_wanted(world)
        settled = time.monotonic() - began - blown
        grown = size_of(world.store) - store
        assert await stopped(process) == 0
    counts = await counted(world.store)
    seen = f"{storm.made} changes in {blown:.0f} s, {settled:.0f} s to settle, {grown / 2**20:.1f} MiB of log, {counts}"
    assert watch.peak - watch.before < GROWS_MIB_MAX, seen
    assert watch.slowest < ANSWERS_WITHIN_S
    assert counts[ObjectObserved.__name__] <= CHANGES / 2 + 3 * OWN, "nothing is recorded of what is not ours"
    assert counts[DriftDetected.__name__]
    assert counts[ApplyStarted.__name__] <= 2 * FOUGHT * FLAPPING_COUNT + 10, "it is not fought for ever"
    assert (await verify_store(world.store)).intact


async def counted(store: Path) -> Counter[str]:
    async with open_log(store) as log:
        return Counter([type(one.event).__name__ async for one in log.read(Query())])


def anonymous(pid: int) -> float:
    """MiB of a process's memory that no file backs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def size_of(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("log.db*") if path.is_file())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
