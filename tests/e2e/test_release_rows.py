"""Rows of Flux's contract about HelmReleases that need a cluster, and that no other test shows (contract 4)."""

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from tests.e2e.releases import HELM, Releases, ready_message, told
from tests.e2e.releases import chart as chart_files
from tests.e2e.test_apply_rules import RBAC, account
from tests.e2e.test_release_hooks import hook
from tests.e2e.test_release_states import NEVER_READY
from tests.e2e.world import SOURCE, World, condition, failed, is_ready
from tests.oracles.helm import helm
from tests.servers.faulty_api import Asked, Delay, Fault, faulty_api
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import HelmChartSynced, PlanHeld, ReleaseActionStarted, RevisionFetched
from tidelog.storage.layout import Layout

SUSPENDED = {"interval": "1h", "suspend": True, "chartRef": {"kind": "HelmChart", "name": "gone"}}
SCHEMA = json.dumps({"type": "object", "properties": {"colour": {"enum": ["red"]}}})


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


async def begin(releases: Releases, **templates: str) -> None:
    await releases.commit("1.0.0", **templates)
    await releases.world.source()


def config(name: str, colour: str) -> dict[str, Any]:
    data = {"values.yaml": f"colour: {colour}\n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_the_chart_of_a_template_is_made_followed_and_deleted(releases: Releases) -> None:
    """HR-002 to HR-010, HR-059, CM-040."""
    world = releases.world
    name = f"{world.namespace}-web"
    await begin(releases)
    template = {
        "metadata": {"labels": {"team": "shop"}, "annotations": {"note": "ours"}},
        "spec": {
            "chart": "./charts/web",
            "interval": "7m0s",
            "reconcileStrategy": "Revision",
            "valuesFiles": ["charts/web/values.yaml"],
            "ignoreMissingValuesFiles": True,
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        },
    }
    async with world.daemon():
        await releases.release(chart=template)
        found = await releases.until_version(1)
        assert found["status"]["helmChart"] == f"{world.namespace}/{name}"
        made = await world.get(SOURCE, "HelmChart", name)
        assert made is not None
        metadata = made["metadata"]
        assert metadata["labels"] == {
            "team": "shop",
            "helm.toolkit.fluxcd.io/name": "web",
            "helm.toolkit.fluxcd.io/namespace": world.namespace,
        }
        assert metadata["annotations"]["note"] == "ours"
        assert "helm-controller" in {one["manager"] for one in metadata["managedFields"]}
        assert made["spec"] == {**template["spec"], "version": "*"}  # type: ignore[dict-item]
        # A chart that is there is read in its place, and the other goes.
        own = {"chart": "./charts/web", "interval": "1h", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": {"name": "own"}, "spec": own})
        await releases.release(chartRef={"kind": "HelmChart", "name": "own"})
        await world.until_gone(SOURCE, "HelmChart", name)
        await releases.until(lambda obj: is_ready(obj) and "helmChart" not in obj["status"], "without a chart")


async def test_two_releases_whose_charts_would_have_one_name_do_not_take_each_others(releases: Releases) -> None:
    """HR-059: `<ns>/b-c` and `<ns>-b/c` would both have the HelmChart `<ns>-b-c`."""
    world = releases.world
    here, there = world.namespace, f"{world.namespace}-b"
    labels = {"shard": here}
    await begin(releases)
    await world.patch(SOURCE, "GitRepository", "fleet", {"metadata": {"labels": labels}})
    await world.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": there}}, manager="test")
    source = {"kind": "GitRepository", "name": "fleet", "namespace": here}
    spec = {
        "interval": "1h",
        "chart": {"metadata": {"labels": labels}, "spec": {"chart": "./charts/web", "sourceRef": source}},
    }
    places = {"b-c": here, "c": there}

    async def until(name: str, holds: Any, what: str) -> KubeObject:
        found = await world.until(
            HELM, "HelmRelease", name, lambda obj: obj is not None and holds(obj), what, namespace=places[name]
        )
        assert found is not None
        return found

    async with world.daemon(watch_all_namespaces=True, watch_label_selector=f"shard={here}"):
        for name, namespace in places.items():
            metadata = {"name": name, "namespace": namespace, "labels": labels}
            await world.apply({"apiVersion": HELM, "kind": "HelmRelease", "metadata": metadata, "spec": spec})

        def is_settled(obj: KubeObject) -> bool:
            return is_ready(obj) or failed("ArtifactFailed", "is left as it is")(obj)

        found = {name: await until(name, is_settled, "ready, or refused") for name in places}
        first, second = sorted(places, key=lambda name: not is_ready(found[name]))
        assert is_ready(found[first])
        assert not is_ready(found[second])
        said = ready_message(found[second])
        assert f"is that of HelmRelease/{places[first]}/{first}" in said
        chart = await world.get(SOURCE, "HelmChart", f"{here}-b-c")
        assert chart is not None
        assert chart["metadata"]["labels"]["helm.toolkit.fluxcd.io/name"] == first
        assert chart["metadata"]["generation"] == 1
        # Who has none deletes none; and once it is free, whoever waits for it makes it.
        kind = await world.cluster.kind(HELM, "HelmRelease")
        await world.cluster.patch(
            kind, places[second], second, {"spec": {"suspend": True}}, type="merge", manager="test"
        )
        await world.cluster.patch(
            kind, places[second], second, {"spec": {"suspend": False}}, type="merge", manager="test"
        )
        await world.cluster.delete(kind, places[first], first)
        await until(second, is_ready, "ready")
        chart = await world.get(SOURCE, "HelmChart", f"{here}-b-c")
        assert chart is not None
        assert chart["metadata"]["labels"]["helm.toolkit.fluxcd.io/name"] == second
        await world.cluster.delete(kind, places[second], second)
        await world.until(HELM, "HelmRelease", second, lambda obj: obj is None, "gone", namespace=places[second])
    await world.cluster.delete(await world.cluster.kind("v1", "Namespace"), "", there)


async def test_a_chart_that_is_somebody_elses_is_neither_taken_nor_deleted(releases: Releases) -> None:
    """HR-059: a person's, and another release's that is not looked after here."""
    world = releases.world
    name = f"{world.namespace}-web"
    await begin(releases)
    own = {"chart": "./charts/web", "interval": "3h", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
    theirs = {"apiVersion": SOURCE, "kind": "HelmChart", "metadata": {"name": name}, "spec": own}
    made = await world.apply(theirs)
    async with world.daemon():
        await releases.release()
        said = ready_message(await releases.until(failed("ArtifactFailed", "is left as it is")))
        assert f"HelmChart {world.namespace}/{name}" in said
        assert "was made by somebody else" in said
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        left = await world.get(SOURCE, "HelmChart", name)
        assert left is not None
        assert (left["metadata"]["uid"], left["spec"]["interval"]) == (made["metadata"]["uid"], "3h")
        # That of a release which is no more is nobody's.
        gone = {"helm.toolkit.fluxcd.io/name": "gone", "helm.toolkit.fluxcd.io/namespace": world.namespace}
        await world.apply(theirs | {"metadata": {"name": name, "labels": gone}})
        await releases.release()
        await releases.until_version(1)
        # Once another release has taken it, it does not go with the one that had it before.
        await world.apply({"apiVersion": HELM, "kind": "HelmRelease", "metadata": {"name": "gone"}, "spec": SUSPENDED})
        await world.patch(SOURCE, "HelmChart", name, {"metadata": {"labels": gone}})
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.get(SOURCE, "HelmChart", name) is not None


async def test_another_chart_and_other_values_are_one_upgrade(releases: Releases) -> None:
    """HR-064: what a HelmChart held before its spec changed is not released."""
    world = releases.world
    files = chart_files("1.0.0") | {
        path.replace("charts/web", "charts/next"): text for path, text in chart_files("2.0.0").items()
    }
    world.change(files)
    await world.source()
    source = {"kind": "GitRepository", "name": "fleet"}
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await running.idle()
        await releases.release(chart={"spec": {"chart": "./charts/next", "sourceRef": source}}, values={"colour": "a"})
        await releases.until(lambda obj: is_ready(obj) and (obj["status"]["history"][0]["chartVersion"] == "2.0.0"))
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]


async def test_a_dependency_is_waited_for(releases: Releases) -> None:
    """HR-017, HR-062."""
    world = releases.world
    await begin(releases)
    async with world.daemon():
        await releases.release("app", dependsOn=[{"name": "web"}])
        found = await releases.until(failed("DependencyNotReady", f"{world.namespace}/web", "not found"), name="app")
        assert found["status"]["observedGeneration"] == -1
        event = await world.until_told("app", "DependencyNotReady", kind="HelmRelease")
        assert event["type"] == "Normal"
        await releases.release()
        await releases.until_version(1, name="app")


async def test_changed_values_wake_a_release_and_only_what_counts_stays_in_storage(releases: Releases) -> None:
    """HR-019, HR-037, HR-068, HR-107, HR-126."""
    world = releases.world
    group = f"rows-{world.namespace}.example.com"
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "boxes", "kind": "Box"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"boxes.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    files = chart_files("1.0.0", hook=hook("hook", "pre-install"))
    world.change({**files, "charts/web/crds/box.yaml": json.dumps(definition)})
    await world.source()
    await world.apply(config("values", "one"))
    async with world.daemon() as running:
        values = [{"kind": "ConfigMap", "name": "values"}]
        await releases.release(valuesFrom=values, maxHistory=2, install={"skipCRDs": True})
        found = await releases.until_version(1)
        assert [entry["id"] for entry in found["status"]["inventory"]["entries"]] == [
            f"_boxes.{group}_apiextensions.k8s.io_CustomResourceDefinition",
            f"{world.namespace}_web__ConfigMap",
        ]
        made = await world.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"boxes.{group}")
        assert made is not None
        assert made["metadata"]["labels"]["helm.toolkit.fluxcd.io/name"] == "web"
        await world.apply(config("values", "two"))
        await releases.until_version(2)
        await world.apply(config("values", "three"))
        await releases.until_version(3)
        assert (await world.data("web") or {})["colour"] == "three"
        assert await releases.statuses() == [(3, "deployed"), (2, "superseded")]
        await running.idle()
        events = await world.events_of("web", "HelmRelease")
        token = await releases.ask()
        await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") == token, "asked")
        await running.idle()
        assert len(await world.events_of("web", "HelmRelease")) == len(events)
    await world.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"boxes.{group}")


