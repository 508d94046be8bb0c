"""Trees in memory, with ids that name their content as Git's do."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from tidelog.storage.trees import TreeEntry


class MemoryTrees:
    """Implements `tidelog.storage.trees.Trees`; `add` makes a tree of files, and of links (`{path: Link(target)}`)."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._trees: dict[str, dict[str, TreeEntry]] = {}
        self.read_blobs: list[str] = []

    def add(self, files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None) -> str:
        root: dict[str, object] = {}
        for path, content in files.items():
            _put(root, path, ("blob", content.encode() if isinstance(content, str) else content))
        for path, target in (links or {}).items():
            _put(root, path, ("link", target.encode()))
        return self._add(root)

    def _add(self, node: dict[str, object]) -> str:
        entries = {}
        for name, child in sorted(node.items()):
            if isinstance(child, dict):
                entries[name] = TreeEntry(self._add(child), "tree")
            else:
                assert isinstance(child, tuple)
                kind, data = child
                blob = hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()
                self._blobs[blob] = data
                entries[name] = TreeEntry(blob, kind)
        text = "".join(f"{name} {entry.kind} {entry.id}\n" for name, entry in entries.items())
        tree = hashlib.sha1(b"tree" + text.encode()).hexdigest()
        self._trees[tree] = entries
        return tree

    def entry(self, tree: str, path: str) -> TreeEntry | None:
        found = TreeEntry(tree, "tree")
        for part in path.split("/") if path else []:
            child = self._trees[found.id].get(part) if found.kind == "tree" else None
            if child is None:
                return None
            found = child
        return found

    def children(self, tree: str) -> dict[str, TreeEntry]:
        return self._trees[tree]

    def read(self, blob: str) -> bytes:
        self.read_blobs.append(blob)
        return self._blobs[blob]

    def checkout(self, tree: str, paths: Collection[str] | None, into: Path) -> None:
        for path in [""] if paths is None else paths:
            entry = self.entry(tree, path)
            assert entry is not None, path
            self._write(entry, into / path if path else into)

    def _write(self, entry: TreeEntry, to: Path) -> None:
        if entry.kind == "tree":
            to.mkdir(parents=True, exist_ok=True)
            for name, child in self._trees[entry.id].items():
                self._write(child, to / name)
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "link":
            to.symlink_to(self._blobs[entry.id].decode())
        else:
            to.write_bytes(self._blobs[entry.id])

    def files(self, tree: str) -> dict[str, bytes]:
        """All files of a tree."""
        found: dict[str, bytes] = {}
        for name, entry in self._trees[tree].items():
            if entry.kind == "tree":
                found |= {f"{name}/{path}": data for path, data in self.files(entry.id).items()}
            elif entry.kind == "blob":
                found[name] = self._blobs[entry.id]
        return found


def _put(root: dict[str, object], path: str, leaf: tuple[str, bytes]) -> None:
    *parents, name = path.split("/")
    for parent in parents:
        child = root.setdefault(parent, {})
        assert isinstance(child, dict)
        root = child
    root[name] = leaf
