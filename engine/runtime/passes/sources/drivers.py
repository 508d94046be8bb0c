"""Which driver a source has."""

from collections.abc import Callable
from typing import Final, TypeAlias

from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.bucket import BucketDriver
from tidelog.engine.runtime.passes.sources.driver import Driver
from tidelog.engine.runtime.passes.sources.external import ExternalDriver
from tidelog.engine.runtime.passes.sources.git import GitDriver
from tidelog.engine.runtime.passes.sources.helm_chart import HelmChartDriver
from tidelog.engine.runtime.passes.sources.helm_repository import HelmRepositoryDriver
from tidelog.engine.runtime.passes.sources.oci import OciDriver
from tidelog.engine.runtime.run import Run
from tidelog.engine.runtime.watching.declared import DeclaredSource

Make: TypeAlias = Callable[[Engine, DeclaredSource, Run], Driver]
_DRIVERS: Final[dict[str, Make]] = {
    "GitRepository": GitDriver,
    "OCIRepository": OciDriver,
    "Bucket": BucketDriver,
    "HelmRepository": HelmRepositoryDriver,
    "HelmChart": HelmChartDriver,
    "ExternalArtifact": ExternalDriver,
}


def driver_of(engine: Engine, declared: DeclaredSource, run: Run) -> Driver:
    """The driver of a source, for one pass."""
    return _DRIVERS[declared.key.kind](engine, declared, run)