async def test_suspended_nothing_is_done_or_told_and_a_request_is_answered(releases: Releases) -> None:
    """HR-012, HR-141."""
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release(suspend=True)
        token = await releases.ask()
        await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") == token, "asked")
        await running.idle()
        assert running.events(ReleaseActionStarted) == []
        assert await world.events_of("web", "HelmRelease") == []
        await releases.release()
        await releases.until_version(1)


async def test_a_version_that_was_planned_is_not_made_once_the_release_is_suspended(
    releases: Releases, tmp_path: Path
) -> None:
    world = releases.world
    asked = anyio.Event()

    def fault(request: Asked) -> Fault:
        if not request.dry_run:
            return None
        asked.set()
        return Delay(2)  # the plan is under way

    await begin(releases)
    async with (
        faulty_api(world.servers, world.kubeconfig, tmp_path) as api,
        world.daemon(kubeconfig=api.kubeconfig) as running,
    ):
        await releases.release()
        await releases.until_version(1)
        api.fault = fault
        await releases.release(values={"colour": "blue"})
        with anyio.fail_after(30):
            await asked.wait()
        await running.ask("suspend", running.stream("HelmRelease", "web"))
        suspended = len(running.recorded)
        await running.idle()
        assert running.events(ReleaseActionStarted, after=suspended) == []
        assert await releases.statuses() == [(1, "deployed")]
        api.fault = lambda _: None
        await running.ask("resume", running.stream("HelmRelease", "web"))
        await releases.until_version(2)
        assert (await world.data("web") or {})["colour"] == "blue"


