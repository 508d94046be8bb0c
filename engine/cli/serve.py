"""Running the daemon from the command line: what it is made of, and how it ends."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import click
import msgspec

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.http.server import serving
from tidelog.engine.kinds.crds import crds
from tidelog.engine.kinds.meta import KUSTOMIZE_GROUP, OWN_MANAGER, SOURCE_GROUP
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.daemon import Daemon, open_daemon
from tidelog.engine.runtime.passes.source import BOOTSTRAP_NAME, LOCAL_REPOSITORY
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.telling.logs import start_logging
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.runtime.watching.declared import AnyDeclared
from tidelog.events.names import ObjectId, ObjectKey

NOT_READY = 1
ESTABLISHED_TIMEOUT_S = 30.0


class Bootstrap(msgspec.Struct, frozen=True):
    """What `--repo` makes: as `flux bootstrap` does."""

    repo: str
    path: str
    branch: str
    interval: str

    @property
    def local(self) -> Path | None:
        """The directory, where the repository is one on this machine."""
        text = self.repo.removeprefix("file://")
        return Path(text).resolve() if "://" not in text else None


async def serve(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    settings: Settings,
    bootstrap: Bootstrap | None,
    until_ready_s: float | None,
    environment: dict[str, str],
) -> int:
    """Runs the daemon until it is told to stop; returns the exit code."""
    start_logging(settings.log_level)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(open_cluster(kubeconfig, context, on_request=metrics.on_request))
        if bootstrap is not None:
            await make_bootstrap(cluster, settings, bootstrap)
        local = None if bootstrap is None else bootstrap.local
        daemon = await stack.enter_async_context(
            open_daemon(cluster, store, settings, environment=environment, repo=local)
        )
        metrics.bind(daemon.engine)
        await stack.enter_async_context(serving(daemon, metrics, store))
        return await _until_told(daemon, until_ready_s)


async def _until_told(daemon: Daemon, until_ready_s: float | None) -> int:
    code = 0
    async with anyio.create_task_group() as tasks:

        async def stop_on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    return

        async def stop_when_ready(limit: float) -> None:
            nonlocal code
            code = await wait_until_ready(daemon, limit)
            tasks.cancel_scope.cancel()

        tasks.start_soon(stop_on_signal)
        tasks.start_soon(daemon.run)
        if until_ready_s is not None:
            tasks.start_soon(stop_when_ready, until_ready_s)
    return code


async def wait_until_ready(daemon: Daemon, limit_s: float) -> int:
    """Waits until every source and target is ready, and says so in its status; returns the exit code."""
    engine = daemon.engine
    with anyio.move_on_after(limit_s):
        await daemon.serving.wait()
        while not _all_ready(daemon):  # noqa: ASYNC110 - of many things that no one event tells
            await anyio.sleep(0.1)
        return 0
    for stream, standing in engine.memory.conditions.items():
        if standing.ready != "True":
            click.echo(f"{stream}: {standing.reason or 'not begun'}: {standing.message}", err=True)
    return NOT_READY


def _all_ready(daemon: Daemon) -> bool:
    engine = daemon.engine
    declared: list[AnyDeclared] = [*engine.declared.sources.values(), *engine.declared.targets.values()]
    if not declared or not engine.status.idle:
        return False
    names = {one.stream for one in declared}
    if any(_is_ours(id) and f"{engine.cluster_alias}/{id}" not in names for id in _owned(daemon)):
        return False  # it was applied a moment ago, and its watch has not told of it yet
    for one in declared:
        standing = engine.memory.conditions.get(one.stream)
        if one.suspended:
            continue
        if standing is None or standing.ready != "True" or standing.observed != one.generation:
            return False
        if standing.run is not None:
            return False
    return True


def _owned(daemon: Daemon) -> Iterator[ObjectId]:
    for _, inventory in daemon.engine.memory.inventory.items():  # noqa: PERF102 - rows are no dict
        yield from inventory.objects


def _is_ours(id: ObjectId) -> bool:
    key = ObjectKey.parse(id)
    return (key.group, key.kind) in ((SOURCE_GROUP, "GitRepository"), (KUSTOMIZE_GROUP, "Kustomization"))


async def make_bootstrap(cluster: Cluster, settings: Settings, bootstrap: Bootstrap) -> None:
    """Makes what `flux bootstrap` makes: the kinds, the namespace, a GitRepository and a Kustomization."""
    await install_kinds(cluster)
    namespace = settings.runtime_namespace
    await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, manager=OWN_MANAGER)
    local = bootstrap.local
    # The API takes no address of a directory: the annotation says where it is, and only the daemon's own word counts.
    url = f"https://localhost{local.as_posix()}" if local else bootstrap.repo
    metadata = {"name": BOOTSTRAP_NAME, "namespace": namespace}
    annotations = {LOCAL_REPOSITORY: str(local)} if local else {}
    source: KubeObject = {
        "apiVersion": f"{SOURCE_GROUP}/v1",
        "kind": "GitRepository",
        "metadata": {**metadata, **({"annotations": annotations} if annotations else {})},
        "spec": {"interval": bootstrap.interval, "url": url, "ref": {"branch": bootstrap.branch}},
    }
    target: KubeObject = {
        "apiVersion": f"{KUSTOMIZE_GROUP}/v1",
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": {
            "interval": "10m",
            "path": bootstrap.path,
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": BOOTSTRAP_NAME},
        },
    }
    for obj in (source, target):
        await cluster.apply(obj, manager=OWN_MANAGER)


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
