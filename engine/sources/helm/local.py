"""The archive of a chart in a directory of this machine, made as that of a chart in a source is."""

from pathlib import Path
from typing import Final

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.build import inspect, pack
from tidelog.engine.sources.helm.jobs import Inspect, Pack, Packed
from tidelog.engine.sources.helm.spec import ChartSpec
from tidelog.engine.sources.limits import HELM_LIMITS, HelmLimits

METADATA: Final = "Chart.yaml"


def pack_directory(directory: Path, spec: ChartSpec | None, into: Path, limits: HelmLimits = HELM_LIMITS) -> Packed:
    """Packs a chart. Blocks.

    Args:
        directory: the chart's own, or the root of the repository that it is in.
        spec: where the chart is in its source, and which values files are merged; None where nothing says so.
        into: where the archive is written.
        limits: how large it may be.

    Raises:
        FetchError: when there is no chart, or it cannot be packed from what is there.
    """
    root, path = _place(directory.resolve(), spec)
    files = spec if path != "." else None
    if files is None and spec is not None and spec.merged_files:
        raise _failed(
            f"the chart takes spec.valuesFiles, whose paths begin at the root of its source, and {directory} is not "
            f"{spec.chart} there: name the root"
        )
    found = inspect(Inspect(root=str(root), path=path, where=str(directory), limits=limits))
    if found.remote:
        names = ", ".join(one.name for one in found.remote)
        raise _failed(f"the chart in {directory} needs {names}, which is not in it: run `helm dependency build` first")
    return pack(
        Pack(
            root=str(root),
            path=path,
            where=str(directory),
            spec=files or ChartSpec(chart=path),
            metadata="",
            dependencies={},
            into=str(into),
            limits=limits,
        )
    )


def _place(directory: Path, spec: ChartSpec | None) -> tuple[Path, str]:
    """The root of the source, as far as it can be told, and the chart's path below it."""
    parts = () if spec is None else tuple(part for part in Path(spec.chart).parts if part not in (".", "/"))
    if (directory / METADATA).is_file():
        if parts and directory.parts[-len(parts) :] == parts:
            return directory.parents[len(parts) - 1], "/".join(parts)
        return directory, "."
    if parts and (directory.joinpath(*parts) / METADATA).is_file():
        return directory, "/".join(parts)
    place = f", nor at {spec.chart} below it" if parts and spec is not None else ""
    raise _failed(f"there is no {METADATA} in {directory}{place}: name the directory of the chart")


def _failed(message: str) -> FetchError:
    return FetchError("InvalidChartReference", message, final=True)
