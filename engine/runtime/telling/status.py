"""Statuses: what each source and target says of itself, derived from the log, and written when it differs.

One outcome is one write. That something is going on is written only when it takes longer than a second, or waits.
"""

from collections import OrderedDict
from datetime import datetime

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError, ConflictError, NotFoundError
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds import statuses
from tidelog.engine.kinds.conditions import Conditions, Observed
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.externalartifact import ExternalArtifactSpec, ExternalArtifactStatus
from tidelog.engine.kinds.kustomization import KustomizationStatus, Snapshot
from tidelog.engine.kinds.meta import Artifact, Timestamp
from tidelog.engine.kinds.registry import FetchedStatus, is_told
from tidelog.engine.kinds.targets import Inventory, InventoryEntry
from tidelog.engine.objects.kube import KubeObject, inventory_id
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.watching.declared import (
    AnyDeclared,
    DeclaredKustomization,
    DeclaredSource,
    is_kustomization,
    is_source,
    manager_of,
)
from tidelog.events.moment import Time
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections import Standing

WRITERS = 8
PROGRESS_AFTER_S = 1.0
"""For how long a run may go on before its status says so."""
RETRY_S = 2.0
CONFLICTS_MAX = 5

# How a step reads in a status.
_STEPS = {
    "fetching": statuses.fetching,
    "building": statuses.building,
    "detecting": statuses.detecting,
    "health": statuses.checking_health,
}
_WAITING = frozenset({"DependencyNotReady", "ArtifactFailed", "PlanHeld"})
"""Failures that are not tried again by themselves."""


class StatusWriter:
    """Writes the statuses that have changed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dirty: OrderedDict[StreamName, None] = OrderedDict()
        self._changed = anyio.Event()
        self._answered: dict[StreamName, str] = {}
        self._busy: set[StreamName] = set()
        self._later: set[StreamName] = set()
        """What there may be more to tell of in a moment."""

    def mark(self, stream: StreamName) -> None:
        """Has a status looked at: it may have changed."""
        self._dirty[stream] = None
        self._changed.set()

    def answered(self, stream: StreamName, token: str | None) -> None:
        """A pass that knew of a request is over (Flux contract CM-034)."""
        if token:
            self._answered[stream] = token

    def forget(self, stream: StreamName) -> None:
        """Lets go of a source or target that is no more."""
        self._dirty.pop(stream, None)
        self._answered.pop(stream, None)
        self._later.discard(stream)

    @property
    def idle(self) -> bool:
        """Whether every status is as it should be."""
        return not self._dirty and not self._busy and not self._later

    async def run(self) -> None:
        """Serves, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(WRITERS):
                tasks.start_soon(self._work)
            tasks.start_soon(self._tell_progress)

    async def _work(self) -> None:
        while True:
            stream = next((stream for stream in self._dirty if stream not in self._busy), None)
            if stream is None:
                self._changed = anyio.Event() if self._changed.is_set() else self._changed
                await self._changed.wait()
                continue
            del self._dirty[stream]
            self._busy.add(stream)
            try:
                await self._write(stream)
            except ClusterError:
                await anyio.sleep(RETRY_S)
                self.mark(stream)
            finally:
                self._busy.discard(stream)
                self._changed.set()

    async def _tell_progress(self) -> None:
        while True:
            await anyio.sleep(PROGRESS_AFTER_S / 2)
            for stream in self._engine.activity.slow(PROGRESS_AFTER_S):
                self.mark(stream)
            for stream in self._engine.waiting(PROGRESS_AFTER_S):
                self.mark(stream)
            later, self._later = self._later, set()
            for stream in later:
                self.mark(stream)

    async def _write(self, stream: StreamName) -> None:
        for _ in range(CONFLICTS_MAX):
            declared = self._engine.declared.source(stream) or self._engine.declared.target(stream)
            if declared is None:
                return
            if self._may_pass(declared):
                self._later.add(stream)
                return
            patch = self._patch(declared)
            if not patch:
                return
            kind = await self._engine.cluster.kind(declared.live["apiVersion"], declared.key.kind)
            where = (kind, declared.key.namespace, declared.key.name)
            try:
                live = await self._engine.cluster.patch(
                    *where, patch, type="merge", manager=manager_of(declared.key.kind), subresource="status"
                )
            except NotFoundError:
                return
            except ConflictError:
                live = await self._engine.cluster.get(*where)
            else:
                self._engine.declared.wrote(stream, live)
                return
            self._engine.declared.wrote(stream, live)
        self.mark(stream)

    def _may_pass(self, declared: AnyDeclared) -> bool:
        """Whether there is nothing to tell yet: it is at work, or waits, and may be done within the second."""
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is None or not is_kustomization(declared) or declared.suspended:
            return False
        if standing.ready == "False":
            return standing.waits_for is not None and self._engine.is_recent(standing.since, PROGRESS_AFTER_S)
        busy = standing.health == "InProgress" or self._engine.activity.of(declared.stream) is not None
        return standing.run is not None and busy and not _step(self._engine, declared, standing)

    def _patch(self, declared: AnyDeclared) -> KubeObject:
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is None or not is_told(declared.spec):
            return {}  # the status of another controller's object is its own to write
        status: KustomizationStatus | FetchedStatus
        token = self._answered.get(declared.stream) or declared.status.last_handled_reconcile_at
        if is_kustomization(declared):
            status = target_status(self._engine, declared, standing)
            owned = c.TARGET_OWNED
        elif is_source(declared):
            status = source_status(self._engine, declared, standing)
            owned = c.SOURCE_OWNED
        else:
            return {}
        if token:
            status = msgspec.structs.replace(status, last_handled_reconcile_at=token)
        return statuses.status_patch(declared.live, status, owned)