async def permit(world: World, name: str) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["*"]}]
    await world.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules})


async def test_a_release_is_made_as_its_account_and_stays_without_it(releases: Releases) -> None:
    """HR-016, HR-143."""
    world = releases.world
    await begin(releases)
    await account(world, "deployer", may=False)
    async with world.daemon():
        await releases.release(serviceAccountName="deployer")
        await releases.until(failed("StateError", "deployer", "cannot list"))
        assert await releases.statuses() == []
        await permit(world, "deployer")
        await releases.ask()
        await releases.until_version(1)
        users = {
            (entry.get("impersonatedUser") or {}).get("username")
            for entry in await world.requests("patch")
            if entry["objectRef"]["resource"] == "configmaps"
        }
        assert users == {f"system:serviceaccount:{world.namespace}:deployer"}
        await world.delete("v1", "ServiceAccount", "deployer")
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.data("web") is not None


async def test_sources_of_other_namespaces_may_be_forbidden(releases: Releases) -> None:
    """HR-004, HR-063."""
    world = releases.world
    await begin(releases)
    async with world.daemon(no_cross_namespace_refs=True):
        await releases.release(chartRef={"kind": "HelmChart", "name": "web", "namespace": "default"})
        found = await releases.until(failed("AccessDenied", "default/web", "blocked"))
        assert condition(found, "Stalled")["reason"] == "AccessDenied"


