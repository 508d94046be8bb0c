"""Opens a store to make previews, whether or not a daemon is at work on it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio.to_thread

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.meta import HELM_RELEASE, KUSTOMIZATION
from tidelog.engine.runtime.binding import check_cluster
from tidelog.engine.runtime.errors import PreviewError
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.passes.previews.common import Preview, PreviewKeys, Rehearse, Tools
from tidelog.engine.runtime.passes.previews.kustomizations import KustomizationPreviews
from tidelog.engine.runtime.passes.previews.places import Place, Places
from tidelog.engine.runtime.passes.previews.releases import ReleasePreviews
from tidelog.engine.runtime.rendered import Renderings
from tidelog.engine.runtime.requests import told
from tidelog.engine.runtime.settings import Settings, settings_of
from tidelog.events.names import ObjectKey, StreamName, cluster_of
from tidelog.events.vocabulary import ConfigurationLoaded
from tidelog.storage import Query, read_log, read_views
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.errors import SecretError
from tidelog.storage.keys import KeyRing
from tidelog.storage.layout import Layout
from tidelog.storage.log.sqlite_log import SqliteLogReader
from tidelog.storage.master_key import find_master_key


class Previewer:
    """Makes previews of targets of all kinds. Made by `open_previewer`."""

    def __init__(self, kustomizations: KustomizationPreviews, releases: ReleasePreviews) -> None:
        self._kustomizations = kustomizations
        self._releases = releases

    async def of_source(self, target: StreamName) -> Preview:
        """What would become of a target now: by its source's last revision, or the moment that it is pinned to.

        Raises:
            PreviewError: when there is nothing to plan with.
            ClusterError: when the cluster cannot be asked.
        """
        return await self._previews(target).of_source(target)

    async def of_directory(self, target: StreamName, directory: Path) -> Preview:
        """What would become of a target if its source had the files of a directory: of a repository, or of a chart.

        Raises:
            PreviewError: when there is nothing to plan with.
            DirectoryError, FetchError: when the directory cannot be taken as a tree.
            ClusterError: when the cluster cannot be asked.
        """
        return await self._previews(target).of_directory(target, directory)

    async def of_moment(self, target: StreamName, position: int) -> Preview:
        """What would become of a target if it were to want what it wanted at a position of the log.

        Raises:
            RefusedError: when it wanted nothing then.
            PreviewError: when what it wanted cannot be read any more.
            ClusterError: when the cluster cannot be asked.
        """
        return await self._previews(target).of_moment(target, position)

    async def chain_to(self, target: StreamName) -> list[StreamName]:
        """The targets that one depends on, which are of its kind, each after its own; itself is the last.

        Raises:
            PreviewError: when one is not there, or they wait for each other, or it is no target.
            ClusterError: when the cluster cannot be asked.
        """
        return await self._previews(target).chain_to(target)

    async def share_source(self, one: StreamName, other: StreamName) -> bool:
        """Whether two targets of one kind are made of the same source."""
        return await self._previews(one).share_source(one, other)

    def _previews(self, target: StreamName) -> KustomizationPreviews | ReleasePreviews:
        key = ObjectKey.of_stream(target)
        if (key.group, key.kind) == KUSTOMIZATION:
            return self._kustomizations
        if (key.group, key.kind) == HELM_RELEASE:
            return self._releases
        raise PreviewError(f"{told(target)} applies nothing: name a Kustomization or a HelmRelease")


@asynccontextmanager
async def open_previewer(
    cluster: Cluster,
    store: Path,
    target: StreamName,
    environment: Mapping[str, str],
    rehearse: Rehearse | None = None,
    *,
    carries_out: bool = False,
) -> AsyncIterator[Previewer]:
    """Reads a store, whether or not a daemon is at work on it, to make previews of a target.

    With `rehearse`, it is dry-run what a plan does after it has made what that needs. With `carries_out`, which is for
    a copy, what would be applied at once is applied there, and the next preview is of what that leaves.

    Raises:
        StoreError: when it cannot be read.
        WrongClusterError: when the target is of another cluster.
        ClusterError: when the cluster cannot be asked.
    """
    alias = cluster_of(target)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(read_log(store))
        await check_cluster(cluster, log, alias)
        views = read_views(log)
        facts = Facts(log)
        await facts.load(views)
        artifacts = await anyio.to_thread.run_sync(ArtifactStore.read_only, store)
        stack.callback(artifacts.close)
        keys = PreviewKeys(await anyio.to_thread.run_sync(_ring, log.layout, environment))
        scratch = stack.enter_context(TemporaryDirectory(prefix="tidelog-preview-"))
        settings = await _settings_of(log)
        tools = Tools(
            cluster=cluster,
            facts=facts,
            alias=alias,
            settings=settings,
            places=Places(Place(alias, cluster), log, settings, stack),
            renderings=Renderings(log, views),
            artifacts=artifacts,
            keys=keys,
            scratch=Path(scratch),
            rehearse=rehearse,
            carries_out=carries_out,
        )
        yield Previewer(KustomizationPreviews(tools), ReleasePreviews(tools))


def _ring(layout: Layout, environment: Mapping[str, str]) -> KeyRing | None:
    """The keys of the store; None for who has not its master key."""
    try:
        return KeyRing.open(layout, find_master_key(layout, environment, create=False), create=False)
    except (SecretError, OSError):
        return None


async def _settings_of(log: SqliteLogReader) -> Settings:
    """The settings that the last daemon worked by."""
    last = None
    async for recorded in log.read(Query(types=("ConfigurationLoaded",))):
        last = recorded.event
    if not isinstance(last, ConfigurationLoaded):
        return Settings()
    return settings_of((await log.body(last.configuration.digest)).data)