def target_status(engine: Engine, declared: DeclaredKustomization, standing: Standing) -> KustomizationStatus:
    """The status of a Kustomization."""
    before = declared.status
    if declared.suspended:
        if standing.ready != "True":
            return before
        settled = c.remove(before.conditions, c.RECONCILING)
        return msgspec.structs.replace(before, observed_generation=declared.generation, conditions=settled)
    observed = Observed(declared.generation, _timestamp(standing.since or engine.now()))
    conditions = _health_condition(engine, declared, standing)
    step = _step(engine, declared, standing)
    if step:
        now = Observed(declared.generation, _timestamp(engine.now()))
        conditions = c.mark(conditions, c.READY, "Unknown", c.PROGRESSING, statuses.IN_PROGRESS, observed=now)
        conditions = c.mark_reconciling(conditions, c.PROGRESSING, step, observed=now)
    elif standing.stalled:
        conditions = c.mark(conditions, c.READY, "False", standing.reason, standing.message, observed=observed)
        conditions = c.mark_stalled(conditions, standing.reason, standing.message, observed=observed)
    elif standing.ready == "False":
        conditions = c.mark(conditions, c.READY, "False", standing.reason, standing.message, observed=observed)
        conditions = c.remove(conditions, c.STALLED)
        if standing.reason in _WAITING:
            conditions = c.remove(conditions, c.RECONCILING)
        else:
            retrying = f"retrying in {declared.spec.effective_retry_interval}"
            conditions = c.mark_reconciling(conditions, c.PROGRESSING_WITH_RETRY, retrying, observed=observed)
    elif standing.ready == "True":
        conditions = c.remove(conditions, c.RECONCILING, c.STALLED)
        message = _applied(engine, declared, standing)
        conditions = c.mark(conditions, c.READY, "True", "ReconciliationSucceeded", message, observed=observed)
    done = standing.ready == "True" or standing.stalled
    return msgspec.structs.replace(
        before,
        conditions=conditions,
        observed_generation=max(standing.observed, declared.generation if standing.stalled else 0)
        if done and not step
        else before.observed_generation,
        last_applied_revision=standing.applied or before.last_applied_revision,
        last_attempted_revision=standing.attempted or before.last_attempted_revision,
        inventory=_inventory(engine, declared) or before.inventory,
        history=tuple(
            Snapshot(
                digest=attempt.set,
                first_reconciled=_timestamp(attempt.first),
                last_reconciled=_timestamp(attempt.last),
                last_reconciled_duration=_between(attempt.began, attempt.last),
                last_reconciled_status="ReconciliationSucceeded" if attempt.reason == "Succeeded" else attempt.reason,
                total_reconciliations=attempt.total,
                metadata={"revision": attempt.revision} if attempt.revision else {},
            )
            for attempt in standing.history
        )
        or before.history,  # Flux's, until we have one
    )


def _applied(engine: Engine, declared: DeclaredKustomization, standing: Standing) -> str:
    """What was applied; Flux's words, but where the revision that is looked after is not what is applied."""
    row = engine.memory.desired.get(declared.stream)
    if row is None or row.pinned is None:
        return f"Applied revision: {standing.applied}"
    return f"Pinned: applied what was wanted at position {row.pinned.position}, leaving revision {row.pinned.left}"


