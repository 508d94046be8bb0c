"""The tree of an artifact: that of its commit, less what is ignored."""

from collections.abc import Callable

from tidelog.storage.artifacts.objects import SUBMODULE, TREE, Objects, RawEntry

Keeps = Callable[[str], bool]
"""Whether the file at a path is part of the artifact."""

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def filtered(objects: Objects, tree: str, keeps: Keeps) -> tuple[str, list[str]]:
    """Writes the tree that holds the files that `keeps` names.

    Directories that are left empty are left out, and so are submodules, of which nothing is here.

    Returns:
        The tree's id, and the ids of the trees that were made for it: none where nothing was left out.
    """
    made: dict[str, None] = {}
    kept = _filtered(objects, tree, "", keeps, made)
    if kept is None:
        kept = objects.write_tree(())
        made[kept] = None
    return kept, list(made)


def _filtered(objects: Objects, tree: str, path: str, keeps: Keeps, made: dict[str, None]) -> str | None:
    before = objects.tree(tree)
    after: list[RawEntry] = []
    for entry in before:
        whole = path + entry.name.decode()
        if entry.mode == TREE:
            below = _filtered(objects, entry.id, f"{whole}/", keeps, made)
            if below is not None:
                after.append(entry._replace(id=below))
        elif entry.mode != SUBMODULE and keeps(whole):
            after.append(entry)
    if not after:
        return None
    if after == before:
        return tree
    kept = objects.write_tree(after)
    made[kept] = None
    return kept
