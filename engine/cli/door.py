"""How a command asks for something.

Through the daemon's door; without a daemon, in its place; without a store, with the annotation that `flux` writes.
"""

import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread
import click
import msgspec

from tidelog.engine.cli.leases import find_lease, is_at_work
from tidelog.engine.cluster.errors import ClusterError, KubeconfigError, NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.http.client import DoorClient, open_door
from tidelog.engine.kinds.durations import Duration, MalformedDurationError
from tidelog.engine.kinds.meta import HELM_GROUP, SOURCE_GROUP
from tidelog.engine.kinds.registry import NAMES, api_version_of
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.binding import check_cluster
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.holders import lease_name
from tidelog.engine.runtime.memory import Memory
from tidelog.engine.runtime.requests import Request, Requests, new_token, write_request
from tidelog.engine.runtime.suspension import write_suspend
from tidelog.engine.runtime.telling.outcome import Outcome
from tidelog.engine.runtime.watching.declarations import Declarations
from tidelog.engine.views.archive import open_archive
from tidelog.engine.views.commits import named_source
from tidelog.engine.views.names import UnclearNameError, default_namespace, find, is_kind, parse
from tidelog.events.envelope import Actor, Proof
from tidelog.events.moment import Time, time_of
from tidelog.events.names import ObjectKey, StreamName, cluster_of, engine_stream
from tidelog.events.projections import DESIRED
from tidelog.events.vocabulary import ReconcileRequested
from tidelog.storage import Recorded
from tidelog.storage.errors import SecretError, StoreUnreadableError
from tidelog.storage.keys import KeyRing
from tidelog.storage.layout import Layout
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log
from tidelog.storage.master_key import find_master_key
from tidelog.storage.projections.views import Views, read_views

LOOK_AGAIN_S = 0.1
LOOK_AT_CLUSTER_AGAIN_S = 1.0
"""`flux` looks every 2 s (Flux contract CL-004)."""


class Access(msgspec.Struct, frozen=True):
    """What a command was told of store and cluster."""

    store: Path
    kubeconfig: Path | None = None
    context: str | None = None

    @property
    def has_store(self) -> bool:
        """Whether there is a store to write to. Blocks.

        Raises:
            StoreUnreadableError: when this user may not look.
        """
        try:
            return Layout(self.store).log.exists()
        except PermissionError as error:
            raise StoreUnreadableError(self.store, error.strerror or str(error)) from None

    async def finds_store(self) -> bool:
        """As `has_store`, for tasks."""
        return await anyio.to_thread.run_sync(lambda: self.has_store)

    async def keeps_embedded(self) -> bool:
        """Whether an embedded cluster is kept in the store's directory, as far as this user may look."""
        try:
            return await anyio.Path(Layout(self.store).cluster).exists()
        except PermissionError:
            return False


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a request."""

    position: int | None = None
    """Of its event; none where there is no log here."""
    time: str = ""
    token: str = ""
    """The value of the annotation, where it became one."""
    note: str = ""
    """What is still to be done, and by whom."""


Take: TypeAlias = Callable[[Request], Awaitable[Asked]]
_TOLD_TO_CLUSTERS = ("suspend", "resume", "reconcile")
"""Verbs that other tools have too: the cluster itself is told."""


def user() -> Actor:
    """Who runs the command, as the system knows."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Actor(kind="user", name=name, proof=Proof(kind="authenticated", by="unix"))


def named(access: Access, words: tuple[str, ...], namespace: str | None) -> StreamName:
    """The stream of the source or target that is named; without a store, of a cluster without a name.

    Raises:
        NotThereError: when the log has none of that name.
        UnclearNameError: when the text names no source and no target.
    """
    if access.has_store:
        with open_archive(access.store) as archive:
            subject = find(archive, words, namespace)
        if not subject.is_flux:
            raise UnclearNameError(f"{subject} is applied by a target, and not reconciled itself: name the target")
        return subject.stream
    typed, name = parse(words)
    for group, kind in NAMES:
        if is_kind(typed, group, kind):
            return ObjectKey(group, kind, namespace or default_namespace(), name).stream("cluster")
    raise not_reconciled(typed)


