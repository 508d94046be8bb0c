"""A worker process that verifies signatures without a key. The engine may end it at any moment."""

import resource
from typing import Final

import msgspec

from tidelog.engine.sources.oci.keyless import Check, Checked
from tidelog.engine.sources.oci.keyless_check import check
from tidelog.engine.worker import die_with_parent, messages, write

MEMORY_BYTES: Final = 512 * 2**20

_decode = msgspec.msgpack.Decoder(Check).decode


def main() -> None:
    """Answers until stdin ends."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for message in messages():
        write(msgspec.msgpack.encode(_answer(_decode(message))))


def _answer(job: Check) -> Checked:
    try:
        return check(job)
    except (MemoryError, RecursionError):
        return Checked(why="it takes too much to read")


if __name__ == "__main__":
    main()
