"""The one door: what it does, in which order it says so, and what happens when anything goes wrong."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from tests.apply.keeper import ALIAS, NOW, REVISION, TARGET, Keeper, made
from tests.apply.small_cluster import Call, SmallCluster, undisturbed
from tests.events.logs import digest, moment
from tidelog.engine.apply.door import NotVerifiedError, check_verified
from tidelog.engine.cluster.errors import (
    ConflictError,
    InvalidError,
    OutcomeUnknown,
    ServerError,
    TooManyRequestsError,
    UnreachableError,
)
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.plan.model import Plan, Step
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.events.names import ObjectId, ObjectKey, PlanId, RunId
from tidelog.events.projections import Standing
from tidelog.events.projections.conditions import Approval, Hold
from tidelog.events.vocabulary import ApplyFailed, DriftDetected, FieldDrift, ObjectApplied, ObjectPruned
from tidelog.storage import Query, Recorded, open_log


def namespace(name: str = "shop") -> KubeObject:
    return made({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def config_map(name: str, /, *, immutable: bool = False, **data: str) -> KubeObject:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data}
    return made(obj | {"immutable": True} if immutable else obj)


def definition() -> KubeObject:
    return made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "names": {"kind": "Widget", "plural": "widgets"}},
        }
    )


def widget(name: str, size: int = 1) -> KubeObject:
    metadata = {"name": name, "namespace": "shop"}
    return made({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": size}})


BEFORE = [
    namespace(),
    config_map("same", a="1"),
    config_map("changes", a="1"),
    config_map("frozen", immutable=True, a="1"),
    config_map("goes", a="1"),
]
AFTER = [
    namespace(),
    definition(),
    config_map("same", a="1"),
    config_map("changes", a="2", b="3"),
    config_map("frozen", immutable=True, a="2"),
    config_map("comes", a="1"),
    widget("w"),
]


@asynccontextmanager
async def keeping(store: Path, *, force: bool = True, settings: Settings | None = None) -> AsyncIterator[Keeper]:
    async with open_log(store) as log:
        memory = Memory(log)
        await memory.read_missing()
        keeper = Keeper(memory, SmallCluster(), settings, force=force)
        await keeper.declare()
        yield keeper


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(tmp_path / "store") as keeper:
        yield keeper


async def told(keeper: Keeper, after: int = 0) -> list[Recorded]:
    return [one async for one in keeper.memory.log.read(Query(stream=TARGET, after=after))]


def names(recorded: list[Recorded]) -> list[str]:
    return [
        " ".join(
            part for part in (one.envelope.type, str(getattr(one.event, "object", "") or "").rpartition("/")[2]) if part
        )
        for one in recorded
    ]


def check_that_the_cluster_is(keeper: Keeper, objects: list[KubeObject]) -> None:
    expected = SmallCluster()
    for obj in objects:
        expected.write(obj)
    assert keeper.cluster.values() == expected.values()
    assert set(keeper.situation.inventory.objects) == {key_of(obj).id for obj in objects}
    for id, entry in keeper.situation.inventory.objects.items():
        assert entry.uid == keeper.cluster.objects[id].uid


async def check_that_the_log_tells_the_truth(keeper: Keeper) -> None:
    for one in await told(keeper):
        match one.event:
            case ObjectApplied() as event:
                state = (event.object, event.uid, event.resource_version)
                assert state in keeper.cluster.known, "an object is told of that never was"
            case ObjectPruned(outcome="deleted" | "absent") as event:
                there = keeper.cluster.objects.get(event.object)
                assert there is None or there.uid != event.uid, "what was deleted is there"
            case _:
                pass


# When all is well.


async def test_the_intent_is_told_before_the_first_write_and_each_outcome_after_its_own(keeper: Keeper) -> None:
    order: list[str] = []
    keeper.memory.listen(lambda recorded: order.extend(names([recorded])))

    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        if call.writes:
            order.append(f"{call.verb} {call.object.rpartition('/')[2]}")
        return effect()

    keeper.cluster.around = around
    assert await keeper.keep([namespace(), config_map("a"), config_map("b")]) == "applied"
    assert order == [
        "Planned",
        "Verified",
        "ApplyStarted",
        "apply shop",
        "ObjectApplied shop",
        "Verified",
        "apply a",
        "ObjectApplied a",
        "apply b",
        "ObjectApplied b",
        "ApplyFinished",
        "RunEnded",
    ]
    order.clear()
    assert await keeper.keep([namespace(), config_map("a")]) == "applied"
    assert order == ["Planned", "Verified", "ApplyStarted", "delete b", "ObjectPruned b", "ApplyFinished", "RunEnded"]
    order.clear()
    assert await keeper.keep([namespace(), config_map("a")]) == "unchanged"
    assert order == []


async def test_what_came_of_each_object_is_told(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    position = keeper.memory.position
    assert await keeper.keep(AFTER) == "applied"
    told_of = {
        event.object.rpartition("/")[2]: event.action
        for one in await told(keeper, position)
        if isinstance(event := one.event, ObjectApplied)
    }
    assert told_of == {
        "changes": "configured",
        "frozen": "recreated",
        "comes": "created",
        "widgets.example.com": "created",
        "w": "created",
    }
    finished = next(one.event for one in await told(keeper, position) if one.envelope.type == "ApplyFinished")
    assert msgspec.structs.asdict(finished) | {} == msgspec.structs.asdict(finished) | {
        "created": 4,
        "configured": 1,
        "unchanged": 2,
        "pruned": 1,
    }
    check_that_the_cluster_is(keeper, AFTER)
    await check_that_the_log_tells_the_truth(keeper)


async def test_while_an_object_is_written_its_watch_waits(keeper: Keeper) -> None:
    during: list[tuple[Call, list[ObjectId]]] = []

    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        if call.writes:
            during.append((call, list(keeper.writing)))
        return effect()

    keeper.cluster.around = around
    await keeper.keep(BEFORE)
    await keeper.keep(AFTER)
    assert len(during) > 8
    assert all(writing == [call.object] for call, writing in during)
    assert keeper.writing == []


# What somebody else does meanwhile.


async def once(keeper: Keeper, when: Callable[[Call], bool], deed: Callable[[], object]) -> None:
    done = False

    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        nonlocal done
        if when(call) and not done:
            done = True
            deed()
        return effect()

    keeper.cluster.around = around


def is_apply_of(name: str) -> Callable[[Call], bool]:
    return lambda call: call.verb == "apply" and call.object.endswith(f"/{name}")


CHANGES = ObjectId("core/ConfigMap/shop/changes")


async def test_a_change_of_what_does_not_count_since_the_plan_is_written_over(keeper: Keeper) -> None:
    """Of the status, say: another version, and the same state."""
    await keeper.keep(BEFORE)

    def touch() -> None:
        keeper.cluster.objects[CHANGES].version += 1_000

    await once(keeper, is_apply_of("changes"), touch)
    assert await keeper.keep(AFTER) == "applied"
    check_that_the_cluster_is(keeper, AFTER)


async def test_a_change_of_what_counts_since_the_plan_makes_it_void_and_the_next_is_of_what_is_there(
    keeper: Keeper,
) -> None:
    await keeper.keep(BEFORE)
    theirs = config_map("changes", theirs="1")
    await once(keeper, is_apply_of("changes"), lambda: keeper.cluster.write(theirs))
    assert await keeper.keep(AFTER) == "void"
    failed = next(one.event for one in reversed(await told(keeper)) if isinstance(one.event, ApplyFailed))
    assert (failed.reason, failed.object) == ("PlanVoid", CHANGES)
    assert await keeper.keep(AFTER) == "applied"
    assert keeper.cluster.objects[CHANGES].fields["data", "theirs"] == "1", "what is another's is left"
    assert keeper.cluster.objects[CHANGES].fields["data", "a"] == "2"


async def test_an_object_that_was_made_again_since_the_plan_is_not_deleted(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    goes = ObjectId("core/ConfigMap/shop/goes")

    def replaced() -> None:
        keeper.cluster.remove(goes)
        keeper.cluster.write(
            made({**config_map("goes"), "metadata": {"name": "goes", "namespace": "shop"}}, labelled=False)
        )

    await once(keeper, lambda call: call.verb == "delete" and call.object == goes, replaced)
    assert await keeper.keep(AFTER) == "void"
    assert await keeper.keep(AFTER) == "applied"
    assert goes in keeper.cluster.objects, "it is not this target's"
    assert goes not in keeper.situation.inventory.objects


GOES = ObjectId("core/ConfigMap/shop/goes")


def is_deletion_of(id: ObjectId) -> Callable[[Call], bool]:
    return lambda call: call.verb == "delete" and call.object == id


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("annotations", "kustomize.toolkit.fluxcd.io/prune", "disabled"),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "another"),
        ("annotations", "kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
    ],
)
async def test_an_object_that_is_to_be_kept_since_the_plan_is_not_deleted(
    keeper: Keeper, where: str, name: str, value: str
) -> None:
    await keeper.keep(BEFORE)

    def kept() -> None:
        metadata = {"name": "goes", "namespace": "shop", where: {name: value}}
        keeper.cluster.write({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    await once(keeper, is_deletion_of(GOES), kept)
    assert await keeper.keep(AFTER) == "void"
    assert await keeper.keep(AFTER) == "applied"
    assert GOES in keeper.cluster.objects
    assert GOES not in keeper.situation.inventory.objects, "it is let go of"


async def test_an_object_of_which_something_else_changed_since_the_plan_is_deleted(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "goes", "namespace": "shop"}}
    await once(keeper, is_deletion_of(GOES), lambda: keeper.cluster.write(theirs | {"data": {"theirs": "1"}}))
    assert await keeper.keep(AFTER) == "applied"
    check_that_the_cluster_is(keeper, AFTER)


async def test_an_object_that_is_gone_since_the_plan_is_absent(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    await once(keeper, is_deletion_of(GOES), lambda: keeper.cluster.remove(GOES))
    assert await keeper.keep(AFTER) == "applied"
    (pruned,) = [one.event for one in await told(keeper) if isinstance(one.event, ObjectPruned)]
    assert pruned.outcome == "absent"


async def test_what_is_left_to_another_target_stays_in_the_inventory_until_that_has_it(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    keeper.left[GOES] = "left to Kustomization/shop/other"
    assert await keeper.keep(AFTER) == "applied"
    assert GOES in keeper.cluster.objects
    assert GOES in keeper.situation.inventory.objects
    assert not [one for one in await told(keeper) if isinstance(one.event, ObjectPruned)]
    keeper.left.clear()
    assert await keeper.keep(AFTER) == "applied"
    check_that_the_cluster_is(keeper, AFTER)


async def test_what_somebody_came_to_want_since_the_plan_is_not_deleted(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    keeper.claimed = f"{GOES} is left to Kustomization/shop/other"
    assert await keeper.keep(AFTER) == "void"
    assert GOES in keeper.cluster.objects
    keeper.claimed = ""
    assert await keeper.keep(AFTER) == "applied"
    check_that_the_cluster_is(keeper, AFTER)


async def test_an_object_that_changes_all_the_time_is_left_to_the_next_plan(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)

    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        if is_deletion_of(GOES)(call):
            keeper.cluster.objects[GOES].version += 1_000
        return effect()

    keeper.cluster.around = around
    assert await keeper.keep(AFTER) == "void"
    assert GOES in keeper.cluster.objects


async def test_what_is_made_anew_is_not_deleted_when_it_is_no_longer_as_the_plan_saw_it(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    frozen = ObjectId("core/ConfigMap/shop/frozen")
    theirs = config_map("frozen", immutable=True, a="1")
    theirs["metadata"]["labels"] |= {"theirs": "1"}
    await once(keeper, is_deletion_of(frozen), lambda: keeper.cluster.write(theirs))
    uid = keeper.cluster.objects[frozen].uid
    assert await keeper.keep(AFTER) == "void"
    assert keeper.cluster.objects[frozen].uid == uid
    assert await keeper.keep(AFTER) == "applied"
    assert keeper.cluster.objects[frozen].uid != uid


async def test_an_object_that_was_deleted_since_the_plan_is_made_again_by_the_next(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    await once(keeper, is_apply_of("changes"), lambda: keeper.cluster.remove(CHANGES))
    assert await keeper.keep(AFTER) == "void"
    assert await keeper.keep(AFTER) == "applied"
    check_that_the_cluster_is(keeper, AFTER)


async def test_what_is_known_to_be_unchanged_is_neither_asked_about_nor_written(keeper: Keeper) -> None:
    await keeper.keep(BEFORE)
    keeper.cluster.calls.clear()
    assert await keeper.keep(AFTER) == "applied"
    asked = {call.object.rpartition("/")[2] for call in keeper.cluster.calls}
    assert asked == {"widgets.example.com", "changes", "frozen", "comes", "goes", "w"}


async def test_a_later_wave_that_the_server_refuses_stops_the_apply_and_says_what_was_done(keeper: Keeper) -> None:
    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        if call.verb == "dry-run" and call.object.endswith("/b"):
            raise InvalidError("b is not valid")
        return effect()

    keeper.cluster.around = around
    assert await keeper.keep([namespace(), config_map("a"), config_map("b")]) == "void"
    assert names(await told(keeper))[-4:] == [
        "ApplyStarted",
        "ObjectApplied shop",
        "VerificationFailed",
        "ApplyFailed b",
    ]
    failed = (await told(keeper))[-1].event
    assert isinstance(failed, ApplyFailed)
    assert (failed.wave, failed.applied, failed.pending) == (1, 1, 2)
    assert "Namespace/shop created" in failed.message
    assert keeper.cluster.written == [("apply", "core/Namespace/_/shop")]


async def test_a_later_wave_that_would_change_more_than_the_plan_says_makes_it_void(keeper: Keeper) -> None:
    """What was as it should be when the plan was made, and is no longer when its wave comes."""
    await keeper.keep(BEFORE)
    same = ObjectKey("", "ConfigMap", "shop", "same")
    drift = DriftDetected(
        target=TARGET, uid="", resource_version="", fields=(FieldDrift(path="data.a", manager="somebody"),)
    )

    async def around(call: Call, effect: Callable[[], Any]) -> Any:
        answer = effect()
        if call.verb == "apply" and call.object.endswith("widgets.example.com"):
            keeper.cluster.around = undisturbed
            keeper.cluster.write(config_map("same", a="theirs"))
            await keeper.memory.append(same.stream(ALIAS), [drift], Origin())
        return answer

    keeper.cluster.around = around
    assert await keeper.keep(AFTER) == "void"
    failed = next(one.event for one in reversed(await told(keeper)) if isinstance(one.event, ApplyFailed))
    assert (failed.reason, failed.wave, failed.applied) == ("PlanVoid", 1, 1)
    assert f"{same.shown} would change, and the plan did not say so" in failed.message
    assert keeper.cluster.objects[same.id].fields["data", "a"] == "theirs", "no wave is applied in part"
    assert await keeper.keep(AFTER) == "applied"
    check_that_the_cluster_is(keeper, AFTER)


# When anything goes wrong, at any call.


class Fault:
    """Something that happens at the n-th call."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0
        self.happened = False
        self.scope = anyio.CancelScope()

    async def around(self, call: Call, effect: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return effect()
        self.happened = True
        return await self.happens(call, effect)

    async def happens(self, call: Call, effect: Callable[[], Any]) -> Any:
        raise NotImplementedError


def raising(make: Callable[[], Exception], *, carried_out: bool = False) -> type[Fault]:
    class Raising(Fault):
        async def happens(self, call: Call, effect: Callable[[], Any]) -> Any:
            if carried_out:
                effect()
            raise make()

    return Raising


def cancelling(*, carried_out: bool) -> type[Fault]:
    class Cancelling(Fault):
        async def happens(self, call: Call, effect: Callable[[], Any]) -> Any:
            if carried_out:
                effect()
            self.scope.cancel()
            await anyio.lowlevel.checkpoint()

    return Cancelling


class CancelledLater(Fault):
    """The call is answered, and then the pass is cancelled: what it did is told all the same."""

    async def happens(self, call: Call, effect: Callable[[], Any]) -> Any:
        answer = effect()
        self.scope.cancel()
        return answer


FAULTS: dict[str, type[Fault]] = {
    "the server is broken": raising(lambda: ServerError("broken")),
    "the server is busy": raising(lambda: TooManyRequestsError("busy")),
    "there is no way there": raising(lambda: UnreachableError("no way")),
    "no answer, not done": raising(lambda: OutcomeUnknown("who knows")),
    "no answer, and done": raising(lambda: OutcomeUnknown("who knows"), carried_out=True),
    "it takes too long, and is done": raising(lambda: TimeoutError("too long"), carried_out=True),
    "a conflict": raising(lambda: ConflictError("in conflict")),
    "not valid": raising(lambda: InvalidError("not valid")),
    "cancelled before": cancelling(carried_out=False),
    "cancelled after": cancelling(carried_out=True),
    "cancelled when answered": CancelledLater,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_whatever_goes_wrong_at_whatever_call_the_log_is_true_and_the_next_passes_get_there(
    name: str, tmp_path: Path
) -> None:
    at = 0
    while True:
        at += 1
        async with keeping(tmp_path / f"store-{at}") as keeper:
            assert await keeper.keep(BEFORE) == "applied"
            fault = FAULTS[name](at)
            keeper.cluster.around = fault.around
            outcome = "cancelled"
            with fault.scope:
                outcome = await keeper.keep(AFTER)
            standing = keeper.memory.conditions.get(TARGET)
            assert standing is not None
            where = f"{name}, at call {at}: {keeper.cluster.calls[-1:]}"
            if outcome != "cancelled":
                assert standing.applying is None, f"{where}: an apply that never ended"
            assert keeper.writing == [], where
            await check_that_the_log_tells_the_truth(keeper)
            if not fault.happened:
                assert outcome == "applied"
                break
            await keeper.begin_again()
            keeper.cluster.around = SmallCluster().around
            outcomes = [await keeper.keep(AFTER) for _ in range(3)]
            assert outcomes[-1] == "unchanged", f"{where}: {outcomes}"
            check_that_the_cluster_is(keeper, AFTER)
            await check_that_the_log_tells_the_truth(keeper)
    assert at > 15, "hardly a call was disturbed"


async def test_a_custom_stage_is_not_waited_for(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(Settings(), custom_apply_stage_kinds=frozenset({"Widget"}))
    never = widget("never") | {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    async with keeping(tmp_path / "store", settings=settings) as keeper:
        assert await keeper.keep([namespace(), definition()]) == "applied"
        with anyio.fail_after(PATIENCE_S):
            assert await keeper.keep([namespace(), definition(), never, config_map("after", a="1")]) == "applied"
        order = [id.rpartition("/")[2] for verb, id in keeper.cluster.written if verb == "apply"]
        assert order.index("never") < order.index("after")


# What the door lets through.

STEP = Step(object=CHANGES, api_version="v1", action="create", desired=digest("a"))
PATIENCE_S = 20
RUN = RunId("run")
PLAN = Plan(
    id=PlanId(""),
    run=RUN,
    target=TARGET,
    revision=REVISION,
    set=digest("set"),
    waves=((STEP,),),
).named()
VERIFIED: dict[str, Any] = {"plan": PLAN.id, "verified": PLAN.id}
HELD: dict[str, Any] = {"held": Hold(plan=PLAN.id, check="prune-guard", why="much", since=moment(0))}


def approved(**rest: Any) -> dict[str, Any]:
    return {"approval": Approval(**{"plan": PLAN.id, "by": "ada", "why": "meant", **rest})}


@pytest.mark.parametrize(
    "standing",
    [
        VERIFIED,
        VERIFIED | HELD | approved(),
        VERIFIED | HELD | approved(until=moment(20)),
        VERIFIED | {"held": Hold(plan=PlanId("plan-other"), check="prune-guard", why="much", since=moment(0))},
    ],
)
def test_what_was_verified_and_is_not_held_or_was_approved_is_let_through(standing: dict[str, Any]) -> None:
    check_verified(PLAN, Standing(ready="Unknown", **standing), moment(10))


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        ({}, "was not verified"),
        ({"plan": PLAN.id}, "was not verified"),
        ({"verified": PLAN.id}, "was not verified"),
        ({"plan": PlanId("plan-other"), "verified": PLAN.id}, "was not verified"),
        (VERIFIED | HELD, "is held and was not approved"),
        (VERIFIED | HELD | approved(plan=PlanId("plan-other")), "is held and was not approved"),
        (VERIFIED | HELD | approved(rejected=True), "is held and was not approved"),
        (VERIFIED | HELD | approved(until=moment(5)), "expired at"),
    ],
)
def test_anything_else_is_not(standing: dict[str, Any], why: str) -> None:
    with pytest.raises(NotVerifiedError, match=why):
        check_verified(PLAN, Standing(ready="Unknown", **standing), moment(10))


@pytest.mark.parametrize(
    "change",
    [
        {"waves": ((msgspec.structs.replace(STEP, desired=digest("b")),),)},
        {"waves": ((msgspec.structs.replace(STEP, action="recreate"),),)},
        {"prunes": (Step(object=CHANGES, api_version="v1", action="delete", uid="u"),)},
        {"set": digest("other")},
        {"run": RunId("other")},
    ],
)
def test_a_plan_that_was_altered_after_its_verification_is_not(change: dict[str, Any]) -> None:
    altered = msgspec.structs.replace(PLAN, **change)
    with pytest.raises(NotVerifiedError, match="is not the plan that it was"):
        check_verified(altered, Standing(ready="Unknown", **VERIFIED), moment(10))


async def test_what_is_not_let_through_does_nothing(keeper: Keeper) -> None:
    run = Run(keeper.memory, TARGET, Trigger(why="test"))
    draft = await keeper.draft([namespace()], run)
    position = keeper.memory.position
    with pytest.raises(NotVerifiedError):
        await keeper.door(draft, run).apply(draft, run.standing, NOW)
    assert keeper.cluster.written == []
    assert keeper.memory.position == position
