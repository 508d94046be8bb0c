"""Trees of files, as the artifact store keeps them: the seam between who fetches and who renders.

Ids are those of Git (hex). Everything here blocks: it is for worker threads.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

import msgspec


class TreeEntry(msgspec.Struct, frozen=True):
    """What stands at a path of a tree."""

    id: str
    kind: Literal["blob", "tree", "link"]
    executable: bool = False


class Trees(Protocol):
    """Reads trees by their id."""

    def entry(self, tree: str, path: str) -> TreeEntry | None:
        """What stands at `path` (`""` is the tree itself), without following links; None when there is nothing."""
        ...

    def children(self, tree: str) -> dict[str, TreeEntry]:
        """The entries of one directory, by name, in Git's order."""
        ...

    def read(self, blob: str) -> bytes:
        """The content of a file; of a link, its target."""
        ...

    def checkout(self, tree: str, paths: Collection[str] | None, into: Path) -> None:
        """Writes files below `into`: those at `paths`, each with all that is below it, or the whole tree."""
        ...
