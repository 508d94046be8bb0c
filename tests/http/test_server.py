"""The daemon's HTTP: health, metrics, and the door through which requests come."""

import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import anyio
import anyio.to_thread
import msgspec
import pytest
from anyio.abc import SocketStream

from tests.events.logs import target
from tidelog.engine.http.server import address_of, serving
from tidelog.engine.http.taking import BODY_BYTES_MAX
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.requests import Requests
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.serving import CONNECTIONS_MAX
from tidelog.events.bodies import Body
from tidelog.events.names import engine_stream
from tidelog.events.vocabulary import Marked, ReconcileRequested, TargetDeclared
from tidelog.storage import Query, open_log, open_views
from tidelog.storage.layout import Layout

SHOP = target("east", "shop")


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "s"


class Served:
    """A daemon's HTTP, without the daemon."""

    def __init__(self, store: Path, memory: Memory, requests: Requests, address: str) -> None:
        self.store = store
        self.memory = memory
        settings = msgspec.structs.replace(
            Settings(), storage_addr="", health_addr=address, metrics_addr=address, webhook_addr=""
        )
        self.serving = anyio.Event()
        self.waits_for = ""
        declared = SimpleNamespace(sources={}, targets={}, source=lambda _: None, target=lambda _: None)
        self.requests = requests
        self.engine = SimpleNamespace(settings=settings, artifacts=None, declared=declared, memory=memory, where={})
        self.address = address

    @asynccontextmanager
    async def door(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.UnixConnector(path=str(Layout(self.store).door))
        async with aiohttp.ClientSession("http://door", connector=connector) as session:
            yield session

    async def ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        async with self.door() as session, session.post("/v1/requests", data=body) as answer:
            read = await answer.read()
            return answer.status, msgspec.json.decode(read) if read.startswith(b"{") else {}

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}{path}") as answer:
            return answer.status, await answer.text()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def a_server(store: Path) -> AsyncIterator[Served]:
    async with open_log(store) as log, open_views(log) as views:
        memory = Memory(log)
        await memory.load(views)
        spec = Body.of(b"{}")
        await memory.append(SHOP, [TargetDeclared(uid="u", generation=1, spec=spec.ref)], Origin(), bodies=[spec])
        requests = Requests(memory, views, engine_stream(log.identity.log))
        served = Served(store, memory, requests, free_address())
        metrics = Metrics()
        memory.listen(metrics._heard(cast("Any", served.engine)))
        async with serving(cast("Daemon", served), metrics, store):
            yield served


@pytest.fixture
async def served(store: Path) -> AsyncIterator[Served]:
    async with a_server(store) as served:
        yield served


async def test_it_is_healthy_at_once_and_ready_when_it_serves(served: Served) -> None:
    assert await served.get("/healthz") == (200, "ok\n")
    assert await served.get("/readyz") == (503, "it is starting\n")
    served.waits_for = "another (Lease x)"
    assert await served.get("/readyz") == (503, "it waits for another (Lease x)\n")
    served.serving.set()
    assert await served.get("/readyz") == (200, "ok\n")


async def test_metrics_count_what_is_recorded(served: Served) -> None:
    await served.ask(b'{"verb": "mark", "label": "release"}')
    status, text = await served.get("/metrics")
    assert status == 200
    assert 'tidelog_events_total{type="Marked"} 1.0' in text
    assert f"tidelog_log_position {float(served.memory.position)}" in text
    assert "process_resident_memory_bytes " in text


