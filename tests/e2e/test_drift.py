"""What others do to objects is undone, at once, and remembered with their names."""

import pytest

from tests.e2e.world import (
    SOURCE,
    Running,
    World,
    condition,
    config_map,
    dry_runs,
    failed,
    is_ready,
    manifest,
)
from tidelog.engine.observe.drift import FLAPPING_COUNT
from tidelog.engine.runtime.watching import observer
from tidelog.events.moment import datetime_of
from tidelog.events.vocabulary import DriftDetected, ObjectApplied, ObjectObserved, Planned
from tidelog.storage import Query


async def running_app(world: World, **data: str) -> None:
    world.commit({"app/cm.yaml": config_map("settings", **(data or {"colour": "blue"}))})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    await world.until_applied("app")


async def test_an_edit_is_undone_and_recorded_with_field_and_manager(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await running.idle()
        seen = len(running.recorded)
        await world.patch("v1", "ConfigMap", "settings", {"data": {"colour": "pink"}}, manager="mallory")
        drift = await running.until_event(DriftDetected, after=seen)
        await world.until_data("settings", {"colour": "blue"})
    assert [(field.path, field.manager) for field in drift.fields] == [("data.colour", "mallory")]
    assert drift.target == running.target("app")


async def test_what_kubectl_added_is_removed_and_what_others_added_stays(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await world.patch("v1", "ConfigMap", "settings", {"data": {"by-others": "kept"}}, manager="operator")
        # An addition is no drift; the edit beside it is, and the apply that undoes it takes kubectl's fields over.
        edit = {"data": {"by-kubectl": "gone", "colour": "pink"}}
        await world.patch("v1", "ConfigMap", "settings", edit, manager="kubectl-edit")
        await world.until_data("settings", {"colour": "blue", "by-others": "kept"})
        await running.idle()
    live = await world.get("v1", "ConfigMap", "settings")
    assert live is not None
    managers = {(entry["manager"], entry["operation"]) for entry in live["metadata"]["managedFields"]}
    assert managers == {("kustomize-controller", "Apply"), ("operator", "Update")}


async def test_fields_that_kubectl_added_without_touching_ours_are_removed_too(world: World) -> None:
    async with world.daemon():
        await running_app(world)
        await world.patch("v1", "ConfigMap", "settings", {"data": {"more": "gone"}}, manager="kubectl-patch")
        await world.until_data("settings", {"colour": "blue"})


async def test_what_flux_s_own_annotate_adds_survives(world: World) -> None:
    annotated = {"metadata": {"annotations": {"note": "kept"}}, "data": {"colour": "pink"}}
    async with world.daemon():
        await running_app(world)
        await world.patch("v1", "ConfigMap", "settings", annotated, manager="flux-client-side-apply")
        await world.until_data("settings", {"colour": "blue"})
    live = await world.get("v1", "ConfigMap", "settings")
    assert live is not None
    assert live["metadata"]["annotations"]["note"] == "kept"


async def test_what_kubectl_apply_left_behind_is_cleaned_up(world: World) -> None:
    left = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kustomize.toolkit.fluxcd.io/checksum": "0",
        "note": "stays: it is somebody else's",
    }
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "annotations": left}}
    await world.apply(obj, manager="somebody")
    async with world.daemon():
        await running_app(world)
    live = await world.get("v1", "ConfigMap", "settings")
    assert live is not None
    assert live["metadata"]["annotations"] == {"note": left["note"]}


async def test_a_deleted_object_comes_back(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await running.idle()
        seen = len(running.recorded)
        await world.delete("v1", "ConfigMap", "settings")
        drift = await running.until_event(DriftDetected, after=seen)
        await world.until_data("settings", {"colour": "blue"})
    assert drift.gone


async def test_an_object_made_again_by_somebody_else_is_taken_back(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await running.idle()
    await world.delete("v1", "ConfigMap", "settings")
    again = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "theirs"}}
    await world.apply(again, manager="somebody")
    async with world.daemon():
        await world.until_data("settings", {"colour": "blue"})


