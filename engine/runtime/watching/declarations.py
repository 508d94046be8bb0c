"""All sources and targets of the cluster, as watches tell of them, and the events that say what is new."""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError, ConflictError, NotFoundError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.kinds.externalartifact import ExternalArtifactStatus
from tidelog.engine.kinds.helmrelease import HelmReleaseSpec, ReleaseDefaults
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.meta import (
    FINALIZER,
    FORCE_AT,
    RESET_AT,
    labelled_maker,
)
from tidelog.engine.kinds.patches import patches_of_secrets
from tidelog.engine.kinds.registry import (
    TARGET_NAMES,
)
from tidelog.engine.objects.depth import bounded
from tidelog.engine.objects.kube import KubeObject, MalformedObjectError, key_of, parse_inventory_id
from tidelog.engine.plan.model import is_secret
from tidelog.engine.runtime.memory import Facts, Memory, Origin, plan_of
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.watching.declared import (
    AnyDeclared,
    DeclaredKustomization,
    DeclaredSource,
    DeclaredTarget,
    is_kustomization,
    is_release,
    is_source,
    is_target,
    manager_of,
    read_declared,
    read_status,
)
from tidelog.engine.secrecy.inherited import without_inherited
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import KEYED
from tidelog.events.envelope import ENGINE, Actor, Proof
from tidelog.events.names import ObjectId, ObjectKey, PlanId, StreamName
from tidelog.events.projections import Desired
from tidelog.events.vocabulary import (
    ApplyFinished,
    ApplyStarted,
    Event,
    Planned,
    ReconcileRequested,
    Resumed,
    SourceDeclared,
    SourceRemoved,
    Suspended,
    TargetDeclared,
    TargetMoved,
    TargetRemoved,
)
from tidelog.storage import Query
from tidelog.storage.keys import KeyRing
from tidelog.storage.sealed import key_id_of

CLAIM_ATTEMPTS_MAX = 5
_SETTLING = (ApplyFinished.__name__, TargetMoved.__name__, TargetRemoved.__name__)
"""After one of these nothing is left of what was begun before; in the cluster that a target is in now, at least."""


Wake = Callable[[StreamName, Trigger], None]
OnChange: TypeAlias = Callable[[StreamName], None]
"""Told of each source or target whose object is not what it was, its status included."""


