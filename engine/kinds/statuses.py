"""The statuses that the engine writes, and the patch that writes them. Pure: from the last status to the next.

One outcome is one write, and holds the answered request with the final conditions: `flux reconcile` waits for both
in the same state (contract CM-034, CL-004).
"""

import functools
from collections.abc import Collection
from typing import TypeVar

import msgspec

from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds.bucket import BucketSpec, BucketStatus
from tidelog.engine.kinds.conditions import Conditions, Observed
from tidelog.engine.kinds.decode import encode
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.gitrepository import GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.helmchart import HelmChartSpec, HelmChartStatus
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec, HelmRepositoryStatus
from tidelog.engine.kinds.meta import Artifact, Condition
from tidelog.engine.kinds.ocirepository import OCIRepositorySpec, OCIRepositoryStatus
from tidelog.engine.kinds.registry import FetchedSpec, FetchedStatus, TargetStatus
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.typed import converter
from tidelog.events.vocabulary.fetch import Chart

IN_PROGRESS = "Reconciliation in progress"
SOURCE_IN_PROGRESS = "reconciliation in progress"
FETCH_REASONS = frozenset(
    {
        "URLInvalid",
        "AuthenticationFailed",
        "GitOperationFailed",
        "EmptyGitRepository",
        "InvalidProviderConfiguration",
        "FeatureGateDisabled",
        "OCIArtifactPullFailed",
        "OCIArtifactLayerOperationFailed",
        "ReadOperationFailed",
        "BucketOperationFailed",
        "InvalidSTSConfiguration",
        "Failed",
        "IndexationFailed",
        "SourceUnavailable",
        "UnsupportedSourceKind",
        "NoSourceArtifact",
        "InvalidChartReference",
        "ChartPullError",
    }
)
"""Contract GR-031, OC-027, BU-015, HP-016, HC-017."""
BUILD_REASONS = frozenset(
    {
        "MetadataPatchError",
        "ValuesFilesError",
        "DependencyBuildError",
        "ChartPackageError",
        "ChartVerificationError",
    }
)
"""Contract HC-017."""
VERIFICATION_FAILED = "VerificationError"
VERIFICATION_REASONS = frozenset({VERIFICATION_FAILED, "ChartVerificationError"})
"""A chart without a good signature is not built either: two conditions tell of it (contract HC-017)."""
_FAILED = (c.STORAGE_FAILED, c.FETCH_FAILED, c.BUILD_FAILED)
STORAGE_REASONS = frozenset({"ArchiveOperationFailed"})
"""Those of contract SC-017 that can be told apart here."""

LATEST = {
    **dict.fromkeys(("OCIRepository", "Bucket", "HelmChart"), "latest.tar.gz"),
    "HelmRepository": "index.yaml",
}
"""The name of an artifact, whichever it is, by the kind of its source; a GitRepository has none (contract SC-011)."""

_replace = msgspec.structs.replace


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


# Sources

S = TypeVar("S", bound=FetchedStatus)


def source_progressing(status: S, message: str, *, observed: Observed, drift: bool = False) -> S:
    """A source is being worked on; one that is ready stays so, unless it has drifted (contract CM-024)."""
    marked = c.mark_reconciling(status.conditions, c.PROGRESSING, message, observed=observed)
    if drift or c.status_of(marked, c.READY) == "Unknown":
        marked = c.mark(marked, c.READY, "Unknown", c.PROGRESSING, message, observed=observed)
    return _replace(status, conditions=marked)


def source_outdated(status: S, revision: str, *, observed: Observed) -> S:
    """The remote has a revision that no artifact is made of yet (contract SC-008)."""
    message = f"new upstream revision '{revision}'"
    outdated = status.conditions
    if status.artifact is not None:
        outdated = c.mark(outdated, c.ARTIFACT_OUTDATED, "True", "NewRevision", message, observed=observed)
    status = _replace(status, conditions=c.remove(outdated, c.FETCH_FAILED, c.BUILD_FAILED))
    return source_progressing(status, f"building artifact: {message}", observed=observed, drift=True)