def named_target(access: Access, words: tuple[str, ...], namespace: str | None) -> StreamName:
    """The stream of the target that is named.

    Raises:
        NotThereError: when the log has none of that name.
        UnclearNameError: when the text names no target.
    """
    stream = named(access, words, namespace)
    if ObjectKey.of_stream(stream).group == SOURCE_GROUP:
        raise UnclearNameError(
            f"{shown(stream)} is a source, and applies nothing: name a Kustomization or a HelmRelease"
        )
    return stream


def time_to_come(text: str | None, now: datetime | None = None) -> Time | None:
    """The time that `--until` names: a time, or how long from now.

    Raises:
        click.BadParameter: when it is neither, or is past.
    """
    if text is None:
        return None
    now = now or datetime.now(UTC)
    try:
        moment = now + timedelta(seconds=Duration.parse(text).seconds)
    except MalformedDurationError:
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)  # without a zone it is the reader's own
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is neither a length of time (90m, 2h, 36h) nor a time (2026-12-24T18:00Z)"
            ) from None
    except OverflowError:
        raise click.BadParameter(f"{text!r} is too long") from None
    if moment <= now:
        raise click.BadParameter(f"{text!r} is past")
    return time_of(moment)


async def sources_of(access: Access, target: StreamName) -> tuple[StreamName, ...]:
    """What a target or a HelmChart is made from, as the specs name it, the farthest first.

    Left out is what is not there yet, as the HelmChart of a new HelmRelease, and what nobody fetches: a registry.
    """
    found: list[StreamName] = []
    spec = await _spec_of(access, target)
    stream = target
    while spec is not None:
        source = named_source(ObjectKey.of_stream(stream), spec)
        if source is None:
            break
        stream = source.stream(cluster_of(target))
        spec = await _spec_of(access, stream) if source.kind in _LOOKED_AT else {}
        if spec is not None and spec.get("type") != "oci":
            found.append(stream)
    return tuple(reversed(found))


_LOOKED_AT = ("HelmChart", "HelmRepository")
"""Sources whose specs say whether there is anything to ask for, and whether there is another behind."""


async def _spec_of(access: Access, stream: StreamName) -> KubeObject | None:
    """The spec of a source or target, from the log or else the cluster; None where there is none."""
    known, spec = await anyio.to_thread.run_sync(_spec_in_log, access, stream)
    if known:
        return spec
    async with open_cluster(access.kubeconfig, access.context) as cluster:
        try:
            live = await _live(cluster, stream)
        except RefusedError:
            return None
    found: KubeObject = live.get("spec") or {}
    return found


def _spec_in_log(access: Access, stream: StreamName) -> tuple[bool, KubeObject | None]:
    """Whether the log knows, and the spec; the log does not say what is sealed."""
    if not access.has_store:
        return False, None
    with open_archive(access.store) as archive:
        row = archive.row(DESIRED, stream)
        if row is None:
            return True, None
        data = archive.body(row.spec)
    return data is not None, None if data is None else msgspec.json.decode(data)


# Asking.


async def ask(access: Access, request: Request) -> Asked:
    """Has a request recorded, and carried out.

    Raises:
        RefusedError: when it makes no sense as things stand.
        DoorError, StoreError, ClusterError: when it could not be told; a sentence.
    """
    async with taking(access, request) as take:
        return await take(request)


@asynccontextmanager
async def taking(access: Access, like: Request) -> AsyncIterator[Take]:
    """Who takes requests, each like one but for what it is about, while the block lasts.

    Raises:
        RefusedError: when nobody who is there can take such a request.
        DoorError, StoreError, ClusterError: when it cannot be told; a sentence.
    """
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(open_door(access.store))
        if door is not None:
            yield partial(ask_daemon, door)
        elif await access.finds_store():
            yield await stack.enter_async_context(_recording(access, like))
        else:
            yield await stack.enter_async_context(_annotating(access, like))


async def ask_daemon(door: DoorClient, request: Request) -> Asked:
    """Has a daemon take a request."""
    taken = await door.ask(request)
    return Asked(position=taken.position, time=taken.time)


