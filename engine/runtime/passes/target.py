"""The reconciliation of one target: the way of the data, top to bottom, each line one stage.

A pass is level-triggered: it reads how things stand, does what is missing, and stops where it has to wait. What
was done is memoised by the log, so that a pass that finds nothing to do appends nothing and asks nobody.
"""

from collections.abc import Collection, Sequence

import msgspec

from tidelog.engine.apply.door import PLAN_VOID, ApplyStopped, Door
from tidelog.engine.apply.record import ObjectRecorder
from tidelog.engine.cluster.errors import ClusterError, NotFoundError
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.later import UNSUPPORTED, features_left
from tidelog.engine.kinds.meta import FINALIZER
from tidelog.engine.observe.health import health_of
from tidelog.engine.plan.draft import Draft, Planner
from tidelog.engine.plan.model import Wanted, is_secret
from tidelog.engine.render.errors import RenderError
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import find_fetched
from tidelog.engine.runtime.passes.approvals import Approvals, Cleared
from tidelog.engine.runtime.passes.dependencies import check_dependencies
from tidelog.engine.runtime.passes.health import assess
from tidelog.engine.runtime.passes.moves import Heir, Moves
from tidelog.engine.runtime.passes.placing import placed
from tidelog.engine.runtime.passes.situation import MANAGER, Situation
from tidelog.engine.runtime.rendered import RenderedSet, inputs_digest, render_spec, sealed, would_be_the_same
from tidelog.engine.runtime.run import Removed, Run, StageError, Stop, asking, of_cluster
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.scope import in_its_place, is_out_of_place
from tidelog.engine.runtime.suspension import still_suspended
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.watching.declared import DeclaredTarget, made_with_secret, source_of
from tidelog.engine.secrecy.inherited import inherited
from tidelog.engine.secrecy.sealing import LostSecretError, Sealer
from tidelog.engine.verify.checks import OWNERSHIP, policies_digest, verdicts_of
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.names import MalformedNameError, ObjectId, ObjectKey, Revision, StreamName, object_stream
from tidelog.events.projections import Desired
from tidelog.events.vocabulary import (
    HealthChanged,
    ObjectPruned,
    Planned,
    RunEnded,
    TargetRemoved,
    Unpinned,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage import Query
from tidelog.storage.artifacts.errors import ObjectMissingError
from tidelog.storage.errors import ForgottenError

DEPENDS_ON = "tidelog.dev/depends-on"
"""Annotation: ids of objects of any kind (`apps/Deployment/shop/db`) that have to be healthy first, with commas."""
DEFINITION = "CustomResourceDefinition"
LOST_MAX = 3
"""How often what is lost is fetched again at once."""
RENDER_RETRY_S = 5.0
"""After a build that failed for no reason of its own; longer after each further one."""
TERMINATION_LOOK_S = 2.0
"""How often it is looked whether what was deleted is gone; Flux's figure."""

_ELSEWHERE = (
    "spec.kubeConfig: it is being deleted, and what it applied is in another cluster, which cannot be reached yet: "
    "have Flux delete it, or set spec.deletionPolicy to Orphan to leave that there"
)


class Source(msgspec.Struct, frozen=True):
    """The artifact that a target is rendered from."""

    stream: StreamName
    revision: Revision
    tree: str


async def reconcile_target(engine: Engine, stream: StreamName, trigger: Trigger) -> float | None:
    """Makes one pass over a target; returns in how many seconds the next is due, or None to wait for an event."""
    declared = engine.declared.target(stream)
    if declared is None:
        return None
    engine.wait_no_more(stream)
    run = TargetPass(engine, declared, trigger)
    try:
        return await run.reconcile()
    except Stop as stop:
        return stop.again_s
    except Removed:
        return None
    except ForgottenError:
        return 0.0  # a key was destroyed in the midst of the pass: the next has a new one
    except StageError as error:
        return await run.failed(error)
    except ObjectMissingError as error:
        return await run.failed(run.lost(error))
    finally:
        engine.activity.end(stream)
        engine.status.answered(stream, declared.requested_at)
        engine.status.mark(stream)


class TargetPass:
    """One pass over one target."""

    def __init__(self, engine: Engine, declared: DeclaredTarget, trigger: Trigger) -> None:
        self._engine = engine
        self._declared = declared
        self._spec: KustomizationSpec = declared.spec
        self._trigger = trigger
        self._stream = declared.stream
        self._memory = engine.memory
        self._situation = Situation(
            engine.memory, engine.cluster_alias, engine.settings, declared, rests=self._is_at_rest
        )
        self._run = Run(engine.memory, declared.stream, trigger)
        self._activity = engine.activity
        self._moves = Moves(engine.wishes, lambda: engine.declared.targets, engine.cluster, engine.settings, declared)
        self._left: dict[ObjectId, Heir] = {}
        """What is not wanted any more, and another target is about to want."""
        self._taken: frozenset[ObjectId] = frozenset()
        """Objects of other targets that may be taken over, because their owners do not want them any more."""
        self._revision: Revision | None = None
        self._sealer = Sealer()
        self._applied = False
        self._approvals = Approvals(engine, declared, self._run, self._situation)

    # The way of the data.

    async def reconcile(self) -> float | None:
        """The pass."""
        await self._inherit()
        if self._declared.deleting:
            return await self._finalize()
        self._engine.inputs.begin(self._stream)
        await self._own()
        source = await self._source()
        await self._dependencies(source)
        variables = await self._variables()
        rendered = await self._render(source, variables)
        draft = await self._plan(rendered)
        if draft is not None:
            await self._verify(draft)
            await self._apply(draft, await self._approvals.clear(draft.plan, self._revision))
        await self._healthy(rendered)
        return await self._end(source, rendered)

    async def _finalize(self) -> float | None:
        """Deletes what the target owns, as its deletion policy says, and lets go of it (KS-095)."""
        if FINALIZER not in self._declared.finalizers:
            return None
        if self._prunes_when_deleted() and self._spec.kube_config is not None:
            # Here, what has the names of what it applied there is another's.
            raise StageError("declare", UNSUPPORTED, _ELSEWHERE, final=True, stalled=True)
        if self._prunes_when_deleted() and await asking("apply", self._may_still_act()):
            draft = await self._plan(None)
            if draft is not None:
                await self._verify(draft)
                deletion = await self._approvals.deletion()
                await self._apply(draft, await self._approvals.clear(draft.plan, self._revision, deletion))
            await asking("apply", self._gone())
        await self._run.record(
            [TargetRemoved(uid=self._declared.uid, deletion_policy=self._spec.effective_deletion_policy)]
        )
        await asking("apply", self._engine.declared.release(self._declared))
        return None

    # The stages.

    async def _inherit(self) -> None:
        """What another target was given as secret may stand in the spec that it made of this one."""
        declared = self._declared
        # Since it was told of, its maker may have recorded that nothing secret is in it any more, or that something is.
        declared.secret = await made_with_secret(declared.live, self._engine.cluster_alias, self._memory)
        declared.handed = await self._engine.handing.to(declared)
        if declared.secret:
            self._run.secrets.add(inherited(declared.live.get("spec") or {}))

    async def _own(self) -> None:
        """Marks the target as ours, and ends the pass for what is not to be worked on."""
        if FINALIZER not in self._declared.finalizers and not self._declared.problems:
            await asking("declare", self._engine.declared.claim(self._declared))
        suspended = await still_suspended(self._engine, self._declared)
        if suspended is not None:
            raise Stop(suspended.again_s)
        left = (*self._declared.problems, *features_left(self._spec))
        if left:
            reason = "InvalidSpec" if self._declared.problems else UNSUPPORTED
            raise StageError("declare", reason, "; ".join(left), final=True, stalled=True)
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
        for id in self._declared.annotations.get(DEPENDS_ON, "").split(","):
            if id.strip():
                await asking("declare", self._other_kind(id.strip()))
        await check_dependencies(self._engine, self._declared, source.stream, source.revision)

    async def _other_kind(self, id: str) -> None:
        """An object of any kind, named by the annotation, is healthy; its watch wakes this target.

        No failure is final: an annotation is changed without a new generation.
        """
        try:
            key = ObjectKey.parse(id)
        except MalformedNameError as error:
            raise StageError("declare", "InvalidSpec", f"annotation {DEPENDS_ON}: {error}") from None
        if self._engine.settings.no_cross_namespace_refs and key.namespace not in ("", self._declared.key.namespace):
            raise StageError(
                "declare",
                "AccessDenied",
                f"can't access '{id}' of annotation {DEPENDS_ON}: cross-namespace references have been blocked",
            )
        kind = await self._engine.cluster.find_kind(key.group, key.kind)
        if kind is not None and kind.namespaced and not key.namespace:
            # It would be looked for in all namespaces.
            raise StageError("declare", "InvalidSpec", f"annotation {DEPENDS_ON}: '{id}' names no namespace")
        # By the target's own rights: who can have it applied may not learn from it what he may not see.
        identity = self._situation.subject.identity
        live = None if kind is None else await self._engine.inputs.get(self._stream, key, kind.api_version, identity)
        found = health_of(live)
        if found.health != "Current":
            quiet = is_secret(key, self._situation.actual(key.id), None)  # its controller may quote what stands in it
            said = f": {found.message}" if found.message and not quiet else ""
            raise StageError("declare", "DependencyNotReady", f"dependency '{id}' is {found.health}{said}")

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
            in_place = not await is_out_of_place((one.key for one in before.wanted), self._engine.cluster)
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
            rendering = await asking("render", in_its_place(rendering, self._engine.cluster))
        except RenderError as error:
            # What is not final lies in the surroundings (a limit, a process that died): they may be better soon.
            retry_s = None if error.final else RENDER_RETRY_S
            raise StageError("render", error.reason, str(error), final=error.final, retry_s=retry_s) from error
        self._sealer = await self._engine.sealer(key.id for key in rendering.secret)
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

    async def _plan(self, rendered: RenderedSet | None) -> Draft | None:
        """The plan that brings the cluster to the rendered set; None when the cluster is there."""
        wanted = () if rendered is None else rendered.wanted
        touched, stale = self._situation.touched(wanted), self._situation.stale(wanted)
        self._left = await self._left_to_others(stale)
        waiting = {id for id in self._left if self._situation.unclaimed(id)}
        if not touched and stale <= waiting and (not stale or self._has_applied(rendered)):
            return None
        self._activity.begin(self._stream, "detecting", self._revision or "")
        self._sealer = await self._engine.sealer(self._situation.secret(wanted, stale))
        loaded = await self._load(wanted, touched)
        for one in loaded:
            if one.secret and one.loaded is not None:
                self._run.secrets.add_secret(one.loaded)
                if rendered is not None and rendered.secret_values is None:
                    self._run.secrets.add_made(one.loaded)
        self._engine.observer.watch_all(loaded)
        standing = self._run.standing
        try:
            return await self._planner().draft(
                loaded,
                self._run.id,
                self._revision or standing.applied or Revision(""),
                rendered.digest if rendered is not None else self._engine.renderings.nothing,
            )
        except (ClusterError, TimeoutError) as error:
            raise await self._unanswered(error) from error

    async def _unanswered(self, error: ClusterError | TimeoutError) -> StageError:
        """What the server did not answer about an object, with the place where that is written."""
        object_id = error.object if isinstance(error, ClusterError) else None
        verdict = Verdict(check="dry-run", passed=False, object=object_id, message=str(error))
        (told,) = await self._placed([verdict])
        return of_cluster("plan", error, told.message)

    async def _left_to_others(self, stale: Collection[ObjectId]) -> dict[ObjectId, Heir]:
        """What would be pruned, and another target is about to want; what becomes of that one wakes this one."""
        if not stale or not self._situation.subject.prune:
            return {}
        left = await asking("plan", self._moves.heirs(stale))
        for id, heir in left.items():
            # Nothing is awaited between this look and that: what they apply from here on ends with news.
            if self._situation.unclaimed(id) and heir.target != self._stream:
                self._engine.leave_to(self._stream, heir.target)
        return left

    def _has_applied(self, rendered: RenderedSet | None) -> bool:
        """Whether the rendered set was applied as a whole, and it was told what was left to others."""
        return rendered is not None and self._run.standing.set == rendered.digest

    async def _claimed(self, ids: Collection[ObjectId]) -> str:
        """Who has come to want objects since it was planned to delete them."""
        heirs = await self._moves.heirs(ids)
        return "; ".join(f"{id} is {heir.why}" for id, heir in sorted(heirs.items()))

    async def _record_plan(self, draft: Draft) -> None:
        """Records a plan, once: a pass that goes on after a wait makes the same plan of the same state."""
        plan = draft.plan
        if self._run.standing.plan == plan.id:
            return
        waves = Body.of(encode(msgspec.to_builtins(plan)))
        event = Planned(
            plan=plan.id, revision=plan.revision, set=plan.set, waves=waves.ref, blast_radius=plan.blast_radius
        )
        await self._run.record([event], [waves])

    async def _load(self, wanted: Sequence[Wanted], touched: Sequence[Wanted]) -> list[Wanted]:
        try:
            return await self._engine.renderings.load(wanted, touched, self._sealer)
        except LostSecretError as error:
            if self._desired().pinned is not None:
                raise StageError(
                    "render", "BuildFailed", f"{error}: the moment that it is pinned to cannot come back; unpin it"
                ) from None
            self._engine.renderings.lose(self._stream)
            raise Stop(0.0) from None

    async def _verify(self, draft: Draft) -> None:
        """Every check of the plan passes; else nothing of it is applied."""
        self._taken = await self._freed(draft)
        checks, failed = await asking(
            "verify",
            verdicts_of(
                draft,
                self._engine.cluster,
                lambda id: None if id in self._taken else self._situation.owner_of(id),
                self._stream,
            ),
        )
        self._wait_for_owners(failed)
        failed = await self._placed(failed)
        policies = policies_digest(self._engine.settings.prune_guard)
        if failed and self._fails_as_before(draft, failed):
            raise StageError("verify", "ReconciliationFailed", self._run.standing.message)
        await self._record_plan(draft)
        if failed:
            event = VerificationFailed(plan=draft.plan.id, policies=policies, failed=tuple(failed))
            await self._run.record([event])
            self._engine.notices.stopped(self._declared, self._revision)
            raise Stop(self._spec.effective_retry_interval.seconds)
        if self._run.standing.verified != draft.plan.id:
            await self._run.record([Verified(plan=draft.plan.id, policies=policies, checks=checks)])

    async def _freed(self, draft: Draft) -> frozenset[ObjectId]:
        """The objects of other targets that may be taken over, because their owners do not want them any more."""
        others = self._situation.others(draft)
        for owner in others.values():
            self._engine.wait_for(self._stream, owner)  # before it is asked: it may let go meanwhile
        return await self._moves.freed(others)

    def _wait_for_owners(self, failed: Sequence[Verdict]) -> None:
        """Who has an object that this target wants wakes it when a run of theirs ends well: it may have let go."""
        for verdict in failed:
            if verdict.check == OWNERSHIP and verdict.object is not None:
                owner = self._situation.owner_of(verdict.object)
                if owner is None or owner == self._stream:
                    raise Stop(0.0)  # it has let go meanwhile
                self._engine.wait_for(self._stream, owner)

    async def _placed(self, failed: list[Verdict]) -> list[Verdict]:
        """Verdicts with the file and line where their objects are written, where that can be told."""
        row = self._memory.desired.get(self._source_stream())
        if not failed or row is None or row.tree is None or self._desired().pinned is not None:
            return failed
        return await placed(self._engine.renderer, row.tree, self._spec, failed)

    def _fails_as_before(self, draft: Draft, failed: Sequence[Verdict]) -> bool:
        """Whether the last plan was of the same set, and failed in the same words: that needs no second telling."""
        standing = self._run.standing
        said = self._run.said_of(failed)
        return standing.ready == "False" and standing.message == said and standing.rendered == draft.plan.set

    async def _apply(self, draft: Draft, cleared: Cleared) -> None:
        """Applies the plan, wave by wave."""
        self._activity.begin(self._stream, "detecting", self._revision or "")
        recorder = ObjectRecorder(
            draft.plan.id,
            MANAGER,
            self._sealer,
            self._situation.entry,
            self._run.record,
            policies_digest(self._engine.settings.prune_guard),
            lambda id: id not in self._taken and self._situation.is_anothers(id),
        )
        door = Door(
            self._engine.cluster,
            self._situation.subject,
            self._planner(),
            recorder,
            self._run.record,
            self._engine.observer.writing,
            self._placed,
            self._claimed,
        )
        again = self._run.standing.reason == PLAN_VOID
        # No outcome may come to be known of some of these: the daemon may be killed, an answer may be lost.
        self._declared.begun |= draft.plan.writes
        try:
            try:
                await door.apply(
                    draft, self._run.standing, cleared.at, asked_for=cleared.asked_for, losses=cleared.losses
                )
            finally:
                if any(ObjectKey.parse(step.object).kind == DEFINITION for step in draft.plan.steps if step.writes):
                    self._engine.observer.kinds_changed()
        except ApplyStopped as stopped:
            self._engine.notices.changed(self._declared, self._revision, door.changed)
            if again or not stopped.void:
                self._engine.notices.stopped(self._declared, self._revision)
            raise Stop(self._again_after(stopped, again=again)) from stopped
        self._applied = True
        self._engine.notices.changed(self._declared, self._revision, door.changed)

    async def _healthy(self, rendered: RenderedSet) -> None:
        """What the spec asks to be healthy is; else the pass ends, and an event or the deadline begins the next."""
        standing = self._run.standing
        checked = await asking(
            "observe", assess(self._engine, self._declared, rendered, self._situation.subject.identity)
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
        # What is left to others stays in the inventory until they have it.
        kept = {
            id: version
            for id, version in self._declared.found.items()
            if id in self._left and self._situation.unclaimed(id)
        }
        self._declared.found.clear()
        self._declared.found.update(kept)
        self._declared.begun.clear()
        self._engine.inputs.settle(self._stream)
        return self._next(rendered)

    # What the stages need to know.

    def _is_at_rest(self, id: ObjectId) -> bool:
        """Whether a Job was done and taken away, and is not to be made again: who asks for a run asks for that too."""
        stream = object_stream(self._engine.cluster_alias, id)
        return not self._trigger.forced and self._engine.observer.rests(self._stream, stream) is not None

    def _next(self, rendered: RenderedSet) -> float | None:
        """When there is something to do that no event tells of: a base from elsewhere, a Job that is done."""
        due = [
            left
            for one in rendered.wanted
            if (left := self._engine.observer.rests(self._stream, one.key.stream(self._engine.cluster_alias)))
        ]
        if rendered.remote_bases:
            due.append(self._engine.jittered(self._spec.interval.seconds))
        return min(due, default=None)

    def lost(self, error: ObjectMissingError) -> StageError:
        """Something of the source is not in the artifact store: has it fetched again (SC-014)."""
        source = self._source_stream()
        self._engine.lost.add(source)
        if self._run.standing.failures >= LOST_MAX:
            return StageError("fetch", "ArtifactFailed", str(error))
        self._engine.wake(source, Trigger(why="something of it is lost"))
        return StageError("fetch", "ArtifactFailed", f"{error}: its source is fetched again", waits_for=source)

    async def failed(self, error: StageError) -> float | None:
        """Records a failure; returns when to try again."""
        if error.waits_for is not None:
            # Before anything is awaited: the good news may come while the failure is recorded.
            self._engine.wait_for(self._stream, error.waits_for)
        await self._run.fail(error, self._declared.generation, self._revision)
        self._engine.notices.failed(self._declared, self._revision, error)
        if error.waits_for is not None:
            return None
        if error.final:
            return None
        return self._retry_in(error)

    def _again_after(self, stopped: ApplyStopped, *, again: bool) -> float:
        """When to go on after an apply that stopped: soon, where only the surroundings were in its way.

        Args:
            stopped: the apply.
            again: whether the plan before it came to be void too: one after the other, nothing is tried at once.
        """
        if stopped.void:
            retry = self._spec.effective_retry_interval.seconds
            return self._engine.retry_in(retry, self._run.standing.failures) if again else 0.0
        cause = stopped.__cause__
        return self._retry_in(of_cluster("apply", cause) if isinstance(cause, ClusterError) else None)

    def _retry_in(self, error: StageError | None) -> float:
        """Seconds until the next try: the retry interval, or sooner where that is known to make sense."""
        retry = self._spec.effective_retry_interval.seconds
        if error is None or error.retry_s is None:
            return retry
        return self._engine.retry_in(retry, self._run.standing.failures, error.retry_s, error.asked_s)

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

    async def _may_still_act(self) -> bool:
        """Whether the ServiceAccount to act as is still there; without it, what it applied is left there (KS-097)."""
        identity = self._situation.subject.identity
        if identity is None:
            return True
        name = identity.user.rpartition(":")[2]
        kind = await self._engine.cluster.kind("v1", "ServiceAccount")
        try:
            await self._engine.cluster.get(kind, self._declared.key.namespace, name)
        except NotFoundError:
            self._engine.notices.left_behind(self._declared, name, sorted(self._situation.inventory.objects))
            return False
        return True

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

    async def _is_there(self, event: ObjectPruned) -> bool:
        key = ObjectKey.parse(event.object)
        kind = await self._engine.cluster.find_kind(key.group, key.kind)
        if kind is None:
            return False
        try:
            live = await self._engine.cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return False
        return bool(live["metadata"]["uid"] == event.uid)

    def _planner(self) -> Planner:
        left = {id: heir.why for id, heir in self._left.items()}
        return self._situation.planner(self._engine.cluster, self._sealer, self._engine.observer.seen, left)

    def _desired(self) -> Desired:
        return self._situation.desired
