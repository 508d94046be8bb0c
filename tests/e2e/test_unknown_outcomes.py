"""What an apply began to write is not forgotten when nobody knows whether it was written."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.test_crashes import daemon_process
from tests.e2e.world import KUSTOMIZE, World, condition, config_map, documents, failed
from tests.servers.faulty_api import Asked, Delay, Fault, faulty_api
from tidelog.events.vocabulary import ApplyStarted, PlanHeld, RevisionFetched, TargetRemoved


def lose_the_answer(asked: Asked) -> Fault:
    return "drop after" if asked.writes and asked.path.endswith("/configmaps/b") else None


async def without_another_look(world: World, files: Mapping[str, str | None]) -> None:
    """The next daemon has a commit applied, without a pass over what was wanted before it."""
    await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
    world.change(files)
    async with world.daemon() as running:
        await world.ask()
        await running.until_event(RevisionFetched, where=lambda event: event.revision == world.revision)
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": None}})
        await world.until_applied("app")
        assert running.events(PlanHeld) == []


@pytest.mark.parametrize("restarted", [False, True], ids=["by the same daemon", "by the next daemon"])
async def test_what_was_made_and_never_answered_is_pruned_when_nobody_wants_it(
    world: World, tmp_path: Path, restarted: bool
) -> None:
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api:
        async with world.daemon(kubeconfig=api.kubeconfig):
            world.commit({"app/a.yaml": config_map("a")})
            await world.source()
            await world.target("app", "./app", targetNamespace=world.namespace)
            await world.until_applied("app")
            api.fault = lose_the_answer
            await world.push({"app/b.yaml": config_map("b")})
            await world.until_target("app", failed("ReconciliationFailed", "may have been done"))
            if not restarted:
                api.fault = lambda _: None
                await world.push({"app/b.yaml": None})
                await world.until_applied("app")
        if restarted:
            await without_another_look(world, {"app/b.yaml": None})
    assert await world.data("b") is None
    assert await world.data("a") == {}


async def test_what_a_killed_daemon_made_is_pruned_when_nobody_wants_it(world: World, tmp_path: Path) -> None:
    """Killed when the object is there, and before it is recorded."""
    world.commit({"app/a.yaml": config_map("a")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api:
        through = world.kubeconfig
        world.kubeconfig = api.kubeconfig
        with daemon_process(world) as process:
            await world.until_applied("app")

            def kill(asked: Asked) -> Fault:
                if lose_the_answer(asked) is None:
                    return None
                process.kill()  # the request is on its way: the server carries it out
                return None

            api.fault = kill
            await world.push({"app/b.yaml": config_map("b")})
            await world.until("v1", "ConfigMap", "b", lambda obj: obj is not None)
            process.wait()
        world.kubeconfig = through
    await without_another_look(world, {"app/b.yaml": None})
    assert await world.data("b") is None


async def test_what_never_came_to_be_does_not_make_deletions_look_few(world: World, tmp_path: Path) -> None:
    many = [config_map(f"m{number}") for number in range(40)]
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api, world.daemon(kubeconfig=api.kubeconfig):
        world.commit({"app/a.yaml": documents(*(config_map(f"a{number}") for number in range(8)))})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        api.fault = lambda asked: "drop before" if asked.writes and "/configmaps/m" in asked.path else None
        await world.push({"app/m.yaml": documents(*many)})
        await world.until_target("app", lambda obj: condition(obj, "Ready").get("status") == "False")
        # The fault stays: else another try could make some of them before the next revision is there.
        await world.push({"app/m.yaml": None, "app/a.yaml": config_map("a0")})
        await world.until_target("app", failed("PlanHeld", "87 %"))


async def test_nothing_more_is_applied_for_who_was_removed_by_force_and_nobody_is_kept_out(
    world: World, tmp_path: Path
) -> None:
    """Its finalizer was taken away in the midst of an apply."""
    names = ("a", "b", "c")
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api:
        api.fault = lambda asked: Delay(3) if asked.writes and asked.path.endswith("/configmaps/a") else None
        world.commit({f"app/{name}.yaml": config_map(name) for name in names})
        await world.source()
        async with world.daemon(kubeconfig=api.kubeconfig) as running:
            await world.target("app", "./app", targetNamespace=world.namespace)
            await running.until_event(ApplyStarted)
            await world.patch(KUSTOMIZE, "Kustomization", "app", {"metadata": {"finalizers": None}})
            await world.delete(KUSTOMIZE, "Kustomization", "app")
            await running.until_event(TargetRemoved)
            after = len(running.recorded)
            await world.until("v1", "ConfigMap", "a", lambda obj: obj is not None)
            await running.idle()
            assert running.events(stream=running.target("app"), after=after) == []
            assert await world.data("b") is None
            await world.target("other", "./app", targetNamespace=world.namespace)
            await world.until_applied("other")
            assert [await world.data(name) for name in names] == [{}, {}, {}]
