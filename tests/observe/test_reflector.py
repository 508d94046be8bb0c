"""The reflector on a model of a server that does, by a seed or by a script, what servers and networks do."""

import copy
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from tidelog.engine.cluster.errors import (
    ClusterError,
    GoneError,
    NotFoundError,
    ServerError,
    Status,
    TooManyRequestsError,
    UnreachableError,
)
from tidelog.engine.cluster.port import Kind, Listing, WatchEvent
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.reflector import Pace, Reflector, Watched
from tidelog.engine.observe.room import Hall, Room
from tidelog.events.names import ObjectKey

WIDGET = Kind("example.com", "v1", "Widget", "widgets", namespaced=True)
AT_ONCE = Pace(retry_min_s=0, retry_max_s=0)
PATIENCE_S = 20.0


class Server:
    """The truth: objects, versions, and what has changed, as far back as it remembers."""

    def __init__(self) -> None:
        self.objects: dict[str, KubeObject] = {}
        self.history: list[tuple[int, WatchEvent]] = []
        self.version = 100
        self.forgotten = 0
        self.uids = 0
        self.news = anyio.Event()

    def put(self, name: str, *, recreate: bool = False) -> None:
        there = self.objects.get(name)
        if there is not None and recreate:
            self.remove(name)
            there = None
        self.version += 1
        if there is None:
            self.uids += 1
        uid = f"uid-{self.uids}" if there is None else there["metadata"]["uid"]
        metadata = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(self.version)}
        self.objects[name] = {"metadata": metadata, "spec": {"version": self.version}}
        self._say("ADDED" if there is None else "MODIFIED", self.objects[name])

    def remove(self, name: str) -> None:
        self.version += 1
        gone = copy.deepcopy(self.objects.pop(name))
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._say("DELETED", gone)

    def forget(self) -> None:
        """Compacts: what has been, no watch gets any more."""
        self.forgotten = self.version

    def _say(self, kind: str, obj: KubeObject) -> None:
        event = WatchEvent(kind, copy.deepcopy(obj))  # type: ignore[arg-type]
        self.history.append((self.version, event))
        self.news.set()
        self.news = anyio.Event()

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        assert (kind, namespace) == (WIDGET, "ns")
        if name not in self.objects:
            raise NotFoundError(f"no widget {name}")
        return copy.deepcopy(self.objects[name])

    async def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing, None]:
        items, version = copy.deepcopy(list(self.objects.values())), str(self.version)
        for first in range(0, max(len(items), 1), 2):
            yield Listing(items[first : first + 2], version)

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        at = int(resource_version)
        while True:
            if at < self.forgotten:
                raise GoneError("too old resource version")
            news = self.news
            for version, event in list(self.history):
                if version > at:
                    yield copy.deepcopy(event)
                    at = version
            await news.wait()