def source_stored(
    status: FetchedStatus,
    artifact: Artifact,
    spec: FetchedSpec,
    *,
    observed: Observed,
    chart: Chart | None = None,
    source: str = "",
) -> FetchedStatus:
    """The artifact of what the spec says now is in the store, made anew or as it was (contract GR-029, GR-030)."""
    reason, message = stored(spec, artifact.revision, chart)
    kept = c.remove(status.conditions, *_FAILED, c.ARTIFACT_OUTDATED, c.RECONCILING, c.STALLED)
    if isinstance(spec, OCIRepositorySpec | HelmChartSpec):
        kept = _verified(kept, spec, artifact.revision, observed)
    marked = c.mark(kept, c.ARTIFACT_IN_STORAGE, "True", reason, message, observed=observed)
    made = _replace(
        status,
        observed_generation=observed.generation,
        conditions=c.source_ready(marked, observed=observed),
        artifact=artifact,
    )
    match made, spec:
        case GitRepositoryStatus(), GitRepositorySpec():
            return _replace(
                made,
                observed_ignore=spec.ignore,
                observed_include=spec.include,
                observed_recurse_submodules=spec.recurse_submodules,
                observed_sparse_checkout=spec.sparse_checkout,
            )
        case OCIRepositoryStatus(), OCIRepositorySpec():
            return _replace(
                made,
                observed_ignore=spec.ignore,
                observed_layer_selector=spec.layer_selector,
                url=latest_url(artifact, "OCIRepository"),
            )
        case BucketStatus(), BucketSpec():
            return _replace(made, observed_ignore=spec.ignore, url=latest_url(artifact, "Bucket"))
        case HelmRepositoryStatus(), _:
            return _replace(made, url=latest_url(artifact, "HelmRepository"))
        case HelmChartStatus(), HelmChartSpec():
            return _replace(
                made,
                url=latest_url(artifact, "HelmChart"),
                observed_chart_name=chart.name if chart else "",
                observed_source_artifact_revision=source,
                # Only those that may be missing are told (contract HC-007).
                observed_values_files=chart.values_files if chart and spec.ignore_missing_values_files else (),
            )
        case _:
            return made


def _verified(
    conditions: Conditions, spec: OCIRepositorySpec | HelmChartSpec, revision: str, observed: Observed
) -> Conditions:
    """Nothing is stored that was to be verified and was not (contract SC-008)."""
    if spec.verify is None:
        return c.remove(conditions, c.SOURCE_VERIFIED)
    word = "version" if isinstance(spec, HelmChartSpec) else "revision"
    message = f"verified signature of {word} {revision}"
    return c.mark(conditions, c.SOURCE_VERIFIED, "True", c.SUCCEEDED, message, observed=observed)


def stored(spec: FetchedSpec, revision: str, chart: Chart | None) -> tuple[str, str]:
    """Reason and message of an artifact that is in the store (contract GR-030, OC-026, BU-014, HP-015, HC-016)."""
    match spec:
        case OCIRepositorySpec():
            return c.SUCCEEDED, f"stored artifact for digest '{revision}'"
        case BucketSpec() | HelmRepositorySpec():
            return c.SUCCEEDED, f"stored artifact: revision '{revision}'"
        case HelmChartSpec() if chart is not None:
            merged = f" and merged values files [{' '.join(chart.values_files)}]" if chart.values_files else ""
            is_pulled = spec.source_ref.kind == "HelmRepository" and not merged
            reason, done = ("ChartPullSucceeded", "pulled") if is_pulled else ("ChartPackageSucceeded", "packaged")
            return reason, f"{done} '{chart.name}' chart with version '{revision}'{merged}"
        case _:
            return c.SUCCEEDED, f"stored artifact for revision '{revision}'"


