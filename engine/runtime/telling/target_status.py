"""What a Kustomization says of itself, derived from the log (Flux contract 3.2, 3.8)."""

from functools import partial

import msgspec

from tidelog.engine.apply.door import PLAN_VOID
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds import statuses
from tidelog.engine.kinds.conditions import Conditions, Observed
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.kustomization import KustomizationStatus, Snapshot
from tidelog.engine.kinds.targets import Inventory
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.common import PROGRESS_AFTER_S, between, inventory, timestamp
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, source_of
from tidelog.events.names import Revision
from tidelog.events.projections import Standing

# How a step reads in a status.
_STEPS = {
    "fetching": statuses.fetching,
    "building": statuses.building,
    "detecting": statuses.detecting,
    "health": statuses.checking_health,
}
_WAITING = frozenset({"DependencyNotReady", "ArtifactFailed", "PlanHeld"})
"""Failures that are not tried again by themselves."""


def target_status(engine: Engine, declared: DeclaredKustomization, standing: Standing) -> KustomizationStatus:
    """The status of a Kustomization."""
    before = declared.status
    if declared.suspended:
        if standing.ready != "True":
            return before
        settled = c.remove(before.conditions, c.RECONCILING)
        return msgspec.structs.replace(before, observed_generation=declared.generation, conditions=settled)
    origin_of = partial(engine.origin_revisions.known, source_of(declared).stream(engine.cluster_alias))
    observed = Observed(declared.generation, timestamp(standing.since or engine.now()))
    conditions = _health_condition(engine, declared, standing)
    step = target_step(engine, declared, standing)
    if step:
        now = Observed(declared.generation, timestamp(engine.now()))
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
            usual = declared.spec.effective_retry_interval.seconds
            spaced = engine.spaced(usual, standing.failed_applies, passing=standing.reason == PLAN_VOID)
            retrying = f"retrying in {Duration.of_seconds(spaced)}"
            conditions = c.mark_reconciling(conditions, c.PROGRESSING_WITH_RETRY, retrying, observed=observed)
    elif standing.ready == "True":
        conditions = c.remove(conditions, c.RECONCILING, c.STALLED)
        message = _applied(engine, declared, standing)
        conditions = c.mark(conditions, c.READY, "True", c.RECONCILED, message, observed=observed)
    done = standing.ready == "True" or standing.stalled
    return msgspec.structs.replace(
        before,
        conditions=conditions,
        observed_generation=max(standing.observed, declared.generation if standing.stalled else 0)
        if done and not step
        else before.observed_generation,
        last_applied_revision=standing.applied or before.last_applied_revision,
        last_applied_origin_revision=origin_of(standing.applied)
        if standing.applied
        else before.last_applied_origin_revision,
        last_attempted_revision=standing.attempted or before.last_attempted_revision,
        inventory=_inventory(engine, declared) or before.inventory,
        history=tuple(
            Snapshot(
                digest=attempt.set,
                first_reconciled=timestamp(attempt.first),
                last_reconciled=timestamp(attempt.last),
                last_reconciled_duration=between(attempt.began, attempt.last),
                last_reconciled_status=c.ready_reason(declared.key.kind, attempt.reason),
                total_reconciliations=attempt.total,
                metadata=_revisions(attempt.revision, origin_of(attempt.revision)),
            )
            for attempt in standing.history
        )
        or before.history,  # Flux's, until we have one
    )


def _revisions(revision: Revision | None, origin: str) -> dict[str, str]:
    return {name: value for name, value in (("revision", revision), ("originRevision", origin)) if value}


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
    observed = Observed(declared.generation, timestamp(standing.health_since))
    if standing.health == "Current":
        return c.mark(conditions, c.HEALTHY, "True", c.SUCCEEDED, standing.health_message, observed=observed)
    if standing.health == "Failed":
        return c.mark(conditions, c.HEALTHY, "False", "HealthCheckFailed", standing.health_message, observed=observed)
    if not target_step(engine, declared, standing):
        return conditions
    message = statuses.checking_health(standing.attempted or "", declared.spec.effective_timeout)
    return c.mark(conditions, c.HEALTHY, "Unknown", c.PROGRESSING, message, observed=observed)


def target_step(engine: Engine, declared: DeclaredKustomization, standing: Standing) -> str:
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
    """The objects that the log knows to be the target's, and those that its status listed before."""
    row = engine.memory.inventory.get(declared.stream)
    if row is None:
        return None
    return inventory({**declared.found, **{id: entry.api_version for id, entry in row.objects.items()}})