class Model:
    """A handler that believes what it is told, and refuses to be told twice or wrongly."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.objects: dict[str, KubeObject] = {}
        self.told: list[str] = []
        self._heard = anyio.Event()

    async def changed(self, obj: KubeObject) -> None:
        await anyio.lowlevel.checkpoint()
        assert (obj["apiVersion"], obj["kind"]) == ("example.com/v1", "Widget")
        name, uid, version = (obj["metadata"][field] for field in ("name", "uid", "resourceVersion"))
        before = self.objects.get(name)
        if before is not None:
            assert before["metadata"]["uid"] == uid, "another object, before the first was said to be gone"
            assert int(before["metadata"]["resourceVersion"]) < int(version), "told twice, or back in time"
        self.objects[name] = obj
        self._hear(f"{name} changed")

    async def gone(self, key: ObjectKey, uid: str) -> None:
        await anyio.lowlevel.checkpoint()
        assert key[:3] == ("example.com", "Widget", "ns")
        there = self.server.objects.get(key.name)
        assert there is None or there["metadata"]["uid"] != uid, "it is not gone"
        assert self.objects.pop(key.name)["metadata"]["uid"] == uid
        self._hear(f"{key.name} gone")

    async def interrupted(self, why: str) -> None:
        assert why
        assert not self.told or self.told[-1] != "interrupted", "told twice"
        self._hear("interrupted")

    async def resumed(self) -> None:
        self._hear("resumed")

    def _hear(self, what: str) -> None:
        self.told.append(what)
        self._heard.set()
        self._heard = anyio.Event()

    async def until(self, what: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while what not in self.told:
                await self._heard.wait()

    async def until_true(self) -> None:
        """Until it is as the server is."""
        with anyio.fail_after(PATIENCE_S):
            while self.seen() != _specs(self.server.objects):
                await self._heard.wait()

    def seen(self) -> dict[str, tuple[str, int]]:
        return _specs(self.objects)


def _specs(objects: dict[str, KubeObject]) -> dict[str, tuple[str, int]]:
    return {name: (obj["metadata"]["uid"], obj["spec"]["version"]) for name, obj in objects.items()}


async def watching(
    server: Watched,
    model: Model,
    then: Callable[[], Awaitable[None]],
    pace: Pace = AT_ONCE,
    room: Room | None = None,
) -> Reflector:
    """Runs `then` while a reflector runs, and cancels the reflector after it."""
    reflector = Reflector(server, WIDGET, pace=pace, chance=lambda: 0.5, room=room)
    async with anyio.create_task_group() as group:
        group.start_soon(reflector.run, model)
        await then()
        group.cancel_scope.cancel()
    return reflector


async def test_what_is_there_is_told_before_that_all_is_watched() -> None:
    server = Server()
    for name in "abcde":
        server.put(name)
    model = Model(server)
    reflector = await watching(server, model, lambda: model.until("resumed"))
    assert model.told == ["a changed", "b changed", "c changed", "d changed", "e changed", "resumed"]
    assert len(reflector) == 5


async def test_each_change_is_told_in_its_order() -> None:
    server = Server()
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        server.put("a")
        server.put("b")
        server.put("a")
        server.remove("b")
        await model.until("b gone")

    await watching(server, model, change)
    assert model.told == ["resumed", "a changed", "b changed", "a changed", "b gone"]


class Scripted(Server):
    """A server whose next calls go wrong as told: per method, an error for the next call, or None to let it be."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, list[ClusterError | None]] = {"get": [], "pages": [], "watch": []}
        self.calls: list[str] = []

    def fail(self, method: str, *errors: ClusterError | None) -> None:
        self.failing[method] += errors

    def _next(self, method: str) -> None:
        self.calls.append(method)
        error = self.failing[method].pop(0) if self.failing[method] else None
        if error is not None:
            raise error

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        self._next("get")
        return await super().get(kind, namespace, name)

    async def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing, None]:
        async for page in super().pages(kind):
            self._next("pages")
            yield page

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        self._next("watch")
        async for event in super().watch(kind, resource_version=resource_version):
            yield event
            self._next("watch")


async def test_a_dropped_connection_is_taken_up_where_it_was_without_a_gap() -> None:
    server = Scripted()
    model = Model(server)
    server.fail("watch", None, UnreachableError("dropped"))

    async def change() -> None:
        await model.until("resumed")
        server.put("a")
        await model.until("a changed")
        server.put("b")
        await model.until("b changed")

    await watching(server, model, change)
    assert model.told == ["resumed", "a changed", "b changed"]
    assert server.calls.count("pages") == 1


async def test_a_connection_that_cannot_be_had_again_is_a_gap_that_ends_with_a_list() -> None:
    server = Scripted()
    model = Model(server)
    server.fail("watch", None, UnreachableError("dropped"), UnreachableError("refused"))
    server.fail("pages", None, UnreachableError("refused"), ServerError("starting"))

    async def change() -> None:
        await model.until("resumed")
        server.put("a")
        await model.until("a changed")
        server.put("b")
        await model.until("b changed")

    await watching(server, model, change)
    assert model.told[:4] == ["resumed", "a changed", "interrupted", "b changed"]


