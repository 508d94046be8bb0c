"""Values are merged, set, and hashed as Flux does it."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.helm.conftest import asked
from tidelog.engine.helm.errors import ValuesError
from tidelog.engine.helm.setting import set_at
from tidelog.engine.helm.values import Given, encoded_values, merged_values, values_digest
from tidelog.engine.helm.yaml_out import encoded

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def given(data: str | None, path: str = "", **how: Any) -> Given:
    return Given("Secret", "s", target_path=path, data=None if data is None else data.encode(), **how)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=true,d=FALSE,e=null", {"a": {"b": {"c": True}}, "d": False, "e": None}),
        (r"a\.b=1,c=x\,y", {"a.b": 1, "c": "x,y"}),
        ("a[0].b=1,a[2]=x", {"a": [{"b": 1}, None, "x"]}),
        ("a[1][0]=1", {"a": [None, [1]]}),
        ("a={x,2,true},b=1", {"a": ["x", 2, True], "b": 1}),
        ("a=0123,b=1.5,c=0,d=-7,e=", {"a": "0123", "b": "1.5", "c": 0, "d": -7, "e": ""}),
        (r"nodeSelector.kubernetes\.io/role=master", {"nodeSelector": {"kubernetes.io/role": "master"}}),
        ("a=9223372036854775808", {"a": "9223372036854775808"}),
    ],
)
def test_text_is_set_as_helm_sets_it(text: str, made: dict[str, Any]) -> None:
    values: dict[str, Any] = {}
    set_at(values, text)
    assert values == made


@pytest.mark.parametrize(
    "text", ["a", "a=1,b", "a[-1]=1", "a[x]=1", "a[70000]=1", "a={x", "a[0]x=1", ".".join("a" * 40) + "=1", "a.b,c=1"]
)
def test_text_that_cannot_be_set_is_refused(text: str) -> None:
    with pytest.raises(ValuesError):
        set_at({}, text)


def test_later_references_win_and_inline_values_over_all() -> None:
    merged = merged_values(
        {"a": {"inline": 1, "both": "inline"}, "gone": None},
        [
            given("a: {both: first, first: 1, x: [1, 2]}\ngone: 1"),
            given("a: {first: 2, x: [3]}"),
            given(None, optional=True),
        ],
    )
    assert merged == {"a": {"both": "inline", "first": 2, "inline": 1, "x": [3]}, "gone": None}


def test_target_path_wins_below_a_map_of_the_inline_values_and_not_at_the_top() -> None:
    inline = {"top": "inline", "map": {"key": "inline"}}
    before = copy.deepcopy(inline)
    assert merged_values(inline, [given("set", "map.key"), given("set", "top")]) == {
        "top": "inline",
        "map": {"key": "set"},
    }
    assert inline == before


def test_target_path_loses_below_a_map_that_an_earlier_reference_has_too() -> None:
    references = [given("map: {other: 1}"), given("set", "map.key")]
    assert merged_values({"map": {"key": "inline"}}, references) == {"map": {"key": "inline", "other": 1}}


def test_later_plain_reference_overwrites_a_target_path() -> None:
    assert merged_values({}, [given("set", "map.key"), given("map: {key: later}")]) == {"map": {"key": "later"}}


@pytest.mark.parametrize(
    ("data", "how", "value"),
    [
        ("1", {}, 1),
        ("'1'", {}, "1"),
        ('"true"', {}, "true"),
        ("'", {}, ""),
        ("{a,b}", {}, ["a", "b"]),
        ("{a,b}", {"literal": True}, "{a,b}"),
        (r"a\b,c[0]=1", {"literal": True}, r"a\b,c[0]=1"),
        ("'1'", {"literal": True}, "'1'"),
        ("line\nline\n", {"literal": True}, "line\nline\n"),
        ("", {}, ""),
    ],
)
def test_value_at_a_target_path(data: str, how: dict[str, Any], value: Any) -> None:
    assert merged_values({}, [given(data, r"a.b\.c", **how)]) == {"a": {"b.c": value}}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (given(None), "Secret 's' with key 'values.yaml': the object or the key is not there"),
        (given("hunter2,hunter3", "a.b"), r"targetPath 'a.b': a key has no value.*`literal: true`"),
        (given("a: [hunter2"), "it is no YAML in line"),
        (given("hunter2"), "values are a map"),
    ],
)
def test_error_names_the_reference_and_no_value(reference: Given, said: str) -> None:
    with pytest.raises(ValuesError, match=said) as caught:
        merged_values({}, [reference])
    assert "hunter" not in str(caught.value)


def test_repeated_key_is_read_as_flux_reads_it() -> None:
    assert merged_values({}, [given("a: 1\na: 2")]) == {"a": 2}


def test_a_number_beyond_all_floats_stays_a_text() -> None:
    for figures in ("9" * 400, "-" + "9" * 400, "9" * 5000, "0x" + "f" * 400):
        found = Given(kind="ConfigMap", name="n", data=f"a: {figures}".encode())
        assert merged_values({}, [found]) == {"a": figures}


def test_lists_within_lists_have_an_end() -> None:
    found = Given(kind="ConfigMap", name="n", target_path="a", data=f"x,b{'[0]' * 2000}=1".encode())
    with pytest.raises(ValuesError, match="within one another"):
        merged_values({}, [found])


def test_integers_are_as_exact_as_there() -> None:
    assert merged_values({"a": 2**60 + 1}, [given(f"b: [{2**60 + 1}]"), given(str(2**60 + 1), "c")]) == {
        "a": float(2**60),
        "b": [float(2**60)],
        "c": 2**60 + 1,
    }


def test_empty_values_have_the_digest_of_nothing() -> None:
    assert values_digest({}) == EMPTY


@pytest.mark.parametrize(
    ("values", "digest"),
    [
        (
            {
                "replicas": 3,
                "image": {"tag": "latest", "repository": "nginx"},
                "ports": [{"protocol": "TCP", "port": 8080}, {"port": 9090, "protocol": "UDP"}],
            },
            "sha256:fcdc2b0de1581a3633ada4afee3f918f6eaa5b5ab38c3fef03d5b48d3f85d9f6",
        ),
        (
            {
                "replicas": 3,
                "test": {
                    "632bd80235a05f4192aefade": "value1",
                    "632bd80ddf416cf32fd50679": "value2",
                    "632bd817c559818a52307da2": "value3",
                    "632bd82398e71231a98004b6": "value4",
                },
            },
            "sha256:8a980fcbeadd6f05818f07e8aec14070c22250ca3d96af1fcd5f93b3e85b4d70",
        ),
    ],
)
def test_digest_is_that_of_flux(values: dict[str, Any], digest: str) -> None:
    """The values and digests of Flux's own tests."""
    assert values_digest(values) == digest


