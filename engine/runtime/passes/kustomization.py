"""The reconciliation of a Kustomization: the way of the data, top to bottom, each line one stage."""

from collections.abc import Collection, Mapping
from functools import partial

import msgspec

from tidelog.engine.kinds.durations import Duration
from tidelog.engine.plan.draft import Draft
from tidelog.engine.render.errors import RenderError
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import find_fetched
from tidelog.engine.runtime.passes.dependencies import check_dependencies
from tidelog.engine.runtime.passes.health import assess
from tidelog.engine.runtime.passes.moves import Heir, Moves, UnsettledError
from tidelog.engine.runtime.passes.placing import placed
from tidelog.engine.runtime.passes.target import TargetPass
from tidelog.engine.runtime.rendered import RenderedSet, inputs_digest, render_spec, sealed, would_be_the_same
from tidelog.engine.runtime.run import StageError, Stop, asking
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.scope import in_its_place, is_out_of_place
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, source_of
from tidelog.events.names import ObjectId, ObjectKey, Revision, StreamName
from tidelog.events.vocabulary import (
    HealthChanged,
    ObjectPruned,
    RunEnded,
    TargetRemoved,
    Unpinned,
    Verdict,
)
from tidelog.storage import Query

RENDER_RETRY_S = 5.0
"""After a build that failed for no reason of its own; longer after each further one."""
UNSETTLED_LOOK_S = 2.0
"""How often it is looked whether it is known by now where a kubeconfig leads; for a minute at most."""
TERMINATION_LOOK_S = 2.0
"""How often it is looked whether what was deleted is gone; Flux's figure."""

_LET_GO = "It is being deleted; to leave what it applied in that cluster, set spec.deletionPolicy to Orphan"


class Source(msgspec.Struct, frozen=True):
    """The artifact that a target is rendered from."""

    stream: StreamName
    revision: Revision
    tree: str


