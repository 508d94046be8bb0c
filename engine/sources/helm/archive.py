"""Archives of charts: read within bounds, and written so that the same chart is the same bytes."""

import gzip
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tidelog.engine.sources.helm.spec import CONTENT_BYTES_MAX
from tidelog.engine.sources.limits import HELM_LIMITS

FILES_MAX: Final = 20_000
"""In an archive, those of its dependencies included."""
READ_BYTES: Final = 2**16
BOM: Final = b"\xef\xbb\xbf"
# Helm's mark in the header of what it packs: an extra field and a comment.
_EXTRA: Final = b"rr\x28\x00aHR0cHM6Ly95b3V0dS5iZS96OVV6MWljandyTQo="
_COMMENT: Final = b"Helm\x00"
_drive = re.compile(r"[a-zA-Z]:/")


class ArchiveError(ValueError):
    """Raised for an archive that is none of a chart; names the file in it."""


class File(msgspec.Struct, frozen=True):
    """A file of a chart; its name within the chart."""

    name: str
    data: bytes


class Budget:
    """How much may be unpacked: a chart, with the archives in it."""

    def __init__(
        self, content_bytes: int = CONTENT_BYTES_MAX, files: int = FILES_MAX, file_bytes: int = HELM_LIMITS.file_bytes
    ) -> None:
        self._bytes = content_bytes
        self._files = files
        self._file_bytes = file_bytes

    def check(self, name: str, size: int, leave_out: str) -> None:
        """Looks whether one file may be so large.

        Args:
            name: of the file.
            size: in bytes.
            leave_out: where it should not be.

        Raises:
            ArchiveError: when it may not.
        """
        if size > self._file_bytes:
            raise ArchiveError(f"{name!r} has more than {self._file_bytes} bytes: leave it out {leave_out}")

    def take(self, size: int) -> None:
        """Counts a file.

        Raises:
            ArchiveError: when it is too much.
        """
        self._bytes -= size
        self._files -= 1
        if self._bytes < 0:
            raise ArchiveError(f"its files have more than {CONTENT_BYTES_MAX} bytes together")
        if self._files < 0:
            raise ArchiveError(f"it has more than {FILES_MAX} files")


def files_of(data: bytes, budget: Budget) -> list[File]:
    """The files in an archive, as they come. What Helm refuses is refused, and links and devices too.

    Args:
        data: the archive.
        budget: what is left to unpack.

    Raises:
        ArchiveError: when it is none, or too much, or has a name that leads out of it.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as plain:
            bounded: Any = _Bounded(plain, CONTENT_BYTES_MAX * 2)
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                found = [_file(archive, member, budget) for member in archive if not member.isdir()]
            while bounded.read(READ_BYTES):  # to its end, where its checksum is
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"it is no tar.gz that can be read: {error}") from None
    if not found:
        raise ArchiveError("it has no files")
    return found


def packed(files: Iterable[File]) -> bytes:
    """An archive. Equal files in the same order give equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            member = tarfile.TarInfo(file.name)
            member.size = len(file.data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(file.data))
    return _zipped(out.getvalue())


class _Bounded:
    """A stream that ends in an error when more comes out of it than may: long headers count too."""

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        self._stream = stream
        self._left = most

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError(f"its files have more than {CONTENT_BYTES_MAX} bytes together")
        return data


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo, budget: Budget) -> File:
    name = _name(member.name)
    if not member.isreg():
        raise ArchiveError(f"{member.name[:200]!r} is a link or a device: put the file itself there")
    if member.size < 0:
        raise ArchiveError(f"{member.name[:200]!r} has a size below nothing")
    budget.check(member.name[:200], member.size, "of the chart")
    budget.take(member.size)
    stream = archive.extractfile(member)
    assert stream is not None  # noqa: S101 - it is a regular file
    data = stream.read()
    if len(data) != member.size:
        raise ArchiveError(f"it ends within {member.name[:200]!r}")
    return File(name, data.removeprefix(BOM))


def _name(given: str) -> str:
    """The name within the chart: what stands before the first slash is the chart's own."""
    delimiter = "\\" if "\\" in given else "/"
    first, _, rest = given.partition(delimiter)
    rest = rest.replace(delimiter, "/")
    clean = posixpath.normpath(rest) if rest else "."
    if rest.startswith("/"):
        raise ArchiveError(f"{given[:200]!r} is an absolute name")
    if clean == ".":
        raise ArchiveError(f"{given[:200]!r} is not within the chart's directory")
    if clean.startswith(".."):
        raise ArchiveError(f"{given[:200]!r} leads out of the chart")
    if _drive.match(clean) or "\0" in clean:
        raise ArchiveError(f"{given[:200]!r} is no name of a file")
    if first == "Chart.yaml":
        raise ArchiveError("Chart.yaml is not within the chart's directory")
    return clean


def _zipped(data: bytes) -> bytes:
    """As gzip, without a time, and with Helm's mark."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(data) + packer.flush()
    header = b"\x1f\x8b\x08\x14" + b"\0" * 4 + b"\x02\xff" + len(_EXTRA).to_bytes(2, "little") + _EXTRA + _COMMENT
    tail = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return header + body + tail
