"""By what a full tile of 256 events is known again: a MAC over the root of its envelopes and the columns beside them.

The writer makes it when a tile is full, of what it holds in memory, under a key that derives from the log's own. Where
it fits, the columns are those that the writer derived from these envelopes: verification need not derive them again. It
is no proof: somebody who has the log's key can make one. Who holds a checkpoint from elsewhere is not served by it.
"""

import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from tidelog.events.merkle import TILE_WIDTH, Node
from tidelog.storage.layout import read_text

MACS_VERSION = 3
"""The version of the log's tables that brought them."""
Derived: TypeAlias = tuple[bytes, int, int, int, int | None, int | None]
"""Of an event: its id, and the columns stream, version, type, correlation and cause."""

_PURPOSE = b"tidelog.dev/tile-macs/v1"
_encode = msgspec.msgpack.Encoder().encode


def mac_key(file: Path) -> bytes:
    """The key of MACs that derives from the log's key in a file.

    Raises:
        OSError, ValueError: when there is none that can be read.
    """
    return hmac.digest(bytes.fromhex(read_text(file).strip()), _PURPOSE, "sha256")


def mac_of(key: bytes, tile: int, root: bytes, columns: Sequence[Sequence[bytes | int | None]]) -> bytes:
    """The MAC of a tile, by its number, the root over its leaves, and its columns in the order of `Derived`."""
    return hmac.digest(key, _encode((tile, root, *columns)), "sha256")


def full_tiles(key: bytes, nodes: Sequence[Node], rows: Sequence[Derived], last: int) -> list[tuple[int, bytes]]:
    """The tiles that are now full, and their MACs: of those of which all rows are here.

    Args:
        key: that of MACs.
        nodes: those that the tree got by the rows.
        rows: of the last events of the log.
        last: the position of the last.
    """
    before = last - len(rows)
    tiles = [(node, node.number * TILE_WIDTH - before) for node in nodes if node.level == 1]
    return [
        (node.number, mac_of(key, node.number, node.hash, tuple(zip(*rows[at : at + TILE_WIDTH], strict=True))))
        for node, at in tiles
        if at >= 0
    ]
