"""Where kubeconfigs lead, of targets that may not have come to their clusters yet.

What one target does not want any more another may be about to want, in the same cluster. That has to be known before
it is deleted, and the other may not have been at work since the daemon began. So its kubeconfig is looked at for it.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeAlias

import anyio
import msgspec

from tidelog.engine.kinds.targets import KubeConfigReference
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.tasks import one_error
from tidelog.events.names import StreamName

PATIENCE_S: Final = 60.0
"""For how long a kubeconfig may lead nowhere (its Secret is about to come, its server is silent) and be waited for."""
FIND_S: Final = 10.0
"""What one may take to tell where it leads."""
FINDS_MAX: Final = 16
"""Kubeconfigs that are tried at once."""
UNKNOWN_MAX: Final = 4_096

Find: TypeAlias = Callable[[str, KubeConfigReference], Awaitable[str]]
"""The alias that a kubeconfig of a namespace leads to; empty where that cannot be told."""
_Name: TypeAlias = tuple[str, KubeConfigReference]


class Lead(msgspec.Struct, frozen=True):
    """Where a kubeconfig leads; with no alias, it is not known, and may come to be unless that is `settled`."""

    alias: str = ""
    settled: bool = True


class Beside(msgspec.Struct, frozen=True):
    """Of some targets those that are applied to one cluster, and those of which that cannot be told yet."""

    here: Mapping[StreamName, DeclaredKustomization]
    unsettled: Mapping[StreamName, DeclaredKustomization] = msgspec.field(default_factory=dict)


class _Unknown(msgspec.Struct):
    since: float
    tried: float


class Leads:
    """Finds out where kubeconfigs lead, and remembers for how long that could not be told."""

    def __init__(self, find: Find, clock: Callable[[], float] = anyio.current_time) -> None:
        self._find = find
        self._clock = clock
        self._unknown: OrderedDict[_Name, _Unknown] = OrderedDict()

    async def of(
        self, namespace: str, references: Collection[KubeConfigReference]
    ) -> Mapping[KubeConfigReference, Lead]:
        """Where the kubeconfigs of a namespace lead now.

        Raises:
            ClusterError: when it cannot be read what they are.
        """
        found: dict[KubeConfigReference, str] = {}
        limiter = anyio.CapacityLimiter(FINDS_MAX)

        async def look(reference: KubeConfigReference) -> None:
            async with limiter:
                with anyio.move_on_after(FIND_S):
                    found[reference] = await self._find(namespace, reference)

        with one_error():
            async with anyio.create_task_group() as tasks:
                for reference in references:
                    if self._is_due((namespace, reference)):
                        tasks.start_soon(look, reference)
        return {one: self._lead((namespace, one), found.get(one, "")) for one in references}

    def _is_due(self, name: _Name) -> bool:
        """Whether it is worth a try: what led nowhere for so long is not tried for each that would know."""
        known, now = self._unknown.get(name), self._clock()
        return known is None or now - known.since < PATIENCE_S or now - known.tried >= PATIENCE_S

    def _lead(self, name: _Name, alias: str) -> Lead:
        now = self._clock()
        if alias:
            self._unknown.pop(name, None)
            return Lead(alias)
        known = self._unknown.get(name)
        if known is None:
            known = self._unknown[name] = _Unknown(now, now)
            if len(self._unknown) > UNKNOWN_MAX:
                self._unknown.popitem(last=False)
        elif self._is_due(name):
            known.tried = now
        return Lead(settled=now - known.since >= PATIENCE_S)
