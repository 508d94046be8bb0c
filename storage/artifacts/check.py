"""Which trees are taken in: those that a checkout can write without surprises, and that cost what they seem to.

Names are checked in the whole tree of a commit, and before anything else is done with it. Links and sizes are checked
in the artifact alone, so that whoever cannot change a file can leave it out with `.sourceignore`.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from tidelog.storage.artifacts.errors import HostileTreeError
from tidelog.storage.artifacts.objects import LINK, MODES, TREE, RawEntry

LINK_BYTES_MAX: Final = 4096
"""Linux takes no longer path."""
LINK_HOPS_MAX: Final = 40
"""As Linux: more links on one way are a loop."""
NAME_BYTES_MAX: Final = 255
_ignorable = {*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF}
"""Characters that a Mac's file system does not see in names."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository may have at most."""

    entries: int = 500_000
    """Files and directories of a commit; a path counts as often as it is there."""
    depth: int = 100
    """Directories within each other."""
    path_bytes: int = 4095
    """As Linux takes it."""
    file_bytes: int = 100 * 2**20
    """One file of an artifact; GitHub takes no larger one."""
    artifact_bytes: int = 2 * 2**30
    """All files of an artifact, unpacked."""
    transfer_bytes: int = 2**30
    """What is taken from a remote at once, packed."""
    transfer_objects: int = 5_000_000


ReadTree = Callable[[str], list[RawEntry]]


def check_names(tree: str, read: ReadTree, limits: Limits) -> int:
    """Checks each name of a tree; returns the number of its entries.

    Raises:
        HostileTreeError: names the path.
        ObjectMissingError: when a directory is not there.
    """
    count = 0
    for path, entries in directories(tree, read):
        if path.count(b"/") >= limits.depth:
            raise HostileTreeError(shown(path), f"lies too deep: {limits.depth} directories are the most")
        count += len(entries)
        if count > limits.entries:
            raise HostileTreeError(
                shown(path), f"is too much: a tree has at most {limits.entries} files and directories"
            )
        seen = set()
        for entry in entries:
            whole = path + entry.name
            _check_name(entry, whole)
            if entry.name in seen:
                raise HostileTreeError(shown(whole), "is there twice in one directory")
            seen.add(entry.name)
            if len(whole) > limits.path_bytes:
                raise HostileTreeError(shown(whole[:80]) + "…", f"is too long: {limits.path_bytes} bytes are the most")
    return count


def check_content(
    tree: str, read: ReadTree, size: Callable[[str], int], target: Callable[[str], bytes], limits: Limits
) -> int:
    """Checks links and sizes of an artifact whose names were checked; returns the bytes of its files.

    Raises:
        HostileTreeError: names the path.
        ObjectMissingError: when a file is not there.
    """
    total = 0
    for path, entries in directories(tree, read):
        for entry in entries:
            if entry.mode == TREE:
                continue
            whole = shown(path + entry.name)
            bytes_ = size(entry.id)
            if entry.mode == LINK:
                _check_link(tree, whole, entry.id, bytes_, read, target)
                continue
            if bytes_ > limits.file_bytes:
                raise HostileTreeError(
                    whole,
                    f"has {bytes_} bytes; {limits.file_bytes} are the most: leave it out with .sourceignore",
                )
            total += bytes_
            if total > limits.artifact_bytes:
                raise HostileTreeError(
                    whole,
                    f"is too much: the files of an artifact have at most {limits.artifact_bytes} bytes; "
                    "leave some out with .sourceignore",
                )
    return total


def directories(tree: str, read: ReadTree) -> Iterator[tuple[bytes, list[RawEntry]]]:
    """Each directory of a tree: its path, with a slash at its end unless it is the tree itself, and its entries."""
    waiting = [(b"", tree)]
    while waiting:
        path, directory = waiting.pop()
        entries = read(directory)
        yield path, entries
        waiting += [(path + entry.name + b"/", entry.id) for entry in reversed(entries) if entry.mode == TREE]


def shown(path: bytes) -> str:
    """A path as people may read it, whatever is in it."""
    text = path.decode("utf-8", "backslashreplace").rstrip("/")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _check_name(entry: RawEntry, whole: bytes) -> None:
    if entry.mode not in MODES:
        raise HostileTreeError(shown(whole), f"has the mode {entry.mode:o}, which Git does not know")
    name = entry.name
    if len(name) > NAME_BYTES_MAX:
        raise HostileTreeError(shown(whole[:80]) + "…", f"has a name of more than {NAME_BYTES_MAX} bytes")
    if not name or name in {b".", b".."} or b"/" in name:
        raise HostileTreeError(shown(whole), f"has the name {shown(name)!r}, which leads elsewhere")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise HostileTreeError(shown(whole), "has a name that is not UTF-8: rename it") from None
    if _is_git_directory(text):
        raise HostileTreeError(shown(whole), "has a name that some file systems take for .git")


def _is_git_directory(name: str) -> bool:
    """Whether a file system that ignores case, or certain characters, takes a name for `.git`."""
    bare = "".join(sign for sign in name if ord(sign) not in _ignorable).casefold()
    return bare.partition(":")[0].rstrip(" .") in {".git", "git~1"}


def _check_link(tree: str, path: str, blob: str, size: int, read: ReadTree, target: Callable[[str], bytes]) -> None:
    if size > LINK_BYTES_MAX:
        raise HostileTreeError(path, f"is a link whose target has {size} bytes")
    where = target(blob)
    if not where or b"\0" in where:
        raise HostileTreeError(path, "is a link to nowhere")
    if leaves(tree, path.encode().rpartition(b"/")[0], where, read, target):
        raise HostileTreeError(
            path,
            f"is a link that leaves the repository (to {shown(where)!r}): "
            "remove it, or leave it out with .sourceignore",
        )


def leaves(tree: str, directory: bytes, where: bytes, read: ReadTree, target: Callable[[str], bytes]) -> bool:
    """Whether the way from `directory` along `where` leaves the tree, links on it followed as a system would."""
    stack: list[list[RawEntry] | None] = [read(tree)]
    todo = [*reversed(where.split(b"/")), *reversed(directory.split(b"/"))]
    if where.startswith(b"/"):
        return True
    hops = 0
    while todo:
        step = todo.pop()
        if step in {b"", b"."}:
            continue
        if step == b"..":
            stack.pop()
            if not stack:
                return True
            continue
        found = next((entry for entry in stack[-1] or () if entry.name == step), None)
        if found is not None and found.mode == LINK and (hops := hops + 1) <= LINK_HOPS_MAX:
            further = target(found.id)
            if further.startswith(b"/"):
                return True
            todo += reversed(further.split(b"/"))
            continue
        # What is not there, a file, and the end of a loop: no system goes on, and we only count steps.
        stack.append(read(found.id) if found is not None and found.mode == TREE else None)
    return False
