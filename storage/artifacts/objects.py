"""Git's objects as bytes: trees are parsed here and not by libgit2, which decodes names before they can be checked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pygit2
from pygit2.enums import ObjectType

from tidelog.storage.artifacts.errors import HostileTreeError, ObjectMissingError

FILE: Final = 0o100644
FILE_OF_A_GROUP: Final = 0o100664
"""As very old versions of Git wrote it."""
EXECUTABLE: Final = 0o100755
LINK: Final = 0o120000
TREE: Final = 0o40000
SUBMODULE: Final = 0o160000
MODES: Final = frozenset({FILE, FILE_OF_A_GROUP, EXECUTABLE, LINK, TREE, SUBMODULE})

ID_BYTES: Final = 20
FILES_OPEN_MAX: Final = 128
"""Packs that libgit2 keeps open: a store may have more packs than a process may have files."""


class RawEntry(NamedTuple):
    """One line of a tree, nothing of it checked but its form."""

    mode: int
    name: bytes
    id: str


class Objects:
    """Reads and writes the objects of one Git object database. Blocks; for worker threads and processes."""

    def __init__(self, repository: Path) -> None:
        use_libgit2_alone()
        self.repository = pygit2.Repository(str(repository), pygit2.enums.RepositoryOpenFlag.NO_SEARCH)
        self._odb = self.repository.odb

    def close(self) -> None:
        """Lets go of the files."""
        self.repository.free()

    def __contains__(self, object_id: str) -> bool:
        return self._odb.exists(object_id)

    def read(self, object_id: str, kind: Literal["blob", "tree", "commit"]) -> bytes:
        """The content of an object.

        Raises:
            ObjectMissingError: when it is not there, is damaged, or is of another kind.
        """
        try:
            found, data = self._odb.read(object_id)
        except (KeyError, ValueError, OSError, pygit2.GitError) as error:
            raise ObjectMissingError(f"the {kind} {object_id}", _why(error)) from error
        if found != KINDS[kind]:
            raise ObjectMissingError(f"the {kind} {object_id}", "is an object of another kind")
        return data

    def size(self, blob: str) -> int:
        """The size of a file in bytes, without reading it.

        Raises:
            ObjectMissingError: when it is not there, is damaged, or is no blob.
        """
        try:
            found, size = self._odb.read_header(blob)
        except (KeyError, ValueError, OSError, pygit2.GitError) as error:
            raise ObjectMissingError(f"the blob {blob}", _why(error)) from error
        if found != ObjectType.BLOB:
            raise ObjectMissingError(f"the blob {blob}", "is an object of another kind")
        return size

    def tree(self, tree: str) -> list[RawEntry]:
        """The entries of a tree in Git's order."""
        return parse_tree(self.read(tree, "tree"))

    def write_tree(self, entries: Iterable[RawEntry]) -> str:
        """Writes a tree; entries must be in Git's order. Returns its id."""
        return str(self._odb.write(ObjectType.TREE, encode_tree(entries)))

    def write_blob(self, data: bytes) -> str:
        """Writes a file's content. Returns its id."""
        return str(self._odb.write(ObjectType.BLOB, data))

    def pack(self, object_ids: Iterable[str], directory: Path) -> None:
        """Writes objects that are there into one pack in a directory."""
        packed = pygit2.PackBuilder(self.repository)
        for each in object_ids:
            packed.add(pygit2.Oid(hex=each))
        packed.write(str(directory))


KINDS: Final = {"blob": ObjectType.BLOB, "tree": ObjectType.TREE, "commit": ObjectType.COMMIT}


def use_libgit2_alone() -> None:
    """Sets what libgit2 has once for a process: nobody's configuration, few open files.

    Whose files a repository's are is no question here: libgit2 runs no hooks, and we name each repository.
    """
    pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, False)  # noqa: FBT003  # pygit2's own form
    pygit2.option(pygit2.enums.Option.SET_MWINDOW_FILE_LIMIT, FILES_OPEN_MAX)
    for level in (
        pygit2.enums.ConfigLevel.GLOBAL,
        pygit2.enums.ConfigLevel.XDG,
        pygit2.enums.ConfigLevel.SYSTEM,
        pygit2.enums.ConfigLevel.PROGRAMDATA,
    ):
        pygit2.option(pygit2.enums.Option.SET_SEARCH_PATH, level, "")


def parse_tree(data: bytes) -> list[RawEntry]:
    """The entries of a tree object.

    Raises:
        HostileTreeError: when it is no tree.
    """
    entries = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        end = data.find(b"\0", space) if space > 0 else -1
        if end < 0 or end + 1 + ID_BYTES > len(data):
            raise HostileTreeError("", "has a damaged directory")
        mode = data[position:space]
        if not mode.isdigit() or b"8" in mode or b"9" in mode:
            raise HostileTreeError("", "has a damaged directory")
        position = end + 1 + ID_BYTES
        entries.append(RawEntry(int(mode, 8), data[space + 1 : end], data[end + 1 : position].hex()))
    return entries


def encode_tree(entries: Iterable[RawEntry]) -> bytes:
    """The tree object with these entries."""
    return b"".join(b"%o %s\0%s" % (entry.mode, entry.name, bytes.fromhex(entry.id)) for entry in entries)


def _why(error: Exception) -> str:
    return "is not in the artifact store" if isinstance(error, KeyError) else "is damaged"
