"""What the process that transfers is told, and what it answers: one JSON text each, over a socket of the job's own."""

from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchReason
from tidelog.storage.artifacts import Limits

ANSWER_BYTES_MAX: Final = 2**18
MESSAGE_CHARACTERS_MAX: Final = 8192
"""Of a commit's message; the commit itself is kept whole."""
TRANSFERRED: Final = b"transferred\n"
"""Said when the network's part is done: the time limit of the source ends there."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One fetch, or, without an address or a directory, a new artifact of a commit that is there."""

    repository: str
    """The quarantine's repository."""
    tarball: str
    """Where the tar.gz is to be written."""
    home: str
    """An empty directory: HOME, and where temporary files go."""
    url: str = ""
    headers: tuple[str, ...] = ()
    ca: str = ""
    directory: str = ""
    """A repository on this machine."""
    want: str = ""
    """The whole name of a reference; empty where `commit` is wanted, whatever refers to it."""
    commit: str = ""
    branch: str = ""
    """Where to look for a commit that the remote does not give alone; empty for all branches and tags."""
    have: tuple[str, ...] = ()
    """Commits that are there already."""
    ignore: str | None = None
    limits: Limits = Limits()
    timeout_s: float = 60.0


class Identity(msgspec.Struct, frozen=True):
    """Who made a commit, as it claims: the time in seconds since 1970."""

    name: str
    email: str
    time_s: int


class Brought(msgspec.Struct, frozen=True, kw_only=True, tag="brought"):
    """What is in the quarantine now."""

    commit: str
    tree: str
    digest: str
    size: int
    author: Identity
    committer: Identity
    message: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """Why nothing is."""

    reason: FetchReason
    message: str
    final: bool = False
    is_damage: bool = False
    """Whether the store itself lacked something."""


Answer = Brought | Failed
