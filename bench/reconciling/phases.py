"""The phases: install, upgrade, idle; what each takes of time, CPU and requests."""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import msgspec

from bench.reconciling import processes
from bench.reconciling.client import Client, client_of, collection, path_of
from bench.reconciling.engines import Engine, EngineName, running
from bench.reconciling.fleet import (
    ACCOUNT,
    NAMESPACE,
    REQUESTED_AT,
    SOURCES,
    Fleet,
    KustomizationFleet,
    Object,
    target_name,
)
from bench.reconciling.floor import floor
from bench.reconciling.releases import ReleaseFleet
from bench.reconciling.requests import requests
from tests.servers import kubernetes_servers as servers
from tests.servers.git_server import git_server
from tests.servers.kubernetes_servers import API_SERVER, ETCD, OwnServers
from tidelog.engine.kinds.crds import crds

USER = "engine"
TAGS = {"install": "6.9.0", "upgrade": "6.9.1"}
SETTLE_S = 15.0
"""Between the last change and the measuring of idleness: the servers have work left over."""
LOOK_S = 0.5


TargetKind: TypeAlias = Literal["kustomization", "helmrelease"]
FLEETS: Mapping[TargetKind, type[Fleet]] = {"kustomization": KustomizationFleet, "helmrelease": ReleaseFleet}


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and on whom."""

    kind: TargetKind = "kustomization"
    targets: int = 100
    engine: EngineName = "tidelog"
    commands: tuple[str, ...] = ()
    """That start an external engine; `KUBECONFIG` says where."""
    apart: bool = False
    idle_s: float = 60.0
    limit_s: float = 600.0
    """For a phase."""

    def fleet(self, root: Path, url: str) -> Fleet:
        """The fleet, with its repository below a directory."""
        return FLEETS[self.kind](root, url, self.targets, apart=self.apart)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a phase took."""

    seconds: float
    engine_cpu_s: float
    engine_mib: float
    """At its peak, of all its processes together."""
    servers_cpu_s: float
    """Of API server and etcd."""
    servers_mib: float
    requests: Counter[str]


class Cluster:
    """Servers, an engine on them, and a client."""

    def __init__(self, own: OwnServers, client: Client, directory: Path) -> None:
        self.own = own
        self.client = client
        self.directory = directory
        self.servers = server_pids()
        self._audited = 0

    @contextmanager
    def measured(self, engine: Engine) -> Iterator[Callable[[], Cost]]:
        """Measures until the block ends; the function then says what it took."""
        _, self._audited = requests(self.own.audit_log, USER, self._audited)
        cpu = [processes.cpu_s(engine.pids()), processes.cpu_s(self.servers)]
        began = time.perf_counter()
        cost: Cost | None = None
        with processes.Peak(engine.pids) as peak, processes.Peak(lambda: self.servers, 2.0) as servers_peak:
            yield lambda: cost or _missing()
        seconds = time.perf_counter() - began
        counted, self._audited = requests(self.own.audit_log, USER, self._audited)
        cost = Cost(
            seconds=seconds,
            engine_cpu_s=processes.cpu_s(engine.pids()) - cpu[0],
            engine_mib=peak.mib,
            servers_cpu_s=processes.cpu_s(self.servers) - cpu[1],
            servers_mib=servers_peak.mib,
            requests=counted,
        )


def _missing() -> Cost:
    raise AssertionError("asked before the end")


def server_pids() -> list[int]:
    """Of API server and etcd, which a guard started that this process started."""
    wanted = {API_SERVER, ETCD}
    ours = processes.descendants(os.getpid())
    return [pid for pid in ours if wanted & {Path(word).name for word in processes.command(pid)[:2]}]


@asynccontextmanager
async def cluster(directory: Path, fleet: Fleet, more: Iterable[str] = ()) -> AsyncIterator[Cluster]:
    """A fresh cluster that knows the kinds (and `more` kinds of sources), and has the namespaces and the account."""
    with servers.start(directory) as own:
        async with client_of(own) as client:
            await client.apply_all(crds())
            kinds = [*((SOURCES, kind) for kind in (*fleet.source_kinds, *more)), (fleet.api_version, fleet.kind)]
            for api_version, kind in kinds:
                await _until(lambda: client.found(collection(api_version, kind)))  # noqa: B023 - awaited at once
            await client.apply_all(_namespace(name) for name in ("flux-system", *fleet.namespaces()))
            await client.apply(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}}
            )
            await client.apply_all(_binding(name) for name in fleet.namespaces())
            yield Cluster(own, client, directory)


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _binding(namespace: str) -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": ACCOUNT, "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }


