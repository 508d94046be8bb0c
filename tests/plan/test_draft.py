"""How a plan comes about: what is asked of the server, and what each step is."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import msgspec
import pytest

from tests.apply.keeper import KEY, LABELS, REVISION, Keeper, made, wanted_of
from tests.apply.small_cluster import Call, SmallCluster
from tests.apply.test_door import config_map, definition, namespace, widget
from tests.events.logs import run_id
from tidelog.engine.apply.record import Seen
from tidelog.engine.cluster.errors import ForbiddenError, InvalidError, NotFoundError, ServerError
from tidelog.engine.kinds.meta import applier_of
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.plan.draft import Draft, Planner
from tidelog.engine.plan.model import CHANGES_MAX, Step
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.events.digest import digest_of
from tidelog.events.names import ObjectId, PlanId
from tidelog.events.vocabulary import ObjectApplied, ObjectObserved
from tidelog.storage import open_log
from tidelog.storage.keys import KeyRing
from tidelog.storage.master_key import find_master_key

PRUNE = "kustomize.toolkit.fluxcd.io/prune"
RECONCILE = "kustomize.toolkit.fluxcd.io/reconcile"
SSA = "kustomize.toolkit.fluxcd.io/ssa"
PLANTED = "planted-password"
FORCE = "kustomize.toolkit.fluxcd.io/force"


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        keeper = Keeper(memory, SmallCluster())
        await keeper.declare()
        keeper.cluster.write(namespace())
        await keeper.keep([namespace()])
        keeper.cluster.calls.clear()
        yield keeper


def annotated(obj: KubeObject, **annotations: str) -> KubeObject:
    return obj | {"metadata": obj["metadata"] | {"annotations": annotations}}


def flagged(obj: KubeObject, name: str, value: str) -> KubeObject:
    return annotated(obj, **{name: value})


def steps(draft: Draft) -> dict[str, Step]:
    return {step.object.rpartition("/")[2]: step for step in draft.plan.steps}


def actions(draft: Draft) -> dict[str, str]:
    return {name: step.action for name, step in steps(draft).items() if name != "shop"}


def dry_run(keeper: Keeper) -> list[str]:
    return [call.object.rpartition("/")[2] for call in keeper.cluster.calls if call.verb == "dry-run"]


ALL = [namespace()]


async def test_what_is_as_it_was_applied_is_not_asked_about(keeper: Keeper) -> None:
    objects = [*ALL, config_map("a"), config_map("b")]
    await keeper.keep(objects)
    keeper.cluster.calls.clear()
    draft = await keeper.draft(objects)
    assert actions(draft) == {"a": "unchanged", "b": "unchanged"}
    assert (keeper.cluster.calls, draft.probed, draft.plan.is_empty) == ([], None, True)


async def test_what_is_rendered_otherwise_is_asked_about_and_the_answer_is_the_state_after(keeper: Keeper) -> None:
    await keeper.keep([*ALL, config_map("a", x="1"), config_map("b")])
    keeper.cluster.calls.clear()
    draft = await keeper.draft([*ALL, config_map("a", x="2"), config_map("b"), config_map("c")])
    assert actions(draft) == {"a": "update", "b": "unchanged", "c": "create"}
    assert sorted(dry_run(keeper)) == ["a", "c"]
    changed, new = steps(draft)["a"], steps(draft)["c"]
    assert [(change.path, change.before, change.after) for change in changed.changes] == [("data.x", "1", "2")]
    assert changed.before != changed.after
    assert (changed.uid, changed.resource_version) != ("", "")
    assert (new.before, new.uid, new.resource_version) == (None, "", "")
    assert new.after is not None
    assert keeper.cluster.written == []


async def test_what_turns_out_to_be_the_same_is_unchanged_and_its_answer_kept(keeper: Keeper) -> None:
    """Taken over: it is there, as it is to be, and the log knows nothing of it."""
    keeper.cluster.write(config_map("a"), "kustomize-controller")
    draft = await keeper.draft([*ALL, config_map("a")])
    step = steps(draft)["a"]
    assert (step.action, step.changes) == ("unchanged", ())
    assert draft.answers[step.object]["metadata"]["uid"] == step.uid
    assert draft.plan.is_empty


async def test_only_the_first_wave_that_writes_is_asked_about_and_the_later_are_guessed(keeper: Keeper) -> None:
    await keeper.keep([*ALL, config_map("a")])
    keeper.cluster.calls.clear()
    draft = await keeper.draft([*ALL, definition(), config_map("a", x="1"), config_map("b"), widget("w")])
    assert dry_run(keeper) == ["widgets.example.com"]
    assert draft.probed == 0
    assert actions(draft) == {"widgets.example.com": "create", "a": "update", "b": "create", "w": "create"}
    assert all(step.after is None for name, step in steps(draft).items() if name in "abw")


async def test_what_the_server_refuses_is_said_in_the_order_of_the_objects(keeper: Keeper) -> None:
    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        name = call.object.rpartition("/")[2]
        if call.verb == "dry-run" and name.startswith("bad"):
            raise InvalidError(f"{name} is not valid")
        return effect()

    keeper.cluster.around = around
    objects = [*ALL, *(config_map(f"bad-{number}") for number in range(9)), config_map("good")]
    draft = await keeper.draft(objects)
    assert [verdict.object for verdict in draft.refused] == [key_of(obj).id for obj in objects[1:-1]]
    assert all(verdict.check == "dry-run" and not verdict.passed for verdict in draft.refused)
    assert draft.refused[0].message == "ConfigMap/shop/bad-0 dry-run failed (Invalid): bad-0 is not valid"


@pytest.mark.parametrize(
    "error", [ForbiddenError("you may not"), NotFoundError("no such namespace"), InvalidError("no")], ids=repr
)
async def test_an_answer_about_the_object_is_a_verdict(keeper: Keeper, error: Exception) -> None:
    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        raise error

    keeper.cluster.around = around
    assert len((await keeper.draft([*ALL, config_map("a")])).refused) == 1


async def test_a_server_that_does_not_answer_is_one_error_and_no_verdict(keeper: Keeper) -> None:
    """Not a group of errors, of which nobody knows what to make."""

    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        raise ServerError("broken")

    keeper.cluster.around = around
    with pytest.raises(ServerError, match="broken"):
        await keeper.draft([*ALL, *(config_map(str(number)) for number in range(9))])


# Flags.


@pytest.mark.parametrize(("name", "value"), [(RECONCILE, "disabled"), (SSA, "Ignore"), (SSA, "ignore")])
async def test_what_is_to_be_left_alone_is_skipped_wherever_it_says_so(keeper: Keeper, name: str, value: str) -> None:
    draft = await keeper.draft([*ALL, flagged(config_map("a"), name, value)])
    assert actions(draft) == {"a": "skip"}
    assert dry_run(keeper) == []
    keeper.cluster.write(config_map("b"), "kustomize-controller")
    keeper.cluster.write(flagged(config_map("b"), name, value), "somebody")
    draft = await keeper.draft([*ALL, config_map("b", x="1")])
    assert actions(draft) == {"b": "skip"}, "the object in the cluster says so"


async def test_what_is_to_be_made_once_is_made_and_then_left(keeper: Keeper) -> None:
    once = flagged(config_map("a", x="1"), SSA, "IfNotPresent")
    assert actions(await keeper.draft([*ALL, once])) == {"a": "create"}
    keeper.cluster.write(config_map("a", x="theirs"))
    assert actions(await keeper.draft([*ALL, once])) == {"a": "skip"}


async def test_what_was_skipped_is_not_planned_again_and_again(keeper: Keeper) -> None:
    keeper.cluster.write(config_map("there", x="theirs"))
    objects = [
        *ALL,
        flagged(config_map("there", x="1"), SSA, "IfNotPresent"),
        flagged(config_map("left"), RECONCILE, "disabled"),
    ]
    assert await keeper.keep(objects) == "applied"
    assert keeper.cluster.written == []
    assert await keeper.keep(objects) == "unchanged"


async def test_a_change_that_cannot_be_made_is_made_anew_where_that_is_allowed(keeper: Keeper) -> None:
    await keeper.keep([*ALL, config_map("a", immutable=True, x="1")])
    refused = await keeper.draft([*ALL, config_map("a", immutable=True, x="2")])
    assert len(refused.refused) == 1
    assert not refused.answers
    forced = await keeper.draft([*ALL, flagged(config_map("a", immutable=True, x="2"), FORCE, "enabled")])
    assert actions(forced) == {"a": "recreate"}
    assert forced.refused == []
    keeper.declared.spec = msgspec.structs.replace(keeper.declared.spec, force=True)
    assert actions(await keeper.draft([*ALL, config_map("a", immutable=True, x="2")])) == {"a": "recreate"}


# What is no longer wanted.


@pytest.fixture
async def owner(keeper: Keeper) -> Keeper:
    await keeper.keep([*ALL, config_map("a")])
    keeper.cluster.calls.clear()
    return keeper


A = ObjectId("core/ConfigMap/shop/a")


async def test_what_is_no_longer_wanted_is_deleted(owner: Keeper) -> None:
    draft = await owner.draft(ALL)
    step = steps(draft)["a"]
    assert (step.action, step.uid) == ("delete", owner.cluster.objects[A].uid)
    assert step.before is not None


async def test_what_is_gone_needs_no_deletion(owner: Keeper) -> None:
    owner.cluster.remove(A)
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.why) == ("skip", "absent")


@pytest.mark.parametrize("value", ["disabled", "Disabled"])
async def test_what_says_that_it_stays_stays(owner: Keeper, value: str) -> None:
    owner.cluster.write(flagged(config_map("a"), PRUNE, value), "kustomize-controller")
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.why) == ("skip", "prune: disabled")


async def test_what_has_other_labels_by_now_is_another_targets(owner: Keeper) -> None:
    theirs = config_map("a")
    theirs["metadata"]["labels"] = LABELS | {"kustomize.toolkit.fluxcd.io/name": "other"}
    owner.cluster.write(theirs, "kustomize-controller")
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.why) == ("skip", "it is not this target's any more")


async def test_without_prune_nothing_is_deleted(owner: Keeper) -> None:
    owner.declared.spec = msgspec.structs.replace(owner.declared.spec, prune=False)
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.why) == ("skip", "prune is off")


@pytest.mark.parametrize("deleting", [False, True])
async def test_what_is_left_to_another_target_is_not_deleted(owner: Keeper, deleting: bool) -> None:
    owner.left[A] = "left to Kustomization/shop/other"
    owner.declared.deleting = deleting
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.why, step.writes) == ("skip", "left to Kustomization/shop/other", False)
    assert step.stays != deleting, "who is deleted lets go of it, for there will be no other time"


async def test_what_is_left_to_another_and_has_its_labels_is_let_go_of(owner: Keeper) -> None:
    owner.left[A] = "left to Kustomization/shop/other"
    theirs = config_map("a")
    theirs["metadata"]["labels"] = LABELS | {"kustomize.toolkit.fluxcd.io/name": "other"}
    owner.cluster.write(theirs, "kustomize-controller")
    step = steps(await owner.draft(ALL))["a"]
    assert (step.why, step.stays) == ("it is not this target's any more", False)


async def test_what_another_target_only_found_there_is_let_go_of_and_not_deleted(owner: Keeper) -> None:
    """It made it its own without a write (`ssa: IfNotPresent`): the labels are still those of who applied it."""
    owner.left[A] = "left to Kustomization/shop/other"
    row = owner.memory.actual.get(f"east/{A}")
    assert row is not None
    row.owner = KEY._replace(name="other").stream("east")
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.why, step.stays) == ("skip", "left to Kustomization/shop/other", False)


async def test_the_guard_does_not_count_what_is_left_to_others(owner: Keeper) -> None:
    many = [config_map(f"item-{number}") for number in range(30)]
    await owner.keep([*ALL, *many])
    ids = [key_of(one).id for one in many]
    assert await owner.situation.accident((await owner.draft(ALL)).plan, asked_for=False) is not None
    owner.left.update(dict.fromkeys(ids, "left to Kustomization/shop/other"))
    assert await owner.situation.accident((await owner.draft(ALL)).plan, asked_for=False) is None


async def test_an_object_of_which_nothing_was_seen_is_deleted_all_the_same(owner: Keeper) -> None:
    """It is in the inventory, with its API version: that the watch has not told of it is no sign of its absence."""
    owner.memory.actual.drop(f"east/{A}")
    assert steps(await owner.draft(ALL))["a"].action == "delete"


async def test_an_object_whose_version_is_no_longer_served_is_deleted_in_another(owner: Keeper) -> None:
    entry = owner.situation.inventory.objects[A]
    owner.situation.inventory.objects[A] = msgspec.structs.replace(entry, api_version="v1beta1")
    step = steps(await owner.draft(ALL))["a"]
    assert (step.action, step.api_version) == ("delete", "v1")


async def test_an_object_whose_kind_is_no_more_is_gone(keeper: Keeper) -> None:
    await keeper.keep([*ALL, definition(), widget("w")])
    keeper.cluster.remove("apiextensions.k8s.io/CustomResourceDefinition/_/widgets.example.com")
    keeper.cluster.remove("example.com/Widget/shop/w")
    assert actions(await keeper.draft(ALL)) == {"widgets.example.com": "skip", "w": "skip"}


async def test_what_another_engine_left_in_the_status_is_pruned_too(keeper: Keeper) -> None:
    keeper.cluster.write(config_map("old"), "kustomize-controller")
    keeper.declared.found = {ObjectId("core/ConfigMap/shop/old"): "v1"}
    assert actions(await keeper.draft(ALL)) == {"old": "delete"}
    draft = await keeper.draft([*ALL, config_map("old")])
    assert actions(draft) == {"old": "unchanged"}


# Names of plans.


async def test_the_same_run_makes_the_same_plan_of_the_same_state(keeper: Keeper) -> None:
    run = Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))
    objects = [*ALL, config_map("a"), config_map("b")]
    first, second = await keeper.draft(objects, run), await keeper.draft(objects, run)
    assert first.plan.id == second.plan.id


async def test_another_run_another_object_or_another_state_is_another_plan(keeper: Keeper) -> None:
    await keeper.keep([*ALL, config_map("a", x="1")])
    run = Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))
    objects = [*ALL, config_map("a", x="2")]
    plans = [await keeper.draft(objects, run)]
    plans.append(await keeper.draft(objects, Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))))
    plans.append(await keeper.draft([*objects, config_map("b")], run))
    keeper.cluster.write(config_map("a", x="theirs"))
    plans.append(await keeper.draft(objects, run))
    assert len({draft.plan.id for draft in plans}) == 4


async def test_a_plan_does_not_depend_on_the_order_in_which_objects_are_rendered(keeper: Keeper) -> None:
    run = Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))
    objects = [*ALL, config_map("a"), config_map("b"), definition(), widget("w")]
    wanted = await keeper.draft(objects, run)
    reversed_ = await keeper.draft(objects[::-1], run)
    assert [step.object for step in wanted.plan.steps] == [step.object for step in reversed_.plan.steps]


# What a plan tells.


async def test_no_more_changes_of_a_step_are_kept_than_somebody_reads(keeper: Keeper) -> None:
    await keeper.keep([*ALL, config_map("a")])
    data: dict[str, Any] = {f"k{number}": "v" for number in range(CHANGES_MAX + 50)}
    draft = await keeper.draft([*ALL, config_map("a", **data)])
    assert len(steps(draft)["a"].changes) == CHANGES_MAX


async def test_what_a_secret_holds_is_nowhere_in_its_plan(keeper: Keeper) -> None:
    layout = keeper.memory.log.layout
    master = await anyio.to_thread.run_sync(lambda: find_master_key(layout, {}, create=True))
    ring = await anyio.to_thread.run_sync(KeyRing.open, layout, master)
    id = ObjectId("core/Secret/shop/s")
    sealer = Sealer({id: await ring.key(key_of(secret("1")).stream("east"))})
    keeper.cluster.write(secret("b2xkLXNlY3JldA=="))
    one = msgspec.structs.replace(wanted_of(secret("bmV3LXNlY3JldA==")), secret=True)

    async def seen(id: ObjectId, version: str, sealer: Sealer) -> None:
        return None

    planner = keeper.situation.planner(keeper.port, sealer, seen)
    run = Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))
    draft = await planner.draft([wanted_of(namespace()), one], run.id, REVISION, digest_of(b""))
    written = msgspec.json.encode(draft.plan)
    for value in (b"old-secret", b"new-secret", b"b2xkLXNlY3JldA", b"bmV3LXNlY3JldA"):
        assert value not in written
    step = steps(draft)["s"]
    assert step.action == "update"
    assert all(change.hidden for change in step.changes)
    assert step.before is not None
    assert step.before.startswith("hmac-sha256:"), "a plain digest of a short secret tells it to who tries them all"


@pytest.fixture
async def of_a_variable(keeper: Keeper) -> Planner:
    """A planner for who applied a ConfigMap with a secret variable; somebody deleted it, and made it again."""
    layout = keeper.memory.log.layout
    master = await anyio.to_thread.run_sync(lambda: find_master_key(layout, {}, create=True))
    ring = await anyio.to_thread.run_sync(KeyRing.open, layout, master)
    live = keeper.cluster.write(config_map("a", password=PLANTED))
    id, stream = key_of(live).id, key_of(live).stream("east")
    sealer = Sealer({id: await ring.key(stream)})
    seen = Seen(id, live, applier_of("Kustomization"), sealer, secret=True)
    desired = sealer.digest(id, b"as rendered", secret=True)
    applied = ObjectApplied(
        plan=PlanId("p"), object=id, action="created", wave=0, desired=desired, **cast("Any", seen.fields)
    )
    await keeper.memory.append(keeper.declared.stream, [applied], Origin(run=run_id(1)), bodies=seen.bodies)
    gone = ObjectObserved(uid=live["metadata"]["uid"], resource_version="1", gone=True)
    await keeper.memory.append(stream, [gone], Origin())
    assert keeper.situation.actual(id) is None
    assert id in keeper.situation.secret([wanted_of(config_map("a"))], []), "its key is asked for"
    assert id in keeper.situation.secret([], [id])

    async def unseen(id: ObjectId, version: str, sealer: Sealer) -> None:
        return None

    return keeper.situation.planner(keeper.port, sealer, unseen)


async def test_what_was_secret_and_is_no_longer_is_nowhere_in_the_plan(keeper: Keeper, of_a_variable: Planner) -> None:
    run = Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))
    draft = await of_a_variable.draft(
        [wanted_of(namespace()), wanted_of(config_map("a", password="none"))], run.id, REVISION, digest_of(b"")
    )
    step = steps(draft)["a"]
    assert step.action == "update"
    assert PLANTED.encode() not in msgspec.json.encode(draft.plan)
    assert step.changes
    assert all(change.hidden for change in step.changes)
    assert step.before is not None
    assert step.before.startswith("hmac-sha256:")


async def test_what_was_secret_and_is_made_again_is_pruned_as_a_secret(keeper: Keeper, of_a_variable: Planner) -> None:
    run = Run(keeper.memory, keeper.declared.stream, Trigger(why="test"))
    draft = await of_a_variable.draft([wanted_of(namespace())], run.id, REVISION, digest_of(b""))
    step = steps(draft)["a"]
    assert step.action == "delete"
    assert step.before is not None
    assert step.before.startswith("hmac-sha256:")


def secret(value: str) -> KubeObject:
    metadata = {"name": "s", "namespace": "shop"}
    return made({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"password": value}})
