"""Statuses after each outcome, as tools that know Flux read them (contract 1.2, 2.1, 3.2, GR-029)."""

from typing import Any

import msgspec
import pytest

from tidelog.engine.kinds import statuses as s
from tidelog.engine.kinds.conditions import (
    SOURCE_OWNED,
    STORAGE_FAILED,
    TARGET_OWNED,
    Conditions,
    Observed,
    find,
)
from tidelog.engine.kinds.decode import encode
from tidelog.engine.kinds.durations import Duration, Interval
from tidelog.engine.kinds.gitrepository import GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.kustomization import InventoryEntry, KustomizationStatus, Snapshot
from tidelog.engine.kinds.meta import Artifact, Condition
from tidelog.engine.kinds.statuses import Attempt
from tidelog.engine.objects.kube import KubeObject

THEN = Observed(3, "2026-11-23T01:00:00Z")
NOW = Observed(3, "2026-11-23T02:00:00Z")
REVISION = "main@sha1:363a6a8fe6a7f13e05d34c163b0ef02a777da20a"
ATTEMPT = Attempt(digest="sha256:" + "1" * 64, duration=Duration.of_seconds(1.5), revision=REVISION)
TIMEOUT = Interval.parse("3m")
NEW_TARGET = KustomizationStatus(observed_generation=-1)
NEW_SOURCE = GitRepositoryStatus(observed_generation=-1)
SPEC = GitRepositorySpec(url="https://example.com/a", interval=Interval.parse("1m"), ignore="*.md")
ENTRIES = (
    InventoryEntry(id="default_podinfo__Service", v="v1"),
    InventoryEntry(id="_x_rbac.authorization.k8s.io_ClusterRole", v="v1"),
)
ARTIFACT = Artifact(
    path="gitrepository/default/podinfo/363a6a8fe6a7f13e05d34c163b0ef02a777da20a.tar.gz",
    url="http://source-controller.flux-system.svc.cluster.local./gitrepository/default/podinfo/363a.tar.gz",
    revision=REVISION,
    digest="sha256:" + "2" * 64,
    last_update_time=NOW.time,
    size=1024,
)


def kstatus(status: KustomizationStatus | GitRepositoryStatus, generation: int = 3) -> str:
    """What the rules of kstatus for custom resources make of it."""
    values = {condition.type: condition.status for condition in status.conditions}
    if status.observed_generation not in {0, generation}:
        return "InProgress"
    if values.get("Reconciling") == "True":
        return "InProgress"
    if values.get("Stalled") == "True":
        return "Failed"
    return {"True": "Current", None: "Current"}.get(values.get("Ready"), "InProgress")


def shown(status: KustomizationStatus | GitRepositoryStatus) -> dict[str, tuple[str, str, str]]:
    return {item.type: (item.status, item.reason, item.message) for item in status.conditions}


def applied(status: KustomizationStatus = NEW_TARGET, observed: Observed = THEN) -> KustomizationStatus:
    return s.target_applied(status, ATTEMPT, observed=observed, requested_at=None, inventory=ENTRIES)


def test_a_run_in_progress_names_its_step() -> None:
    status = s.target_progressing(NEW_TARGET, s.building(REVISION, TIMEOUT), observed=NOW)
    assert shown(status) == {
        "Reconciling": ("True", "Progressing", f"Building manifests for revision {REVISION} with a timeout of 3m0s"),
        "Ready": ("Unknown", "Progressing", "Reconciliation in progress"),
    }
    assert kstatus(status) == "InProgress"
    steps = [s.fetching, s.building, s.detecting, s.checking_health]
    assert [step("r", TIMEOUT).split(" for ")[0] for step in steps] == [
        "Fetching manifests",
        "Building manifests",
        "Detecting drift",
        "Running health checks",
    ]


def test_a_success_says_what_was_applied_and_answers_the_request() -> None:
    before = s.target_progressing(NEW_TARGET, "m", observed=THEN)
    attempt = msgspec.structs.replace(ATTEMPT, origin_revision="v1@sha1:abc")
    status = s.target_applied(before, attempt, observed=NOW, requested_at="token", inventory=ENTRIES)
    assert encode(status) == {
        "observedGeneration": 3,
        "lastHandledReconcileAt": "token",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "ReconciliationSucceeded",
                "message": f"Applied revision: {REVISION}",
                "lastTransitionTime": NOW.time,
                "observedGeneration": 3,
            }
        ],
        "lastAppliedRevision": REVISION,
        "lastAppliedOriginRevision": "v1@sha1:abc",
        "lastAttemptedRevision": REVISION,
        "inventory": {
            "entries": [
                {"id": "_x_rbac.authorization.k8s.io_ClusterRole", "v": "v1"},
                {"id": "default_podinfo__Service", "v": "v1"},
            ]
        },
        "history": [
            {
                "digest": ATTEMPT.digest,
                "firstReconciled": NOW.time,
                "lastReconciled": NOW.time,
                "lastReconciledDuration": "1.5s",
                "lastReconciledStatus": "ReconciliationSucceeded",
                "totalReconciliations": 1,
                "metadata": {"revision": REVISION, "originRevision": "v1@sha1:abc"},
            }
        ],
    }
    assert kstatus(status) == "Current"