class Floors(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of the floor, by phase."""

    least: dict[str, float]
    """With one source for all targets, as the engine has it."""
    with_sources: dict[str, float]
    """With one for each."""


async def floors(directory: Path, workload: Workload) -> Floors:
    """The floor of each phase, on a cluster of its own without an engine."""
    fleet = workload.fleet(directory / "git", "https://example.org/apps.git")
    found: list[dict[str, float]] = []
    async with cluster(directory / "servers", fleet) as here:
        for sources in (False, True):
            seconds = {}
            for number, (phase, tag) in enumerate(TAGS.items()):
                await _quiet(here)
                revision = f"main@sha1:{'0' * 39}{number}"
                seconds[phase] = await floor(here.client, fleet, phase, tag, revision, sources=sources)
            found.append(seconds)
    return Floors(least=found[0], with_sources=found[1])


async def _quiet(here: Cluster, limit_s: float = 15.0) -> None:
    """Waits until the servers that have just been started have little left to do."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        before = processes.cpu_s(here.servers)
        await anyio.sleep(1)
        if processes.cpu_s(here.servers) - before < 0.2:
            return


async def costs(directory: Path, workload: Workload, *, idle: bool) -> dict[str, Cost]:
    """What each phase takes, on a cluster of its own with a fresh engine."""
    root = directory / "git"
    with git_server(root, tls=False, host="127.0.0.1") as git:
        fleet = workload.fleet(root, git.url("apps"))
        async with cluster(directory / "servers", fleet) as here:
            revision = fleet.commit(TAGS["install"])
            kubeconfig = here.own.kubeconfig_of(USER, ["system:masters"])
            with running(workload.engine, workload.commands, kubeconfig, directory / "engine") as engine:
                await _warm_up(here, engine, fleet)
                await _quiet(here)
                found = {"install": await _install(here, engine, fleet, workload, revision)}
                await _quiet(here)
                found["upgrade"] = await _upgrade(here, engine, fleet, workload)
                if idle:
                    found["idle"] = await _idle(here, engine, fleet, workload)
                return found


async def _warm_up(here: Cluster, engine: Engine, fleet: Fleet) -> None:
    """A source and a target come and go: then the engine runs, and has loaded what it loads once."""
    declared = fleet.warm()
    await here.client.apply_all(declared)
    await until_ready(here, engine, declared[-1])
    for obj in reversed(declared):
        await here.client.ask("DELETE", path_of(obj))
        await _until(lambda: _not(here.client.found(path_of(obj))))  # noqa: B023 - awaited at once


async def until_ready(here: Cluster, engine: Engine, obj: Object) -> None:
    """Waits until an object is ready for its present spec."""

    async def is_ready() -> bool:
        engine.check()
        return _is_ready(await here.client.ask("GET", path_of(obj)))

    await _until(is_ready)


async def _install(here: Cluster, engine: Engine, fleet: Fleet, workload: Workload, revision: str) -> Cost:
    with here.measured(engine) as cost:
        for source in fleet.sources():
            await here.client.apply(source)
        await here.client.apply_all(fleet.target(index) for index in range(fleet.count))
        await _converged(here, engine, fleet, workload, revision, TAGS["install"])
    return cost()


async def _upgrade(here: Cluster, engine: Engine, fleet: Fleet, workload: Workload) -> Cost:
    revision = fleet.commit(TAGS["upgrade"])
    with here.measured(engine) as cost:
        await _request(here, fleet.source(), "upgrade")
        await _converged(here, engine, fleet, workload, revision, TAGS["upgrade"])
    return cost()


async def _idle(here: Cluster, engine: Engine, fleet: Fleet, workload: Workload) -> Cost:
    """Nothing changes, at an interval of a minute."""
    declared = [*fleet.sources(interval="1m"), *(fleet.target(index, "1m") for index in range(fleet.count))]
    await here.client.apply_all(declared)
    for obj in declared:
        await until_ready(here, engine, obj)
    await anyio.sleep(SETTLE_S)
    with here.measured(engine) as cost:
        await anyio.sleep(workload.idle_s)
    return cost()


async def _request(here: Cluster, obj: Object, token: str) -> None:
    """Asks for a reconciliation now, as a webhook's receiver does."""
    await here.client.ask("PATCH", path_of(obj), {"metadata": {"annotations": {REQUESTED_AT: token}}})


async def _converged(here: Cluster, engine: Engine, fleet: Fleet, workload: Workload, revision: str, tag: str) -> None:
    """Waits until every target is ready at a revision, and every Deployment has the image."""
    ready = {target_name(index) for index in range(fleet.count)}
    deployed = {fleet.app_name(index) for index in range(fleet.count)}
    try:
        with anyio.fail_after(workload.limit_s):
            async with anyio.create_task_group() as tasks:

                async def follow_targets() -> None:
                    async for obj in here.client.changes(collection(fleet.api_version, fleet.kind, NAMESPACE)):
                        if _is_ready(obj) and fleet.is_at(obj["status"], revision):
                            ready.discard(obj["metadata"]["name"])
                        if not ready:
                            return

                async def follow_deployments() -> None:
                    async for obj in here.client.changes(collection("apps/v1", "Deployment")):
                        if obj["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{tag}"):
                            deployed.discard(obj["metadata"]["name"])
                        if not deployed:
                            return

                async def watch_engine() -> None:
                    while ready or deployed:
                        engine.check()
                        await anyio.sleep(LOOK_S)

                for follow in (follow_targets, follow_deployments, watch_engine):
                    tasks.start_soon(follow)
    except TimeoutError:
        why = await _why(here, fleet, ready)
        raise AssertionError(
            f"after {workload.limit_s:.0f} s {len(ready)} targets are not ready at {revision}, "
            f"and {len(deployed)} Deployments not at {tag}; {why}"
        ) from None


async def _why(here: Cluster, fleet: Fleet, names: Collection[str]) -> str:
    """What one of the targets that are not ready says."""
    for name in sorted(names)[:1]:
        target = await here.client.ask("GET", f"{collection(fleet.api_version, fleet.kind, NAMESPACE)}/{name}")
        return f"{name}: {(target.get('status') or {}).get('conditions')}"
    return ""


def _is_ready(obj: Object) -> bool:
    """Whether an object is ready for its present spec."""
    status = obj.get("status") or {}
    generation = obj["metadata"]["generation"]
    return status.get("observedGeneration") == generation and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions", ())
    )


async def _not(answer: Awaitable[bool]) -> bool:
    return not await answer


async def _until(holds: Callable[[], Awaitable[bool]], limit_s: float = 120.0) -> None:
    with anyio.fail_after(limit_s):
        while not await holds():  # noqa: ASYNC110 - of what another program does
            await anyio.sleep(0.05)
