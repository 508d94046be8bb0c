"""The files of a chart in a tree. Nothing outside the tree is ever read, wherever a path or a link leads."""

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tidelog.engine.sources.helm.archive import BOM, Budget, File
from tidelog.engine.sources.helm.chart import ChartError
from tidelog.engine.sources.helm.helmignore import HELMIGNORE, HelmIgnore, PatternError

DEPTH_MAX: Final = 100


def within(root: Path, path: str) -> Path | None:
    """Where a path of a tree leads: what would lead out of the tree stays at its root. None where a link leads out."""
    clean = posixpath.normpath(f"/{path}").lstrip("/")
    found = Path(os.path.realpath(root / clean))
    return found if found.is_relative_to(os.path.realpath(root)) else None


def read_file(path: Path, name: str, budget: Budget) -> bytes:
    """A file of a bounded size; not counted.

    Raises:
        ArchiveError: when it is too large.
    """
    budget.check(name, path.stat().st_size, f"with {HELMIGNORE}")
    return path.read_bytes().removeprefix(BOM)


def directory_files(root: Path, directory: Path, budget: Budget) -> list[File]:
    """The files of a chart, without those that `.helmignore` leaves out; in the order in which Helm walks.

    Raises:
        ArchiveError: when they are too much.
        ChartError: when a link leads out of the tree, or a pattern is none.
    """
    found = []
    for name, path in _walk(root, directory, _ignore(root, directory, budget)):
        data = read_file(path, name, budget)
        budget.take(len(data))
        found.append(File(name, data))
    return found


def _ignore(root: Path, directory: Path, budget: Budget) -> HelmIgnore:
    path = within(root, os.path.relpath(directory / HELMIGNORE, root))
    if path is None or not path.is_file():
        return HelmIgnore("")
    try:
        return HelmIgnore(read_file(path, HELMIGNORE, budget).decode("utf-8", "replace"))
    except PatternError as error:
        raise ChartError(f"{HELMIGNORE}: {error}") from None


def _walk(
    root: Path, directory: Path, ignore: HelmIgnore, below: str = "", depth: int = 0
) -> Iterator[tuple[str, Path]]:
    if depth > DEPTH_MAX:
        raise ChartError(f"{below!r}: directories are more than {DEPTH_MAX} deep; a link may lead back up")
    for entry in sorted(path.name for path in directory.iterdir()):
        name = f"{below}{entry}"
        path = Path(os.path.realpath(directory / entry))
        is_directory = path.is_dir()
        if ignore.leaves_out(name, is_directory=is_directory):
            continue
        if not path.is_relative_to(os.path.realpath(root)):
            raise ChartError(f"{name!r} is a link that leads out of the tree: put the file itself there")
        if is_directory:
            yield from _walk(root, path, ignore, f"{name}/", depth + 1)
        elif path.is_file():
            yield name, path
        else:
            raise ChartError(f"{name!r} is no file: leave it out with {HELMIGNORE}")
