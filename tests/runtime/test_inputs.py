"""Objects that are named: asked for once, watched by name, their users woken when they change."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import anyio
import pytest

from tests.events.logs import source, target
from tests.runtime.virtual_time import VIRTUAL_TIME
from tidelog.engine.cluster.errors import BadRequestError, ClusterError, ForbiddenError, GoneError, UnreachableError
from tidelog.engine.cluster.port import Cluster, Identity, Kind, Listing, WatchEvent
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.watching.inputs import NAMED_MAX, RETRY_S, Inputs
from tidelog.events.names import ObjectKey, StreamName

SHOP, SRC = target("east", "shop"), source("east", "src")
KEY = ObjectKey("", "ConfigMap", "flux-system", "vars")


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


class Server:
    """One object, and who watches it."""

    def __init__(self) -> None:
        self.object: KubeObject | None = None
        self.version = 1
        self.problem: ClusterError | None = None
        self.lists: list[tuple[float, str, str]] = []
        self.readers: list[Identity | None] = []
        """Who listed and watched, in turn."""
        self.trusted: set[Identity | None] | None = None
        """Who may read; None for everybody."""
        self.watching = 0
        self._changed = anyio.Event()
        self._breaks: ClusterError | None = None
        self._past: list[WatchEvent] = []

    def put(self, **data: str) -> None:
        self.version += 1
        metadata = {"name": KEY.name, "namespace": KEY.namespace, "resourceVersion": str(self.version), "uid": "u"}
        self.object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self._say(WatchEvent("MODIFIED", self.object))

    def remove(self) -> None:
        assert self.object is not None
        self.version += 1
        gone = self.object | {"metadata": self.object["metadata"] | {"resourceVersion": str(self.version)}}
        self.object = None
        self._say(WatchEvent("DELETED", gone))

    def break_off(self, error: ClusterError) -> None:
        self._breaks = error
        self._changed.set()

    def _say(self, event: WatchEvent) -> None:
        self._past.append(event)
        self._changed.set()

    def _let_in(self, identity: Identity | None) -> None:
        self.readers.append(identity)
        if self.trusted is not None and identity not in self.trusted:
            raise ForbiddenError("you may not")

    async def kind(self, api_version: str, kind: str) -> Kind:
        return Kind("", "v1", kind, f"{kind.lower()}s", namespaced=True)

    async def list(self, kind: Kind, *, namespace: str, fields: str, identity: Identity | None) -> Listing:
        self.lists.append((anyio.current_time(), namespace, fields))
        self._let_in(identity)
        if self.problem is not None:
            raise self.problem
        return Listing([] if self.object is None else [self.object], str(self.version))

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str, fields: str, identity: Identity | None
    ) -> AsyncGenerator[WatchEvent, None]:
        self._let_in(identity)
        self.watching += 1
        at = int(resource_version)
        try:
            while True:
                for event in list(self._past):
                    version = int(event.object["metadata"]["resourceVersion"])
                    if version > at:
                        at = version
                        yield event
                if self._breaks is not None:
                    error, self._breaks = self._breaks, None
                    raise error
                self._changed = anyio.Event()
                await self._changed.wait()
        finally:
            self.watching -= 1


class World:
    def __init__(self) -> None:
        self.server = Server()
        self.woken: list[tuple[StreamName, Any]] = []
        self.inputs = Inputs(cast("Cluster", self.server), self._changed)

    async def _changed(self, user: StreamName, key: ObjectKey, live: KubeObject | None) -> None:
        assert key == KEY
        self.woken.append((user, None if live is None else live["data"]))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.inputs.run)
        await anyio.sleep(1)
        yield world
        tasks.cancel_scope.cancel()


async def test_it_is_asked_for_by_its_name_and_once_however_many_use_it(world: World) -> None:
    world.server.put(a="1")
    for user in (SHOP, SRC, SHOP):
        found = await world.inputs.get(user, KEY)
        assert found is not None
        assert found["data"] == {"a": "1"}
    ((_, namespace, fields),) = world.server.lists
    assert (namespace, fields) == ("flux-system", "metadata.name=vars")
    assert (world.server.watching, world.woken) == (1, [])


async def test_what_is_not_there_is_none_and_its_coming_wakes_who_asked(world: World) -> None:
    assert await world.inputs.get(SHOP, KEY) is None
    world.server.put(a="1")
    await anyio.sleep(1)
    assert world.woken == [(SHOP, {"a": "1"})]


async def test_each_user_is_woken_by_each_change_and_sees_the_newest(world: World) -> None:
    world.server.put(a="1")
    await world.inputs.get(SHOP, KEY)
    await world.inputs.get(SRC, KEY)
    world.server.put(a="2")
    await anyio.sleep(1)
    world.server.remove()
    await anyio.sleep(1)
    assert world.woken == [(SHOP, {"a": "2"}), (SRC, {"a": "2"}), (SHOP, None), (SRC, None)]
    assert await world.inputs.get(SHOP, KEY) is None


async def test_who_let_go_of_it_is_not_woken_and_what_nobody_uses_is_not_watched(world: World) -> None:
    await world.inputs.get(SHOP, KEY)
    await world.inputs.get(SRC, KEY)
    world.inputs.release(SHOP)
    world.server.put(a="1")
    await anyio.sleep(1)
    assert world.woken == [(SRC, {"a": "1"})]
    world.inputs.release(SRC)
    await anyio.sleep(1)
    assert world.server.watching == 0
    world.server.put(a="2")
    await anyio.sleep(100)
    assert len(world.woken) == 1
    found = await world.inputs.get(SHOP, KEY)
    assert found is not None
    assert found["data"] == {"a": "2"}, "asked for anew"


async def test_who_may_not_read_it_is_told_so_and_woken_when_he_may(world: World) -> None:
    world.server.problem = ForbiddenError("you may not")
    with pytest.raises(ForbiddenError, match="you may not"):
        await world.inputs.get(SHOP, KEY)
    world.server.problem = None
    world.server.put(a="1")
    await anyio.sleep(2 * RETRY_S[1])
    assert world.woken == [(SHOP, {"a": "1"})]


async def test_each_reads_by_his_own_rights_whoever_else_may_read_it(world: World) -> None:
    tenant = Identity("system:serviceaccount:tenant:reconciler")
    world.server.trusted = {None}
    world.server.put(a="1")
    assert await world.inputs.get(SRC, KEY) is not None
    with pytest.raises(ForbiddenError):
        await world.inputs.get(SHOP, KEY, identity=tenant)
    world.server.trusted = {None, tenant}
    await anyio.sleep(2 * RETRY_S[1])
    assert world.woken == [(SHOP, {"a": "1"})]
    assert await world.inputs.get(SHOP, KEY, identity=tenant) is not None
    assert world.server.readers == [None, None, tenant, tenant, tenant], "list and watch"


async def test_a_server_that_is_away_at_first_is_an_error_and_later_is_none(world: World) -> None:
    world.server.problem = UnreachableError("no way")
    with pytest.raises(UnreachableError):
        await world.inputs.get(SHOP, KEY)
    world.server.problem = None
    world.server.put(a="1")
    await anyio.sleep(2 * RETRY_S[1])
    world.server.problem = UnreachableError("no way")
    world.server.break_off(UnreachableError("broken"))
    await anyio.sleep(10)
    found = await world.inputs.get(SHOP, KEY)
    assert found is not None, "what was seen last is what is known"


@pytest.mark.parametrize("error", [UnreachableError("broken"), GoneError("too old")], ids=repr)
async def test_a_watch_that_breaks_now_and_then_is_soon_taken_up_also_the_tenth_time(
    world: World, error: ClusterError
) -> None:
    await world.inputs.get(SHOP, KEY)
    for number in range(10):
        await anyio.sleep(600)
        world.server.break_off(error)
        await anyio.sleep(0.1)
        world.server.put(a=str(number))
        await anyio.sleep(2 * RETRY_S[0])
        assert world.woken[-1] == (SHOP, {"a": str(number)}), "it waits longer each time"


async def test_a_server_that_forgets_at_once_is_not_asked_without_a_pause(world: World) -> None:
    await world.inputs.get(SHOP, KEY)
    before = len(world.server.lists)
    world.server.problem = GoneError("too old")
    world.server.break_off(GoneError("too old"))
    await anyio.sleep(60)
    assert len(world.server.lists) - before < 10


def numbered(number: int) -> ObjectKey:
    return KEY._replace(name=f"vars-{number}")


async def test_what_a_pass_asks_for_no_more_is_let_go_of_when_it_comes_to_its_end(world: World) -> None:
    for number in range(3):
        world.inputs.begin(SHOP)
        await world.inputs.get(SHOP, KEY)
        await world.inputs.get(SHOP, numbered(number))
        world.inputs.settle(SHOP)
        await anyio.sleep(1)
        assert world.server.watching == 2
    await world.inputs.get(SRC, KEY)
    world.inputs.begin(SHOP)
    world.inputs.settle(SHOP)
    await anyio.sleep(1)
    assert world.server.watching == 1, "another uses it"


async def test_a_pass_that_had_nothing_to_ask_for_lets_go_of_nothing(world: World) -> None:
    for number in range(2):
        world.inputs.begin(SHOP)
        world.inputs.looks(SHOP)  # one after the other: what was asked for before stays
        await world.inputs.get(SHOP, KEY)
        world.inputs.looks(SHOP)
        await world.inputs.get(SHOP, numbered(number))
        world.inputs.end(SHOP)
        await anyio.sleep(1)
        assert world.server.watching == 2
    world.inputs.begin(SHOP)
    world.inputs.end(SHOP)
    await anyio.sleep(1)
    assert world.server.watching == 2
    world.inputs.begin(SHOP)
    world.inputs.looks(SHOP)
    world.inputs.end(SHOP)
    await anyio.sleep(1)
    assert world.server.watching == 0, "it names none any more"


async def test_one_user_cannot_have_any_number_of_objects_watched(world: World) -> None:
    world.inputs.begin(SHOP)
    for number in range(NAMED_MAX):
        await world.inputs.get(SHOP, numbered(number))
    with pytest.raises(BadRequestError, match=f"more than {NAMED_MAX}"):
        await world.inputs.get(SHOP, numbered(NAMED_MAX))
    assert world.server.watching == NAMED_MAX
    assert await world.inputs.get(SHOP, numbered(0)) is None
    await world.inputs.get(SRC, numbered(NAMED_MAX))
    world.inputs.begin(SHOP)  # by another spec, whose passes never came to their end
    await world.inputs.get(SHOP, numbered(NAMED_MAX + 1))
    await anyio.sleep(1)
    assert world.server.watching == 2


async def test_what_is_released_can_be_asked_for_again(world: World) -> None:
    await world.inputs.get(SHOP, KEY)
    world.inputs.release(SHOP)
    await anyio.sleep(1)
    assert world.server.watching == 0
    assert await world.inputs.get(SHOP, KEY) is None
    await anyio.sleep(1)
    assert world.server.watching == 1
