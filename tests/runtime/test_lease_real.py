"""Leases on a real API server."""

import anyio
import anyio.to_thread

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.runtime.lease import Leases, Timings

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
                leases = Leases.of(cluster, namespace, ("source-controller", "kustomize-controller"), TIMINGS)
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
