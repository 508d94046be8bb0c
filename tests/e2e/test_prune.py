"""What is no longer wanted is deleted, unless that looks like an accident; and what becomes of it at the end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from tests.e2e.world import (
    KUSTOMIZE,
    LIMIT_S,
    World,
    condition,
    config_map,
    documents,
    failed,
    is_ready,
    manifest,
)
from tests.servers.faulty_api import Asked, Delay, Fault, FaultyApi, Status, faulty_api
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.verify.guard import Guard
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyStarted,
    ObjectPruned,
    PlanApproved,
    PlanHeld,
    PlanRejected,
    TargetRemoved,
)
from tidelog.storage import Recorded

OWNER = "kustomize.toolkit.fluxcd.io"


def many(count: int) -> str:
    return documents(*(config_map(f"item-{number}", n=str(number)) for number in range(count)))


async def app_of(world: World, content: str, **spec: Any) -> None:
    world.commit({"app/all.yaml": content})
    await world.source()
    await world.target("app", "./app", **({"targetNamespace": world.namespace} | spec))
    await world.until_applied("app")


def uid_of(obj: KubeObject) -> str:
    return str(obj["metadata"]["uid"])


def held_plan(obj: KubeObject) -> str:
    words: list[str] = condition(obj, "Ready")["message"].split()
    return words[words.index("plan") + 1]


async def test_most_of_a_target_is_not_deleted_before_somebody_approves(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld", "prune-guard", "80 %", "tidelog approve"))
        assert not condition(held, "Stalled")
        assert held["status"]["lastAppliedRevision"] != world.revision
        assert await world.data("item-9") == {"n": "9"}
        await world.until_told("app", "PlanHeld", "prune-guard")
        await running.ask("approve", plan=held_plan(held), why="they moved")
        await world.until_applied("app")
        assert await world.data("item-9") is None
        assert await world.data("item-1") == {"n": "1"}


async def test_a_rejected_plan_is_never_applied_and_the_next_commit_goes_on(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        await running.ask("reject", plan=held_plan(held), why="a mistake")
        await world.until_target("app", failed("PlanRejected", "a mistake"))
        assert await world.data("item-9") == {"n": "9"}
        await world.push({"app/all.yaml": many(11)})
        await world.until_applied("app")
        assert await world.data("item-9") == {"n": "9"}
        assert await world.data("item-10") == {"n": "10"}
        assert running.events(PlanRejected)
        assert not running.events(ObjectPruned)


async def test_a_commit_that_mends_it_releases_a_held_target(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        await world.until_target("app", failed("PlanHeld"))
        await world.push({"app/all.yaml": many(9)})
        await world.until_applied("app")
        assert await world.data("item-8") == {"n": "8"}
        assert await world.data("item-9") is None
        assert len(running.events(PlanHeld)) == 1


async def test_a_held_plan_waits_over_a_restart(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        await running.idle()
    async with world.daemon() as running:
        await running.idle()
        assert running.events(PlanHeld) == []
        same = await world.until_target("app", failed("PlanHeld"))
        assert held_plan(same) == held_plan(held)
        await running.ask("approve", plan=held_plan(held), why="they moved")
        await world.until_applied("app")
    assert await world.data("item-9") is None


async def test_the_guard_can_be_switched_off(world: World) -> None:
    async with world.daemon(prune_guard=Guard(enabled=False)):
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(1)})
        await world.until_applied("app")
    assert await world.data("item-9") is None


async def test_the_deletion_of_a_namespace_is_held(world: World) -> None:
    name = f"{world.namespace}-extra"
    async with world.daemon() as running:
        here = manifest("v1", "ConfigMap", "here", metadata={"namespace": world.namespace})
        world.commit({"app/ns.yaml": manifest("v1", "Namespace", name), "app/cm.yaml": here})
        await world.source()
        await world.target("app", "./app")
        await world.until_applied("app")
        await world.push({"app/ns.yaml": None})
        held = await world.until_target("app", failed("PlanHeld", f"Namespace/{name}"))
        namespace = await world.get("v1", "Namespace", name)
        assert namespace is not None
        assert "deletionTimestamp" not in namespace["metadata"]
        await running.ask("approve", plan=held_plan(held), why="it is empty")
        await world.until_applied("app")
        await world.until_gone("v1", "Namespace", name)


async def test_a_kustomization_that_is_held_while_it_is_deleted_says_how_to_keep_its_objects(world: World) -> None:
    """No commit takes back a deletion; a suspension lets the Kustomization go, and Git makes it anew."""
    name = f"{world.namespace}-extra"
    spec = {"interval": "1h", "path": "./app", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
    app = manifest(KUSTOMIZE, "Kustomization", "app", spec=spec)
    async with world.daemon() as running:
        kept = {"app/ns.yaml": manifest("v1", "Namespace", name), "root/keep.yaml": many(1)}
        world.commit({**kept, "root/app.yaml": app})
        await world.source()
        await world.target("root", "./root", targetNamespace=world.namespace)
        await world.until_applied("root", "app")
        made = await world.get("v1", "Namespace", name)
        first = await world.get(KUSTOMIZE, "Kustomization", "app")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        command = f"tidelog suspend kustomization/app -n {world.namespace}"
        await world.until_target("app", failed("PlanHeld", f"Namespace/{name}", "is being deleted", command))
        await running.ask("suspend", running.target("app"), why="it was a mistake")
        (again,) = await world.until_applied("app")
        assert first is not None
        assert uid_of(again) != uid_of(first)
        now = await world.get("v1", "Namespace", name)
        assert made is not None
        assert now is not None
        assert uid_of(now) == uid_of(made)
        assert not running.events(ObjectPruned)


@pytest.mark.parametrize("where", ["labels", "annotations"])
@pytest.mark.parametrize("flag", ["prune", "reconcile"])
async def test_what_says_so_is_kept(world: World, where: str, flag: str) -> None:
    kept = manifest("v1", "ConfigMap", "kept", metadata={where: {f"{OWNER}/{flag}": "Disabled"}})
    async with world.daemon():
        if flag == "reconcile":
            # It is in the inventory because it was applied before somebody said to leave it alone.
            await app_of(world, documents(manifest("v1", "ConfigMap", "kept"), config_map("other")))
            await world.patch("v1", "ConfigMap", "kept", {"metadata": {where: {f"{OWNER}/{flag}": "Disabled"}}})
        else:
            await app_of(world, documents(kept, config_map("other")))
        await world.push({"app/all.yaml": config_map("other")})
        await world.until_applied("app")
    assert await world.get("v1", "ConfigMap", "kept") is not None
    app = await world.get(KUSTOMIZE, "Kustomization", "app")
    assert app is not None
    assert [entry["id"] for entry in app["status"]["inventory"]["entries"]] == [f"{world.namespace}_other__ConfigMap"]


async def test_without_prune_objects_only_leave_the_inventory(world: World) -> None:
    async with world.daemon():
        await app_of(world, many(3), prune=False)
        await world.push({"app/all.yaml": many(1)})
        (app,) = await world.until_applied("app")
    assert await world.data("item-2") == {"n": "2"}
    assert len(app["status"]["inventory"]["entries"]) == 1


async def test_what_belongs_to_somebody_else_by_now_is_not_deleted(world: World) -> None:
    async with world.daemon():
        await app_of(world, many(3))
        labels = {f"{OWNER}/name": "another", f"{OWNER}/namespace": world.namespace}
        world.change({"app/all.yaml": many(2)})
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await world.patch("v1", "ConfigMap", "item-2", {"metadata": {"labels": labels}})
        await world.ask()
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": None}})
        await world.until_applied("app")
    assert await world.data("item-2") == {"n": "2"}


@pytest.mark.parametrize(
    ("policy", "prune", "deleted"),
    [
        ("MirrorPrune", True, True),
        ("MirrorPrune", False, False),
        ("Delete", False, True),
        ("WaitForTermination", False, True),
        ("Orphan", True, False),
    ],
)
async def test_a_deleted_kustomization_leaves_what_its_policy_says(
    world: World, policy: str, prune: bool, deleted: bool
) -> None:
    async with world.daemon() as running:
        await app_of(world, many(8), deletionPolicy=policy, prune=prune)
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        await running.until_event(TargetRemoved)
        await running.idle()
    assert (await world.data("item-7") is None) == deleted


async def test_a_suspended_kustomization_that_is_deleted_leaves_everything(world: World) -> None:
    async with world.daemon():
        await app_of(world, many(2))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
    assert await world.data("item-1") == {"n": "1"}


async def test_one_deleted_while_the_daemon_was_down_is_still_cleaned_up(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(2))
        await running.idle()
    await world.delete(KUSTOMIZE, "Kustomization", "app")
    async with world.daemon():
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
    assert await world.data("item-1") is None


async def test_a_kustomization_made_again_adopts_what_was_orphaned(world: World) -> None:
    async with world.daemon():
        await app_of(world, many(2), deletionPolicy="Orphan")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        await world.push({"app/all.yaml": many(1)})
        await world.until_applied("app")
    assert await world.data("item-1") is None


async def test_a_source_that_is_deleted_takes_nothing_with_it(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(2))
        await world.delete("source.toolkit.fluxcd.io/v1", "GitRepository", "fleet")
        await world.until_gone("source.toolkit.fluxcd.io/v1", "GitRepository", "fleet")
        await world.ask("Kustomization", "app")
        await world.until_target("app", failed("ArtifactFailed", "fleet"))
        await running.idle()
        assert await world.data("item-1") == {"n": "1"}
        await world.source()
        await world.until_target("app", is_ready)


@pytest.mark.parametrize("spec", [{"deletionPolicy": "Orphan"}, {"prune": False}])
async def test_what_a_deleted_target_left_behind_can_be_anothers(world: World, spec: dict[str, Any]) -> None:
    async with world.daemon() as running:
        world.commit({"one/all.yaml": config_map("stays", n="1"), "two/all.yaml": config_map("stays", n="2")})
        await world.source()
        await world.target("one", "./one", targetNamespace=world.namespace, **spec)
        await world.until_applied("one")
        await world.target("two", "./two", targetNamespace=world.namespace, interval="1h", retryInterval="1h")
        await world.until_target("two", failed("ReconciliationFailed", "belongs to Kustomization", "/one"))
        await world.delete(KUSTOMIZE, "Kustomization", "one")
        await world.until_applied("two")
        live = await world.until_data("stays", {"n": "2"})
        assert live["metadata"]["labels"][f"{OWNER}/name"] == "two"
        assert not running.events(ObjectPruned)


async def test_a_target_stays_until_what_it_deleted_is_gone_also_across_a_restart(world: World) -> None:
    kept = manifest("v1", "ConfigMap", "kept", metadata={"finalizers": ["example.com/kept"]})
    async with world.daemon() as running:
        await app_of(world, documents(kept, config_map("other")), deletionPolicy="WaitForTermination", timeout="5m")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await running.until(lambda _: len(running.events(ObjectPruned)) == 2, "both are deleted")
        await running.idle()
    async with world.daemon() as running:
        await running.idle()
        assert await world.get(KUSTOMIZE, "Kustomization", "app"), "it waits"
        await world.patch("v1", "ConfigMap", "kept", {"metadata": {"finalizers": None}})
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        assert len(running.events(TargetRemoved)) == 1
    assert await world.data("kept") is None


async def test_a_target_whose_objects_never_go_says_so_and_goes(world: World) -> None:
    kept = manifest("v1", "ConfigMap", "kept", metadata={"finalizers": ["example.com/kept"]})
    async with world.daemon():
        await app_of(world, kept, deletionPolicy="WaitForTermination", timeout="1s")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_told("app", "ReconciliationFailed", "something keeps them", "core/ConfigMap")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
    await world.patch("v1", "ConfigMap", "kept", {"metadata": {"finalizers": None}})


def kustomization(world: World, name: str, path: str, **spec: Any) -> str:
    whole = {"interval": "1h", "retryInterval": "1h", "path": path, "prune": True, "targetNamespace": world.namespace}
    source = {"kind": "GitRepository", "name": "fleet"}
    fields = {**whole, "sourceRef": source, **spec}
    return manifest(
        KUSTOMIZE,
        "Kustomization",
        name,
        metadata={"namespace": world.namespace},
        spec={field: value for field, value in fields.items() if value is not None},
    )


async def tree_of(world: World, leaves: int, count: int, **spec: Any) -> None:
    """`root` makes `apps`, which makes the leaves, which make `count` ConfigMaps each."""
    files = {"root/apps.yaml": kustomization(world, "apps", "./apps"), "root/keep.yaml": config_map("keep")}
    for leaf in range(leaves):
        files[f"apps/{leaf}.yaml"] = kustomization(world, f"leaf{leaf}", f"./leaf{leaf}", **spec)
        files[f"leaf{leaf}/all.yaml"] = documents(*(config_map(f"o{leaf}-{n}", n=str(n)) for n in range(count)))
    world.commit(files)
    await world.source()
    await world.target("root", "./root", targetNamespace=world.namespace)
    await world.until_applied("root", "apps", *(f"leaf{leaf}" for leaf in range(leaves)))


async def test_what_goes_with_a_kustomization_counts_to_any_depth(world: World) -> None:
    """One file is removed, and three levels below it are more objects than may go without asking."""
    async with world.daemon() as running:
        await tree_of(world, leaves=3, count=7)
        await world.push({"root/apps.yaml": None})
        held = await world.until_target("root", failed("PlanHeld", "with 24 that these own"))
        await running.idle()
        assert not running.events(ObjectPruned)
        await running.ask("approve", plan=held_plan(held), why="the apps are gone")
        for name in ("apps", "leaf0", "leaf1", "leaf2"):
            await world.until_gone(KUSTOMIZE, "Kustomization", name)
        await running.until(lambda _: len(running.events(ObjectPruned)) == 25, "all are pruned")
        assert len(running.events(PlanHeld)) == 1, "who approved it was asked once"
    assert await world.data("o2-6") is None
    assert await world.data("keep") == {}


async def test_what_is_left_behind_does_not_count(world: World) -> None:
    async with world.daemon() as running:
        await tree_of(world, leaves=3, count=7, deletionPolicy="Orphan")
        await world.push({"root/apps.yaml": None})
        for name in ("apps", "leaf0", "leaf1", "leaf2"):
            await world.until_gone(KUSTOMIZE, "Kustomization", name)
        assert not running.events(PlanHeld)
    assert await world.data("o2-6") == {"n": "6"}


async def root_of(world: World, **app: str) -> str:
    """`root` makes `apps`, which makes `app`, which has these files; returns the namespace that is one of them."""
    name = f"{world.namespace}-extra"
    world.commit(
        {
            "root/apps.yaml": kustomization(world, "apps", "./apps"),
            "root/keep.yaml": config_map("keep"),
            "apps/app.yaml": kustomization(world, "app", "./app", targetNamespace=None),
            "app/ns.yaml": manifest("v1", "Namespace", name),
            **{f"app/{file}.yaml": content for file, content in app.items()},
        }
    )
    await world.source()
    await world.target("root", "./root", targetNamespace=world.namespace)
    await world.until_applied("root", "apps", "app")
    return name


async def test_a_namespace_that_goes_with_a_kustomization_is_held_where_a_commit_still_ends_it(world: World) -> None:
    async with world.daemon() as running:
        name = await root_of(world)
        apps = kustomization(world, "apps", "./apps")
        await world.push({"root/apps.yaml": None})
        held = await world.until_target(
            "root", failed("PlanHeld", f"Kustomization/{world.namespace}/apps and with it Namespace/{name}")
        )
        await world.push({"root/apps.yaml": apps})
        await world.until_applied("root")
        assert not running.events(ObjectPruned)
        await world.push({"root/apps.yaml": None})
        held = await world.until_target("root", failed("PlanHeld"))
        await running.ask("approve", plan=held_plan(held), why="it is empty")
        for kustomized in ("apps", "app"):
            await world.until_gone(KUSTOMIZE, "Kustomization", kustomized)
        await world.until_gone("v1", "Namespace", name)
        assert len(running.events(PlanHeld)) == 2, "who approved it was told what goes, and is asked once"


async def test_a_namespace_that_came_below_after_a_plan_was_held_is_held_by_itself(world: World) -> None:
    async with world.daemon() as running:
        name = await root_of(world)
        other = f"{name}-2"
        await world.push({"root/apps.yaml": None})
        await world.until_target("root", failed("PlanHeld"))
        await world.push({"app/other.yaml": manifest("v1", "Namespace", other)})
        await world.until("v1", "Namespace", other, lambda found: found is not None)
        await running.idle()
        row = running.daemon.engine.memory.conditions.get(running.target("root"))
        assert row is not None
        assert row.held is not None
        row.held = msgspec.structs.replace(row.held, losses=row.held.losses[:1])  # as if it had come just now
        await running.ask("approve", plan=row.held.plan, why="it is empty")
        await world.until_target("apps", failed("PlanHeld", other))
        assert await world.get("v1", "Namespace", name) is not None
    for namespace in (name, other):
        world.servers.request("DELETE", f"/api/v1/namespaces/{namespace}")


@pytest.mark.parametrize("where", ["namespace", "kustomization"])
async def test_a_namespace_that_says_that_it_stays_is_not_lost_with_a_kustomization(world: World, where: str) -> None:
    disabled = {"metadata": {"annotations": {f"{OWNER}/prune": "disabled"}}}
    async with world.daemon() as running:
        name = await root_of(world)
        if where == "namespace":
            kind = await world.cluster.kind("v1", "Namespace")
            await world.cluster.patch(kind, "", name, disabled, type="merge", manager="test")
        else:
            await world.patch(KUSTOMIZE, "Kustomization", "app", disabled)
        await running.idle()
        await world.push({"root/apps.yaml": None})
        await world.until_gone(KUSTOMIZE, "Kustomization", "apps")
        await running.idle()
        assert not running.events(PlanHeld)
        found = await world.get("v1", "Namespace", name)
    assert found is not None
    assert "deletionTimestamp" not in found["metadata"]
    world.servers.request("DELETE", f"/api/v1/namespaces/{name}")


async def test_few_that_go_with_a_kustomization_go_without_asking(world: World) -> None:
    """All of a target that the engine deletes is no larger a share than was counted."""
    async with world.daemon() as running:
        await tree_of(world, leaves=1, count=8)
        await world.push({"root/apps.yaml": None})
        await world.until_gone(KUSTOMIZE, "Kustomization", "leaf0")
        assert not running.events(PlanHeld)
    assert await world.data("o0-7") is None


async def test_who_deletes_a_kustomization_by_hand_means_all_below_it(world: World) -> None:
    async with world.daemon() as running:
        await tree_of(world, leaves=3, count=7)
        await world.delete(KUSTOMIZE, "Kustomization", "root")
        for name in ("root", "apps", "leaf0", "leaf1", "leaf2"):
            await world.until_gone(KUSTOMIZE, "Kustomization", name)
        await running.until(lambda _: len(running.events(ObjectPruned)) == 26, "all are pruned")
        assert not running.events(PlanHeld)


async def test_a_kustomization_that_grew_after_it_was_counted_is_counted_again_when_the_engine_deleted_it(
    world: World,
) -> None:
    async with world.daemon() as running:
        await tree_of(world, leaves=1, count=30)
        row = running.daemon.engine.memory.inventory.get(running.target("leaf0"))
        assert row is not None
        # As if it had applied nothing yet when the plan of `root` was counted.
        grown, row.objects = row.objects, {}

        def grow(recorded: Recorded) -> None:
            if isinstance(recorded.event, ObjectPruned):
                row.objects = grown

        running.daemon.engine.memory.listen(grow)
        await world.push({"root/apps.yaml": None})
        held = await world.until_target("apps", failed("PlanHeld", "with 30 that these own"))
        assert await world.data("o0-29") == {"n": "29"}
        await running.ask("approve", plan=held_plan(held), why="they are gone")
        await world.until_gone(KUSTOMIZE, "Kustomization", "leaf0")
        await world.until_gone(KUSTOMIZE, "Kustomization", "apps")
    assert await world.data("o0-29") is None


async def test_what_an_api_serves_that_is_down_is_not_absent(world: World) -> None:
    """It is tried again until the API answers; then it is deleted, and not left there for ever."""
    group = f"{world.namespace}.example.com"
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    down = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}", "labels": {"kube-aggregator.kubernetes.io/automanaged": None}},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "down", "namespace": world.namespace},
        },
    }
    await world.apply(definition)
    try:
        await world.until("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"widgets.{group}", is_established)
        widget = manifest(f"{group}/v1", "Widget", "w")
        async with world.daemon() as running:
            await app_of(world, documents(widget, config_map("other")), retryInterval="1s")
            await running.idle()
        await world.apply(down)
        world.change({"app/all.yaml": config_map("other")})
        async with world.daemon() as running:
            await world.ask()
            await world.until_target("app", failed("ReconciliationFailed", "does not answer"))
            assert not running.events(ObjectPruned)
            await world.delete("apiregistration.k8s.io/v1", "APIService", f"v1.{group}")
            pruned = await running.until_event(ObjectPruned)
            assert (pruned.outcome, pruned.object.rpartition("/")[2]) == ("deleted", "w")
            await world.until_applied("app")
    finally:
        with anyio.CancelScope(shield=True):
            await world.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"widgets.{group}")


def is_established(definition: KubeObject | None) -> bool:
    return definition is not None and condition(definition, "Established").get("status") == "True"


async def test_a_volume_that_a_later_wave_would_make_again_waits_for_approval(world: World) -> None:
    """What a plan cannot ask about yet may turn out to delete something: that is held as if it had been known."""
    role = f"role-{world.namespace}"

    def volume(mode: str) -> str:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": mode,
            "storageClassName": "none",
            "resources": {"requests": {"storage": "1Gi"}},
        }
        return manifest("v1", "PersistentVolumeClaim", "data", spec=spec)

    async with world.daemon():
        await app_of(world, volume("Filesystem"), force=True)
        before = await world.get("v1", "PersistentVolumeClaim", "data")
        first = manifest("rbac.authorization.k8s.io/v1", "ClusterRole", role, rules=[])
        await world.push({"app/all.yaml": volume("Block"), "app/first.yaml": first})
        await world.until_target("app", failed("PlanHeld", "PersistentVolumeClaim", "data"))
        after = await world.get("v1", "PersistentVolumeClaim", "data")
        assert before is not None
        assert after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert "deletionTimestamp" not in after["metadata"]
        assert await world.get("rbac.authorization.k8s.io/v1", "ClusterRole", role) is not None
    world.servers.request("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}")


async def test_what_another_cluster_has_by_the_same_names_is_not_deleted_here(world: World) -> None:
    """Flux kept another cluster by this Kustomization, and this one by it before."""
    labels = {f"{OWNER}/name": "app", f"{OWNER}/namespace": world.namespace}
    await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": labels}})
    await world.source()
    flux = {"finalizers": ["finalizers.fluxcd.io"]}
    await world.target("app", "./app", metadata=flux, kubeConfig={"secretRef": {"name": "remote"}})
    kind = await world.cluster.kind(KUSTOMIZE, "Kustomization")
    status = {"inventory": {"entries": [{"id": f"{world.namespace}_a__ConfigMap", "v": "v1"}]}}
    where = (kind, world.namespace, "app")
    patch = {"status": status}
    await world.cluster.patch(*where, patch, type="merge", manager="kustomize-controller", subresource="status")
    async with world.daemon(prune_guard=Guard(enabled=False)) as running:
        await world.until_target("app", failed("ArtifactFailed", "Source artifact not found"))
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_target("app", failed("ReconciliationFailed", "is not there", "deletionPolicy to Orphan"))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"deletionPolicy": "Orphan"}})
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        assert running.events(ObjectPruned) == []
    assert await world.data("a") == {}


@pytest.fixture
async def api(world: World, tmp_path: Path) -> AsyncIterator[FaultyApi]:
    """A proxy that the daemon goes through; the test itself does not."""
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", [Status(500, "InternalError"), Status(503, "ServiceUnavailable"), "drop before"])
async def test_an_approval_holds_until_its_plan_is_carried_out_whatever_the_server_answers_meanwhile(
    world: World, api: FaultyApi, fault: Fault
) -> None:
    """Twice the apply is cut short; what is left is done without another question."""

    def third_and_fifth(asked: Asked) -> Fault:
        deletions.extend([asked] * (asked.method == "DELETE"))
        return fault if asked.method == "DELETE" and len(deletions) in (3, 5) else None

    deletions: list[Asked] = []
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await app_of(world, many(10), retryInterval="1s")
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        api.fault = third_and_fifth
        await running.ask("approve", plan=held_plan(held), why="they moved")
        await world.until_applied("app")
        assert len(running.events(PlanHeld)) == 1
        approved = [recorded.event for recorded in running.recorded if isinstance(recorded.event, PlanApproved)]
        assert len({one.plan for one in approved}) == 3 == len(approved)
        for one in approved[1:]:
            assert one.why.startswith(f"it goes on with {held_plan(held)}, approved by user ada")
            assert one.why.endswith(": they moved")
        assert len(running.events(ApplyFailed)) == 2
        pruned = [recorded.event for recorded in running.recorded if isinstance(recorded.event, ObjectPruned)]
        assert all(event.asked_for for event in pruned)
    assert [await world.data(f"item-{n}") for n in (0, 1, 2, 9)] == [{"n": "0"}, {"n": "1"}, None, None]


async def test_an_approval_holds_for_what_a_daemon_left_that_ended_in_the_midst(world: World, api: FaultyApi) -> None:
    def third_hangs(asked: Asked) -> Fault:
        deletions.extend([asked] * (asked.method == "DELETE"))
        return Delay(600) if asked.method == "DELETE" and len(deletions) >= 3 else None

    deletions: list[Asked] = []
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        api.fault = third_hangs
        await running.ask("approve", plan=held_plan(held), why="they moved")
        with anyio.fail_after(60):
            while len(deletions) < 3:  # noqa: ASYNC110 - the proxy has no event for it
                await anyio.sleep(0.01)
        assert len(running.events(ObjectPruned)) == 2
    async with world.daemon() as running:
        await world.until_applied("app")
        assert not running.events(PlanHeld)
        assert len(running.events(PlanApproved)) == 1
    assert await world.data("item-9") is None


async def test_an_approval_that_was_cut_short_does_not_cover_what_was_not_approved(
    world: World, api: FaultyApi
) -> None:
    """Another object of the same name is not the one that was to go."""
    async with world.daemon(kubeconfig=api.kubeconfig) as running:
        await app_of(world, many(20), retryInterval="3s")
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        api.fault = lambda asked: Status(500, "InternalError") if asked.method == "DELETE" else None
        await running.ask("approve", plan=held_plan(held), why="they moved")
        await world.until_target("app", failed("PruneFailed"))
        labels = (await world.get("v1", "ConfigMap", "item-9") or {})["metadata"]["labels"]
        await world.delete("v1", "ConfigMap", "item-9")
        another = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "item-9", "labels": labels}}
        await world.apply(another | {"data": {"n": "another"}})
        api.fault = lambda _: None
        again = await world.until_target("app", failed("PlanHeld"))
        assert held_plan(again) != held_plan(held)
        assert not running.events(ObjectPruned)
        await world.until_data("item-9", {"n": "another"})


async def test_an_approval_that_is_given_while_the_target_is_suspended_holds_once_it_is_resumed(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await running.ask("approve", plan=held_plan(held), why="they moved")
        assert await world.data("item-9") == {"n": "9"}
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": False}})
        await world.until_applied("app")
        assert len(running.events(PlanHeld)) == 1
    assert await world.data("item-9") is None


async def test_nothing_that_was_planned_is_applied_once_the_target_is_suspended(world: World, tmp_path: Path) -> None:
    asked = anyio.Event()

    def fault(request: Asked) -> Fault:
        if not request.dry_run:
            return None
        asked.set()
        return Delay(2)  # the plan is under way

    async with (
        faulty_api(world.servers, world.kubeconfig, tmp_path) as api,
        world.daemon(kubeconfig=api.kubeconfig) as running,
    ):
        await app_of(world, config_map("item", n="1"))
        api.fault = fault
        await world.push({"app/all.yaml": config_map("item", n="2")})
        with anyio.fail_after(LIMIT_S):
            await asked.wait()
        await running.ask("suspend", running.target("app"))
        suspended = len(running.recorded)
        await running.idle()
        assert running.events(ApplyStarted, after=suspended) == []
        assert await world.data("item") == {"n": "1"}
        api.fault = lambda _: None
        await running.ask("resume", running.target("app"))
        await world.until_applied("app")
        assert await world.data("item") == {"n": "2"}


async def test_a_target_that_is_suspended_while_its_end_is_planned_leaves_everything(
    world: World, tmp_path: Path
) -> None:
    """As one that is suspended before; and its end is recorded once, whatever a watch tells meanwhile."""
    asked = anyio.Event()

    def fault(request: Asked) -> Fault:
        if not request.path.endswith("/configmaps/item") or request.method != "GET":
            return None
        asked.set()
        return Delay(2)  # the plan is under way

    async with (
        faulty_api(world.servers, world.kubeconfig, tmp_path) as api,
        world.daemon(kubeconfig=api.kubeconfig) as running,
    ):
        await app_of(world, config_map("item", n="1"))
        await running.idle()
        api.fault = fault
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        with anyio.fail_after(LIMIT_S):
            await asked.wait()
        await running.ask("suspend", running.target("app"))
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        await running.idle()
        assert running.events(ObjectPruned) == []
        assert len(running.events(TargetRemoved)) == 1
    assert await world.data("item") == {"n": "1"}


async def test_what_somebody_writes_to_an_object_that_is_to_go_makes_no_other_plan(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, many(10))
        await world.push({"app/all.yaml": many(2)})
        held = await world.until_target("app", failed("PlanHeld"))
        await world.patch("v1", "ConfigMap", "item-9", {"metadata": {"annotations": {"seen": "by somebody"}}})
        token = await world.ask("Kustomization", "app")
        again = await world.until_target("app", lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        assert held_plan(again) == held_plan(held)
        await running.ask("approve", plan=held_plan(held), why="they moved")
        await world.until_applied("app")
        assert len(running.events(PlanHeld)) == 1
    assert await world.data("item-9") is None
