"""The Merkle tree over the log's entries: roots, and proofs about them.

The tree is that of RFC 6962 section 2.1 (RFC 9162 section 2.1) with SHA-256. A hash is always 32 bytes.
Leaves count from 0: the event at `position` N of the log is leaf N - 1.

A *complete subtree* is named by two numbers, `level` and `number`: the root over the leaves
[number * 2**level, (number + 1) * 2**level). It never changes once those leaves exist, so it may be stored.
What is stored is every eighth level, as C2SP tlog-tiles groups them: see `Node`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self, TypeAlias

import msgspec

HASH_BYTES = 32
TILE_BITS = 8
TILE_WIDTH = 1 << TILE_BITS
"""Hashes in a full tile, and leaves under a `Node` of level 1."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

Subtree: TypeAlias = Callable[[int, int], bytes]
"""Gives the root of the complete subtree (level, number), where each level halves the number."""

Row: TypeAlias = Callable[[int, int, int], Sequence[bytes]]
"""Gives the stored hashes (tile level, first number, count); tile level 0 are the leaf hashes."""

# The tree's inner loops call it a million times over, so the name is looked up once.
_sha256 = hashlib.sha256
_leaf_prefix = _sha256(b"\x00")


class Node(NamedTuple):
    """The root over the leaves [number * 256**level, (number + 1) * 256**level), with `level` 1 or more."""

    level: int
    number: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry; the prefix keeps it from ever being taken for that of two subtrees."""
    return _sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The hashes of many entries. A copy of a hash that has taken in the prefix is quicker than a longer entry."""
    hashes = []
    for entry in entries:
        state = _leaf_prefix.copy()
        state.update(entry)
        hashes.append(state.digest())
    return hashes


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two neighbouring subtrees."""
    return _sha256(b"\x01" + left + right).digest()


def fold(row: Sequence[bytes]) -> bytes:
    """The root over a row of neighbouring hashes of one level; their count must be a power of two."""
    if len(row).bit_count() != 1:
        raise ValueError(f"{len(row)} hashes make no complete subtree")
    # A comprehension over a whole level costs little more than its hashes.
    while len(row) > 1:
        pairs = zip(row[::2], row[1::2], strict=True)
        row = [_sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return row[0]


def _root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees, given from large (left) to small (right)."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


class Frontier(msgspec.Struct, frozen=True):
    """All that appending to a tree needs to know of it: its complete subtrees, from large to small.

    There is one for each bit set in `size`, so a tree of a billion leaves has at most 30.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` when the hashes cannot belong to a tree of that size."""
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are no frontier of {self.size} leaves")
        if any(len(peak) != HASH_BYTES for peak in self.hashes):
            raise ValueError(f"a hash that is not {HASH_BYTES} bytes long")

    def append(self, leaf: bytes) -> "Frontier":
        """The frontier with one more leaf, given by its hash."""
        builder = TreeBuilder.from_frontier(self)
        builder.add(leaf)
        return builder.frontier()

    def root(self) -> bytes:
        """The root of the tree."""
        return _root_of_peaks(self.hashes)


class TreeBuilder:
    """A tree that grows in place, for the writer and for the verification of whole logs.

    `completed` collects the nodes that the leaves added so far have completed, in order; `drain` takes them
    out. They are one for 255 leaves: a reader who does not want them may leave them there.
    """

    __slots__ = ("_peaks", "_size", "completed")

    def __init__(self) -> None:
        """Start with the empty tree."""
        self._size = 0
        self._peaks: list[bytes] = []
        self.completed: list[Node] = []

    @classmethod
    def from_frontier(cls, frontier: Frontier) -> Self:
        """Go on where `frontier` stands; nodes completed before it are not reported again."""
        return cls._at(frontier.size, frontier.hashes)

    @classmethod
    def _at(cls, size: int, peaks: Sequence[bytes]) -> Self:
        builder = cls()
        builder._size = size
        builder._peaks = list(peaks)
        return builder

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def add(self, leaf: bytes) -> None:
        """Append one leaf, given by its hash: one node hash on average, as a binary counter carries."""
        size = self._size = self._size + 1
        peaks = self._peaks
        if size % TILE_WIDTH:
            while not size & 1:
                leaf = _sha256(b"\x01" + peaks.pop() + leaf).digest()
                size >>= 1
            peaks.append(leaf)
            return
        for _ in range(TILE_BITS):
            leaf = node_hash(peaks.pop(), leaf)
        self._push(leaf, 1)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append many leaves, given by their hashes; quicker than `add` where they fill whole tiles."""
        head = min(-self._size % TILE_WIDTH, len(leaves))
        tail = len(leaves) - (len(leaves) - head) % TILE_WIDTH
        for leaf in leaves[:head]:
            self.add(leaf)
        for start in range(head, tail, TILE_WIDTH):
            self._size += TILE_WIDTH
            self._push(fold(leaves[start : start + TILE_WIDTH]), 1)
        for leaf in leaves[tail:]:
            self.add(leaf)

    def _push(self, root: bytes, level: int) -> None:
        """Report the newest complete subtree of 256**level leaves and carry it into the peaks."""
        count = self._size >> (TILE_BITS * level)
        self.completed.append(Node(level, count - 1, root))
        for _ in range(TILE_BITS):
            if count & 1:
                self._peaks.append(root)
                return
            root = node_hash(self._peaks.pop(), root)
            count >>= 1
        self._push(root, level + 1)

    def drain(self) -> list[Node]:
        """Take out the completed nodes."""
        completed, self.completed = self.completed, []
        return completed

    def root(self) -> bytes:
        """The root of the tree as it is now; at most one hash for each doubling of the size."""
        return _root_of_peaks(self._peaks)

    def frontier(self) -> Frontier:
        """The tree as it is now, as a value."""
        return Frontier(self._size, tuple(self._peaks))

    def copy(self) -> Self:
        """An independent builder in the same state, nodes not yet drained included."""
        other = self._at(self._size, self._peaks)
        other.completed = self.completed.copy()
        return other


def subtrees(row: Row) -> Subtree:
    """A `Subtree` that reads stored nodes: up to 128 hashes of the nearest tile level below, folded."""

    def subtree(level: int, number: int) -> bytes:
        tile_level, bits = divmod(level, TILE_BITS)
        hashes = row(tile_level, number << bits, 1 << bits)
        if len(hashes) != 1 << bits:
            raise ValueError(f"tile level {tile_level} has {len(hashes)} of {1 << bits} hashes wanted")
        return fold(hashes)

    return subtree


def root_of(size: int, subtree: Subtree) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return _root_of_range(0, size, subtree)


def frontier_of(size: int, subtree: Subtree) -> Frontier:
    """The frontier of the tree of the first `size` leaves."""
    return Frontier(size, tuple(subtree(*name) for name in _complete_in(0, size)))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The proof that leaf `index` is in the tree of `size` leaves (RFC 9162 section 2.1.3.1), leaf to root.

    Raises:
        ValueError: unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    start, end = 0, size
    siblings: list[tuple[int, int]] = []
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            siblings.append((middle, end))
            end = middle
        else:
            siblings.append((start, middle))
            start = middle
    return [_root_of_range(*sibling, subtree) for sibling in reversed(siblings)]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """The proof that the tree of `new` leaves begins with that of `old` (RFC 9162 section 2.1.4.1).

    It is empty for equal sizes and for `old` = 0, where there is nothing to show.

    Raises:
        ValueError: unless 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves has no beginning of {old}")
    if old == 0:
        return []
    start, end = 0, new
    parts: list[tuple[int, int]] = []
    while end != old:
        middle = _split(start, end)
        if old <= middle:
            parts.append((middle, end))
            end = middle
        else:
            parts.append((start, middle))
            start = middle
    # What remains is the last subtree of the old tree. When that is the old tree itself, its root is known.
    if start > 0:
        parts.append((start, end))
    return [_root_of_range(*part, subtree) for part in reversed(parts)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that leaf hash `leaf` is number `index` under `root` (RFC 9162 section 2.1.3.2).

    `size` and `root` must come from one signed checkpoint: a root alone does not fix the size, and trees of
    several sizes may have a path of the same shape to the leaf.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        return False
    here, last = index, size - 1
    value = leaf
    for sibling in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            value = node_hash(sibling, value)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and value == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree `new` begins with the tree `old` (RFC 9162 section 2.1.4.2).

    Equal sizes take equal roots and no proof, and the empty tree begins every tree.
    """
    if not 0 <= old <= new or not _are_hashes(old_root, new_root, *proof):
        return False
    if old == 0 and old_root != EMPTY_ROOT:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof
    if not proof:
        return False
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old_value = new_value = path[0]
    for part in path[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old_value = node_hash(part, old_value)
            new_value = node_hash(part, new_value)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new_value = node_hash(new_value, part)
        here, last = here >> 1, last >> 1
    return last == 0 and old_value == old_root and new_value == new_root


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


def _split(start: int, end: int) -> int:
    """Where RFC 6962 divides the leaves [start, end): after the largest power of two that is not all."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def _complete_in(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees that make up the leaves [start, end), large to small.

    `start` must be where a subtree of at least that many leaves begins, as it is for every part of a proof.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _root_of_range(start: int, end: int, subtree: Subtree) -> bytes:
    return _root_of_peaks([subtree(*name) for name in _complete_in(start, end)])
