"""The daemon: the parts of the engine, put together, and what keeps them running.

It owns every task. It opens the store, takes the Leases, watches what is declared, and serves until it is told to
stop; what a crash interrupted is taken up from the log.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version
from os import getpid
from pathlib import Path
from socket import gethostname

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from tidelog.engine.cluster.errors import ClusterError, UnknownKindError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.kinds.meta import Resource
from tidelog.engine.kinds.registry import KINDS, NEEDED
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.observe.reflector import Reflector
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.assembly import assemble
from tidelog.engine.runtime.binding import bound_uid, check_cluster
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.holders import own_name
from tidelog.engine.runtime.lease import Leases, Timings
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.requests import Requests
from tidelog.engine.runtime.settings import CONTROLLERS, Settings, as_json
from tidelog.engine.runtime.telling.logs import logger
from tidelog.engine.runtime.waking import trigger_of
from tidelog.engine.sources.clouds.logins import CloudLogins
from tidelog.engine.sources.fetchers import open_fetchers
from tidelog.engine.tasks import one_error
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.names import ObjectKey, StreamName, engine_stream
from tidelog.events.vocabulary import (
    ApplyFailed,
    ClusterBound,
    ConfigurationLoaded,
    EngineStarted,
    EngineStopped,
    Event,
)
from tidelog.events.vocabulary.apply import INTERRUPTED
from tidelog.storage import Recorded, open_log, open_views
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.errors import StoreError
from tidelog.storage.keys import KeyRing
from tidelog.storage.log.sqlite_log import SqliteEventLog
from tidelog.storage.master_key import find_master_key
from tidelog.storage.projections.views import FollowedViews

UNSERVED_S = 60.0
"""How often it is asked for a kind that the cluster does not serve yet."""
SOFTWARE = f"tidelog {version('tidelog')}"


class Daemon:
    """A running engine. Made by `open_daemon`."""

    def __init__(self, engine: Engine, log: SqliteEventLog, views: FollowedViews, settings: Settings) -> None:
        self.engine = engine
        self.log = log
        self.views = views
        self._settings = settings
        self._stream = engine_stream(log.identity.log)
        self.requests = Requests(
            engine.memory,
            views,
            self._stream,
            cluster=engine.cluster,
            declared=engine.declared,
            wake=engine.wake,
            keys=engine.keys,
            forgotten=self._forgotten,
        )
        self.serving = anyio.Event()
        """Set once all that is declared has been seen."""
        self.waits_for = ""
        """Who holds a Lease that the daemon waits for."""
        self._leases: Leases | None = None

    def _forgotten(self, recorded: Recorded) -> None:
        """Has what is still needed of a stream whose keys are destroyed made again, under another key."""
        stream, engine = recorded.envelope.stream, self.engine
        row = engine.memory.actual.get(stream)
        owner = stream if row is None else row.owner
        if owner is not None and engine.declared.target(owner) is not None:
            engine.renderings.lose(owner)
            engine.wake(owner, trigger_of(recorded, forced=True))

    async def run(self) -> None:
        """Serves, until cancelled.

        Raises:
            LeaseLostError: when another may be writing now.
        """
        if not self._settings.enable_leader_election:
            await self._serve()
            return
        timings = Timings(
            self._settings.leader_election_lease_duration.seconds,
            self._settings.leader_election_renew_deadline.seconds,
            self._settings.leader_election_retry_period.seconds,
        )
        self._leases = Leases.of(
            self.engine.cluster,
            self._settings.runtime_namespace,
            CONTROLLERS,
            timings,
            self._settings.watch_label_selector,
            identity=await anyio.to_thread.run_sync(own_name),
            fences=self.engine.sites,
        )
        await self._leases.hold(self._wait_for, self._serve)

    def _wait_for(self, lease: str, holder: str) -> None:
        self.waits_for = f"{holder} (Lease {lease})"
        fields = {"holder": holder, "lease": lease}
        logger.getChild("engine").info("waiting for another daemon, or for Flux, to let go", extra={"fields": fields})

    async def _serve(self) -> None:
        engine = self.engine
        self.waits_for = ""
        await self._begin()
        why = "it was told to stop"
        try:
            with one_error():
                await self._run_all()
        except Exception as error:
            why = f"it could not go on: {error if isinstance(error, LeaseLostError) else type(error).__name__}"
            raise
        finally:
            if self._leases is not None and self._leases.lost is not None:
                why = f"it could not go on: {self._leases.lost}"
            with anyio.CancelScope(shield=True), suppress(StoreError):  # of a store that failed, that is the error
                await engine.memory.append(self._stream, [EngineStopped(why=why)], Origin())

    async def _run_all(self) -> None:
        """Runs every part, until cancelled."""
        engine = self.engine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.views.follow)
            await tasks.start(engine.sites.run)
            tasks.start_soon(engine.status.run)
            tasks.start_soon(engine.notices.run)
            await anyio.lowlevel.checkpoint()
            await self._watch_declarations(tasks)
            tasks.start_soon(engine.sources.run)
            tasks.start_soon(engine.targets.run)
            self.serving.set()

    async def _begin(self) -> None:
        """Says that the engine runs, by what configuration, and on which cluster; closes what a crash left open."""
        memory = self.engine.memory
        configuration = Body.of(encode(as_json(self._settings)))
        events: list[Event] = [
            EngineStarted(software=SOFTWARE, host=gethostname(), pid=getpid()),
            ConfigurationLoaded(configuration=configuration.ref),
        ]
        await memory.append(self._stream, events, Origin(), bodies=[configuration])
        for stream, standing in list(memory.conditions.items()):
            if standing.applying is not None:
                event = ApplyFailed(
                    plan=standing.applying,
                    wave=0,
                    reason=INTERRUPTED,
                    message="the engine ended in the midst of it; what was written is found again",
                )
                await memory.append(StreamName(stream), [event], Origin(run=standing.run, trace=standing.trace))

    async def _watch_declarations(self, tasks: anyio.abc.TaskGroup) -> None:
        """Watches our kinds; returns when all that is declared has been seen, sources first."""
        for known in KINDS:
            resource = known.resource
            try:
                kind = await self.engine.cluster.kind(resource.api_version, resource.kind)
            except UnknownKindError:
                if known in NEEDED:
                    raise
                tasks.start_soon(self._watch_later, tasks, resource)
            else:
                await self._watch(tasks, kind, is_needed=known in NEEDED)

    async def _watch(self, tasks: anyio.abc.TaskGroup, kind: Kind, *, is_needed: bool) -> None:
        """Watches one of our kinds; returns when all of it has been seen, or cannot be, where it is not needed."""
        told = _Declared(self, kind, is_needed=is_needed)
        reflector = Reflector(
            self.engine.cluster,
            kind,
            namespace=self._settings.watched_namespace,
            labels=self._settings.watch_label_selector,
        )
        tasks.start_soon(reflector.run, told)
        await told.answered.wait()

    async def _watch_later(self, tasks: anyio.abc.TaskGroup, resource: Resource) -> None:
        """Watches a kind that the cluster does not serve yet, as soon as it does."""
        while True:
            await anyio.sleep(UNSERVED_S)
            try:
                kind = await self.engine.cluster.kind(resource.api_version, resource.kind)
            except ClusterError:
                continue
            return await self._watch(tasks, kind, is_needed=False)


class _Declared:
    """What the reflector of one of our kinds tells."""

    def __init__(self, daemon: Daemon, kind: Kind, *, is_needed: bool) -> None:
        self._engine = daemon.engine
        self._kind = kind
        self._is_needed = is_needed
        self._listed: set[StreamName] = set()
        self.complete = anyio.Event()
        self.answered = anyio.Event()
        """Set when it is complete; or when the server does not let us see it, where we can do without."""

    async def changed(self, obj: KubeObject) -> None:
        if not self.complete.is_set():
            self._listed.add(key_of(obj).stream(self._engine.cluster_alias))
        await self._engine.declared.seen(obj)

    async def gone(self, key: ObjectKey, uid: str) -> None:  # noqa: ARG002 - as a handler is told
        stream = key.stream(self._engine.cluster_alias)
        await self._engine.declared.gone(stream)
        for scheduler in (self._engine.sources, self._engine.targets):
            scheduler.forget(stream)
        self._engine.inputs.release(stream)
        await self._engine.sites.forget(stream)
        self._engine.renderings.forget(stream)
        self._engine.wishes.forget(stream)
        self._engine.status.forget(stream)
        self._engine.waits.forget(stream)
        self._engine.repeats.forget(stream)
        self._engine.custom_health.forget(stream)

    async def interrupted(self, why: str) -> None:
        if not self._is_needed:
            self.answered.set()
        await self._engine.sites.home.observer.interrupted(self._kind, why)

    async def resumed(self) -> None:
        if self.complete.is_set():
            await self._engine.sites.home.observer.resumed(self._kind)
            return
        settings = self._engine.settings
        await self._engine.declared.compare(
            self._kind,
            self._listed,
            namespace=settings.watched_namespace,
            labels=settings.watch_label_selector,
        )
        self.complete.set()
        self.answered.set()


@asynccontextmanager
async def open_daemon(
    cluster: Cluster, store: Path, settings: Settings, *, environment: dict[str, str], repo: Path | None = None
) -> AsyncIterator[Daemon]:
    """Puts a daemon together on a cluster and a store.

    Args:
        cluster: to be kept as the repositories say.
        store: the directory of the log, the artifacts and the keys.
        settings: how to work.
        environment: where a master key may be named, and says who we are to clouds.
        repo: a repository on this machine that may be read, the one given with `--repo`.

    Raises:
        StoreError: when the store cannot be opened.
        WrongClusterError: when the store is of another cluster.
        ClusterError: when the cluster cannot be asked.
    """
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(store))
        views = await stack.enter_async_context(open_views(log))
        master = await anyio.to_thread.run_sync(lambda: find_master_key(log.layout, environment, create=True))
        keys = await anyio.to_thread.run_sync(KeyRing.open, log.layout, master)
        artifacts = await anyio.to_thread.run_sync(ArtifactStore.open, store)
        stack.callback(artifacts.close)
        renderer = await stack.enter_async_context(
            Renderer(
                artifacts, strict=settings.strict_post_build_substitutions, remote_bases=not settings.no_remote_bases
            )
        )
        charts = await stack.enter_async_context(ChartRenderer([artifacts.tarballs], dns=settings.allow_dns_lookups))
        expressions = await stack.enter_async_context(Evaluator())
        clouds = CloudLogins(
            environment,
            most=settings.token_cache_max_size,
            longest_s=settings.token_cache_max_duration.seconds,
        )
        fetchers = await stack.enter_async_context(
            open_fetchers(artifacts, local=repo, clouds=clouds, limits=settings.helm_limits)
        )
        memory = Memory(log)
        await memory.load(views)
        stream = engine_stream(log.identity.log)
        await _bind(memory, stream, cluster, settings.cluster_name)
        engine = assemble(
            settings, cluster, memory, views, renderer, charts, expressions, fetchers, artifacts, keys, stream, repo
        )
        yield Daemon(engine, log, views, settings)


async def _bind(memory: Memory, stream: StreamName, cluster: Cluster, alias: str) -> None:
    """Binds the alias to the cluster, once and for all.

    Raises:
        WrongClusterError: when it is bound to another cluster.
    """
    uid = await check_cluster(cluster, memory.log, alias)
    if await bound_uid(memory.log, alias) is None:
        await memory.append(stream, [ClusterBound(alias=alias, uid=uid)], Origin())
