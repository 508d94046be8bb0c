"""What is done with a release in each state: the table of contract 4.5, on the real API server."""

import json
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from tests.e2e.releases import Releases, ready_message, told
from tests.e2e.releases import chart as chart_files
from tests.e2e.world import HELM, SOURCE, World, condition, dry_runs, is_ready
from tests.oracles.helm import helm
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import InputChanged, PlanHeld, ReleaseActionEnded

NEVER_READY = """
{{- if .Values.broken }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
{{- end }}
"""
"""There is no controller in these servers, so that no Deployment ever becomes ready."""
TEST = """
apiVersion: v1
kind: {{ .Values.testKind | default "ConfigMap" }}
metadata:
  name: {{ .Release.Name }}-test
  annotations: {"helm.sh/hook": test}
{{- if eq .Values.testKind "Pod" }}
spec: {containers: [{name: test, image: "test:1"}], restartPolicy: Never}
{{- end }}
"""
BROKEN: dict[str, Any] = {"values": {"broken": True}, "timeout": "1s"}


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


def is_stalled(reason: str) -> Any:
    def holds(obj: KubeObject) -> bool:
        found = condition(obj, "Stalled") if "Stalled" in told(obj) else None
        return found is not None and found["reason"] == reason

    return holds


async def begin(releases: Releases, **templates: str) -> None:
    await releases.commit("1.0.0", **templates)
    await releases.world.source()


@pytest.mark.parametrize("left", ["pending-install", "pending-upgrade", "pending-rollback"])
async def test_a_release_that_another_tool_left_pending_is_unlocked_and_upgraded(releases: Releases, left: str) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await running.idle()
        store = ReleaseStore(world.cluster, world.namespace)
        record = await store.get("web", 1)
        assert record is not None
        info = record.release.info
        pending = Record(_with_status(record.release, info, left), record.labels)
        await store.update(pending, 1.0)
        await releases.ask()
        found = await releases.until_version(2)
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]
        await world.until_told("web", "PendingRelease", f"in {left} state", kind="HelmRelease")
        assert told(found)["Released"] == ("True", "UpgradeSucceeded")


def _with_status(release: Any, info: Any, status: str) -> Any:
    return msgspec.structs.replace(release, info=msgspec.structs.replace(info, status=status))


async def test_a_release_that_helm_made_is_taken_over_without_making_anything_anew(
    releases: Releases, tmp_path: Any
) -> None:
    world = releases.world
    await begin(releases)
    chart = tmp_path / "web"
    for path, text in world_chart().items():
        file = tmp_path / path.removeprefix("charts/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    old = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: old}\n"
    (chart / "templates" / "old.yaml").write_text(old)
    arguments = ("--kubeconfig", str(world.kubeconfig), "--namespace", world.namespace)

    async def run_helm(*words: str) -> str:
        return await anyio.to_thread.run_sync(lambda: helm(*words, *arguments, home=tmp_path))

    await run_helm("install", "web", str(chart), "--set", "colour=helm")
    before = await world.get("v1", "ConfigMap", "web")
    assert before is not None
    async with world.daemon() as running:
        await releases.release(values={"colour": "ours"})
        # It deletes what our version of the chart does not have, and is the first to do so here.
        await releases.until(lambda obj: told(obj).get("Ready") == ("False", "PlanHeld"), "held")
        assert await world.data("old") is not None
        held = await running.until_event(PlanHeld)
        await running.ask("approve", plan=held.plan)
        await releases.until_version(2)
        after = await world.get("v1", "ConfigMap", "web")
        assert after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["data"]["colour"] == "ours"
        assert await world.data("old") is None
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]
        # Somebody rolls it back by hand: it is not ours any more, and becomes that again.
        await run_helm("rollback", "web", "1", "--force-conflicts")
        assert (await world.data("web") or {})["colour"] == "helm"
        seen = len(running.recorded)
        await releases.ask()
        held = await running.until_event(PlanHeld, after=seen)
        await running.ask("approve", plan=held.plan)
        await releases.until_version(4)
        assert (await world.data("web") or {})["colour"] == "ours"
        told_by_helm = await run_helm("history", "web")
        assert [line.split()[0] for line in told_by_helm.splitlines()[1:]] == ["1", "2", "3", "4"]
        assert "deployed" in told_by_helm.splitlines()[-1]


