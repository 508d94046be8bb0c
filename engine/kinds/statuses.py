"""The statuses that the engine writes, and the patch that writes them. Pure: from the last status to the next.

One outcome is one write, and holds the answered request with the final conditions: `flux reconcile` waits for both
in the same state (contract CM-034, CL-004).
"""

import functools
from collections.abc import Collection, Iterable
from typing import TypeVar

import msgspec

from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds.conditions import Conditions, Observed
from tidelog.engine.kinds.decode import encode
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.gitrepository import GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.kustomization import Inventory, InventoryEntry, KustomizationStatus, Snapshot
from tidelog.engine.kinds.meta import Artifact, Condition, Labels, Timestamp
from tidelog.engine.objects.kube import KubeObject

HISTORY_LENGTH_MAX = 5
"""Contract KS-047."""
IN_PROGRESS = "Reconciliation in progress"
SOURCE_IN_PROGRESS = "reconciliation in progress"
ARTIFACT_GONE = "building artifact: disappeared from storage"

_replace = msgspec.structs.replace
S = TypeVar("S", KustomizationStatus, GitRepositoryStatus)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did with a rendered set, for the history."""

    digest: str
    """Of the set, as `sha256:<hex>`."""
    duration: Duration
    revision: str
    origin_revision: str = ""


def fetching(revision: str, timeout: Duration) -> str:
    """What Reconciling says while an artifact is fetched (contract KS-039)."""
    return f"Fetching manifests for revision {revision} with a timeout of {timeout}"


def building(revision: str, timeout: Duration) -> str:
    """What Reconciling says while objects are rendered."""
    return f"Building manifests for revision {revision} with a timeout of {timeout}"


def detecting(revision: str, timeout: Duration) -> str:
    """What Reconciling says while objects are compared and applied."""
    return f"Detecting drift for revision {revision} with a timeout of {timeout}"


def checking_health(revision: str, timeout: Duration) -> str:
    """What Reconciling and Healthy say while health is awaited (contract KS-100)."""
    return f"Running health checks for revision {revision} with a timeout of {timeout}"


# Kustomization


def target_progressing(status: KustomizationStatus, message: str, *, observed: Observed) -> KustomizationStatus:
    """A run has begun and is at the step that `message` names (contract KS-039)."""
    marked = c.mark(status.conditions, c.READY, "Unknown", c.PROGRESSING, IN_PROGRESS, observed=observed)
    return _replace(status, conditions=c.mark_reconciling(marked, c.PROGRESSING, message, observed=observed))


def target_awaiting_health(status: KustomizationStatus, message: str, *, observed: Observed) -> KustomizationStatus:
    """The objects are applied, and their health is awaited (contract KS-100)."""
    status = target_progressing(status, message, observed=observed)
    waiting = c.mark(status.conditions, c.HEALTHY, "Unknown", c.PROGRESSING, message, observed=observed)
    return _replace(status, conditions=waiting)


def target_healthy(status: KustomizationStatus, took: Duration, *, observed: Observed) -> KustomizationStatus:
    """The health check has passed (contract KS-100)."""
    message = f"Health check passed in {took}"
    return _replace(
        status, conditions=c.mark(status.conditions, c.HEALTHY, "True", c.SUCCEEDED, message, observed=observed)
    )


def target_unhealthy(status: KustomizationStatus, message: str, *, observed: Observed) -> KustomizationStatus:
    """The health check has failed (contract KS-100); the run's failure is for `target_failed` to say."""
    failed = c.mark(status.conditions, c.HEALTHY, "False", "HealthCheckFailed", message, observed=observed)
    return _replace(status, conditions=failed)


def target_without_health(status: KustomizationStatus) -> KustomizationStatus:
    """No health check is asked for (contract KS-098)."""
    return _replace(status, conditions=c.remove(status.conditions, c.HEALTHY))


def target_attempted(status: KustomizationStatus, revision: str) -> KustomizationStatus:
    """The revision is there, has the path, and is about to be rendered (contract KS-040)."""
    return _replace(status, last_attempted_revision=revision)


def target_applied(
    status: KustomizationStatus,
    attempt: Attempt,
    *,
    observed: Observed,
    requested_at: str | None,
    inventory: Iterable[InventoryEntry] | None = None,
) -> KustomizationStatus:
    """A run ended well (contract KS-043); the inventory is left as it is where none is given."""
    message = f"Applied revision: {attempt.revision}"
    kept = c.remove(status.conditions, c.RECONCILING, c.STALLED)
    return _answered(
        _replace(
            status,
            observed_generation=observed.generation,
            conditions=c.mark(kept, c.READY, "True", "ReconciliationSucceeded", message, observed=observed),
            last_applied_revision=attempt.revision,
            last_applied_origin_revision=attempt.origin_revision,
            last_attempted_revision=attempt.revision,
            inventory=status.inventory if inventory is None else inventory_of(inventory),
            history=_remembered(status, attempt, "ReconciliationSucceeded", observed.time),
        ),
        requested_at,
    )