def test_a_success_without_an_inventory_keeps_the_one_before() -> None:
    status = s.target_applied(applied(), ATTEMPT, observed=NOW, requested_at=None)
    assert status.inventory == s.inventory_of(ENTRIES)
    assert status.history[0].total_reconciliations == 2


def test_a_failure_keeps_what_is_applied_and_does_not_count_as_observed() -> None:
    changed = Observed(4, NOW.time)
    step = s.detecting("r2", TIMEOUT)
    status = s.target_failed(
        applied(), "ReconciliationFailed", "no", observed=changed, requested_at="t", step=step, attempt=ATTEMPT
    )
    assert shown(status) == {
        "Reconciling": ("True", "ProgressingWithRetry", step),
        "Ready": ("False", "ReconciliationFailed", "no"),
    }
    assert (status.observed_generation, status.last_handled_reconcile_at) == (3, "t")
    assert (status.inventory, status.last_applied_revision) == (s.inventory_of(ENTRIES), REVISION)
    assert [entry.last_reconciled_status for entry in status.history] == [
        "ReconciliationFailed",
        "ReconciliationSucceeded",
    ]
    assert kstatus(status, generation=4) == "InProgress"


def test_a_failure_before_the_first_step_leaves_reconciling_to_runs_that_began() -> None:
    status = s.target_failed(NEW_TARGET, "ArtifactFailed", "Source not found", observed=NOW, requested_at=None)
    assert list(shown(status)) == ["Ready"]
    assert status.history == ()
    begun = s.target_progressing(NEW_TARGET, "m", observed=THEN)
    status = s.target_failed(begun, "DependencyNotReady", "a is not", observed=NOW, requested_at=None)
    assert shown(status)["Reconciling"] == ("True", "ProgressingWithRetry", "m")


def test_a_failed_prune_tells_what_is_still_there() -> None:
    status = s.target_failed(
        applied(), "PruneFailed", "no", observed=NOW, requested_at=None, step="m", inventory=ENTRIES[:1]
    )
    assert status.inventory == s.inventory_of(ENTRIES[:1])


def test_what_is_held_is_not_ready_and_not_stalled() -> None:
    stalled = s.target_stalled(applied(), "X", "m", observed=THEN, requested_at=None)
    status = s.target_failed(stalled, "PlanHeld", "tidelog approve ...", observed=NOW, requested_at=None)
    assert shown(status) == {"Ready": ("False", "PlanHeld", "tidelog approve ...")}


def test_what_is_stalled_is_a_failure_for_those_who_wait() -> None:
    begun = s.target_progressing(applied(), "m", observed=THEN)
    status = s.target_stalled(
        begun, "UnsupportedFeature", "spec.ignore: ...", observed=Observed(4, NOW.time), requested_at="t"
    )
    assert shown(status) == {
        "Stalled": ("True", "UnsupportedFeature", "spec.ignore: ..."),
        "Ready": ("False", "UnsupportedFeature", "spec.ignore: ..."),
    }
    assert (status.observed_generation, status.last_handled_reconcile_at) == (4, "t")
    assert kstatus(status, generation=4) == "Failed"


def test_a_suspended_target_keeps_its_status_and_answers() -> None:
    status = s.target_suspended(applied(), observed=Observed(4, NOW.time), requested_at="t")
    assert status == msgspec.structs.replace(applied(), observed_generation=4, last_handled_reconcile_at="t")
    failed = s.target_failed(NEW_TARGET, "BuildFailed", "no", observed=THEN, requested_at=None)
    assert s.target_suspended(failed, observed=NOW, requested_at=None) == failed


def test_an_attempt_is_noted_before_it_is_rendered() -> None:
    assert s.target_attempted(NEW_TARGET, "r").last_attempted_revision == "r"


