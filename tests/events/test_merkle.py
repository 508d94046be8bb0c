"""The tree against published vectors, and against its definition written down naively."""

from collections.abc import Callable, Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.events.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    TreeBuilder,
    consistency_proof,
    fold,
    frontier_of,
    inclusion_proof,
    leaf_hash,
    leaf_hashes,
    node_hash,
    root_of,
    subtrees,
    verify_consistency,
    verify_inclusion,
)

# The inputs and roots by which Certificate Transparency implementations are compared.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(root)
    for root in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
LEAVES = [leaf_hash(n.to_bytes(4)) for n in range(70_000)]

sizes = st.integers(min_value=0, max_value=600)


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_shape(index: int, size: int) -> str:
    """On which sides the siblings of a leaf stand, from the root down."""
    if size == 1:
        return ""
    k = 1
    while k * 2 < size:
        k *= 2
    return "r" + naive_shape(index, k) if index < k else "l" + naive_shape(index - k, size - k)


def subtree(level: int, number: int) -> bytes:
    return fold(LEAVES[number << level : (number + 1) << level])


def built(size: int, add: Callable[[TreeBuilder, list[bytes]], None]) -> TreeBuilder:
    builder = TreeBuilder()
    add(builder, LEAVES[:size])
    return builder


def add_each(builder: TreeBuilder, leaves: list[bytes]) -> None:
    for leaf in leaves:
        builder.add(leaf)


def flip(value: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(value))


def test_published_roots() -> None:
    builder, frontier = TreeBuilder(), Frontier()
    assert builder.root() == frontier.root() == EMPTY_ROOT == ROOTS[0]
    for entry, root in zip(ENTRIES, ROOTS[1:], strict=True):
        builder.add(leaf_hash(entry))
        frontier = frontier.append(leaf_hash(entry))
        assert builder.root() == frontier.root() == root
        assert builder.frontier() == frontier


def test_published_inclusion_proof() -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    assert leaf_hashes(ENTRIES) == leaves
    proof = inclusion_proof(5, 8, lambda level, number: fold(leaves[number << level : (number + 1) << level]))
    assert [part.hex() for part in proof] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert verify_inclusion(leaves[5], 5, 8, proof, ROOTS[8])


