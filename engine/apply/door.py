"""The one door: nothing changes a cluster on a target's behalf but what is here, by a plan that was verified.

The intent is in the log before the first write, and the outcome of each object after its own. A write is
made against the uid and the version that the plan saw; where the state has moved, the plan is void, and the
next pass makes another. Nothing here is retried: a pass that ends is followed by one that plans anew, and finds
what was applied unchanged.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import anyio

from tidelog.engine.apply.record import Did, ObjectRecorder
from tidelog.engine.cluster.errors import ClusterError, ConflictError, NotFoundError, UnknownKindError, failure_of
from tidelog.engine.cluster.port import Cluster, Preconditions
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.managed_fields import take_over_patch
from tidelog.engine.objects.order import is_awaited
from tidelog.engine.observe.health import health_of
from tidelog.engine.plan.draft import DRY_RUN, Draft, Planner, Subject
from tidelog.engine.plan.model import DESTRUCTIVE_MAX, Plan, Step, Wanted, is_destructive
from tidelog.events.digest import KEYED
from tidelog.events.moment import Time, shown_time
from tidelog.events.names import ObjectId, ObjectKey
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    ObjectPruned,
    Verdict,
    VerificationFailed,
    Verified,
)

ESTABLISHED_TIMEOUT_S = 60
"""How long a wave may take to be ready for the next (Flux contract KS-071)."""
ESTABLISHED_PAUSE_S = (0.05, 1.0)
VERSION_CONFLICTS_MAX = 3
"""How often a write is tried again where another writer (of the status, say) was quicker."""
CHANGED_SHOWN_MAX = 20
NO_LOSSES: Mapping[ObjectId, Sequence[ObjectId]] = {}
PLAN_VOID = "PlanVoid"
"""The reason of an apply that stopped because the cluster was no longer as its plan saw it."""

Record = Callable[..., Awaitable[object]]
Placed = Callable[[list[Verdict]], Awaitable[list[Verdict]]]
"""Says of verdicts in which file and line their objects are written."""
Claimed = Callable[[Collection[ObjectId]], Awaitable[str]]
"""Says of objects that are about to be deleted who has come to want one meanwhile; nothing where nobody has."""


async def _as_they_are(verdicts: list[Verdict]) -> list[Verdict]:
    return verdicts


async def _by_nobody(_: Collection[ObjectId]) -> str:
    return ""


class NotVerifiedError(RuntimeError):
    """Raised when a plan comes to the door that the log does not let through: a defect of the engine."""


class PlanVoid(Exception):
    """Raised when the cluster is no longer as the plan saw it."""


class ApplyStopped(Exception):
    """Raised when an apply ended before its end; its event is in the log."""

    def __init__(self, event: ApplyFailed, *, void: bool) -> None:
        super().__init__(event.message)
        self.event = event
        self.void = void
        """Whether only the plan was out of date, so that another can be made at once."""


class Door:
    """Applies plans of one target."""

    def __init__(
        self,
        cluster: Cluster,
        subject: Subject,
        planner: Planner,
        recorder: ObjectRecorder,
        record: Record,
        writing: Callable[[ObjectId], AbstractContextManager[None]],
        placed: Placed = _as_they_are,
        claimed: Claimed = _by_nobody,
    ) -> None:
        self._cluster = cluster
        self._subject = subject
        self._planner = planner
        self._recorder = recorder
        self._record = record
        self._writing = writing
        self._placed = placed
        self._claimed = claimed
        self._changed: list[str] = []
        self._left: list[str] = []

    async def apply(
        self,
        draft: Draft,
        standing: Standing,
        now: Time,
        *,
        asked_for: bool = False,
        losses: Mapping[ObjectId, Sequence[ObjectId]] = NO_LOSSES,
    ) -> ApplyFinished:
        """Applies a plan, wave by wave, and prunes.

        Args:
            draft: the plan.
            standing: how its target stands.
            now: when it was let through.
            asked_for: whether somebody approved it, or deleted its target; recorded of what is pruned.
            losses: what may be lost with each of what is pruned, as somebody approved; recorded of that too.

        Raises:
            NotVerifiedError: when the log has no verification, or no approval, that lets it through.
            ApplyStopped: when it ended before its end; what was applied stays.
        """
        plan = draft.plan
        check_verified(plan, standing, now)
        terms = self._subject.terms
        await self._record(
            [ApplyStarted(plan=plan.id, waves=len(plan.waves), identity=terms.identity, overridden=terms.overridden)]
        )
        wave = 0
        step: Step | None = None
        try:
            for wave, planned in enumerate(plan.waves):
                steps = await self._verified_wave(draft, wave, planned)
                for step in steps:
                    await self._take(step, wave, draft)
                step = None
                if wave + 1 < len(plan.waves):
                    await self._established(steps)
            await self._still_unwanted(plan)
            for step in plan.prunes:
                await self._prune(plan, step, asked_for=asked_for, losses=losses.get(step.object, ()))
        except (ClusterError, PlanVoid, TimeoutError) as error:
            raise await self._stopped(plan, wave, step, error) from error
        finished = self._finished(plan)
        await self._record([finished])
        return finished

    async def _verified_wave(self, draft: Draft, wave: int, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """The steps of a wave; of one that could not be asked about before, as the server now answers."""
        if draft.probed is None or wave <= draft.probed or not any(step.writes for step in steps):
            return steps
        refused = len(draft.refused)
        probed = await self._planner.probe([draft.wanted[step.object] for step in steps], draft)
        failed = tuple(await self._placed(draft.refused[refused:]))
        if failed:
            await self._record(
                [VerificationFailed(plan=draft.plan.id, policies=self._recorder.policies, failed=failed, wave=wave)]
            )
            raise WaveRefused(failed[0].message, failed[0].object)
        for planned, found in zip(steps, probed, strict=True):
            if found.writes and not planned.writes:
                raise PlanVoid(f"{_shown(found.object)} would change, and the plan did not say so")
            if is_destructive(found) and not is_destructive(planned):
                # The prune guard has not seen it: the next plan begins with this wave, and says it.
                raise PlanVoid(f"{_shown(found.object)} would be deleted and made again, and the plan did not say so")
        await self._record(
            [Verified(plan=draft.plan.id, policies=self._recorder.policies, checks=(DRY_RUN,), wave=wave)]
        )
        return probed

    async def _take(self, step: Step, wave: int, draft: Draft) -> None:
        """Does what a step says, and records what came of it."""
        wanted = draft.wanted[step.object]
        if not step.writes:
            await self._recorder.found(step, wave, wanted, draft.answers.get(step.object))
            return
        with self._writing(step.object):
            if step.action == "recreate":
                await self._delete_and_wait(step, wanted)
            answer, did = await self._write(step, wanted)
            self._changed.append(f"{wanted.key.shown} {did}")
            await self._recorder.applied(step, wave, wanted, answer, did)

    async def _write(self, step: Step, wanted: Wanted) -> tuple[KubeObject, Did]:
        version = step.resource_version
        for attempt in range(VERSION_CONFLICTS_MAX + 1):
            if step.takes_over:
                version = await self._take_over(step, wanted)
            try:
                applied = await self._cluster.apply(
                    _against(wanted.object, step, version),
                    manager=self._subject.manager,
                    identity=self._subject.identity,
                )
            except ConflictError as error:
                if attempt == VERSION_CONFLICTS_MAX or step.action != "update":
                    raise PlanVoid(f"{wanted.key.shown} has changed since the plan was made: {error.said}") from error
                version = await self._unmoved(step, wanted)
                continue
            if step.action == "recreate":
                return applied.object, "recreated"
            return applied.object, "created" if applied.created else "configured"
        raise PlanVoid(f"{wanted.key.shown} changes too often")

    async def _unmoved(self, step: Step, wanted: Wanted) -> str:
        """The object's version now, if all that counts of it is as the plan saw it."""
        kind = await self._cluster.kind(step.api_version, wanted.key.kind)
        try:
            live = await self._cluster.get(kind, wanted.key.namespace, wanted.key.name, identity=self._subject.identity)
        except NotFoundError:
            raise PlanVoid(f"{wanted.key.shown} is gone") from None
        keyed = step.before is not None and step.before.startswith(KEYED)  # as it was before may be secret, and it not
        if self._recorder.state_digest(step.object, live, secret=keyed) != step.before:
            raise PlanVoid(f"{wanted.key.shown} is no longer as the plan saw it")
        return str(live["metadata"]["resourceVersion"])

    async def _take_over(self, step: Step, wanted: Wanted) -> str:
        """Makes fields of other managers the engine's own (KS-074); returns the version after that."""
        kind = await self._cluster.kind(step.api_version, wanted.key.kind)
        where = (kind, wanted.key.namespace, wanted.key.name)
        live = await self._cluster.get(*where, identity=self._subject.identity)
        patch = take_over_patch(live, self._subject.manager, self._subject.overridden)
        if not patch:
            return str(live["metadata"]["resourceVersion"])
        patched = await self._cluster.patch(
            *where, patch, type="json", manager=self._subject.manager, identity=self._subject.identity
        )
        return str(patched["metadata"]["resourceVersion"])

    async def _delete_and_wait(self, step: Step, wanted: Wanted) -> None:
        def still(live: KubeObject) -> str:
            same = self._recorder.state_digest(step.object, live, secret=wanted.secret) == step.before
            return "" if same else "it is no longer as the plan saw it"

        await self._delete(step, still=still)
        key = ObjectKey.parse(step.object)
        kind = await self._cluster.kind(step.api_version, key.kind)
        async for _ in _pauses(f"{key.shown} is still there after its deletion"):
            try:
                live = await self._cluster.get(kind, key.namespace, key.name, identity=self._subject.identity)
            except NotFoundError:
                return
            if live["metadata"]["uid"] != step.uid:
                raise PlanVoid(f"{_shown(step.object)} was made again by somebody else")

    async def _delete(self, step: Step, *, still: Callable[[KubeObject], str]) -> Literal["deleted", "absent"]:
        """Deletes an object as the plan saw it; one that has changed since, if it may still be deleted.

        Args:
            step: what is deleted.
            still: why an object, as it is now, is not to be deleted; empty when it is.
        """
        key = ObjectKey.parse(step.object)
        version = step.resource_version
        try:
            kind = await self._cluster.kind(step.api_version, key.kind)
            for _ in range(VERSION_CONFLICTS_MAX + 1):
                try:
                    await self._cluster.delete(
                        kind,
                        key.namespace,
                        key.name,
                        preconditions=Preconditions(uid=step.uid, resource_version=version or None),
                        propagation=self._subject.propagation,
                        identity=self._subject.identity,
                    )
                except ConflictError:
                    live = await self._cluster.get(kind, key.namespace, key.name, identity=self._subject.identity)
                    why = _other_uid(step, live) or still(live)
                    if why:
                        raise PlanVoid(f"{_shown(step.object)} has changed since the plan was made: {why}") from None
                    version = str(live["metadata"]["resourceVersion"])
                else:
                    return "deleted"
        except UnknownKindError as error:
            if await self._cluster.find_kind(key.group, key.kind) is not None:
                raise PlanVoid(f"{_shown(step.object)} is served in another version now: {error.said}") from error
            return "absent"
        except NotFoundError:
            return "absent"
        raise PlanVoid(f"{_shown(step.object)} changes too often")

    async def _still_unwanted(self, plan: Plan) -> None:
        """What the plan deletes, nobody has come to want while it was verified, approved and applied."""
        deleted = [step.object for step in plan.prunes if step.action == "delete"]
        why = await self._claimed(deleted) if deleted else ""
        if why:
            raise PlanVoid(why)

    async def _prune(self, plan: Plan, step: Step, *, asked_for: bool, losses: Sequence[ObjectId]) -> None:
        outcome: Literal["deleted", "absent", "skipped"]
        if step.stays:
            self._left.append(f"{ObjectKey.parse(step.object).shown} {step.why}")
            return
        if step.action == "delete":
            with self._writing(step.object):
                outcome = await self._delete(step, still=self._planner.why_kept)
                self._changed.append(f"{ObjectKey.parse(step.object).shown} deleted")
                event = ObjectPruned(
                    plan=plan.id,
                    object=step.object,
                    uid=step.uid,
                    outcome=outcome,
                    asked_for=asked_for,
                    losses=tuple(losses[:DESTRUCTIVE_MAX]),
                    cluster=self._recorder.cluster,
                )
                await self._record([event])
            return
        outcome = "absent" if step.why == "absent" else "skipped"
        if outcome == "skipped" and self._subject.deleting:
            self._left.append(f"{ObjectKey.parse(step.object).shown} {step.why}")
        event = ObjectPruned(
            plan=plan.id, object=step.object, uid=step.uid, outcome=outcome, cluster=self._recorder.cluster
        )
        await self._record([event])

    async def _established(self, steps: Sequence[Step]) -> None:
        """Waits until what was written is ready for what comes after it (KS-071)."""
        written = [(step, ObjectKey.parse(step.object)) for step in steps if step.writes]
        defines = any(key.kind == "CustomResourceDefinition" for _, key in written)
        if defines:
            self._cluster.forget_kinds()
        for step, key in written:
            if not is_awaited(key):
                continue
            kind = await self._cluster.kind(step.api_version, key.kind)
            async for _ in _pauses(f"{key.shown} is not ready for what depends on it"):
                live = await self._cluster.get(kind, key.namespace, key.name, identity=self._subject.identity)
                if health_of(live).health == "Current":
                    break
        if defines:
            self._cluster.forget_kinds()

    async def _stopped(self, plan: Plan, wave: int, step: Step | None, error: Exception) -> ApplyStopped:
        void = isinstance(error, PlanVoid)
        done = len(self._changed)
        event = ApplyFailed(
            plan=plan.id,
            wave=wave,
            reason=PLAN_VOID if void else "PruneFailed" if step in plan.prunes else "ReconciliationFailed",
            message=f"{await self._told(plan, step, error)}{_listed(self._changed)}",
            object=error.object if isinstance(error, WaveRefused) else None if step is None else step.object,
            applied=done,
            pending=sum(step.writes for step in plan.steps) - done,
        )
        await self._record([event])
        return ApplyStopped(event, void=void)

    async def _told(self, plan: Plan, step: Step | None, error: Exception) -> str:
        """What went wrong, with the file and line of the object that was being written."""
        if step is None:
            return str(error)
        if step in plan.prunes:
            return failure_of(ObjectKey.parse(step.object), "deletion", error)
        message = failure_of(ObjectKey.parse(step.object), "apply", error)
        (told,) = await self._placed([Verdict(check="apply", passed=False, object=step.object, message=message)])
        return told.message

    def _finished(self, plan: Plan) -> ApplyFinished:
        words = [line.rpartition(" ")[2] for line in self._changed]
        return ApplyFinished(
            plan=plan.id,
            revision=plan.revision,
            set=plan.set,
            created=words.count("created") + words.count("recreated"),
            configured=words.count("configured"),
            unchanged=sum(not step.writes for wave in plan.waves for step in wave),
            pruned=words.count("deleted"),
        )

    @property
    def changed(self) -> Sequence[str]:
        """What was changed so far, a line an object, in Flux's words (KS-044), and what was left to others."""
        return (*self._changed, *self._left)


