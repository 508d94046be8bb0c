"""Rows of the state table of contract 4.5 that `test_release_states.py` does not show, on the real API server."""

import json
from typing import Any

import msgspec
import pytest

from tests.e2e.command import tidelog
from tests.e2e.releases import Releases, ready_message, told
from tests.e2e.releases import chart as chart_files
from tests.e2e.test_release_states import BROKEN, NEVER_READY, TEST, begin, is_stalled
from tests.e2e.world import HELM, World, condition, failed, is_ready
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore
from tidelog.events.vocabulary import PlanHeld, RunEnded


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


async def leave_as(releases: Releases, status: str, version: int = 1) -> None:
    """Has a record say something else, as another tool would."""
    store = ReleaseStore(releases.world.cluster, releases.world.namespace)
    record = await store.get("web", version)
    assert record is not None
    info = msgspec.structs.replace(record.release.info, status=status)
    await store.update(Record(msgspec.structs.replace(record.release, info=info), record.labels), 1.0)


async def test_an_install_that_another_tool_left_pending_is_unlocked_and_upgraded_by_who_comes_after(
    releases: Releases,
) -> None:
    """HR-070, HR-084: nothing is known of it but its record."""
    world = releases.world
    await begin(releases)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        await releases.release(suspend=True)
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        await leave_as(releases, "pending-install")
        await releases.release(values={"colour": "blue"})
        await releases.until_version(2)
        await world.until_told("web", "PendingRelease", "in pending-install state", kind="HelmRelease")
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]
        assert (await world.data("web") or {})["colour"] == "blue"


async def test_a_release_whose_uninstall_was_kept_in_storage_is_installed_again_as_often_as_it_may(
    releases: Releases,
) -> None:
    """HR-075, HR-085: absent is also what was uninstalled; with force it is tried beyond the retries."""
    await begin(releases, deployment=NEVER_READY)
    async with releases.world.daemon() as running:
        remediation = {"retries": 1, "remediateLastFailure": True}
        await releases.release(**BROKEN, install={"remediation": remediation}, uninstall={"keepHistory": True})
        found = await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert condition(found, "Stalled")["message"] == "Failed to install after 2 attempt(s)"
        assert told(found)["Remediated"] == ("True", "UninstallSucceeded")
        assert await releases.statuses() == [(2, "uninstalled"), (1, "uninstalled")]
        # An install begins a new history (HR-104).
        assert [(one["version"], one["status"]) for one in found["status"]["history"]] == [(2, "uninstalled")]
        await releases.ask()
        await running.idle()
        assert len(await releases.statuses()) == 2
        token = await releases.ask(force=True)
        found = await releases.until(lambda obj: obj["status"].get("installFailures") == 3, "forced")
        assert found["status"]["lastHandledForceAt"] == token
        assert await releases.statuses() == [(3, "uninstalled"), (2, "uninstalled"), (1, "uninstalled")]


async def test_a_forced_upgrade_is_tried_beyond_the_retries(releases: Releases) -> None:
    """HR-087 after a rollback, which leaves another version deployed; HR-091 where the failed one stays."""
    world = releases.world
    await begin(releases, deployment=NEVER_READY)
    async with world.daemon() as running:
        rolls_back = {"remediation": {"retries": 0, "remediateLastFailure": True}}
        await releases.release(upgrade=rolls_back)
        await releases.until_version(1)
        await releases.release(**BROKEN, upgrade=rolls_back)
        await releases.until(is_stalled("RetriesExceeded"), "stalled")
        assert [status for _, status in await releases.statuses()] == ["deployed", "failed", "superseded"]
        await releases.ask()
        await running.idle()
        assert len(await releases.statuses()) == 3
        await releases.ask(force=True)
        await releases.until(lambda obj: obj["status"].get("upgradeFailures") == 2, "forced")
        await running.idle()
        statuses = [status for _, status in await releases.statuses()]
        assert statuses == ["deployed", "failed", "superseded", "failed", "superseded"]

        stays = {"remediation": {"retries": 0}}
        await releases.release(**BROKEN, upgrade=stays)
        await releases.until(
            lambda obj: is_stalled("RetriesExceeded")(obj) and obj["status"]["history"][0]["version"] == 6, "stays"
        )
        await releases.ask(force=True)
        await releases.until(lambda obj: obj["status"].get("upgradeFailures") == 2, "forced once more")
        assert (await releases.statuses())[:2] == [(7, "failed"), (6, "failed")]


