"""An embedded cluster whose clock stands still, and whose controllers work when a test says so."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread

from tidelog.engine.cluster.embedded import builtin, tables
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.bootstrap import bootstrap
from tidelog.engine.cluster.embedded.caretaker import Caretaker
from tidelog.engine.cluster.embedded.cluster import ADMIN
from tidelog.engine.cluster.embedded.registry import Registry
from tidelog.engine.cluster.embedded.requests import Request, User, parse_url
from tidelog.engine.cluster.embedded.standins import Pace, StandIns
from tidelog.engine.cluster.embedded.store import Store
from tidelog.engine.cluster.embedded.strategies import DEFINITIONS
from tidelog.engine.cluster.embedded.tokens import Tokens
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.observe.health import ObjectHealth, health_of

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
READY_S = 5.0
ROUNDS_MAX = 200
WATCH_S = 5.0
CORE = "/api/v1/namespaces/test"
APPS = "/apis/apps/v1/namespaces/test"
BATCH = "/apis/batch/v1/namespaces/test"


class Small:
    """The cluster, asked as its administrator, if not said otherwise."""

    def __init__(self, api: Api, caretaker: Caretaker, now: list[float]) -> None:
        self.api, self.store = api, api.store
        self._now = now
        self._caretaker = caretaker
        self._stand_ins = StandIns(api, lambda: self._now[0], Pace(READY_S))

    async def settle(self) -> None:
        """Lets the controllers do all that is to be done by now."""
        for _ in range(ROUNDS_MAX):
            before = self.store.version
            await self._caretaker.settle()
            await self._stand_ins.settle()
            if self.store.version == before:
                return
        raise AssertionError("the controllers do not come to rest")

    async def after(self, seconds: float) -> None:
        """Lets time pass, a second at a time."""
        await self.settle()
        while seconds > 0:
            self._now[0] += min(1.0, seconds)
            seconds -= 1.0
            await self.settle()

    async def answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: User = ADMIN,
        patch: str = MERGE,
        accept: str = "application/json",
    ) -> tuple[int, Any]:
        where, query = parse_url(path)
        sent = b"" if body is None else json.dumps(body).encode()
        kind = patch if method == "PATCH" else "application/json"
        answer = await self.api.handle(Request(method, where, query, user, sent, kind, accept, "python"))
        told = json.loads(answer.body) if answer.content_type == "application/json" else answer.body
        return answer.status, told

    async def ask(self, method: str, path: str, body: Any = None, *, accept: str = "application/json") -> Any:
        status, told = await self.answer(method, path, body, accept=accept)
        assert status < 300, told
        return told

    async def create(self, path: str, body: Any) -> Any:
        return await self.ask("POST", path, body)

    async def get(self, path: str) -> Any:
        return await self.ask("GET", path)

    async def patch(self, path: str, body: Any) -> Any:
        return await self.ask("PATCH", path, body)

    async def patch_as(self, kind: str, path: str, body: Any) -> Any:
        """A patch of another kind than a merge patch."""
        status, told = await self.answer("PATCH", path, body, patch=kind)
        assert status < 300, told
        return told

    async def delete(self, path: str, propagation: str = "Background") -> Any:
        return await self.ask("DELETE", path, {"propagationPolicy": propagation})

    async def names(self, path: str) -> list[str]:
        return [one["metadata"]["name"] for one in await self.items(path)]

    async def items(self, path: str) -> list[Any]:
        items: list[Any] = (await self.get(path))["items"]
        return items

    async def exists(self, path: str) -> bool:
        return (await self.answer("GET", path))[0] == 200

    async def watch(self, path: str, most: int) -> list[Any]:
        """The first changes that a watch tells of, until it ends."""
        where, query = parse_url(path)
        request = Request("GET", where, {**query, "watch": "true"}, ADMIN, accept="application/json")
        answer = await self.api.handle(request)
        assert answer.stream is not None, answer.body
        taken: list[Any] = []
        with anyio.fail_after(WATCH_S):
            async with aclosing(answer.stream) as pieces:
                async for piece in pieces:
                    taken.append(json.loads(piece))
                    if len(taken) == most:
                        break
        return taken

    @asynccontextmanager
    async def watching(self, path: str, most: int) -> AsyncIterator[list[Any]]:
        """A watch that has begun when the block does; what it tells is there after the block."""
        taken: list[Any] = []

        async def watch() -> None:
            taken.extend(await self.watch(path, most))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            yield taken

    async def health(self, path: str) -> ObjectHealth:
        return health_of(await self.get(path), datetime.fromtimestamp(self._now[0], UTC))


@asynccontextmanager
async def open_small(store: Store | None = None) -> AsyncIterator[Small]:
    """A cluster with a namespace `test`; of a store, as `open_embedded` takes it up."""
    now = [1_800_000_000.0]
    for load in (builtin.load, tables.load):
        await anyio.to_thread.run_sync(load)
    async with Evaluator() as judge:
        api = Api(store or Store(), Registry(), judge, Tokens({}, lambda: now[0]), lambda: now[0])
        for record in list(api.store.bucket(DEFINITIONS).between("")):
            api.serve(record.key.name)
        caretaker = Caretaker(api)
        caretaker.begin()
        await bootstrap(api)
        small = Small(api, caretaker, now)
        await small.settle()
        if not await small.exists(CORE):
            await small.create("/api/v1/namespaces", {"metadata": {"name": "test"}})
            await small.settle()
        yield small
