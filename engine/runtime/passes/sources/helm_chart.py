"""HelmChart (contract 2.7): a chart of a Helm repository, of a registry, or of a tree."""

import itertools
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.kinds.helmchart import HelmChartSpec, HelmChartStatus
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.lost import fetched_again
from tidelog.engine.runtime.passes.sources.driver import Driver, News, of_kind
from tidelog.engine.runtime.passes.sources.helm_repository import access_of, repository_spec
from tidelog.engine.runtime.passes.sources.registries import ChartReach, read_reach
from tidelog.engine.runtime.run import Run, StageError
from tidelog.engine.runtime.watching.declared import DeclaredSource, chart_source_of
from tidelog.engine.sources.access import PLAIN_TLS
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.engine.sources.helm.credentials import ANONYMOUS as NOBODY
from tidelog.engine.sources.helm.index import versions_of
from tidelog.engine.sources.helm.jobs import Dependency
from tidelog.engine.sources.helm.package import Resolve, package, refuse_verification, revalue
from tidelog.engine.sources.helm.spec import (
    ChartSpec,
    ChartVersion,
    PackagedChart,
    RepositorySpec,
    version_metadata,
)
from tidelog.engine.sources.helm.versions import check_name, choose_version
from tidelog.engine.sources.intake.intake import Download
from tidelog.engine.sources.intake.jobs import Unpack
from tidelog.engine.sources.oci.address import SCHEME
from tidelog.engine.sources.oci.credentials import RegistryCredentials
from tidelog.engine.sources.oci.spec import OciHead
from tidelog.engine.sources.oci.verify import Signers
from tidelog.events.names import Revision
from tidelog.events.projections import Desired
from tidelog.events.vocabulary.fetch import Chart, Signature
from tidelog.storage.artifacts.errors import ObjectMissingError


class VersionHead(Head, frozen=True, kw_only=True):
    """The version that a repository has now of a chart."""

    version: ChartVersion | None = None
    """Of a repository with an index."""
    oci: OciHead | None = None
    """Of a registry."""
    signature: Signature | None = None
    fetched: Fetched | None = None
    """Of a tree: the chart's version is known when it is made."""
    source: Revision | None = None
    """The revision of the index, or of the tree, that it was found in."""


