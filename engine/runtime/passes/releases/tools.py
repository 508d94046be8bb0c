"""What the objects of releases are made with, in the cluster that they are released in."""

from collections.abc import Iterable

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.capabilities import ClusterCapabilities
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.helm import HelmTools
from tidelog.engine.runtime.sites import Site
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId


class SiteTools:
    """The engine's tools, with what is asked of a cluster asked of that one."""

    def __init__(self, engine: Engine, site: Site) -> None:
        self._engine = engine
        self._site = site

    @property
    def cluster(self) -> Cluster:
        """Is asked for its kinds, and for what charts look up."""
        return self._site.cluster

    @property
    def capabilities(self) -> ClusterCapabilities:
        """What the cluster can do."""
        return self._site.capabilities

    @property
    def renderer(self) -> Renderer:
        """Has kustomize."""
        return self._engine.renderer

    @property
    def helm(self) -> HelmTools:
        """Has Helm's SDK."""
        return self._engine.helm

    async def sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        """What seals some objects that are secret."""
        return await self._engine.sealer(secret, self._site.alias)

    def now(self) -> Time:
        """The present time."""
        return self._engine.now()
