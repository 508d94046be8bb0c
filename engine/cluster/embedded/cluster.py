"""An embedded cluster, whole: its objects, its API and those who look after them."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from tidelog.engine.cluster.embedded import builtin, protobuf, tables
from tidelog.engine.cluster.embedded.access import AUTHENTICATED, MASTERS
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.bootstrap import bootstrap
from tidelog.engine.cluster.embedded.caretaker import Caretaker
from tidelog.engine.cluster.embedded.connection import EmbeddedConnection
from tidelog.engine.cluster.embedded.registry import Registry
from tidelog.engine.cluster.embedded.requests import Handler, User
from tidelog.engine.cluster.embedded.standins import Pace, StandIns
from tidelog.engine.cluster.embedded.store import Store
from tidelog.engine.cluster.embedded.tokens import Tokens
from tidelog.engine.cluster.embedded.writing import DEFINITIONS
from tidelog.engine.cluster.port import OnRequest
from tidelog.engine.cluster.real import RealCluster
from tidelog.engine.objects.rules import Judge

ADMIN = User("kubernetes-admin", (MASTERS, AUTHENTICATED))


class EmbeddedCluster:
    """A cluster in this process. Made by `open_embedded`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def client(
        self, user: User = ADMIN, *, on_request: OnRequest | None = None, handler: Handler | None = None
    ) -> RealCluster:
        """The port, without a socket, as a user; `handler` stands before the API."""
        return RealCluster(EmbeddedConnection(self.api, user, on_request, handler))


@asynccontextmanager
async def open_embedded(
    judge: Judge,
    store: Store | None = None,
    *,
    tokens: Mapping[str, User] = {},
    clock: Callable[[], float] = time.time,
    pace: Pace = Pace(),  # noqa: B008 - immutable
) -> AsyncIterator[EmbeddedCluster]:
    """A cluster that runs while the block lasts.

    Args:
        judge: evaluates the rules of custom kinds.
        store: its objects; new and empty, if not given.
        tokens: who is known, by bearer token.
        clock: the time of day.
        pace: how quick its workloads are.
    """
    objects = store or Store()
    for load in (builtin.load, tables.load, protobuf.load):
        await anyio.to_thread.run_sync(load)
    registry = Registry()
    async with anyio.create_task_group() as tasks:
        api = Api(objects, registry, judge, Tokens(tokens, clock), clock)
        for record in list(objects.bucket(DEFINITIONS).between("")):
            api.serve(record.key.name)
        caretaker = Caretaker(api)
        caretaker.begin()
        await bootstrap(api)
        await caretaker.settle()
        tasks.start_soon(caretaker.run)
        tasks.start_soon(StandIns(api, clock, pace).run)
        yield EmbeddedCluster(api)
        tasks.cancel_scope.cancel()