def test_published_consistency_proofs() -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    expected = {
        (6, 8): [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
        (2, 5): [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    }
    for (old, new), hashes in expected.items():
        proof = consistency_proof(old, new, lambda level, n: fold(leaves[n << level : (n + 1) << level]))
        assert [part.hex() for part in proof] == hashes
        assert verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)


@given(sizes)
def test_all_ways_to_build_give_the_defined_root(size: int) -> None:
    root = naive_root(LEAVES[:size])
    each = built(size, add_each)
    assert each.root() == root
    assert built(size, TreeBuilder.extend).root() == root
    assert root_of(size, subtree) == root
    assert each.frontier() == frontier_of(size, subtree)
    assert each.frontier().root() == root
    assert each.size == size


@given(st.lists(st.integers(min_value=0, max_value=600), max_size=4))
def test_growing_in_steps(steps: list[int]) -> None:
    builder, nodes, at = TreeBuilder(), list[Node](), 0
    for step in steps:
        builder = TreeBuilder.from_frontier(builder.frontier())
        builder.extend(LEAVES[at : at + step])
        nodes += builder.drain()
        assert builder.completed == []
        at += step
    whole = built(at, add_each)
    assert builder.frontier() == whole.frontier()
    assert nodes == whole.completed


def test_completed_nodes_are_the_roots_of_their_leaves() -> None:
    each, together = built(66_000, add_each), built(66_000, TreeBuilder.extend)
    assert each.completed == together.completed
    assert each.frontier() == together.frontier()
    assert [(level, number) for level, number, _ in each.completed if level > 1] == [(2, 0)]
    assert [number for level, number, _ in each.completed if level == 1] == list(range(257))
    for level, number, root in (*each.completed[:3], each.completed[256]):
        assert root == naive_root(LEAVES[number << 8 * level : (number + 1) << 8 * level])


def test_a_node_is_reported_with_the_leaf_that_completes_it() -> None:
    builder = built(255, add_each)
    assert builder.completed == []
    builder.add(LEAVES[255])
    assert builder.drain() == [Node(1, 0, naive_root(LEAVES[:256]))]


def test_a_copy_is_independent() -> None:
    builder = built(300, add_each)
    copy = builder.copy()
    copy.extend(LEAVES[300:600])
    assert builder.root() == naive_root(LEAVES[:300])
    assert copy.root() == naive_root(LEAVES[:600])
    assert len(builder.completed) == 1
    assert len(copy.completed) == 2


def test_appending_to_a_frontier_leaves_it_alone() -> None:
    frontier = built(3, add_each).frontier()
    longer = frontier.append(LEAVES[3])
    assert (frontier.size, longer.size) == (3, 4)
    assert frontier.root() == naive_root(LEAVES[:3])
    assert longer.root() == naive_root(LEAVES[:4])


@pytest.mark.parametrize(("size", "hashes"), [(1, ()), (2, (b"x" * 32,) * 2), (-1, ()), (1, (b"x",))])
def test_a_frontier_that_cannot_be(size: int, hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"frontier|32 bytes"):
        Frontier(size, hashes)


@pytest.mark.parametrize("count", [0, 3, 255])
def test_only_a_power_of_two_folds(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} hashes make no complete subtree"):
        fold(LEAVES[:count])


@given(st.integers(min_value=1, max_value=70_000), st.data())
def test_proofs_from_stored_nodes(size: int, data: st.DataObject) -> None:
    """What the storage keeps, leaf hashes and completed nodes, answers every proof."""
    rows = {0: LEAVES[:size]}
    for level, _, root in WHOLE.completed:
        rows.setdefault(level, []).append(root)
    stored = subtrees(lambda level, first, count: rows[level][first : first + count])
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    old = data.draw(st.integers(min_value=1, max_value=size))
    root = root_of(size, stored)
    proof = inclusion_proof(index, size, stored)
    assert verify_inclusion(LEAVES[index], index, size, proof, root)
    assert verify_consistency(old, size, root_of(old, stored), root, consistency_proof(old, size, stored))


WHOLE = built(70_000, TreeBuilder.extend)


def test_missing_nodes_are_named() -> None:
    stored = subtrees(lambda level, first, count: LEAVES[first : first + count - 1])
    with pytest.raises(ValueError, match="tile level 0 has 3 of 4 hashes wanted"):
        stored(2, 0)


@given(st.integers(min_value=1, max_value=600), st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    root = naive_root(LEAVES[:size])
    proof = inclusion_proof(index, size, subtree)
    leaf = LEAVES[index]
    assert verify_inclusion(leaf, index, size, proof, root)

    bit = data.draw(st.integers(min_value=0, max_value=255))
    assert not verify_inclusion(flip(leaf, bit), index, size, proof, root)
    assert not verify_inclusion(leaf, index, size, proof, flip(root, bit))
    assert not verify_inclusion(leaf, index, size, [*proof, flip(leaf, bit)], root)
    if proof:
        at = data.draw(st.integers(min_value=0, max_value=len(proof) - 1))
        changed = [*proof[:at], flip(proof[at], bit), *proof[at + 1 :]]
        assert not verify_inclusion(leaf, index, size, changed, root)
        assert not verify_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], root)
        assert not verify_inclusion(leaf, index, size, [*proof[:at], proof[at][:31], *proof[at + 1 :]], root)


