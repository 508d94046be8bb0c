"""The daemon: the parts of the engine, put together, and what keeps them running.

It owns every task. It opens the store, takes the Leases, watches what is declared, and serves until it is told to
stop; what a crash interrupted is taken up from the log.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from os import getpid
from pathlib import Path
from socket import gethostname
from typing import TypeAlias

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from tidelog.engine.apply.door import NotVerifiedError
from tidelog.engine.cluster.errors import ClusterError, UnknownKindError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.kinds.meta import Resource
from tidelog.engine.kinds.registry import KINDS, NEEDED, TARGET_NAMES
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.drift import Flap
from tidelog.engine.observe.reflector import Reflector
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.binding import bound_uid, check_cluster
from tidelog.engine.runtime.capabilities import ClusterCapabilities
from tidelog.engine.runtime.context import Engine, utc_now
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.handing import Handing
from tidelog.engine.runtime.helm import HelmTools
from tidelog.engine.runtime.holders import own_name
from tidelog.engine.runtime.lease import Leases, Timings
from tidelog.engine.runtime.memory import Memory, Origin, newest_of
from tidelog.engine.runtime.passes.reconcile import reconcile_target
from tidelog.engine.runtime.passes.source import reconcile_source
from tidelog.engine.runtime.rendered import Renderings
from tidelog.engine.runtime.requests import Requests
from tidelog.engine.runtime.schedule import Reconcile, Scheduler, Trigger
from tidelog.engine.runtime.settings import CONTROLLERS, Settings, as_json
from tidelog.engine.runtime.telling.logs import LogLines, logger
from tidelog.engine.runtime.telling.notices import Notices
from tidelog.engine.runtime.telling.status import StatusWriter
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.watching.declared import Declarations, DeclaredKustomization
from tidelog.engine.runtime.watching.inputs import Inputs
from tidelog.engine.runtime.watching.observer import FLAPPING_PAUSE_S, Observer
from tidelog.engine.runtime.wishes import Wishes
from tidelog.engine.secrecy.logs import keeping_secret
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.sources.fetchers import Fetchers, open_fetchers
from tidelog.engine.tasks import one_error
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectId, ObjectKey, StreamName, engine_stream
from tidelog.events.vocabulary import (
    ApplyFailed,
    ClusterBound,
    ConfigurationLoaded,
    EngineStarted,
    EngineStopped,
    Event,
    InputChanged,
    Pinned,
    PlanApproved,
    PlanHeld,
    PlanRejected,
    ReconcileRequested,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    TargetDeclared,
    TargetRemoved,
    Unpinned,
    VerificationFailed,
)
from tidelog.storage import Recorded, open_log, open_views
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.errors import AppendError, StoreError
from tidelog.storage.keys import KeyRing
from tidelog.storage.log.sqlite_log import SqliteEventLog
from tidelog.storage.master_key import find_master_key
from tidelog.storage.projections.views import FollowedViews

DEFECT_RETRY_S = 60.0
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
            engine.wake(owner, _trigger(recorded, forced=True))

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
            tasks.start_soon(engine.inputs.run)
            tasks.start_soon(engine.observer.run)
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
                    reason="Interrupted",
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
        namespace = "" if self._settings.watch_all_namespaces else self._settings.runtime_namespace
        reflector = Reflector(
            self.engine.cluster, kind, namespace=namespace, labels=self._settings.watch_label_selector
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
            self._listed.add(self._engine.observer.stream_of(obj))
        await self._engine.declared.seen(obj)

    async def gone(self, key: ObjectKey, uid: str) -> None:  # noqa: ARG002 - as a handler is told
        stream = key.stream(self._engine.cluster_alias)
        await self._engine.declared.gone(stream)
        for scheduler in (self._engine.sources, self._engine.targets):
            scheduler.forget(stream)
        self._engine.inputs.release(stream)
        self._engine.renderings.forget(stream)
        self._engine.wishes.forget(stream)
        self._engine.status.forget(stream)
        self._engine.waits.forget(stream)
        self._engine.repeats.forget(stream)
        self._engine.custom_health.forget(stream)

    async def interrupted(self, why: str) -> None:
        if not self._is_needed:
            self.answered.set()
        await self._engine.observer.interrupted(self._kind, why)

    async def resumed(self) -> None:
        if self.complete.is_set():
            await self._engine.observer.resumed(self._kind)
            return
        settings = self._engine.settings
        await self._engine.declared.compare(
            self._kind,
            self._listed,
            namespace="" if settings.watch_all_namespaces else settings.runtime_namespace,
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
        environment: where a master key may be named.
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
        charts = await stack.enter_async_context(ChartRenderer([artifacts.tarballs]))
        expressions = await stack.enter_async_context(Evaluator())
        fetchers = await stack.enter_async_context(open_fetchers(artifacts, local=repo))
        memory = Memory(log)
        await memory.load(views)
        stream = engine_stream(log.identity.log)
        await _bind(memory, stream, cluster, settings.cluster_name)
        engine = _assemble(
            settings, cluster, memory, views, renderer, charts, expressions, fetchers, artifacts, keys, stream, repo
        )
        yield Daemon(engine, log, views, settings)


def _assemble(
    settings: Settings,
    cluster: Cluster,
    memory: Memory,
    views: FollowedViews,
    renderer: Renderer,
    charts: ChartRenderer,
    expressions: Evaluator,
    fetchers: Fetchers,
    artifacts: ArtifactStore,
    keys: KeyRing,
    stream: StreamName,
    local: Path | None,
) -> Engine:
    """The parts of the engine, each with those that it needs."""

    async def sealer(secret: Iterable[ObjectId]) -> Sealer:
        return await engine.sealer(secret)

    def wake_in(owner: StreamName, seconds: float) -> None:
        engine.targets.wake_in(owner, seconds)

    def wake(key: StreamName, trigger: Trigger) -> None:
        (engine.targets if _is_target(key) else engine.sources).wake(key, trigger)

    def interval_of(owner: StreamName) -> float:
        target = engine.declared.target(owner)
        return target.spec.interval.seconds if target is not None else FLAPPING_PAUSE_S

    async def changed(user: StreamName, key: ObjectKey, live: KubeObject | None) -> None:
        digest = await _digest_of_input(engine, user, key, live)
        (recorded,) = await memory.append(user, [InputChanged(object=key.id, digest=digest)], Origin())
        wake(user, Trigger(why=f"{key.kind} {key.name} changed", cause=recorded.envelope.id, forced=True))

    def flapping(owner: StreamName, flaps: tuple[Flap, ...]) -> None:
        target = engine.declared.target(owner)
        if target is not None:
            engine.notices.flapping(target, flaps)

    async def variables_of(target: DeclaredKustomization) -> Variables:
        return await read_variables(inputs, target, keys.key)

    async def target_of(target: StreamName) -> DeclaredKustomization | None:
        return engine.declared.kustomization(target)

    newest = partial(newest_of, memory)
    inputs = Inputs(cluster, changed)
    renderings = Renderings(memory.log, views)
    engine = Engine(
        settings=settings,
        cluster=cluster,
        memory=memory,
        declared=Declarations(cluster, memory, settings.cluster_name, keys, wake, settings.release_defaults),
        inputs=inputs,
        observer=Observer(
            cluster,
            memory,
            settings.cluster_name,
            stream,
            sealer,
            wake,
            wake_in,
            flapping,
            utc_now,
            interval_of,
            sorted(settings.override_manager),
        ),
        renderer=renderer,
        renderings=renderings,
        helm=HelmTools(charts, ClusterCapabilities(cluster)),
        wishes=Wishes(memory, settings.cluster_name, settings, renderings, renderer, variables_of, newest, cluster),
        handing=Handing(memory, settings.cluster_name, inputs, keys.key, target_of),
        expressions=expressions,
        fetchers=fetchers,
        artifacts=artifacts,
        keys=keys,
        store=memory.log.layout.directory,
        local=local,
    )
    engine.status = StatusWriter(engine)
    engine.notices = Notices(engine)
    engine.sources = Scheduler(_guarded(engine, reconcile_source), settings.concurrent_sources)
    engine.targets = Scheduler(_guarded(engine, reconcile_target), settings.concurrent)
    waker = _Waker(engine, wake)
    memory.listen(waker.heard)
    memory.listen(LogLines(engine.where, memory.conditions.get))
    engine.wait_for, engine.watch_for = waker.wait_for, waker.watch_for
    engine.leave_to, engine.wait_no_more = waker.leave_to, waker.wait_no_more
    engine.declared.on_change = waker.changed
    engine.wake = wake
    return engine


Pass: TypeAlias = Callable[[Engine, StreamName, Trigger], Awaitable[float | None]]


def _guarded(engine: Engine, one_pass: Pass) -> Reconcile:
    """A pass in which a defect of the engine ends that pass, is told, and is tried again, rather than end them all."""

    async def reconcile(stream: StreamName, trigger: Trigger) -> float | None:
        with keeping_secret(SecretValues()):
            return await watched(stream, trigger)

    async def watched(stream: StreamName, trigger: Trigger) -> float | None:
        began, result = anyio.current_time(), "error"
        try:
            again = await one_pass(engine, stream, trigger)
            result = "success" if again is None else "requeue_after"
            return again
        except Exception as error:
            if _must_end(error):
                raise
            logger.exception("a defect of the engine", extra={"fields": {"stream": stream}})
            message = f"a defect of the engine: {type(error).__name__}; its log has the details"
            event = StageFailed(stage="declare", reason="InternalError", final=False, message=message)
            await engine.memory.append(stream, [event], Origin())
            return DEFECT_RETRY_S
        finally:
            engine.on_pass(stream, anyio.current_time() - began, result)

    return reconcile


def _must_end(error: Exception) -> bool:
    """Whether the daemon must not go on: nothing can be recorded, or nothing may be applied.

    An append that the log refuses (too large, say) concerns the one pass that made it.
    """
    if isinstance(error, StoreError):
        return not isinstance(error, AppendError)
    return isinstance(error, NotVerifiedError | LeaseLostError)


def _is_target(stream: StreamName) -> bool:
    key = ObjectKey.of_stream(stream)
    return (key.group, key.kind) in TARGET_NAMES


async def _digest_of_input(engine: Engine, user: StreamName, key: ObjectKey, live: KubeObject | None) -> Digest | None:
    """The digest of what an object that is read holds; keyed for a Secret."""
    if live is None:
        return None
    data = encode({name: live[name] for name in ("data", "binaryData", "status") if name in live})
    return (await engine.keys.key(user)).digest(data) if key.kind == "Secret" else digest_of(data)


async def _bind(memory: Memory, stream: StreamName, cluster: Cluster, alias: str) -> None:
    """Binds the alias to the cluster, once and for all.

    Raises:
        WrongClusterError: when it is bound to another cluster.
    """
    uid = await check_cluster(cluster, memory.log, alias)
    if await bound_uid(memory.log, alias) is None:
        await memory.append(stream, [ClusterBound(alias=alias, uid=uid)], Origin())


_FAILED = (StageFailed, VerificationFailed, ApplyFailed, PlanHeld, RunEnded)
_ASKED = (PlanApproved, PlanRejected, Pinned, Unpinned, ReconcileRequested)


class _Waker:
    """Wakes who waits for what an event says."""

    def __init__(self, engine: Engine, wake: Callable[[StreamName, Trigger], None]) -> None:
        self._engine = engine
        self._wake = wake
        self._waiting: dict[StreamName, set[StreamName]] = {}
        self._watching: dict[StreamName, set[StreamName]] = {}
        self._leaving: dict[StreamName, set[StreamName]] = {}

    def wait_for(self, who: StreamName, what: StreamName) -> None:
        """Has `who` woken at the next good news of `what`."""
        self._waiting.setdefault(what, set()).add(who)

    def leave_to(self, who: StreamName, what: StreamName) -> None:
        """Has `who` woken at whatever becomes of `what`: it may have taken what is left to it, or want it no more."""
        self._leaving.setdefault(what, set()).add(who)

    def watch_for(self, who: StreamName, what: StreamName) -> None:
        """Has `who` woken at the next change of the object of `what`, be it of its status alone."""
        self._watching.setdefault(what, set()).add(who)

    def wait_no_more(self, who: StreamName) -> None:
        """Takes note that `who` looks for itself again."""
        for waiting in (*self._waiting.values(), *self._watching.values(), *self._leaving.values()):
            waiting.discard(who)

    def changed(self, stream: StreamName) -> None:
        """The object of a source or target is not what it was."""
        for watching in sorted(self._watching.pop(stream, ())):
            self._wake(watching, Trigger(why=f"{ObjectKey.of_stream(stream).shown} changed"))

    def heard(self, recorded: Recorded) -> None:
        """An event was recorded."""
        envelope, event = recorded.envelope, recorded.event
        ended_well = isinstance(event, RunEnded) and event.outcome in ("succeeded", "unchanged")
        if ended_well or isinstance(event, SourceDeclared | SourceRemoved | TargetDeclared | TargetRemoved):
            self._good_news(envelope.stream, recorded)
        elif isinstance(event, RevisionSettled):
            for target in event.targets:
                self._good_news(target, recorded)
        elif isinstance(event, StageFailed) and event.waits_for in self._waiting.get(envelope.stream, ()):
            self._good_news(envelope.stream, recorded)  # two wait for each other: one of them may go on
        elif isinstance(event, RevisionFetched):
            for target in list(self._leaving):
                self._wake_leaving(target, recorded)
        elif isinstance(event, _ASKED) and envelope.run is None:
            # What a run records itself, it knows.
            self._wake(envelope.stream, _trigger(recorded, forced=True))

        if isinstance(event, _FAILED):
            # Who is not ready itself looks again soon enough: two that leave something to each other, and both fail,
            # would wake each other without end.
            self._wake_leaving(envelope.stream, recorded, only_ready=True)

    def _good_news(self, stream: StreamName, recorded: Recorded) -> None:
        for waiting in sorted(self._waiting.pop(stream, ())):
            self._wake(waiting, _trigger(recorded))
        self._wake_leaving(stream, recorded)

    def _wake_leaving(self, stream: StreamName, recorded: Recorded, *, only_ready: bool = False) -> None:
        leaving = self._leaving.get(stream, set())
        for who in sorted(leaving):
            standing = self._engine.memory.conditions.get(who)
            if not only_ready or (standing is not None and standing.ready == "True"):
                leaving.discard(who)
                self._wake(who, _trigger(recorded))


def _trigger(recorded: Recorded, *, forced: bool = False) -> Trigger:
    envelope = recorded.envelope
    return Trigger(why=envelope.type, actor=envelope.actor, trace=envelope.trace, cause=envelope.id, forced=forced)
