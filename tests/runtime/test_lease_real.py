"""Leases on a real API server."""

import sys

import anyio
import anyio.to_thread

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.runtime.lease import Leases, Timings

CONTROLLERS = ("source-controller", "kustomize-controller")
PATIENCE_S = 30
TIMINGS = Timings(duration=20, renew_deadline=15, retry_period=0.1)


async def test_a_second_replica_waits_for_the_first_and_follows_it(kubernetes: Servers, namespace: str) -> None:
    began: list[str] = []
    waits = anyio.Event()

    async def run(name: str, scope: anyio.CancelScope, works: anyio.Event) -> None:
        async def work() -> None:
            began.append(name)
            works.set()
            await anyio.sleep_forever()

        with scope:
            async with open_cluster(kubernetes.kubeconfig) as cluster:
                leases = Leases.of(cluster, namespace, CONTROLLERS, TIMINGS, identity=name)
                await leases.hold(lambda lease, holder: waits.set(), work)

    first, second, first_works, second_works = (
        anyio.CancelScope(),
        anyio.CancelScope(),
        anyio.Event(),
        anyio.Event(),
    )
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "first", first, first_works)
            await first_works.wait()
            tasks.start_soon(run, "second", second, second_works)
            await waits.wait()
            path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
            held = await anyio.to_thread.run_sync(kubernetes.request, "GET", path)
            assert {lease["metadata"]["name"] for lease in held.body["items"]} == {
                "source-controller-leader-election",
                "kustomize-controller-leader-election",
            }
            assert began == ["first"]
            first.cancel()
            await second_works.wait()
            second.cancel()
    assert began == ["first", "second"]


HOLD_FOR_EVER = """\
import sys, anyio
from pathlib import Path
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.runtime.holders import own_name
from tidelog.engine.runtime.lease import Leases, Timings

async def main() -> None:
    async def work() -> None:
        print("held", flush=True)
        await anyio.sleep_forever()

    identity = await anyio.to_thread.run_sync(own_name)
    async with open_cluster(Path(sys.argv[1])) as cluster:
        leases = Leases.of(cluster, sys.argv[2], tuple(sys.argv[3:]), Timings(), identity=identity)
        await leases.hold(lambda *_: None, work)

anyio.run(main)
"""


async def test_who_was_killed_on_this_host_is_followed_at_once(kubernetes: Servers, namespace: str) -> None:
    command = [sys.executable, "-c", HOLD_FOR_EVER, str(kubernetes.kubeconfig), namespace, *CONTROLLERS]
    waited_for: list[str] = []
    with anyio.fail_after(PATIENCE_S):
        async with await anyio.open_process(command) as killed:
            assert killed.stdout is not None
            assert (await killed.stdout.receive()).startswith(b"held")
            killed.kill()
        async with open_cluster(kubernetes.kubeconfig) as cluster:
            scope = anyio.CancelScope()

            async def work() -> None:
                scope.cancel()

            leases = Leases.of(cluster, namespace, CONTROLLERS, Timings(), identity="next")
            with scope:
                await leases.hold(lambda lease, holder: waited_for.append(holder), work)
    assert scope.cancel_called
    assert waited_for == []
