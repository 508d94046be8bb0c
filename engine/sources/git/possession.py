"""What a remote really gave: that a store of many sources holds an object gives nobody a right to it.

A remote may name any object by its id: as its branch's commit, in a tree, or as what a delta builds upon. Where the
store of all sources could be read during a transfer, a source would so get what another one, private perhaps, has
brought. A transfer reads the store only where its source fetched from there before, and then all that makes up its
commit has to be of that, or to have come.
"""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from tidelog.storage.artifacts import ObjectMissingError
from tidelog.storage.artifacts.objects import ID_BYTES, SUBMODULE, TREE, Objects, RawEntry

ReadTree = Callable[[str], list[RawEntry]]

NOT_GIVEN: Final = "did not come from the remote"
_MAGIC: Final = b"\xfftOc\x00\x00\x00\x02"
_FANOUT: Final = len(_MAGIC) + 255 * 4
_IDS: Final = _FANOUT + 4
_FAR: Final = 1 << 31


def stand_alone(repository: Path) -> None:
    """Has a quarantine see nothing but what comes into it."""
    (repository / "objects" / "info" / "alternates").unlink(missing_ok=True)


def check_possession(objects: Objects, commit: str, have: Iterable[str], completed: int, read: ReadTree) -> None:
    """Looks whether a commit is made of what came, and of what the source had.

    Args:
        objects: of the quarantine, and of the store behind it.
        commit: what was fetched.
        have: the commits that the source had.
        completed: how many objects of the store completed the pack: what deltas in it build upon.
        read: the entries of a tree.

    Raises:
        ObjectMissingError: when it is not.
    """
    had: set[str] = set()
    for known in have:
        had.add(known)
        had.update(_reachable(_tree_of(objects, known), read, frozenset()))
    came = _packed(Path(objects.repository.path) / "objects" / "pack")
    bases = came[len(came) - completed :]
    if not had.issuperset(bases):
        raise ObjectMissingError("what a delta builds upon", NOT_GIVEN)
    owned = had.union(came[: len(came) - completed])
    for id in (commit, *_reachable(_tree_of(objects, commit), read, had)):
        if id not in owned:
            raise ObjectMissingError(f"the object {id}", NOT_GIVEN)


def _tree_of(objects: Objects, commit: str) -> str:
    data = objects.read(commit, "commit")
    return data[len("tree ") : len("tree ") + 2 * ID_BYTES].decode("ascii", "replace")


def _reachable(tree: str, read: ReadTree, known: Collection[str]) -> Iterator[str]:
    """The ids of a tree, and of all in it; of what is known, only its own."""
    seen = {tree}
    waiting = [tree]
    yield tree
    while waiting:
        directory = waiting.pop()
        if directory in known:
            continue
        for entry in read(directory):
            if entry.mode == SUBMODULE or entry.id in seen:
                continue
            seen.add(entry.id)
            yield entry.id
            if entry.mode == TREE:
                waiting.append(entry.id)


def _packed(directory: Path) -> list[str]:
    """The ids of the objects of a pack, in its order: what completes one is at its end."""
    files = sorted(directory.glob("*.idx"))
    if len(files) > 1:
        raise ObjectMissingError("what came in several packs", "cannot be looked through")
    return _in_order(files[0].read_bytes()) if files else []


def _in_order(index: bytes) -> list[str]:
    """The ids in an index of a pack (version 2 of Git's format), by where their objects are in the pack."""
    if not index.startswith(_MAGIC):
        raise ObjectMissingError("the index of a pack")
    (count,) = struct.unpack_from(">I", index, _FANOUT)
    near = struct.unpack_from(f">{count}I", index, _IDS + count * (ID_BYTES + 4))
    far = _IDS + count * (ID_BYTES + 8)
    placed = []
    for number, place in enumerate(near):
        if place & _FAR:
            (place,) = struct.unpack_from(">Q", index, far + 8 * (place & ~_FAR))  # noqa: PLW2901 - where it is
        begin = _IDS + number * ID_BYTES
        placed.append((place, index[begin : begin + ID_BYTES].hex()))
    return [id for _, id in sorted(placed)]
