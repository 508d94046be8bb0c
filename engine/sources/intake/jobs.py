"""What the processes are told that take in what comes from outside, and what they answer.

One JSON text each, over a socket of the job's own.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.sources.errors import FetchReason
from tidelog.storage.artifacts import Limits

ANSWER_BYTES_MAX: Final = 2**18
MESSAGE_CHARACTERS_MAX: Final = 8192
"""Of a commit's message; the commit itself is kept whole."""
TRANSFERRED: Final = b"transferred\n"
"""Said when the network's part is done: the time limit of the source ends there."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job is done: parts of a quarantine."""

    repository: str
    """The quarantine's repository."""
    tarball: str
    """Where the artifact's file is to be written."""
    home: str
    """An empty directory: HOME, and where temporary files go."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True, tag="transfer"):
    """One fetch from Git, or, without an address or a directory, a new artifact of a commit that is there."""

    place: Place = Place(repository="", tarball="", home="")
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

    @property
    def what(self) -> str:
        """What is read, for messages."""
        return self.url or self.directory

    @property
    def reason(self) -> FetchReason:
        """Of its failures, where nothing else is known of them."""
        return "GitOperationFailed"


class Unpack(msgspec.Struct, frozen=True, kw_only=True, tag="unpack"):
    """What was downloaded becomes a tree, and an artifact of it."""

    place: Place = Place(repository="", tarball="", home="")
    path: str
    """Of what was downloaded."""
    form: Literal["archive", "directory", "file", "any"]
    """An archive is a tar, compressed or not; a file becomes the only one of its tree; any is one of these two."""
    name: str = ""
    """Of a file, in its tree."""
    what: str
    """What is read, for messages."""
    is_filtered: bool = True
    """Whether the rules of `.sourceignore`, and Flux's own, leave files out."""
    is_kept: bool = False
    """Whether the artifact's file is what was downloaded, byte for byte, and not packed anew."""
    ignore: str | None = None
    reason: FetchReason
    """Of its failures, where nothing else is known of them."""
    limits: Limits = Limits()

    @property
    def timeout_s(self) -> float:
        """Nothing of it goes over a network."""
        return 60.0


Job: TypeAlias = Transfer | Unpack


class Identity(msgspec.Struct, frozen=True):
    """Who made a commit, as it claims: the time in seconds since 1970."""

    name: str
    email: str
    time_s: int


class Unpacked(msgspec.Struct, frozen=True, kw_only=True, tag="unpacked"):
    """What is in the quarantine now."""

    tree: str
    digest: str
    """Of the artifact's file."""
    size: int


class Brought(Unpacked, frozen=True, kw_only=True, tag="brought"):
    """What a commit was made into."""

    commit: str
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


Answer: TypeAlias = Brought | Unpacked | Failed
