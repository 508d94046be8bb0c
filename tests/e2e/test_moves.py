"""A commit moves objects from one Kustomization to another: they stay, whoever comes first and whatever happens."""

import random
from collections.abc import Iterable
from typing import Any

import pytest

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.test_apply_rules import account
from tests.e2e.test_crashes import KILLED_WITHIN_S, killed_somewhen
from tests.e2e.world import KUSTOMIZE, Running, World, config_map, documents, failed, manifest
from tidelog.events.vocabulary import ObjectApplied, ObjectPruned, PlanHeld, RunEnded, TargetRemoved
from tidelog.storage import Query, read_log

OWNER = "kustomize.toolkit.fluxcd.io"
INVALID = manifest("v1", "Service", "wrong", spec={"ports": [{"port": 99999999}]})
UNREADABLE = "apiVersion: v1\nkind: [\n"


def many(names: Iterable[str], n: str) -> str:
    return documents(*(config_map(name, n=n) for name in names))


def app(world: World, name: str, path: str = "./app") -> str:
    """A Kustomization, as it stands in Git."""
    spec = {"interval": "1h", "path": path, "prune": True, "targetNamespace": world.namespace}
    source = {"kind": "GitRepository", "name": "fleet"}
    return manifest(KUSTOMIZE, "Kustomization", name, spec={**spec, "sourceRef": source})


async def uids(world: World, *names: str, kind: str = "ConfigMap") -> list[str]:
    """Of objects that are all there, and are not being deleted."""
    found = []
    for name in names:
        live = await world.get("v1", kind, name)
        assert live is not None, name
        assert "deletionTimestamp" not in live["metadata"], name
        found.append(live["metadata"]["uid"])
    return found


async def owner(world: World, name: str, kind: str = "ConfigMap") -> str:
    live = await world.get("v1", kind, name)
    assert live is not None
    return str(live["metadata"]["labels"][f"{OWNER}/name"])


async def inventory(world: World, name: str) -> list[str]:
    """The names in the inventory that a status tells."""
    target = await world.get(KUSTOMIZE, "Kustomization", name)
    assert target is not None
    entries = (target["status"].get("inventory") or {}).get("entries") or ()
    return sorted(entry["id"].split("_")[1] for entry in entries)


async def declare(world: World, *names: str, **specs: dict[str, Any]) -> None:
    """Targets of the directories that are called as they are, which nothing wakes but what happens."""
    await world.source()
    for name in names:
        spec = {"targetNamespace": world.namespace, "interval": "1h", "retryInterval": "1h"} | specs.get(name, {})
        await world.target(name, f"./{name}", **spec)
    await world.until_applied(*names)


async def move_to_who_cannot_apply(world: World) -> None:
    """Something goes from one to two, of which another object is refused."""
    await world.push({**MOVED, "two/wrong.yaml": INVALID})
    await world.until_applied("one")
    await world.until_target("two", failed("ReconciliationFailed", "Service"))


def deleted(running: Running) -> list[str]:
    events = [event for event in running.events(ObjectPruned) if isinstance(event, ObjectPruned)]
    return [str(event.object) for event in events if event.outcome == "deleted"]


def made(running: Running) -> list[str]:
    """What was created, by name."""
    events = [event for event in running.events(ObjectApplied) if isinstance(event, ObjectApplied)]
    return [event.object.rpartition("/")[2] for event in events if event.action == "created"]


START = {
    "one/a.yaml": config_map("a"),
    "one/moves.yaml": config_map("moves", n="1"),
    "two/b.yaml": config_map("b"),
}
MOVED = {"one/moves.yaml": None, "two/moves.yaml": config_map("moves", n="2")}

AFTER_ONE: dict[str, dict[str, Any]] = {"two": {"dependsOn": [{"name": "one"}]}}
AFTER_TWO: dict[str, dict[str, Any]] = {"one": {"dependsOn": [{"name": "two"}]}}