async def test_a_source_that_is_not_there_or_not_ready_is_waited_for(releases: Releases) -> None:
    """HR-063, HR-064."""
    world = releases.world
    await begin(releases)
    async with world.daemon():
        await releases.release(chartRef={"kind": "HelmChart", "name": "own"})
        await releases.until(failed("ArtifactFailed", "own' not found"))
        own = {"chart": "./charts/other", "interval": "1h", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": {"name": "own"}, "spec": own})
        await releases.until(failed("SourceNotReady", "own' is not ready"))
        own |= {"chart": "./charts/web"}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": {"name": "own"}, "spec": own})
        await releases.until_version(1)


async def test_a_paused_deployment_is_not_waited_for(releases: Releases) -> None:
    """HR-114."""
    world = releases.world
    await begin(releases, deployment=NEVER_READY.replace("spec:\n  selector", "spec:\n  paused: true\n  selector"))
    async with world.daemon():
        await releases.release(values={"broken": True})
        await releases.until_version(1)
        assert await world.get("apps/v1", "Deployment", "web") is not None


async def test_a_release_is_looked_after_at_its_interval(releases: Releases) -> None:
    """HR-011: nobody tells of what is done to Helm's storage."""
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release(interval="1s")
        await releases.until_version(1)
        await running.idle()
        (release,) = await releases.records()
        info = msgspec.structs.replace(release.info, status="pending-upgrade")
        await ReleaseStore(world.cluster, world.namespace).update(
            Record(msgspec.structs.replace(release, info=info), {}), 1.0
        )
        await releases.until_version(2)


async def test_nothing_is_waited_for_and_no_schema_asked_where_that_is_disabled(releases: Releases) -> None:
    """HR-039."""
    world = releases.world
    world.change({**chart_files("1.0.0", deployment=NEVER_READY), "charts/web/values.schema.json": SCHEMA})
    await world.source()
    values = {"broken": True, "colour": "blue"}
    async with world.daemon():
        await releases.release(values=values, install={"disableWait": True})
        found = await releases.until(failed("InstallFailed"))
        assert "/colour" in ready_message(found)
        assert await releases.statuses() == []
        await releases.release(values=values, install={"disableWait": True, "disableSchemaValidation": True})
        await releases.until_version(1)


async def test_objects_are_deleted_as_the_spec_says(releases: Releases) -> None:
    """HR-050, HR-051."""
    world = releases.world
    await begin(releases)
    async with world.daemon():
        await releases.release(uninstall={"deletionPropagation": "orphan", "disableWait": True})
        await releases.until_version(1)
        owner = await world.get("v1", "ConfigMap", "web")
        assert owner is not None
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "web", "uid": owner["metadata"]["uid"]}
        meta = {"name": "child", "ownerReferences": [reference]}
        await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        await world.patch("v1", "ConfigMap", "web", {"metadata": {"finalizers": ["example.com/stay"]}})
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        left = await world.get("v1", "ConfigMap", "web")
        assert left is not None
        assert "deletionTimestamp" in left["metadata"]
        await world.patch("v1", "ConfigMap", "web", {"metadata": {"finalizers": None}})
        await world.until_gone("v1", "ConfigMap", "web")

        def is_free(obj: KubeObject | None) -> bool:
            return obj is not None and "ownerReferences" not in obj["metadata"]

        await world.until("v1", "ConfigMap", "child", is_free, "left")


