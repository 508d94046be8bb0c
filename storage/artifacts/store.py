"""The artifact store: every artifact is a tree in one bare Git object database.

A fetch is made beside it, in a quarantine, by a process that may be killed; `admit` takes it in: packs first, then the
refs that keep them, each made durable before the next. Whatever is cut off in between is not seen, and swept away when
the store is next opened.
"""

import heapq
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import pygit2

from tidelog.events.digest import PLAIN, Digest
from tidelog.storage.artifacts.errors import ObjectMissingError
from tidelog.storage.artifacts.objects import EXECUTABLE, LINK, TREE, Objects, RawEntry, use_libgit2_alone
from tidelog.storage.artifacts.tarballs import Tarball, digest_of_file, write_tarball
from tidelog.storage.layout import Layout, sync, writing
from tidelog.storage.log.ids import new_id
from tidelog.storage.trees import TreeEntry

REFS: Final = "refs/tidelog"
TREES_REMEMBERED: Final = 4096
"""Parsed directories that are kept in memory: rendering asks for the same few again and again."""
TARBALL_RETENTION_S: Final = 60.0
"""How long a tar.gz that no status names is kept: a reader may have seen its address just before."""


class Quarantine(msgspec.Struct, frozen=True):
    """Where a fetch is made: a bare repository that reads the store's objects and writes its own."""

    path: Path
    repository: Path
    """The repository."""
    tarball: Path
    """Where the artifact's tar.gz is to be written."""
    home: Path
    """An empty directory for whoever fetches."""


