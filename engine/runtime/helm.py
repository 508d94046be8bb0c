"""What releases are made with: Helm's SDK, and what is known of charts."""

from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from tidelog.engine.helm.archives import Described, described
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.events.digest import Digest

DESCRIBED_MAX: Final = 512
"""Charts whose Chart.yaml is remembered."""


class HelmTools:
    """What all releases share: a chart is read once, whoever releases it."""

    def __init__(self, renderer: ChartRenderer) -> None:
        self.renderer = renderer
        self._described: dict[Digest, Described] = {}

    async def described(self, artifact: Digest, path: Path) -> Described:
        """What the chart in an artifact says of itself.

        Raises:
            ChartError: when it cannot be read.
        """
        if artifact not in self._described:
            data = await anyio.Path(path).read_bytes()
            told = await anyio.to_thread.run_sync(described, data)
            if len(self._described) >= DESCRIBED_MAX:
                self._described.clear()
            self._described[artifact] = told
        return self._described[artifact]
