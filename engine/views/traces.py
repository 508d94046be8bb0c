"""`tidelog trace`: from an object back to the commit, and by whose decision it came to be as it is."""

from typing import TypedDict

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import HELM_CHART, Commit, SourceTold, commit_of, origins_of, source_of
from tidelog.engine.views.names import Subject, cluster_below, subject_of
from tidelog.engine.views.pins import PinTold, pin_of
from tidelog.engine.views.releases import chart, named
from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId, PlanId, Revision, RunId, StreamName, TraceId, cluster_of
from tidelog.events.projections import ACTUAL, CONDITIONS, DESIRED, INVENTORY, RELEASES, Actual, Standing
from tidelog.events.typed import decoder
from tidelog.events.vocabulary import (
    BlastRadius,
    Event,
    FieldDrift,
    ObjectApplied,
    ObjectPruned,
    PlanApproved,
    PlanHeld,
    Planned,
    ReleaseActionStarted,
    Rendered,
    Tool,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage.log import Query, Recorded

_decode_reads = decoder(list[tuple[str, str | None]])


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the way that an object took."""

    position: int
    time: Time
    by: str
    """Who, with how that is known."""


class LookedUpTold(msgspec.Struct, frozen=True):
    """What the chart of a release read of the cluster with `lookup`."""

    path: str
    """The object's id; of a list with `*` for the name; the group and version of which the kinds were asked for."""
    version: str | None
    """The `resourceVersion` of the object, a digest of what has many parts, or null for what was not there."""


class RenderStep(Step, frozen=True, kw_only=True):
    """The build that made the object."""

    revision: Revision
    set: Digest
    count: int
    toolchain: tuple[Tool, ...]
    looked_up: tuple[LookedUpTold, ...] = ()
    """Of a release: what its chart looked up."""


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


class ReleaseStep(Step, frozen=True, kw_only=True):
    """The action on a release that it was written by."""

    action: str
    release: str
    """Name and version, as Helm has it: `web.v2`."""
    chart: str
    """Name and version: `web@1.0.2`."""


class ApplyStep(Step, frozen=True, kw_only=True):
    """The write itself."""

    action: str
    plan: PlanId
    wave: int
    resource_version: str


class Removal(Step, frozen=True, kw_only=True):
    """The end of the way: a target that wanted the object no more took it away, or let go of it."""

    target: StreamName
    plan: PlanId
    outcome: str
    """`deleted`, `absent` or `skipped`."""
    commit: Commit | None
    """Of which the object is no part any more; none where the target itself was removed."""
    target_removed: bool
    approvals: tuple[ApproveStep, ...]


class AppliedTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one object, as far as targets applied it."""

    object: StreamName
    kind: str
    namespace: str
    name: str
    target: StreamName | None
    """Who applied it; of what was pruned, who had; none when nobody did."""
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
    pin: PinTold | None
    """What its target is kept at, where that is pinned."""
    removal: Removal | None
    """With which the way ends, of an object that was pruned; what stands above it led to its last write."""
    first_seen: Step | None
    """Of an object that nobody applied: the first event about it."""
    release: ReleaseStep | None = None
    """Of what a HelmRelease applied."""
    sources: tuple[SourceTold, ...] = ()
    """What it was made of, the nearest first: of a release the chart, and what that was made of in turn."""


class MakerStep(Step, frozen=True, kw_only=True):
    """A HelmRelease made a HelmChart for its chart."""

    target: StreamName
    way: AppliedTrace
    """Of the HelmRelease itself."""


class Trace(AppliedTrace, frozen=True, kw_only=True):
    """The way of one object."""

    maker: MakerStep | None = None
    """Of the HelmChart of a template, which is applied by no plan: what made it."""


def trace_of(archive: Archive, subject: Subject) -> Trace:
    """The way of an object, back from how it is at the archive's moment."""
    applied = _applied_trace(archive, subject)
    maker = None if applied.target is not None else _maker(archive, subject)
    fields = {name: getattr(applied, name) for name in applied.__struct_fields__}
    if maker is not None:
        fields["sources"] = _sources_of_chart(archive, subject)
    return Trace(**fields, maker=maker)


def _applied_trace(archive: Archive, subject: Subject) -> AppliedTrace:
    actual = archive.row(ACTUAL, subject.stream)
    target = _target_of(archive, subject, None if actual is None else actual.owner)
    removal = None if target is not None else removal_of(archive, subject)
    if removal is not None and removal.outcome != "skipped" and actual is not None:
        removal = None  # another object of that name, which somebody else made since
    if removal is None:
        written, seen = (None, 0) if target is None else _applied(archive, target, subject.key.id)
    else:
        target = removal.target
        written, seen = _applied_before(archive, removal, subject.key.id)
    standing = None if target is None else archive.row(CONDITIONS, target)
    apply = None if written is None else _apply_step(written)
    way = None if written is None or target is None or apply is None else _Way(archive, target, written, apply.plan)
    return AppliedTrace(
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
        apply=apply,
        seen=seen,
        applied_revision=None if standing is None else standing.applied,
        health=_health(actual, archive.row(CONDITIONS, subject.stream), removal),
        drift=() if actual is None else actual.drift,
        pin=None if target is None or removal is not None else pin_of(archive, target),
        removal=removal,
        first_seen=_first_seen(archive, subject) if target is None else None,
        release=None if written is None else _release(archive, written),
        sources=() if way is None else way.sources,
    )


def _maker(archive: Archive, subject: Subject) -> MakerStep | None:
    """The HelmRelease that made a HelmChart (contract HR-059), and how that came to be."""
    if (subject.group, subject.kind) != HELM_CHART:
        return None
    id = subject.key.id
    for stream, row in archive.rows(RELEASES).items():
        made = _made(archive, StreamName(stream), id) if row.helm_chart == id else None
        if made is not None and cluster_of(made.envelope.stream) == subject.cluster:
            maker = made.envelope.stream
            return MakerStep(target=maker, way=_applied_trace(archive, subject_of(maker)), **_when(made))
    return None


def _made(archive: Archive, release: StreamName, id: ObjectId) -> Recorded | None:
    """The event with which a HelmRelease came by its HelmChart; the last, where that was changed."""
    needle = id.encode()
    events = archive.backwards(Query(stream=release, types=("HelmChartSynced", "ReleaseAdopted")))
    return next((recorded for recorded in events if needle in recorded.raw), None)


def _sources_of_chart(archive: Archive, subject: Subject) -> tuple[SourceTold, ...]:
    """What the chart that a HelmChart has now was made of."""
    desired = archive.row(DESIRED, subject.stream)
    revision = None if desired is None else desired.revision
    return origins_of(archive, revision or Revision(""), source=subject.stream)[1:]


def removal_of(archive: Archive, subject: Subject) -> Removal | None:
    """How an object ended that a target had applied; None where none took it away or let go of it."""
    id = subject.key.id
    needle = id.encode()
    for recorded in archive.backwards(Query(types=("ObjectPruned",))):
        event = recorded.event if needle in recorded.raw else None
        target = recorded.envelope.stream
        if not isinstance(event, ObjectPruned) or event.object != id:
            continue
        if (event.cluster or cluster_of(target)) == subject.cluster:
            return _removal(archive, recorded, event)
    return None


def _removal(archive: Archive, recorded: Recorded, event: ObjectPruned) -> Removal:
    target = recorded.envelope.stream
    way = _Way(archive, target, recorded, event.plan)
    removed = _ends_its_target(archive, recorded)
    return Removal(
        target=target,
        plan=event.plan,
        outcome=event.outcome,
        commit=None if removed else way.commit,
        target_removed=removed,
        approvals=way.approvals,
        **_when(recorded),
    )


def _ends_its_target(archive: Archive, pruned: Recorded) -> bool:
    """Whether a run takes all of a target away, because that was removed: such a run ends with it."""
    run = pruned.envelope.run
    if run is None:
        return False
    return archive.last(Query(stream=pruned.envelope.stream, run=run, types=("TargetRemoved",))) is not None


def _applied_before(archive: Archive, removal: Removal, id: ObjectId) -> tuple[Recorded | None, int]:
    """As `_applied`, of an object that is in no inventory any more."""
    needle = id.encode()
    seen, oldest, uid = 0, None, ""
    for recorded in archive.backwards(Query(stream=removal.target, types=("ObjectApplied",), until=removal.position)):
        event = recorded.event if needle in recorded.raw else None
        if not isinstance(event, ObjectApplied) or event.object != id or uid not in ("", event.uid):
            continue
        seen, uid = seen or recorded.envelope.position, event.uid
        if event.action != "unchanged":
            return recorded, seen
        oldest = recorded
    return oldest, seen


def _health(actual: Actual | None, standing: Standing | None, removal: Removal | None) -> str:
    """In kstatus's words; of a source or target that nobody applied, by how it stands itself."""
    if actual is not None and actual.health != "Unknown":
        return actual.health
    if standing is not None:
        return {"True": "Current", "False": "Failed", "Unknown": "InProgress"}[standing.ready]
    return "NotFound" if removal is not None and removal.outcome != "skipped" else "Unknown"


def _target_of(archive: Archive, subject: Subject, owner: StreamName | None) -> StreamName | None:
    """The target whose inventory has the object."""
    id = subject.key.id
    if owner is not None:
        row = archive.row(INVENTORY, owner)
        if row is not None and id in row.objects:
            return owner
    for stream, row in archive.rows(INVENTORY).items():
        if id in row.objects and cluster_below(archive, StreamName(stream)) == subject.cluster:
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


def _release(archive: Archive, written: Recorded) -> ReleaseStep | None:
    """The action on a release whose run wrote an object; a run that only corrects drift has none."""
    envelope = written.envelope
    begun = archive.last(
        Query(stream=envelope.stream, run=envelope.run, types=("ReleaseActionStarted",), until=envelope.position)
    )
    event = None if begun is None else begun.event
    if begun is None or not isinstance(event, ReleaseActionStarted):
        return None
    return ReleaseStep(
        action=event.action,
        release=named(event.name, event.version),
        chart=chart(event.chart_name, event.chart_version),
        **_when(begun),
    )


class _Way:
    """The events that led to a write, or a deletion."""

    def __init__(self, archive: Archive, target: StreamName, written: Recorded, plan: PlanId) -> None:
        self._archive = archive
        self._target = target
        self._written = written
        self._by_plan = plan
        planned = self._find("Planned", plan)
        self._planned = planned.event if planned is not None and isinstance(planned.event, Planned) else None
        self.plan = None if planned is None or self._planned is None else _plan_step(planned, self._planned)
        self.render = self._rendered()
        self.commit, self.sources = self._origin()
        # A plan is checked and decided upon between its making and the write.
        decided = list(self._decided(0 if planned is None else planned.envelope.position))
        self.approvals = tuple(step for step in decided if isinstance(step, ApproveStep))
        held = {step.check for step in self.approvals}
        self.verdicts = tuple(_less(step, held) for step in decided if isinstance(step, VerifyStep))

    def _find(self, type: str, plan: PlanId) -> Recorded | None:
        needle = plan.encode()
        query = Query(stream=self._target, types=(type,), until=self._written.envelope.position)
        found = (recorded for recorded in self._archive.backwards(query) if needle in recorded.raw)
        return next((recorded for recorded in found if getattr(recorded.event, "plan", None) == plan), None)

    def _rendered(self) -> RenderStep | None:
        """The build of the set that was planned; where the plan is not known, the last build before the write."""
        query = Query(stream=self._target, types=("Rendered",), until=self._written.envelope.position)
        latest: tuple[Recorded, Rendered] | None = None
        for recorded in self._archive.backwards(query):
            event = recorded.event
            if not isinstance(event, Rendered):
                continue
            if self._planned is None or event.set == self._planned.set:
                return self._render_step(recorded, event)
            latest = latest or (recorded, event)
        return None if latest is None else self._render_step(*latest)

    def _render_step(self, recorded: Recorded, event: Rendered) -> RenderStep:
        return RenderStep(
            revision=event.revision,
            set=event.set,
            count=event.count,
            toolchain=event.toolchain,
            looked_up=self._looked_up(event.read_set),
            **_when(recorded),
        )

    def _looked_up(self, read_set: BodyRef) -> tuple[LookedUpTold, ...]:
        """What a chart looked up; other targets read files."""
        data = self._archive.body(read_set) if subject_of(self._target).kind == "HelmRelease" else None
        return () if data is None else tuple(LookedUpTold(path, version) for path, version in _decode_reads(data))

    def _origin(self) -> tuple[Commit | None, tuple[SourceTold, ...]]:
        """The commit behind the build, and the sources that it was made of."""
        revision = self.render.revision if self.render else self._planned.revision if self._planned else None
        if revision is None:
            return None, ()
        before = self.render.position if self.render else self._written.envelope.position
        source = source_of(self._archive, self._target, before)
        trace = self._written.envelope.trace
        commit = commit_of(self._archive, revision, source=source, trace=trace, before=before)
        if source is None and commit is not None:  # it is not known what the target named: what came with its trigger
            source, revision = commit.source, commit.revision
        return commit, origins_of(self._archive, revision, source=source, before=before)

    def _decided(self, after: int) -> list[Step]:
        query = Query(
            stream=self._target,
            types=("Verified", "VerificationFailed", "PlanHeld", "PlanApproved"),
            after=after,
            until=self._written.envelope.position,
        )
        needle = self._by_plan.encode()
        steps = []
        for recorded in self._archive.events(query):
            event = recorded.event if needle in recorded.raw else None
            if getattr(event, "plan", None) == self._by_plan and event is not None:
                steps.append(_decision(recorded, event))
        return [step for step in steps if step is not None]


def _less(step: VerifyStep, held: set[str]) -> VerifyStep:
    """What was checked, without the checks that a plan did not pass but was held by."""
    return msgspec.structs.replace(step, checks=tuple(check for check in step.checks if check not in held))


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


def _apply_step(recorded: Recorded) -> ApplyStep:
    event = recorded.event
    if not isinstance(event, ObjectApplied):
        raise TypeError(f"event {recorded.envelope.position} applies nothing")
    return ApplyStep(
        action=event.action,
        plan=event.plan,
        wave=event.wave,
        resource_version=event.resource_version,
        **_when(recorded),
    )


def _plan_step(recorded: Recorded, event: Planned) -> PlanStep:
    return PlanStep(plan=event.plan, revision=event.revision, blast_radius=event.blast_radius, **_when(recorded))


class _When(TypedDict):
    position: int
    time: Time
    by: str


def _when(recorded: Recorded) -> _When:
    envelope = recorded.envelope
    return {"position": envelope.position, "time": envelope.time, "by": str(envelope.actor)}