@pytest.mark.parametrize(("kind", "code"), [(TooManyRequestsError, 429), (ServerError, 503)])
async def test_a_server_that_asks_for_an_hour_of_quiet_is_not_left_alone_for_so_long(
    kind: type[ClusterError], code: int
) -> None:
    server = Scripted()
    model = Model(server)
    server.put("a")
    server.fail("pages", kind("busy", Status(code, retry_after_s=3600)))
    pace = Pace(retry_min_s=0, retry_max_s=0, asked_max_s=0.2)
    began = anyio.current_time()
    await watching(server, model, lambda: model.until("resumed"), pace)
    assert anyio.current_time() - began >= pace.asked_max_s, "it is heeded as far as that"


async def test_a_version_that_is_forgotten_is_a_gap_and_what_happened_in_it_is_found() -> None:
    server = Scripted()
    model = Model(server)
    for name in "abc":
        server.put(name)

    async def change() -> None:
        await model.until("resumed")
        server.fail("watch", GoneError("too old resource version"))  # for whom is waiting, after the next event
        server.put("d")
        server.remove("a")
        server.put("b", recreate=True)
        server.put("c")
        await model.until_true()

    await watching(server, model, change)
    assert "interrupted" in model.told
    assert model.seen() == _specs(server.objects)


async def test_half_a_list_is_no_reason_to_take_the_other_half_for_gone() -> None:
    server = Scripted()
    for name in "abcdef":
        server.put(name)
    model = Model(server)
    server.fail("pages", None, UnreachableError("dropped"), None, None, GoneError("expired"))
    await watching(server, model, lambda: model.until("resumed"))
    assert model.told == [*(f"{name} changed" for name in "abcdef"), "resumed"]
    assert "get" not in server.calls


class Drifting(Server):
    """A server that forgot what the next page continues, and goes on with the present."""

    async def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing, None]:
        yield Listing([copy.deepcopy(self.objects["a"]), copy.deepcopy(self.objects["b"])], str(self.version))
        self.put("a")
        self.remove("b")
        self.put("c")
        yield Listing([copy.deepcopy(self.objects["c"])], str(self.version))


async def test_what_happens_between_two_pages_of_different_moments_is_seen() -> None:
    server = Drifting()
    for name in "abc":
        server.put(name)
    model = Model(server)
    await watching(server, model, model.until_true)
    assert model.told == ["a changed", "b changed", "c changed", "resumed", "a changed", "b gone"]


class Repeating(Server):
    """Sends what has been, all of it, before what is new."""

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        for _, event in self.history:
            yield copy.deepcopy(event)
        yield _bookmark(1)
        async for event in super().watch(kind, resource_version=resource_version):
            yield event


async def test_what_is_sent_again_is_not_told_again_even_of_what_is_gone() -> None:
    server = Repeating()
    server.put("a")
    server.put("b")
    server.remove("b")
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        server.put("c")
        await model.until("c changed")

    await watching(server, model, change)
    assert model.told == ["a changed", "resumed", "c changed"]


class Lying(Server):
    """Says of an object that is there that it was deleted, as a watch with a selector does when labels change."""

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        async for event in super().watch(kind, resource_version=resource_version):
            yield WatchEvent("DELETED", event.object) if event.type == "MODIFIED" else event


async def test_a_deletion_that_is_none_is_told_as_a_change() -> None:
    server = Lying()
    server.put("a")
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        server.put("a")
        await model.until_true()

    await watching(server, model, change)
    assert model.told == ["a changed", "resumed", "a changed"]


async def test_a_deletion_that_cannot_be_confirmed_is_asked_for_again() -> None:
    server = Scripted()
    server.put("a")
    model = Model(server)
    server.fail("get", UnreachableError("dropped"), ServerError("busy"))

    async def change() -> None:
        await model.until("resumed")
        server.remove("a")
        await model.until("a gone")

    await watching(server, model, change)
    assert server.calls.count("get") == 3


