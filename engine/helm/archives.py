"""The files of a chart's archive, read within bounds."""

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from tidelog.engine.helm.errors import ChartError

UNPACKED_MAX: Final = 100 * 1024 * 1024
"""As Helm's loader has it."""
SCHEMA: Final = "values.schema.json"


def without_schema(archive: bytes) -> bytes:
    """The archive without the schemas of its values, those of its dependencies included.

    Raises:
        ChartError: when it is none.
    """
    packed = io.BytesIO()
    try:
        with _opened(archive) as source, tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as target:
            for member in source:
                path = PurePosixPath(member.name)
                if path.name == SCHEMA and (len(path.parts) == 2 or path.parts[-3] == "charts"):
                    continue
                data = source.extractfile(member) if member.isfile() else None
                if data is not None and path.suffix == ".tgz" and path.parent.name == "charts":
                    inner = without_schema(data.read())
                    member.size = len(inner)
                    data = io.BytesIO(inner)
                target.addfile(member, data)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ChartError(f"the chart is no archive that can be read: {error}") from None
    return packed.getvalue()


def unpacked(chart: str, archive: bytes | None) -> dict[str, bytes]:
    """The files of a chart by their path within it, byte for byte.

    Raises:
        ChartError: when it cannot be read.
    """
    if archive is None:
        root = Path(chart)
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    files: dict[str, bytes] = {}
    try:
        with _opened(archive) as source:
            for member in source:
                if member.isfile() and (data := source.extractfile(member)) is not None:
                    files["/".join(PurePosixPath(member.name).parts[1:])] = data.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ChartError(f"the chart is no archive that can be read: {error}") from None
    return files


def all_files(contents: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The files of a chart and of the charts that are packed within it.

    Raises:
        ChartError: when one of these cannot be read.
    """
    for path, data in contents.items():
        if path.endswith(".tgz") and PurePosixPath(path).parent.name == "charts":
            for inner, held in all_files(unpacked(path, data)):
                yield f"{path.removesuffix('.tgz')}/{inner}", held
        else:
            yield path, data


def _opened(archive: bytes) -> tarfile.TarFile:
    """The archive, unpacked in memory as far as it may go."""
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as packed:
        data = packed.read(UNPACKED_MAX + 1)
    if len(data) > UNPACKED_MAX:
        raise ChartError(f"the chart unpacks to more than {UNPACKED_MAX} bytes", limit="it unpacks to too much")
    return tarfile.open(fileobj=io.BytesIO(data))
