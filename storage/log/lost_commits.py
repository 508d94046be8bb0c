"""Whether commits stand in a write-ahead log that SQLite does not read.

Where the checksum of a frame does not fit, SQLite takes it for the end, and cannot tell what was damaged from what a
power failure cut off. The frames behind it can: each commit was fsynced before the next one began, so of those that
were cut off, one at most has the mark of a commit.
"""

import sys
from array import array
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

_HEADER = Struct(">4I8s2I")
"""Magic, version, bytes of a page, number of the checkpoint, salts, checksum."""
_FRAME = Struct(">2I8s2I")
"""Before each page: its number, the pages of the database where it ends a commit (else 0), salts, checksum."""
_MAGIC = 0x377F0682
"""Its last bit tells the order of bytes in the words that checksums are over."""
_PAGE_BYTES = 4_096
"""Of every log, where the header does not tell."""
_PAGE_BYTES_MAX = 65_536

Sums = tuple[int, int]
"""A checksum: each goes on from the one before it."""


class LostCommits(NamedTuple):
    """Commits that were acknowledged, and are read no more."""

    frame: int
    """The first that cannot be read, from 1; 0 for the header."""
    commits: int
    """The marks of commits from there on."""

    @property
    def place(self) -> str:
        """Where it is in the file."""
        return f"frame {self.frame}" if self.frame else "header"

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        return f"its checksum does not fit: it ends the log, and {self.commits} commits from there on are lost"


def lost_commits(file: Path) -> LostCommits | None:
    """What the write-ahead log `file`, which nobody writes, has lost for certain; None where it is not there.

    Of the last commit that cannot be told: it may never have been acknowledged.

    Raises:
        OSError: when the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return _lost(opened)
    except FileNotFoundError:
        return None


def _lost(file: BinaryIO) -> LostCommits | None:
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    magic, _, page_bytes, _, salts, *sums = _HEADER.unpack(head)
    order = "big" if magic & 1 else "little"
    running = _sums(head[:24], (0, 0), order)
    broken = None
    if magic & ~1 != _MAGIC or not 512 <= page_bytes <= _PAGE_BYTES_MAX or running != tuple(sums):
        broken, page_bytes, salts = 0, _PAGE_BYTES, None  # the frames are then held against the first of them
    number = count = 0
    while len(frame := file.read(_FRAME.size + page_bytes)) == _FRAME.size + page_bytes:
        number += 1
        page, pages, frame_salts, *sums = _FRAME.unpack_from(frame)
        salts = salts or frame_salts
        if broken is None:
            running = _sums(frame[:8] + frame[_FRAME.size :], running, order)
            if page and frame_salts == salts and running == tuple(sums):
                continue
            broken = number
        count += pages > 0 and frame_salts == salts
    return None if broken is None or count < 2 else LostCommits(broken, count)


def _sums(data: bytes, start: Sums, order: str) -> Sums:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = start
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
