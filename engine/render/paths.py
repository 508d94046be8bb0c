"""Paths within a tree, and what is a path to somewhere else."""

import re

from tidelog.engine.render.errors import RenderError

# As kustomize tells a repository's address from a directory: a scheme, a user, or GitHub.
_remote = re.compile(
    r"(git::)?((file|https?|ssh|git)://|[a-z][a-z0-9-]*@[^/]|gh:|(www\.)?github\.com[/:])", re.IGNORECASE
)

_no_path = re.compile(r"[\n{\[]|: ")


def is_remote(path: str) -> bool:
    """Whether kustomize would fetch `path` instead of looking it up."""
    return _remote.match(path) is not None


def shown(path: str) -> str:
    """A path as errors quote it; a text that stands for a path by mistake may hold a secret, and is not quoted."""
    return "a text that is no object, and so is a path," if _no_path.search(path) else repr(path)


def root_path(path: str) -> str:
    """A target's `spec.path` in its tree, `""` for the tree itself. What climbs out is held at the top, as in Flux."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def join(directory: str, path: str, *, named_in: str) -> str:
    """`path` as a kustomization file in `directory` means it.

    Args:
        directory: where the file is.
        path: as written there.
        named_in: the file, for the error.

    Raises:
        RenderError: when the path leaves the tree.
    """
    parts = directory.split("/") if directory else []
    if path.startswith("/"):
        raise RenderError(f"{named_in}: {shown(path)} is absolute; paths are relative to this file's directory")
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise RenderError(f"{named_in}: {shown(path)} leaves the source; only its own files can be used")
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)