def world_chart() -> dict[str, str]:
    """The files of the chart."""
    return {path: str(text) for path, text in chart_files().items()}


async def test_post_renderers_and_common_metadata_make_another_version(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await running.idle()
        patch = '[{"op": "add", "path": "/data/patched", "value": "yes"}]'
        patches = [{"patch": patch, "target": {"kind": "ConfigMap"}}]
        await releases.release(postRenderers=[{"kustomize": {"patches": patches}}])
        found = await releases.until_version(2)
        assert found["status"]["observedPostRenderersDigest"].startswith("sha256:")
        assert "observedCommonMetadataDigest" not in found["status"]
        assert (await world.data("web") or {})["patched"] == "yes"
        await releases.release(commonMetadata={"labels": {"team": "shop"}})
        found = await releases.until_version(3)
        assert "observedPostRenderersDigest" not in found["status"]
        assert found["status"]["observedCommonMetadataDigest"].startswith("sha256:")
        made = await world.get("v1", "ConfigMap", "web")
        assert made is not None
        assert made["metadata"]["labels"]["team"] == "shop"
        assert "patched" not in made["data"]
        assert made["metadata"]["labels"]["helm.toolkit.fluxcd.io/name"] == "web"
        assert made["metadata"]["annotations"]["meta.helm.sh/release-name"] == "web"


async def test_an_install_that_fails_stalls_and_goes_on_once_the_values_are_others(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon() as running:
        await releases.release(**BROKEN)
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert told(found)["Released"] == ("False", "InstallFailed")
        assert told(found)["Ready"] == ("False", "InstallFailed")
        assert "timeout waiting for: [Deployment/" in ready_message(found)
        assert condition(found, "Stalled")["message"] == "Failed to install after 1 attempt(s)"
        assert found["status"]["installFailures"] == 1
        assert found["status"]["failures"] == 1
        assert await releases.statuses() == [(1, "failed")]
        await running.idle()
        recorded = len(running.recorded)
        await anyio.sleep(1.5)
        assert len(running.recorded) == recorded  # nothing more is tried
        await releases.release(values={"broken": False})
        found = await releases.until_version(2)
        assert found["status"].get("installFailures", 0) == 0
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]


async def test_an_install_that_fails_is_undone_and_tried_again_as_often_as_it_may(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        remediation = {"retries": 1, "remediateLastFailure": True}
        await releases.release(**BROKEN, install={"remediation": remediation})
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert condition(found, "Stalled")["message"] == "Failed to install after 2 attempt(s)"
        assert told(found)["Remediated"] == ("True", "UninstallSucceeded")
        assert told(found)["Ready"] == ("False", "UninstallSucceeded")
        assert found["status"]["installFailures"] == 2
        assert "inventory" not in found["status"]
        assert await world.get("apps/v1", "Deployment", "web") is None
        assert await releases.statuses() == []


async def test_an_upgrade_that_fails_is_rolled_back(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        upgrade = {"remediation": {"retries": 1}}
        await releases.release(values={"colour": "blue"}, upgrade=upgrade)
        await releases.until_version(1)
        await releases.release(values={"colour": "red", "broken": True}, timeout="1s", upgrade=upgrade)
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert condition(found, "Stalled")["message"] == "Failed to upgrade after 2 attempt(s)"
        assert told(found)["Remediated"] == ("True", "RollbackSucceeded")
        assert told(found)["Ready"] == ("False", "RollbackSucceeded")
        release = f"{world.namespace}/web"
        assert f"Helm rollback to previous release {release}.v" in ready_message(found)
        assert found["status"]["upgradeFailures"] == 2
        assert (await world.data("web") or {})["colour"] == "blue"
        assert await world.get("apps/v1", "Deployment", "web") is None
        statuses = await releases.statuses()
        assert [status for _, status in statuses] == ["deployed", "failed", "superseded", "failed", "superseded"]
        # With force, it is tried once more, and fails again; with other values it succeeds.
        await releases.release(values={"colour": "green"}, upgrade=upgrade)
        await releases.until(is_ready, "ready")
        assert (await world.data("web") or {})["colour"] == "green"


async def test_what_is_public_of_a_release_is_told_though_its_objects_hold_it_beside_a_secret(
    releases: Releases,
) -> None:
    """The set that is rolled back to comes from the log, which does not say what of an object is secret."""
    world, planted = releases.world, "pl4nted-in-the-values"
    labels = {"app.kubernetes.io/instance": "{{ .Release.Name }}", "helm.sh/chart": "web"}
    whole = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "all", "labels": labels}})
    whole = whole[:-1] + ', "data": {"a": "{{ .Values.colour }}", "b": "{{ .Release.Namespace }}"}}'
    await begin(releases, deployment=NEVER_READY, whole=whole)
    await world.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "values"}, "stringData": {"colour": planted}}
    )
    given = {"kind": "Secret", "name": "values", "valuesKey": "colour", "targetPath": "colour"}
    spec: dict[str, Any] = {"valuesFrom": [given], "upgrade": {"remediation": {"retries": 1}}}
    async with world.daemon() as running:
        await releases.release(**spec)
        await releases.until_version(1)
        await releases.release(values={"broken": True}, timeout="1s", **spec)
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        ended = [one.message for one in running.events(ReleaseActionEnded)]  # type: ignore[attr-defined]
    said = f"Helm rollback to previous release {world.namespace}/web.v3 with chart web@1.0.0 succeeded"
    assert ready_message(found) == said
    assert not any("***" in message for message in ended), ended
    assert planted not in str({**found, "spec": None})