def test_the_health_of_a_target() -> None:
    message = s.checking_health(REVISION, TIMEOUT)
    waiting = s.target_awaiting_health(NEW_TARGET, message, observed=NOW)
    assert shown(waiting)["Healthy"] == ("Unknown", "Progressing", message)
    assert kstatus(waiting) == "InProgress"
    healthy = s.target_healthy(waiting, Duration.of_seconds(2.5), observed=NOW)
    assert shown(healthy)["Healthy"] == ("True", "Succeeded", "Health check passed in 2.5s")
    failed = s.target_unhealthy(waiting, "timeout", observed=NOW)
    assert shown(failed)["Healthy"] == ("False", "HealthCheckFailed", "timeout")
    assert "Healthy" not in shown(s.target_without_health(healthy))


def remember(history: tuple[Snapshot, ...], digest: str, status: str, second: int) -> tuple[Snapshot, ...]:
    return s.remember(
        history,
        digest=digest,
        status=status,
        time=f"2026-11-23T01:00:{second:02d}Z",
        duration=Duration.of_seconds(second),
        metadata={"revision": f"r{second}"},
    )


def test_history_is_one_entry_for_a_digest_and_status_the_newest_first() -> None:
    history: tuple[Snapshot, ...] = ()
    for second, (digest, status) in enumerate([("a", "ok"), ("b", "ok"), ("b", "bad"), ("a", "ok")]):
        history = remember(history, digest, status, second)
    assert [(entry.digest, entry.last_reconciled_status, entry.total_reconciliations) for entry in history] == [
        ("a", "ok", 2),
        ("b", "bad", 1),
        ("b", "ok", 1),
    ]
    newest = history[0]
    assert (newest.first_reconciled[-3:], newest.last_reconciled[-3:]) == ("00Z", "03Z")
    assert (str(newest.last_reconciled_duration), newest.metadata) == ("3s", {"revision": "r3"})


def test_history_holds_five_outcomes() -> None:
    history: tuple[Snapshot, ...] = ()
    for second in range(8):
        history = remember(history, f"d{second}", "ok", second)
    assert [entry.digest for entry in history] == ["d7", "d6", "d5", "d4", "d3"]


def stored(status: GitRepositoryStatus = NEW_SOURCE, observed: Observed = NOW) -> GitRepositoryStatus:
    return s.source_stored(status, ARTIFACT, SPEC, observed=observed, requested_at="t")


def test_a_stored_artifact_makes_a_source_ready() -> None:
    begun = s.source_progressing(NEW_SOURCE, "reconciliation in progress", observed=THEN)
    assert shown(begun)["Ready"] == ("Unknown", "Progressing", "reconciliation in progress")
    status = stored(s.source_outdated(begun, REVISION, observed=THEN))
    message = f"stored artifact for revision '{REVISION}'"
    assert shown(status) == {
        "Ready": ("True", "Succeeded", message),
        "ArtifactInStorage": ("True", "Succeeded", message),
    }
    assert status.artifact == ARTIFACT
    assert (status.observed_generation, status.observed_ignore, status.last_handled_reconcile_at) == (3, "*.md", "t")
    assert kstatus(status) == "Current"


def test_nothing_new_leaves_a_ready_source_as_it_is() -> None:
    assert stored(stored()) == stored()
    working = s.source_progressing(stored(), "m", observed=NOW)
    assert shown(working)["Ready"][0] == "True"
    assert stored(working) == stored()


def test_a_new_revision_makes_a_source_unready_until_it_is_stored() -> None:
    status = s.source_outdated(stored(), "main@sha1:b", observed=NOW)
    message = "building artifact: new upstream revision 'main@sha1:b'"
    assert shown(status)["Reconciling"] == ("True", "Progressing", message)
    assert shown(status)["Ready"] == ("Unknown", "Progressing", message)
    assert shown(status)["ArtifactOutdated"] == ("True", "NewRevision", "new upstream revision 'main@sha1:b'")
    assert shown(stored(status)) == shown(stored())


def test_a_failed_fetch_keeps_the_artifact() -> None:
    status = s.source_failed(
        stored(observed=THEN), "AuthenticationFailed", "401", observed=Observed(4, NOW.time), requested_at="u"
    )
    assert status.artifact == ARTIFACT
    assert (status.observed_generation, status.last_handled_reconcile_at) == (3, "u")
    assert shown(status)["Ready"] == ("False", "AuthenticationFailed", "401")
    assert shown(status)["FetchFailed"] == ("True", "AuthenticationFailed", "401")
    assert shown(status)["Reconciling"] == ("True", "ProgressingWithRetry", "reconciliation in progress")
    assert kstatus(status, generation=4) == "InProgress"
    assert shown(stored(status)) == shown(stored())


def test_a_store_that_fails_tells_so() -> None:
    status = s.source_failed(
        stored(), "ArchiveOperationFailed", "disk full", observed=NOW, requested_at=None, condition=STORAGE_FAILED
    )
    assert shown(status)["Ready"] == ("False", "ArchiveOperationFailed", "disk full")


