"""The artifact of a tree: checked, without what is ignored, and packed as the file that a status names."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from tidelog.engine.sources.ignore import IGNORE_FILE, Ignore, ignore_of
from tidelog.engine.sources.intake.jobs import Place
from tidelog.storage.artifacts import Limits, Tarball
from tidelog.storage.artifacts.check import check_content, check_names, directories
from tidelog.storage.artifacts.filtering import filtered
from tidelog.storage.artifacts.objects import EXECUTABLE, FILE, FILE_OF_A_GROUP, Objects, RawEntry
from tidelog.storage.artifacts.tarballs import write_tarball

FILES: Final = frozenset({FILE, FILE_OF_A_GROUP, EXECUTABLE})
ReadTree: TypeAlias = Callable[[str], list[RawEntry]]


def artifact_of(
    objects: Objects, source: str, read: ReadTree, place: Place, limits: Limits, ignore: str | None
) -> tuple[str, Tarball]:
    """Makes the artifact of a tree by the rules of its `.sourceignore` files and of the spec.

    Returns:
        The artifact's tree, and its tar.gz.

    Raises:
        FetchError: when ignore rules cannot be read.
        ArtifactError: when the tree is refused, or not whole.
    """
    check_names(source, read, limits)
    rules = ignore_of(_ignore_files(objects, source, read), ignore)
    tree = _filtered(objects, source, rules, place)
    check_content(tree, read, objects.size, lambda blob: objects.read(blob, "blob"), limits)
    return tree, write_tarball(objects, tree, Path(place.tarball))


def remembering(objects: Objects) -> ReadTree:
    """Reads each tree once: a process does one job, and its limits bound what that can be."""
    known: dict[str, list[RawEntry]] = {}

    def read(tree: str) -> list[RawEntry]:
        found = known.get(tree)
        if found is None:
            found = known[tree] = objects.tree(tree)
        return found

    return read


def pack(objects: Objects, made: Iterable[str], place: Place) -> None:
    """Packs objects of the quarantine, so that they can be admitted."""
    objects.pack(made, Path(place.repository) / "objects" / "pack")


def _filtered(objects: Objects, source: str, rules: Ignore, place: Place) -> str:
    tree, made = filtered(objects, source, rules.keeps)
    if made:
        pack(objects, made, place)
    return tree


def _ignore_files(objects: Objects, tree: str, read: ReadTree) -> list[tuple[str, bytes]]:
    return [
        (path.decode(), objects.read(entry.id, "blob"))
        for path, entries in directories(tree, read)
        for entry in entries
        if entry.name == IGNORE_FILE.encode() and entry.mode in FILES
    ]