async def wait(access: Access, stream: StreamName, asked: Asked, limit_s: float) -> Outcome | None:
    """Waits until what was asked for has come to its end; None when there is nobody who does it.

    Raises:
        TimeoutError: when it took longer.
    """
    with anyio.fail_after(limit_s):
        async with open_door(access.store) as door:
            if door is not None:
                return await wait_for_daemon(door, stream)
        if asked.token and not await access.finds_store():
            return await _wait_for_status(access, stream, asked.token)
        return None


async def wait_for_daemon(door: DoorClient, stream: StreamName) -> Outcome:
    """Waits until nothing goes on any more in a source or target."""
    while True:
        outcome = await door.outcome(stream)
        if outcome.over and await door.is_serving():
            return outcome
        await anyio.sleep(LOOK_AGAIN_S)


# Without a daemon.


@asynccontextmanager
async def _recording(access: Access, like: Request) -> AsyncIterator[Take]:
    """Opens the log to write, and takes requests as the daemon would."""
    async with AsyncExitStack() as stack:
        cluster = None
        if like.verb in _TOLD_TO_CLUSTERS:
            cluster = await stack.enter_async_context(_cluster_at_hand(access))
        log = await stack.enter_async_context(open_log(access.store, create=False))
        memory, views = Memory(log), read_views(log)
        await memory.load(views)
        keys = None if cluster is None else await anyio.to_thread.run_sync(_keys, log.layout)
        yield partial(_record, log, memory, views, cluster, keys)


async def _record(
    log: SqliteEventLog, memory: Memory, views: Views, cluster: Cluster | None, keys: KeyRing | None, request: Request
) -> Asked:
    told_later = "no daemon is at work: it is done when one comes"
    declared = None
    if cluster is not None:
        alias = cluster_of(StreamName(request.target))
        await check_cluster(cluster, log, alias)
        declared = None if keys is None else Declarations(cluster, memory, alias, keys, lambda _, __: None)
    requests = Requests(memory, views, engine_stream(log.identity.log), cluster=cluster, declared=declared)
    position = await log.head()
    try:
        recorded = await requests.take(request, user())
    except ClusterError as error:
        if await log.head() == position:
            raise
        return Asked(position=position + 1, note=f"{told_later}, because {error}")
    asked = Asked(position=recorded.envelope.position, time=recorded.envelope.time)
    if request.verb in ("suspend", "resume") and cluster is not None:
        return asked
    if request.verb == "reconcile" and cluster is not None:
        try:
            token = _token_of(recorded) or await _request_in(cluster, StreamName(request.target))
            asked = msgspec.structs.replace(asked, token=token)
        except ClusterError as error:
            return msgspec.structs.replace(asked, note=f"{told_later}, because {error}")
    if request.verb == "mark":
        return asked
    return msgspec.structs.replace(asked, note=told_later)


def _token_of(recorded: Recorded) -> str:
    """Of a request that the cluster was told of already."""
    return recorded.event.token if isinstance(recorded.event, ReconcileRequested) else ""


@asynccontextmanager
async def _cluster_at_hand(access: Access) -> AsyncIterator[Cluster | None]:
    """The cluster, where one is named; None where none is."""
    async with AsyncExitStack() as stack:
        try:
            cluster: Cluster | None = await stack.enter_async_context(open_cluster(access.kubeconfig, access.context))
        except KubeconfigError:
            if access.kubeconfig is not None or access.context is not None:
                raise
            cluster = None
        yield cluster


def _keys(layout: Layout) -> KeyRing | None:
    try:
        return KeyRing.open(layout, find_master_key(layout, os.environ, create=False))
    except SecretError:
        return None  # what became of the object is noted by the next daemon, which has the key


# Without a store.


@asynccontextmanager
async def _annotating(access: Access, like: Request) -> AsyncIterator[Take]:
    """Writes to the cluster what `flux` would."""
    if like.verb not in _TOLD_TO_CLUSTERS:
        raise RefusedError(
            f"there is no store at {access.store}, and nothing but a log can take this: give --store DIR, "
            "or set TIDELOG_STORE"
        )
    if like.until is not None:
        raise RefusedError("--until needs a store, whose daemon resumes it: give --store DIR, or set TIDELOG_STORE")
    async with open_cluster(access.kubeconfig, access.context) as cluster:
        yield partial(_annotate, cluster)


