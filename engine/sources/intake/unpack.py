"""Takes in what was downloaded: an archive, a directory or a single file becomes a tree. Runs in a process of its own.

Of an archive, regular files are taken, and links passed over, as Flux does (contract SC-012); whatever else there is,
and every name that leads elsewhere, is refused.
"""

import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.intake.artifact import artifact_of, pack, remembering
from tidelog.engine.sources.intake.jobs import Unpack, Unpacked
from tidelog.storage.artifacts import HostileTreeError, Limits, Tarball
from tidelog.storage.artifacts.check import check_content, check_names, shown
from tidelog.storage.artifacts.objects import EXECUTABLE, FILE, TREE, Objects, RawEntry, use_libgit2_alone
from tidelog.storage.artifacts.tarballs import digest_of_file, write_tarball

UNREADABLE: Final = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError)
"""What comes of reading an archive that is none, or ends too early; ValueError of a header's number that is none."""


class _File(NamedTuple):
    path: str
    size: int
    is_executable: bool
    read: Callable[[], bytes]


def unpack(job: Unpack) -> Unpacked:
    """Does a job.

    Raises:
        FetchError: when what was downloaded is no archive, or has ignore rules that cannot be read.
        ArtifactError: when the tree is refused.
    """
    use_libgit2_alone()
    objects = Objects(Path(job.place.repository))
    made = _made(objects, job)
    source = made.write()
    pack(objects, made.ids, job.place)
    read = remembering(objects)
    if job.is_filtered:
        tree, tarball = artifact_of(objects, source, read, job.place, job.limits, job.ignore)
    else:
        check_names(source, read, job.limits)
        check_content(source, read, objects.size, lambda blob: objects.read(blob, "blob"), job.limits)
        tree, tarball = source, _kept(job) if job.is_kept else write_tarball(objects, source, Path(job.place.tarball))
    return Unpacked(tree=tree, digest=tarball.digest, size=tarball.size)


def _made(objects: Objects, job: Unpack) -> "_Made":
    if job.form == "any":
        try:
            return _made(objects, msgspec.structs.replace(job, form="archive"))
        except FetchError:
            return _made(objects, msgspec.structs.replace(job, form="file"))
    made = _Made(objects, job.limits)
    for file in _files(job):
        made.add(file)
    return made


def _kept(job: Unpack) -> Tarball:
    """What was downloaded, as the artifact's file."""
    place = Path(job.place.tarball)
    shutil.copyfile(job.path, place)
    return Tarball(place, digest_of_file(place), place.stat().st_size)


# What is read


def _files(job: Unpack) -> Iterator[_File]:
    path = Path(job.path)
    if job.form == "archive":
        return _of_archive(path, job)
    if job.form == "directory":
        return _of_directory(path)
    return iter([_File(job.name, path.stat().st_size, is_executable=False, read=path.read_bytes)])


def _of_archive(path: Path, job: Unpack) -> Iterator[_File]:
    try:
        # Not as a stream: Python's reader of these fails at the header that helm writes.
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # it remembers all of them otherwise
                if member.isdir() or member.issym():
                    continue
                if not member.isreg() or member.issparse():
                    raise HostileTreeError(shown(_raw(member.name)), "is neither a file nor a directory")
                yield _File(member.name, member.size, bool(member.mode & 0o100), partial(_read, archive, member, job))
    except UNREADABLE as error:
        raise _unreadable(job, error) from None


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, job: Unpack) -> bytes:
    try:
        file = archive.extractfile(member)
        data = b"" if file is None else file.read()
    except UNREADABLE as error:
        raise _unreadable(job, error) from None
    if len(data) != member.size:
        raise _unreadable(job, EOFError())
    return data


def _unreadable(job: Unpack, error: Exception) -> FetchError:
    return FetchError(
        job.reason, f"{job.what} is no tar archive, or ends too early ({type(error).__name__})", final=True
    )


def _of_directory(directory: Path) -> Iterator[_File]:
    """Its regular files; what links lead to is not followed."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            name = path.relative_to(directory).as_posix()
            yield _File(name, status.st_size, bool(status.st_mode & 0o100), path.read_bytes)


# What is made


class _Made:
    """The blobs and trees of what is read."""

    def __init__(self, objects: Objects, limits: Limits) -> None:
        self.ids: dict[str, None] = {}
        self._objects = objects
        self._limits = limits
        self._left = limits.artifact_bytes
        self._count = 0
        self._root: _Directory = {}

    def add(self, file: _File) -> None:
        """Writes a file; of one path that is there several times, the last stays, as tar has it."""
        raw = _raw(file.path)
        parts = _parts(raw, self._limits.depth)
        self._count += 1
        if self._count > self._limits.entries:
            raise HostileTreeError(shown(raw), f"is too much: an artifact has at most {self._limits.entries} files")
        if file.size > self._limits.file_bytes:
            raise HostileTreeError(
                shown(raw), f"has {file.size} bytes; {self._limits.file_bytes} are the most: leave it out"
            )
        self._left -= file.size
        if self._left < 0:
            raise HostileTreeError(
                shown(raw), f"is too much: the files have at most {self._limits.artifact_bytes} bytes: leave some out"
            )
        blob = self._objects.write_blob(file.read())
        self.ids[blob] = None
        directory = self._root
        for name in parts[:-1]:
            below = directory.setdefault(name, {})
            if not isinstance(below, dict):
                raise HostileTreeError(shown(raw), "lies in a directory that is a file as well")
            directory = below
        if isinstance(directory.get(parts[-1]), dict):
            raise HostileTreeError(shown(raw), "is a file and a directory as well")
        directory[parts[-1]] = RawEntry(EXECUTABLE if file.is_executable else FILE, parts[-1], blob)

    def write(self) -> str:
        """Writes the trees; returns the id of the whole."""
        return self._write(self._root)

    def _write(self, directory: "_Directory") -> str:
        entries = [
            RawEntry(TREE, name, self._write(below)) if isinstance(below, dict) else below
            for name, below in directory.items()
        ]
        entries.sort(key=lambda entry: entry.name + (b"/" if entry.mode == TREE else b""))
        tree = self._objects.write_tree(entries)
        self.ids[tree] = None
        return tree


_Directory = dict[bytes, "RawEntry | _Directory"]


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _parts(path: bytes, depth: int) -> list[bytes]:
    """The names of a path.

    Raises:
        HostileTreeError: when it leads elsewhere, or too deep.
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if path.startswith(b"/") or b".." in parts or not parts or b"\0" in path:
        raise HostileTreeError(shown(path), "has a name that leads elsewhere")
    if len(parts) > depth:
        raise HostileTreeError(shown(path[:80]), f"lies too deep: {depth} directories are the most")
    return parts
