"""Objects that are named and not owned: ConfigMaps and Secrets that are read, objects whose health is asked for.

Each is watched by its name while somebody uses it, so that it is asked for once, and its users are woken when it
changes. Content is kept in memory only.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from tidelog.engine.cluster.errors import BadRequestError, ClusterError, ForbiddenError, UnknownKindError
from tidelog.engine.cluster.port import Cluster, Identity, Kind
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.names import ObjectKey, StreamName

RETRY_S = (0.5, 30.0)
FIRST_ANSWER_S = 30
"""How long the first answer about an object may take."""
NAMED_MAX = 256
"""Objects that one source or target may name: each is a connection to the API server for as long as it is named."""

Changed: TypeAlias = Callable[[StreamName, ObjectKey, KubeObject | None], Awaitable[None]]
"""Called for each user of an object that has changed."""


_Asked: TypeAlias = tuple[ObjectKey, str, Identity | None]


class _Named:
    """One object that is watched by its name."""

    def __init__(self, key: ObjectKey, api_version: str, identity: Identity | None) -> None:
        self.key = key
        self.api_version = api_version
        self.identity = identity
        self.users: set[StreamName] = set()
        self.live: KubeObject | None = None
        self.problem: ClusterError | None = None
        self.known = anyio.Event()
        self.scope = anyio.CancelScope()


class Inputs:
    """The objects that sources and targets name."""

    def __init__(self, cluster: Cluster, changed: Changed) -> None:
        self._cluster = cluster
        self._changed = changed
        self._named: dict[_Asked, _Named] = {}
        self._asked: dict[StreamName, set[_Asked]] = {}
        """What each user asked for since its pass began."""
        self._used: dict[StreamName, set[_Asked]] = {}
        """What is watched for each user."""
        self._complete: set[StreamName] = set()
        """Who asks in its pass for all that it uses."""
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Serves, until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                await anyio.sleep_forever()
            finally:  # what was seen of them counts no more: who asks again has them watched anew
                self._tasks = None
                for known in (self._named, self._asked, self._used, self._complete):
                    known.clear()

    async def get(
        self, user: StreamName, key: ObjectKey, api_version: str = "v1", identity: Identity | None = None
    ) -> KubeObject | None:
        """An object as it now is; None when it is not there. From now on `user` is woken when it changes.

        Args:
            user: who asks.
            key: of the object.
            api_version: of the object.
            identity: whose rights decide whether it may be read; the engine's own, where there is none.

        Raises:
            ClusterError: when it cannot be read.
        """
        if self._tasks is None:
            raise RuntimeError("inputs are not being served")
        asked = key, api_version, identity
        self._asked.setdefault(user, set()).add(asked)
        if asked not in self._used.setdefault(user, set()):
            self._refuse_too_many(user)
            self._used[user].add(asked)
        named = self._named.get(asked)
        if named is None:
            named = self._named[asked] = _Named(key, api_version, identity)
            self._tasks.start_soon(self._watch, named)
        named.users.add(user)
        with anyio.fail_after(FIRST_ANSWER_S):
            await named.known.wait()
        if named.problem is not None:
            raise named.problem
        return named.live

    def begin(self, user: StreamName) -> None:
        """Says that a pass of somebody begins: what it uses it will ask for again."""
        self._asked[user] = set()
        self._complete.discard(user)

    def looks(self, user: StreamName) -> None:
        """Says that a pass which began without knowing whether it would now asks for all that it uses."""
        self._complete.add(user)

    def end(self, user: StreamName) -> None:
        """As `settle`, of a pass that may have had nothing to ask for: then all that it uses stays."""
        if user in self._complete:
            self.settle(user)

    def settle(self, user: StreamName) -> None:
        """Says that a pass has asked for all that it uses: what it does not use any more is let go of."""
        self._let_go(user, self._asked.get(user, set()))

    def release(self, user: StreamName) -> None:
        """Says that somebody no longer uses what it asked for; what nobody uses is watched no more."""
        self._let_go(user, set())
        self._complete.discard(user)
        self._asked.pop(user, None)
        self._used.pop(user, None)

    def _let_go(self, user: StreamName, kept: Collection[_Asked]) -> None:
        used = self._used.get(user, set())
        for asked in [one for one in used if one not in kept]:
            used.discard(asked)
            named = self._named[asked]
            named.users.discard(user)
            if not named.users:
                named.scope.cancel()
                del self._named[asked]

    def _refuse_too_many(self, user: StreamName) -> None:
        """Refuses to watch more for one user: each object is a connection, and all share what there is of those."""
        if len(self._used[user]) >= NAMED_MAX:
            self.settle(user)  # some may be of a spec that it has no more
        if len(self._used[user]) >= NAMED_MAX:
            raise BadRequestError(
                f"more than {NAMED_MAX} objects are named (healthChecks, substituteFrom, dependsOn), and each is "
                "watched by itself: name fewer, or set spec.wait in the place of healthChecks"
            )

    async def _watch(self, named: _Named) -> None:
        pause, longest = RETRY_S
        with named.scope:
            while True:
                began = anyio.current_time()
                try:
                    kind = await self._cluster.kind(named.api_version, named.key.kind)
                    await self._follow(named, kind)
                except (ForbiddenError, UnknownKindError) as error:
                    await self._failed(named, error)
                    pause = longest
                except (ClusterError, TimeoutError) as error:
                    if not named.known.is_set():
                        await self._failed(
                            named, error if isinstance(error, ClusterError) else ClusterError(str(error))
                        )
                if anyio.current_time() - began > longest:
                    pause = RETRY_S[0]  # it went well for a while
                await anyio.sleep(pause)
                pause = min(pause * 2, longest)

    async def _follow(self, named: _Named, kind: Kind) -> None:
        namespace, fields = named.key.namespace, f"metadata.name={named.key.name}"
        listing = await self._cluster.list(kind, namespace=namespace, fields=fields, identity=named.identity)
        await self._is(named, listing.items[0] if listing.items else None)
        version = listing.resource_version
        while True:
            changes = self._cluster.watch(
                kind, resource_version=version, namespace=namespace, fields=fields, identity=named.identity
            )
            async with aclosing(changes) as events:
                async for event in events:
                    version = event.object["metadata"]["resourceVersion"]
                    if event.type == "DELETED":
                        await self._is(named, None)
                    elif event.type != "BOOKMARK":
                        await self._is(named, event.object)
            await anyio.sleep(RETRY_S[0])  # the server has ended it, as it does now and then

    async def _is(self, named: _Named, live: KubeObject | None) -> None:
        news = named.known.is_set() and (_version(live) != _version(named.live) or named.problem is not None)
        named.live, named.problem = live, None
        named.known.set()
        if news:
            await self._tell(named)

    async def _failed(self, named: _Named, error: ClusterError) -> None:
        news = named.problem is None and named.known.is_set()
        named.problem = error
        named.known.set()
        if news:
            await self._tell(named)

    async def _tell(self, named: _Named) -> None:
        for user in sorted(named.users):
            await self._changed(user, named.key, named.live)


def _version(live: KubeObject | None) -> str:
    return "" if live is None else str(live["metadata"]["resourceVersion"])