def test_a_stalled_source_is_a_failure_for_those_who_wait() -> None:
    failed = s.source_failed(NEW_SOURCE, "GitOperationFailed", "x", observed=THEN, requested_at=None)
    status = s.source_stalled(failed, "UnsupportedFeature", "spec.verify: ...", observed=NOW, requested_at="t")
    assert shown(status) == {
        "Stalled": ("True", "UnsupportedFeature", "spec.verify: ..."),
        "Ready": ("False", "UnsupportedFeature", "spec.verify: ..."),
    }
    assert kstatus(status) == "Failed"
    status = s.source_stalled(failed, "URLInvalid", "x", observed=NOW, requested_at="t", condition="FetchFailed")
    assert list(shown(status)) == ["Stalled", "Ready", "FetchFailed"]


def test_an_artifact_whose_file_is_gone_is_in_no_status() -> None:
    status = s.source_artifact_gone(stored(), observed=NOW)
    assert status.artifact is None
    assert shown(status)["Reconciling"] == ("True", "Progressing", "building artifact: disappeared from storage")
    assert "ArtifactInStorage" not in shown(status)


def test_a_suspended_source_answers() -> None:
    assert s.source_suspended(stored(), requested_at="u") == msgspec.structs.replace(
        stored(), last_handled_reconcile_at="u"
    )


def live(status: KubeObject) -> KubeObject:
    return {"metadata": {"name": "a", "resourceVersion": "41"}, "status": status}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


OUTCOMES: list[KustomizationStatus] = [
    NEW_TARGET,
    s.target_progressing(NEW_TARGET, "m", observed=THEN),
    applied(),
    s.target_applied(
        applied(),
        Attempt(digest="sha256:9", duration=Duration(1), revision="r2", origin_revision="o"),
        observed=NOW,
        requested_at="t",
        inventory=ENTRIES[:1],
    ),
    s.target_failed(applied(), "BuildFailed", "no", observed=NOW, requested_at=None, step="m"),
    s.target_stalled(applied(), "X", "m", observed=NOW, requested_at=None),
]


@pytest.mark.parametrize("after", OUTCOMES)
@pytest.mark.parametrize("before", OUTCOMES)
def test_the_patch_leads_from_any_status_to_any_other(before: KustomizationStatus, after: KustomizationStatus) -> None:
    found = live(encode(before))
    patch = s.status_patch(found, after, TARGET_OWNED)
    assert merged(found, patch)["status"] == encode(after)
    assert (patch == {}) == (before == after)


def test_a_patch_to_an_object_without_a_status() -> None:
    assert merged({"metadata": {}}, s.status_patch({"metadata": {}}, stored(), SOURCE_OWNED))["status"] == encode(
        stored()
    )


def test_a_patch_leaves_unknown_fields_and_conditions_of_others_and_then_names_the_version() -> None:
    foreign = Condition(type="Audited", status="True", reason="Ok", message="", last_transition_time=THEN.time)
    found = live(encode(applied()) | {"ofTomorrow": {"a": 1}, "conditions": [encode(foreign)]})
    patch = s.status_patch(found, applied(), TARGET_OWNED)
    assert patch["metadata"] == {"resourceVersion": "41"}
    after = merged(found, patch)["status"]
    assert after["ofTomorrow"] == {"a": 1}
    conditions = msgspec.convert(after["conditions"], Conditions)
    assert [condition.type for condition in conditions] == ["Ready", "Audited"]
    assert find(conditions, "Audited") == foreign


def test_a_patch_that_leaves_conditions_alone_names_no_version() -> None:
    foreign = Condition(type="Audited", status="True", reason="Ok", message="", last_transition_time=THEN.time)
    before = msgspec.structs.replace(applied(), conditions=(*applied().conditions, foreign))
    after = s.target_suspended(applied(), observed=THEN, requested_at="t")
    assert s.status_patch(live(encode(before)), after, TARGET_OWNED) == {"status": {"lastHandledReconcileAt": "t"}}


def test_a_patch_takes_metadata_out_of_an_artifact() -> None:
    before = msgspec.structs.replace(
        stored(), artifact=msgspec.structs.replace(ARTIFACT, metadata={"a": "1", "b": "2"})
    )
    found = live(encode(before))
    after = msgspec.structs.replace(stored(), artifact=msgspec.structs.replace(ARTIFACT, metadata={"b": "3"}))
    assert s.status_patch(found, after, SOURCE_OWNED) == {"status": {"artifact": {"metadata": {"a": None, "b": "3"}}}}
