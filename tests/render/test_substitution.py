"""Substitution: contract KS-058 to KS-067. What is expected was compared with fluxcd/pkg/envsubst on 120,000 texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.render import substitution
from tidelog.engine.render.errors import SubstitutionError
from tidelog.engine.render.substitution import is_plain, is_variable_name, substitute

VARIABLES = {"v": "abcabc", "empty": "", "path": "a/b-c.d", "minus": "-3", "two": "2", "uni": "héé", "stars": "*b"}


def value_of(text: str, *, strict: bool = True) -> str:
    return substitute(text, VARIABLES, strict=strict).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${v}", "abcabc"), ("x${v}y${two}z", "xabcabcy2z"), ("${#v}", "6"), ("${#uni}", "5"),
        ("${v^}", "Abcabc"), ("${v^^}", "ABCABC"), ("${uni^^}", "HÉÉ"), ("${v,}", "abcabc"), ("${v,,}", "abcabc"),
        ("${v:2}", "cabc"), ("${v:2:2}", "ca"), ("${v:9}", ""), ("${v:0:99}", "abcabc"), ("${v:x}", "abcabc"),
        ("${v:1:x}", "abcabc"), ("${v:${two}}", "cabc"), ("${v:${minus}}", "abc"), ("${v:+1}", "abcabc"),
        ("${v#a}", "bcabc"), ("${v#*c}", "abc"), ("${v##*c}", ""), ("${v%c}", "abcab"), ("${v%a*}", "abc"),
        ("${v%%a*}", ""), ("${v#x}", "abcabc"), ("${v#[}", "abcabc"), ("${path##*/}", "b-c.d"), ("${path%.*}", "a/b-c"),
        ("${v/b/X}", "aXcabc"), ("${v//b/X}", "aXcaXc"), ("${v/#a/X}", "Xbcabc"), ("${v/%c/X}", "abcabX"),
        ("${v/b/}", "acabc"), ("${v//b/}", "acac"), ("${v/#a/}", "abcabc"), ("${path/\\//:}", "a:b-c.d"),
        ("${v/${two}/x}", "abcabc"), ("${v//b///}", "acac"),
        ("${no:-d}", "d"), ("${no:=d}", "d"), ("${no=d}", "d"), ("${no:-}", ""), ("${no:-a${v}b}", "aabcabcb"),
        ("${no:-${nono:-x}}", "x"), ("${no:-a b\nc}", "a b\nc"),
        ("${empty:-d}", "d"), ("${empty:=d}", "d"), ("${empty=d}", "d"), ("${v:-d}", "abcabc"), ("${empty}", ""),
    ],
)  # fmt: skip
def test_every_function_does_as_flux_does(text: str, expected: str) -> None:
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${v:?x}", "abcabc"), ("${no:?x}", "x"), ("${v:+x}", "abcabc"), ("${no:+x}", "x"),  # defaults, all of them
        ("${v:-3}", "abcabc"), ("${v: -3}", "abcabc"),  # no way to write a negative position
        ("$v", "$v"), ("$", "$"), ("$$", "$"), ("$${v}", "${v}"), ("$$${v}", "$abcabc"), ("$$$${v}", "$${v}"),
        ("${no:-$$}", "$$"), ("${no:-a}b}", "ab}"), ("{{ x }}", "{{ x }}"),
        ("${v/a} and /x}", "abcabc"),  # the first argument ends at a slash only
    ],
)  # fmt: skip
def test_the_traps_are_as_flux_has_them(text: str, expected: str) -> None:
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${v-d}", "missing closing brace"), ("${v+d}", "missing closing brace"), ("${v?d}", "missing closing brace"),
        ("${a-name}", "missing closing brace"), ("${v", "missing closing brace"), ("${v }", "missing closing brace"),
        ("${{ x }}", "unable to parse variable name"), ("${}", "unable to parse variable name"),
        ("${ v}", "unable to parse variable name"), ("${v:}", "unable to parse substitution within function"),
        ("${v::2}", "unable to parse substitution within function"), ("${v#}", "unable to parse substitution"),
        ("${v:-x", "unable to parse substitution within function"), ("${v/a}", "bad substitution"),
        ("${#}", "bad substitution"), ("${v#a${two}}", "bad substitution"), ("${v^x}", "bad substitution"),
        ("${v:1:-2}", "below zero"), ("${uni:2}", "within a character"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error(text: str, problem: str) -> None:
    with pytest.raises(SubstitutionError, match=problem):
        value_of(text)


@pytest.mark.parametrize("text", ["${no}", "${#no}", "${no^^}", "${no#x}", "${no/a/b}", "${no:1}", "${v:-${no}}"])
def test_strict_a_variable_without_value_fails(text: str) -> None:
    with pytest.raises(SubstitutionError) as caught:
        value_of(f"a\n{text}")

    assert caught.value.problem == 'variable not set (strict mode): "no"'
    assert (caught.value.variable, caught.value.line) == ("no", 2)


def test_lenient_a_variable_without_value_is_empty() -> None:
    assert value_of("[${no}][${#no}][${no^^}][${v:-${no}}]", strict=False) == "[][0][][abcabc]"


def test_the_variables_that_were_looked_up_are_told() -> None:
    assert substitute("${v} ${no:-x${two}} $${path}", VARIABLES).used == {"v", "no", "two"}


def test_errors_say_no_value() -> None:
    secret = {"password": "hunter2é", "n": "hunter2"}
    for text in ("${password:8}", "${password} ${no}", "${password/${n}", "${n:1:-2}"):
        with pytest.raises(SubstitutionError) as caught:
            substitute(text, secret)
        assert "hunter2" not in str(caught.value)


def test_names_are_letters_digits_and_underscores() -> None:
    assert all(map(is_variable_name, ("a", "_", "A_1", "__x9")))
    assert not any(map(is_variable_name, ("", "1a", "a-b", "a.b", "é", "a\n", "a b")))


def test_growth_is_bounded() -> None:
    many = {"a": "x" * 1_000_000, "b": "y" * 1_000}
    for text in ("${a//x/${b}}", "${a}" * 100):
        with pytest.raises(SubstitutionError, match="grow beyond"):
            substitute(text, many)


def test_nesting_is_bounded() -> None:
    with pytest.raises(SubstitutionError, match="within one another"):
        substitute("${a:-" * 1_000 + "x" + "}" * 1_000, {})


def test_a_pattern_for_a_value_that_is_too_long_is_refused() -> None:
    with pytest.raises(SubstitutionError, match="too long for one another"):
        substitute("${a##" + "*x" * 500 + "}", {"a": "x" * 1_000_000})


ANY = st.text(st.sampled_from([*"${}:#%/^,-=?+*[]\\ab1 \n", "v", "é"]), max_size=40)


@given(ANY)
def test_any_text_gives_a_text_or_an_error(text: str) -> None:
    try:
        made: str | int | None = value_of(text)
    except SubstitutionError as error:
        made = error.line

    assert isinstance(made, str) or (made is not None and 1 <= made <= text.count("\n") + 1)


@given(ANY)
def test_a_text_without_references_is_left_as_it_is(text: str) -> None:
    if is_plain(text):
        assert value_of(text) == text


@given(ANY)
def test_doubling_each_dollar_is_undone(text: str) -> None:
    assert value_of(text.replace("$", "$$")) == text


@given(st.text("ab/$é", max_size=10), st.text("ab/$é", min_size=1, max_size=3), st.text("ab/$é", max_size=3))
def test_replacing_is_python_s(value: str, old: str, new: str) -> None:
    variables = {"v": value, "old": old, "new": new}

    assert substitute("${v//${old}/${new}}", variables).text == value.replace(old, new)


def test_what_becomes_of_a_secret_variable_is_told_and_nothing_else() -> None:
    text = "${v^^} ${two} ${v:0:${two}} ${no:-${v}!} ${#two} ${empty}${v/a/-} $${v} ${path}"
    found = substitute(text, VARIABLES, secret={"v", "empty"})
    assert found.made == {"ABCABC", "ab", "abcabc!", "-bcabc"}
    assert found.text == substitute(text, VARIABLES).text
    assert substitute(text, VARIABLES).made == frozenset()


def test_the_version_is_recorded_as_text() -> None:
    assert substitution.VERSION == "1"
