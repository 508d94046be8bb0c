"""`tidelog trace`: from an object back to the commit, and by whose decision it came to be as it is."""

from typing import TypedDict

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import Commit, commit_of, source_of
from tidelog.engine.views.names import Subject
from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, PlanId, Revision, RunId, StreamName, TraceId
from tidelog.events.projections import ACTUAL, CONDITIONS, INVENTORY
from tidelog.events.vocabulary import (
    BlastRadius,
    Event,
    FieldDrift,
    ObjectApplied,
    PlanApproved,
    PlanHeld,
    Planned,
    Rendered,
    Tool,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage.log import Query, Recorded


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the way that an object took."""

    position: int
    time: Time
    by: str
    """Who, with how that is known."""


class RenderStep(Step, frozen=True, kw_only=True):
    """The build that made the object."""

    revision: Revision
    set: Digest
    count: int
    toolchain: tuple[Tool, ...]


class PlanStep(Step, frozen=True, kw_only=True):
    """The plan that it was applied by."""

    plan: PlanId
    revision: Revision
    blast_radius: BlastRadius


class VerifyStep(Step, frozen=True, kw_only=True):
    """What was checked before."""

    wave: int | None
    checks: tuple[str, ...]
    """That passed."""
    failed: tuple[Verdict, ...]


class ApproveStep(Step, frozen=True, kw_only=True):
    """Why the plan was held, or somebody let it through."""

    decision: str
    """`held` or `approved`."""
    check: str
    why: str


class ApplyStep(Step, frozen=True, kw_only=True):
    """The write itself."""

    action: str
    plan: PlanId
    wave: int
    resource_version: str


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one object."""

    object: StreamName
    kind: str
    namespace: str
    name: str
    target: StreamName | None
    """Who applied it; none when nobody did."""
    run: RunId | None
    trace: TraceId | None
    commit: Commit | None
    render: RenderStep | None
    plan: PlanStep | None
    verdicts: tuple[VerifyStep, ...]
    approvals: tuple[ApproveStep, ...]
    apply: ApplyStep | None
    seen: int
    """Position of the last event in which the object was found as it was applied."""
    applied_revision: Revision | None
    """The revision that its target is at now: later ones than the commit's left the object as it was."""
    health: str
    drift: tuple[FieldDrift, ...]
    """What someone changed since."""
    first_seen: Step | None
    """Of an object that nobody applied: the first event about it."""


def trace_of(archive: Archive, subject: Subject) -> Trace:
    """The way of an object, back from how it is at the archive's moment."""
    actual = archive.row(ACTUAL, subject.stream)
    target = _target_of(archive, subject, None if actual is None else actual.owner)
    standing = None if target is None else archive.row(CONDITIONS, target)
    written, seen = (None, 0) if target is None else _applied(archive, target, subject.key.id)
    way = None if written is None or target is None else _Way(archive, target, written)
    return Trace(
        object=subject.stream,
        kind=subject.kind,
        namespace=subject.namespace,
        name=subject.name,
        target=target,
        run=None if written is None else written.envelope.run,
        trace=None if written is None else written.envelope.trace,
        commit=None if way is None else way.commit,
        render=None if way is None else way.render,
        plan=None if way is None else way.plan,
        verdicts=() if way is None else way.verdicts,
        approvals=() if way is None else way.approvals,
        apply=None if way is None else way.apply,
        seen=seen,
        applied_revision=None if standing is None else standing.applied,
        health="Unknown" if actual is None else actual.health,
        drift=() if actual is None else actual.drift,
        first_seen=_first_seen(archive, subject) if target is None else None,
    )


def _target_of(archive: Archive, subject: Subject, owner: StreamName | None) -> StreamName | None:
    """The target whose inventory has the object."""
    id = subject.key.id
    if owner is not None:
        row = archive.row(INVENTORY, owner)
        if row is not None and id in row.objects:
            return owner
    for stream, row in archive.rows(INVENTORY).items():
        if stream.startswith(f"{subject.cluster}/") and id in row.objects:
            return StreamName(stream)
    return None


def _applied(archive: Archive, target: StreamName, id: ObjectId) -> tuple[Recorded | None, int]:
    """The event that last wrote an object (or first found it), and the last one that says it is as it was applied."""
    row = archive.row(INVENTORY, target)
    entry = None if row is None else row.objects.get(id)
    if entry is None:
        return None, 0
    oldest = None
    needle = id.encode()
    for recorded in archive.backwards(Query(stream=target, types=("ObjectApplied",), until=entry.position)):
        event = recorded.event if needle in recorded.raw else None
        if not isinstance(event, ObjectApplied) or event.object != id or event.uid != entry.uid:
            continue
        if event.action != "unchanged":
            return recorded, entry.position
        oldest = recorded
    return oldest, entry.position


def _first_seen(archive: Archive, subject: Subject) -> Step | None:
    first = next(archive.events(Query(stream=subject.stream)), None)
    return None if first is None else Step(**_when(first))


class _Way:
    """The events that led to a write."""

    def __init__(self, archive: Archive, target: StreamName, written: Recorded) -> None:
        self._archive = archive
        self._target = target
        self._written = written
        event = written.event
        if not isinstance(event, ObjectApplied):
            raise TypeError(f"event {written.envelope.position} applies nothing")
        self._event = event
        planned = self._find("Planned", event.plan)
        self._planned = planned.event if planned is not None and isinstance(planned.event, Planned) else None
        self.plan = None if planned is None or self._planned is None else _plan_step(planned, self._planned)
        self.render = self._rendered()
        self.commit = self._commit()
        # A plan is checked and decided upon between its making and the write.
        decided = list(self._decided(0 if planned is None else planned.envelope.position))
        self.verdicts = tuple(step for step in decided if isinstance(step, VerifyStep))
        self.approvals = tuple(step for step in decided if isinstance(step, ApproveStep))
        self.apply = ApplyStep(
            action=event.action,
            plan=event.plan,
            wave=event.wave,
            resource_version=event.resource_version,
            **_when(written),
        )

    def _find(self, type: str, plan: PlanId) -> Recorded | None:
        needle = plan.encode()
        query = Query(stream=self._target, types=(type,), until=self._written.envelope.position)
        found = (recorded for recorded in self._archive.backwards(query) if needle in recorded.raw)
        return next((recorded for recorded in found if getattr(recorded.event, "plan", None) == plan), None)

    def _rendered(self) -> RenderStep | None:
        """The build of the set that was planned; where the plan is not known, the last build before the write."""
        query = Query(stream=self._target, types=("Rendered",), until=self._written.envelope.position)
        latest = None
        for recorded in self._archive.backwards(query):
            event = recorded.event
            if not isinstance(event, Rendered):
                continue
            step = RenderStep(
                revision=event.revision,
                set=event.set,
                count=event.count,
                toolchain=event.toolchain,
                **_when(recorded),
            )
            if self._planned is None or event.set == self._planned.set:
                return step
            latest = latest or step
        return latest

    def _commit(self) -> Commit | None:
        revision = self.render.revision if self.render else self._planned.revision if self._planned else None
        if revision is None:
            return None
        before = self.render.position if self.render else self._written.envelope.position
        source = source_of(self._archive, self._target, before)
        trace = self._written.envelope.trace
        return commit_of(self._archive, revision, source=source, trace=trace, before=before)

    def _decided(self, after: int) -> list[Step]:
        query = Query(
            stream=self._target,
            types=("Verified", "VerificationFailed", "PlanHeld", "PlanApproved"),
            after=after,
            until=self._written.envelope.position,
        )
        needle = self._event.plan.encode()
        steps = []
        for recorded in self._archive.events(query):
            event = recorded.event if needle in recorded.raw else None
            if getattr(event, "plan", None) == self._event.plan and event is not None:
                steps.append(_decision(recorded, event))
        return [step for step in steps if step is not None]


def _decision(recorded: Recorded, event: Event) -> Step | None:
    match event:
        case Verified():
            return VerifyStep(wave=event.wave, checks=event.checks, failed=(), **_when(recorded))
        case VerificationFailed():
            return VerifyStep(wave=event.wave, checks=(), failed=event.failed, **_when(recorded))
        case PlanHeld():
            return ApproveStep(decision="held", check=event.check, why=event.why, **_when(recorded))
        case PlanApproved():
            return ApproveStep(decision="approved", check="", why=event.why, **_when(recorded))
        case _:
            return None


def _plan_step(recorded: Recorded, event: Planned) -> PlanStep:
    return PlanStep(plan=event.plan, revision=event.revision, blast_radius=event.blast_radius, **_when(recorded))


class _When(TypedDict):
    position: int
    time: Time
    by: str


def _when(recorded: Recorded) -> _When:
    envelope = recorded.envelope
    return {"position": envelope.position, "time": envelope.time, "by": str(envelope.actor)}
