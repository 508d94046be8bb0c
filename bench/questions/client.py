"""How much CPU does a request take of our client, beside aiohttp alone?

A get, a dry run of a server-side apply, the apply, and a merge patch of each of some objects (ServiceAccount, Service,
Deployment, Ingress), and pages of a list: as a reconciliation asks them, with the daemon's metrics, eight at a time,
over HTTPS. The API is `tidelog cluster up` in another process, whose CPU is not counted; the CPU of this process is.

The floor is an `aiohttp.ClientSession` with its defaults: it is given the same method, address, headers and body, made
from the same objects by msgspec, and its answer is read, found to be a success, and decoded by msgspec to the same
dictionaries. It knows no kinds, tries nothing again, counts nothing, and has no words for errors. Both ask the same
server for the same objects; slices of a hundred requests alternate, and who begins alternates too.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

import anyio
from msgspec import Struct

from bench.embedded_cluster import bare_client, cluster_up
from bench.figures import Figure, Goal, figure
from bench.questions.embedded import objects
from bench.reconciling.client import APPLY, MANAGER, MERGE, Client, collection, path_of
from bench.reconciling.fleet import Object
from bench.session import Session
from tidelog.engine.cluster.port import Kind
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.runtime.telling.metrics import Metrics

NAME = "client"
ROUNDS = 20
OBJECTS = 100
OBJECTS_QUICK = 8
LISTS_OF = 10
"""Objects to a list, as many as are asked for one by one."""
PAGE = 25
AT_ONCE = 8
GOAL = Goal("ratio", "at most", 1.5)

Ask: TypeAlias = Callable[[Object], Awaitable[object]]
"""Makes a request about an object."""
PATCH: Object = {"metadata": {"annotations": {"example.com/seen": "yes"}}}


class Asked(Struct, frozen=True):
    """A request that both clients make, so often in a slice."""

    name: str
    count: int
    ours: Ask
    bare: Ask


class Slices(Struct, frozen=True):
    """Milliseconds of CPU a request, of one slice of each client."""

    ours: float
    bare: float


def measure(session: Session) -> list[Figure]:
    """Milliseconds of CPU a request, all together and of each kind."""
    directory = session.scratch / NAME
    directory.mkdir()
    with cluster_up(directory) as kubeconfig:
        return anyio.run(_measure, session, kubeconfig)


async def _measure(session: Session, kubeconfig: Path) -> list[Figure]:
    about = list(objects(OBJECTS_QUICK if session.quick else OBJECTS))
    rounds = session.rounds(ROUNDS)
    async with open_cluster(kubeconfig, on_request=Metrics().on_request) as cluster, bare_client(kubeconfig) as client:
        await client.apply_all(about)
        kinds = {obj["kind"]: await cluster.kind(obj["apiVersion"], obj["kind"]) for obj in about}
        requests = _requests(cluster, client, kinds, len(about))
        for one in requests:  # connections, and whatever is made once
            await _slices(one, about, 0)
        seen: list[list[Slices]] = []
        with session.progress(NAME, rounds) as advance:
            for number in range(rounds):
                seen.append([await _slices(one, about, number) for one in requests])
                advance(number + 1)
    return list(_figures(requests, seen))


def _requests(cluster: RealCluster, client: Client, kinds: Mapping[str, Kind], count: int) -> list[Asked]:
    def place(obj: Object) -> tuple[Kind, str, str]:
        return kinds[obj["kind"]], obj["metadata"]["namespace"], obj["metadata"]["name"]

    async def page(obj: Object) -> object:
        kind, namespace, _ = place(obj)
        async with aclosing(cluster.pages(kind, namespace=namespace, limit=PAGE)) as pages:
            return await anext(pages)

    dry_run = f"?fieldManager={MANAGER}&force=true&dryRun=All"
    return [
        Asked("get", count, lambda obj: cluster.get(*place(obj)), lambda obj: client.ask("GET", path_of(obj))),
        Asked(
            "dry run of a server-side apply",
            count,
            lambda obj: cluster.apply(obj, manager=MANAGER, dry_run=True),
            lambda obj: client.ask("PATCH", path_of(obj) + dry_run, obj, APPLY),
        ),
        Asked("server-side apply", count, lambda obj: cluster.apply(obj, manager=MANAGER), client.apply),
        Asked(
            "merge patch",
            count,
            lambda obj: cluster.patch(*place(obj), PATCH, type="merge", manager=MANAGER),
            lambda obj: client.ask("PATCH", f"{path_of(obj)}?fieldManager={MANAGER}", PATCH, MERGE),
        ),
        Asked(
            f"list of a page of {PAGE}",
            max(1, count // LISTS_OF),
            page,
            lambda obj: client.ask("GET", f"{_collection_of(obj)}?limit={PAGE}"),
        ),
    ]


async def _slices(asked: Asked, about: Sequence[Object], number: int) -> Slices:
    """A slice of each client; in odd rounds, the bare one's is first."""
    if number % 2:
        bare = await _cpu(asked.bare, about[: asked.count])
        return Slices(await _cpu(asked.ours, about[: asked.count]), bare)
    ours = await _cpu(asked.ours, about[: asked.count])
    return Slices(ours, await _cpu(asked.bare, about[: asked.count]))


async def _cpu(ask: Ask, about: Sequence[Object]) -> float:
    """Milliseconds of this process's CPU that a request takes."""
    left = iter(about)

    async def work() -> None:
        for obj in left:
            await ask(obj)

    began = time.process_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(work)
    return (time.process_time() - began) * 1000 / len(about)


def _figures(requests: Sequence[Asked], seen: Sequence[Sequence[Slices]]) -> Iterator[Figure]:
    total = sum(one.count for one in requests)

    def together(slices: Sequence[Slices], whose: Callable[[Slices], float]) -> float:
        return sum(one.count * whose(part) for one, part in zip(requests, slices, strict=True)) / total

    yield figure(
        NAME,
        "CPU of our client, a request of all of these",
        "ms",
        [together(slices, lambda one: one.ours) for slices in seen],
        floor_name="aiohttp alone with the same requests",
        floor=[together(slices, lambda one: one.bare) for slices in seen],
        goal=GOAL,
    )
    for number, asked in enumerate(requests):
        parts = [slices[number] for slices in seen]
        yield figure(
            NAME,
            f"CPU of our client, {asked.name}",
            "ms",
            [one.ours for one in parts],
            floor_name="aiohttp alone",
            floor=[one.bare for one in parts],
        )


def _collection_of(obj: Object) -> str:
    return collection(obj["apiVersion"], obj["kind"], obj["metadata"]["namespace"])