def target_failed(
    status: KustomizationStatus,
    reason: str,
    message: str,
    *,
    observed: Observed,
    requested_at: str | None,
    step: str = "",
    attempt: Attempt | None = None,
    inventory: Iterable[InventoryEntry] | None = None,
) -> KustomizationStatus:
    """A run failed and will be tried again (contract KS-041, CM-023).

    Args:
        status: The status before.
        reason: One of the contract's, for example `BuildFailed`; what is held says `PlanHeld`.
        message: What happened, where, and what to do.
        observed: Of which generation, and when.
        requested_at: The request that the run answers.
        step: What Reconciling said last, for example `building(...)`; empty where the run ended before its first
            step, for want of a source or a dependency.
        attempt: The rendered set, where there is one, for the history.
        inventory: What is in the cluster now, where objects were applied (contract KS-090, KS-093).
    """
    marked = c.mark(status.conditions, c.READY, "False", reason, message, observed=observed)
    if step:
        marked = c.mark_reconciling(marked, c.PROGRESSING_WITH_RETRY, step, observed=observed)
    else:
        marked = c.mark_retrying(marked, observed=observed)
    return _answered(
        _replace(
            status,
            conditions=c.remove(marked, c.STALLED),
            inventory=status.inventory if inventory is None else inventory_of(inventory),
            history=status.history if attempt is None else _remembered(status, attempt, reason, observed.time),
        ),
        requested_at,
    )


def target_stalled(
    status: KustomizationStatus,
    reason: str,
    message: str,
    *,
    observed: Observed,
    requested_at: str | None,
) -> KustomizationStatus:
    """The object cannot be reconciled until somebody changes it (contract KS-035, CM-021).

    The generation counts as observed, so that all tools see a failure and none waits. Flux does so for a bad CEL
    expression only, and leaves those who wait for an `AccessDenied` waiting.
    """
    marked = c.mark(status.conditions, c.READY, "False", reason, message, observed=observed)
    return _answered(
        _replace(
            status,
            observed_generation=observed.generation,
            conditions=c.mark_stalled(marked, reason, message, observed=observed),
        ),
        requested_at,
    )


def target_suspended(
    status: KustomizationStatus, *, observed: Observed, requested_at: str | None
) -> KustomizationStatus:
    """A suspended object keeps its status; a request is answered all the same (contract CM-022, CM-057)."""
    if c.status_of(status.conditions, c.READY) == "True":
        status = _replace(
            status,
            observed_generation=observed.generation,
            conditions=c.remove(status.conditions, c.RECONCILING),
        )
    return _answered(status, requested_at)


def inventory_of(entries: Iterable[InventoryEntry]) -> Inventory:
    """An inventory, each object once, in the order of its ids."""
    by_id = {entry.id: entry for entry in entries}
    return Inventory(entries=tuple(by_id[id_] for id_ in sorted(by_id)))


def remember(
    history: tuple[Snapshot, ...], *, digest: str, status: str, time: Timestamp, duration: Duration, metadata: Labels
) -> tuple[Snapshot, ...]:
    """The history with one more outcome: the newest first, one entry for a digest and status (contract KS-047)."""
    before = next(
        (entry for entry in history if (entry.digest, entry.last_reconciled_status) == (digest, status)), None
    )
    entry = Snapshot(
        digest=digest,
        first_reconciled=time if before is None else before.first_reconciled,
        last_reconciled=time,
        last_reconciled_duration=duration,
        last_reconciled_status=status,
        total_reconciliations=1 if before is None else before.total_reconciliations + 1,
        metadata=metadata,
    )
    return (entry, *(other for other in history if other is not before))[:HISTORY_LENGTH_MAX]


def _remembered(status: KustomizationStatus, attempt: Attempt, outcome: str, time: Timestamp) -> tuple[Snapshot, ...]:
    metadata = {"revision": attempt.revision}
    if attempt.origin_revision:
        metadata["originRevision"] = attempt.origin_revision
    return remember(
        status.history,
        digest=attempt.digest,
        status=outcome,
        time=time,
        duration=attempt.duration,
        metadata=metadata,
    )


# GitRepository


def source_progressing(
    status: GitRepositoryStatus, message: str, *, observed: Observed, drift: bool = False
) -> GitRepositoryStatus:
    """A source is being worked on; one that is ready stays so, unless it has drifted (contract CM-024)."""
    marked = c.mark_reconciling(status.conditions, c.PROGRESSING, message, observed=observed)
    if drift or c.status_of(marked, c.READY) == "Unknown":
        marked = c.mark(marked, c.READY, "Unknown", c.PROGRESSING, message, observed=observed)
    return _replace(status, conditions=marked)


def source_outdated(status: GitRepositoryStatus, revision: str, *, observed: Observed) -> GitRepositoryStatus:
    """The remote has a revision that no artifact is made of yet (contract SC-008)."""
    message = f"new upstream revision '{revision}'"
    outdated = status.conditions
    if status.artifact is not None:
        outdated = c.mark(outdated, c.ARTIFACT_OUTDATED, "True", "NewRevision", message, observed=observed)
    status = _replace(status, conditions=c.remove(outdated, c.FETCH_FAILED))
    return source_progressing(status, f"building artifact: {message}", observed=observed, drift=True)


