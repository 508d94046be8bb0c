"""Running the daemon from the command line: what it is made of, and how it ends."""

import logging
import resource
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread

from tidelog.engine.cli.bootstrap import Bootstrap, keys, look, make, make_when_gone
from tidelog.engine.cli.until_ready import wait_until_ready
from tidelog.engine.cluster.errors import ClusterError, NoClusterError
from tidelog.engine.cluster.port import Cluster, OnRequest
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.http.server import serving
from tidelog.engine.kinds.crds import crds
from tidelog.engine.kinds.meta import OWN_MANAGER
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.daemon import Daemon, open_daemon
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.telling.logs import start_logging
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.events.names import ObjectKey

ESTABLISHED_TIMEOUT_S = 30.0
logger = logging.getLogger("tidelog.engine")
Connect: TypeAlias = Callable[[OnRequest], AbstractAsyncContextManager[RealCluster]]


def connect_to(kubeconfig: Path | None, context: str | None) -> Connect:
    """To the cluster of a kubeconfig; who has none is told of the embedded one."""

    @asynccontextmanager
    async def connect(on_request: OnRequest) -> AsyncIterator[RealCluster]:
        async with AsyncExitStack() as stack:
            try:
                cluster = await stack.enter_async_context(open_cluster(kubeconfig, context, on_request=on_request))
            except NoClusterError as error:
                raise NoClusterError(f"{error}. To try Tidelog without a cluster: --cluster embedded") from None
            yield cluster

    return connect


def connect_embedded(store: Path, kubeconfig_out: Path | None) -> Connect:
    """To the embedded cluster, whose objects are kept in the store's directory."""

    @asynccontextmanager
    async def connect(on_request: OnRequest) -> AsyncIterator[RealCluster]:
        from tidelog.engine.cli.embedded import embedded_cluster

        async with embedded_cluster(store, kubeconfig=kubeconfig_out) as served:
            yield served.cluster.client(on_request=on_request)

    return connect


async def serve(
    store: Path,
    connect: Connect,
    settings: Settings,
    bootstrap: Bootstrap | None,
    until_ready_s: float | None,
    environment: dict[str, str],
) -> int:
    """Runs the daemon until it is told to stop; returns the exit code."""
    start_logging(settings.log_level, settings.log_encoding)
    # To connect, and to open what is kept, takes seconds.
    logger.info("engine starts", extra={"fields": {"store": str(store)}})
    allow_many_files()
    metrics = Metrics()
    # Signals are taken until all is put away: a second one (Ctrl-C, then a supervisor's) must not cut that short.
    with ExitStack() as until_the_end:
        async with _ending_at_sigterm() as has_begun, AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(connect(metrics.on_request))
            local = None if bootstrap is None else bootstrap.local
            daemon = await stack.enter_async_context(
                open_daemon(cluster, store, settings, environment=environment, repo=local)
            )
            daemon.engine.where["server"] = cluster.address
            metrics.bind(daemon.engine)
            await stack.enter_async_context(serving(daemon, metrics, store))
            waiting = [] if bootstrap is None else await _begin(cluster, daemon, bootstrap)
            wanted = () if bootstrap is None else keys(settings.runtime_namespace)
            until_the_end.callback(_ignore_signals)
            has_begun()
            signals = until_the_end.enter_context(anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
            return await _until_told(cluster, daemon, until_ready_s, waiting, wanted, signals)
    return 0  # told to end before it had begun


@asynccontextmanager
async def _ending_at_sigterm() -> AsyncIterator[Callable[[], None]]:
    """While the daemon begins, which may take as long as the API server does, SIGTERM ends the block.

    Gives what is to be called once it has begun. Ctrl-C needs nothing: it is Python's own until then.
    """
    async with anyio.create_task_group() as tasks:
        with ExitStack() as beginning:
            signals = beginning.enter_context(anyio.open_signal_receiver(signal.SIGTERM))

            async def end_when_told() -> None:
                await anext(signals)
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_when_told)
            yield beginning.close
        tasks.cancel_scope.cancel()


def _ignore_signals() -> None:
    """What is left is Python's own end, whose exit code is to be ours."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)


def allow_many_files() -> None:
    """Has this process open as many files as it may: each watch and each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # where the system says no, it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _begin(cluster: Cluster, daemon: Daemon, bootstrap: Bootstrap) -> list[KubeObject]:
    """Makes what `--repo` asks for, once it is known to make sense; returns what has to wait until it can be made."""
    engine = daemon.engine
    namespace = engine.settings.runtime_namespace
    await look(cluster, engine.fetchers.git, engine.artifacts, bootstrap, namespace)
    await install_kinds(cluster)
    return await make(cluster, bootstrap, namespace)


async def _until_told(
    cluster: Cluster,
    daemon: Daemon,
    until_ready_s: float | None,
    waiting: list[KubeObject],
    wanted: Collection[ObjectKey],
    signals: AsyncIterator[signal.Signals],
) -> int:
    code = 0
    async with anyio.create_task_group() as tasks:

        async def stop_on_signal() -> None:
            await anext(signals)
            tasks.cancel_scope.cancel()

        async def stop_when_ready(limit: float) -> None:
            nonlocal code
            code = await wait_until_ready(daemon, limit, wanted)
            tasks.cancel_scope.cancel()

        tasks.start_soon(stop_on_signal)
        tasks.start_soon(daemon.run)
        tasks.start_soon(make_when_gone, cluster, waiting)
        if until_ready_s is not None:
            tasks.start_soon(stop_when_ready, until_ready_s)
    return code


async def install_kinds(cluster: Cluster) -> None:
    """Applies our CustomResourceDefinitions, and waits until they are served."""
    definitions = await anyio.to_thread.run_sync(crds)  # descriptions are read from the sources
    for crd in definitions:
        await cluster.apply(crd, manager=OWN_MANAGER)
    await wait_for_kinds(cluster, definitions)


async def wait_for_kinds(cluster: Cluster, definitions: Iterable[KubeObject]) -> None:
    """Waits until kinds are served.

    Raises:
        TimeoutError: when they are not, after a while.
    """
    cluster.forget_kinds()
    with anyio.fail_after(ESTABLISHED_TIMEOUT_S):
        for crd in definitions:
            version, kind = crd["spec"]["versions"][0]["name"], crd["spec"]["names"]["kind"]
            while True:
                try:
                    found = await cluster.kind(f"{crd['spec']['group']}/{version}", kind)
                    async with aclosing(cluster.pages(found, limit=1)) as pages:
                        await anext(pages, None)  # one object: that the kind is served is all that is asked
                    break
                except ClusterError:
                    cluster.forget_kinds()
                    await anyio.sleep(0.1)
