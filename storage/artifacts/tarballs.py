"""The tar.gz of an artifact: the same bytes for the same tree (contract SC-012)."""

import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from tidelog.events.digest import PLAIN, Digest
from tidelog.storage.artifacts.check import directories
from tidelog.storage.artifacts.objects import EXECUTABLE, LINK, TREE, Objects

FILE_MODE: Final = 0o600
EXECUTABLE_MODE: Final = 0o700
DIRECTORY_MODE: Final = 0o750
LEVEL: Final = 6
GZIP: Final = 16 + zlib.MAX_WBITS
"""Has zlib write gzip's frame: without a name or time."""
FLUSH_BYTES: Final = 2**20


class Tarball(msgspec.Struct, frozen=True):
    """A tar.gz on the disk."""

    path: Path
    digest: Digest
    size: int


def write_tarball(objects: Objects, tree: str, path: Path) -> Tarball:
    """Writes the tar.gz of a tree whose links and names were checked; durable is up to the caller."""
    with path.open("xb") as file:
        out = _Gzip(file)
        for directory, entries in directories(tree, objects.tree):
            if directory:
                out.write(_header(directory.rstrip(b"/"), DIRECTORY_MODE, 0, tarfile.DIRTYPE))
            for entry in entries:
                if entry.mode in {TREE, LINK}:
                    continue
                data = objects.read(entry.id, "blob")
                mode = EXECUTABLE_MODE if entry.mode == EXECUTABLE else FILE_MODE
                out.write(_header(directory + entry.name, mode, len(data), tarfile.REGTYPE))
                out.write(data)
                out.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        out.write(bytes(2 * tarfile.BLOCKSIZE))
        return out.finish(path)


def digest_of_file(path: Path) -> Digest:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return Digest(PLAIN + hashlib.file_digest(file, "sha256").hexdigest())


class _Gzip:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._hash = hashlib.sha256()
        self._size = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > FLUSH_BYTES:
            self._compress()

    def finish(self, path: Path) -> Tarball:
        self._compress()
        self._put(self._deflate.flush())
        return Tarball(path, Digest(PLAIN + self._hash.hexdigest()), self._size)

    def _compress(self) -> None:
        self._put(self._deflate.compress(b"".join(self._waiting)))
        self._waiting = []
        self._waiting_bytes = 0

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        self._file.write(data)


def _header(path: bytes, mode: int, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(path.decode())
    info.mode = mode
    info.size = size
    info.type = kind
    return info.tobuf(tarfile.PAX_FORMAT)
