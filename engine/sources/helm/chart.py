"""A chart in memory, loaded as Helm loads it, and the files of its archive in Helm's order."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tidelog.engine.documents import YamlError, documents, merged
from tidelog.engine.sources.helm.archive import ArchiveError, Budget, File, files_of
from tidelog.engine.sources.helm.metadata import LOCK, METADATA, Shape, ShapeError, problem_of
from tidelog.engine.sources.helm.spec import VALUES_FILE
from tidelog.engine.sources.helm.values import Values, ValuesError, values_of, written

CHART_FILE: Final = "Chart.yaml"
LOCK_FILE: Final = "Chart.lock"
DEPTH_MAX: Final = 20
"""Charts within one another."""


class ChartError(ValueError):
    """Raised for files that are no chart; names the file."""


class MissingFileError(ValueError):
    """Raised for a file of values that is not there."""


class Chart(msgspec.Struct, kw_only=True):
    """A chart with its dependencies."""

    metadata: dict[str, Any]
    lock: dict[str, Any] | None = None
    values: File | None = None
    schema: File | None = None
    templates: list[File] = []
    files: list[File] = []
    dependencies: list["Chart"] = []

    @property
    def name(self) -> str:
        """The chart's name."""
        name: str = self.metadata["name"]
        return name

    @property
    def version(self) -> str:
        """The chart's version."""
        version: str = self.metadata["version"]
        return version

    @property
    def wanted(self) -> list[dict[str, Any]]:
        """The dependencies that it asks for: those of its lock, where it has one (contract HC-012)."""
        source = self.metadata if self.lock is None else self.lock
        return [dependency for dependency in source.get("dependencies") or () if dependency is not None]

    @property
    def missing(self) -> list[dict[str, Any]]:
        """The dependencies that it asks for and has not."""
        wanted = self.wanted
        if len(wanted) == len(self.dependencies):
            return []
        there = {chart.name for chart in self.dependencies}
        named = {dependency.get("alias") or dependency["name"]: dependency for dependency in wanted}
        return [dependency for name, dependency in named.items() if name not in there]

    def archive_files(self, prefix: str = "") -> Iterator[File]:
        """The files of its archive, as `helm package` orders them."""
        base = f"{prefix}{self.name}/"
        is_old = self.metadata.get("apiVersion") == "v1"
        hidden = {"dependencies"} if is_old else set()
        shown = {name: value for name, value in self.metadata.items() if name not in hidden}
        yield File(base + CHART_FILE, written(shown))
        if self.lock is not None and not is_old:
            yield File(base + LOCK_FILE, written(self.lock))
        for file in (self.values, self.schema, *self.templates, *self.files):
            if file is not None:
                yield File(base + file.name, file.data)
        for dependency in self.dependencies:
            yield from dependency.archive_files(f"{base}charts/")

    def merged_values(self, paths: tuple[str, ...], *, skips_missing: bool) -> tuple[Values, tuple[str, ...]]:
        """The chart's own files of values, merged in order, and which of them were there.

        Raises:
            MissingFileError: when one is not there.
            ChartError: when one holds no values.
        """
        result: Values = {}
        used = []
        others = {file.name: file for file in self.files}
        for path in paths:
            name = path.removeprefix("./")
            is_own = name == VALUES_FILE
            file = self.values if is_own else others.get(name)
            if file is None and not is_own:
                if skips_missing:
                    continue
                raise MissingFileError(path)
            if file is not None:
                result = merged(result, read_values(file, merges_documents=is_own))
            used.append(path)
        return result, tuple(used)


def chart_of_archive(data: bytes, budget: Budget, depth: int = 0) -> Chart:
    """The chart in an archive.

    Raises:
        ArchiveError: when it is no archive, or too much.
        ChartError: when it holds no chart.
    """
    return chart_of(files_of(data, budget), budget, depth)


def chart_of(files: list[File], budget: Budget, depth: int = 0) -> Chart:
    """The chart that files make.

    Raises:
        ArchiveError: when an archive among its dependencies is none, or too much.
        ChartError: when it is none.
    """
    if depth > DEPTH_MAX:
        raise ChartError(f"charts are more than {DEPTH_MAX} deep in one another")
    chart = Chart(metadata=metadata_of(files))
    within: dict[str, list[File]] = {}
    for file in files:
        _place(chart, file, within)
    problem = problem_of(chart.metadata)
    if problem:
        raise ChartError(f"{CHART_FILE}: {problem}")
    for name in sorted(within):
        if not name.startswith(("_", ".")):
            chart.dependencies.append(_dependency(chart, name, within[name], budget, depth))
    return chart


def metadata_of(files: list[File]) -> dict[str, Any]:
    """What Chart.yaml holds.

    Raises:
        ChartError: when it is not there, or cannot be read.
    """
    # The last of those that an archive has twice counts, as in Helm.
    found = [file for file in files if file.name == CHART_FILE]
    if not found:
        raise ChartError(f"it has no {CHART_FILE}: it is no chart")
    metadata = _read(found[-1], METADATA)
    return {"apiVersion": "v1", **metadata}


def read_values(file: File, *, merges_documents: bool) -> Values:
    """The values in a file.

    Raises:
        ChartError: when it holds none.
    """
    try:
        return values_of(file.data.decode(), merges_documents=merges_documents)
    except (YamlError, ValuesError) as error:
        raise ChartError(f"{file.name}: {error}") from None
    except UnicodeDecodeError:
        raise ChartError(f"{file.name}: it is not UTF-8") from None


def _place(chart: Chart, file: File, within: dict[str, list[File]]) -> None:
    is_old = chart.metadata["apiVersion"] == "v1"
    match file.name:
        case "Chart.yaml":
            return
        case "Chart.lock":
            chart.lock = _read(file, LOCK)
        case "values.yaml":
            read_values(file, merges_documents=True)
            chart.values = file
        case "values.schema.json":
            chart.schema = file
        case "requirements.yaml" | "requirements.lock":
            if file.name == "requirements.yaml":
                chart.metadata.update(_read(file, METADATA))
            else:
                chart.lock = _read(file, LOCK)
            if is_old:
                chart.files.append(file)
        case name if name.startswith("templates/"):
            chart.templates.append(file)
        case name if name.startswith("charts/") and not name.endswith(".prov"):
            below = name.removeprefix("charts/")
            within.setdefault(below.partition("/")[0], []).append(File(below, file.data))
        case _:
            chart.files.append(file)


def _dependency(chart: Chart, name: str, files: list[File], budget: Budget, depth: int) -> Chart:
    where = f"charts/{name}"
    try:
        if name.endswith(".tgz"):
            if files[0].name != name:
                raise ChartError("it is a directory that is named like an archive")
            return chart_of_archive(files[0].data, budget, depth + 1)
        below = [File(file.name.partition("/")[2], file.data) for file in files if "/" in file.name]
        return chart_of(below, budget, depth + 1)
    except (ArchiveError, ChartError) as error:
        raise ChartError(f"{where} of {chart.metadata.get('name', '')!r}: {error}") from None


def _read(file: File, shape: Shape) -> dict[str, Any]:
    try:
        found = documents(file.data.decode(), repeated_keys=True)
        value = found[0].value if found else None
        return shape.read({} if value is None else value, file.name, strict=False)
    except (YamlError, ShapeError) as error:
        raise ChartError(str(error) if isinstance(error, ShapeError) else f"{file.name}: {error}") from None
    except UnicodeDecodeError:
        raise ChartError(f"{file.name}: it is not UTF-8") from None
