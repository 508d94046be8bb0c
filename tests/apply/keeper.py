"""Passes over one target, made of the real parts of planning, verifying and applying, on a small cluster."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from tests.apply.small_cluster import SmallCluster
from tests.events.logs import digest, moment
from tidelog.engine.apply.door import ApplyStopped, Door
from tidelog.engine.apply.record import ObjectRecorder
from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.durations import Interval
from tidelog.engine.kinds.kustomization import KustomizationSpec, KustomizationStatus, SourceReference
from tidelog.engine.kinds.meta import applier_of
from tidelog.engine.objects.kube import KubeObject, canonical_bytes, key_of
from tidelog.engine.plan.draft import Draft, Planner
from tidelog.engine.plan.model import Wanted
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import Declared, DeclaredKustomization
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.verify.checks import verdicts_of
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import digest_of
from tidelog.events.names import ObjectId, ObjectKey, Revision
from tidelog.events.vocabulary import (
    ApplyFailed,
    Event,
    Planned,
    RunEnded,
    StageFailed,
    TargetDeclared,
    VerificationFailed,
    Verified,
)

ALIAS = "east"
KEY = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "shop")
TARGET = KEY.stream(ALIAS)
REVISION = Revision("main@sha1:1")
NOW = moment(0)
LABELS = {f"{KEY.group}/name": KEY.name, f"{KEY.group}/namespace": KEY.namespace}


def a_target(**spec: Any) -> DeclaredKustomization:
    """A target as it is declared."""
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": "target-uid", "generation": 1}
    live = {"apiVersion": f"{KEY.group}/v1", "kind": KEY.kind, "metadata": metadata}
    whole: dict[str, Any] = {
        "interval": Interval.of_seconds(60),
        "prune": True,
        "source_ref": SourceReference(kind="GitRepository", name="src"),
        **spec,
    }
    return Declared(TARGET, live, KustomizationSpec(**whole), KustomizationStatus(), ())


def made(obj: KubeObject, *, labelled: bool = True) -> KubeObject:
    """An object as it is rendered: with the labels of its target."""
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), **(LABELS if labelled else {})}
    return obj | {"metadata": metadata | {"labels": labels}}


def wanted_of(obj: KubeObject) -> Wanted:
    return Wanted(key=key_of(obj), api_version=obj["apiVersion"], digest=digest_of(canonical_bytes(obj)), loaded=obj)


class Keeper:
    """Keeps a small cluster."""

    def __init__(self, memory: Memory, cluster: SmallCluster, settings: Settings | None = None, **spec: Any) -> None:
        self.memory = memory
        self.cluster = cluster
        self.declared = a_target(**spec)
        self.situation = Situation(memory, ALIAS, settings or Settings(), self.declared)
        self.writing: list[ObjectId] = []
        self.left: dict[ObjectId, str] = {}
        """What is left to other targets."""
        self.claimed = ""
        """Who came to want what is about to be deleted."""

    @property
    def port(self) -> Cluster:
        return cast("Cluster", self.cluster)

    async def declare(self) -> None:
        spec = Body.of(b"{}")
        event = TargetDeclared(uid="target-uid", generation=1, spec=spec.ref)
        await self.memory.append(TARGET, [event], Origin(), bodies=[spec])

    async def draft(self, objects: Sequence[KubeObject], run: Run | None = None) -> Draft:
        run = run or Run(self.memory, TARGET, Trigger(why="test"))
        wanted = [wanted_of(obj) for obj in objects]
        made_of = digest_of(encode([one.digest for one in wanted]))
        return await self.planner().draft(wanted, run.id, REVISION, made_of)

    def planner(self) -> Planner:
        async def seen(id: ObjectId, version: str, sealer: Sealer) -> None:
            return None

        return self.situation.planner(self.port, Sealer(), seen, self.left)

    async def keep(self, objects: Sequence[KubeObject]) -> str:
        """One pass; what became of it: `unchanged`, `refused`, `unreachable`, `stopped`, `void` or `applied`."""
        run = Run(self.memory, TARGET, Trigger(why="test"))
        wanted = [wanted_of(obj) for obj in objects]
        if not self.situation.touched(wanted) and not self.situation.stale(wanted):
            return "unchanged"
        try:
            draft = await self.draft(objects, run)
            checks, failed = await verdicts_of(draft, self.port, self.situation.owner_of, TARGET)
        except (ClusterError, TimeoutError) as error:
            await run.record(
                [StageFailed(stage="plan", reason="ReconciliationFailed", final=False, message=str(error))]
            )
            return "unreachable"
        plan = draft.plan
        waves = Body.of(encode(msgspec.to_builtins(plan)))
        await run.record(
            [Planned(plan=plan.id, revision=REVISION, set=plan.set, waves=waves.ref, blast_radius=plan.blast_radius)],
            [waves],
        )
        if failed:
            await run.record([VerificationFailed(plan=plan.id, policies=digest("policies"), failed=tuple(failed))])
            return "refused"
        await run.record([Verified(plan=plan.id, policies=digest("policies"), checks=checks)])
        assert await self.situation.accident(plan, asked_for=False) is None
        try:
            await self.door(draft, run).apply(draft, run.standing, NOW)
        except ApplyStopped as stopped:
            return "void" if stopped.void else "stopped"
        await run.record([RunEnded(outcome="succeeded", generation=1, revision=REVISION, set=plan.set)])
        return "applied"

    def door(self, draft: Draft, run: Run) -> Door:
        recorder = ObjectRecorder(
            draft.plan.id, applier_of("Kustomization"), Sealer(), self.situation.entry, run.record, digest("policies")
        )
        subject, planner = self.situation.subject, self.planner()
        return Door(
            self.port, subject, planner, recorder, run.record, self._is_writing, claimed=self._claimed_by_others
        )

    async def _claimed_by_others(self, ids: Collection[ObjectId]) -> str:
        assert ids
        return self.claimed

    @contextmanager
    def _is_writing(self, id: ObjectId) -> Iterator[None]:
        self.writing.append(id)
        try:
            yield
        finally:
            self.writing.remove(id)

    async def begin_again(self) -> None:
        """What a start says of an apply that was interrupted."""
        standing = self.memory.conditions.get(TARGET)
        if standing is not None and standing.applying is not None:
            event: Event = ApplyFailed(plan=standing.applying, wave=0, reason="Interrupted", message="it ended")
            await self.memory.append(TARGET, [event], Origin(run=standing.run, trace=standing.trace))