class Deaf(Server):
    """A watch that says nothing at all."""

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        await anyio.sleep_forever()
        yield WatchEvent("BOOKMARK", {})


async def test_what_a_watch_keeps_quiet_about_is_found_by_the_next_list() -> None:
    server = Deaf()
    for name in "abc":
        server.put(name)
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        server.put("a")
        server.remove("b")
        server.put("d")
        await model.until_true()

    await watching(server, model, change, Pace(retry_min_s=0, retry_max_s=0, relist_s=0.02))
    assert model.told.count("resumed") == 1  # nothing was interrupted, as far as anyone knew


class Dozing(Server):
    """A connection that is dead without saying so, the first time."""

    opened = 0

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        self.opened += 1
        if self.opened == 1:
            await anyio.sleep_forever()
        async for event in super().watch(kind, resource_version=resource_version):
            yield event


async def test_a_watch_that_is_silent_for_too_long_is_opened_anew() -> None:
    server = Dozing()
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        server.put("a")
        await model.until("a changed")

    await watching(server, model, change, Pace(retry_min_s=0, retry_max_s=0, idle_s=0.02))
    assert model.told == ["resumed", "a changed"]


async def test_versions_that_went_back_with_a_restored_server_are_believed_when_listed() -> None:
    server = Scripted()
    for name in "ab":
        server.put(name)
    old = copy.deepcopy(server.objects)
    server.put("a")
    told: list[str] = []

    class Notes(Model):
        async def changed(self, obj: KubeObject) -> None:
            name = obj["metadata"]["name"]
            told.append(f"{name} {obj['spec']['version']}")
            self.objects[name] = obj
            self._hear(f"{name} changed")

    model = Notes(server)

    async def change() -> None:
        await model.until("resumed")
        server.objects, server.version, server.history = old, 150, []
        server.fail("watch", GoneError("a future version"))
        server.put("c")
        await model.until_true()

    await watching(server, model, change)
    assert told == ["a 103", "b 102", "c 151", "a 101"]


async def test_no_more_is_read_while_the_handler_is_busy() -> None:
    server = Scripted()
    release, busy = anyio.Event(), anyio.Event()

    class Slow(Model):
        async def changed(self, obj: KubeObject) -> None:
            busy.set()
            await release.wait()
            await super().changed(obj)

    model = Slow(server)

    async def change() -> None:
        await model.until("resumed")
        for name in "abcdef":
            server.put(name)
        await busy.wait()
        await anyio.wait_all_tasks_blocked()
        assert server.calls.count("watch") == 1  # it has not come back for the second event
        release.set()
        await model.until_true()

    await watching(server, model, change)


async def test_an_error_of_the_handler_ends_the_reflector() -> None:
    server = Server()
    server.put("a")

    class Broken(Model):
        async def changed(self, obj: KubeObject) -> None:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await Reflector(server, WIDGET, pace=AT_ONCE).run(Broken(server))


async def test_run_again_after_a_cancellation_it_goes_on_from_what_it_knows() -> None:
    server = Server()
    for name in "abc":
        server.put(name)
    model = Model(server)
    reflector = await watching(server, model, lambda: model.until("resumed"))
    server.remove("a")
    server.put("b")
    async with anyio.create_task_group() as group:
        group.start_soon(reflector.run, model)
        await model.until("a gone")
        await model.until_true()
        group.cancel_scope.cancel()
    assert model.told[4:6] == ["b changed", "a gone"]


