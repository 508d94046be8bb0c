"""What is asked of a Git repository, and what comes of it."""

import msgspec

from tidelog.engine.sources.fetched import Head
from tidelog.events.names import Revision

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


class GitHead(Head, frozen=True):
    """What a remote has at a reference."""

    commit: str
    name: str = ""
    """The whole name of the reference; empty where a commit was asked for."""


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
