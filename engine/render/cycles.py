"""Kustomizations that list one another, or a directory that they are in: kustomize tells no file of a cycle."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from tidelog.engine.render.fields import texts
from tidelog.engine.render.lines import line_of_text
from tidelog.engine.render.paths import join, shown

DEPTH_MAX: Final = 200

Written: TypeAlias = tuple[str, str, dict[str, Any]]
"""A kustomization file: path, text and content."""


def cycle(files: Mapping[str, Written], root: str) -> str | None:
    """A sentence on the first cycle that a build of `root` runs into; None where there is none.

    Args:
        files: by their directories.
        root: the directory that is built.
    """
    return _follow(files, root, (root,), (), set())


def _follow(
    files: Mapping[str, Written], directory: str, above: Sequence[str], steps: Sequence[str], seen: set[str]
) -> str | None:
    if directory not in files or directory in seen or len(above) > DEPTH_MAX:
        return None
    seen.add(directory)
    for step, place in _listed(files[directory], directory):
        if any(one == place or not place or one.startswith(f"{place}/") for one in above):
            first = next((n for n, one in enumerate(above) if one == place), len(above) - 1)
            return f"{', '.join([*steps[first:], step])}: a cycle"
        if found := _follow(files, place, (*above, place), (*steps, step), seen):
            return found
    return None


def _listed(written: Written, directory: str) -> Iterator[tuple[str, str]]:
    """What a kustomization lists, as it is said, and where that is."""
    path, text, content = written
    for name in texts(content, "resources", "bases", "components"):
        if "://" not in name:
            line = line_of_text(text, name)
            yield f"{path}{f':{line}' if line else ''} lists {shown(name)}", join(directory, name, named_in=path)