class ArtifactStore:
    """Keeps and reads artifacts. All its methods block: they are for worker threads.

    One process writes a store: the holder of `storage.layout.writer_lock`.
    """

    def __init__(self, directory: Path, objects: Objects) -> None:
        self.directory = directory
        self._objects = objects
        self._trees: OrderedDict[str, list[RawEntry]] = OrderedDict()
        self._lock = threading.Lock()
        self._tarballs = {
            Digest(PLAIN + path.name.split(".")[1]): path for path in _tarballs(directory).glob("*.tar.gz")
        }
        self._checked: set[Path] = set()
        """The tar.gz files whose content was seen by this process to be what their name says."""

    @classmethod
    def open(cls, store: Path) -> "ArtifactStore":
        """Opens the artifacts of the store at `store` to write, making them if there are none, and sweeps up.

        Raises:
            StoreReadOnlyError: when the directory cannot be written.
            StoreFullError: when there is no room.
        """
        use_libgit2_alone()
        directory = Layout(store).artifacts
        with writing(store):
            if not (directory / "HEAD").exists():
                _create(directory)
            _sweep(directory)
            for needed in (_incoming(directory), _tarballs(directory)):
                needed.mkdir(parents=True, exist_ok=True)
            sync(directory)
        return cls(directory, Objects(directory))

    @classmethod
    def read_only(cls, store: Path) -> "ArtifactStore":
        """Opens the artifacts of a store that another process may be writing.

        Raises:
            ObjectMissingError: when there is none.
        """
        directory = Layout(store).artifacts
        if not (directory / "HEAD").exists():
            raise ObjectMissingError(f"the artifact store {directory}", "is not there: nothing was fetched yet")
        return cls(directory, Objects(directory))

    def close(self) -> None:
        """Lets go of the files."""
        self._objects.close()

    # Trees

    def entry(self, tree: str, path: str) -> TreeEntry | None:
        """What stands at `path` (`""` is the tree itself), without following links; None when there is nothing."""
        found = RawEntry(TREE, b"", tree)
        for name in path.split("/") if path else ():
            if found.mode != TREE:
                return None
            wanted = name.encode("utf-8", "surrogateescape")
            below = next((entry for entry in self._tree(found.id) if entry.name == wanted), None)
            if below is None:
                return None
            found = below
        if not path:
            self._tree(tree)
        return _seen(found)

    def children(self, tree: str) -> dict[str, TreeEntry]:
        """The entries of one directory, by name, in Git's order."""
        return {entry.name.decode(): _seen(entry) for entry in self._tree(tree)}

    def read(self, blob: str) -> bytes:
        """The content of a file; of a link, its target."""
        return self._objects.read(blob, "blob")

    def checkout(self, tree: str, paths: Collection[str] | None, into: Path) -> None:
        """Writes files below `into`: those at `paths`, each with all that is below it, or the whole tree.

        A path that is not in the tree is passed over. Directories that stand already are used, files are not.

        Raises:
            OSError: when a file cannot be written, or is there.
            ObjectMissingError: when an object is not there.
        """
        for path in [""] if paths is None else _outermost(paths):
            found = self.entry(tree, path)
            if found is not None:
                place = into / path
                place.parent.mkdir(parents=True, exist_ok=True)
                self._write(found, place)

    # Writing

    def make_quarantine(self) -> Quarantine:
        """A place for one fetch; to be dropped at its end, whatever became of it."""
        path = _incoming(self.directory) / new_id()
        made = Quarantine(path, path / "fetched.git", path / "artifact.tar.gz", path / "home")
        with writing(self.directory.parent):
            path.mkdir(mode=0o700)
            made.home.mkdir()
            pygit2.init_repository(str(made.repository), bare=True)
            alternates = made.repository / "objects" / "info" / "alternates"
            alternates.parent.mkdir(exist_ok=True)
            alternates.write_text(f"{self.directory.resolve() / 'objects'}\n")
        return made

    def drop(self, quarantine: Quarantine) -> None:
        """Removes what was not admitted."""
        shutil.rmtree(quarantine.path, ignore_errors=True)

    def admit(self, quarantine: Quarantine, refs: Mapping[str, str], tarball: Tarball, tree: str) -> Tarball:
        """Takes in what was fetched and checked, and has `refs` keep it. When this returns it is durable.

        Args:
            quarantine: where the packs are.
            refs: names, each below `refs/tidelog/`, and the ids of the commits or trees that they keep.
            tarball: the artifact's tar.gz, still in the quarantine.
            tree: the artifact's tree.

        Raises:
            StoreFullError: when there is no room.
        """
        with writing(self.directory.parent), self._lock:
            _take_packs(quarantine.repository / "objects" / "pack", self.directory / "objects" / "pack")
            _take_shallow(quarantine.repository / "shallow", self.directory / "shallow")
            kept = self._keep_tarball(tarball, tree)
        self.keep(refs)
        return kept

    def holds(self, ref: str) -> str | None:
        """The id that a ref keeps; None where there is no such ref."""
        try:
            return (self.directory / ref).read_text().strip() or None
        except OSError:
            return None

    def newest_below(self, prefix: str, most: int) -> list[str]:
        """The ids that refs directly below a prefix keep: of the newest refs, at most so many."""
        refs: list[tuple[int, str]] = []
        try:
            with os.scandir(self.directory / prefix) as entries:
                refs = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if not entry.name.endswith(NEW)]
        except FileNotFoundError:
            return []
        newest = heapq.nlargest(most, refs)
        return [held for _, name in newest if (held := self.holds(f"{prefix}/{name}"))]

    def keep(self, refs: Mapping[str, str]) -> None:
        """Has refs keep what is in the store already; durable when this returns."""
        with writing(self.directory.parent), self._lock:
            for name, object_id in refs.items():
                if self.holds(name) != object_id:
                    _write_ref(self.directory, name, object_id)

    # Tarballs

    def tarball(self, tree: str) -> Tarball:
        """The tar.gz of a tree: the one that is kept, or a new one.

        Raises:
            ObjectMissingError: when the tree is not whole.
            StoreFullError: when there is no room.
        """
        found = self.find_tarball(tree)
        if found is not None:
            return found
        quarantine = self.make_quarantine()
        try:
            with writing(self.directory.parent):
                made = write_tarball(self._objects, tree, quarantine.tarball)
                with self._lock:
                    return self._keep_tarball(made, tree)
        finally:
            self.drop(quarantine)

    @property
    def tarballs(self) -> Path:
        """The directory of the tar.gz files."""
        return _tarballs(self.directory)

    def find_tarball(self, tree: str) -> Tarball | None:
        """The tar.gz of a tree that is kept and whole; one that is damaged is removed."""
        for digest, path in [*self._tarballs.items()]:
            if path.name.startswith(f"{tree}.") and self.check_tarball(digest) == "whole":
                return Tarball(path, digest, path.stat().st_size)
        return None

    def check_tarball(self, digest: Digest) -> Literal["whole", "missing", "damaged"]:
        """Whether a tar.gz is as a status names it (SC-014); a damaged one is removed.

        The content is read once in a process's life.
        """
        path = self.tarball_path(digest)
        if path is None:
            return "missing"
        try:
            if path in self._checked and path.exists():
                return "whole"
            found = digest_of_file(path)
        except OSError:
            self.forget_tarball(digest)
            return "missing"
        if found != digest:
            self.forget_tarball(digest)
            path.unlink(missing_ok=True)
            return "damaged"
        self._checked.add(path)
        return "whole"

    def tarball_path(self, digest: Digest) -> Path | None:
        """Where a tar.gz is; None when it is not kept. Looks at no disk."""
        return self._tarballs.get(digest)

    def whole_tarball(self, digest: Digest) -> Path | None:
        """Where a tar.gz is, if it is as a status names it; one that is not stays, for who only reads the store."""
        path = self.tarball_path(digest)
        try:
            return path if path is not None and digest_of_file(path) == digest else None
        except OSError:
            return None

    def pack(self, tree: str, into: Path) -> Path:
        """Writes the tar.gz of a tree to a place outside of the store, for who only reads the store.

        Raises:
            ObjectMissingError: when the tree is not whole.
        """
        return write_tarball(self._objects, tree, into).path

    def forget_tarball(self, digest: Digest) -> None:
        """Notes that a tar.gz is gone, though nobody of us removed it. Looks at no disk."""
        path = self._tarballs.pop(digest, None)
        if path is not None:
            self._checked.discard(path)

    def collect(self, named: Collection[Digest], dropped: Digest | None = None) -> int:
        """Removes the tar.gz files that no status names and that are older than a minute (SC-013).

        Args:
            named: what statuses name.
            dropped: what the status of a source that is no more named: it goes at once, whatever its age (SC-016).

        Returns:
            How many were removed.
        """
        removed = 0
        with self._lock:
            for digest, path in [*self._tarballs.items()]:
                if digest in named:
                    continue
                try:
                    is_old = time.time() - path.stat().st_mtime >= TARBALL_RETENTION_S
                except OSError:
                    is_old = True
                if is_old or digest == dropped:
                    self.forget_tarball(digest)
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _keep_tarball(self, made: Tarball, tree: str) -> Tarball:
        path = _tarballs(self.directory) / f"{tree}.{made.digest.removeprefix(PLAIN)}.tar.gz"
        sync(made.path)
        made.path.replace(path)
        sync(path.parent)
        self._tarballs[made.digest] = path
        self._checked.add(path)
        return Tarball(path, made.digest, made.size)

    def _tree(self, tree: str) -> list[RawEntry]:
        with self._lock:
            known = self._trees.get(tree)
            if known is not None:
                self._trees.move_to_end(tree)
                return known
        entries = self._objects.tree(tree)
        with self._lock:
            self._trees[tree] = entries
            if len(self._trees) > TREES_REMEMBERED:
                self._trees.popitem(last=False)
        return entries

    def _write(self, entry: TreeEntry, place: Path) -> None:
        if entry.kind == "tree":
            place.mkdir(exist_ok=True)
            for name, below in self.children(entry.id).items():
                self._write(below, place / name)
        elif entry.kind == "link":
            place.symlink_to(self.read(entry.id).decode("utf-8", "surrogateescape"))
        else:
            mode = 0o755 if entry.executable else 0o644
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.read(entry.id))


