"""ExternalArtifact (contract 2.9): another controller reconciles it, and what its status offers is taken in."""

import msgspec

from tidelog.engine.kinds.externalartifact import ExternalArtifactStatus
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.driver import Driver, News, of_kind
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource
from tidelog.engine.sources.external import Offer
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.events.names import Revision


class ExternalDriver(Driver):
    """Takes in what one ExternalArtifact offers."""

    def __init__(self, engine: Engine, declared: DeclaredSource, _: Run) -> None:
        self._engine = engine
        self._status = of_kind(declared.status, ExternalArtifactStatus)
        row = engine.memory.desired.get(declared.stream)
        self._known = None if row is None else row.artifact

    async def ask(self) -> Head | None:
        """See `Driver`."""
        artifact = self._status.artifact
        if artifact is None:
            return None
        return Offer(Revision(artifact.revision), artifact.url, artifact.digest, artifact.metadata)

    async def fetch(self, head: Head) -> Fetched:
        """See `Driver`."""
        offer = of_kind(head, Offer)
        return msgspec.structs.replace(await self._engine.fetchers.external.fetch(offer), metadata=offer.metadata)

    def is_outdated(self) -> bool:
        """See `Driver`: the same revision may come with other content."""
        artifact = self._status.artifact
        is_ours = artifact is not None and artifact.digest.startswith("sha256:")
        return is_ours and artifact is not None and artifact.digest != self._known

    def news(self, fetched: Fetched) -> News:
        """See `Driver`."""
        return News(message=f"stored artifact for revision '{fetched.revision}'")
