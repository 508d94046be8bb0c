"""A directory on this machine as a tree, so that what is not committed yet can be rendered.

It holds what an artifact of it would: what the ignore rules leave out is not there, nor are links, devices and
directories without files. Ids are Git's, so that a file has the same one as when it is committed.
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from tidelog.engine.sources.errors import DirectoryError
from tidelog.engine.sources.ignore import IGNORE_FILE, Ignore, ignore_of
from tidelog.storage.trees import TreeEntry

FILES_MAX: Final = 100_000
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of one file; more is no manifest."""


class DirectoryTree:
    """The files of a directory, as they are read. Made by `of`."""

    def __init__(self, root: str, trees: Mapping[str, dict[str, TreeEntry]], blobs: Mapping[str, Path]) -> None:
        self.root = root
        """The id of the whole."""
        self._trees = trees
        self._blobs = blobs

    @classmethod
    def of(cls, directory: Path, ignore: str | None = None) -> "DirectoryTree":
        """The tree of a directory. Blocks; for worker threads.

        Args:
            directory: whose files are taken; they are read again when they are asked for.
            ignore: the source's `spec.ignore`.

        Raises:
            DirectoryError: when it has too many files, or one that cannot be read.
            FetchError: when ignore rules cannot be read.
        """
        if not directory.is_dir():
            raise DirectoryError(f"{directory} is no directory")
        files = sorted(_files(directory))
        rules = [(path.removesuffix(IGNORE_FILE), (directory / path).read_bytes()) for path in _ignore_files(files)]
        return _made(directory, files, ignore_of(rules, ignore))

    def entry(self, tree: str, path: str) -> TreeEntry | None:
        """What stands at `path`; None when there is nothing."""
        found: TreeEntry | None = TreeEntry(tree, "tree")
        for name in path.split("/") if path else ():
            if found is None or found.kind != "tree":
                return None
            found = self._trees[found.id].get(name)
        return found

    def children(self, tree: str) -> dict[str, TreeEntry]:
        """The entries of one directory, by name."""
        return self._trees[tree]

    def read(self, blob: str) -> bytes:
        """The content of a file."""
        return self._blobs[blob].read_bytes()

    def checkout(self, tree: str, paths: Collection[str] | None, into: Path) -> None:
        """Writes files below `into`: those at `paths`, each with all that is below it, or the whole tree."""
        for path in [""] if paths is None else sorted(set(paths)):
            found = self.entry(tree, path.strip("/"))
            if found is not None:
                self._write(found, into / path)

    def _write(self, entry: TreeEntry, place: Path) -> None:
        if entry.kind == "tree":
            place.mkdir(parents=True, exist_ok=True)
            for name, below in self.children(entry.id).items():
                self._write(below, place / name)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.read(entry.id))


def _files(directory: Path) -> Iterator[str]:
    """The paths of its regular files; what links lead to is not followed."""
    count = 0
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name != ".git"]
        for name in names:
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file():
                continue
            count += 1
            if count > FILES_MAX:
                raise DirectoryError(f"{directory} has more than {FILES_MAX} files: name the repository's directory")
            yield path.relative_to(directory).as_posix()


def _ignore_files(files: list[str]) -> list[str]:
    """The files with ignore rules, a directory before those in it."""
    found = [path for path in files if path.rpartition("/")[2] == IGNORE_FILE]
    return sorted(found, key=lambda path: path.count("/"))


def _made(directory: Path, files: list[str], ignore: Ignore) -> DirectoryTree:
    nested: dict[str, dict[str, TreeEntry]] = {"": {}}
    blobs: dict[str, Path] = {}
    for path in files:
        if ignore.keeps(path):
            entry = _blob(directory / path, path)
            blobs[entry.id] = directory / path
            parent, _, name = path.rpartition("/")
            nested.setdefault(parent, {})[name] = entry
            while parent:
                parent = parent.rpartition("/")[0]
                nested.setdefault(parent, {})
    trees: dict[str, dict[str, TreeEntry]] = {}
    # The deepest first: a tree's id is made of those below it.
    for path in sorted(nested, key=lambda path: path.count("/") if path else -1, reverse=True):
        entries = nested[path]
        made = _tree_id(entries)
        trees[made] = dict(sorted(entries.items(), key=_git_order))
        if path:
            parent, _, name = path.rpartition("/")
            nested[parent][name] = TreeEntry(made, "tree")
    return DirectoryTree(_tree_id(nested[""]), trees, blobs)


def _blob(file: Path, path: str) -> TreeEntry:
    status = file.stat()
    if status.st_size > FILE_BYTES_MAX:
        raise DirectoryError(f"{path} has more than {FILE_BYTES_MAX >> 20} MiB; leave it out with {IGNORE_FILE}")
    return TreeEntry(_git_id("blob", file.read_bytes()), "blob", executable=bool(status.st_mode & 0o100))


def _tree_id(entries: Mapping[str, TreeEntry]) -> str:
    """Git's id of a directory."""
    content = b"".join(
        f"{_mode(entry)} {name}".encode("utf-8", "surrogateescape") + b"\0" + bytes.fromhex(entry.id)
        for name, entry in sorted(entries.items(), key=_git_order)
    )
    return _git_id("tree", content)


def _mode(entry: TreeEntry) -> str:
    return "40000" if entry.kind == "tree" else "100755" if entry.executable else "100644"


def _git_order(item: tuple[str, TreeEntry]) -> bytes:
    name, entry = item
    return (name + ("/" if entry.kind == "tree" else "")).encode("utf-8", "surrogateescape")


def _git_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