async def test_what_says_so_is_left_out_of_drift(releases: Releases) -> None:
    """CM-050: on the object as the chart has it, or as it lives."""
    world = releases.world
    flag = {"helm.toolkit.fluxcd.io/driftDetection": "Disabled"}
    meta = {"name": "free", "annotations": flag}
    free = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"colour": "red"}})
    await begin(releases, free=free)
    drifted = {"data": {"colour": "by hand"}}
    async with world.daemon() as running:
        await releases.release(driftDetection={"mode": "enabled"})
        await releases.until_version(1)
        await world.patch("v1", "ConfigMap", "free", drifted)
        await world.patch("v1", "ConfigMap", "web", {"metadata": {"labels": flag}})
        await running.idle()
        await world.patch("v1", "ConfigMap", "web", drifted)
        await running.idle()
        token = await releases.ask()
        found = await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") == token, "asked")
        assert (await world.data("free") or {})["colour"] == "by hand"
        assert (await world.data("web") or {})["colour"] == "by hand"
        assert told(found)["Drifted"] == ("False", "NoDriftDetected")
        await world.patch("v1", "ConfigMap", "web", {"metadata": {"labels": {next(iter(flag)): None}}})
        await releases.ask()
        await world.until_told("web", "DriftCorrected", "ConfigMap", kind="HelmRelease")
        assert (await world.data("web") or {})["colour"] == "red"
        assert (await world.data("free") or {})["colour"] == "by hand"


async def how_applied(world: World, name: str = "web") -> tuple[str, set[tuple[str, str]]]:
    """The uid of an object, and who wrote it by which operation."""
    live = await world.get("v1", "ConfigMap", name)
    assert live is not None
    return live["metadata"]["uid"], {(one["manager"], one["operation"]) for one in live["metadata"]["managedFields"]}


async def test_objects_are_applied_on_the_server_s_side_whatever_the_spec_says(
    releases: Releases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """HR-041, HR-042, HR-043, HR-048, HR-116: also what helm applied on the client's side, and nothing is replaced."""
    world = releases.world
    ours = {("helm-controller", "Apply")}
    await begin(releases, deployment=NEVER_READY)
    for path, text in chart_files("1.0.0").items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))
    where = ("--kubeconfig", world.kubeconfig, "--namespace", world.namespace)
    install = ("install", "old", tmp_path / "charts/web", "--server-side=false", *where)
    await anyio.to_thread.run_sync(lambda: helm(*install, home=tmp_path))
    of_helm, _ = await how_applied(world, "old")
    (record,) = await releases.records("old")
    assert record.apply_method != "ssa"
    client = {"serverSideApply": "disabled", "force": True}
    spec: dict[str, Any] = {
        "install": {"serverSideApply": False},
        "upgrade": {**client, "remediation": {"retries": 0, "remediateLastFailure": True}},
        "rollback": {**client, "recreate": True},
        "driftDetection": {"mode": "enabled"},
        "timeout": "1s",
    }
    async with world.daemon():
        await releases.release(**spec)
        await releases.until_version(1)
        uid, managers = await how_applied(world)
        assert managers == ours
        await releases.release(**spec, values={"colour": "blue"})
        await releases.until_version(2)
        await releases.release(**spec, values={"broken": True})
        await releases.until(lambda obj: told(obj).get("Remediated") == ("True", "RollbackSucceeded"), "rolled back")
        assert await how_applied(world) == (uid, ours)
        assert (await world.data("web") or {})["colour"] == "blue"
        assert {one.apply_method for one in await releases.records()} == {"ssa"}
        # After one of helm's own, `auto` means the client's side in Flux.
        await releases.release("old", upgrade={"serverSideApply": "auto"}, driftDetection={"mode": "enabled"})
        await releases.until_version(2, name="old")
        uid, managers = await how_applied(world, "old")
        assert uid == of_helm
        assert ours <= managers
        assert (await releases.records("old"))[0].apply_method == "ssa"
        await world.patch("v1", "ConfigMap", "old", {"data": {"colour": "by hand"}})
        await world.until_told("old", "DriftCorrected", "ConfigMap", kind="HelmRelease")
        assert (await world.data("old") or {})["colour"] == "red"
    assert "recreate" not in caplog.text