async def test_a_failed_upgrade_is_uninstalled_and_installed_where_that_is_the_remedy(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        upgrade = {"remediation": {"retries": 0, "remediateLastFailure": True, "strategy": "uninstall"}}
        await releases.release(upgrade=upgrade)
        await releases.until_version(1)
        await releases.release(values={"broken": True}, timeout="1s", upgrade=upgrade)
        # The install that follows fails too, and is left as it is.
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert told(found)["Released"] == ("False", "InstallFailed")
        assert "Remediated" not in told(found)
        assert len(found["status"]["history"]) == 1
        assert [status for _, status in await releases.statuses()] == ["failed"]


async def test_it_is_tried_again_after_a_while_where_failures_are_not_undone(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        strategy = {"name": "RetryOnFailure", "retryInterval": "1s"}
        await releases.release(**BROKEN, install={"strategy": strategy}, upgrade={"strategy": strategy})
        await releases.until(lambda obj: obj["status"].get("upgradeFailures", 0) >= 2, "tried again")
        await releases.release(install={"strategy": strategy}, upgrade={"strategy": strategy})
        found = await releases.until(is_ready, "ready")
        assert found["status"].get("upgradeFailures", 0) == 0
        assert found["status"].get("installFailures", 0) == 0


HOOK = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-hook
  annotations: {"helm.sh/hook": post-upgrade}
"""


async def test_gates_say_what_releases_do_that_do_not_say_it_themselves(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY, hook=HOOK)
    patches = [{"patch": '[{"op": "add", "path": "/data/patched", "value": "yes"}]', "target": {"name": "web.*"}}]
    renderers = [{"kustomize": {"patches": patches}}]
    async with world.daemon():
        await releases.release(**BROKEN)
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
    async with world.daemon(default_to_retry_on_failure=True, use_helm3_defaults=True):
        found = await releases.until(lambda obj: obj["status"].get("upgradeFailures", 0) >= 1, "tried again")
        assert "Stalled" not in told(found)
        assert condition(found, "Reconciling")["reason"] == "ProgressingWithRetry"
        assert "Remediated" not in told(found)
        await releases.release(postRenderers=renderers)
        await releases.until_version(3)
        assert (await world.data("web") or {})["patched"] == "yes"
        hook = await world.get("v1", "ConfigMap", "web-hook")
        assert hook is not None
        assert "data" not in hook  # a patch of what is not there would have failed the release


async def test_an_upgrade_is_forced_and_failures_are_forgotten_on_request(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        token = await releases.ask(force=True)
        found = await releases.until_version(2)
        assert found["status"]["lastHandledForceAt"] == token
        await releases.ask()
        await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") != token, "asked")
        assert [version for version, _ in await releases.statuses()] == [2, 1]
        await releases.release(**BROKEN)
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert len(await releases.statuses()) == 3
        token = await releases.ask(reset=True)
        await releases.until(lambda obj: obj["status"].get("lastHandledResetAt") == token, "reset")
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert len(await releases.statuses()) == 4


async def test_a_force_that_comes_after_the_answer_or_while_it_is_suspended_forces_nothing(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        token = await releases.ask()
        await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") == token, "answered")
        annotations = {"reconcile.fluxcd.io/forceAt": token, "reconcile.fluxcd.io/resetAt": token}
        await world.patch(HELM, "HelmRelease", "web", {"metadata": {"annotations": annotations}})
        await releases.release(interval="2h")  # another generation: a pass looks at it
        await releases.until(is_ready, "ready")
        await releases.release(interval="2h", suspend=True)
        token = await releases.ask(force=True)
        found = await releases.until(lambda obj: obj["status"].get("lastHandledForceAt") == token, "answered")
        assert found["status"]["lastHandledReconcileAt"] == token
        await releases.release(interval="3h")
        await releases.until(is_ready, "ready")
        await running.idle()
        assert await releases.statuses() == [(1, "deployed")]


async def test_tests_are_run_and_their_failure_counts(releases: Releases) -> None:
    world = releases.world
    await begin(releases, test=TEST)
    async with world.daemon():
        await releases.release(values={"testKind": "ConfigMap"}, test={"enable": True})
        found = await releases.until_version(1)
        assert told(found)["TestSuccess"] == ("True", "TestSucceeded")
        assert "1 test hook completed successfully" in ready_message(found)
        assert found["status"]["history"][0]["testHooks"]["web-test"]["phase"] == "Succeeded"
        await releases.release(values={"testKind": "Pod"}, test={"enable": True})
        await world.until("v1", "Pod", "web-test", lambda obj: obj is not None)
        await releases.set_status("v1", "Pod", "web-test", {"phase": "Failed", "reason": "Evicted"})
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert told(found)["TestSuccess"] == ("False", "TestFailed")
        assert told(found)["Ready"] == ("False", "TestFailed")
        assert "failed: Evicted" in ready_message(found)
        assert found["status"]["upgradeFailures"] == 1
        await releases.release(values={"testKind": "Pod"}, test={"enable": True, "filters": [{"name": "other"}]})
        found = await releases.until(is_ready, "ready")
        assert "no test hooks" in ready_message(found)


async def test_another_name_takes_the_place_of_the_release_before(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        await releases.release(releaseName="site")
        found = await releases.until(
            lambda obj: is_ready(obj) and obj["status"]["history"][0]["name"] == "site", "another"
        )
        assert len(found["status"]["history"]) == 1
        assert await world.data("web") is None
        assert (await world.data("site") or {})["colour"] == "red"
        assert await releases.statuses() == []
        assert await releases.statuses("site") == [(1, "deployed")]


async def test_a_release_leaves_what_it_is_told_to_leave(releases: Releases) -> None:
    world = releases.world
    kept = CONFIG_MAP_KEPT
    await begin(releases, kept=kept)
    async with world.daemon():
        await releases.release(uninstall={"keepHistory": True})
        await releases.until_version(1)
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.data("web") is None
        assert await world.data("web-kept") == {"kept": "yes"}
        assert await releases.statuses() == [(1, "uninstalled")]
        await releases.release()
        found = await releases.until_version(2)
        # Of the name nothing is known but that it was uninstalled: it is absent (HR-071).
        assert told(found)["Released"] == ("True", "InstallSucceeded")
        assert [one["version"] for one in found["status"]["history"]] == [2]
        assert (await world.data("web") or {})["colour"] == "red"


CONFIG_MAP_KEPT = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-kept
  annotations: {"helm.sh/resource-policy": keep}
data: {kept: "yes"}
"""


async def test_a_suspended_release_is_let_go_of_and_stays(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await releases.release(suspend=True, values={"colour": "none"})
        await running.idle()
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert (await world.data("web") or {})["colour"] == "red"
        assert await releases.statuses() == [(1, "deployed")]
        assert await world.get("source.toolkit.fluxcd.io/v1", "HelmChart", f"{world.namespace}-web") is not None


async def test_drift_is_told_and_put_right_but_where_it_is_left_alone(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    changed = {"data": {"colour": "drifted"}}
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await world.patch("v1", "ConfigMap", "web", changed)
        await running.idle()
        assert (await world.data("web") or {})["colour"] == "drifted"  # nobody looks for drift
        await releases.release(driftDetection={"mode": "warn"})
        found = await releases.until(lambda obj: told(obj).get("Drifted") == ("True", "DriftDetected"), "drifted")
        assert "ConfigMap/" in condition(found, "Drifted")["message"]
        await world.until_told("web", "DriftDetected", "has drifted", kind="HelmRelease")
        ignore = [{"paths": ["/data/colour"], "target": {"kind": "ConfigMap"}}]
        await releases.release(driftDetection={"mode": "enabled", "ignore": ignore})
        await releases.until(lambda obj: told(obj).get("Drifted") == ("False", "NoDriftDetected"), "ignored")
        assert (await world.data("web") or {})["colour"] == "drifted"
        await releases.release(driftDetection={"mode": "enabled"})
        await world.until_data("web", {"colour": "red", "version": "1.0.0", "revision": "1"})
        await releases.until(lambda obj: told(obj).get("Drifted") == ("False", "NoDriftDetected"), "corrected")
        await world.delete("v1", "ConfigMap", "web")
        await world.until_data("web", {"colour": "red", "version": "1.0.0", "revision": "1"})
        assert [version for version, _ in await releases.statuses()] == [1]


MANY = """
{{- range until 8 }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "web-{{ . }}"}
{{- end }}
"""


async def test_a_new_spec_alone_has_nothing_dry_run_but_what_was_put_right_with_fields_left_alone(
    releases: Releases,
) -> None:
    """HR-054, HR-115: by other rules, what was left alone may count."""
    world = releases.world
    await begin(releases, many=MANY)
    ignore = [{"paths": ["/data/colour"], "target": {"kind": "ConfigMap"}}]
    detection = {"mode": "enabled", "ignore": ignore}

    async def asked_since(before: int) -> set[str]:
        return set(dry_runs(await world.requests())[before:])

    async def dry_run_so_far() -> int:
        await running.idle()
        return len(dry_runs(await world.requests()))

    async def is_observed(found: KubeObject) -> None:
        generation = found["metadata"]["generation"]
        await releases.until(
            lambda obj: is_ready(obj) and obj["status"]["observedGeneration"] == generation, "observed"
        )
        await running.idle()

    async with world.daemon() as running:
        await releases.release(driftDetection=detection)
        await releases.until_version(1)
        before = await dry_run_so_far()
        await is_observed(await releases.release(driftDetection=detection, interval="2h"))
        await is_observed(await releases.release(driftDetection={"mode": "enabled"}, interval="2h"))
        assert await asked_since(before) == set()

        await is_observed(await releases.release(driftDetection=detection))
        await world.patch("v1", "ConfigMap", "web", {"data": {"colour": "theirs", "version": "0"}})
        await world.until_data("web", {"colour": "theirs", "version": "1.0.0", "revision": "1"})
        before = await dry_run_so_far()
        await is_observed(await releases.release(driftDetection=detection, interval="2h"))
        assert (await world.data("web") or {})["colour"] == "theirs"
        assert await asked_since(before) <= {"web"}
        await releases.release(driftDetection={"mode": "enabled"}, interval="2h")
        await world.until_data("web", {"colour": "red", "version": "1.0.0", "revision": "1"})
        assert await asked_since(before) == {"web"}
        await releases.until(
            lambda obj: is_ready(obj) and told(obj).get("Drifted") == ("False", "NoDriftDetected"), "corrected"
        )
        before = await dry_run_so_far()
        await is_observed(await releases.release(driftDetection=detection))
        assert await asked_since(before) == set()
        assert await releases.statuses() == [(1, "deployed")]


async def test_a_version_that_waits_gives_way_to_a_newer_one(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        await releases.release(values={"broken": True}, timeout="1h")
        await releases.until(lambda obj: "Running 'install'" in str(obj.get("status")), "waits")
        await releases.release(values={"colour": "newer"}, timeout="1h")
        found = await releases.until_version(2)
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]
        assert found["status"].get("installFailures", 0) == 0
        await world.until_told("web", "HealthCheckCanceled", "canceled", kind="HelmRelease")


async def test_a_release_goes_on_by_itself_once_its_objects_become_ready(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        await releases.release(**BROKEN)
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
        await releases.scale_to_nothing("web")
        found = await releases.until_version(2)
        assert told(found)["Released"] == ("True", "UpgradeSucceeded")


NEEDS_A_BLUE_BASE = """
{{- $base := lookup "v1" "ConfigMap" .Release.Namespace "base" }}
{{- if and .Values.needy (ne ($base.data).colour "blue") }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
{{- end }}
"""


async def test_a_release_that_was_given_up_is_tried_again_once_what_it_depends_on_is_another(
    releases: Releases,
) -> None:
    """HR-102, HR-105: it failed of what has changed since; whatever else becomes of its dependency is no news."""
    world = releases.world
    await begin(releases, deployment=NEEDS_A_BLUE_BASE)
    needy: dict[str, Any] = {"values": {"needy": True}, "timeout": "1s", "dependsOn": [{"name": "base"}]}
    async with world.daemon() as running:
        await releases.release("base")
        await releases.until_version(1, name="base")
        await releases.release(**needy)
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert await releases.statuses() == [(1, "failed")]
        await releases.release("base", interval="2h")
        await releases.ask("base")
        await running.idle()
        assert await releases.statuses() == [(1, "failed")]

        # Another version, and it still is not what is needed: one attempt more, and no others.
        await releases.release("base", values={"colour": "green"})
        await releases.until_version(2, name="base")
        found = await releases.until(
            lambda obj: is_stalled("RetriesExceeded")(obj) and obj["status"]["history"][0]["version"] == 2, "again"
        )
        assert condition(found, "Stalled")["message"] == "Failed to upgrade after 1 attempt(s)"
        await running.idle()
        assert await releases.statuses() == [(2, "failed"), (1, "failed")]

        await releases.release("base", values={"colour": "blue"})
        await releases.until_version(3, name="base")
        found = await releases.until_version(3)
        assert "Stalled" not in told(found)
        assert await world.get("apps/v1", "Deployment", "web") is None
        assert await releases.statuses() == [(3, "deployed"), (2, "superseded"), (1, "failed")]


def base(colour: str) -> KubeObject:
    """What a needy release looks up, where no release makes it."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "base"}, "data": {"colour": colour}}


async def given_up_at(releases: Releases, version: int) -> None:
    """Until a release is given up at a version, after one attempt."""
    found = await releases.until(
        lambda obj: is_stalled("RetriesExceeded")(obj) and obj["status"]["history"][0]["version"] == version,
        f"given up at version {version}",
    )
    action = "install" if version == 1 else "upgrade"
    assert condition(found, "Stalled")["message"] == f"Failed to {action} after 1 attempt(s)"


async def test_a_release_that_was_given_up_is_tried_again_once_an_object_that_it_names_is_another(
    releases: Releases,
) -> None:
    """HR-102, HR-105, of the annotation: what others write on it to say when they looked is no news."""
    world = releases.world
    await begin(releases, deployment=NEEDS_A_BLUE_BASE)
    await world.apply(base("red"))
    needy: dict[str, Any] = {"values": {"needy": True}, "timeout": "1s"}
    named = {"annotations": {"tidelog.dev/depends-on": f"core/ConfigMap/{world.namespace}/base"}}
    async with world.daemon() as running:
        await releases.release(metadata=named, **needy)
        await given_up_at(releases, 1)
        await world.patch("v1", "ConfigMap", "base", {"metadata": {"annotations": {"looked": "just now"}}})
        await running.until_event(InputChanged)
        await running.idle()
        assert await releases.statuses() == [(1, "failed")]

        # It still is not what is needed: one attempt more, and no others.
        await world.apply(base("green"))
        await given_up_at(releases, 2)
        await running.idle()
        assert await releases.statuses() == [(2, "failed"), (1, "failed")]

        await world.apply(base("blue"))
        found = await releases.until_version(3)
        assert "Stalled" not in told(found)
        assert await releases.statuses() == [(3, "deployed"), (2, "superseded"), (1, "failed")]


async def test_a_release_that_was_given_up_is_tried_again_once_another_engine_released_what_it_depends_on(
    releases: Releases,
) -> None:
    """HR-102, HR-105, of a release of another shard: its status tells which version is deployed."""
    world = releases.world
    mine = {"labels": {"shard": world.namespace}}
    await begin(releases, deployment=NEEDS_A_BLUE_BASE)
    await world.patch(SOURCE, "GitRepository", "fleet", {"metadata": mine})
    await world.apply(base("red"))

    async def released_elsewhere(version: int, *, message: str = "as the other shard writes it") -> None:
        is_ready = {"type": "Ready", "status": "True", "reason": "InstallSucceeded", "message": message}
        snapshot = {
            "name": "base",
            "namespace": world.namespace,
            "version": version,
            "status": "deployed",
            "digest": "sha256:0",
            "chartName": "base",
            "chartVersion": "1.0.0",
            "configDigest": "",
            "firstDeployed": "2026-01-01T00:00:00Z",
            "lastDeployed": f"2026-01-01T00:00:0{version}Z",
        }
        status = {
            "observedGeneration": 1,
            "history": [snapshot],
            "conditions": [{**is_ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }
        await releases.set_status(HELM, "HelmRelease", "base", status)

    source = {"kind": "GitRepository", "name": "fleet"}
    chart = {"metadata": mine, "spec": {"chart": "./charts/web", "sourceRef": source}}
    needy: dict[str, Any] = {"chart": chart, "values": {"needy": True}, "timeout": "1s"}
    async with world.daemon(watch_label_selector=f"shard={world.namespace}") as running:
        await releases.release("base")
        await released_elsewhere(1)
        await releases.release(metadata=mine, dependsOn=[{"name": "base"}], **needy)
        await given_up_at(releases, 1)
        changed = len(running.events(InputChanged))
        await released_elsewhere(1, message="in other words")
        await running.until(lambda _: len(running.events(InputChanged)) > changed, "its change was seen")
        await running.idle()
        assert await releases.statuses() == [(1, "failed")]

        await released_elsewhere(2)
        await given_up_at(releases, 2)
        await running.idle()
        assert await releases.statuses() == [(2, "failed"), (1, "failed")]

        await world.apply(base("blue"))
        await released_elsewhere(3)
        await releases.until_version(3)
        assert await releases.statuses() == [(3, "deployed"), (2, "superseded"), (1, "failed")]


async def test_what_a_failed_upgrade_made_is_deleted_where_the_spec_says_so(releases: Releases) -> None:
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon():
        upgrade = {"cleanupOnFail": True}
        await releases.release(upgrade=upgrade)
        await releases.until_version(1)
        await releases.release(**BROKEN, upgrade=upgrade)
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert await world.get("apps/v1", "Deployment", "web") is None
        assert await world.data("web") is not None


async def test_objects_of_others_are_taken_over_only_where_that_is_not_forbidden(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"own": "yes"}})
    async with world.daemon():
        await releases.release(install={"disableTakeOwnership": True})
        found = await releases.until(lambda obj: told(obj).get("Ready") == ("False", "InstallFailed"), "refused")
        assert "cannot be imported into the current release" in ready_message(found)
        assert await releases.statuses() == []
        await releases.release()
        await releases.until_version(1)
        assert (await world.data("web") or {}).items() >= {"own": "yes", "colour": "red"}.items()


async def test_values_of_the_version_before_are_kept_where_the_spec_says_so(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        upgrade = {"preserveValues": True}
        await releases.release(values={"colour": "kept"}, upgrade=upgrade)
        await releases.until_version(1)
        await releases.release(values={"more": 1}, upgrade=upgrade)
        await releases.until_version(2)
        assert (await world.data("web") or {})["colour"] == "kept"
        await releases.ask()
        await running.idle()
        assert [version for version, _ in await releases.statuses()] == [2, 1]