class Declarations:
    """All sources and targets of the cluster. Fed by watches; records what is new about them."""

    def __init__(
        self,
        cluster: Cluster,
        memory: Memory,
        alias: str,
        keys: KeyRing,
        wake: Wake,
        defaults: ReleaseDefaults | None = None,
    ) -> None:
        self._defaults = defaults
        self._keys = keys
        self._cluster = cluster
        self._memory = memory
        self._alias = alias
        self._wake = wake
        self._sources: dict[StreamName, DeclaredSource] = {}
        self._targets: dict[StreamName, DeclaredTarget] = {}
        self._requests: dict[StreamName, str | None] = {}
        self._one_at_a_time = anyio.Lock()
        """What a watch tells and what our own write answered may be the same: it is recorded once."""
        self.on_change: OnChange = lambda _: None
        self.on_status: OnChange = lambda _: None
        """Told of those alone whose status is another than the engine's own last write of it left, or than was seen."""

    def source(self, stream: StreamName) -> DeclaredSource | None:
        """A source that is declared."""
        return self._sources.get(stream)

    def target(self, stream: StreamName) -> DeclaredTarget | None:
        """A target that is declared."""
        return self._targets.get(stream)

    @property
    def sources(self) -> Mapping[StreamName, DeclaredSource]:
        """All sources, by stream."""
        return self._sources

    @property
    def targets(self) -> Mapping[StreamName, DeclaredTarget]:
        """All targets, by stream."""
        return self._targets

    def kustomization(self, stream: StreamName) -> DeclaredKustomization | None:
        """A Kustomization that is declared."""
        found = self._targets.get(stream)
        return found if found is not None and is_kustomization(found) else None

    @property
    def kustomizations(self) -> Mapping[StreamName, DeclaredKustomization]:
        """All Kustomizations, by stream."""
        return {stream: target for stream, target in self._targets.items() if is_kustomization(target)}

    async def seen(self, live: KubeObject) -> None:
        """Takes note of a source or target as it now is: records a new spec, a request, a suspension; wakes it."""
        async with self._one_at_a_time:
            await self._seen(live)

    async def settle(self) -> None:
        """Waits until what a watch tells just now is recorded: until then it is declared, and the log is behind it."""
        async with self._one_at_a_time:
            pass

    async def _seen(self, live: KubeObject) -> None:
        stream = key_of(live).stream(self._alias)
        before = self._sources.get(stream) or self._targets.get(stream)
        if before is not None and before.is_echo(live):
            return
        declared = read_declared(live, self._alias, self._defaults)
        declared.secret = await made_with_secret(live, self._alias, self._memory)
        is_other = before is not None and before.uid != declared.uid
        if before is not None and not is_other and _version(before.live) > _version(live):
            return  # our own write of it has told more already
        if is_other:
            await self.gone(declared.stream)
            before = None
        if is_target(declared):
            declared.found = before.found if before is not None else await found_of(declared, self._memory)
            declared.begun = before.begun if before is not None else await begun_of(declared, self._memory)
            declared.newer = before.newer if before is not None else newer_of(declared, self._memory)
            self._targets[declared.stream] = declared
        elif is_source(declared):
            self._sources[declared.stream] = declared
        cause = await self._record(declared)
        if cause is not None or before is None or declared.deleting:
            self._wake(declared.stream, cause or Trigger(why="found at the start"))
        elif _offers_something_else(before, declared):
            self._wake(declared.stream, Trigger(why="it offers another artifact"))
        elif _asks_about_itself(declared):
            self._wake(declared.stream, Trigger(why="somebody else changed it"))
        if before is not None and before.status != declared.status:
            self.on_status(declared.stream)
        self.on_change(declared.stream)

    def answers(self, stream: StreamName, token: str) -> None:
        """Takes note that a request is recorded otherwise, and not once more when its annotation is seen."""
        self._requests[stream] = token

    async def gone(self, stream: StreamName) -> None:
        """Takes note that a source or target is no more; one whose finalizer was removed by force is recorded here."""
        declared = self._sources.pop(stream, None) or self._targets.pop(stream, None)
        self._requests.pop(stream, None)
        self.on_change(stream)
        if declared is None or self._memory.conditions.get(stream) is None:
            return
        event = TargetRemoved(uid=declared.uid) if is_target(declared) else SourceRemoved(uid=declared.uid)
        await self._memory.append(stream, [event], Origin())

    async def compare(
        self, kind: Kind, listed: Collection[StreamName], *, namespace: str = "", labels: str = ""
    ) -> None:
        """After the first list: what the log knows, and neither list nor name finds, was deleted meanwhile.

        Args:
            kind: that was listed.
            listed: what was in the list.
            namespace: the one that is watched; empty for all.
            labels: the selector by which is watched.
        """
        for stream, _ in list(self._memory.conditions.items()):
            key = ObjectKey.of_stream(stream)
            if (key.group, key.kind) != (kind.group, kind.kind) or stream in listed:
                continue
            if namespace in ("", key.namespace):
                try:
                    found = await self._find(kind, key, labels)
                except ClusterError:
                    continue  # nobody knows
                if found is not None:
                    await self.seen(found)
                    continue
            row = self._memory.desired.get(stream)
            event = TargetRemoved if (key.group, key.kind) in TARGET_NAMES else SourceRemoved
            await self._memory.append(StreamName(stream), [event(uid="" if row is None else row.uid)], Origin())

    async def _find(self, kind: Kind, key: ObjectKey, labels: str) -> KubeObject | None:
        """The object of a key, where there is one that the selector chooses."""
        try:
            live = await self._cluster.get(kind, key.namespace, key.name)  # which no server answers from a while ago
        except NotFoundError:
            return None
        if not labels:
            return live
        fields = f"metadata.name={key.name}"
        chosen = await self._cluster.list(kind, namespace=key.namespace, labels=labels, fields=fields)
        return chosen.items[0] if chosen.items else None

    def wrote(self, stream: StreamName, live: KubeObject) -> None:
        """Takes note of an object as our own write of its status left it."""
        declared = self._sources.get(stream) or self._targets.get(stream)
        if declared is None or declared.uid != live["metadata"]["uid"] or _version(declared.live) > _version(live):
            return  # it is another by now, or a watch has told more already
        declared.live = bounded(live)
        declared.status = read_status(declared.live)
        self.on_change(stream)

    async def claim(self, declared: AnyDeclared) -> None:
        """Adds the finalizer, so that the object is not gone before what it owns is (Flux contract CM-054)."""
        await self._set_finalizers(declared, lambda there: [*there, FINALIZER] if FINALIZER not in there else there)

    async def release(self, declared: AnyDeclared) -> None:
        """Removes the finalizer: the engine has nothing more to do for the object."""
        await self._set_finalizers(declared, lambda there: [name for name in there if name != FINALIZER])

    async def _set_finalizers(self, declared: AnyDeclared, change: Callable[[list[str]], list[str]]) -> None:
        kind = await self._cluster.kind(declared.live["apiVersion"], declared.key.kind)
        where = (kind, declared.key.namespace, declared.key.name)
        live = declared.live
        for attempt in range(CLAIM_ATTEMPTS_MAX):
            there = list(live["metadata"].get("finalizers") or ())
            wanted = change(there)
            if wanted == there:
                return
            patch = {"metadata": {"finalizers": wanted, "resourceVersion": live["metadata"]["resourceVersion"]}}
            try:
                live = await self._cluster.patch(*where, patch, type="merge", manager=manager_of(declared.key.kind))
            except NotFoundError:
                return
            except ConflictError:
                if attempt + 1 == CLAIM_ATTEMPTS_MAX:
                    raise
                live = await self._cluster.get(*where)
            else:
                declared.live, declared.finalizers = live, tuple(live["metadata"].get("finalizers") or ())
                return

    async def _awaits(self, stream: StreamName, row: Desired | None, *, suspend: bool) -> bool:
        """Whether somebody asked for that `spec.suspend`, and it is still to be written.

        A request is recorded before it is carried out. Until then the spec that the log knows last is as it was before
        it; once it was carried out, the spec says the same, and a spec that says otherwise again is somebody else's.
        """
        if row is None or row.spec is None:
            return False
        body = await self._memory.log.body(row.spec.digest)
        spec = body.data
        if row.spec.secret:
            key = await self._keys.key(stream)
            if key_id_of(body) != key.id:
                return False  # it was forgotten
            spec = key.open(body)
        return bool(msgspec.json.decode(spec).get("suspend")) != suspend

    async def _body_of(self, declared: AnyDeclared) -> Body:
        """The spec; sealed, where an address in it has credentials, and without patches that may be of Secrets.

        Of a target that another one makes with secret values, nothing that may hold one is in it.
        """
        spec = declared.live.get("spec") or {}
        if _tells_secrets(declared) or (is_release(declared) and (declared.secret or _patches_secrets(spec))):
            return (await self._keys.key(declared.stream)).seal(encode(spec))
        if declared.secret and declared.key.kind == "Kustomization":
            key = await self._keys.key(declared.stream)
            return Body.of(encode(without_inherited(spec, lambda text: f"# secret: {key.digest(text.encode())}")))
        places = patches_of_secrets(spec) if declared.key.kind == "Kustomization" else []
        if places:
            key = await self._keys.key(declared.stream)
            patches = list(spec["patches"])
            for place in places:
                # Keyed, so that another patch is another spec, and nobody finds out by trying what it is.
                digest = key.digest(patches[place]["patch"].encode())
                patches[place] = {**patches[place], "patch": f"# It may hold what a Secret does: {digest}"}
            spec = {**spec, "patches": patches}
        return Body.of(encode(spec))

    async def _record(self, declared: AnyDeclared) -> Trigger | None:
        """Records what is new; returns the trigger that it is, or None."""
        row = self._memory.desired.get(declared.stream)
        events: list[Event] = []
        bodies: list[Body] = []
        spec = await self._body_of(declared)
        why = ""
        if row is None or row.uid != declared.uid or row.spec is None or row.spec.digest != spec.ref.digest:
            status = Body.of(encode(declared.live["status"])) if row is None and _has_been_worked_on(declared) else None
            event = TargetDeclared if is_target(declared) else SourceDeclared
            events.append(
                event(
                    uid=declared.uid,
                    generation=declared.generation,
                    spec=spec.ref,
                    status=None if status is None else status.ref,
                )
            )
            bodies += [spec, status] if status is not None else [spec]
            why = "it has a new spec"
        suspended = row is not None and row.suspended is not None
        if declared.suspended != suspended and not await self._awaits(declared.stream, row, suspend=suspended):
            if declared.suspended:
                events.append(Suspended(why="spec.suspend was set"))
                why = "it was suspended"
            else:
                events.append(Resumed(why="spec.suspend was removed"))
                why = "it was resumed"
        token = declared.requested_at
        standing = self._memory.conditions.get(declared.stream)
        handled = declared.status.last_handled_reconcile_at or (standing.handled if standing else "")
        asked = bool(token) and token != self._requests.get(declared.stream, handled)
        self._requests[declared.stream] = token
        if asked:
            force, reset = declared.is_asked(FORCE_AT), declared.is_asked(RESET_AT)
            events.append(ReconcileRequested(token=token or "", force=force, reset=reset))
            why = "somebody asked for it"
        if not events:
            return None
        actor = _actor(declared, "metadata" if asked else "spec")
        recorded = await self._memory.append(declared.stream, events, Origin(actor=actor), bodies=bodies)
        return Trigger(
            why=why, actor=ENGINE, cause=recorded[-1].envelope.id, token=(token or "") if asked else "", forced=True
        )