def test_encoding_does_not_depend_on_the_order() -> None:
    assert encoded_values({"b": {"d": 1, "c": 2}, "a": 1}) == encoded_values({"a": 1, "b": {"c": 2, "d": 1}})


WORDS = [
    *(
        "",
        "a",
        "true",
        "no",
        "~",
        "null",
        "1",
        "01",
        "0x1f",
        "0b1",
        "1_0",
        "1e3",
        "1.5",
        ".5",
        "-",
        "- a",
        "a: b",
        "a #b",
    ),
    *("#", "'", '"', "a'b", " lead", "trail ", "tab\t", "\n", "a\n", "a\nb", "a\n\nb\n\n", " a\nb", "a \nb", "\ta\nb"),
    *(
        "ä☃😀",
        "\x07",
        "a\x85b",
        "a\u2028b",
        "2024-01-02",
        "2024-01-02T03:04:05Z",
        "12:30:45",
        "1:2",
        "=",
        "<<",
        "@x",
        "`",
    ),
    *(
        "%a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "?",
        "? a",
        "[a]",
        "{a}",
        "a,b",
        "a]",
        "---",
        "...",
        "--- a",
        "0o7",
        "-0b1",
    ),
    *(
        "x" * 130,
        "word " * 40,
        "word  two " * 20,
        "a: " * 50,
        "'quoted' " * 20,
        '"' * 90,
        "\\" * 90,
        "a\tb " * 30,
        "+1",
        "-.inf",
    ),
    *(
        "y",
        "Y",
        "on",
        "0",
        "-0",
        "1.",
        "0.0",
        "1e+3",
        "12e03",
        "+.5",
        "1__0",
        ".51_0",
        ".5_",
        "._5",
        ".5__1",
        ".5e1_0",
        "0b",
        "0x",
        "08",
        "1,000",
        "\u00e9" * 100 + " a",
    ),
]
NUMBERS = [
    0,
    1,
    -1,
    1.5,
    1e6,
    1234567.5,
    1e21,
    1e-5,
    0.0001,
    1.0,
    2**53,
    -(2**53),
    1e20,
    123456.75,
    1e300,
    5e-324,
    0.1 + 0.2,
]