def _seen(entry: RawEntry) -> TreeEntry:
    kind: Literal["blob", "tree", "link"] = {TREE: "tree", LINK: "link"}.get(entry.mode, "blob")  # type: ignore[assignment]
    return TreeEntry(entry.id, kind, executable=entry.mode == EXECUTABLE)


def _outermost(paths: Collection[str]) -> list[str]:
    """Paths in order, less those that are below another."""
    kept: list[str] = []
    for path in sorted({path.strip("/") for path in paths}, key=lambda path: (path + "/").encode()):
        if not kept or (kept[-1] and not path.startswith(f"{kept[-1]}/")):
            kept.append(path)
    return kept


def _incoming(directory: Path) -> Path:
    return directory / "tidelog" / "incoming"


def _tarballs(directory: Path) -> Path:
    return directory / "tidelog" / "tarballs"


def _create(directory: Path) -> None:
    """Makes an empty database beside its place, and moves it there: a half-made one would never open."""
    new = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    pygit2.init_repository(str(new), bare=True)
    for path in sorted(new.rglob("*"), reverse=True):
        sync(path)
    sync(new)
    new.replace(directory)  # fails where something else is: what is there is never removed
    sync(directory.parent)


def _sweep(directory: Path) -> None:
    """Removes what fetches that were cut off left behind."""
    shutil.rmtree(directory.with_name(f"{directory.name}.new"), ignore_errors=True)
    shutil.rmtree(_incoming(directory), ignore_errors=True)
    packs = directory / "objects" / "pack"
    for path in packs.iterdir() if packs.exists() else ():
        is_lonely = path.suffix == ".pack" and not path.with_suffix(".idx").exists()
        if is_lonely or path.name.startswith("tmp_") or path.suffix == NEW:
            path.unlink()
    for path in [directory / f"shallow{NEW}", *(directory / REFS).rglob(f"*{NEW}")]:
        path.unlink(missing_ok=True)


NEW: Final = ".new"
"""The ending of a file that is being written."""


def _take_packs(source: Path, target: Path) -> None:
    """Moves packs, the index last: a pack without one is not seen by anyone."""
    indexes = sorted(source.glob("*.idx")) if source.exists() else []
    for index in indexes:
        pack = index.with_suffix(".pack")
        for path in (pack, index):
            sync(path)
        if (target / index.name).exists():
            continue  # the same objects came before
        pack.replace(target / pack.name)
        sync(target)
        index.replace(target / index.name)
    if indexes:
        sync(target)


def _take_shallow(source: Path, target: Path) -> None:
    """Notes the commits whose parents are not here, so that Git's own tools take the database for whole."""
    new = set(source.read_text().split()) if source.exists() else set()
    known = set(target.read_text().split()) if target.exists() else set()
    if not new <= known:
        _write_durably(target, "".join(f"{commit}\n" for commit in sorted(new | known)))


def _write_ref(directory: Path, name: str, object_id: str) -> None:
    path = directory / name
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in missing:
        sync(parent.parent)
    _write_durably(path, f"{object_id}\n")


def _write_durably(path: Path, text: str) -> None:
    new = path.with_name(path.name + NEW)
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)