async def made_with_secret(live: KubeObject, alias: str, facts: Facts) -> bool:
    """Whether another target makes an object with secret values.

    So it was when it was last applied or seen; or so it is wanted, which is recorded before it is applied, and so
    before the object can be seen at all.
    """
    key = key_of(live)
    row = facts.actual.get(key.stream(alias))
    applied = None if row is None or row.owner is None else facts.inventory.get(row.owner)
    if is_secret(key, row, None if applied is None else applied.objects.get(key.id)):
        return True
    named = labelled_maker(live)
    maker = None if named is None else facts.desired.get(named.stream(alias))
    if maker is None or maker.objects is None:
        return False
    begins = encode([key.id])[:-1] + f',"{KEYED}'.encode()
    return begins in (await facts.log.body(maker.objects.digest)).data


async def found_of(declared: DeclaredTarget, facts: Facts) -> dict[ObjectId, str]:
    """What the status lists and the log does not know: applied by another engine, or since a backup.

    Where the target has come to be applied to another cluster, the status may still be of the one before: a daemon may
    have been killed before it wrote the next. So nothing of it is taken for what is in the new one.
    """
    row = facts.inventory.get(declared.stream)
    known = {} if row is None else row.objects
    found: dict[ObjectId, str] = {}
    for entry in declared.status.inventory.entries if declared.status.inventory else ():
        try:
            key = parse_inventory_id(entry.id)
        except MalformedObjectError:
            continue
        if key.id not in known:
            found[key.id] = f"{key.group}/{entry.v}" if key.group else entry.v
    return {} if found and await _left_a_cluster(declared.stream, facts) else found


