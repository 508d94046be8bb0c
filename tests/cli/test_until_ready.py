"""`tidelog run --until-ready`: when it ends, and what it says."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from tests.events.logs import moment
from tests.runtime.virtual_time import VIRTUAL_TIME
from tidelog.engine.cli.until_ready import wait_until_ready
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.watching.declared import read_declared
from tidelog.events.digest import digest_of
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, RunId
from tidelog.events.projections import Entry, Hold, Inventory, Standing
from tidelog.events.vocabulary import Person, RevisionFetched

SOURCE = ObjectKey("source.toolkit.fluxcd.io", "GitRepository", "flux-system", "fleet")
TARGET = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "shop")
OTHER = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "other")
REVISION = Revision("main@sha1:1234")
LIMIT_S = 300.0


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


def live(key: ObjectKey, **metadata: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"interval": "1h", "url": "https://example.com/fleet.git"}
    if key.kind == "Kustomization":
        spec = {"interval": "1h", "prune": True, "sourceRef": {"kind": "GitRepository", "name": SOURCE.name}}
    meta = {"name": key.name, "namespace": key.namespace, "uid": "u", "generation": 1, "resourceVersion": "1"}
    return {"apiVersion": f"{key.group}/v1", "kind": key.kind, "metadata": meta | metadata, "spec": spec}


def ready() -> Standing:
    return Standing(ready="True", reason="Succeeded", observed=1, declared=1, applied=REVISION, attempted=REVISION)


def failed(**fields: Any) -> Standing:
    plain: dict[str, Any] = {"reason": "BuildFailed", "message": "x.yaml:3: no YAML", "tried": 1, "attempted": REVISION}
    return Standing(ready="False", **(plain | fields))


class World:
    """A daemon, as far as its standing goes."""

    def __init__(self) -> None:
        self.conditions: dict[str, Standing] = {}
        self.inventory: dict[str, Inventory] = {}
        self.sources: dict[str, Any] = {}
        self.targets: dict[str, Any] = {}
        self.busy = False
        self.serving = anyio.Event()
        self.serving.set()
        self.waits_for = ""
        scheduler = SimpleNamespace(is_idle=lambda _: not self.busy, queued=0, running=0)
        self.applies_to = "east"
        self.engine = SimpleNamespace(
            cluster_alias="east",
            sites=SimpleNamespace(known_of=lambda _: self.applies_to),
            sources=scheduler,
            targets=scheduler,
            status=SimpleNamespace(idle=True),
            declared=SimpleNamespace(sources=self.sources, targets=self.targets, target=self.targets.get),
            memory=SimpleNamespace(conditions=self.conditions, inventory=self.inventory, log=self),
        )

    async def read(self, query: Any) -> AsyncIterator[Any]:
        assert query.stream == SOURCE.stream("east")
        fetched = RevisionFetched(
            revision=REVISION,
            tree="1" * 40,
            artifact=digest_of(b""),
            size=1,
            author=Person(name="Ada", email="ada@example.com"),
            message="Break the shop\n\nat length",
        )
        yield SimpleNamespace(event=fetched)

    def has(self, key: ObjectKey, standing: Standing | None, **metadata: Any) -> None:
        declared = read_declared(live(key, **metadata), "east")
        (self.targets if key.kind == "Kustomization" else self.sources)[declared.stream] = declared
        if standing is not None:
            self.conditions[declared.stream] = standing

    async def wait(self, *wanted: ObjectKey) -> tuple[int, bool]:
        """The exit code, and whether all of the time passed."""
        began = anyio.current_time()
        code = await wait_until_ready(cast("Daemon", self), LIMIT_S, wanted)
        return code, anyio.current_time() - began >= LIMIT_S


@pytest.fixture
def world() -> World:
    world = World()
    world.has(SOURCE, ready())
    return world


async def test_it_ends_when_all_is_ready_and_says_so_in_a_line(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.has(TARGET, ready())
    assert await world.wait(TARGET) == (0, False)
    assert capsys.readouterr().err == "✔ 1 source and 1 target ready at main@sha1:1234\n"


async def test_where_it_takes_long_it_is_said_what_is_waited_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [OTHER._replace(name=f"other-{number}") for number in range(4)]
    for key in (TARGET, *others):
        world.has(key, None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.wait)
        await anyio.sleep(4.5)
        assert capsys.readouterr().err == ""
        await anyio.sleep(100)
        names = ", ".join(key.shown for key in others[:3])
        assert capsys.readouterr().err == f"◎ waiting for {names} and 2 more\n"
        for key in others:
            world.has(key, ready())
        await anyio.sleep(10)
        assert capsys.readouterr().err == f"◎ waiting for {TARGET.shown}\n"
        world.has(TARGET, ready())
    assert capsys.readouterr().err == "✔ 1 source and 5 targets ready at main@sha1:1234\n"


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (failed(final=True), "push a commit that mends it; it is not tried again before; more: tidelog explain kust"),
        (failed(stalled=True, reason="InvalidSpec"), "correct its spec, as the message says; more: tidelog explain"),
        (
            failed(stalled=True, reason="RetriesExceeded"),
            "tidelog reconcile kustomization/shop -n flux-system --reset; more: tidelog explain",
        ),
        (
            failed(
                reason="PlanHeld",
                message='plan p is held. To go on: tidelog approve p --why "…"',
                held=Hold(plan=PlanId("p"), check="prune-guard", why="", since=moment(1)),
            ),
            "tidelog approve p",
        ),
    ],
    ids=["final", "stalled", "given-up", "held"],
)
async def test_what_cannot_become_ready_by_itself_ends_it_with_the_commit_and_what_to_do(
    world: World, standing: Standing, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.has(TARGET, standing)
    world.has(OTHER, failed(reason="DependencyNotReady", message="dependency 'shop' is not ready"))
    assert await world.wait() == (1, False)
    told = capsys.readouterr().err
    first, second, *_ = told.splitlines()
    assert first.startswith(f"✗ Kustomization/flux-system/shop: {standing.reason}: {standing.message}")
    assert second == "  commit “Break the shop” by Ada <ada@example.com> (main@sha1:1234)"
    assert said in told
    assert "✗ Kustomization/flux-system/other: DependencyNotReady" in told


async def test_what_is_stuck_is_told_when_what_is_under_way_is_over(world: World) -> None:
    world.has(TARGET, failed(final=True))
    world.has(OTHER, Standing(ready="Unknown", run=RunId("run"), health="InProgress"))
    assert await world.wait() == (1, True)
    began = anyio.current_time()

    async def becomes_ready() -> None:
        await anyio.sleep(LIMIT_S / 2)
        world.has(OTHER, ready())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(becomes_ready)
        assert await world.wait() == (1, False)
    assert anyio.current_time() - began >= LIMIT_S / 2


@pytest.mark.parametrize(
    ("standing", "metadata", "said"),
    [
        (failed(), {}, "BuildFailed: x.yaml:3: no YAML"),
        (failed(final=True), {"generation": 2}, "BuildFailed"),
        (ready(), {"deletionTimestamp": "2026-11-25T10:00:00Z"}, "it is being deleted"),
        (failed(final=True), {"deletionTimestamp": "2026-11-25T10:00:00Z"}, "BuildFailed"),
        (ready(), {"generation": 2}, "not yet ready"),
        (None, {}, "it is not there"),
    ],
    ids=["tried again", "spec is newer", "deleting", "deleting and failed", "not answered", "not begun"],
)
async def test_what_may_still_become_ready_is_waited_for(
    world: World,
    standing: Standing | None,
    metadata: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.has(TARGET, standing, **metadata)
    assert await world.wait() == (1, True)
    assert f"✗ Kustomization/flux-system/shop: {said}" in capsys.readouterr().err


async def test_what_is_wanted_has_to_be_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert await world.wait(SOURCE, TARGET) == (1, True)
    assert "✗ Kustomization/flux-system/shop: it is not there" in capsys.readouterr().err


async def test_so_has_what_a_target_applied(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.has(TARGET, ready())
    entry = cast("Entry", None)
    world.inventory[TARGET.stream("east")] = Inventory(objects={ObjectId(OTHER.id): entry})
    assert await world.wait() == (1, True)
    assert "✗ Kustomization/flux-system/other: it is not there" in capsys.readouterr().err


async def test_what_a_target_applied_to_another_cluster_is_not_waited_for(world: World) -> None:
    world.has(TARGET, ready())
    world.applies_to = "team.there"
    world.inventory[TARGET.stream("east")] = Inventory(objects={ObjectId(OTHER.id): cast("Entry", None)})
    assert await world.wait() == (0, False)


async def test_who_waits_for_a_lease_says_for_whose(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.serving = anyio.Event()
    world.waits_for = "flux (Lease x)"
    assert await world.wait() == (1, True)
    assert "the daemon waits for flux (Lease x)" in capsys.readouterr().err


async def test_who_is_waited_for_is_said_at_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A Lease of a daemon that was killed takes half a minute to run out."""
    world.serving = anyio.Event()
    world.waits_for = "other_1 (Lease source-controller-leader-election)"
    async with anyio.create_task_group() as tasks:

        async def lets_go() -> None:
            await anyio.sleep(LIMIT_S / 2)
            assert capsys.readouterr().err == f"◎ the daemon waits for {world.waits_for}\n"
            world.serving.set()

        tasks.start_soon(lets_go)
        assert await world.wait() == (0, False)