async def test_a_kind_that_somebody_adds_meanwhile_is_found_with_and_without_a_persistent_client(
    releases: Releases,
) -> None:
    """HR-020."""
    world = releases.world
    group = f"late-{world.namespace}.example.com"
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    box = f'apiVersion: {group}/v1\nkind: Box\nmetadata: {{name: "{{{{ .Release.Name }}}}"}}\n'
    await begin(releases, box=box)
    async with world.daemon():
        for name, keeps in (("with", True), ("without", False)):
            await releases.release(name, persistentClient=keeps)
            await releases.until(failed("InstallFailed", "Box"), "refused", name)
        names = {"plural": "boxes", "kind": "Box"}
        await world.apply(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"boxes.{group}"},
                "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
            }
        )
        for name in ("with", "without"):
            await releases.ask(name)
            await releases.until_version(1, name=name)
            assert await world.get(f"{group}/v1", "Box", name) is not None
    await world.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"boxes.{group}")


async def test_what_is_done_with_the_chart_of_a_template_is_in_the_log_and_no_event(releases: Releases) -> None:
    """HR-060."""
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await releases.release(interval="2h")
        await running.until_event(HelmChartSynced, where=lambda event: event.outcome == "configured")
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        await running.idle()
        synced = [one.outcome for one in running.events(HelmChartSynced) if isinstance(one, HelmChartSynced)]
        assert synced == ["created", "configured", "deleted"]
        for kind, name in (("HelmRelease", "web"), ("HelmChart", f"{world.namespace}-web")):
            reasons = {event["reason"] for event in await world.events_of(name, kind)}
            assert not {reason for reason in reasons if reason.startswith("HelmChart")}, reasons


async def test_a_chart_that_is_lost_is_fetched_again_and_released(releases: Releases) -> None:
    """HR-065."""
    world = releases.world
    await begin(releases)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        stream = running.stream("HelmChart", f"{world.namespace}-web")
        (fetched,) = running.events(RevisionFetched, stream=stream)
        assert isinstance(fetched, RevisionFetched)
        name = f"*{fetched.artifact.rpartition(':')[2]}*"
        (kept,) = await anyio.to_thread.run_sync(lambda: list(Layout(world.store).artifacts.rglob(name)))
        await anyio.to_thread.run_sync(kept.unlink)
        await releases.release(values={"colour": "blue"})
        await releases.until_version(2)
        assert (await world.data("web") or {})["colour"] == "blue"
        assert len(running.events(RevisionFetched, stream=stream)) == 1, "what it was packed of is there"
        await running.idle()
    await anyio.to_thread.run_sync(shutil.rmtree, Layout(world.store).artifacts)
    async with world.daemon() as running:
        await releases.release(values={"colour": "green"})
        await releases.until_version(3)
        assert (await world.data("web") or {})["colour"] == "green"
        assert len(running.events(RevisionFetched, stream=stream)) == 1


NAMES = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: names
data:
  found: {{ getHostByName "localhost" | quote }}