@given(st.integers(min_value=1, max_value=200), st.data())
def test_inclusion_elsewhere(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    root = naive_root(LEAVES[:size])
    proof = inclusion_proof(index, size, subtree)
    for other in range(-1, size + 2):
        holds = verify_inclusion(LEAVES[index], other, size, proof, root)
        assert holds == (other == index)
    other = data.draw(st.integers(min_value=0, max_value=400))
    if other != size:
        assert not verify_inclusion(LEAVES[index], index, other, proof, naive_root(LEAVES[:other]))
        # A root does not fix the size: another one is believed exactly where the path would look the same.
        alike = index < other and naive_shape(index, other) == naive_shape(index, size)
        assert verify_inclusion(LEAVES[index], index, other, proof, root) == alike


def test_inclusion_under_one_root_at_every_place_and_size() -> None:
    for size in range(1, 10):
        root = naive_root(LEAVES[:size])
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            for other_size in range(1, 18):
                for other in range(other_size):
                    alike = naive_shape(other, other_size) == naive_shape(index, size)
                    assert verify_inclusion(LEAVES[index], other, other_size, proof, root) == alike


@given(st.integers(min_value=1, max_value=600), st.data())
def test_consistency(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(min_value=1, max_value=new))
    old_root, new_root = naive_root(LEAVES[:old]), naive_root(LEAVES[:new])
    proof = consistency_proof(old, new, subtree)
    assert verify_consistency(old, new, old_root, new_root, proof)

    bit = data.draw(st.integers(min_value=0, max_value=255))
    assert not verify_consistency(old, new, flip(old_root, bit), new_root, proof)
    assert not verify_consistency(old, new, old_root, flip(new_root, bit), proof)
    assert not verify_consistency(old, new, old_root, new_root, [*proof, old_root])
    assert not verify_consistency(new, old, new_root, old_root, proof) or old == new
    if proof:
        at = data.draw(st.integers(min_value=0, max_value=len(proof) - 1))
        changed = [*proof[:at], flip(proof[at], bit), *proof[at + 1 :]]
        assert not verify_consistency(old, new, old_root, new_root, changed)
        assert not verify_consistency(old, new, old_root, new_root, proof[:at] + proof[at + 1 :])
        assert not verify_consistency(old, new, old_root, new_root, [])


def test_consistency_of_other_sizes() -> None:
    roots = [naive_root(LEAVES[:size]) for size in range(13)]
    for new in range(1, 13):
        for old in range(1, new):
            proof = consistency_proof(old, new, subtree)
            for first in range(13):
                for second in range(13):
                    holds = verify_consistency(first, second, roots[first], roots[second], proof)
                    assert holds == ((first, second) == (old, new))


def test_consistency_of_the_same_roots_at_other_sizes() -> None:
    roots = [naive_root(LEAVES[:size]) for size in range(9)]
    assert not verify_consistency(1, 4, roots[1], roots[2], consistency_proof(1, 2, subtree))
    assert not verify_consistency(3, 8, roots[3], roots[4], consistency_proof(3, 4, subtree))
    assert not verify_consistency(1, 2, roots[1], roots[4], consistency_proof(1, 4, subtree))
    assert not verify_consistency(2, 2, roots[2], roots[4], consistency_proof(2, 4, subtree))


def test_consistency_without_a_proof() -> None:
    assert consistency_proof(0, 5, subtree) == consistency_proof(5, 5, subtree) == []
    root = naive_root(LEAVES[:5])
    assert verify_consistency(0, 5, EMPTY_ROOT, root, [])
    assert verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert verify_consistency(5, 5, root, root, [])
    assert not verify_consistency(0, 5, root, root, [])
    assert not verify_consistency(0, 0, EMPTY_ROOT, root, [])
    assert not verify_consistency(0, 5, EMPTY_ROOT, root, [root])
    assert not verify_consistency(5, 5, root, root, [root])
    assert not verify_consistency(5, 5, root, EMPTY_ROOT, [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"leaf {index} is not in a tree of {size}"):
        inclusion_proof(index, size, subtree)
    assert not verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_no_beginning_of_that_size(old: int, new: int) -> None:
    with pytest.raises(ValueError, match=f"a tree of {new} leaves has no beginning of {old}"):
        consistency_proof(old, new, subtree)


def test_a_leaf_is_never_taken_for_a_node() -> None:
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])