def latest_url(artifact: Artifact, kind: str) -> str:
    """The address of a source's artifact, whichever it is (contract SC-011)."""
    return f"{artifact.url.rpartition('/')[0]}/{LATEST[kind]}"


def source_failed(status: S, reason: str, message: str, *, observed: Observed) -> S:
    """A run failed and will be tried again; the artifact stays (contract SC-002, SC-008)."""
    marked = _fail(status.conditions, source_condition(reason) or c.FETCH_FAILED, reason, message, observed)
    marked = c.mark_reconciling(marked, c.PROGRESSING_WITH_RETRY, SOURCE_IN_PROGRESS, observed=observed)
    return _replace(status, conditions=c.source_ready(marked, observed=observed))


def source_stalled(status: S, reason: str, message: str, *, observed: Observed) -> S:
    """The object cannot be reconciled until somebody changes it (contract SC-003)."""
    marked = _fail(status.conditions, source_condition(reason), reason, message, observed)
    stalled = c.mark_stalled(marked, reason, message, observed=observed)
    return _replace(
        status, observed_generation=observed.generation, conditions=c.source_ready(stalled, observed=observed)
    )


def _fail(conditions: Conditions, condition: str | None, reason: str, message: str, observed: Observed) -> Conditions:
    """What told of another failure goes; a verification that failed is done again, and one that held still counts."""
    kept = c.remove(conditions, *_FAILED)
    if c.status_of(kept, c.SOURCE_VERIFIED) == "False":
        kept = c.remove(kept, c.SOURCE_VERIFIED)
    if reason in VERIFICATION_REASONS:
        kept = c.mark(kept, c.SOURCE_VERIFIED, "False", VERIFICATION_FAILED, message, observed=observed)
    if condition is None or condition == c.SOURCE_VERIFIED:
        return kept
    return c.mark(kept, condition, "True", reason, message, observed=observed)


def source_condition(reason: str) -> str | None:
    """The condition that tells of a failure (contract SC-008); None where no step was begun."""
    if reason in STORAGE_REASONS:
        return c.STORAGE_FAILED
    if reason == VERIFICATION_FAILED:
        return c.SOURCE_VERIFIED
    if reason in BUILD_REASONS:
        return c.BUILD_FAILED
    return c.FETCH_FAILED if reason in FETCH_REASONS else None


# Both


def is_current(status: FetchedStatus | TargetStatus, generation: int) -> bool:
    """Whether an object is ready, and says so of its present generation (contract KS-038)."""
    return status.observed_generation == generation and c.status_of(status.conditions, c.READY) == "True"


def status_patch(live: KubeObject, status: FetchedStatus | TargetStatus, owned: Collection[str]) -> KubeObject:
    """The JSON merge patch (RFC 7396) that makes a live object's status the one given; empty when it is.

    Fields that our kinds do not know and conditions that are not `owned` stay. Conditions are one list, which a
    merge patch writes as a whole: where the live object has others' conditions, the patch holds for the version of
    the object that it was made from, and a conflict asks for a new one.

    Args:
        live: The whole object as it was last seen.
        status: What its status is to be.
        owned: Types of the conditions that are ours: `SOURCE_OWNED`, `TARGET_OWNED` or `RELEASE_OWNED`.
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


def emptied(live: KubeObject) -> KubeObject:
    """The JSON merge patch that leaves nothing of a status, of an object that is static (contract HP-002).

    It is for the generation, too, which the API server says was never observed: else whoever waits for the object to be
    looked after would wait for ever.
    """
    return {"status": dict.fromkeys(live["status"])} if live.get("status") else {}


@functools.cache
def _names(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Finding them out evaluates every annotation: longer than all the rest of a patch."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def _conditions(status: KubeObject) -> Conditions:
    return converter(tuple[Condition, ...])(status.get("conditions") or [])


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
