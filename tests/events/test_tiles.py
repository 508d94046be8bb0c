"""Paths and contents of tiles, with the examples of the specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.events.tiles import entries_path, entry_bundle, parse_entry_bundle, tile_path, tiles_for


@pytest.mark.parametrize(
    ("level", "number", "width", "path"),
    [
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        (0, 1_234_067, 8, "tile/0/x001/x234/067.p/8"),
        (0, 0, 256, "tile/0/000"),
        (3, 5, 1, "tile/3/005.p/1"),
        (63, 999, 255, "tile/63/999.p/255"),
        (1, 1000, 256, "tile/1/x001/000"),
        (1, 1_000_000, 256, "tile/1/x001/x000/000"),
    ],
)
def test_tile_path(level: int, number: int, width: int, path: str) -> None:
    assert tile_path(level, number, width) == path


def test_entries_path() -> None:
    assert entries_path(1_234_067) == "tile/entries/x001/x234/067"
    assert entries_path(1_234_067, 8) == "tile/entries/x001/x234/067.p/8"
    assert entries_path(0) == "tile/entries/000"


@pytest.mark.parametrize(("level", "number", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_no_such_tile(level: int, number: int, width: int) -> None:
    with pytest.raises(ValueError, match="no tile"):
        tile_path(level, number, width)


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_round_trip(entries: list[bytes]) -> None:
    assert parse_entry_bundle(entry_bundle(entries)) == entries


def test_a_bundle_in_bytes() -> None:
    assert entry_bundle([b"ab", b"", b"x" * 258]) == b"\x00\x02ab\x00\x00\x01\x02" + b"x" * 258


def test_the_largest_entry() -> None:
    largest = b"x" * 65_535
    assert parse_entry_bundle(entry_bundle([largest])) == [largest]
    with pytest.raises(ValueError, match="entry 1 has 65536 bytes; 65535 is the most"):
        entry_bundle([b"", largest + b"x"])


@pytest.mark.parametrize("cut", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00", b"\x00\x01a\x00\x01"])
def test_a_bundle_cut_off(cut: bytes) -> None:
    with pytest.raises(ValueError, match="cut off inside entry"):
        parse_entry_bundle(cut)


def test_a_bundle_of_too_many() -> None:
    with pytest.raises(ValueError, match="257 entries; 256 is the most"):
        entry_bundle([b""] * 257)
    with pytest.raises(ValueError, match="257 entries; 256 is the most"):
        parse_entry_bundle(b"\x00\x00" * 257)


def test_tiles_of_the_specification() -> None:
    tiles = list(tiles_for(70_000))
    assert tiles[:273] == [(0, number, 256) for number in range(273)]
    assert tiles[273:] == [(0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)]
    assert list(tiles_for(256)) == [(0, 0, 256), (1, 0, 1)]
    assert list(tiles_for(1)) == [(0, 0, 1)]
    assert list(tiles_for(0)) == []


@given(st.integers(min_value=0, max_value=200_000))
def test_tiles_hold_every_complete_subtree_once(size: int) -> None:
    counts: dict[int, int] = {}
    for level, number, width in tiles_for(size):
        assert number * 256 == counts.get(level, 0)
        counts[level] = counts.get(level, 0) + width
    assert counts == {level: size >> 8 * level for level in range(4) if size >> 8 * level}
