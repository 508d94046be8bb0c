"""The files of a chart's archive, read within bounds."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Final

import msgspec

from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.yaml_out import encoded
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.sources.semver import with_build

UNPACKED_MAX: Final = 100 * 1024 * 1024
"""As Helm's loader has it."""
SCHEMA: Final = "values.schema.json"
METADATA: Final = "Chart.yaml"
METADATA_MAX: Final = 1024 * 1024
"""Of a Chart.yaml, which is read in the engine's own process."""
UNREADABLE: Final = (tarfile.TarError, zlib.error, EOFError, OSError)
"""What comes of reading an archive that is none, or ends too early."""


class Described(msgspec.Struct, frozen=True):
    """What a chart says of itself."""

    name: str
    version: str
    app_version: str


def edited(archive: bytes, *, skip_schema: bool = False, build_metadata: str = "") -> bytes:
    """The archive of a chart, with something in it changed.

    Args:
        archive: the chart.
        skip_schema: whether the schemas of its values are left out, those of its dependencies included.
        build_metadata: what its version has behind `+`; empty for what is there.

    Raises:
        ChartError: when it is none, or its version is none.
    """
    packed = io.BytesIO()
    try:
        with _opened(archive) as source, tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as target:
            for member in source:
                path = PurePosixPath(member.name)
                if skip_schema and path.name == SCHEMA and (len(path.parts) == 2 or path.parts[-3] == "charts"):
                    continue
                data: IO[bytes] | None = _file(source, member)
                if data is not None and build_metadata and path.name == METADATA and len(path.parts) == 2:
                    data = _put(member, _with_build(data.read(), build_metadata))
                elif data is not None and skip_schema and path.suffix == ".tgz" and path.parent.name == "charts":
                    data = _put(member, edited(data.read(), skip_schema=True))
                target.addfile(member, data)
    except UNREADABLE as error:
        raise ChartError(f"the chart is no archive that can be read: {error}") from None
    return packed.getvalue()


def described(archive: bytes) -> Described:
    """What a chart says of itself, without loading it.

    Raises:
        ChartError: when it cannot be read.
    """
    try:
        with _opened(archive) as source:
            for member in source:
                path = PurePosixPath(member.name)
                if path.name != METADATA or len(path.parts) != 2:
                    continue
                data = _file(source, member)
                if data is not None:
                    return _described(data.read(METADATA_MAX + 1))
    except UNREADABLE as error:
        raise ChartError(f"the chart is no archive that can be read: {error}") from None
    raise ChartError(f"the artifact is no chart: there is no {METADATA} in its directory")


def _described(content: bytes) -> Described:
    if len(content) > METADATA_MAX:
        raise ChartError(f"{METADATA} has more than {METADATA_MAX} bytes")
    try:
        found = documents(content.decode(), repeated_keys=True)
    except (UnicodeDecodeError, YamlError) as error:
        raise ChartError(f"{METADATA} cannot be read: {error}") from None
    told = found[0].value if found else None
    if not isinstance(told, dict):
        raise ChartError(f"{METADATA} holds no mapping")
    return Described(*(str(told.get(field) or "") for field in ("name", "version", "appVersion")))


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
                if (data := _file(source, member)) is not None:
                    files["/".join(PurePosixPath(member.name).parts[1:])] = data.read()
    except UNREADABLE as error:
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


def _put(member: tarfile.TarInfo, content: bytes) -> io.BytesIO:
    member.size = len(content)
    member.pax_headers = {name: held for name, held in member.pax_headers.items() if name != "size"}
    return io.BytesIO(content)


def _with_build(content: bytes, build_metadata: str) -> bytes:
    try:
        found = documents(content.decode(), repeated_keys=True)
    except (UnicodeDecodeError, YamlError):
        return content  # Helm says what is wrong with it
    value = found[0].value if found else None
    if not isinstance(value, dict):
        return content
    version = with_build(str(value.get("version") or ""), build_metadata)
    if version is None:
        raise ChartError(f"{METADATA}: the version is none, so that it cannot have {build_metadata!r} added to it")
    return encoded({**value, "version": version}).encode()


def _opened(archive: bytes) -> tarfile.TarFile:
    """The archive, unpacked in memory as far as it may go."""
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as packed:
        data = packed.read(UNPACKED_MAX + 1)
    if len(data) > UNPACKED_MAX:
        raise ChartError(f"the chart unpacks to more than {UNPACKED_MAX} bytes", limit="it unpacks to too much")
    # Not as whatever it may be: in what was packed twice there may be any number of bytes.
    return tarfile.open(fileobj=io.BytesIO(data), mode="r:")


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    """A file in an archive; None for what is none.

    Raises:
        ChartError: when it has holes: it may be larger than all memory.
    """
    if member.issparse():
        raise ChartError(f"{member.name[:200]!r} is a file with holes: put it into the chart as it is")
    return archive.extractfile(member) if member.isreg() else None