@pytest.mark.parametrize(
    ("order", "specs"),
    [
        pytest.param(("one", "two"), {}, id="the old owner first"),
        pytest.param(("two", "one"), {}, id="the new owner first"),
        pytest.param(("one", "two"), AFTER_ONE, id="the new owner waits for the old one"),
        pytest.param(("two", "one"), AFTER_TWO, id="the old owner waits for the new one"),
    ],
)
async def test_what_moves_to_another_target_is_handed_over(
    world: World, order: tuple[str, ...], specs: dict[str, dict[str, Any]]
) -> None:
    """Without any timer: who has to look again is woken."""
    async with world.daemon(concurrent=1) as running:
        world.commit(START)
        await declare(world, *order, **specs)
        before, seen = await uids(world, "moves"), len(running.recorded)
        await world.push(MOVED)
        await world.until_applied("one", "two")
        await world.until_data("moves", {"n": "2"})
        await running.idle()
        ended = [one.envelope.stream for one in running.recorded[seen:] if isinstance(one.event, RunEnded)]
        targets = [stream for stream in ended if stream in (running.target("one"), running.target("two"))]
        assert targets[0] == running.target(order[0])
        assert (deleted(running), made(running).count("moves")) == ([], 1)
        assert not running.events(PlanHeld)
    assert await uids(world, "moves") == before
    assert await owner(world, "moves") == "two"
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves"])
    requests = await world.requests("delete")
    assert not [one for one in requests if one["objectRef"]["resource"] == "configmaps"]


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
async def test_a_directory_that_moves_is_neither_deleted_nor_held(world: World, order: tuple[str, ...]) -> None:
    names = [f"item-{number}" for number in range(20)]
    async with world.daemon(concurrent=1) as running:
        world.commit(
            {"one/a.yaml": config_map("a"), "one/dir/all.yaml": many(names, "1"), "two/b.yaml": config_map("b")}
        )
        await declare(world, *order)
        before = await uids(world, *names)
        await world.push({"one/dir/all.yaml": None, "two/dir/all.yaml": many(names, "2")})
        await world.until_applied("one", "two")
        await world.until_data(names[-1], {"n": "2"})
        await running.idle()
        assert (deleted(running), running.events(PlanHeld)) == ([], [])
    assert await uids(world, *names) == before
    assert {await owner(world, name) for name in names} == {"two"}
    assert (await inventory(world, "one"), len(await inventory(world, "two"))) == (["a"], 21)


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
async def test_a_volume_s_claim_moves_without_being_held(world: World, order: tuple[str, ...]) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = manifest("v1", "PersistentVolumeClaim", "data", spec=spec)
    async with world.daemon(concurrent=1) as running:
        world.commit({"one/a.yaml": config_map("a"), "one/claim.yaml": claim, "two/b.yaml": config_map("b")})
        await declare(world, *order)
        before = await uids(world, "data", kind="PersistentVolumeClaim")
        await world.push({"one/claim.yaml": None, "two/claim.yaml": claim})
        await world.until_applied("one", "two")
        await running.idle()
        assert (deleted(running), running.events(PlanHeld)) == ([], [])
    assert await uids(world, "data", kind="PersistentVolumeClaim") == before
    assert await owner(world, "data", "PersistentVolumeClaim") == "two"


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
async def test_what_is_only_made_where_it_is_not_there_moves_too(world: World, order: tuple[str, ...]) -> None:
    """Its new owner writes nothing, so that it has the labels of the old one still."""
    once = manifest("v1", "ConfigMap", "once", metadata={"annotations": {f"{OWNER}/ssa": "IfNotPresent"}})
    async with world.daemon(concurrent=1) as running:
        world.commit({"one/a.yaml": config_map("a"), "one/once.yaml": once, "two/b.yaml": config_map("b")})
        await declare(world, *order)
        before = await uids(world, "once")
        await world.push({"one/once.yaml": None, "two/once.yaml": once})
        await world.until_applied("one", "two")
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "once") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "once"])


async def test_what_its_new_owner_cannot_apply_stays_with_the_old_one_across_a_restart(world: World) -> None:
    """Until the new one has it, the old one has it in its inventory; the failure of the new one says why."""
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        await move_to_who_cannot_apply(world)
        await world.until_told("one", "Progressing", "ConfigMap", "moves left to Kustomization", "/two")
        await running.idle()
        assert await inventory(world, "one") == ["a", "moves"]
    async with world.daemon() as running:
        await running.idle()
        events = [one.event for one in running.recorded if one.envelope.stream == running.target("one")]
        assert events == [], "nothing is told twice"
        await world.push({"two/wrong.yaml": None})
        await world.until_applied("one", "two")
        await running.idle()
        assert (deleted(running), made(running)) == ([], [])
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves"])