async def test_drift_while_the_daemon_is_down_is_undone_when_it_starts(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await running.idle()
    await world.patch("v1", "ConfigMap", "settings", {"data": {"colour": "pink"}}, manager="mallory")
    async with world.daemon():
        await world.until_data("settings", {"colour": "blue"})


async def test_the_status_of_an_object_is_no_drift(world: World) -> None:
    pod = manifest("v1", "Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
    async with world.daemon() as running:
        world.commit({"app/service.yaml": pod})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await running.idle()
        before, seen = len(await world.requests()), len(running.recorded)
        kind = await world.cluster.kind("v1", "Service")
        patch = {
            "status": {
                "conditions": [
                    {
                        "type": "Seen",
                        "status": "True",
                        "reason": "Yes",
                        "message": "",
                        "lastTransitionTime": "2024-01-01T00:00:00Z",
                    }
                ]
            }
        }
        await world.cluster.patch(
            kind, world.namespace, "web", patch, type="merge", manager="operator", subresource="status"
        )
        # A change that is drift comes after it in the same watch: when that is seen, the status was seen before.
        await world.patch("v1", "Service", "web", {"spec": {"selector": {"app": "other"}}}, manager="mallory")
        drift = await running.until_event(DriftDetected, after=seen)
        await world.until(
            "v1", "Service", "web", lambda obj: obj is not None and obj["spec"]["selector"] == {"app": "web"}
        )
        await running.idle()
        requests = (await world.requests())[before:]
        assert running.events(DriftDetected, after=seen) == [drift]
    assert dry_runs(requests) == ["web"]


async def test_a_write_of_our_own_is_no_news(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await running.idle()
        stream = f"default/core/ConfigMap/{world.namespace}/settings"
        told = [one async for one in running.daemon.log.read(Query(stream=stream))]
        assert told == []
        (applied,) = running.events(ObjectApplied)
        assert isinstance(applied, ObjectApplied)
        assert applied.action == "created"


async def test_somebody_who_never_stops_is_reported_instead_of_fought(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        for number in range(FLAPPING_COUNT - 1):
            await world.patch("v1", "ConfigMap", "settings", {"data": {"colour": f"no {number}"}}, manager="rival")
            await world.until_data("settings", {"colour": "blue"})
        await world.patch("v1", "ConfigMap", "settings", {"data": {"colour": "no more"}}, manager="rival")
        told = await world.until_told("app", "DriftFlapping", "data.colour", "rival")
        await running.idle()
    assert told["type"] == "Warning"
    assert await world.data("settings") == {"colour": "no more"}, "it is left to who writes it for a while"


async def test_what_was_left_to_somebody_is_put_right_when_the_pause_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "FLAPPING_PAUSE_S", 1.0)
    async with world.daemon() as running:
        await running_app(world)
        for number in range(FLAPPING_COUNT - 1):
            await world.patch("v1", "ConfigMap", "settings", {"data": {"colour": f"no {number}"}}, manager="rival")
            await world.until_data("settings", {"colour": "blue"})
        await running.idle()
        seen = len(running.recorded)
        await world.patch("v1", "ConfigMap", "settings", {"data": {"colour": "no more"}}, manager="rival")
        drift = await running.until(lambda one: isinstance(one.event, DriftDetected), "drift", after=seen)
        written_again = await running.until(lambda one: isinstance(one.event, ObjectApplied), "the apply", after=seen)
        assert await world.data("settings") == {"colour": "blue"}
    waited = datetime_of(written_again.envelope.time) - datetime_of(drift.envelope.time)
    assert waited.total_seconds() >= 1.0, "it is not fought over at once"


async def test_idle_means_no_request_at_all(world: World) -> None:
    async with world.daemon() as running:
        await running_app(world)
        await running.idle()
        before, seen = len(await world.requests()), len(running.recorded)
        await world.ask()  # an answer that is not new
        await world.until_source(lambda obj: obj["status"].get("lastHandledReconcileAt", "").startswith("token"))
        await running.idle()
        requests = (await world.requests())[before:]
        assert running.events(Planned, after=seen) == []
    asked = [(one["verb"], one["objectRef"]["resource"], one["objectRef"].get("subresource")) for one in requests]
    assert asked == [("patch", "gitrepositories", "status")], "neither a write nor a question more"
    source = await world.get(SOURCE, "GitRepository", "fleet")
    assert source is not None
    assert is_ready(source)
    assert not failed("anything")(source)


async def test_what_an_overridden_manager_added_is_removed(world: World) -> None:
    """As Flux's `--override-manager`: what others add to an object is theirs, but for those that are named."""
    async with world.daemon(override_manager=frozenset({"meddler"})) as running:
        await running_app(world)
        await world.patch("v1", "ConfigMap", "settings", {"data": {"by-others": "kept"}}, manager="operator")
        await world.patch("v1", "ConfigMap", "settings", {"data": {"by-meddler": "gone"}}, manager="meddler")
        await world.until_data("settings", {"colour": "blue", "by-others": "kept"})
        await running.idle()


@pytest.mark.parametrize(("interval", "again"), [("1h", False), ("4s", True)])
async def test_a_job_whose_time_to_live_is_over_is_made_again_at_the_next_interval(
    world: World, interval: str, again: bool
) -> None:
    container = {"name": "job", "image": "job:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    # On a cluster without nodes no Job ever runs: this one's deadline is soon over.
    spec = {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 1, "template": template}
    world.commit({"app/job.yaml": manifest("batch/v1", "Job", "job", spec=spec)})
    async with world.daemon() as running:
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, interval=interval)
        await world.until_applied("app")
        gone = await running.until(
            lambda one: isinstance(one.event, ObjectObserved) and one.event.gone, "the Job is taken away"
        )
        assert str(gone.envelope.actor) == "manager unknown (inferred)", "a watch does not tell who deletes"
        if again:
            await running.until(lambda _: made(running) > 1, "the Job is made again")
        else:
            await running.idle()
            assert made(running) == 1


async def complete(world: World) -> None:
    """As the Job's controller does when its Pods have ended well: here are no nodes for them."""
    job = await world.until("batch/v1", "Job", "job", lambda obj: "startTime" in ((obj or {}).get("status") or {}))
    assert job is not None
    now = job["status"]["startTime"]
    conditions = [
        {"type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        for type_ in ("SuccessCriteriaMet", "Complete")
    ]
    counts = {"succeeded": 1, "active": 0, "ready": 0, "uncountedTerminatedPods": {}}
    status = {**counts, "completionTime": now, "conditions": conditions}
    kind = await world.cluster.kind("batch/v1", "Job")
    where = (kind, world.namespace, "job", {"status": status})
    await world.cluster.patch(*where, type="merge", manager="kubelet", subresource="status")


async def test_a_job_that_did_its_work_and_was_taken_away_is_well_and_not_made_again_for_another_reason(
    world: World,
) -> None:
    """It is taken away the moment that it is done, so that nobody may have looked at it in between (KS-103)."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": "job:1"}]}}
    job = manifest("batch/v1", "Job", "job", spec={"ttlSecondsAfterFinished": 0, "template": template})
    world.commit({"app/job.yaml": job, "app/cm.yaml": config_map("settings", n="1")})
    async with world.daemon() as running:
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, wait=True, timeout="1h", interval="1h")
        await world.until_target("app", lambda obj: condition(obj, "Healthy").get("status") == "Unknown")
        await complete(world)
        await world.until_gone("batch/v1", "Job", "job")
        await world.until_applied("app")
        await world.push({"app/cm.yaml": config_map("settings", n="2")})
        await world.until_applied("app")
        await running.idle()
        assert made(running) == 1
        # Who asks for a run has it made again, and that one is waited for.
        await world.ask("Kustomization", "app")
        await running.until(lambda _: made(running) > 1, "the Job is made again")
        await world.until_target("app", lambda obj: condition(obj, "Healthy").get("status") == "Unknown")
        await complete(world)
        await world.until_applied("app")


async def test_a_job_that_is_done_and_was_taken_away_is_not_made_again_by_the_next_daemon(world: World) -> None:
    """Be it that it went while one was at work, or while none was."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": "job:1"}]}}
    job = manifest("batch/v1", "Job", "job", spec={"ttlSecondsAfterFinished": 3_600, "template": template})
    world.commit({"app/job.yaml": job})
    async with world.daemon():
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, wait=True, timeout="1h", interval="1h")
        await complete(world)
        await world.until_applied("app")
    await world.delete("batch/v1", "Job", "job")  # as its `ttlSecondsAfterFinished` does
    await world.until_gone("batch/v1", "Job", "job")
    async with world.daemon() as running:
        gone = await running.until_event(ObjectObserved, where=lambda event: event.gone)
        assert gone.ended == "Current"
        await running.idle()
        assert made(running) == 0
    async with world.daemon() as running:
        await running.idle()
        assert made(running) == 0
        await world.ask("Kustomization", "app")
        await running.until(lambda _: made(running) > 0, "the Job is made again")


def made(running: Running) -> int:
    return sum(isinstance(one, ObjectApplied) and one.object.startswith("batch/Job/") for one in running.events())
