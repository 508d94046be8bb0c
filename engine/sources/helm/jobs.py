"""What is said between the engine and a worker: MessagePack."""

from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchReason
from tidelog.engine.sources.helm.index import IndexMade

ANSWER_BYTES_MAX: Final = 16 * 2**20


class ReadIndex(msgspec.Struct, frozen=True, tag="index"):
    """Read an index, and write it down as JSON."""

    source: str
    into: str
    where: str
    """The repository, for messages."""
    reason: FetchReason = "IndexationFailed"
    """When a limit is met."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job failed."""

    reason: FetchReason
    message: str
    final: bool


class Read(msgspec.Struct, frozen=True, tag="read"):
    """An index was read."""

    made: IndexMade


Job = ReadIndex
Answer = Read | Failed
