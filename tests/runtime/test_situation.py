"""What goes with a target that is deleted, as the log knows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.apply.keeper import ALIAS, KEY, a_target
from tests.events.logs import digest
from tidelog.engine.plan.model import Plan, Step
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.settings import Settings
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, RunId
from tidelog.events.vocabulary import ObjectApplied, Suspended, TargetDeclared
from tidelog.storage import open_log

SPEC = {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "src"}}


def target(name: str) -> ObjectKey:
    return KEY._replace(name=name)


def config_map(name: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", "shop", name)


async def below(
    store: Path, owned: Mapping[str, Sequence[ObjectKey]], specs: Mapping[str, Any] | None = None, suspended: str = ""
) -> str:
    """Why it is held that the target `shop` deletes the target `a`; `owned` has what each target owns."""
    async with open_log(store) as log:
        memory = Memory(log)
        await memory.read_missing()
        for name, objects in owned.items():
            stream = target(name).stream(ALIAS)
            spec = Body.of(encode((specs or {}).get(name, SPEC)))
            await memory.append(
                stream, [TargetDeclared(uid=name, generation=1, spec=spec.ref)], Origin(), bodies=[spec]
            )
            if name == suspended:
                await memory.append(stream, [Suspended(why="for now")], Origin())
            applied = [
                ObjectApplied(
                    plan=PlanId("p"),
                    object=key.id,
                    uid="u",
                    resource_version="1",
                    action="created",
                    wave=0,
                    desired=digest("d"),
                )
                for key in objects
            ]
            await memory.append(stream, applied, Origin())
        situation = Situation(memory, ALIAS, Settings(), a_target())
        held = await situation.accident(plan(target("a").id), asked_for=False)
        return "" if held is None else held.why


def plan(*deleted: ObjectId) -> Plan:
    return Plan(
        id=PlanId("p"),
        run=RunId("r"),
        target=KEY.stream(ALIAS),
        revision=Revision("main"),
        set=digest("set"),
        waves=(),
        prunes=tuple(Step(object=id, api_version="v1", action="delete", uid="u") for id in deleted),
    )


def many(count: int) -> list[ObjectKey]:
    return [config_map(f"item-{number}") for number in range(count)]


async def test_all_that_is_below_counts_once_to_any_depth(tmp_path: Path) -> None:
    why = await below(
        tmp_path / "store",
        {"a": [target("b"), target("c")], "b": [target("d"), *many(12)], "c": many(16), "d": [config_map("deep")]},
    )
    assert "with 20 that these own" in why, "b, c, d, deep, and sixteen of which twelve are named twice"


async def test_targets_that_own_each_other_or_themselves_are_counted_once(tmp_path: Path) -> None:
    why = await below(tmp_path / "store", {"a": [target("b"), target("a")], "b": [target("a"), *many(20)]})
    assert "with 21 that these own" in why


@pytest.mark.parametrize(
    "spec",
    [
        SPEC | {"prune": False},
        SPEC | {"deletionPolicy": "Orphan"},
        SPEC | {"suspend": True},
    ],
)
async def test_what_a_target_leaves_behind_does_not_count(tmp_path: Path, spec: Any) -> None:
    owned = {"a": [target("b")], "b": many(30)}
    assert await below(tmp_path / "one", owned, {"b": spec}) == ""
    assert await below(tmp_path / "two", owned, suspended="b") == ""
    assert await below(tmp_path / "three", owned) != ""


@pytest.mark.parametrize("spec", [{}, SPEC | {"prune": False, "deletionPolicy": "Delete"}])
async def test_what_may_go_counts_also_where_the_spec_cannot_be_read(tmp_path: Path, spec: Any) -> None:
    assert await below(tmp_path / "store", {"a": [target("b")], "b": many(30)}, {"b": spec}) != ""


async def test_what_is_only_named_does_not_make_deletions_look_few(tmp_path: Path) -> None:
    """An object that a manifest says is to be left alone has no uid in the inventory: nobody looked for it."""
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        applied = ObjectApplied(
            plan=PlanId("p"),
            object=config_map("named").id,
            uid="",
            resource_version="",
            action="unchanged",
            wave=0,
            desired=digest("d"),
        )
        named = [msgspec.structs.replace(applied, object=config_map(f"named-{number}").id) for number in range(100)]
        there = [msgspec.structs.replace(applied, object=key.id, uid="u", action="created") for key in many(10)]
        await memory.append(KEY.stream(ALIAS), [*named, *there], Origin())
        situation = Situation(memory, ALIAS, Settings(), a_target())
        held = await situation.accident(plan(*(key.id for key in many(8))), asked_for=False)
        assert held is not None
        assert "80 % of the 10 objects" in held.why