class WaveRefused(PlanVoid):
    """Raised when the server does not accept a wave that could not be asked about before."""

    def __init__(self, message: str, object_id: ObjectId | None) -> None:
        super().__init__(message)
        self.object = object_id


def check_verified(plan: Plan, standing: Standing, now: Time) -> None:
    """Refuses a plan that the log does not let through.

    Raises:
        NotVerifiedError: when it is none, or was altered, not verified, rejected, held, or approved until before now.
    """
    if plan.id != plan.named().id:
        raise NotVerifiedError(f"{plan.id} is not the plan that it was")
    if standing.plan != plan.id or standing.verified != plan.id:
        raise NotVerifiedError(f"{plan.id} was not verified")
    if standing.held is None or standing.held.plan != plan.id:
        return
    approval = standing.approval
    if approval is None or approval.plan != plan.id or approval.rejected:
        raise NotVerifiedError(f"{plan.id} is held and was not approved")
    if approval.until is not None and approval.until < now:
        raise NotVerifiedError(f"the approval of {plan.id} expired at {shown_time(approval.until)}")


def _against(obj: KubeObject, step: Step, version: str) -> KubeObject:
    """The object to apply, with what it is applied against."""
    if step.action != "update":
        return obj
    against = {"uid": step.uid, **({"resourceVersion": version} if version else {})}
    return obj | {"metadata": obj["metadata"] | against}


def _other_uid(step: Step, live: KubeObject) -> str:
    return "" if live["metadata"]["uid"] == step.uid else "it is another object of that name"


async def _pauses(problem: str) -> AsyncIterator[None]:
    """Longer and longer pauses, the first of none; a `TimeoutError` when they have lasted too long."""
    pause, longest = ESTABLISHED_PAUSE_S
    deadline = anyio.current_time() + ESTABLISHED_TIMEOUT_S
    while anyio.current_time() < deadline:
        yield
        await anyio.sleep(pause)
        pause = min(pause * 2, longest)
    raise TimeoutError(f"{problem} ({ESTABLISHED_TIMEOUT_S} s)")


def _shown(id: ObjectId) -> str:
    return ObjectKey.parse(id).shown


def _listed(changed: Sequence[str]) -> str:
    if not changed:
        return ""
    more = f"\n… and {len(changed) - CHANGED_SHOWN_MAX} more" if len(changed) > CHANGED_SHOWN_MAX else ""
    return "\nchanged before that:\n" + "\n".join(changed[:CHANGED_SHOWN_MAX]) + more
