"""Statuses after each outcome, as tools that know Flux read them (contract 1.2, 2.1, 3.2, GR-029)."""

from typing import Any, cast

import msgspec
import pytest

from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds import statuses as s
from tidelog.engine.kinds.conditions import (
    SOURCE_OWNED,
    TARGET_OWNED,
    Conditions,
    Observed,
    find,
)
from tidelog.engine.kinds.decode import encode
from tidelog.engine.kinds.durations import Duration, Interval
from tidelog.engine.kinds.gitrepository import GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.kustomization import KustomizationStatus, Snapshot
from tidelog.engine.kinds.meta import Artifact, Condition
from tidelog.engine.kinds.targets import Inventory, InventoryEntry
from tidelog.engine.objects.kube import KubeObject

THEN = Observed(3, "2026-11-23T01:00:00Z")
NOW = Observed(3, "2026-11-23T02:00:00Z")
REVISION = "main@sha1:363a6a8fe6a7f13e05d34c163b0ef02a777da20a"
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


def applied(revision: str = REVISION, entries: tuple[InventoryEntry, ...] = ENTRIES) -> KustomizationStatus:
    message = f"Applied revision: {revision}"
    outcome = Snapshot(
        digest="sha256:" + "1" * 64,
        first_reconciled=THEN.time,
        last_reconciled=THEN.time,
        last_reconciled_duration=Duration.of_seconds(1.5),
        last_reconciled_status="ReconciliationSucceeded",
        total_reconciliations=1,
        metadata={"revision": revision},
    )
    return msgspec.structs.replace(
        NEW_TARGET,
        observed_generation=THEN.generation,
        conditions=c.mark((), "Ready", "True", "ReconciliationSucceeded", message, observed=THEN),
        last_applied_revision=revision,
        last_attempted_revision=revision,
        inventory=Inventory(entries=entries),
        history=(outcome,),
    )


def stored(status: GitRepositoryStatus = NEW_SOURCE, observed: Observed = NOW) -> GitRepositoryStatus:
    return cast("GitRepositoryStatus", s.source_stored(status, ARTIFACT, SPEC, observed=observed))


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
    assert (status.observed_generation, status.observed_ignore) == (3, "*.md")
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
    status = s.source_failed(stored(observed=THEN), "AuthenticationFailed", "401", observed=Observed(4, NOW.time))
    assert status.artifact == ARTIFACT
    assert status.observed_generation == 3
    assert shown(status)["Ready"] == ("False", "AuthenticationFailed", "401")
    assert shown(status)["FetchFailed"] == ("True", "AuthenticationFailed", "401")
    assert shown(status)["Reconciling"] == ("True", "ProgressingWithRetry", "reconciliation in progress")
    assert kstatus(status, generation=4) == "InProgress"
    assert shown(stored(status)) == shown(stored())


def test_a_verification_that_failed_is_told_until_something_else_fails_or_it_is_done_again() -> None:
    refused = s.source_failed(stored(), "ChartVerificationError", "not signed", observed=NOW)
    assert shown(refused)["SourceVerified"] == ("False", "VerificationError", "not signed")
    assert shown(refused)["BuildFailed"] == ("True", "ChartVerificationError", "not signed")
    assert shown(refused)["Ready"] == ("False", "VerificationError", "not signed")
    status = s.source_failed(stored(), "VerificationError", "no keys", observed=NOW)
    assert shown(status)["SourceVerified"] == ("False", "VerificationError", "no keys")
    assert "BuildFailed" not in shown(status)
    unheard = s.source_failed(refused, "AuthenticationFailed", "401", observed=NOW)
    assert shown(unheard)["Ready"] == ("False", "AuthenticationFailed", "401")
    assert not {"SourceVerified", "BuildFailed"} & shown(unheard).keys()


def test_a_verification_that_held_counts_although_something_else_fails_later() -> None:
    verified = c.mark(stored().conditions, c.SOURCE_VERIFIED, "True", "Succeeded", "m", observed=NOW)
    status = msgspec.structs.replace(stored(), conditions=verified)
    assert shown(s.source_failed(status, "GitOperationFailed", "x", observed=NOW))["SourceVerified"][0] == "True"


def test_a_store_that_fails_tells_so() -> None:
    status = s.source_failed(stored(), "ArchiveOperationFailed", "disk full", observed=NOW)
    assert shown(status)["Ready"] == ("False", "ArchiveOperationFailed", "disk full")
    assert shown(status)["StorageOperationFailed"] == ("True", "ArchiveOperationFailed", "disk full")
    fetch = s.source_failed(status, "GitOperationFailed", "gone", observed=NOW)
    assert set(shown(fetch)) == {"Ready", "Reconciling", "FetchFailed", "ArtifactInStorage"}


def test_a_stalled_source_is_a_failure_for_those_who_wait() -> None:
    failed = s.source_failed(NEW_SOURCE, "GitOperationFailed", "x", observed=THEN)
    status = s.source_stalled(failed, "UnsupportedFeature", "spec.verify: ...", observed=NOW)
    assert shown(status) == {
        "Stalled": ("True", "UnsupportedFeature", "spec.verify: ..."),
        "Ready": ("False", "UnsupportedFeature", "spec.verify: ..."),
    }
    assert kstatus(status) == "Failed"
    status = s.source_stalled(failed, "URLInvalid", "x", observed=NOW)
    assert list(shown(status)) == ["Stalled", "Ready", "FetchFailed"]


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
    msgspec.structs.replace(NEW_TARGET, conditions=c.mark_reconciling((), "Progressing", "building", observed=THEN)),
    applied(),
    applied("r2", ENTRIES[:1]),
    msgspec.structs.replace(
        applied(), conditions=c.mark(applied().conditions, "Ready", "False", "BuildFailed", "no", observed=NOW)
    ),
    msgspec.structs.replace(
        applied(), history=(), conditions=c.mark_stalled(applied().conditions, "X", "m", observed=NOW)
    ),
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
    after = msgspec.structs.replace(applied(), last_handled_reconcile_at="t")
    assert s.status_patch(live(encode(before)), after, TARGET_OWNED) == {"status": {"lastHandledReconcileAt": "t"}}


def test_a_patch_takes_metadata_out_of_an_artifact() -> None:
    before = msgspec.structs.replace(
        stored(), artifact=msgspec.structs.replace(ARTIFACT, metadata={"a": "1", "b": "2"})
    )
    found = live(encode(before))
    after = msgspec.structs.replace(stored(), artifact=msgspec.structs.replace(ARTIFACT, metadata={"b": "3"}))
    assert s.status_patch(found, after, SOURCE_OWNED) == {"status": {"artifact": {"metadata": {"a": None, "b": "3"}}}}