async def _annotate(cluster: Cluster, request: Request) -> Asked:
    stream = StreamName(request.target)
    if request.verb == "reconcile":
        if (await _live(cluster, stream)).get("spec", {}).get("suspend"):
            raise RefusedError(f"{shown(stream)} is suspended; `tidelog resume` goes on")
        token = await _request_in(cluster, stream, force=request.force, reset=request.reset)
        return Asked(token=token, note=await _note_of_nobody(cluster, stream))
    try:
        await write_suspend(cluster, stream, suspend=request.verb == "suspend")
    except NotFoundError:
        raise RefusedError(f"there is no {shown(stream)} in the cluster") from None
    return Asked(note="there is no store here: who and why is not recorded")


_CONTROLLERS = {SOURCE_GROUP: "source-controller", HELM_GROUP: "helm-controller"}


def not_reconciled(typed: str) -> UnclearNameError:
    """That what was typed is no kind of sources or targets."""
    kinds = ", ".join(kind.lower() for _, kind in NAMES)
    return UnclearNameError(f"{typed!r} is none of the kinds that are reconciled: {kinds}")


async def _note_of_nobody(cluster: Cluster, stream: StreamName) -> str:
    """That nobody seems to be there who reconciles; empty where somebody is, or who asks may not look.

    An engine may be at work without a Lease: this is said, and believed no further.
    """
    controller = _CONTROLLERS.get(ObjectKey.of_stream(stream).group, "kustomize-controller")
    namespace, name = default_namespace(), lease_name(controller)
    try:
        lease = await find_lease(cluster, namespace, name)
    except ClusterError:
        return ""
    if is_at_work(lease):
        return ""
    return f"nobody holds the Lease {namespace}/{name}, so no engine seems to be at work: it is done when one comes"


async def _request_in(cluster: Cluster, stream: StreamName, *, force: bool = False, reset: bool = False) -> str:
    """Asks whoever reconciles an object in the cluster to do it now; returns the token."""
    key = ObjectKey.of_stream(stream)
    if (force or reset) and key.group != HELM_GROUP:
        raise RefusedError(f"{shown(stream)} is no HelmRelease, and --force and --reset are of releases")
    token = new_token()
    try:
        await write_request(cluster, stream, token, force=force, reset=reset)
    except NotFoundError:
        raise RefusedError(f"there is no {shown(stream)} in the cluster") from None
    return token


async def _wait_for_status(access: Access, stream: StreamName, token: str) -> Outcome:
    async with open_cluster(access.kubeconfig, access.context) as cluster:
        while True:
            live = await _live(cluster, stream)
            status = live.get("status") or {}
            if status.get("lastHandledReconcileAt") == token:
                found = _outcome(live)
                if found.over:
                    return found
            await anyio.sleep(LOOK_AT_CLUSTER_AGAIN_S)


def _outcome(live: KubeObject) -> Outcome:
    conditions = {one["type"]: one for one in (live.get("status") or {}).get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    artifact = live["status"].get("artifact") or {}
    releases = live["status"].get("history") or ()
    version = releases[0].get("chartVersion") if releases and live["kind"] == "HelmRelease" else ""
    return Outcome(
        over="Reconciling" not in conditions or ready.get("status") == "False",
        ready=ready.get("status") or "Unknown",
        reason=ready.get("reason") or "",
        message=ready.get("message") or "",
        revision=live["status"].get("lastAppliedRevision") or artifact.get("revision") or version or "",
    )


async def _live(cluster: Cluster, stream: StreamName) -> KubeObject:
    key = ObjectKey.of_stream(stream)
    kind = await cluster.kind(api_version_of(key), key.kind)
    try:
        return await cluster.get(kind, key.namespace, key.name)
    except NotFoundError:
        raise RefusedError(f"there is no {shown(stream)} in the cluster") from None


def shown(stream: StreamName) -> str:
    """A source or target, as Flux names objects: `<Kind>/<namespace>/<name>`."""
    key = ObjectKey.of_stream(stream)
    return f"{key.kind}/{key.namespace}/{key.name}"