def anything(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth < 4 and kind < 0.25:
        return {chance.choice(WORDS): anything(chance, depth + 1) for _ in range(chance.randrange(4))}
    if depth < 4 and kind < 0.4:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind < 0.6:
        return chance.choice(NUMBERS)
    if kind < 0.7:
        return chance.choice([None, True, False])
    return "".join(chance.choice(WORDS) for _ in range(chance.choice([1, 1, 1, 2])))


SIMPLE = [
    "name",
    "app.kubernetes.io/name",
    "apps/v1",
    "podinfo:9.1",
    "a b",
    "10Mi",
    "true",
    "n",
    "1",
    "0.5",
    "10.0.0.1",
]
SIMPLE += [
    "2024-01-02",
    "2024-01-02 03:04:05",
    "1:2",
    "-a",
    "--flag=x",
    ".5",
    ".a",
    "a: b",
    "a #b",
    "a,b",
    "x" * 90,
    "",
]
SIMPLE += [
    "word " * 14 + "end",
    "one\ntwo\n",
    "one\ntwo",
    "one\n\n  two\n",
    "a: |\n  b\n",
    "one \ntwo",
    "one\n\n",
    "http://a.b:1/c",
]


def manifest_like(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth < 5 and kind < 0.3:
        return {word: manifest_like(chance, depth + 1) for word in chance.sample(SIMPLE[:16], chance.randrange(4))}
    if depth < 5 and kind < 0.5:
        return [manifest_like(chance, depth + 1) for _ in range(chance.randrange(4))]
    return chance.choice(SIMPLE) if kind < 0.9 else chance.choice([*NUMBERS, None, True])


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first build of the oracle
def test_yaml_and_digest_are_those_of_go(oracle: Path, oracle_seed: int) -> None:
    chance = random.Random(oracle_seed)
    all_values = [{word: word} for word in WORDS] + [{"n": number} for number in NUMBERS]
    all_values += [{chance.choice(WORDS): anything(chance) for _ in range(3)} for _ in range(3_000)]
    all_values += [{word: manifest_like(chance) for word in chance.sample(SIMPLE, 3)} for _ in range(3_000)]
    answers = asked(oracle, "values", [json.dumps({"values": values, "steps": []}) for values in all_values])
    different = []
    for values, answer in zip(all_values, map(json.loads, answers), strict=True):
        ours = encoded(values) if values else ""
        if (ours, values_digest(values)) != (answer["yaml"], answer["digest"]):
            different.append((ours, answer["yaml"]))
    assert not different, (len(different), different[:10])


PARTS = [
    "a",
    "b",
    "c.d",
    r"e\.f",
    "[0]",
    "[1]",
    "[2]",
    ".",
    ",",
    "=",
    "{",
    "}",
    "x",
    "1",
    "true",
    "null",
    "",
    "\\",
    "[",
    "]",
    "[-1]",
]
ESCAPES = str.maketrans({character: "\\" + character for character in "\\,[]{}"})
THERE: dict[str, Any] = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "b": [1, [2], {"x": 3}], "x": None, "n": "text"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_setting_is_that_of_helm(oracle: Path, oracle_seed: int) -> None:
    chance = random.Random(oracle_seed)
    steps = []
    for _ in range(20_000):
        path = "".join(chance.choice(PARTS) for _ in range(chance.randrange(1, 6)))
        value = "".join(chance.choice(PARTS) for _ in range(chance.randrange(4)))
        steps.append({"path": path, "value": value, "way": chance.choice(["", "string", "literal"])})
    answers = asked(oracle, "values", [json.dumps({"values": THERE, "steps": [step]}) for step in steps])
    different = []
    for step, answer in zip(steps, map(json.loads, answers), strict=True):
        values = copy.deepcopy(THERE)
        text = step["value"]
        if step["way"] == "literal":
            text = text.translate(ESCAPES)
        try:
            set_at(values, f"{step['path']}={text}", as_text=bool(step["way"]))
            ours: Any = values
        except ValuesError:
            ours = None
        if ours != answer.get("values"):
            different.append((step, answer, ours))
    assert not different, (len(different), different[:10])
    assert sum("error" in answer for answer in map(json.loads, answers)) > 1_000