"""


async def test_names_are_looked_up_where_the_gate_is_open(releases: Releases) -> None:
    """HR-113."""
    world = releases.world
    async with world.daemon():
        await begin(releases, names=NAMES)
        await releases.release()
        await releases.until_version(1)
        assert await world.data("names") == {"found": ""}
    async with world.daemon(allow_dns_lookups=True):
        await releases.commit("1.1.0", names=NAMES)
        await releases.until_version(2)
        local = {found[4][0] for found in await anyio.getaddrinfo("localhost", 80)}
        assert (await world.data("names") or {})["found"] in local


async def test_jobs_are_waited_for_unless_that_is_disabled(releases: Releases) -> None:
    """HR-039, HR-114."""
    world = releases.world
    await begin(releases, job=hook("job", "none", kind="Job").replace('"helm.sh/hook": "none"', '"a": "b"'))
    async with world.daemon():
        await releases.release(timeout="1s")
        found = await releases.until(failed("InstallFailed", "timeout waiting for: [Job/"))
        assert condition(found, "Stalled")["reason"] == "RetriesExceeded"
        await releases.release(timeout="1s", upgrade={"disableWaitForJobs": True})
        found = await releases.until_version(2)
        assert [entry["id"] for entry in found["status"]["inventory"]["entries"]] == [
            f"{world.namespace}_job_batch_Job",
            f"{world.namespace}_web__ConfigMap",
        ]


async def test_the_chart_of_a_template_goes_to_the_namespace_of_its_source(releases: Releases) -> None:
    """HR-004, HR-059."""
    world = releases.world
    there, name = f"{world.namespace}-there", f"{world.namespace}-web"
    await begin(releases)
    await world.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": there}}, manager="test")
    for version, copied in (("v1", "Secret"), (SOURCE, "GitRepository")):
        obj = await world.get(version, copied, "fleet-auth" if copied == "Secret" else "fleet")
        assert obj is not None
        parts = {part: obj[part] for part in ("apiVersion", "kind", "data", "spec") if part in obj}
        metadata = {"name": obj["metadata"]["name"], "namespace": there, "labels": {"shard": there}}
        await world.cluster.apply(parts | {"metadata": metadata}, manager="test")
    own, kind = {"labels": {"shard": there}}, await world.cluster.kind(SOURCE, "GitRepository")
    await world.patch(SOURCE, "GitRepository", "fleet", {"metadata": own})

    def of(namespace: str) -> dict[str, Any]:
        source = {"kind": "GitRepository", "name": "fleet", "namespace": namespace}
        return {"metadata": own, "spec": {"chart": "./charts/web", "sourceRef": source}}

    async with world.daemon(watch_all_namespaces=True, watch_label_selector=f"shard={there}"):
        await releases.release(metadata=own, chart=of(world.namespace))
        await releases.until_version(1)
        assert await world.get(SOURCE, "HelmChart", name) is not None
        await releases.release(metadata=own, chart=of(there))
        await world.until_gone(SOURCE, "HelmChart", name)
        moved = await releases.until(lambda obj: is_ready(obj) and obj["status"]["helmChart"] == f"{there}/{name}")
        assert moved["status"]["observedGeneration"] == 2
        assert await world.get(SOURCE, "HelmChart", name, there) is not None
        assert await releases.statuses() == [(1, "deployed")]
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        await world.until(SOURCE, "HelmChart", name, lambda obj: obj is None, "gone", namespace=there)
        await world.cluster.delete(kind, there, "fleet")
        await world.until(SOURCE, "GitRepository", "fleet", lambda obj: obj is None, "gone", namespace=there)
    await world.cluster.delete(await world.cluster.kind("v1", "Namespace"), "", there)


CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: "{{ .Release.Name }}-data"}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


async def test_a_version_without_what_no_apply_brings_back_waits_for_somebody(releases: Releases) -> None:
    """Helm would delete it at once."""
    world = releases.world
    await begin(releases, claim=CLAIM)
    async with world.daemon() as running:
        await releases.release(install={"disableWait": True})
        await releases.until_version(1)
        await running.idle()
        await releases.commit("1.1.0", claim="# no claim any more\n")
        found = await releases.until(failed("PlanHeld", "PersistentVolumeClaim"))
        assert "Stalled" not in told(found)
        assert await releases.statuses() == [(1, "deployed")]
        assert (await world.data("web") or {})["version"] == "1.0.0"
        held = await running.until_event(PlanHeld)
        await running.ask("approve", plan=held.plan)
        await releases.until_version(2, "1.1.0")
        claim = await world.get("v1", "PersistentVolumeClaim", "web-data")
        assert claim is None or "deletionTimestamp" in claim["metadata"]