async def test_where_there_is_no_good_version_to_go_back_to_nobody_goes_back(releases: Releases) -> None:
    """HR-095."""
    await begin(releases, deployment=NEVER_READY)
    async with releases.world.daemon():
        await releases.release(**BROKEN)
        await releases.until(is_stalled("RetriesExceeded"), "the install stalled")
        upgrade = {"remediation": {"retries": 0, "remediateLastFailure": True}}
        await releases.release(**BROKEN, upgrade=upgrade)
        found = await releases.until(is_stalled("MissingRollbackTarget"), "stalled")
        said = condition(found, "Stalled")["message"]
        assert said == (
            "Failed to perform remediation: missing target release for rollback: cannot remediate failed release"
        )
        assert told(found)["Released"] == ("False", "UpgradeFailed")
        assert "Remediated" not in told(found)
        assert await releases.statuses() == [(2, "failed"), (1, "failed")]


async def test_tests_that_come_to_be_enabled_are_run_on_the_version_that_is_there(releases: Releases) -> None:
    """HR-078, HR-089: untested, and so is nothing else done with it."""
    await begin(releases, test=TEST)
    async with releases.world.daemon():
        await releases.release()
        found = await releases.until_version(1)
        assert "TestSuccess" not in told(found)
        await releases.release(test={"enable": True})
        found = await releases.until(lambda obj: told(obj).get("TestSuccess") == ("True", "TestSucceeded"), "tested")
        assert "1 test hook completed successfully" in ready_message(found)
        assert found["status"]["history"][0]["testHooks"]["web-test"]["phase"] == "Succeeded"
        assert await releases.statuses() == [(1, "deployed")]


@pytest.mark.parametrize("who", ["test", "remediation"])
async def test_a_failed_test_that_is_ignored_leaves_the_release_as_it_is(releases: Releases, who: str) -> None:
    """HR-079, HR-034, HR-052, HR-101: it counts as no failure, and nothing is put right."""
    world = releases.world
    await begin(releases, test=TEST)
    test: dict[str, Any] = {"enable": True}
    remediation: dict[str, Any] = {"remediateLastFailure": True, "retries": 0}
    if who == "test":
        test["ignoreFailures"] = True
    else:
        remediation["ignoreTestFailures"] = True
    async with world.daemon() as running:
        await releases.release(values={"testKind": "Pod"}, test=test, install={"remediation": remediation})
        await world.until("v1", "Pod", "web-test", lambda obj: obj is not None)
        await releases.set_status("v1", "Pod", "web-test", {"phase": "Failed", "reason": "Evicted"})
        found = await releases.until(lambda obj: told(obj).get("TestSuccess") == ("False", "TestFailed"), "tested")
        await running.idle()
        found = await releases.until(lambda obj: "Reconciling" not in told(obj), "at rest")
        assert found["status"].get("installFailures", 0) == 0
        assert found["status"]["history"][0]["testHooks"]["web-test"]["phase"] == "Failed"
        assert "Stalled" not in told(found)
        assert "Remediated" not in told(found)
        assert told(found)["Released"] == ("True", "InstallSucceeded")
        # Flux sums it up with the tests where only what is put right is told to ignore them.
        ready = ("True", "InstallSucceeded") if who == "test" else ("False", "TestFailed")
        assert told(found)["Ready"] == ready
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        assert found["status"]["failures"] == 1
        await releases.release("other", dependsOn=[{"name": "web"}])
        if who == "test":
            await releases.until_version(1, name="other")
        else:
            await releases.until(failed("DependencyNotReady", "is not ready"), name="other")
            done = await tidelog(world, "get", "hr", "-o", "json")
            assert {one["name"]: one["ready"] for one in json.loads(done.out)} == {"web": "False", "other": "False"}
        ended = len(running.events(RunEnded, stream=running.stream("HelmRelease", "web")))
        token = await releases.ask()
        await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") == token, "answered")
        await running.idle()
        assert len(running.events(RunEnded, stream=running.stream("HelmRelease", "web"))) == ended + 1
        assert await releases.statuses() == [(1, "deployed")]
        assert await world.data("web") is not None

        # The tests of a version that is made anew are run, and it is ready once they succeed.
        await releases.release(values={"testKind": "ConfigMap"}, test=test, upgrade={"remediation": remediation})
        found = await releases.until_version(2)
        assert told(found)["TestSuccess"] == ("True", "TestSucceeded")
        await releases.until_version(1, name="other")