def _health_condition(engine: Engine, declared: DeclaredKustomization, standing: Standing) -> Conditions:
    """The conditions with that on health, where health is asked for (Flux contract KS-098, KS-100)."""
    conditions = declared.status.conditions
    if not declared.spec.wait and not declared.spec.health_checks:
        return c.remove(conditions, c.HEALTHY)
    if standing.health is None or standing.health_since is None:
        return conditions
    observed = Observed(declared.generation, _timestamp(standing.health_since))
    if standing.health == "Current":
        return c.mark(conditions, c.HEALTHY, "True", c.SUCCEEDED, standing.health_message, observed=observed)
    if standing.health == "Failed":
        return c.mark(conditions, c.HEALTHY, "False", "HealthCheckFailed", standing.health_message, observed=observed)
    if not _step(engine, declared, standing):
        return conditions
    message = statuses.checking_health(standing.attempted or "", declared.spec.effective_timeout)
    return c.mark(conditions, c.HEALTHY, "Unknown", c.PROGRESSING, message, observed=observed)


def _step(engine: Engine, declared: DeclaredKustomization, standing: Standing) -> str:
    """What a run that takes its time is at, in Flux's words (KS-039); empty when there is none."""
    limit: Duration = declared.spec.effective_timeout
    running = engine.activity.of(declared.stream)
    if running is not None and running[2] >= PROGRESS_AFTER_S:
        return _STEPS[running[0]](running[1], limit)
    waits = standing.health == "InProgress" and standing.run is not None
    if waits and engine.waited_for_health(declared.stream) >= PROGRESS_AFTER_S:
        return statuses.checking_health(standing.attempted or "", limit)
    return ""


def _inventory(engine: Engine, declared: DeclaredKustomization) -> Inventory | None:
    row = engine.memory.inventory.get(declared.stream)
    if row is None:
        return None
    entries = [
        InventoryEntry(id=inventory_id(ObjectKey.parse(id)), v=entry.api_version.rpartition("/")[2])
        for id, entry in row.objects.items()
    ]
    known = {entry.id for entry in entries}
    found = [
        InventoryEntry(id=inventory_id(ObjectKey.parse(id)), v=version.rpartition("/")[2])
        for id, version in declared.found.items()
    ]
    entries += [entry for entry in found if entry.id not in known]
    return Inventory(entries=tuple(sorted(entries, key=lambda entry: entry.id)))


def source_status(engine: Engine, declared: DeclaredSource, standing: Standing) -> FetchedStatus:
    """The status of a source that the engine fetches itself."""
    before, spec = declared.status, declared.spec
    if isinstance(before, ExternalArtifactStatus) or isinstance(spec, ExternalArtifactSpec):
        raise TypeError(f"the status of {declared.key.shown} is another controller's")
    if declared.suspended:
        return before
    observed = Observed(declared.generation, _timestamp(standing.since or engine.now()))
    artifact = _artifact(engine, declared, standing) or before.artifact
    status = msgspec.structs.replace(before, artifact=artifact)
    running = engine.activity.of(declared.stream)
    slow = running is not None and running[2] >= PROGRESS_AFTER_S
    now = Observed(declared.generation, _timestamp(engine.now()))
    if running is not None and slow and running[1] and artifact is not None and running[1] != artifact.revision:
        return statuses.source_outdated(status, running[1], observed=now)
    if standing.ready == "True" and artifact is not None:
        status = statuses.source_stored(status, artifact, spec, observed=observed, chart=standing.chart)
        return msgspec.structs.replace(status, observed_generation=standing.observed)
    if slow:
        return statuses.source_progressing(status, statuses.SOURCE_IN_PROGRESS, observed=now)
    if standing.ready != "False":
        return status
    if standing.stalled:
        return statuses.source_stalled(status, standing.reason, standing.message, observed=observed)
    return statuses.source_failed(status, standing.reason, standing.message, observed=observed)


def _artifact(engine: Engine, declared: DeclaredSource, standing: Standing) -> Artifact | None:
    row = engine.memory.desired.get(declared.stream)
    if row is None or row.artifact is None or row.revision is None or standing.fetched is None:
        return None
    path = engine.artifact_path(declared.key, row.revision, standing.chart)
    return Artifact(
        path=path,
        url=engine.artifact_url(path),
        revision=row.revision,
        digest=row.artifact,
        last_update_time=_timestamp(standing.fetched),
        size=standing.size or None,
        metadata={each.name: each.value for each in standing.annotations},
    )


def _timestamp(time: Time) -> Timestamp:
    """A time of the log as Kubernetes writes times: in whole seconds."""
    return f"{time[:19]}Z"


def _between(first: Time, last: Time) -> Duration:
    return Duration.of_seconds((datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())
