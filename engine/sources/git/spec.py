"""What is asked of a Git repository, and what comes of it."""

from pathlib import Path

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.names import Revision
from tidelog.events.vocabulary.fetch import Person

DEFAULT_BRANCH = "master"
"""As Flux has it (GR-007)."""
DEFAULT_TIMEOUT_S = 60.0


class GitRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which revision: the first that is given of commit, name, tag, semver, branch (contract GR-007)."""

    branch: str = ""
    tag: str = ""
    semver: str = ""
    name: str = ""
    commit: str = ""


class GitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a GitRepository asks for."""

    namespace: str
    name: str
    url: str
    ref: GitRef = GitRef()
    ignore: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    """For the questions to the remote, and for the transfer, each."""


class Head(msgspec.Struct, frozen=True):
    """What a remote has at a reference."""

    revision: Revision
    commit: str
    name: str = ""
    """The whole name of the reference; empty where a commit was asked for."""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that is in the artifact store, durably."""

    revision: Revision
    commit: str
    tree: str
    """The artifact's tree: the commit's, less what is ignored."""
    artifact: Digest
    """Of the tar.gz."""
    size: int
    path: Path
    """Where the tar.gz is."""
    author: Person
    committer: Person
    message: str
    """Of the commit, cut where it is very long."""


def revision_of(ref: GitRef, commit: str, name: str) -> Revision:
    """A revision in Flux's format (contract GR-022).

    Args:
        ref: what was asked for.
        commit: what was found.
        name: the whole name of the reference at which it was found.
    """
    if ref.commit:
        where = ref.branch
    elif ref.name:
        where = ref.name
    else:
        where = name.removeprefix("refs/tags/").removeprefix("refs/heads/")
    return Revision(f"{where}@sha1:{commit}" if where else f"sha1:{commit}")
