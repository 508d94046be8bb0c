"""The log as static files: paths and contents of C2SP tlog-tiles.

A tile is 256 hashes of one tile level side by side (see `merkle.Node`; level 0 are the leaf hashes), fewer
at the right edge of the tree. An entry bundle holds the entries under one tile of level 0. Numbers count
from 0.
"""

from collections.abc import Iterator, Sequence

from tidelog.events.merkle import TILE_BITS, TILE_WIDTH

ENTRY_BYTES_MAX = 65_535
"""The largest entry: its length is written in 16 bits."""

LEVEL_MAX = 63


def tile_path(level: int, number: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile, as `tile/0/x001/x234/067`; with fewer than 256 hashes `.p/<width>` follows.

    Raises:
        ValueError: for a level outside 0 to 63, a negative number, or a width outside 1 to 256.
    """
    if not 0 <= level <= LEVEL_MAX:
        raise ValueError(f"no tile has level {level}")
    return f"tile/{level}/{_number_path(number, width)}"


def entries_path(number: int, width: int = TILE_WIDTH) -> str:
    """The path of an entry bundle, as `tile/entries/000`; with fewer than 256 entries `.p/<width>` follows.

    Raises:
        ValueError: for a negative number, or a width outside 1 to 256.
    """
    return f"tile/entries/{_number_path(number, width)}"


def _number_path(number: int, width: int) -> str:
    """The number in groups of three digits, all but the last marked, so that no file is also a folder."""
    if number < 0:
        raise ValueError(f"no tile has number {number}")
    if not 1 <= width <= TILE_WIDTH:
        raise ValueError(f"no tile is {width} wide")
    path = f"{number % 1000:03}"
    while number := number // 1000:
        path = f"x{number % 1000:03}/{path}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def entry_bundle(entries: Sequence[bytes]) -> bytes:
    """The entries one after another, each after its length in bytes as a big-endian uint16.

    Raises:
        ValueError: for an entry over 65,535 bytes, or more than 256 entries.
    """
    if len(entries) > TILE_WIDTH:
        raise ValueError(f"a bundle of {len(entries)} entries; {TILE_WIDTH} is the most")
    for number, entry in enumerate(entries):
        if len(entry) > ENTRY_BYTES_MAX:
            raise ValueError(f"entry {number} has {len(entry)} bytes; {ENTRY_BYTES_MAX} is the most")
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def parse_entry_bundle(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        ValueError: when it is cut off inside an entry, or holds more than 256.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        start = at + 2
        at = start + int.from_bytes(bundle[at:start])
        if start > len(bundle) or at > len(bundle):
            raise ValueError(f"the bundle is cut off inside entry {len(entries)}")
        entries.append(bundle[start:at])
    if len(entries) > TILE_WIDTH:
        raise ValueError(f"a bundle of {len(entries)} entries; {TILE_WIDTH} is the most")
    return entries


def tiles_for(size: int) -> Iterator[tuple[int, int, int]]:
    """Every tile (level, number, width) of a tree of `size` leaves, from the leaves up, from left to right.

    The bundles of entries are those of level 0.
    """
    level = 0
    while hashes := size >> (TILE_BITS * level):
        full, partial = divmod(hashes, TILE_WIDTH)
        for number in range(full):
            yield level, number, TILE_WIDTH
        if partial:
            yield level, full, partial
        level += 1