async def test_what_nobody_wants_any_more_after_all_is_deleted_by_who_has_it(world: World) -> None:
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        await move_to_who_cannot_apply(world)
        await world.push({"two/moves.yaml": None, "two/wrong.yaml": None})
        await world.until_applied("one", "two")
        await world.until_gone("v1", "ConfigMap", "moves")
        await running.idle()
    assert await inventory(world, "one") == ["a"]


async def test_what_nobody_wants_any_more_is_deleted_though_who_it_was_left_to_still_fails(world: World) -> None:
    """No good news comes from that one, and the commit changes nothing that its owner reads."""
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        await move_to_who_cannot_apply(world)
        await running.idle()
        await world.push({"two/moves.yaml": None})
        await world.until_gone("v1", "ConfigMap", "moves")
        await world.until_applied("one")
        await running.idle()
    assert await inventory(world, "one") == ["a"]


async def test_what_nobody_wants_any_more_is_deleted_though_who_it_was_left_to_is_suspended(world: World) -> None:
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        await world.patch(KUSTOMIZE, "Kustomization", "two", {"spec": {"suspend": True}})
        await running.idle()
        await world.push(MOVED)
        await world.until_told("one", "Progressing", "left to Kustomization", "/two, which is suspended")
        await running.idle()
        await world.push({"two/moves.yaml": None})
        await world.until_gone("v1", "ConfigMap", "moves")
        await running.idle()
    assert await inventory(world, "one") == ["a"]


async def test_what_moves_on_before_it_was_taken_is_in_one_inventory(world: World) -> None:
    async with world.daemon() as running:
        world.commit({**START, "three/c.yaml": config_map("c")})
        await declare(world, "one", "two", "three")
        before = await uids(world, "moves")
        await move_to_who_cannot_apply(world)
        await running.idle()
        await world.push({"two/moves.yaml": None, "three/moves.yaml": config_map("moves", n="3")})
        await world.until_applied("one", "three")
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "three")) == (["a"], ["c", "moves"])


async def test_who_needs_for_its_build_what_the_new_owner_makes_lets_go_of_what_that_wants(world: World) -> None:
    """Else each would wait for the other for ever."""
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        values = {"two/values.yaml": config_map("values", X="some"), "one/a.yaml": config_map("a", x="${X}")}
        world.change({**MOVED, **values})
        needs: dict[str, Any] = {
            "dependsOn": [{"name": "two"}],
            "postBuild": {"substituteFrom": [{"kind": "ConfigMap", "name": "values"}]},
        }
        await world.target("one", "./one", targetNamespace=world.namespace, **needs)
        await world.ask()
        await world.until_applied("one", "two")
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves", "values"])


async def test_what_moves_while_the_store_is_lost_is_in_one_inventory(world: World) -> None:
    """Who had it is known from its status alone."""
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        await running.idle()
    world.change(MOVED)
    async with world.daemon(store=world.directory / "another") as running:
        await world.ask()
        await world.until_applied("one", "two")
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves"])


async def test_what_was_left_to_a_target_that_is_deleted_goes(world: World) -> None:
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        await world.patch(KUSTOMIZE, "Kustomization", "two", {"spec": {"suspend": True}})
        await running.idle()
        await world.push(MOVED)
        await world.until_applied("one")
        await world.until_told("one", "Progressing", "left to Kustomization", "/two, which is suspended")
        await running.idle()
        assert await uids(world, "moves") == before
        await world.delete(KUSTOMIZE, "Kustomization", "two")
        await world.until_gone("v1", "ConfigMap", "moves")
        await running.idle()
    assert await inventory(world, "one") == ["a"]


async def test_a_move_that_is_taken_back_at_once_deletes_nothing(world: World) -> None:
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        for _ in range(4):
            await world.push(MOVED)
            await world.push({"two/moves.yaml": None, "one/moves.yaml": config_map("moves", n="1")})
        await world.until_applied("one", "two")
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "moves") == before
    assert await owner(world, "moves") == "one"
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a", "moves"], ["b"])


async def test_a_kustomization_that_gets_another_name_keeps_its_objects(world: World) -> None:
    """The one is deleted, and the other wants what it had."""
    names = [f"item-{number}" for number in range(8)]
    async with world.daemon() as running:
        world.commit({"app/all.yaml": many(names, "1"), "root/app.yaml": app(world, "old")})
        await world.source()
        await world.target("root", "./root", targetNamespace=world.namespace)
        await world.until_applied("root", "old")
        before = await uids(world, *names)
        await world.push({"root/app.yaml": app(world, "new")})
        await world.until_applied("root", "new")
        await world.until_gone(KUSTOMIZE, "Kustomization", "old")
        await running.until_event(TargetRemoved)
        await running.idle()
        assert [id.rpartition("/")[2] for id in deleted(running)] == ["old"]
    assert await uids(world, *names) == before
    assert {await owner(world, name) for name in names} == {"new"}
    assert await inventory(world, "new") == names


