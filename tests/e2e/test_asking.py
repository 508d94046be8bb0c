"""What people ask for, from the command to the cluster."""

import base64
import json
import os
import pwd
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.world import KUSTOMIZE, SOURCE, World, condition, config_map, documents, failed, manifest
from tidelog.events.moment import time_of
from tidelog.events.vocabulary import ReconcileRequested, Resumed, StreamForgotten, Suspended, TargetDeclared
from tidelog.storage import verify_store

pytestmark = pytest.mark.slow

PLANTED = "hunter2-sekrit"


async def app_of(world: World, content: str = "") -> None:
    world.commit({"app/all.yaml": content or config_map("web", color="red")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    await world.until_applied("app")


async def suspended(world: World) -> bool:
    found = await world.get(KUSTOMIZE, "Kustomization", "app")
    assert found
    return bool(found["spec"].get("suspend"))


async def test_a_reconciliation_is_waited_for_and_its_source_is_asked_first(world: World) -> None:
    async with daemon_with_door(world) as running:
        await app_of(world)
        world.change({"app/all.yaml": config_map("web", color="blue")})
        done = await tidelog(world, "reconcile", "ks/app", "--with-source", "--why", "now")
        assert done.code == 0, done
        assert f"✔ Kustomization/{world.namespace}/app: Applied revision: {world.revision}" in done.err or (
            f"ready at {world.revision}" in done.err
        )
        assert await world.data("web") == {"color": "blue"}
        asked = running.events(ReconcileRequested)
        assert asked == [ReconcileRequested(why="now"), ReconcileRequested(why="now")]


async def test_the_history_says_who_resumed_and_why(world: World) -> None:
    async with daemon_with_door(world) as running:
        await app_of(world)
        assert (await tidelog(world, "suspend", "ks/app", "--why", "a look at it")).code == 0
        await running.idle()
        assert (await tidelog(world, "resume", "ks/app", "--why", "it is well")).code == 0
        await running.idle()
        me = pwd.getpwuid(os.getuid()).pw_name
        (run, *_) = json.loads((await tidelog(world, "history", "ks/app", "-o", "json")).out)
        assert run["why"] == f"Was resumed by user {me} (authenticated by unix-socket): it is well"
        # As flux and kubectl do it.
        for suspend, told in ((True, Suspended), (False, Resumed)):
            seen = len(running.recorded)
            await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": suspend}}, manager="flux")
            await running.until_event(told, after=seen)
            await running.idle()
        (run, *_) = json.loads((await tidelog(world, "history", "ks/app", "-o", "json")).out)
        assert run["why"].startswith("Was resumed by manager flux"), run["why"]


async def test_a_reconciliation_that_fails_is_said_so(world: World) -> None:
    async with daemon_with_door(world):
        await app_of(world)
        world.change({"app/all.yaml": "kind: [\n"})
        done = await tidelog(world, "reconcile", "ks/app", "--with-source", "-o", "json")
        assert done.code == 1
        assert f"✗ Kustomization/{world.namespace}/app: BuildFailed" in done.err
        assert '"reason":"BuildFailed"' in done.out


async def test_a_plan_that_is_held_ends_the_waiting_and_its_approval_goes_on(world: World) -> None:
    async with daemon_with_door(world):
        await app_of(world, documents(*(config_map(f"item-{number}") for number in range(8))))
        world.change({"app/all.yaml": config_map("item-0")})
        done = await tidelog(world, "reconcile", "ks/app", "--with-source")
        assert (done.code, "PlanHeld" in done.err) == (1, True)
        held = await world.until_target("app", failed("PlanHeld"))
        words = condition(held, "Ready")["message"].split()
        done = await tidelog(world, "approve", words[words.index("plan") + 1], "--why", "they moved")
        assert done.code == 0, done
        await world.until_applied("app")
        assert await world.data("item-7") is None


async def test_a_suspension_ends_by_itself(world: World) -> None:
    async with daemon_with_door(world) as running:
        await app_of(world)
        stream = running.target("app")
        done = await tidelog(world, "suspend", "ks/app", "--why", "a talk", "--until", "3s")
        assert done.code == 0, done
        assert await suspended(world)
        resumed = await running.until(lambda one: isinstance(one.event, Resumed), "Resumed")
        assert str(resumed.envelope.actor) == "schedule suspension (authenticated by process)"
        (was,) = running.events(Suspended, stream=stream)
        assert isinstance(was, Suspended)
        assert was.until is not None
        assert resumed.envelope.time >= was.until
        await world.until_target("app", lambda obj: not obj["spec"].get("suspend"), "resumed")
        # Each new spec is told once, though the answer to the write and the watch both bring it.
        await running.idle()
        assert len(running.events(TargetDeclared, stream=stream)) == 3
        await world.push({"app/all.yaml": config_map("web", color="blue")})
        await world.until_data("web", {"color": "blue"})


async def test_a_suspension_that_ends_while_no_daemon_is_at_work_is_ended_by_the_next(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world)
        until = time_of(datetime.now(UTC) + timedelta(seconds=2))
        await running.ask("suspend", running.target("app"), until=until)
    assert await suspended(world)
    async with world.daemon() as running:
        await running.until_event(Resumed, stream=running.target("app"))
        await world.until_target("app", lambda obj: not obj["spec"].get("suspend"), "resumed")


async def test_what_was_asked_without_a_cluster_is_carried_out_by_the_next_daemon(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world)
        running.daemon.requests._cluster = None  # as if it had crashed between record and write
        await running.ask("suspend", running.target("app"), why="a freeze")
        running.daemon.engine.targets.forget(running.target("app"))
    async with world.daemon() as running:
        await world.until_target("app", lambda obj: bool(obj["spec"].get("suspend")), "suspended")
        await running.idle()
        assert running.events(Resumed) == []


async def test_a_suspension_is_asked_without_a_daemon_and_ended_by_whoever_removes_it(world: World) -> None:
    async with world.daemon():
        await app_of(world)
    done = await tidelog(world, "suspend", "ks/app", "--why", "a freeze")
    assert (done.code, done.err) == (0, "")
    assert await suspended(world)
    await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": None}}, manager="kubectl-edit")
    async with world.daemon() as running:
        resumed = await running.until(lambda one: isinstance(one.event, Resumed), "Resumed")
        assert resumed.envelope.actor.kind == "manager"
    assert not await suspended(world)


async def two_apps(world: World) -> None:
    """Two Kustomizations that are ready."""
    world.commit({f"{name}/all.yaml": config_map(f"{name}-web", color="red") for name in ("one", "two")})
    await world.source()
    for name in ("one", "two"):
        await world.target(name, f"./{name}", targetNamespace=world.namespace)
    await world.until_applied("one", "two")


async def suspensions(world: World) -> list[bool]:
    found = [await world.get(KUSTOMIZE, "Kustomization", name) for name in ("one", "two")]
    return [bool(obj and obj["spec"].get("suspend")) for obj in found]


async def test_all_of_a_kind_are_suspended_and_resumed(world: World) -> None:
    async with daemon_with_door(world) as running:
        await two_apps(world)
        done = await tidelog(world, "suspend", "kustomizations", "--all", "--why", "a freeze", "--until", "1h")
        assert (done.code, done.err) == (0, ""), done
        assert [line.split(" at ")[0] for line in done.out.splitlines()] == [
            f"Suspended Kustomization/{world.namespace}/{name}" for name in ("one", "two")
        ]
        assert await suspensions(world) == [True, True]
        source = await world.get(SOURCE, "GitRepository", "fleet")
        assert source is not None
        assert not source["spec"].get("suspend"), "it is of another kind"
        first, second = running.events(Suspended)
        assert isinstance(first, Suspended)
        assert (first.why, first.until is not None, first == second) == ("a freeze", True, True)
        done = await tidelog(world, "resume", "ks", "two", "--why", "needed")
        assert done.code == 0, done
        done = await tidelog(world, "resume", "ks", "--all", "--why", "over", "-o", "json")
        assert (done.code, done.err) == (0, ""), done
        (answer,) = json.loads(done.out)
        assert answer["stream"] == running.target("one"), "the other is not suspended any more"
        assert await suspensions(world) == [False, False]
        done = await tidelog(world, "resume", "ks", "--all")
        assert (done.code, done.out) == (0, "")
        assert done.err == f"There is no suspended Kustomization in namespace {world.namespace}.\n"


async def test_all_of_a_kind_are_suspended_without_a_store(world: World) -> None:
    async with world.daemon():
        await two_apps(world)
    world.store = world.directory / "nowhere"
    done = await tidelog(world, "suspend", "ks", "--all", "--why", "x")
    assert (done.code, done.err) == (0, "There is no store here: who and why is not recorded.\n"), done
    assert done.out == "".join(f"Suspended Kustomization/{world.namespace}/{name}.\n" for name in ("one", "two"))
    assert await suspensions(world) == [True, True]
    done = await tidelog(world, "suspend", "ks", "--all", "--why", "x", "--until", "2h")
    assert (done.code, done.err.count("--until needs a store")) == (1, 1)
    assert (await tidelog(world, "resume", "ks", "one")).code == 0
    done = await tidelog(world, "resume", "ks", "--all", "-o", "json")
    assert [one["stream"].rpartition("/")[2] for one in json.loads(done.out)] == ["two"]
    assert await suspensions(world) == [False, False]
    done = await tidelog(world, "suspend", "hr", "--all", "--why", "x")
    assert (done.code, done.err) == (0, f"There is no HelmRelease in namespace {world.namespace}.\n")


async def test_without_a_store_the_annotation_of_flux_is_written(world: World) -> None:
    async with world.daemon():
        await app_of(world)
        here = world.store
        world.store = world.directory / "nowhere"
        done = await tidelog(world, "reconcile", "kustomization/app")
        assert done.code == 0, done
        assert f"✔ Kustomization/{world.namespace}/app: Applied revision: {world.revision}" in done.err
        done = await tidelog(world, "suspend", "ks/app", "--why", "x")
        assert (done.code, "is not recorded" in done.err) == (0, True)
        assert await suspended(world)
        assert (await tidelog(world, "reconcile", "ks/app")).code == 1
        assert (await tidelog(world, "resume", "ks/app")).code == 0
        assert (await tidelog(world, "reconcile", "ks/none")).code == 1
        world.store = here
        found = await world.get(KUSTOMIZE, "Kustomization", "app")
        assert found
        assert found["status"]["lastHandledReconcileAt"]


async def test_a_daemon_forgets_and_makes_anew_what_it_still_needs(world: World) -> None:
    async with daemon_with_door(world) as running:
        value = base64.b64encode(PLANTED.encode()).decode()
        await app_of(world, manifest("v1", "Secret", "pw", data={"password": value}))
        stream = f"default/core/Secret/{world.namespace}/pw"
        done = await tidelog(world, "log", "forget", stream, "--why", "it leaked", "--yes")
        assert done.code == 0, done
        assert len(running.events(StreamForgotten, stream=stream)) == 1
        await world.patch("v1", "Secret", "pw", {"data": {"password": ""}}, manager="thief")
        await world.until(
            "v1", "Secret", "pw", lambda obj: obj is not None and obj["data"]["password"] == value, "put right"
        )
        done = await tidelog(world, "reconcile", "ks/app")
        assert done.code == 0, done
    assert (await verify_store(world.store)).intact


async def test_a_request_does_not_reach_another_cluster(world: World) -> None:
    async with world.daemon():
        await app_of(world)
    found = await world.get(SOURCE, "GitRepository", "fleet")
    assert found
    from tidelog.engine.runtime.binding import check_cluster
    from tidelog.engine.runtime.errors import WrongClusterError
    from tidelog.storage import read_log

    async with read_log(world.store) as log:
        await check_cluster(world.cluster, log, "default")
        await check_cluster(world.cluster, log, "another")
        with pytest.MonkeyPatch.context() as patch:

            async def other(_: object) -> str:
                return "another-uid"

            patch.setattr("tidelog.engine.runtime.binding.uid_of", other)
            with pytest.raises(WrongClusterError, match="knows another cluster as 'default'"):
                await check_cluster(world.cluster, log, "default")


async def test_without_a_store_it_is_said_at_once_that_nobody_seems_to_be_there_to_do_it(world: World) -> None:
    async with world.daemon():
        await app_of(world)
    there = world.store
    world.store = there.with_name("elsewhere")
    done = await tidelog(world, "reconcile", "ks/app", "--timeout", "1s")
    assert done.code == 1
    asked, nobody, late = done.err.splitlines()
    assert asked == f"► Kustomization/{world.namespace}/app: asked for a run"
    assert nobody.startswith(f"Nobody holds the Lease {world.namespace}/kustomize-controller-leader-election, so no")
    assert late == f"✗ Kustomization/{world.namespace}/app: it has not ended within 1 s"
    for leases in (True, False):  # who is at work without a Lease is waited for all the same
        world.store = there
        async with world.daemon(enable_leader_election=leases):
            world.store = there.with_name("elsewhere")
            done = await tidelog(world, "reconcile", "ks/app")
            assert (done.code, "Lease" not in done.err) == (0, leases), done
