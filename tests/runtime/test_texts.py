"""Texts and lists that are kept to a size."""

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.runtime.texts import cut, first_of, pages_of

texts = st.text(st.characters(codec="utf-8"), max_size=400)


def size(value: object) -> int:
    return len(msgspec.json.encode(value))


@given(text=texts, most=st.integers(10, 300))
def test_a_text_is_cut_to_its_size_in_json_and_begins_as_it_did(text: str, most: int) -> None:
    shown = cut(text, most)
    assert size(shown) <= most + 2
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))
    assert (shown == text) == (size(text) <= most + 2)


def test_control_characters_count_as_their_escapes() -> None:
    assert size(cut("\x00" * 10_000, 1_000)) <= 1_002


def test_a_text_that_is_none_can_be_recorded_all_the_same() -> None:
    assert cut("a\ud800b", 100) == "a?b"


@given(items=st.lists(texts, max_size=30), most=st.integers(1, 500))
def test_pages_hold_everything_in_order_and_keep_their_size(items: list[str], most: int) -> None:
    pages = pages_of(items, most)
    assert [item for page in pages for item in page] == items
    assert all(page for page in pages)
    assert all(size(page) <= most + 2 or len(page) == 1 for page in pages)
    for page, following in itertools.pairwise(pages):
        assert size([*page, following[0]]) > most, "a page was left before it was full"


@given(items=st.lists(texts, max_size=30), most=st.integers(1, 500))
def test_the_first_items_that_fit_are_kept(items: list[str], most: int) -> None:
    kept = first_of(items, most)
    assert items[: len(kept)] == list(kept)
    assert size(kept) <= most + 2
    assert len(kept) == len(items) or size(items[: len(kept) + 1]) > most
