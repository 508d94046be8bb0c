"""Makes charts: of a tree, with their dependencies, and of archives that were downloaded, with other values."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.jobs import Dependency, Inspect, Inspected, Pack, Packed
from tidelog.engine.sources.helm.spec import ChartSpec, PackagedChart
from tidelog.engine.sources.helm.workers import Workers
from tidelog.events.digest import Digest

Resolve = Callable[[Dependency], Awaitable[Path]]
"""Fetches a dependency from its repository, and says where its archive is; raises FetchError."""


async def package(
    workers: Workers, root: Path, spec: ChartSpec, into: Path, *, resolve: Resolve, metadata: str = ""
) -> PackagedChart:
    """Makes the archive of a chart that is in a tree (contract HC-006, HC-007, HC-010, HC-012).

    Args:
        workers: who do it.
        root: the tree, written out; nothing outside it is read.
        spec: what is asked for; its values files are paths from the tree's root.
        into: where the archive goes.
        resolve: fetches dependencies that are neither in the chart nor in the tree.
        metadata: what is added to the chart's version.

    Raises:
        FetchError: what the contract has for it (HC-017).
    """
    where, limits = f"the chart at {spec.chart[:200]!r}", workers.limits
    looked = await workers.run(Inspect(root=str(root), path=spec.chart, where=where, limits=limits))
    assert isinstance(looked, Inspected)  # noqa: S101 - a worker answers each job in its own way
    archives = {}
    for dependency in looked.remote:
        archives[dependency.key] = str(await _resolved(resolve, dependency))
    job = Pack(
        root=str(root),
        path=spec.chart,
        where=where,
        spec=spec,
        metadata=metadata,
        dependencies=archives,
        into=str(into),
        limits=limits,
    )
    return await _packed(workers, job, into)


async def revalue(workers: Workers, archive: Path, spec: ChartSpec, into: Path, *, metadata: str = "") -> PackagedChart:
    """A chart that was downloaded: as it is, or with other values and version where the spec asks for them.

    Args:
        workers: who do it.
        archive: what was downloaded.
        spec: what is asked for; its values files are paths in the chart.
        into: where the archive goes.
        metadata: what is added to the chart's version.

    Raises:
        FetchError: what the contract has for it (HC-017).
    """
    where = f"the archive of the chart {spec.chart[:200]!r}"
    job = Pack(
        root="",
        path=str(archive),
        where=where,
        spec=spec,
        metadata=metadata,
        dependencies={},
        into=str(into),
        limits=workers.limits,
    )
    return await _packed(workers, job, into)


def refuse_verification(provider: str) -> FetchError:
    """For `spec.verify` of a chart of a Helm repository over HTTP: nothing is taken unverified that was to be verified.

    Args:
        provider: `spec.verify.provider`.
    """
    return FetchError(
        "ChartVerificationError",
        f"spec.verify: {provider or 'a provider'} cannot be checked for charts of a Helm repository over HTTP, and "
        "provenance files are not looked at: remove spec.verify, or take the chart from an OCI registry",
        final=True,
    )


async def _resolved(resolve: Resolve, dependency: Dependency) -> Path:
    try:
        return await resolve(dependency)
    except FetchError as error:
        raise FetchError(
            "DependencyBuildError",
            f"the dependency {dependency.name[:80]!r} from {dependency.shown}: {error.message}",
            final=error.final,
        ) from None


async def _packed(workers: Workers, job: Pack, into: Path) -> PackagedChart:
    answer = await workers.run(job)
    assert isinstance(answer, Packed)  # noqa: S101 - a worker answers each job in its own way
    return PackagedChart(
        name=answer.name,
        version=answer.version,
        path=into,
        digest=Digest(f"sha256:{answer.digest}"),
        size=answer.size,
        used_values_files=answer.used_values_files,
        is_packaged=answer.is_packaged,
    )