class Weather(Server):
    """A server, a network and others at work, by a seed: all that may go wrong does, until the storm is over."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.steps = steps
        self.calm = anyio.Event()
        self.lied = 0
        self._hid = False

    def _step(self) -> None:
        """Others do something, or nothing."""
        if self.steps == 0:
            if not self.calm.is_set():
                self.calm.set()
                if self._hid:  # nothing but a list will find it, so that there has to be one
                    self.version += 1
                    self.forget()
            return
        self.steps -= 1
        name = self._random.choice("abcdefgh")
        match self._random.randrange(10):
            case 0 | 1 | 2 | 3:
                self.put(name)
            case 4:
                self.put(name, recreate=True)
            case 5 | 6 if name in self.objects:
                self.remove(name)
            case 7 if self._random.random() < 0.3:
                self.forget()
            case _:
                pass

    def _perhaps_fail(self, chance: float) -> None:
        if self.steps and self._random.random() < chance:
            errors = (UnreachableError("the connection dropped"), ServerError("the server restarts"), GoneError("410"))
            raise self._random.choice(errors)

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        self._step()
        await anyio.lowlevel.checkpoint()
        self._perhaps_fail(0.2)
        return await super().get(kind, namespace, name)

    async def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing, None]:
        self._perhaps_fail(0.2)
        async for page in super().pages(kind):
            yield page
            self._step()
            await anyio.lowlevel.checkpoint()
            self._perhaps_fail(0.15)

    async def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        at = int(resource_version)
        self._perhaps_fail(0.1)
        while True:
            self._step()
            await anyio.lowlevel.checkpoint()
            if at < self.forgotten:
                raise GoneError("too old resource version")
            fresh = [(version, event) for version, event in self.history if version > at]
            for version, event in fresh[: self._random.randrange(1, 4)]:
                at = version
                if self.steps and self._random.random() < 0.02:
                    self._hid = True  # a change that the watch swallows
                    continue
                yield copy.deepcopy(event)
                self._perhaps_fail(0.05)
            if self.steps and at == self.version and self._random.random() < 0.3:
                async for event in self._noise(at):
                    yield event
                at = max(at, self.lied)
            if self.steps and self._random.random() < 0.1:
                return  # the server ends it, as it does now and then
            if not self.steps and not fresh and self.calm.is_set():
                await anyio.sleep_forever()

    async def _noise(self, at: int) -> AsyncGenerator[WatchEvent, None]:
        """Bookmarks, also of the past; events that were sent before; deletions that never were."""
        match self._random.randrange(4):
            case 0:
                yield _bookmark(at)
            case 1:
                yield _bookmark(self._random.randrange(1, at + 1))
            case 2 if self.history:
                version, event = self._random.choice(self.history)
                if version <= at:
                    yield copy.deepcopy(event)
            case 3 if self.objects:
                self.version = self.lied = self.version + 1
                obj = copy.deepcopy(self._random.choice(list(self.objects.values())))
                obj["metadata"]["resourceVersion"] = str(self.version)
                yield WatchEvent("DELETED", obj)
            case _:
                pass


def _bookmark(version: int) -> WatchEvent:
    return WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


@pytest.mark.parametrize("number", range(150))
async def test_after_any_storm_all_is_known_as_it_is(seed: int, number: int) -> None:
    server = Weather(seed * 1_000 + number, steps=400)
    model = Model(server)

    async def weather() -> None:
        with anyio.fail_after(PATIENCE_S):
            await server.calm.wait()
        await model.until_true()

    reflector = await watching(server, model, weather)
    assert len(reflector) == len(server.objects)


async def test_a_server_that_tells_of_ever_new_objects_goes_unwatched_when_the_room_is_full() -> None:
    server = Server()
    room = Hall(20).room("team")
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        for number in range(100):
            server.put(f"new-{number}")
        await model.until("interrupted")

    reflector = await watching(server, model, change, room=room)
    assert len(reflector) == room.taken == 10
    reflector.forget()
    assert len(reflector) == room.taken == 0


async def test_room_is_given_back_when_objects_go_and_taken_once_for_each() -> None:
    server = Server()
    room = Hall(8).room("team")
    model = Model(server)

    async def change() -> None:
        await model.until("resumed")
        for number in range(30):
            server.put("a")
            server.put("b", recreate=True)
            server.put(f"c-{number}")
            await model.until(f"c-{number} changed")
            server.remove(f"c-{number}")
            await model.until(f"c-{number} gone")
        await model.until_true()

    reflector = await watching(server, model, change, room=room)
    assert len(reflector) == room.taken == 2
    assert "interrupted" not in model.told
