"""A daemon whose API server has bad days of many kinds at once: by a seed, on the embedded cluster, in process."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.conftest import SOAK
from tests.e2e.world import KUSTOMIZE, Running, World, config_map, documents
from tests.servers.git_server import GitServer
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cli.serve import install_kinds
from tidelog.engine.cluster.embedded.cluster import open_embedded
from tidelog.engine.cluster.embedded.faults import (
    BrokenWatch,
    Cut,
    Delay,
    Faults,
    LostToken,
    MixedWatch,
    Refusal,
    Rule,
    ShortList,
)
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    ObjectPruned,
    SourceRemoved,
    TargetRemoved,
)
from tidelog.storage import verify_store

SEEDS = 200 if SOAK else 3
TARGETS = 3
EACH = 4
NAMESPACE = "shop"
READS, CHANGES, WATCHES = 0.03, 0.1, 0.4
RULES = (
    Rule(fault=Delay(0.02), chance=CHANGES),
    Rule(fault=Refusal(429, "TooManyRequests", retry_after_s=0), chance=CHANGES),
    Rule(fault=Refusal(409, "Conflict"), chance=CHANGES, changes=True),
    Rule(fault=Refusal(500, "InternalError"), chance=READS),
    Rule(fault=Refusal(500, "InternalError"), chance=CHANGES, changes=True),
    Rule(fault=Refusal(503, "ServiceUnavailable"), chance=READS),
    Rule(fault=Cut("before"), chance=CHANGES),
    Rule(fault=Cut("after"), chance=CHANGES),
    Rule(fault=Cut("amid"), chance=READS),
    Rule(fault=LostToken(), chance=WATCHES),
    Rule(fault=ShortList(1), chance=WATCHES),
    Rule(fault=ShortList(100), chance=WATCHES),
    Rule(fault=BrokenWatch(0, "cut"), chance=WATCHES),
    Rule(fault=BrokenWatch(2, "cut"), chance=WATCHES),
    Rule(fault=BrokenWatch(1, "end"), chance=WATCHES),
    Rule(fault=BrokenWatch(3, "gone"), chance=WATCHES),
    Rule(fault=MixedWatch(window=5, again=0.3), chance=WATCHES),
)
"""What may go wrong; of what is met by each read, so seldom that a pass of some twenty may still succeed."""


class Inside(Servers):
    """No servers: all is in this process."""

    def kubeconfig_of(self, user: str, groups: Sequence[str] = (), **certificate: timedelta) -> Path:
        return self.kubeconfig


class Faulty(Struct):
    """A world without servers, what goes wrong in it, and the way there that meets it."""

    world: World
    faults: Faults
    cluster: Cluster


@asynccontextmanager
async def open_faulty(git: GitServer, directory: Path, seed: int) -> AsyncIterator[Faulty]:
    async with Evaluator() as judge, open_embedded(judge) as opened:
        faults = Faults(opened.api, opened.api.registry, seed=seed)
        admin = opened.client()
        await install_kinds(admin)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await admin.create(namespace, manager="test")
        world = World(Inside(directory, "", ""), NAMESPACE, admin, git, directory)
        yield Faulty(world, faults, opened.client(handler=faults))


def bad_days(chance: random.Random) -> list[Rule]:
    """Some of it at once."""
    return chance.sample(RULES, chance.randint(2, 6))


def fleet(value: str, each: int = EACH) -> dict[str, str]:
    return {
        f"t{n}/all.yaml": documents(*(config_map(f"t{n}-{m}", value=value) for m in range(each)))
        for n in range(TARGETS)
    }


async def is_as(world: World, value: str, each: int = EACH, targets: int = TARGETS) -> None:
    """Every target has applied its objects, and exactly those are there."""
    await world.until_applied(*(f"t{n}" for n in range(targets)))
    found = await world.cluster.list(await world.cluster.kind("v1", "ConfigMap"), namespace=NAMESPACE)
    there = {
        item["metadata"]["name"]: item["data"]["value"] for item in found.items if item["metadata"]["name"][0] == "t"
    }
    assert there == {f"t{n}-{m}": value for n in range(targets) for m in range(each)}


def no_plan_is_applied_twice(running: Running) -> None:
    started = [event.plan for event in running.events(ApplyStarted)]  # type: ignore[attr-defined]
    closed = [event.plan for event in running.events(ApplyFinished, ApplyFailed)]  # type: ignore[attr-defined]
    assert len(started) == len(set(started))
    assert sorted(started) == sorted(closed)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", range(SEEDS))
async def test_whatever_goes_wrong_it_ends_in_the_same_state(
    git_host: GitServer, tmp_path: Path, seed: int, number: int
) -> None:
    chance = random.Random(f"{seed}/{number}")
    async with open_faulty(git_host, tmp_path, chance.getrandbits(32)) as faulty:
        world, faults = faulty.world, faulty.faults
        world.commit(fleet("1"))
        await world.source(interval="1h")
        for n in range(TARGETS):
            how: dict[str, Any] = {"targetNamespace": NAMESPACE, "retryInterval": "1s", "wait": True}
            await world.target(f"t{n}", f"./t{n}", dependsOn=[{"name": f"t{n - 1}"}] if n else None, **how)
        async with world.daemon(cluster=faulty.cluster) as running:
            rules = bad_days(chance)
            print(f"faults: {rules}")
            faults.inject(*rules)
            await is_as(world, "1")
            await world.push(fleet("2"))
            await is_as(world, "2")
            assert not running.events(ObjectPruned), "nothing is pruned for want of an answer"

            rules = bad_days(chance)
            print(f"faults: {rules}")
            faults.inject(*rules)
            name = f"t{chance.randrange(TARGETS)}-0"
            await world.patch("v1", "ConfigMap", name, {"data": {"value": "by hand"}}, manager="mallory")
            await world.until_data(name, {"value": "2"})
            await world.push(fleet("3", each=EACH - 1))
            await is_as(world, "3", each=EACH - 1)

            rules = bad_days(chance)
            print(f"faults: {rules}")
            faults.inject(*rules)
            await world.delete(KUSTOMIZE, "Kustomization", f"t{TARGETS - 1}")
            await world.until_gone(KUSTOMIZE, "Kustomization", f"t{TARGETS - 1}")

            faults.inject()
            await running.idle()
            await is_as(world, "3", each=EACH - 1, targets=TARGETS - 1)
            no_plan_is_applied_twice(running)
        assert faults.happened
        report = await verify_store(world.store)
        assert report.intact, report


@pytest.mark.slow
async def test_lists_that_leave_objects_out_have_nothing_pruned_and_nothing_forgotten(
    git_host: GitServer, tmp_path: Path, seed: int
) -> None:
    """Of the daemon's own kinds, and of what it applied; also when it starts anew with a log of all of it."""
    async with open_faulty(git_host, tmp_path, seed) as faulty:
        world, faults = faulty.world, faulty.faults
        world.commit(fleet("1"))
        await world.source(interval="1h")
        for n in range(TARGETS):
            await world.target(f"t{n}", f"./t{n}", targetNamespace=NAMESPACE, retryInterval="1s", wait=True)
        faults.inject(Rule(fault=ShortList(1_000)))
        async with world.daemon(cluster=faulty.cluster) as running:
            await is_as(world, "1")
            await running.idle()
            assert not running.events(ObjectPruned, TargetRemoved, SourceRemoved)
        assert {"kustomizations", "configmaps"} <= {one.asked.resource for one in faults.happened}
        faults.happened.clear()
        async with world.daemon(cluster=faulty.cluster) as running:
            await world.patch("v1", "ConfigMap", "t0-0", {"data": {"value": "by hand"}}, manager="mallory")
            await world.until_data("t0-0", {"value": "1"})
            await world.push(fleet("2", each=EACH - 1))
            await is_as(world, "2", each=EACH - 1)
            await running.idle()
            pruned = {str(event.object).rpartition("/")[2] for event in running.events(ObjectPruned)}  # type: ignore[attr-defined]
            assert pruned == {f"t{n}-{EACH - 1}" for n in range(TARGETS)}, "and that only because Git says so"
            assert not running.events(TargetRemoved, SourceRemoved)
        assert {"kustomizations", "configmaps"} <= {one.asked.resource for one in faults.happened}