class KustomizationPass(TargetPass):
    """One pass over one Kustomization."""

    def __init__(self, engine: Engine, declared: DeclaredKustomization, trigger: Trigger) -> None:
        super().__init__(engine, declared, trigger)
        self._declared: DeclaredKustomization = declared
        self._spec = declared.spec

    @property
    def _retry_s(self) -> float:
        return self._spec.effective_retry_interval.seconds

    async def reconcile(self) -> float | None:
        """The pass."""
        await self._inherit()
        if self._declared.deleting:
            return await self._finalize()
        self._engine.inputs.begin(self._stream)
        await self._own()
        await self._go_on()
        source = await self._source()
        await self._dependencies(source)
        await self._reach()
        variables = await self._variables()
        rendered = await self._render(source, variables)
        draft = await self._plan(rendered)
        if draft is not None:
            await self._verify(draft)
            await self._apply(draft, await self._cleared(draft))
        await self._healthy(rendered)
        return await self._end(source, rendered)

    async def _finalize(self) -> float | None:
        """Deletes what the target owns, as its deletion policy says, and lets go of it (KS-095)."""
        if await self._is_let_go_of():
            return None
        if self._prunes_when_deleted() and self._may_have_objects() and await self._may_prune():
            draft = await self._plan(None)
            if draft is not None:
                await self._verify(draft)
                await self._apply(draft, await self._cleared(draft, await self._approvals.deletion()))
            await asking("apply", self._gone())
        await self._run.record(
            [TargetRemoved(uid=self._declared.uid, deletion_policy=self._spec.effective_deletion_policy)]
        )
        await asking("apply", self._engine.declared.release(self._declared))
        return None

    def _may_have_objects(self) -> bool:
        """Whether something that it applied may be there; of one that never did, no other cluster is asked."""
        known = self._situation.inventory.objects or self._situation.found
        return bool(known) or self._spec.kube_config is None or self._run.standing.run is not None

    async def _may_prune(self) -> bool:
        """Whether what it applied can be deleted: the cluster is there, and so is the account to act as."""
        try:
            await self._reach()
        except StageError as error:
            if self._spec.kube_config is not None:
                error.args = (f"{error}. {_LET_GO}",)
            raise
        return await asking("apply", self._may_still_act())

    async def _go_on(self) -> None:
        """Ends the open run where something newer has come, and the pass where it failed for good."""
        standing = self._run.standing
        if standing.run is not None and self._is_superseded():
            await self._run.supersede(self._declared.generation)
        if self._has_failed_for_good():
            raise Stop

    async def _source(self) -> Source:
        """The artifact to render."""
        source = source_of(self._declared)
        if self._engine.settings.no_cross_namespace_refs and source.namespace != self._declared.key.namespace:
            raise StageError(
                "fetch",
                "AccessDenied",
                f"can't access '{source.shown}': cross-namespace references have been blocked",
                final=True,
                stalled=True,
            )
        stream = source.stream(self._engine.cluster_alias)
        if self._engine.declared.source(stream) is None:
            raise StageError(
                "fetch", "ArtifactFailed", f"{source.kind} {source.namespace}/{source.name} not found", waits_for=stream
            )
        row = self._memory.desired.get(stream)
        if row is None or row.revision is None or row.tree is None:
            raise StageError(
                "fetch",
                "ArtifactFailed",
                f"Source artifact not found, retrying as soon as it is there{self._why_not(source, stream)}",
                waits_for=stream,
            )
        if stream not in self._engine.asked and await self._is_behind(stream):
            raise StageError(
                "fetch",
                "ArtifactFailed",
                f"this log does not know revision {self._declared.newer}, of which the status tells: nothing changes "
                f"before {source.kind} {source.namespace}/{source.name} was asked",
                waits_for=stream,
            )
        self._revision = row.revision
        return Source(stream, row.revision, row.tree)

    def _why_not(self, source: ObjectKey, stream: StreamName) -> str:
        """What is wrong with a source whose status is not ours to say it in."""
        standing = self._memory.conditions.get(stream)
        if source.kind != "ExternalArtifact" or standing is None or not standing.message:
            return ""
        return f": {standing.message}"

    async def _is_behind(self, source: StreamName) -> bool:
        """Whether another engine has been at work on the target since this log ended, or was backed up."""
        newer = Revision(self._declared.newer)
        if newer and await find_fetched(self._memory.log, source, newer) is not None:
            self._declared.newer = ""
        return bool(self._declared.newer)

    async def _dependencies(self, source: Source) -> None:
        """Every dependency is ready, and as new as what this target is about to apply (KS-038)."""
        await self._dependencies_of_other_kinds()
        await check_dependencies(self._engine, self._declared, source.stream, source.revision)

    async def _variables(self) -> Variables:
        """What is to be put into the rendered objects (KS-061)."""
        found = await asking("render", read_variables(self._engine.inputs, self._declared, self._engine.keys.key))
        self._run.secrets.add(found.secret_values)
        return found

    async def _render(self, source: Source, variables: Variables) -> RenderedSet:
        """The objects that the target wants: as rendered before, where nothing that was read has changed."""
        await self._unpin_for(source)
        pinned = await self._pinned()
        if pinned is not None:
            return pinned
        standing = self._run.standing
        before = await self._engine.renderings.last(self._stream)
        renderer = self._engine.renderer
        same = await would_be_the_same(renderer, source.tree, self._spec, variables, before, standing.inputs)
        if before is not None and same and before.tells_handed and not self._may_be_quoted(before):
            in_place = not await is_out_of_place((one.key for one in before.wanted), self._site.cluster)
            if in_place:
                self._run.secrets.add(before.secret_values or ())
                return before
        self._activity.begin(self._stream, "building", source.revision)
        try:
            rendering = await renderer.render(
                source.tree,
                render_spec(self._spec),
                self._declared.key,
                variables.values,
                variables.secret_names,
                variables.handed,
                time_s=self._spec.effective_timeout.seconds,
            )
            rendering = await asking("render", in_its_place(rendering, self._site.cluster))
        except RenderError as error:
            # What is not final lies in the surroundings (a limit, a process that died): they may be better soon.
            retry_s = None if error.final else RENDER_RETRY_S
            raise StageError("render", error.reason, str(error), final=error.final, retry_s=retry_s) from error
        self._sealer = await self._engine.sealer((key.id for key in rendering.secret), self._alias)
        made = sealed(rendering, self._sealer, self._run.secrets)
        inputs = inputs_digest(self._spec, variables, rendering.read_set, rendering.toolchain)
        if before is None or inputs != standing.inputs or made.set.digest != before.digest:
            new = [body for body in made.bodies if not self._engine.renderings.has(self._stream, body.ref.digest)]
            await self._run.record([made.event(source.revision, inputs)], new)
        self._engine.renderings.keep(self._stream, made.set)
        return made.set

    def _may_be_quoted(self, rendered: RenderedSet) -> bool:
        """Whether the server may quote what substitution made of secret variables, and it is not known what that is.

        The log does not tell: it has to be made again.
        """
        if rendered.secret_values is not None:
            return False
        return any(one.secret and one.key.kind != "Secret" for one in self._situation.touched(rendered.wanted))

    async def _healthy(self, rendered: RenderedSet) -> None:
        """What the spec asks to be healthy is; else the pass ends, and an event or the deadline begins the next."""
        standing = self._run.standing
        checked = await asking(
            "observe", assess(self._engine, self._site, self._declared, rendered, self._situation.subject.identity)
        )
        if checked is None:
            return
        limit, waited = self._spec.effective_timeout, self._engine.waited_for_health(self._stream)
        if checked.health == "Current":
            if standing.health != "Current":
                message = f"{checked.message} in {Duration.of_seconds(waited)}"
                await self._run.record([HealthChanged(checked=True, health="Current", message=message)])
                self._engine.notices.healthy(self._declared, self._revision, message)
            return
        if checked.health == "Failed":
            message = f"failed early due to stalled resources: {checked.message}"
        elif waited >= limit.seconds:
            message = f"health check failed after {limit}: timeout waiting for: {checked.message}"
        else:
            if standing.health != "InProgress":
                await self._run.record([HealthChanged(checked=True, health="InProgress", message=checked.message)])
            raise Stop(limit.seconds - self._engine.waited_for_health(self._stream))
        if standing.health == "Failed" and standing.health_message == message:
            raise Stop(self._spec.effective_retry_interval.seconds)
        await self._site.observer.look_into(checked.shown)
        await self._run.record(
            [HealthChanged(checked=True, health="Failed", reason="HealthCheckFailed", message=message)]
        )
        self._engine.notices.stopped(self._declared, self._revision)
        raise Stop(self._spec.effective_retry_interval.seconds)

    async def _end(self, source: Source, rendered: RenderedSet) -> float | None:
        """The run is over; nothing is recorded of a pass that had nothing to say."""
        standing, token = self._run.standing, self._declared.requested_at
        revision = standing.applied if rendered.pinned else source.revision
        news = (
            self._run.records > 0
            or standing.ready != "True"
            or standing.run is not None
            or standing.applied != revision
            or standing.observed != self._declared.generation
            or (token and token != standing.handled)
        )
        if news:
            worked = self._applied or standing.run is not None
            await self._run.record(
                [
                    RunEnded(
                        outcome="succeeded" if worked else "unchanged",
                        generation=self._declared.generation,
                        revision=revision,
                        set=rendered.digest,
                        token=token or "",
                    )
                ]
            )
            self._engine.notices.reconciled(self._declared, revision)
        self._settle()
        return self._next(rendered)

    def _next(self, rendered: RenderedSet) -> float | None:
        """When there is something to do that no event tells of: a base from elsewhere, a Job that is done."""
        due = [
            left
            for one in rendered.wanted
            if (left := self._site.observer.rests(self._stream, one.key.stream(self._alias)))
        ]
        if rendered.remote_bases:
            due.append(self._engine.jittered(self._spec.interval.seconds))
        return min(due, default=None)

    @property
    def _moves(self) -> Moves:
        """What is known of objects that come from other Kustomizations of the same cluster, or go to them."""
        engine = self._engine
        return Moves(
            engine.wishes,
            lambda: engine.declared.kustomizations,
            partial(engine.sites.beside, self._alias),
            self._site.cluster,
            engine.cluster,
            engine.settings,
            self._declared,
        )

    async def _left_to_others(self, stale: Collection[ObjectId]) -> Mapping[ObjectId, Heir]:
        """What would be pruned, and another target is about to want; what becomes of that one wakes this one."""
        if not stale or not self._situation.subject.prune:
            return {}
        try:
            left = await asking("plan", self._moves.heirs(stale))
        except UnsettledError:
            raise Stop(UNSETTLED_LOOK_S) from None
        for id, heir in left.items():
            # Nothing is awaited between this look and that: what they apply from here on ends with news.
            if self._situation.unclaimed(id) and heir.target != self._stream:
                self._engine.leave_to(self._stream, heir.target)
        return left

    async def _claimed(self, ids: Collection[ObjectId]) -> str:
        """Who has come to want objects since it was planned to delete them."""
        try:
            heirs = await self._moves.heirs(ids)
        except UnsettledError as error:
            return str(error)
        return "; ".join(f"{id} is {heir.why}" for id, heir in sorted(heirs.items()))

    async def _freed(self, draft: Draft) -> frozenset[ObjectId]:
        """The objects of other targets that may be taken over, because their owners do not want them any more."""
        others = self._situation.others(draft)
        for owner in others.values():
            self._engine.wait_for(self._stream, owner)  # before it is asked: it may let go meanwhile
        return await asking("verify", self._moves.freed(others))

    async def _placed(self, failed: list[Verdict]) -> list[Verdict]:
        """Verdicts with the file and line where their objects are written, where that can be told."""
        row = self._memory.desired.get(self._source_stream())
        if not failed or row is None or row.tree is None or self._desired().pinned is not None:
            return failed
        return await placed(self._engine.renderer, row.tree, self._spec, failed)

    def _is_superseded(self) -> bool:
        """Whether a revision, or a spec, has come since the open run began."""
        standing, row = self._run.standing, self._memory.desired.get(self._source_stream())
        if standing.began_by != standing.declared:
            return True
        return row is not None and standing.attempted is not None and row.revision not in (None, standing.attempted)

    def _has_failed_for_good(self) -> bool:
        """Whether it was tried with the same inputs, which alone explain that it failed."""
        standing = self._run.standing
        if not standing.final or self._trigger.forced or standing.tried != self._declared.generation:
            return False
        row = self._memory.desired.get(self._source_stream())
        return row is not None and row.revision == standing.attempted

    def _source_stream(self) -> StreamName:
        return source_of(self._declared).stream(self._engine.cluster_alias)

    async def _unpin_for(self, source: Source) -> None:
        pin = self._desired().pinned
        if pin is not None and pin.left != source.revision:
            await self._run.record([Unpinned(why=f"revision {source.revision} is newer than the one that was left")])

    async def _pinned(self) -> RenderedSet | None:
        pin = self._desired().pinned
        return None if pin is None else await self._engine.renderings.at(self._stream, pin.position)

    def _prunes_when_deleted(self) -> bool:
        return self._desired().suspended is None and self._spec.prunes_when_deleted

    async def _gone(self) -> None:
        """Ends the pass while something that this run deleted is still there, where the policy says so (KS-096).

        It is looked at again in a while: a watch tells of objects that targets own, and this one owns it no more.
        """
        if self._spec.effective_deletion_policy != "WaitForTermination":
            return
        deleted = [
            (recorded.envelope.time, recorded.event)
            async for recorded in self._memory.log.read(Query(run=self._run.id, types=(ObjectPruned.__name__,)))
            if isinstance(recorded.event, ObjectPruned) and recorded.event.outcome == "deleted"
        ]
        there = [(time, event) for time, event in deleted if await self._is_there(event)]
        if not there:
            return
        last = max(time for time, _ in there)
        waited = self._engine.waits.seconds(self._stream, "termination", self._run.id, last)
        if waited < self._spec.effective_timeout.seconds:
            raise Stop(TERMINATION_LOOK_S)
        self._engine.notices.not_terminated(self._declared, [event.object for _, event in there])
