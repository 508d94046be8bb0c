"""The parts of the engine, put together: each with those that it needs."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from tidelog.engine.apply.door import NotVerifiedError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.kinds.registry import TARGET_NAMES
from tidelog.engine.objects.depth import bounded
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.drift import Flap
from tidelog.engine.observe.room import Room
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.context import Engine, utc_now
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.handing import Handing
from tidelog.engine.runtime.helm import HelmTools
from tidelog.engine.runtime.memory import Memory, Origin, newest_of
from tidelog.engine.runtime.passes.reconcile import reconcile_target
from tidelog.engine.runtime.passes.source import reconcile_source
from tidelog.engine.runtime.rendered import Renderings
from tidelog.engine.runtime.schedule import Reconcile, Scheduler, Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.sites import Site, Sites, Watching
from tidelog.engine.runtime.telling.logs import LogLines, logger
from tidelog.engine.runtime.telling.notices import Notices
from tidelog.engine.runtime.telling.status import StatusWriter
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.waking import Waker
from tidelog.engine.runtime.watching.declarations import Declarations
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.runtime.watching.inputs import Inputs
from tidelog.engine.runtime.watching.observer import FLAPPING_PAUSE_S, Observer
from tidelog.engine.runtime.watching.records import RecordWatch
from tidelog.engine.runtime.wishes import Wishes
from tidelog.engine.secrecy.logs import keeping_secret
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.sources.fetchers import Fetchers
from tidelog.events.canonical import encode
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectId, ObjectKey, StreamName
from tidelog.events.vocabulary import (
    InputChanged,
    StageFailed,
)
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.errors import AppendError, StoreError
from tidelog.storage.keys import KeyRing
from tidelog.storage.projections.views import FollowedViews

DEFECT_RETRY_S = 60.0


def assemble(
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

    def watching_of(alias: str, cluster: Cluster, room: Room | None = None) -> Watching:
        async def sealer(secret: Iterable[ObjectId]) -> Sealer:
            return await engine.sealer(secret, alias)

        overridden, home = sorted(settings.override_manager), settings.cluster_name
        observer = Observer(
            cluster,
            memory,
            alias,
            stream,
            sealer,
            wake,
            wake_in,
            flapping,
            utc_now,
            interval_of,
            overridden,
            home,
            room,
        )
        records = RecordWatch(cluster, settings.watched_namespace, room)
        return Watching(cluster, observer, records, Inputs(cluster, changed))

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
    renderings = Renderings(memory.log, views)
    home = watching_of(settings.cluster_name, cluster)
    inputs = home.inputs
    site = Site(settings.cluster_name, cluster, home)
    sites = Sites(site, home, memory, stream, settings, watching_of, _must_end)
    engine = Engine(
        settings=settings,
        cluster=cluster,
        sites=sites,
        memory=memory,
        declared=Declarations(cluster, memory, settings.cluster_name, keys, wake, settings.release_defaults),
        inputs=inputs,
        renderer=renderer,
        renderings=renderings,
        helm=HelmTools(charts),
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
    waker = Waker(engine, wake)
    memory.listen(waker.heard)
    memory.listen(LogLines(engine.where, memory.conditions.get))
    engine.wait_for, engine.watch_for = waker.wait_for, waker.watch_for
    engine.leave_to, engine.wait_no_more = waker.leave_to, waker.wait_no_more
    engine.declared.on_change = waker.changed
    engine.declared.on_status = engine.status.overwritten
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
    live = bounded(live)
    data = encode({name: live[name] for name in ("data", "binaryData", "status") if name in live})
    return (await engine.keys.key(user)).digest(data) if key.kind == "Secret" else digest_of(data)