def source_stored(
    status: GitRepositoryStatus,
    artifact: Artifact,
    spec: GitRepositorySpec,
    *,
    observed: Observed,
    requested_at: str | None,
) -> GitRepositoryStatus:
    """The artifact of what the spec says now is in the store, made anew or as it was (contract GR-029, GR-030)."""
    message = f"stored artifact for revision '{artifact.revision}'"
    kept = c.remove(status.conditions, c.STORAGE_FAILED, c.FETCH_FAILED, c.ARTIFACT_OUTDATED, c.RECONCILING, c.STALLED)
    stored = c.mark(kept, c.ARTIFACT_IN_STORAGE, "True", c.SUCCEEDED, message, observed=observed)
    return _answered(
        _replace(
            status,
            observed_generation=observed.generation,
            conditions=c.source_ready(stored, observed=observed),
            artifact=artifact,
            observed_ignore=spec.ignore,
            observed_include=spec.include,
            observed_recurse_submodules=spec.recurse_submodules,
            observed_sparse_checkout=spec.sparse_checkout,
        ),
        requested_at,
    )


def source_failed(
    status: GitRepositoryStatus,
    reason: str,
    message: str,
    *,
    observed: Observed,
    requested_at: str | None,
    condition: str = c.FETCH_FAILED,
    step: str = SOURCE_IN_PROGRESS,
) -> GitRepositoryStatus:
    """A run failed and will be tried again; the artifact stays (contract SC-002, SC-008).

    `condition` is the one that tells the failure: FetchFailed, or StorageOperationFailed.
    """
    marked = c.mark(status.conditions, condition, "True", reason, message, observed=observed)
    marked = c.mark_reconciling(marked, c.PROGRESSING_WITH_RETRY, step, observed=observed)
    return _answered(_replace(status, conditions=c.source_ready(marked, observed=observed)), requested_at)


def source_stalled(
    status: GitRepositoryStatus,
    reason: str,
    message: str,
    *,
    observed: Observed,
    requested_at: str | None,
    condition: str | None = None,
) -> GitRepositoryStatus:
    """The object cannot be reconciled until somebody changes it (contract SC-003).

    `condition` is the one that tells the failure, where a step failed; none where none was begun.
    """
    marked = c.remove(status.conditions, c.STORAGE_FAILED, c.FETCH_FAILED)
    if condition is not None:
        marked = c.mark(marked, condition, "True", reason, message, observed=observed)
    stalled = c.mark_stalled(marked, reason, message, observed=observed)
    return _answered(
        _replace(
            status,
            observed_generation=observed.generation,
            conditions=c.source_ready(stalled, observed=observed),
        ),
        requested_at,
    )


def source_artifact_gone(status: GitRepositoryStatus, *, observed: Observed) -> GitRepositoryStatus:
    """The file of the artifact has vanished and is made anew (contract SC-014)."""
    status = _replace(status, artifact=None, conditions=c.remove(status.conditions, c.ARTIFACT_IN_STORAGE))
    return source_progressing(status, ARTIFACT_GONE, observed=observed, drift=True)


def source_suspended(status: GitRepositoryStatus, *, requested_at: str | None) -> GitRepositoryStatus:
    """A suspended object keeps its status; a request is answered all the same (contract CM-057)."""
    return _answered(status, requested_at)


# Both


def _answered(status: S, requested_at: str | None) -> S:
    if requested_at is None:
        return status
    return _replace(status, last_handled_reconcile_at=requested_at)


def status_patch(
    live: KubeObject, status: KustomizationStatus | GitRepositoryStatus, owned: Collection[str]
) -> KubeObject:
    """The JSON merge patch (RFC 7396) that makes a live object's status the one given; empty when it is.

    Fields that our kinds do not know and conditions that are not `owned` stay. Conditions are one list, which a
    merge patch writes as a whole: where the live object has others' conditions, the patch holds for the version of
    the object that it was made from, and a conflict asks for a new one.

    Args:
        live: The whole object as it was last seen.
        status: What its status is to be.
        owned: Types of the conditions that are ours: `SOURCE_OWNED` or `TARGET_OWNED`.
    """
    before: KubeObject = live.get("status") or {}
    found = _conditions(before)
    merged = _replace(status, conditions=c.with_others(found, status.conditions, owned))
    known = _names(type(status))
    difference = _difference({name: value for name, value in before.items() if name in known}, encode(merged))
    if not difference:
        return {}
    patch: KubeObject = {"status": difference}
    if "conditions" in difference and any(condition.type not in owned for condition in found):
        patch["metadata"] = {"resourceVersion": live["metadata"]["resourceVersion"]}
    return patch


@functools.cache
def _names(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Finding them out evaluates every annotation: longer than all the rest of a patch."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def _conditions(status: KubeObject) -> Conditions:
    return msgspec.convert(status.get("conditions") or [], tuple[Condition, ...])


def _difference(before: KubeObject, after: KubeObject) -> KubeObject:
    patch: KubeObject = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            below = _difference(old, value)
            if below:
                patch[name] = below
        elif name not in before or old != value:
            patch[name] = value
    return patch
