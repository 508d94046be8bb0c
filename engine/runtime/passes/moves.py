"""Objects that go from one target to another: handed over, never deleted and made anew.

Who no longer wants an object keeps it while another target is about to want it, and lets go of it once that has applied
it. Who wants it may take it as soon as the newest set of its owner does not have it any more. So whichever of the two
comes first, and whatever ends a daemon in between, the object stays where it is, in the inventory of one of them.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, TypeAlias

import anyio
import msgspec

from tidelog.engine.cluster.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.kinds.meta import KUSTOMIZATION, applier_of
from tidelog.engine.runtime.leads import Beside
from tidelog.engine.runtime.passes.situation import identity_of
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.runtime.wishes import Wishes
from tidelog.engine.tasks import one_error
from tidelog.events.names import ObjectId, ObjectKey, StreamName

LOOKS_MAX = 4
"""Targets that are looked at at once."""
LOOK_S = 60.0
"""How long builds may begin, of all targets together, to know what they want: many may hang (on a remote base)."""

_NOT_FORBIDDEN = (InvalidError, ConflictError, BadRequestError, NotFoundError)
"""What an API server answers to who may write, about what is written."""

TargetsOf: TypeAlias = Callable[[], Mapping[StreamName, DeclaredKustomization]]
BesideOf: TypeAlias = Callable[[Mapping[StreamName, DeclaredKustomization]], Awaitable[Beside]]
"""Those of some targets that are applied to the cluster that this is about."""


class UnsettledError(Exception):
    """Raised when it cannot be told yet whether an object is about to be wanted; the text says why."""


class Heir(msgspec.Struct, frozen=True):
    """A target that an object is left to, and the words for it."""

    target: StreamName
    why: str
    sure: bool = True


class Moves:
    """What is known of objects that come to one target, or go from it.

    Args:
        wishes: tells what targets want.
        targets: all of them.
        beside: tells which of them are applied to the same cluster.
        cluster: that one.
        home: the cluster that targets are in.
        settings: whom they act as.
        own: the target.
    """

    def __init__(
        self,
        wishes: Wishes,
        targets: TargetsOf,
        beside: BesideOf,
        cluster: Cluster,
        home: Cluster,
        settings: Settings,
        own: DeclaredKustomization,
    ) -> None:
        self._wishes = wishes
        self._targets = targets
        self._beside = beside
        self._cluster = cluster
        self._home = home
        self._settings = settings
        self._own = own

    async def heirs(self, ids: Iterable[ObjectId]) -> dict[ObjectId, Heir]:
        """Who is about to want the objects that this target would prune; of nobody's, nothing.

        The target itself is among them: it may want an object again by a revision that came during the pass. So are
        Kustomizations that another is about to make, or to change: the same commit may do that, and in any order.

        Raises:
            ClusterError: when the cluster cannot be asked who may write.
            UnsettledError: when one may want them of which it is not known yet what cluster it is applied to.
        """
        keys = {ObjectKey.parse(id) for id in ids}
        if not keys:
            return {}
        found: dict[ObjectKey, Heir] = {}
        limiter = anyio.CapacityLimiter(LOOKS_MAX)
        deadline = anyio.current_time() + LOOK_S

        coming: list[DeclaredKustomization] = []

        def left() -> set[ObjectKey]:
            return {key for key in keys if key not in found or not found[key].sure}

        async def look(target: DeclaredKustomization) -> None:
            async with limiter:
                await self._look(target, left(), found, deadline)

        async def look_ahead(target: DeclaredKustomization) -> None:
            async with limiter:
                made = await self._wishes.coming(target, deadline) if left() else []
                coming.extend([one for one in made if await self._may_make(target, one.key)])

        async def each(
            work: Callable[[DeclaredKustomization], Coroutine[Any, Any, None]],
            some: Mapping[StreamName, DeclaredKustomization],
        ) -> None:
            with one_error():
                async with anyio.create_task_group() as tasks:
                    for _, target in sorted(some.items()):
                        tasks.start_soon(work, target)

        targets = dict(self._targets())
        beside = await self._beside(targets)
        await each(look, beside.here)
        await each(look_ahead, targets)
        to_come = await self._beside({one.stream: one for one in coming})
        await each(look, to_come.here)
        unsettled = {**beside.unsettled, **to_come.unsettled}
        if unsettled and left():
            await self._wait_for(unsettled, left(), deadline)
        return {key.id: heir for key, heir in found.items()}

    async def _wait_for(
        self, unsettled: Mapping[StreamName, DeclaredKustomization], keys: Collection[ObjectKey], deadline: float
    ) -> None:
        """Nobody of whom it is not known yet where he applies wants any of these, wherever that is.

        Raises:
            UnsettledError: when one of them does.
        """
        for stream in sorted(unsettled):
            wants = await self._wishes.of(unsettled[stream], keys, deadline, self._cluster)
            some = sorted(wants.surely | wants.perhaps)
            if some:
                raise UnsettledError(
                    f"{unsettled[stream].key.shown} may want {some[0].shown}, and it is not known yet whether its "
                    "kubeconfig leads to the same cluster"
                )

    async def _look(
        self, target: DeclaredKustomization, keys: Collection[ObjectKey], found: dict[ObjectKey, Heir], deadline: float
    ) -> None:
        if not keys:
            return
        wants = await self._wishes.of(target, keys, deadline, self._cluster)
        for key in sorted(wants.surely):
            if (key not in found or not found[key].sure) and await self._may_write(target, key):
                suspended = ", which is suspended" if target.suspended else ""
                found[key] = Heir(target.stream, f"left to {target.key.shown}{suspended}")
        for key in sorted(wants.perhaps):
            if key not in found and await self._may_write(target, key):
                why = f"kept: it may stand in the files of {target.key.shown}, which cannot be built"
                found[key] = Heir(target.stream, why, sure=False)

    async def _may_write(self, target: DeclaredKustomization, key: ObjectKey) -> bool:
        """Whether a target can take an object over: else a tenant could keep from deletion what is not theirs."""
        identity = identity_of(target, self._settings)
        return key.namespace == target.key.namespace or await self._is_allowed(identity, key, self._cluster)

    async def _may_make(self, target: DeclaredKustomization, key: ObjectKey) -> bool:
        """Whether a target can apply a Kustomization that it lists: what that would want counts only then."""
        return await self._is_allowed(identity_of(target, self._settings), key, self._home)

    async def _is_allowed(self, identity: Identity | None, key: ObjectKey, cluster: Cluster) -> bool:
        if identity is None or (cluster is self._cluster and identity == identity_of(self._own, self._settings)):
            return True
        kind = await cluster.find_kind(key.group, key.kind)
        if kind is None:
            return True
        metadata = {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})}
        asked = {"apiVersion": kind.api_version, "kind": key.kind, "metadata": metadata}
        try:
            await cluster.apply(asked, manager=applier_of(KUSTOMIZATION[1]), dry_run=True, identity=identity)
        except ForbiddenError:
            return False
        except _NOT_FORBIDDEN:
            pass
        return True

    async def freed(self, owners: Mapping[ObjectId, StreamName]) -> frozenset[ObjectId]:
        """Which objects of other targets may be taken over: those that their owners do not want any more."""
        freed: set[ObjectId] = set()
        targets = self._targets()
        asked = {owner: targets[owner] for owner in set(owners.values()) if owner in targets}
        for owner, target in sorted((await self._beside(asked)).here.items()):
            keys = {ObjectKey.parse(id) for id, one in owners.items() if one == owner}
            freed |= {key.id for key in await self._wishes.gives_up(target, keys, self._cluster)}
        return frozenset(freed)
