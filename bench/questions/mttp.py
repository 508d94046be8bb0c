"""How long from a commit to a verified cluster, for a fleet of targets, and at what cost?

(Others call it the mean time to production.)

A fresh API server (with etcd and controller manager, all on this machine) gets one GitRepository and N
Kustomizations: each an app of four objects (a Deployment without replicas, ServiceAccount, Service, Ingress), with
wait, prune, a time limit of a minute, an impersonated service account, targetNamespace and variables. The
repository is served over HTTP by git http-backend. **install** counts from the first apply of these objects until
every Kustomization is Ready at the commit and every Deployment has its image; **upgrade** from the request for a
reconciliation of the source (as a webhook makes it), after a commit that changes the image, until the same holds
again; **idle** is a minute at an interval of a minute in which nothing changes. Before that, another source and
target have come and gone, so that the start of the engine does not count.

CPU time is that of all processes of the engine, and that of API server and etcd; memory is anonymous memory,
that of the engine's processes added up and sampled. Requests are those of the engine in the API server's audit
log, by sort; the watch of whoever measures is not among them.

The floor is what a bare client (aiohttp, 20 connections) needs, on a fresh API server just before, for what any
engine must write. Against the floor that has the goals, each target has a source of its own, as in the workload by
which Flux measures itself: at install, declare both, write the source's status, apply four objects as the service
account, write the target's status (8 requests); at upgrade, patch the target, apply one object, write a status
(3). The other is the least for what the engine here is given, one source for all: 6 requests, and 2. The
declaring is in both, as no engine can be quicker than what declares. No floor reads Git, builds, compares, waits for
health, remembers, or is idle.

`--engine external --engine-command COMMAND` measures something else that reconciles these kinds: each
command is started with KUBECONFIG set. `--apart` gives each target a namespace of its own, so that no two
targets share a build; Flux's own workload has one for all, and so has this one otherwise.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence

import anyio

from bench.figures import Figure, Goal, figure
from bench.reconciling.floor import DECLARED, WRITES, least
from bench.reconciling.phases import FLEETS, Cost, Floors, Workload, costs, floors
from bench.reconciling.requests import LEASE
from bench.session import Session

NAME = "mttp"
ROUNDS = 3
GOALS = {
    "kustomization": {"install": Goal("ratio", "at least", 0.25), "upgrade": Goal("ratio", "at least", 0.15)},
    "helmrelease": {"install": Goal("ratio", "at least", 0.20), "upgrade": Goal("ratio", "at least", 0.15)},
}
PHASES = ("install", "upgrade")
SHOWN_REQUESTS_MIN = 0.01
"""Of a sort, for a target: rarer ones are of the engine as a whole."""
IDLE_CPU = Goal("measured", "at most", 3.0)
IDLE_REQUESTS = Goal("measured", "at most", 0.0)


def measure(session: Session) -> list[Figure]:
    """Targets a second, of the engine and of the floor; what it costs; what idleness costs."""
    workload = session.workload
    rounds = 1 if session.quick else ROUNDS
    beside: list[Floors] = []
    found: dict[str, list[Cost]] = {"install": [], "upgrade": [], "idle": []}
    with session.progress(NAME, 2 * rounds) as advance:
        for number in range(rounds):
            directory = session.scratch / f"{NAME}-{number}"
            beside.append(anyio.run(floors, directory / "floor", workload))
            advance(2 * number + 1)
            for phase, cost in _costs(session, number, workload, idle=number == rounds - 1).items():
                found[phase].append(cost)
            advance(2 * number + 2)
            shutil.rmtree(directory)
    return [
        *(one for phase in PHASES for one in _phase(phase, workload, found[phase], beside)),
        *_idle(workload, found["idle"]),
    ]


def _costs(session: Session, number: int, workload: Workload, *, idle: bool) -> dict[str, Cost]:
    async def run() -> dict[str, Cost]:
        return await costs(session.scratch / f"{NAME}-{number}" / "engine", workload, idle=idle)

    return anyio.run(run)


def _phase(phase: str, workload: Workload, found: Sequence[Cost], beside: Sequence[Floors]) -> list[Figure]:
    count, kind = workload.targets, FLEETS[workload.kind].kind
    rates = [count / cost.seconds for cost in found]
    requests = [sum(cost.requests.values()) / count for cost in found]
    beyond = [beyond_floor(kind, phase, cost.requests, count) for cost in found]
    return [
        figure(
            NAME,
            f"{phase} of {count:,} {kind}s",
            "targets/s",
            rates,
            floor_name=f"a bare client's {least(kind, phase, sources=True)} writes a target, each with its source",
            floor=[count / floor.with_sources[phase] for floor in beside],
            goal=GOALS[workload.kind][phase],
            note=f"requests a target at {phase}: {_listed(found[-1].requests, count)}",
        ),
        figure(
            NAME,
            f"{phase}, the same",
            "targets/s",
            rates,
            floor_name=f"a bare client's {least(kind, phase)} writes a target, one source for all",
            floor=[count / floor.least[phase] for floor in beside],
            note=f"that floor at {phase}, of a target: {_listed(WRITES[kind][phase])}",
        ),
        _per_target(f"{phase}, CPU of the engine", count, [cost.engine_cpu_s for cost in found]),
        _per_target(f"{phase}, CPU of API server and etcd", count, [cost.servers_cpu_s for cost in found]),
        figure(NAME, f"{phase}, requests of the engine", "requests/target", requests),
        figure(
            NAME,
            f"{phase}, requests of the engine beyond the floor",
            "requests/target",
            [sum(one.values()) / count for one in beyond],
            note=f"beyond the floor at {phase}, of a target: {_listed(beyond[-1], count)}",
        ),
        figure(NAME, f"{phase}, memory of the engine at its peak", "MiB", [cost.engine_mib for cost in found]),
        figure(NAME, f"{phase}, memory of API server and etcd", "MiB", [cost.servers_mib for cost in found]),
    ]


def beyond_floor(kind: str, phase: str, requests: Counter[str], count: int) -> Counter[str]:
    """The requests that an engine made beyond what must be written for so many targets, with one source for all."""
    writes = {sort: number * count for sort, number in WRITES[kind][phase].items() if sort != DECLARED}
    return requests - Counter(writes)


def _listed(requests: Mapping[str, int], count: int = 1) -> str:
    """Requests by sort, the most first."""
    by_number = sorted(requests.items(), key=lambda one: -one[1])
    shown = [f"{sort} {number / count:.2f}" for sort, number in by_number if number / count >= SHOWN_REQUESTS_MIN]
    return ", ".join(shown) or "none"


def _per_target(name: str, count: int, seconds: Sequence[float]) -> Figure:
    return figure(NAME, name, "ms/target", [1_000 * value / count for value in seconds])


def _idle(workload: Workload, found: Sequence[Cost]) -> list[Figure]:
    made = [sum(number for sort, number in cost.requests.items() if sort != LEASE) for cost in found]
    by_sort = ", ".join(f"{sort} {number}" for sort, number in found[-1].requests.most_common())
    what = f"idle for {workload.idle_s:.0f} s at an interval of 1m"
    return [
        figure(
            NAME,
            f"{what}, requests but for Leases",
            "requests",
            made,
            goal=IDLE_REQUESTS,
            note=f"requests while idle: {by_sort or 'none'}",
        ),
        figure(
            NAME,
            f"{what}, CPU of the engine",
            "% of a core",
            [100 * cost.engine_cpu_s / cost.seconds for cost in found],
            goal=IDLE_CPU,
        ),
        figure(
            NAME,
            f"{what}, CPU of API server and etcd",
            "% of a core",
            [100 * cost.servers_cpu_s / cost.seconds for cost in found],
        ),
    ]
