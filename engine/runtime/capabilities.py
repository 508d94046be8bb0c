"""What a cluster can do, as charts ask for it, without asking it for each of them."""

from collections.abc import Callable
from typing import Final, Protocol

import anyio
import msgspec

FRESH_S: Final = 5.0
"""For how long what was asked holds: a burst of releases asks once."""
VERSION_S: Final = 300.0
"""For how long the server's version does: it changes with an upgrade of the control plane."""


class Capabilities(msgspec.Struct, frozen=True):
    """What `.Capabilities` says."""

    kube_version: str
    """As the server says it: `v1.35.4`."""
    api_versions: tuple[str, ...]
    """`apps/v1` and `apps/v1/Deployment`, and nothing that the cluster does not serve."""


class Asked(Protocol):
    """Knows what a cluster serves."""

    async def api_versions(self) -> tuple[str, ...]:
        """What is served now."""
        ...

    async def version(self) -> str:
        """The server's version."""
        ...


class ClusterCapabilities:
    """Keeps for a moment what a cluster can do.

    Args:
        cluster: the cluster.
        clock: gives seconds.
    """

    def __init__(self, cluster: Asked, clock: Callable[[], float] = anyio.current_time) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lock = anyio.Lock()
        self._kept: Capabilities | None = None
        self._until = 0.0
        self._version_until = 0.0

    def forget(self) -> None:
        """Says that kinds have changed."""
        self._until = 0.0

    async def now(self) -> Capabilities:
        """What it can do.

        Raises:
            ClusterError: when it cannot be asked.
        """
        async with self._lock:
            if self._kept is None or self._clock() >= self._until:
                asked = self._clock()
                self._until = asked + FRESH_S  # before it is asked: kinds may change meanwhile
                try:
                    self._kept = await self._ask(self._kept)
                except BaseException:
                    self._until = 0.0
                    raise
            return self._kept

    async def _ask(self, kept: Capabilities | None) -> Capabilities:
        served = await self._cluster.api_versions()
        version = "" if kept is None or self._clock() >= self._version_until else kept.kube_version
        if not version:
            version = await self._cluster.version()
            self._version_until = self._clock() + VERSION_S
        return Capabilities(version, served)
