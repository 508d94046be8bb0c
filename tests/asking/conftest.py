"""A store with a target that holds a plan, and a door in it with nobody behind that acts."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias, cast

import anyio
import pytest

from tests.cli.conftest import Done, tidelog
from tidelog.engine.http.unix_door import unix_door
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.requests import Requests
from tidelog.engine.runtime.schedule import Scheduler, Trigger
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import digest_of
from tidelog.events.envelope import Actor, Proof
from tidelog.events.names import PlanId, Revision, RunId, StreamName, TraceId, engine_stream
from tidelog.events.vocabulary import (
    BlastRadius,
    Event,
    PlanHeld,
    Planned,
    Rendered,
    RevisionFetched,
    SourceDeclared,
    TargetDeclared,
)
from tidelog.storage import new_id, open_log, read_views
from tidelog.storage.keys import KeyRing
from tidelog.storage.log.sqlite_log import SqliteEventLog
from tidelog.storage.master_key import find_master_key

__all__ = ["tidelog"]

SOURCE = StreamName("default/source.toolkit.fluxcd.io/GitRepository/flux-system/fleet")
TARGET = StreamName("default/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/apps")
SECRET = StreamName("default/core/Secret/shop/pw")
PLAN = PlanId("plan-0123456789abcdef")
REVISION = Revision("main@sha1:" + "a" * 40)
ADA = Actor(kind="user", name="ada", proof=Proof(kind="claimed"))
PLANTED = "hunter2-sekrit"

Run: TypeAlias = Callable[..., Done]


class Inside(NamedTuple):
    """What is behind a door."""

    memory: Memory
    requests: Requests
    woken: list[tuple[StreamName, Trigger]]
    daemon: Daemon


async def nothing(_: StreamName, __: Trigger) -> float | None:
    return None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a source, a target at its revision, and a plan that is held; no cluster is at hand."""
    directory = tmp_path / "store"
    monkeypatch.setenv("TIDELOG_STORE", str(directory))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    anyio.run(make_store, directory)
    return directory


async def make_store(directory: Path) -> None:
    async with open_log(directory) as log:
        memory = await memory_of(log)
        spec = Body.of(encode({"path": "./apps", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}))
        objects = Body.of(encode([["core/ConfigMap/shop/web", digest_of(b"web"), "v1"]]))
        read = Body.of(encode([]))
        run = Origin(run=RunId(new_id()), trace=TraceId(new_id()))
        await memory.append(SOURCE, [SourceDeclared(uid="s", generation=1, spec=spec.ref)], Origin(), bodies=[spec])
        fetched = RevisionFetched(revision=REVISION, tree="t" * 40, artifact=digest_of(b"tar"), size=3)
        await memory.append(SOURCE, [fetched], Origin())
        await memory.append(TARGET, [TargetDeclared(uid="t", generation=1, spec=spec.ref)], Origin(), bodies=[spec])
        events: list[Event] = [
            Rendered(
                revision=REVISION,
                inputs=digest_of(b"inputs"),
                read_set=read.ref,
                toolchain=(),
                set=objects.ref.digest,
                objects=objects.ref,
                count=1,
            ),
            Planned(
                plan=PLAN, revision=REVISION, set=objects.ref.digest, waves=read.ref, blast_radius=BlastRadius(delete=9)
            ),
            PlanHeld(plan=PLAN, check="prune-guard", why=f"plan {PLAN} is held"),
        ]
        await memory.append(TARGET, events, run, bodies=[read, objects])
        keys = await keys_of(log)
        (await keys.key(SECRET)).seal(PLANTED.encode())


async def memory_of(log: SqliteEventLog) -> Memory:
    memory = Memory(log)
    await memory.load(read_views(log))
    return memory


async def keys_of(log: SqliteEventLog) -> KeyRing:
    master = await anyio.to_thread.run_sync(lambda: find_master_key(log.layout, {}, create=True))
    return await anyio.to_thread.run_sync(KeyRing.open, log.layout, master)


@asynccontextmanager
async def door_of(store: Path, **fields: Any) -> AsyncIterator[Inside]:
    """The real door of a store, behind which requests are taken and nothing is done."""
    async with open_log(store) as log:
        memory = await memory_of(log)
        woken: list[tuple[StreamName, Trigger]] = []
        requests = Requests(
            memory,
            read_views(log),
            engine_stream(log.identity.log),
            keys=await keys_of(log),
            wake=lambda stream, trigger: woken.append((stream, trigger)),
            **fields,
        )
        serving = anyio.Event()
        serving.set()
        scheduler = Scheduler(nothing, 1)
        engine = SimpleNamespace(memory=memory, targets=scheduler, sources=Scheduler(nothing, 1))
        daemon = cast("Daemon", SimpleNamespace(requests=requests, serving=serving, waits_for="", engine=engine))
        async with unix_door(daemon, store):
            yield Inside(memory, requests, woken, daemon)