async def test_a_kustomization_that_gets_another_name_and_another_parent_keeps_its_objects(world: World) -> None:
    """The old one is deleted before the new one is made."""
    names = [f"item-{number}" for number in range(3)]
    async with world.daemon() as running:
        files = {"one/a.yaml": config_map("a"), "two/b.yaml": app(world, "b", "./b"), "app/all.yaml": many(names, "1")}
        files["b/b.yaml"] = config_map("b")
        world.commit({**files, "one/app.yaml": app(world, "old")})
        await declare(world, "one", "two", two={"dependsOn": [{"name": "one"}]})
        await world.until_applied("old")
        before = await uids(world, *names)
        await world.push({"one/app.yaml": None, "two/app.yaml": app(world, "new")})
        await world.until_applied("one", "two", "new")
        await world.until_gone(KUSTOMIZE, "Kustomization", "old")
        await running.idle()
        assert [id.rpartition("/")[2] for id in deleted(running)] == ["old"]
    assert await uids(world, *names) == before
    assert await inventory(world, "new") == names


async def test_what_goes_to_a_path_that_the_same_commit_gives_a_kustomization_is_handed_over(world: World) -> None:
    """Its old owner comes to the commit before the Kustomization is changed."""
    async with world.daemon() as running:
        files = {**START, "root/app.yaml": app(world, "two", "./two")}
        world.commit(files)
        await declare(world, "one", "root", root={"dependsOn": [{"name": "one"}]})
        await world.until_applied("two")
        before = await uids(world, "moves")
        moved = {"three/b.yaml": config_map("b"), "three/moves.yaml": config_map("moves", n="2")}
        await world.push({"one/moves.yaml": None, "root/app.yaml": app(world, "two", "./three"), **moved})
        await world.until_applied("one", "root", "two")
        await world.until_data("moves", {"n": "2"})
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves"])


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"two/moves.yaml": config_map("moves", n="2") + "\tn: '2'\n"}, id="a tab in the file that moved"),
        pytest.param({"two/kustomization.yaml": "resources: [b.yaml, moves.yaml\n"}, id="a broken kustomization"),
        pytest.param(
            {
                "two/kustomization.yaml": "resources: [b.yaml]\nnamePrefix: mo\nconfigMapGenerator: [{name: ves}]\n",
                "two/b.yaml": UNREADABLE,
            },
            id="it is generated",
        ),
    ],
)
async def test_what_a_target_may_want_that_cannot_be_built_is_kept(world: World, files: dict[str, str]) -> None:
    """A mistake in the very commit that moves it is what is to be expected."""
    async with world.daemon() as running:
        world.commit(START)
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        await world.push({**MOVED, **files})
        await world.until_applied("one")
        await world.until_told("one", "Progressing", "moves kept: it may stand in the files of Kustomization", "/two")
        await running.idle()
        await world.push({**dict.fromkeys(files), **MOVED, "two/b.yaml": config_map("b")})
        await world.until_applied("one", "two")
        await running.idle()
        assert deleted(running) == []
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves"])


async def test_what_stands_in_the_files_of_a_target_that_cannot_be_built_is_kept(world: World) -> None:
    async with world.daemon() as running:
        world.commit({**START, "one/other.yaml": config_map("other")})
        await declare(world, "one", "two")
        before = await uids(world, "moves")
        await world.push({**MOVED, "one/other.yaml": None, "two/broken.yaml": UNREADABLE})
        await world.until_applied("one")
        await world.until_told("one", "Progressing", "moves kept: it may stand in the files of Kustomization", "/two")
        await world.until_gone("v1", "ConfigMap", "other")
        await running.idle()
        assert await uids(world, "moves") == before
        await world.push({"two/broken.yaml": None})
        await world.until_applied("one", "two")
        await running.idle()
    assert await uids(world, "moves") == before
    assert (await inventory(world, "one"), await inventory(world, "two")) == (["a"], ["b", "moves"])