class HelmChartDriver(Driver):
    """Asks and makes one HelmChart."""

    def __init__(self, engine: Engine, declared: DeclaredSource, run: Run) -> None:
        self._engine = engine
        self._declared = declared
        self._spec = of_kind(declared.spec, HelmChartSpec)
        self._run = run
        self._made: PackagedChart | None = None
        self._chart = ChartSpec(
            chart=self._spec.chart,
            version=self._spec.version,
            values_files=self._spec.values_files,
            ignore_missing_values_files=self._spec.ignore_missing_values_files,
            reconcile_strategy=self._spec.reconcile_strategy,
        )

    async def ask(self) -> Head | None:
        """See `Driver`."""
        source = self._source()
        if not isinstance(source.spec, HelmRepositorySpec):
            return await self._of_tree(source)
        check_name(self._spec.chart)
        if source.spec.is_registry:
            return await self._of_registry(source)
        if self._spec.verify is not None:
            raise refuse_verification(self._spec.verify.provider)
        row = self._row(source)
        stored = None if row.artifact is None else self._engine.artifacts.tarball_path(row.artifact)
        if stored is None:
            raise self._no_artifact(source)
        try:
            versions = await anyio.to_thread.run_sync(versions_of, stored, self._spec.chart)
        except OSError as error:
            raise self._lost(source, f"the index of {source.key.shown} cannot be read: {error.strerror}") from None
        version = choose_version(versions, self._spec.chart, self._spec.version, source.key.shown)
        return VersionHead(revision=self._revision(version.version), version=version, source=row.revision)

    async def fetch(self, head: Head) -> Fetched:
        """See `Driver`."""
        found, source = of_kind(head, VersionHead), self._source()
        if found.fetched is not None:
            return found.fetched
        async with self._engine.fetchers.intake.downloading() as download:
            archive = download.path.with_name("chart.tgz")
            if found.version is not None:
                await self._pull(source, found.version, archive)
                revision = str(self._row(source).revision)
            elif found.oci is not None:
                await self._pull_from_registry(await self._reach(source), found.oci, archive)
                revision = found.oci.digest
            else:
                return await self._package(download, source)
            metadata = version_metadata(self._chart, self._declared.generation)
            made = await revalue(
                self._engine.fetchers.helm.workers, archive, self._chart, download.path, metadata=metadata
            )
            taken = await self._taken(download, made, Revision(revision))
            return msgspec.structs.replace(taken, signature=found.signature)

    def is_outdated(self) -> bool:
        """See `Driver`: a new generation is made anew (contract HC-011)."""
        return of_kind(self._declared.status, HelmChartStatus).observed_generation != self._declared.generation

    def looked_at(self, head: Head) -> Revision | None:
        """See `Driver`: another revision of the source may hold the same version of the chart (contract HC-015)."""
        return of_kind(head, VersionHead).source

    def news(self, fetched: Fetched) -> News:
        """See `Driver` (contract HC-016)."""
        made = self._made
        if made is None:
            return News(message=f"stored chart version '{fetched.revision}'")
        reason = "ChartPackageSucceeded" if made.is_packaged else "ChartPullSucceeded"
        return News(reason=reason, message=made.message)

    # Where it comes from.

    def _source(self) -> DeclaredSource:
        key = chart_source_of(self._declared)
        found = self._engine.declared.source(key.stream(self._engine.cluster_alias))
        if found is None:
            raise StageError("fetch", "SourceUnavailable", f"{key.shown} not found")
        return found

    def _row(self, source: DeclaredSource) -> Desired:
        row = self._engine.memory.desired.get(source.stream)
        if row is None or row.tree is None or row.revision is None:
            raise self._no_artifact(source)
        return row

    def _no_artifact(self, source: DeclaredSource) -> StageError:
        return StageError(
            "fetch", "NoSourceArtifact", f"no artifact available for {source.key.shown}", waits_for=source.stream
        )

    def _lost(self, source: DeclaredSource, why: str) -> StageError:
        tries = self._engine.repeats.tries(self._declared.stream, self._run.standing)
        return fetched_again(self._engine, source.stream, why, "NoSourceArtifact", tries)

    def _revision(self, version: str) -> Revision:
        """The version, as values files change it (contract HC-010)."""
        metadata = version_metadata(self._chart, self._declared.generation)
        return Revision(f"{version.partition('+')[0]}+{metadata}" if metadata else version)

    # Of a repository.

    async def _pull(self, source: DeclaredSource, version: ChartVersion, into: Path) -> None:
        credentials, tls = await access_of(self._engine, self._declared, self._run, of=source)
        spec = repository_spec(of_kind(source.spec, HelmRepositorySpec))
        await self._engine.fetchers.helm.chart(spec, version, into, credentials=credentials, tls=tls)

    # Of a registry.

    async def _of_registry(self, source: DeclaredSource) -> Head:
        """As in Flux, a signature is verified at every pass: a key that is taken back counts from the next one on."""
        reach = await self._reach(source)
        oci = self._engine.fetchers.oci
        found = await reach.login.at(lambda who: oci.ask(reach.spec, who, reach.tls))
        signature = None if reach.signers is None else await self._verify(reach, found, reach.signers)
        revision = self._revision(found.tag.replace("_", "+"))
        return VersionHead(revision=revision, oci=found, signature=signature)

    async def _verify(self, reach: ChartReach, head: OciHead, signers: Signers) -> Signature:
        fetcher = self._engine.fetchers.oci
        try:
            return await reach.login.at(lambda who: fetcher.verify(reach.spec, who, reach.tls, None, head, signers))
        except FetchError as error:
            if error.reason != "VerificationError":
                raise
            message = f"chart verification error: {error.message}"
            raise FetchError("ChartVerificationError", message, retry_after_s=error.retry_after_s) from None

    async def _reach(self, source: DeclaredSource) -> ChartReach:
        registry = of_kind(source.spec, HelmRepositorySpec)
        return await read_reach(
            self._engine,
            self._declared,
            self._run,
            registry,
            chart=self._spec.chart,
            version=self._spec.version,
            verify=self._spec.verify,
        )

    async def _pull_from_registry(self, reach: ChartReach, head: OciHead, into: Path) -> None:
        oci, limit = self._engine.fetchers.oci, self._engine.fetchers.helm.limits.chart_bytes

        async def pull(who: RegistryCredentials) -> None:
            reached = (who, reach.tls, None)
            artifact = await oci.artifact(reach.spec, *reached, head)
            await oci.download(reach.spec, *reached, artifact, into, limit)

        await reach.login.at(pull)

    # Of a tree.

    async def _of_tree(self, source: DeclaredSource) -> Head:
        row = self._row(source)
        standing = self._engine.memory.conditions.get(self._declared.stream)
        own = self._engine.memory.desired.get(self._declared.stream)
        known = None if standing is None or own is None else standing.source
        if known is not None and known == row.revision and own is not None and not self.is_outdated():
            return VersionHead(revision=own.revision or Revision(""), source=known)
        async with self._engine.fetchers.intake.downloading() as download:
            fetched = await self._package(download, source)
        return VersionHead(revision=fetched.revision, fetched=fetched, source=row.revision)

    async def _package(self, download: Download, source: DeclaredSource) -> Fetched:
        row = self._row(source)
        root = download.path.with_name("tree")
        await anyio.Path(root).mkdir()
        try:
            await anyio.to_thread.run_sync(self._engine.artifacts.checkout, row.tree or "", None, root)
        except ObjectMissingError as error:
            raise self._lost(source, str(error)) from None
        revision = row.revision or Revision("")
        made = await package(
            self._engine.fetchers.helm.workers,
            root,
            self._chart,
            download.path,
            resolve=self._dependency(download),
            metadata=version_metadata(self._chart, self._declared.generation, revision),
        )
        return await self._taken(download, made, revision)

    def _dependency(self, download: Download) -> Resolve:
        """Fetches what a chart of a tree depends on: as the HelmRepository of its address, else as nobody (HC-012)."""
        number = itertools.count()

        async def resolve(dependency: Dependency) -> Path:
            archive = download.path.with_name(f"dependency-{next(number)}.tgz")
            known = self._repository_at(dependency.repository)
            if dependency.repository.startswith(SCHEME):
                await self._pull_dependency(known, dependency, archive)
            else:
                await self._pull_from_repository(known, dependency, archive)
            return archive

        return resolve

    async def _pull_dependency(self, known: DeclaredSource | None, dependency: Dependency, into: Path) -> None:
        """From a registry. As in Flux, nobody says who may have signed it: the chart's own source is trusted."""
        registry = HelmRepositorySpec(url=dependency.repository, type="oci")
        if known is not None:
            registry = of_kind(known.spec, HelmRepositorySpec)
        reach = await read_reach(
            self._engine, self._declared, self._run, registry, chart=dependency.name, version=dependency.version
        )
        oci = self._engine.fetchers.oci
        head = await reach.login.at(lambda who: oci.ask(reach.spec, who, reach.tls))
        await self._pull_from_registry(reach, head, into)

    async def _pull_from_repository(self, known: DeclaredSource | None, dependency: Dependency, into: Path) -> None:
        fetcher = self._engine.fetchers.helm
        credentials, tls = NOBODY, PLAIN_TLS
        spec = RepositorySpec(url=dependency.repository)
        if known is not None:
            credentials, tls = await access_of(self._engine, self._declared, self._run, of=known)
            spec = repository_spec(of_kind(known.spec, HelmRepositorySpec))
        index = into.with_suffix(".index")
        await fetcher.index(spec, index, credentials=credentials, tls=tls)
        versions = await anyio.to_thread.run_sync(versions_of, index, dependency.name)
        version = choose_version(versions, dependency.name, dependency.version, dependency.shown)
        await fetcher.chart(spec, version, into, credentials=credentials, tls=tls)

    def _repository_at(self, url: str) -> DeclaredSource | None:
        """The HelmRepository in the chart's namespace that has an address."""
        is_registry = url.startswith(SCHEME)
        for found in self._engine.declared.sources.values():
            spec = found.spec
            if not isinstance(spec, HelmRepositorySpec) or found.key.namespace != self._declared.key.namespace:
                continue
            if spec.is_registry == is_registry and spec.url.rstrip("/") == url.rstrip("/"):
                return found
        return None

    # What becomes of it.

    async def _taken(self, download: Download, made: PackagedChart, source: Revision) -> Fetched:
        self._made = made
        job = Unpack(
            path=str(made.path),
            form="archive",
            what=f"the chart {made.name} {made.version}",
            is_filtered=False,
            is_kept=True,
            reason="ChartPackageError",
        )
        chart = Chart(name=made.name, source=source, values_files=made.used_values_files)
        return msgspec.structs.replace(await download.take(made.revision, job), chart=chart)
