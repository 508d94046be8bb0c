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
from tidelog.engine.cluster.embedded.strategies import DEFINITIONS
from tidelog.engine.cluster.embedded.tokens import Tokens
from tidelog.engine.cluster.port import OnRequest
from tidelog.engine.cluster.real import RealCluster
from tidelog.engine.objects.rules import Judge
from tidelog.engine.tasks import one_error

ADMIN = User("kubernetes-admin", (MASTERS, AUTHENTICATED))


class EmbeddedCluster:
    """A cluster in this process. Made by `open_embedded`, and by another one's `fork`."""

    def __init__(self, api: Api, caretaker: Caretaker, stand_ins: StandIns) -> None:
        self.api = api
        self._caretaker = caretaker
        self._stand_ins = stand_ins

    def client(
        self, user: User = ADMIN, *, on_request: OnRequest | None = None, handler: Handler | None = None
    ) -> RealCluster:
        """The port, without a socket, as a user; `handler` stands before the API."""
        return RealCluster(EmbeddedConnection(self.api, user, on_request, handler))

    @property
    def is_at_rest(self) -> bool:
        """Whether its controllers have nothing to do but wait for their time."""
        return self._caretaker.is_at_rest and self._stand_ins.is_at_rest

    @asynccontextmanager
    async def fork(self) -> AsyncIterator["EmbeddedCluster"]:
        """A cluster with all that is in this one now, that runs while the block lasts: for what-if.

        What happens to one of them is not seen in the other. What neither has changed since is there once, so that a
        fork costs little. Its versions go on from here, but for its watches nothing was before.
        """
        api = self.api.fork()
        made = EmbeddedCluster(api, self._caretaker.fork(api), self._stand_ins.fork(api))
        async with made.running():
            yield made

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Has its controllers at work while the block lasts."""
        with one_error():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._caretaker.run)
                tasks.start_soon(self._stand_ins.run)
                yield
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_embedded(
    judge: Judge,
    store: Store | None = None,
    *,
    tokens: Mapping[str, User] = {},
    authority: str = "",
    clock: Callable[[], float] = time.time,
    pace: Pace = Pace(),  # noqa: B008 - immutable
) -> AsyncIterator[EmbeddedCluster]:
    """A cluster that runs while the block lasts.

    Args:
        judge: evaluates the rules of custom kinds.
        store: its objects; new and empty, if not given.
        tokens: who is known, by bearer token.
        authority: what clients are to trust (PEM), where it is served over TLS.
        clock: the time of day.
        pace: how quick its workloads are.
    """
    objects = store or Store()
    for load in (builtin.load, tables.load, protobuf.load):
        await anyio.to_thread.run_sync(load)
    registry = Registry()
    api = Api(objects, registry, judge, Tokens(tokens, clock), clock)
    for record in list(objects.bucket(DEFINITIONS).between("")):
        api.serve(record.key.name)
    caretaker, stand_ins = Caretaker(api, authority), StandIns(api, clock, pace)
    caretaker.begin()
    await bootstrap(api)
    await caretaker.settle()
    stand_ins.begin()
    cluster = EmbeddedCluster(api, caretaker, stand_ins)
    async with cluster.running():
        yield cluster