async def test_nobody_keeps_what_he_may_not_write_from_being_deleted(world: World) -> None:
    """A tenant that lists somebody else's object has no say in it."""
    name = f"{world.namespace}-theirs"
    await account(world, "tenant", may=True)
    theirs = manifest("v1", "ConfigMap", "secret-door", metadata={"namespace": name})
    async with world.daemon() as running:
        here = {"namespace": world.namespace}
        files = {"one/ns.yaml": manifest("v1", "Namespace", name), "one/t.yaml": theirs}
        files["two/b.yaml"] = manifest("v1", "ConfigMap", "b", metadata=here)
        world.commit(files)
        own: dict[str, Any] = {"targetNamespace": None}
        await declare(world, "one", "two", one=own, two=own | {"serviceAccountName": "tenant"})
        await world.push({"one/t.yaml": None, "two/t.yaml": theirs})
        await world.until_applied("one")
        await world.until_target("two", failed("ReconciliationFailed", "secret-door", "cannot patch"))
        await running.idle()
        assert [id.rpartition("/")[2] for id in deleted(running)] == ["secret-door"]


@pytest.mark.parametrize("where", ["elsewhere", "beside"])
async def test_who_may_not_make_a_kustomization_keeps_nothing_from_deletion_by_naming_one(
    world: World, where: str
) -> None:
    """A tenant that lists a Kustomization which would list somebody else's object has no say in it either."""
    name = f"{world.namespace}-theirs"
    await account(world, "tenant", may=True)
    theirs = manifest("v1", "ConfigMap", "secret-door", metadata={"namespace": name})
    source = {"kind": "GitRepository", "name": "fleet", "namespace": world.namespace}
    spec = {"interval": "1h", "path": "./three", "prune": True, "sourceRef": source}
    there = {"namespace": name if where == "elsewhere" else world.namespace}
    claim = manifest(KUSTOMIZE, "Kustomization", "three", metadata=there, spec=spec)
    async with world.daemon() as running:
        here = {"namespace": world.namespace}
        files = {"one/ns.yaml": manifest("v1", "Namespace", name), "one/t.yaml": theirs}
        files["two/b.yaml"] = manifest("v1", "ConfigMap", "b", metadata=here)
        world.commit(files)
        own: dict[str, Any] = {"targetNamespace": None}
        await declare(world, "one", "two", one=own, two=own | {"serviceAccountName": "tenant"})
        await world.push({"one/t.yaml": None, "two/claim.yaml": claim, "three/t.yaml": theirs})
        await world.until_applied("one")
        await world.until_target("two", failed("ReconciliationFailed", "three", "cannot patch"))
        await running.idle()
        assert [id.rpartition("/")[2] for id in deleted(running)] == ["secret-door"]


@pytest.mark.slow
async def test_a_preview_tells_that_an_object_moves(world: World, tmp_path: Any) -> None:
    async with daemon_with_door(world):
        world.commit(START)
        await declare(world, "one", "two")
        for path, text in {"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b"), **MOVED}.items():
            if text is not None:
                (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "tree" / path).write_text(text)
        goes = await tidelog(world, "plan", "ks/one", "--path", str(tmp_path / "tree"))
        assert "left to Kustomization" in goes.out, goes
        assert "0 deleted" in goes.out or "deleted" not in goes.out, goes
        comes = await tidelog(world, "plan", "ks/two", "--path", str(tmp_path / "tree"))
        assert "belongs to" not in comes.out + comes.err, comes


@pytest.mark.slow
async def test_whenever_it_is_killed_what_moves_is_never_gone(world: World, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"item-{number}" for number in range(8)]
    kept = {"one/a.yaml": config_map("a"), "two/b.yaml": config_map("b")}
    world.commit({**kept, "one/all.yaml": many(names, "0")})
    async with world.daemon() as running:
        await declare(world, "one", "two")
        await running.idle()
    before = await uids(world, *names)
    for number in range(1, 6):
        here = ("one", "two")[number % 2]
        world.commit({**kept, f"{here}/all.yaml": many(names, str(number))})
        async with killed_somewhen(world, chance, KILLED_WITHIN_S):
            await world.ask()
        async with world.daemon() as running:
            await world.until_applied("one", "two")
            await world.until_data(names[-1], {"n": str(number)})
            await running.idle()
        assert await uids(world, *names) == before
        assert {await owner(world, name) for name in names} == {here}
    async with read_log(world.store) as log:
        pruned = [one.event async for one in log.read(Query(types=("ObjectPruned",)))]
    assert not [one for one in pruned if isinstance(one, ObjectPruned) and one.outcome == "deleted"]