async def test_a_request_is_recorded_with_who_asked_as_the_kernel_knows_it(served: Served) -> None:
    asked = msgspec.json.encode({"verb": "reconcile", "target": SHOP, "why": "now"})
    status, answer = await served.ask(asked)
    assert (status, answer["position"]) == (200, served.memory.position)
    last = await served.memory.log.last(Query(stream=SHOP))
    assert last is not None
    assert isinstance(last.event, ReconcileRequested)
    assert (last.event.why, last.envelope.time) == ("now", answer["time"])
    actor = last.envelope.actor
    assert (actor.kind, actor.name) == ("user", pwd.getpwuid(os.getuid()).pw_name)
    assert (actor.proof.kind, actor.proof.by) == ("authenticated", "unix-socket")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", "Expected `object`"),
        (b"\xff\xfe", ""),
        (b'{"verb": "explode"}', "explode"),
        (b'{"verb": "reconcile"}', "there is no"),
        (b'{"verb": "reconcile", "target": "east/core/Pod/a/b"}', "east/core/Pod/a/b"),
        (b'{"verb": "approve", "plan": "plan-1", "why": "x"}', "plan-1"),
        (b'{"verb": "mark"}', "label"),
        (b'{"verb": "mark", "label": "' + b"x" * 1_000 + b'"}', "label"),
        (b'{"verb": "mark", "label": "x", "why": "' + b"y" * 3_000 + b'"}', "the reason has 3000 characters"),
        (b'{"verb": "suspend", "target": "' + SHOP.encode() + b'", "why": " "}', "why"),
        (b'{"verb": "suspend", "target": "' + SHOP.encode() + b'", "why": "x", "until": "soon"}', "soon"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence_and_not_recorded(
    served: Served, body: bytes, words: str
) -> None:
    position = served.memory.position
    status, answer = await served.ask(body)
    assert status == 400
    assert words in answer["error"]
    assert answer["error"]
    assert served.memory.position == position


async def test_a_request_that_is_too_large_is_refused(served: Served) -> None:
    status, _ = await served.ask(b'{"verb": "mark", "label": "' + b"x" * BODY_BYTES_MAX + b'"}')
    assert status == 413


async def test_many_requests_at_once_are_each_recorded_once(served: Served) -> None:
    before = served.memory.position
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(served.ask, msgspec.json.encode({"verb": "mark", "label": f"mark {number}"}))
    marks = [one.event async for one in served.memory.log.read(Query(after=before, types=("Marked",)))]
    assert sorted(mark.label for mark in marks if isinstance(mark, Marked)) == sorted(f"mark {n}" for n in range(20))


async def test_the_door_is_its_owners_only(served: Served) -> None:
    found = await anyio.to_thread.run_sync(Layout(served.store).door.stat)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_files_that_are_made_meanwhile_have_the_rights_that_they_had(store: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    async with a_server(store):
        assert os.umask(before) == before


async def test_a_socket_that_a_killed_daemon_left_behind_is_in_nobodys_way(store: Path) -> None:
    async with a_server(store):
        pass
    door = Layout(store).door
    assert not door.exists(), "nothing is left behind"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(door))
    async with a_server(store) as served:
        assert (await served.ask(b'{"verb": "mark", "label": "x"}'))[0] == 200


async def test_an_address_that_is_taken_is_named(store: Path) -> None:
    async with a_server(store) as first:
        port = first.address.rpartition(":")[2]
        with pytest.raises(OSError, match=rf"addr .*:{port}: another program listens there; give another .* with --"):
            async with serving(cast("Daemon", first), Metrics(), store):
                pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9090", ("0.0.0.0", 9090)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_read_as_go_writes_it(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["", "9090", "a:b", "127.0.0.1:", ":-1"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it like :9090"):
        address_of(text)


async def test_connections_that_say_nothing_are_ended_for_new_ones(served: Served) -> None:
    host, port = served.address.split(":")
    opened: list[SocketStream] = []
    try:
        while len(opened) < CONNECTIONS_MAX + 50:
            opened += [await anyio.connect_tcp(host, int(port))]
        assert await served.get("/healthz") == (200, "ok\n")
        for one in opened[:50]:
            with anyio.fail_after(5), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await one.receive()
        with anyio.move_on_after(0.1):
            await opened[-1].receive()
            raise AssertionError("the newest are left")
    finally:
        for one in opened:
            await one.aclose()


def test_the_daemon_opens_as_many_files_as_it_may() -> None:
    program = (
        "import resource; from tidelog.engine.cli.serve import allow_many_files as allow;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard));"
        "allow(); print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"