async def _left_a_cluster(stream: StreamName, facts: Facts) -> bool:
    """Whether a target is applied to another cluster than it once was; not, whether it began in another."""
    moved = await facts.log.last(Query(stream=stream, types=(TargetMoved.__name__,)))
    if moved is None:
        return False
    before = Query(stream=stream, types=(ApplyStarted.__name__,), until=moved.envelope.position)
    return await facts.log.last(before) is not None


async def begun_of(declared: DeclaredTarget, facts: Facts) -> dict[ObjectId, str]:
    """What the plans would write whose apply began since the last one that came to its end."""
    standing, stream = facts.conditions.get(declared.stream), declared.stream
    if standing is None or standing.ended_well:
        return {}
    settled = await facts.log.last(Query(stream=stream, types=_SETTLING))
    after = 0 if settled is None else settled.envelope.position
    plans: dict[PlanId, Planned] = {}
    begun: dict[ObjectId, str] = {}
    async for recorded in facts.log.read(
        Query(stream=stream, types=(Planned.__name__, ApplyStarted.__name__), after=after)
    ):
        if isinstance(recorded.event, Planned):
            plans[recorded.event.plan] = recorded.event
        elif isinstance(recorded.event, ApplyStarted) and recorded.event.plan in plans:
            begun |= (await plan_of(facts.log, plans[recorded.event.plan])).writes
    return begun


