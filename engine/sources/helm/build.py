"""Makes the archive of a chart: of a directory or an archive in a tree, or of one that was downloaded.

Blocks, and reads what strangers wrote; for a process that may be ended. What Flux does in which order is kept, for the
order decides which error is told.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tidelog.engine.documents import merged
from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.helm.archive import ArchiveError, Budget, File, files_of, packed
from tidelog.engine.sources.helm.chart import (
    Chart,
    ChartError,
    MissingFileError,
    chart_of,
    chart_of_archive,
    metadata_of,
    read_values,
)
from tidelog.engine.sources.helm.directory import directory_files, read_file, within
from tidelog.engine.sources.helm.jobs import Dependency, Inspect, Inspected, Pack, Packed
from tidelog.engine.sources.helm.metadata import problem_of
from tidelog.engine.sources.helm.spec import ChartSpec
from tidelog.engine.sources.helm.values import Values, written
from tidelog.engine.sources.limits import HelmLimits
from tidelog.engine.sources.semver import NoRangeError, loose_version_of, range_of, with_build

BAD: Final = (ArchiveError, ChartError)


def inspect(job: Inspect) -> Inspected:
    """Looks at a chart in a tree: what it is, and which dependencies have to be fetched.

    Raises:
        FetchError: `InvalidChartReference`, `ChartPackageError`, `DependencyBuildError`.
    """
    root = Path(job.root)
    place = _place(root, job.path)
    metadata = _metadata(root, place, job.path, job.limits)
    if place.is_file():
        return Inspected(metadata["name"], metadata["version"], is_archive=True)
    chart = _directory(root, place, job.path, job.limits)
    remote = tuple(_dependency(one) for one in chart.missing if not _is_local(one))
    for dependency in remote:
        _check_repository(dependency)
    return Inspected(chart.name, chart.version, is_archive=False, remote=remote)


def pack(job: Pack) -> Packed:
    """Makes an archive.

    Raises:
        FetchError: what the contract has for it (HC-017).
    """
    return _pack_tree(job) if job.root else _pack_downloaded(job)


def with_metadata(version: str, added: str) -> str:
    """A version with other build metadata.

    Raises:
        FetchError: `MetadataPatchError`, when either is none.
    """
    if not added:
        return version
    made = with_build(version, added)
    if made is None:
        raise FetchError(
            "MetadataPatchError", f"the version {version[:80]!r} cannot have {added[:80]!r} added to it", final=True
        )
    return made


def _pack_tree(job: Pack) -> Packed:
    root, into = Path(job.root), Path(job.into)
    place = _place(root, job.path)
    metadata = _metadata(root, place, job.path, job.limits)
    version = with_metadata(metadata["version"], job.metadata)
    paths = job.spec.merged_files
    is_directory = place.is_dir()
    if not is_directory and not job.metadata and not paths:
        shutil.copyfile(place, into)
        return _told(metadata["name"], version, into, (), is_packaged=False)
    values = _merged_files(root, job.spec, job.limits) if paths else None
    if is_directory:
        chart = _directory(root, place, job.path, job.limits)
    else:
        chart = _archive(place.read_bytes(), job.path, job.limits)
    chart.metadata["version"] = version
    used = _overwrite(chart, values)
    if is_directory:
        _add_dependencies(root, job, chart)
    return _write(chart, into, used)


def _pack_downloaded(job: Pack) -> Packed:
    source, into = Path(job.path), Path(job.into)
    data = source.read_bytes()
    if not job.metadata and not job.spec.merged_files:
        metadata = _checked(data, job.where, job.limits)
        shutil.copyfile(source, into)
        return _told(metadata["name"], metadata["version"], into, (), is_packaged=False)
    chart = _archive(data, job.where, job.limits)
    chart.metadata["version"] = with_metadata(chart.version, job.metadata)
    try:
        values = chart.merged_values(job.spec.values_files, skips_missing=job.spec.ignore_missing_values_files)
    except MissingFileError as error:
        raise _no_values(str(error), "in the chart") from None
    except ChartError as error:
        raise _failed("ValuesFilesError", f"spec.valuesFiles: {error}") from None
    return _write(chart, into, _overwrite(chart, values))


def _place(root: Path, path: str) -> Path:
    found = within(root, path)
    if found is None:
        raise _failed("InvalidChartReference", f"spec.chart: {path[:200]!r} leads out of the source")
    if not found.exists():
        raise _failed(
            "InvalidChartReference", f"spec.chart: there is nothing at {path[:200]!r} in the source: correct it"
        )
    return found


def _budget(limits: HelmLimits) -> Budget:
    return Budget(file_bytes=limits.file_bytes)


def _metadata(root: Path, place: Path, path: str, limits: HelmLimits) -> dict[str, Any]:
    budget = _budget(limits)
    try:
        files = _metadata_files(root, path, budget) if place.is_dir() else files_of(_bounded(place, limits), budget)
        metadata = metadata_of(files)
        problem = problem_of(metadata)
    except BAD as error:
        raise _failed("InvalidChartReference", f"spec.chart: {path[:200]!r} is no chart: {error}") from None
    if problem:
        raise _failed("InvalidChartReference", f"spec.chart: {path[:200]!r} is no chart: Chart.yaml: {problem}")
    return metadata


def _metadata_files(root: Path, path: str, budget: Budget) -> list[File]:
    found = []
    for name in ("Chart.yaml", "requirements.yaml"):
        place = within(root, f"{path}/{name}")
        if place is not None and place.is_file():
            found.append(File(name, read_file(place, name, budget)))
    return found


def _checked(data: bytes, where: str, limits: HelmLimits) -> dict[str, Any]:
    try:
        metadata = metadata_of(files_of(data, _budget(limits)))
        problem = problem_of(metadata)
    except BAD as error:
        raise _failed("ChartPullError", f"{where} is no chart: {error}") from None
    if problem:
        raise _failed("ChartPullError", f"{where} is no chart: Chart.yaml: {problem}")
    return metadata


def _bounded(place: Path, limits: HelmLimits) -> bytes:
    if place.stat().st_size > limits.chart_bytes:
        raise ArchiveError(f"it has more than {limits.chart_bytes} bytes")
    return place.read_bytes()


def _directory(root: Path, place: Path, path: str, limits: HelmLimits) -> Chart:
    budget = _budget(limits)
    try:
        return chart_of(directory_files(root, place, budget), budget)
    except BAD as error:
        raise _failed("ChartPackageError", f"the chart at {path[:200]!r}: {error}") from None


def _archive(data: bytes, where: str, limits: HelmLimits) -> Chart:
    try:
        return chart_of_archive(data, _budget(limits))
    except BAD as error:
        raise _failed("ChartPackageError", f"{where}: {error}") from None


def _merged_files(root: Path, spec: ChartSpec, limits: HelmLimits) -> tuple[Values, tuple[str, ...]]:
    """Files of values from the source, by their paths from its root."""
    result: Values = {}
    used, budget = [], _budget(limits)
    for path in spec.values_files:
        place = within(root, path)
        if place is None or not place.is_file():
            if spec.ignore_missing_values_files and (place is None or not place.exists()):
                continue
            raise _no_values(path, "in the source, where paths begin at its root")
        try:
            result = merged(result, read_values(File(path, read_file(place, path, budget)), merges_documents=False))
        except BAD as error:
            raise _failed("ValuesFilesError", f"spec.valuesFiles: {error}") from None
        used.append(path)
    return result, tuple(used)


def _overwrite(chart: Chart, values: tuple[Values, tuple[str, ...]] | None) -> tuple[str, ...]:
    if values is None:
        return ()
    if chart.values is None:
        raise _failed(
            "ValuesFilesError",
            f"the chart {chart.name!r} has no values.yaml to replace by spec.valuesFiles: add one",
        )
    chart.values = File(chart.values.name, written(values[0]))
    return values[1]


def _add_dependencies(root: Path, job: Pack, chart: Chart) -> None:
    # Helm gives aliases itself. But one chart in two versions needs two directories: they are named as Flux does it.
    names = [wanted["name"] for wanted in chart.wanted]
    doubled = {name for name in names if names.count(name) > 1}
    for wanted in chart.missing:
        dependency = _dependency(wanted)
        found = _local(root, job, dependency) if _is_local(wanted) else _fetched(job, dependency)
        if dependency.alias and dependency.name in doubled:
            found.metadata["name"] = dependency.alias
        chart.dependencies.append(found)


def _local(root: Path, job: Pack, dependency: Dependency) -> Chart:
    if dependency.repository:
        parts = urlsplit(dependency.repository)
        below = f"{job.path}/{parts.netloc}/{parts.path}"
    else:
        below = f"{job.path}/charts/{dependency.name}"
    place = within(root, below)
    if place is None or not place.exists():
        raise _no_dependency(dependency, f"there is nothing at {dependency.repository or below!r} in the source")
    try:
        members = range_of(dependency.version)
    except NoRangeError as error:
        raise _no_dependency(dependency, f"its version {error}") from None
    budget = _budget(job.limits)
    try:
        if place.is_dir():
            found = chart_of(directory_files(root, place, budget), budget)
        else:
            found = chart_of_archive(_bounded(place, job.limits), budget)
    except BAD as error:
        raise _no_dependency(dependency, f"what is there is no chart: {error}") from None
    version = loose_version_of(found.version)
    if version is None or version not in members:
        raise _no_dependency(dependency, f"{found.version!r} is there, and {dependency.version!r} is wanted")
    return found


def _fetched(job: Pack, dependency: Dependency) -> Chart:
    archive = job.dependencies.get(dependency.key)
    if archive is None:
        raise _no_dependency(dependency, "it was not fetched: the chart has changed meanwhile")
    try:
        return chart_of_archive(Path(archive).read_bytes(), _budget(job.limits))
    except BAD as error:
        raise _no_dependency(dependency, f"what {dependency.shown} has is no chart: {error}") from None


def _dependency(wanted: dict[str, Any]) -> Dependency:
    names = ("name", "version", "repository", "alias")
    return Dependency(**{name: wanted.get(name, "") for name in names})


def _is_local(wanted: dict[str, Any]) -> bool:
    repository: str = wanted["repository"]
    return not repository or repository.startswith("file://")


def _check_repository(dependency: Dependency) -> None:
    if dependency.repository.startswith(("@", "alias:")):
        raise _no_dependency(dependency, f"the alias {dependency.repository!r} means nothing here: write its address")
    if not dependency.repository.startswith(("https://", "http://", "oci://")):
        raise _no_dependency(dependency, "its repository is neither https, http, oci nor file")


def _write(chart: Chart, into: Path, used: tuple[str, ...]) -> Packed:
    into.write_bytes(packed(chart.archive_files()))
    return _told(chart.name, chart.version, into, used, is_packaged=True)


def _told(name: str, version: str, into: Path, used: tuple[str, ...], *, is_packaged: bool) -> Packed:
    data = into.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Packed(
        name=name, version=version, digest=digest, size=len(data), used_values_files=used, is_packaged=is_packaged
    )


def _no_values(path: str, where: str) -> FetchError:
    return _failed(
        "ValuesFilesError",
        f"spec.valuesFiles: there is no file {path[:200]!r} {where}: correct it, or set spec.ignoreMissingValuesFiles",
    )


def _no_dependency(dependency: Dependency, why: str) -> FetchError:
    return _failed("DependencyBuildError", f"the dependency {dependency.name[:80]!r}: {why}")


def _failed(reason: FetchReason, message: str) -> FetchError:
    return FetchError(reason, message, final=True)
