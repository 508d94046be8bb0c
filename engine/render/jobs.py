"""What is said between the engine and a worker: frames of MessagePack, each behind its length (4 bytes, big-endian)."""

from typing import Final

import msgspec

from tidelog.engine.render.landlock import Reach
from tidelog.engine.render.postbuild import Finished, Settings

FRAME_MAX: Final = 512 * 1024 * 1024


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run a program in a sandbox."""

    command: tuple[str, ...]
    directory: str
    """Its working directory."""
    home: str
    """Its HOME and TMPDIR, an empty directory; its output goes through there."""
    search: str
    """Its PATH."""
    reach: Reach
    memory_bytes: int
    output_bytes: int


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """Make a target's objects from the output of a build."""

    text: str
    settings: Settings


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """A program ended."""

    code: int
    """Its exit code; below zero the signal that ended it."""
    output: bytes
    errors: bytes
    limit: str = ""
    """The limit that it met, as a sentence; empty when it met none."""


class Made(msgspec.Struct, frozen=True, tag="made"):
    """A target's objects."""

    finished: Finished


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job failed."""

    message: str
    final: bool
    variable: str = ""
    """The variable that has no value, when that is what failed."""


Job = Run | Finish
Answer = Ran | Made | Failed
