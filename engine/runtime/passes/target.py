"""A pass over a target: what all kinds of targets have in common.

A pass is level-triggered: it reads how things stand, does what is missing, and stops where it has to wait. What
was done is memoised by the log, so that a pass that finds nothing to do appends nothing and asks nobody.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from tidelog.engine.apply.door import PLAN_VOID, ApplyStopped, Door
from tidelog.engine.apply.record import ObjectRecorder
from tidelog.engine.cluster.errors import PASSING, ClusterError, NotFoundError, failure_of
from tidelog.engine.cluster.remote import IdentityGateError, UnsupportedKubeconfigError
from tidelog.engine.kinds.later import UNSUPPORTED, features_left
from tidelog.engine.kinds.meta import (
    DEPENDS_ON,
    FINALIZER,
    OWNER_NAME,
    OWNER_NAMESPACE,
    RELEASE_OWNER_NAME,
    RELEASE_OWNER_NAMESPACE,
)
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.health import health_of
from tidelog.engine.plan.draft import DRY_RUN, Draft, Planner
from tidelog.engine.plan.model import Wanted, is_secret
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.approvals import NOT_DELETED, Approvals, Cleared, Deletion
from tidelog.engine.runtime.passes.custom_health import check_expressions
from tidelog.engine.runtime.passes.dependencies import named_in
from tidelog.engine.runtime.passes.lost import fetched_again
from tidelog.engine.runtime.passes.moves import Heir
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.rendered import RenderedSet
from tidelog.engine.runtime.run import Refused, Run, StageError, Stop, asking, of_cluster
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.sites import Site
from tidelog.engine.runtime.suspension import still_suspended
from tidelog.engine.runtime.watching.declarations import made_with_secret
from tidelog.engine.runtime.watching.declared import DeclaredTarget
from tidelog.engine.secrecy.inherited import inherited
from tidelog.engine.secrecy.sealing import LostSecretError, Sealer
from tidelog.engine.verify.checks import OWNERSHIP, policies_digest, verdicts_of
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.names import MalformedNameError, ObjectId, ObjectKey, Revision, StreamName, object_stream
from tidelog.events.projections import Desired
from tidelog.events.vocabulary import (
    Event,
    ObjectAbandoned,
    ObjectPruned,
    Planned,
    TargetMoved,
    TargetRemoved,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage import Query
from tidelog.storage.artifacts.errors import ObjectMissingError

DEFINITION = "CustomResourceDefinition"
_NOT_AS_IT_IS: Mapping[type[ClusterError], str] = {
    UnsupportedKubeconfigError: UNSUPPORTED,
    IdentityGateError: "FeatureGateDisabled",
}
"""Why a cluster is not reached before what is declared, or how the engine is started, is another."""


_OWNERS: Final = (OWNER_NAME, OWNER_NAMESPACE, RELEASE_OWNER_NAME, RELEASE_OWNER_NAMESPACE)
"""Labels on every object."""


class ApplyEnded(Stop):
    """Raised when an apply ended before its end, and that is recorded."""

    def __init__(self, stopped: ApplyStopped, again_s: float) -> None:
        super().__init__(again_s)
        self.stopped = stopped


class TargetPass(ABC):
    """One pass over one target: the stages that are the same for all."""

    def __init__(self, engine: Engine, declared: DeclaredTarget, trigger: Trigger) -> None:
        self._engine = engine
        self._declared = declared
        self._trigger = trigger
        self._stream = declared.stream
        self._memory = engine.memory
        self._alias = engine.sites.known_of(declared.stream)
        """Of the cluster that the target's objects are in; until it is found to be another, which ends the pass."""
        self._reached: Site | None = None
        self._situation = Situation(engine.memory, self._alias, engine.settings, declared, rests=self._is_at_rest)
        self._run = Run(engine.memory, declared.stream, trigger)
        self._run.secrets.tell({*_OWNERS, declared.key.name, declared.key.namespace})
        self._activity = engine.activity
        self._left: Mapping[ObjectId, Heir] = {}
        """What is not wanted any more, and another target is about to want."""
        self._taken: frozenset[ObjectId] = frozenset()
        """Objects of other targets that may be taken over, because their owners do not want them any more."""
        self._revision: Revision | None = None
        self._sealer = Sealer()
        self._applied = False
        self._approvals = Approvals(engine, declared, self._run, self._situation)

    @abstractmethod
    async def reconcile(self) -> float | None:
        """The pass; returns in how many seconds the next is due, or None to wait for an event."""

    @property
    @abstractmethod
    def _retry_s(self) -> float:
        """Seconds until what failed is tried again, where nothing better is known."""

    @property
    def _unreached_as(self) -> str:
        """What Ready says, in one word, where the cluster cannot be reached that the target is applied to."""
        return "ReconciliationFailed"

    @property
    def _refused_as(self) -> tuple[str, str]:
        """What Ready says when a plan is refused, in one word and in words; empty where that is as for all."""
        return "", ""

    @abstractmethod
    def _source_stream(self) -> StreamName:
        """The source that it is rendered from."""

    # The cluster that it is applied to.

    async def _reach(self) -> None:
        """The cluster that the target is applied to can be asked.

        Raises:
            StageError: when it cannot.
            Stop: when it is another than before: the next pass is about that one.
        """
        try:
            site = await asking("declare", self._engine.sites.of(self._declared, self._run.secrets), self._unreached_as)
        except StageError as error:
            raise _not_as_it_is(error) from error.__cause__
        if site.alias != self._alias:
            await self._move_to(site.alias)
            raise Stop(0.0)
        self._reached = site
        if site is not self._engine.sites.home:
            site.inputs.begin(self._stream)

    @property
    def _site(self) -> Site:
        """The cluster that the target is applied to, once it is reached."""
        if self._reached is None:
            raise RuntimeError(f"{self._declared.key.shown} asks a cluster that was not reached")
        return self._reached

    async def _move_to(self, alias: str) -> None:
        """Takes note that the target is applied to another cluster; what it applied so far stays where it is.

        Nobody can be sure to get there any more: it may be that its kubeconfig is gone.
        """
        left = [
            ObjectAbandoned(object=id, uid=entry.uid, cluster=self._alias)
            for id, entry in sorted(self._situation.inventory.objects.items())
        ]
        await self._run.record([*left, *self._ends_with_the_cluster(), TargetMoved(cluster=alias)])
        if left or self._declared.begun:
            self._declared.found.clear()  # else it is what another engine applied there
        self._declared.begun.clear()

    def _ends_with_the_cluster(self) -> list[Event]:
        """What is over because the target is applied to another cluster."""
        return []

    # What a kind of target may know of objects that come from others, or go to them.

    async def _left_to_others(self, stale: Collection[ObjectId]) -> Mapping[ObjectId, Heir]:  # noqa: ARG002
        """What would be pruned, and another target is about to want."""
        return {}

    async def _freed(self, draft: Draft) -> frozenset[ObjectId]:  # noqa: ARG002
        """The objects of other targets that may be taken over, because their owners do not want them any more."""
        return frozenset()

    async def _claimed(self, ids: Collection[ObjectId]) -> str:  # noqa: ARG002
        """Who has come to want objects since it was planned to delete them; empty for nobody."""
        return ""

    async def _placed(self, failed: list[Verdict]) -> list[Verdict]:
        """Verdicts with the file and line where their objects are written, where that can be told."""
        return failed

    def _has_applied(self, rendered: RenderedSet | None) -> bool:
        """Whether the rendered set was applied as a whole, and it was told what was left to others."""
        return rendered is not None and self._run.standing.set == rendered.digest

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
        if not self._declared.problems:
            await check_expressions(self._engine, self._declared.spec.health_check_exprs)
        left = (*self._declared.problems, *features_left(self._declared.spec))
        if left:
            reason = "InvalidSpec" if self._declared.problems else UNSUPPORTED
            raise StageError("declare", reason, "; ".join(left), final=True, stalled=True)

    async def _cleared(self, draft: Draft, deletion: Deletion = NOT_DELETED) -> Cleared:
        """What lets a plan be applied that does not belong to something under way.

        Raises:
            Stop: when it waits, or was rejected, or the target was suspended meanwhile.
        """
        cleared = await self._approvals.clear(draft.plan, self._revision, deletion)
        self._not_suspended_meanwhile()
        return cleared

    def _not_suspended_meanwhile(self) -> None:
        """Ends the pass where somebody suspended the target while it planned: what comes after that applies nothing."""
        if self._desired().suspended is not None:
            raise Stop(0.0)

    async def _is_let_go_of(self) -> bool:
        """Whether all is done for its deletion, but that its finalizer may stand there: then it is taken away."""
        if FINALIZER not in self._declared.finalizers:
            return True
        if not await self._was_removed():
            return False
        await asking("apply", self._engine.declared.release(self._declared))
        return True

    async def _was_removed(self) -> bool:
        """Whether its end was recorded: a watch may tell of it once more before its finalizer is gone."""
        last = await self._memory.log.last(Query(stream=self._stream, types=(TargetRemoved.__name__,)))
        return last is not None and isinstance(last.event, TargetRemoved) and last.event.uid == self._declared.uid

    async def _dependencies_of_other_kinds(self) -> None:
        """Objects of any kind that the target's annotation names are healthy."""
        for id in named_in(self._declared.annotations):
            await asking("declare", self._other_kind(id))

    async def _other_kind(self, id: str) -> None:
        """An object of any kind, named by the annotation, is healthy; its watch wakes this target.

        No failure is final: an annotation is changed without a new generation.
        """
        try:
            key = ObjectKey.parse(id)
        except MalformedNameError as error:
            raise StageError("declare", "InvalidSpec", f"annotation {DEPENDS_ON}: {error}") from None
        if not self._may_name(key):
            raise StageError(
                "declare",
                "AccessDenied",
                f"can't access '{id}' of annotation {DEPENDS_ON}: cross-namespace references have been blocked",
            )
        kind = await self._engine.cluster.find_kind(key.group, key.kind)
        if kind is not None and kind.namespaced and not key.namespace:
            raise StageError("declare", "InvalidSpec", f"annotation {DEPENDS_ON}: '{id}' names no namespace")
        found = health_of(await self._named(key))
        if found.health != "Current":
            quiet = is_secret(key, self._situation.actual(key.id), None)  # its controller may quote what stands in it
            said = f": {found.message}" if found.message and not quiet else ""
            raise StageError("declare", "DependencyNotReady", f"dependency '{id}' is {found.health}{said}")

    async def _named(self, key: ObjectKey) -> KubeObject | None:
        """An object that the target's annotation names, as it now is; from now on its changes wake the target.

        By the target's own rights: who can have it applied may not learn from it what he may not see. None where there
        is no such object, or it may not be named.
        """
        kind = await self._engine.cluster.find_kind(key.group, key.kind)
        is_placed = kind is not None and (not kind.namespaced or key.namespace)  # else all namespaces would be watched
        if kind is None or not is_placed or not self._may_name(key):
            return None
        return await self._engine.inputs.get(self._stream, key, kind.api_version, self._situation.subject.identity)

    def _may_name(self, key: ObjectKey) -> bool:
        blocked = self._engine.settings.no_cross_namespace_refs
        return not blocked or key.namespace in ("", self._declared.key.namespace)

    async def _plan(
        self, rendered: RenderedSet | None, touched: list[Wanted] | None = None, *, prunes: bool = True
    ) -> Draft | None:
        """The plan that brings the cluster to the rendered set; None when the cluster is there.

        Args:
            rendered: what is wanted; None for nothing.
            touched: what of it is to be looked at; all that is not as it should be, where it is not given.
            prunes: whether what is not wanted is deleted.
        """
        wanted = () if rendered is None else rendered.wanted
        touched = self._situation.touched(wanted) if touched is None else touched
        stale = self._situation.stale(wanted) if prunes else set()
        self._left = await self._left_to_others(stale)
        waiting = {id for id in self._left if self._situation.unclaimed(id)}
        if not touched and stale <= waiting and (not stale or self._has_applied(rendered)):
            return None
        self._activity.begin(self._stream, "detecting", self._revision or "")
        self._sealer = await self._engine.sealer(self._situation.secret(wanted, stale), self._alias)
        loaded = await self._load(wanted, touched)
        for one in loaded:
            if one.secret and one.loaded is not None:
                self._run.secrets.add_secret(one.loaded)
                if rendered is not None and rendered.secret_values is None:
                    self._run.secrets.add_made(one.loaded)
        self._site.observer.watch_all(loaded, self._stream)
        standing = self._run.standing
        try:
            return await self._planner().draft(
                loaded,
                self._run.id,
                self._revision or standing.applied or Revision(""),
                rendered.digest if rendered is not None else self._engine.renderings.nothing,
                prunes=prunes,
            )
        except (ClusterError, TimeoutError) as error:
            raise await self._unanswered(error) from error

    async def _unanswered(self, error: ClusterError | TimeoutError) -> StageError:
        """What the server did not answer about an object, with the place where that is written."""
        object_id = error.object if isinstance(error, ClusterError) else None
        message = str(error) if object_id is None else failure_of(ObjectKey.parse(object_id), DRY_RUN, error)
        verdict = Verdict(check=DRY_RUN, passed=False, object=object_id, message=message)
        (told,) = await self._placed([verdict])
        return of_cluster("plan", error, told.message)

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
                self._site.cluster,
                lambda id: None if id in self._taken else self._situation.owner_of(id),
                self._stream,
            ),
        )
        self._wait_for_owners(failed)
        failed = await self._placed(failed)
        policies = policies_digest(self._engine.settings.prune_guard)
        reason, about = self._refused_as
        if failed and self._fails_as_before(draft, failed, about):
            raise StageError("verify", reason or "ReconciliationFailed", self._run.standing.message)
        await self._record_plan(draft)
        if failed:
            event = VerificationFailed(
                plan=draft.plan.id, policies=policies, failed=tuple(failed), reason=reason, about=about
            )
            await self._run.record([event])
            self._engine.notices.stopped(self._declared, self._revision)
            raise Refused(self._run.said_of(failed), self._retry_s)
        if self._run.standing.verified != draft.plan.id:
            await self._run.record([Verified(plan=draft.plan.id, policies=policies, checks=checks)])

    def _wait_for_owners(self, failed: Sequence[Verdict]) -> None:
        """Who has an object that this target wants wakes it when a run of theirs ends well: it may have let go."""
        for verdict in failed:
            if verdict.check == OWNERSHIP and verdict.object is not None:
                owner = self._situation.owner_of(verdict.object)
                if owner is None or owner == self._stream:
                    raise Stop(0.0)  # it has let go meanwhile
                self._engine.wait_for(self._stream, owner)

    def _fails_as_before(self, draft: Draft, failed: Sequence[Verdict], about: str) -> bool:
        """Whether the last plan was of the same set, and failed in the same words: that needs no second telling."""
        standing = self._run.standing
        said = self._run.said_of(failed)
        said = f"{about}: {said}" if about else said
        return standing.ready == "False" and standing.message == said and standing.rendered == draft.plan.set

    async def _apply(self, draft: Draft, cleared: Cleared) -> None:
        """Applies the plan, wave by wave."""
        self._activity.begin(self._stream, "detecting", self._revision or "")
        recorder = ObjectRecorder(
            draft.plan.id,
            self._situation.subject.manager,
            self._sealer,
            self._situation.entry,
            self._run.record,
            policies_digest(self._engine.settings.prune_guard),
            lambda id: id not in self._taken and self._situation.is_anothers(id),
            "" if self._alias == self._engine.cluster_alias else self._alias,
        )
        door = Door(
            self._site.cluster,
            self._situation.subject,
            self._planner(),
            recorder,
            self._run.record,
            self._site.observer.writing,
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
                    self._site.observer.kinds_changed()
        except ApplyStopped as stopped:
            self._engine.notices.changed(self._declared, self._revision, door.changed)
            if again or not stopped.void:
                self._engine.notices.stopped(self._declared, self._revision)
            raise ApplyEnded(stopped, self._again_after(stopped, again=again)) from stopped
        self._applied = True
        self._engine.notices.changed(self._declared, self._revision, door.changed)

    def _settle(self) -> None:
        """The pass has come to its end: what was found, begun and asked for before it counts no more."""
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
        if self._site is not self._engine.sites.home:
            self._site.inputs.settle(self._stream)

    async def failed(self, error: StageError) -> float | None:
        """Records a failure; returns when to try again."""
        if error.waits_for is not None:
            # Before anything is awaited: the good news may come while the failure is recorded.
            self._engine.wait_for(self._stream, error.waits_for)
        await self._run.fail(error, self._declared.generation, self._revision, self._engine.repeats)
        self._engine.notices.failed(self._declared, self._revision, error)
        if error.waits_for is not None:
            return None
        if error.final:
            return None
        return self._retry_in(error)

    def lost(self, error: ObjectMissingError) -> StageError:
        """Something of the source is not in the artifact store: has it fetched again (SC-014)."""
        return fetched_again(self._engine, self._source_stream(), str(error), "ArtifactFailed", self._tries())

    def _again_after(self, stopped: ApplyStopped, *, again: bool) -> float:
        """When to go on after an apply that stopped: soon, where only the surroundings were in its way, and seldom.

        Args:
            stopped: the apply.
            again: whether the plan before it came to be void too: one after the other, nothing is tried at once.
        """
        cause = stopped.__cause__
        if stopped.void and not again:
            return 0.0
        if stopped.void:
            usual = self._engine.retry_in(self._retry_s, self._tries())
        else:
            usual = self._retry_in(of_cluster("apply", cause) if isinstance(cause, ClusterError) else None)
        passing = stopped.void or isinstance(cause, PASSING)
        return self._engine.spaced(usual, self._run.standing.failed_applies, passing=passing)

    def _retry_in(self, error: StageError | None) -> float:
        """Seconds until the next try: the retry interval, or sooner where that is known to make sense."""
        retry = self._retry_s
        if error is None or error.retry_s is None:
            return retry
        return self._engine.retry_in(retry, self._tries(), error.retry_s, error.asked_s)

    def _tries(self) -> int:
        """How many passes failed, one after the other."""
        return self._engine.repeats.tries(self._stream, self._run.standing)

    async def _may_still_act(self) -> bool:
        """Whether the ServiceAccount to act as is still there; without it, what it applied is left there (KS-097)."""
        identity = self._situation.subject.identity
        if identity is None:
            return True
        name = identity.user.rpartition(":")[2]
        kind = await self._site.cluster.kind("v1", "ServiceAccount")
        try:
            await self._site.cluster.get(kind, self._declared.key.namespace, name)
        except NotFoundError:
            self._engine.notices.left_behind(self._declared, name, sorted(self._situation.inventory.objects))
            return False
        return True

    def _planner(self) -> Planner:
        left = {id: heir.why for id, heir in self._left.items()}
        return self._situation.planner(self._site.cluster, self._sealer, self._site.observer.seen, left)

    def _desired(self) -> Desired:
        return self._situation.desired

    def _is_at_rest(self, id: ObjectId) -> bool:
        """Whether a Job was done and taken away, and is not to be made again: who asks for a run asks for that too."""
        stream = object_stream(self._alias, id)
        return not self._trigger.forced and self._site.observer.rests(self._stream, stream) is not None

    async def _is_there(self, event: ObjectPruned) -> bool:
        """Whether what was deleted is still there, by its uid."""
        key = ObjectKey.parse(event.object)
        kind = await self._site.cluster.find_kind(key.group, key.kind)
        if kind is None:
            return False
        try:
            live = await self._site.cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return False
        return bool(live["metadata"]["uid"] == event.uid)


def _not_as_it_is(error: StageError) -> StageError:
    """The error, as a stall where trying again can make nothing better. It is no final one: a ConfigMap may change."""
    for cause, reason in _NOT_AS_IT_IS.items():
        if isinstance(error.__cause__, cause):
            return StageError(error.stage, reason, str(error), stalled=True)
    return error