@pytest.mark.parametrize("status", ["unknown", "superseded", "uninstalling"])
async def test_a_record_whose_status_says_nothing_is_told_and_left_alone(releases: Releases, status: str) -> None:
    """HR-082; what another engine left in the midst of its uninstall is tried again, which differs from Flux."""
    world = releases.world
    await begin(releases)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        await releases.release(suspend=True)
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
    await leave_as(releases, status)
    await releases.release()
    # Of a history of before there were digests, as Flux took it over.
    snapshot = {
        "name": "web",
        "namespace": world.namespace,
        "version": 1,
        "status": status,
        "digest": "",
        "chartName": "web",
        "chartVersion": "1.0.0",
        "configDigest": "",
        "firstDeployed": "2026-01-01T00:00:00Z",
        "lastDeployed": "2026-01-01T00:00:00Z",
    }
    taken = {"history": [snapshot], "storageNamespace": world.namespace, "lastAttemptedReleaseAction": "upgrade"}
    await releases.set_status(HELM, "HelmRelease", "web", taken)
    async with world.daemon() as running:
        if status == "uninstalling":
            # The first deletion since another engine was in charge waits for somebody.
            held = await running.until_event(PlanHeld)
            await running.ask("approve", plan=held.plan)
            found = await releases.until(lambda obj: is_ready(obj) and len(obj["status"]["history"]) == 1, "again")
            assert told(found)["Released"] == ("True", "InstallSucceeded")
            assert await releases.statuses() == [(1, "deployed")]
            assert await world.data("web") is not None
            return
        found = await releases.until(failed("StateError"), "told")
        said = f"Could not determine release state: unable to determine state for release with status '{status}'"
        assert ready_message(found) == said
        assert "Stalled" not in told(found)
        await running.idle()
        assert await releases.statuses() == [(1, status)]


async def test_a_chart_of_another_name_takes_the_place_of_the_one_before_or_goes_on_from_it(
    releases: Releases,
) -> None:
    """HR-103, HR-046."""
    world = releases.world
    world.change(chart_files("2.0.0", "site"))
    await begin(releases)

    def of(name: str) -> dict[str, Any]:
        return {"spec": {"chart": f"./charts/{name}", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}}

    async with world.daemon():
        await releases.release(values={"colour": "blue"})
        await releases.until_version(1)
        first = await uid(world)
        await releases.release(chart=of("site"), upgrade={"chartNameChangeStrategy": "InPlaceUpdate"})
        found = await releases.until_version(2, "2.0.0")
        assert await uid(world) == first
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]
        assert found["status"]["history"][0]["chartName"] == "site"
        await releases.release(chart=of("web"))
        found = await releases.until_version(1, "1.0.0")
        assert await uid(world) != first
        assert await releases.statuses() == [(1, "deployed")]
        assert [one["chartName"] for one in found["status"]["history"]] == ["web"]
        assert told(found)["Released"] == ("True", "InstallSucceeded")


@pytest.mark.parametrize("field", ["targetNamespace", "storageNamespace"])
async def test_a_release_that_goes_elsewhere_leaves_nothing_where_it_was(releases: Releases, field: str) -> None:
    """HR-103."""
    world = releases.world
    there = f"{world.namespace}-there"
    await world.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": there}}, manager="test")
    await begin(releases)
    async with world.daemon():
        await releases.release(releaseName="web")
        await releases.until_version(1)
        first = await uid(world)
        await releases.release(releaseName="web", **{field: there})

        def is_there(obj: Any) -> bool:
            status = obj["status"]
            (newest,) = status.get("history") or [{"namespace": ""}]
            storage = there if field == "storageNamespace" else world.namespace
            target = there if field == "targetNamespace" else world.namespace
            return is_ready(obj) and (newest["namespace"], status["storageNamespace"]) == (target, storage)

        await releases.until(is_there, "there")
        if field == "targetNamespace":
            assert await world.data("web") is None
            assert await world.get("v1", "ConfigMap", "web", there) is not None
            assert await releases.statuses() == [(1, "deployed")]
        else:
            assert await uid(world) != first
            assert await releases.statuses() == []
            assert await world.get("v1", "Secret", "sh.helm.release.v1.web.v1", there) is not None
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")


async def uid(world: World) -> str:
    """Which object the ConfigMap of the release is."""
    found = await world.get("v1", "ConfigMap", "web")
    assert found is not None
    return str(found["metadata"]["uid"])
