"""Whether a plan may be applied: what looks like an accident waits for somebody to approve it."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from tidelog.engine.apply.door import PLAN_VOID
from tidelog.engine.kinds.meta import labelled_maker
from tidelog.engine.plan.model import DESTRUCTIVE_MAX, Plan
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import plan_of
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.run import Run, Stop
from tidelog.engine.runtime.watching.declared import DeclaredTarget
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, PlanId, Revision, StreamName
from tidelog.events.projections import Approval
from tidelog.events.vocabulary import ApplyFailed, ObjectPruned, PlanApproved, PlanHeld, Planned, RunEnded
from tidelog.storage import Query

GOES_ON = "it goes on with "
"""How the approval of a plan begins that takes the place of another one, which was approved by somebody."""
PRUNED_LOOK_S = 0.5
"""How often it is looked whether a target that another one is about to prune was deleted by that."""


class Deletion(msgspec.Struct, frozen=True):
    """What is known of why a target is being deleted."""

    asked_for: bool = False
    """Whether somebody deleted it, or approved the plan that did."""
    allowed: frozenset[ObjectId] = frozenset()
    """What he knew would be lost with it."""


NOT_DELETED = Deletion()


class Cleared(msgspec.Struct, frozen=True):
    """That a plan may be applied."""

    at: Time
    """When it was found to need no approval, or to have one."""
    asked_for: bool
    """Whether somebody approved it, or deleted its target."""
    losses: Mapping[ObjectId, Sequence[ObjectId]]
    """What may be lost with what it deletes, as somebody approved."""


class Approvals:
    """The approvals of one target's plans, in one pass over it."""

    def __init__(self, engine: Engine, declared: DeclaredTarget, run: Run, situation: Situation) -> None:
        self._engine = engine
        self._declared = declared
        self._stream = declared.stream
        self._memory = engine.memory
        self._run = run
        self._situation = situation

    async def clear(self, plan: Plan, revision: Revision | None, deletion: Deletion = NOT_DELETED) -> Cleared:
        """A plan that looks like an accident waits for somebody to approve it.

        Raises:
            Stop: when it waits, or was rejected.
        """
        standing, asked_for, allowed = self._run.standing, deletion.asked_for, deletion.allowed
        waits = standing.held is not None and standing.held.plan == plan.id
        held = await self._situation.accident(plan, asked_for=asked_for, allowed=allowed)
        now = self._engine.now()
        approval = standing.approval
        if approval is not None and not waits and await self._goes_on_with(approval, plan, now):
            return Cleared(now, asked_for=True, losses=await self._losses_of(plan, allowed))
        if held is None and not waits:
            return Cleared(now, asked_for=asked_for, losses=await self._losses_of(plan, allowed))
        if approval is not None and approval.plan == plan.id:
            if approval.rejected:
                await self._run.record([RunEnded(outcome="rejected", generation=self._declared.generation)])
                self._engine.notices.stopped(self._declared, revision)
                raise Stop
            if approval.until is None or approval.until >= now:
                told = () if standing.held is None else standing.held.losses
                return Cleared(now, asked_for=True, losses=await self._losses_of(plan, {*allowed, *told}))
        if held is None:
            # What held it does no longer (the guard was told so, say): the next run makes a plan that nothing holds.
            await self._run.supersede(self._declared.generation)
            raise Stop(0.0)
        if not waits:
            why = f"plan {plan.id} is held by the check {held.check}: {held.why}. {self._ways_on(plan.id)}"
            losses = [lost for below in (await self._situation.losses(plan)).values() for lost in below]
            await self._run.record(
                [PlanHeld(plan=plan.id, check=held.check, why=why, losses=tuple(losses[:DESTRUCTIVE_MAX]))]
            )
            self._engine.notices.stopped(self._declared, revision)
        raise Stop

    async def _losses_of(self, plan: Plan, allowed: Collection[ObjectId]) -> dict[ObjectId, list[ObjectId]]:
        """What may be lost with what a plan deletes; another loss, which is new since then, is held when it comes."""
        losses = await self._situation.losses(plan) if allowed else {}
        return {id: [lost for lost in below if lost in allowed] for id, below in losses.items()}

    async def _goes_on_with(self, approval: Approval, plan: Plan, now: Time) -> bool:
        """Whether a plan does what was approved of another one, which was not finished; that is recorded as its own.

        What stopped the other (a server that did not answer, a run that ended because the target was resumed) says
        nothing about what was approved. The plan that is made now may do it, as long as it is of the same objects and
        deletes nothing else.
        """
        if approval.rejected or (approval.until is not None and approval.until < now):
            return False
        if approval.plan == plan.id:
            return self._run.standing.held is None and approval.why.startswith(GOES_ON)
        before = await self._unfinished(approval.plan)
        if before is None or (before.set, before.revision) != (plan.set, plan.revision):
            return False
        if not plan.losses <= before.losses:
            return False
        why = approval.why
        if not why.startswith(GOES_ON):
            why = f"{GOES_ON}{approval.plan}, approved by {approval.by}: {why}"
        await self._run.record([PlanApproved(plan=plan.id, why=why, until=approval.until)])
        return True

    async def _unfinished(self, id: PlanId) -> Plan | None:
        """A plan that did not come to its end, for another reason than that the cluster had moved."""
        planned = None
        types = (Planned.__name__, ApplyFailed.__name__)
        async for recorded in self._memory.log.read(Query(stream=self._stream, types=types)):
            match recorded.event:
                case Planned(plan=plan) if plan == id:
                    planned = recorded.event
                case ApplyFailed(plan=plan, reason=reason) if plan == id and reason == PLAN_VOID:
                    return None
        return await plan_of(self._memory.log, planned) if planned is not None else None

    def _ways_on(self, plan: PlanId) -> str:
        """What somebody can do about a plan that is held. Of what is being deleted, no commit takes that back."""
        approve = f'To go on: tidelog approve {plan} --why "…"'
        if not self._declared.deleting:
            return approve
        key = self._declared.key
        return (
            f"{approve}. The {key.kind} is being deleted, and no commit ends that. To let it go and keep its "
            f"objects (where Git still has it, it is made anew, and takes them back): "
            f'tidelog suspend {key.kind.lower()}/{key.name} -n {key.namespace} --why "…"'
        )

    async def deletion(self) -> Deletion:
        """Why the target is being deleted.

        The engine deletes a target when another, which made it, no longer wants it; that is what a wrong commit does.
        """
        named = labelled_maker(self._declared.live)
        if named is None:
            return Deletion(asked_for=True)
        maker = named.stream(self._engine.cluster_alias)
        id = self._declared.key.id
        # What it has in another cluster may have this name too, and is not this.
        is_here = self._engine.sites.known_of(maker) == self._engine.cluster_alias
        inventory = self._memory.inventory.get(maker) if is_here else None
        if inventory is not None and id in inventory.objects:
            return Deletion(asked_for=await self._is_still_wanted_by(maker))
        pruned = [
            recorded.event
            async for recorded in self._memory.log.read(Query(stream=maker, types=(ObjectPruned.__name__,)))
            if isinstance(recorded.event, ObjectPruned)
            and (recorded.event.object, recorded.event.uid) == (id, self._declared.uid)
            and recorded.event.outcome == "deleted"
        ]
        lost = frozenset(lost for event in pruned for lost in event.losses)
        return Deletion(asked_for=all(event.asked_for for event in pruned), allowed=lost)

    async def _is_still_wanted_by(self, maker: StreamName) -> bool:
        """Whether a target, in whose inventory this one is, did not delete it, and is not about to."""
        standing = self._memory.conditions.get(maker)
        if maker != self._stream and standing is not None and standing.applying is not None:
            raise Stop(PRUNED_LOOK_S)  # it may have: that is recorded after the deletion
        declared, row = self._engine.declared.target(maker), self._memory.desired.get(maker)
        pin = None if row is None else row.pinned
        renderings = self._engine.renderings
        rendered = await (renderings.last(maker) if pin is None else renderings.at(maker, pin.position))
        wants = rendered is not None and any(one.key == self._declared.key for one in rendered.wanted)
        if wants and declared is not None and (maker == self._stream or not declared.deleting):
            return True
        self._engine.wait_for(self._stream, maker)  # what it did and why, it may still have to record
        return False
