"""How many objects a second can be applied to the embedded cluster?

Server-side applies of new objects, as many ServiceAccounts as Services, Deployments (without replicas) and Ingresses,
over HTTPS, by a bare client (aiohttp, 20 connections) in a process of its own; the cluster is `tidelog cluster up`, in
another. Each answer is read whole. Once in memory alone, and once kept in a file, where each answer waits for a commit.

The floor is the real thing: kube-apiserver with etcd and kube-controller-manager, fresh, on this machine, given the
same objects by the same client. Both have their controllers at work meanwhile: the real ones make and watch more.
Rounds alternate.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import anyio

from bench.embedded_cluster import bare_client, cluster_up
from bench.figures import Figure, Goal, figure
from bench.reconciling.client import CONNECTIONS, Client, client_of
from bench.reconciling.fleet import Object
from bench.session import Session
from tests.servers import kubernetes_servers as servers

NAME = "embedded"
ROUNDS = 3
OBJECTS = 4_000
OBJECTS_QUICK = 400
GOAL = Goal("ratio", "at least", 2.0)


def measure(session: Session) -> list[Figure]:
    """Objects a second, of the embedded cluster and of the real one."""
    count = OBJECTS_QUICK if session.quick else OBJECTS
    rounds = session.rounds(ROUNDS)
    measured: list[float] = []
    kept: list[float] = []
    floor: list[float] = []
    with session.progress(NAME, 3 * rounds) as advance:
        for number in range(rounds):
            directory = session.scratch / f"{NAME}-{number}"
            directory.mkdir()
            with servers.start(directory / "servers") as real:
                floor.append(count / anyio.run(_applied, client_of(real), count))
            advance(3 * number + 1)
            for at, (is_kept, found) in enumerate([(False, measured), (True, kept)]):
                with _alone(directory / str(at), is_kept=is_kept) as kubeconfig:
                    found.append(count / anyio.run(_applied, bare_client(kubeconfig), count))
                advance(3 * number + 2 + at)
    title = f"server-side apply of {count:,} new objects to the embedded cluster"
    return [
        figure(
            NAME,
            title + more,
            "objects/s",
            found,
            floor_name="the same to kube-apiserver",
            floor=floor,
            goal=GOAL,
        )
        for more, found in (("", measured), (", kept in a file", kept))
    ]


@contextmanager
def _alone(directory: Path, *, is_kept: bool) -> Iterator[Path]:
    directory.mkdir()
    with cluster_up(directory, is_kept=is_kept) as kubeconfig:
        yield kubeconfig


async def _applied(opened: AbstractAsyncContextManager[Client], count: int) -> float:
    """The seconds that it takes to apply so many objects."""
    async with opened as client:
        left = objects(count)

        async def work() -> None:
            for obj in left:
                await client.apply(obj)

        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(CONNECTIONS):
                tasks.start_soon(work)
        return time.perf_counter() - began


def objects(count: int) -> Iterator[Object]:
    """As many of each kind."""
    for number in range(count // 4):
        metadata = {"name": f"app-{number}", "namespace": "default", "labels": {"app": f"app-{number}"}}
        labels = metadata["labels"]
        container = {"name": "app", "image": "app:1", "ports": [{"containerPort": 9898, "name": "http"}]}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        backend = {"service": {"name": f"app-{number}", "port": {"name": "http"}}}
        http = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
        ports = [{"name": "http", "port": 80, "targetPort": "http"}]
        deployment = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": ports},
        }
        yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment}
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": {"rules": [{"host": f"app-{number}.example.com", "http": http}]},
        }