def newer_of(declared: DeclaredTarget, facts: Facts) -> str:
    """The revision that the status tells, where it is none that the target is known to have had; else empty.

    What a HelmRelease had, Helm's records tell.
    """
    if not is_kustomization(declared):
        return ""
    told, standing = declared.status.last_applied_revision, facts.conditions.get(declared.stream)
    if standing is None or standing.applied is None:
        return ""  # nothing would be put back
    known = {standing.applied, standing.attempted, *(attempt.revision for attempt in standing.history)}
    return "" if told in known else told


def _asks_about_itself(declared: AnyDeclared) -> bool:
    """Whether something of a target's own object that is no spec may decide whether its dependencies are ready."""
    spec = declared.spec
    return isinstance(spec, KustomizationSpec | HelmReleaseSpec) and any(
        "self" in one.ready_expr for one in spec.depends_on
    )


def _offers_something_else(before: AnyDeclared, declared: AnyDeclared) -> bool:
    """Whether another controller has written another artifact into the status."""
    was, now = before.status, declared.status
    if not (isinstance(was, ExternalArtifactStatus) and isinstance(now, ExternalArtifactStatus)):
        return False
    return was.artifact != now.artifact


def _version(live: KubeObject) -> int:
    try:
        return int(live["metadata"]["resourceVersion"])
    except ValueError:
        return 0


def _tells_secrets(declared: AnyDeclared) -> bool:
    """Whether an address in the spec has credentials in it, or a query, in which tokens are given."""
    spec = declared.live.get("spec") or {}
    addresses = [str(spec.get(field) or "") for field in ("url", "endpoint")]
    return any("?" in one or "@" in one.rpartition("://")[2].partition("/")[0] for one in addresses)


def _patches_secrets(spec: KubeObject) -> bool:
    """Whether a post-renderer in the spec of a HelmRelease may hold what a Secret does."""
    renderers = spec.get("postRenderers")
    held = renderers if isinstance(renderers, list) else []
    return any(patches_of_secrets(one.get("kustomize")) for one in held if isinstance(one, dict))


def _has_been_worked_on(declared: AnyDeclared) -> bool:
    status = declared.live.get("status") or {}
    return bool(status.keys() - {"observedGeneration"})


def _actor(declared: AnyDeclared, place: str) -> Actor:
    """Who wrote last below `spec` or `metadata`, by the field manager's name: an inference."""
    own = manager_of(declared.key.kind)
    writers = [
        (entry.get("time") or "", entry.get("manager") or "")
        for entry in declared.live["metadata"].get("managedFields") or ()
        if not entry.get("subresource") and f"f:{place}" in (entry.get("fieldsV1") or {})
    ]
    others = [writer for writer in writers if writer[1] != own] or writers
    if not others:
        return ENGINE
    return Actor(kind="manager", name=max(others)[1], proof=Proof(kind="inferred"))
