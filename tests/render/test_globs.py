import re

from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.render.globs import matching_beginnings, without_beginning, without_end

PATTERN = st.lists(st.sampled_from(["*", "?", "[a-b]", "[^a]", "\\*", "a", "b", "c", "/"]), max_size=6).map("".join)
VALUE = st.text("abc/*é", max_size=8)


def as_regex(pattern: str) -> str:
    words = re.findall(r"\\.|\[\^?[a-z]-?[a-z]?\]|.", pattern)
    return "".join({"*": ".*", "?": "."}.get(word, word if word[0] in "[\\" else re.escape(word)) for word in words)


@given(PATTERN, VALUE)
def test_the_shortest_and_the_longest_beginning_are_those_a_regular_expression_finds(pattern: str, value: str) -> None:
    lengths = [
        length for length in range(1, len(value) + 1) if re.fullmatch(as_regex(pattern), value[:length], re.DOTALL)
    ]

    assert matching_beginnings(pattern, value) == ((lengths[0], lengths[-1]) if lengths else None)


def test_malformed_patterns_match_nothing() -> None:
    for pattern in ("[", "[a", "[]", "[a-", "\\", "[-a]", "a[", "*[^"):
        assert matching_beginnings(pattern, "a") is None, pattern


def test_ends_and_beginnings_are_taken_off() -> None:
    assert without_beginning("a/b/c", "*/", longest=False) == "b/c"
    assert without_beginning("a/b/c", "*/", longest=True) == "c"
    assert without_end("a/b/c", "/*", longest=False) == "a/b"
    assert without_end("a/b/c", "/*", longest=True) == "a"


def test_a_pattern_of_stars_costs_no_more_than_its_length_times_the_value() -> None:
    assert matching_beginnings("*a" * 500 + "b", "a" * 20_000) is None
