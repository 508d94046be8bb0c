"""Versions and ranges, held against the library that Flux uses, and as facts where no Go is."""

import json
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.missing import need_go
from tidelog.engine.sources.semver import NoRangeError, Version, range_of, version_of

ORACLE = Path(__file__).resolve().parents[1] / "oracles" / "semver"
VERSIONS = ["0.0.0", "0.0.5", "0.4.0", "1.0.0", "1.2.0", "1.2.9", "1.3.0", "2.0.0"]
PRE = ["1.2.3-beta.2", "1.3.0-rc.1", "2.0.0-alpha"]


def version(text: str) -> Version:
    found = version_of(text)
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("*", VERSIONS),
        ("x", VERSIONS),
        ("^*", ["0.0.0"]),
        (">1", ["2.0.0"]),
        (">=1", ["1.0.0", "1.2.0", "1.2.9", "1.3.0", "2.0.0"]),
        ("<=1.2", ["0.0.0", "0.0.5", "0.4.0", "1.0.0", "1.2.0", "1.2.9"]),
        ("<1.2", ["0.0.0", "0.0.5", "0.4.0", "1.0.0"]),
        ("!=1.2", ["0.0.0", "0.0.5", "0.4.0", "1.0.0", "1.3.0", "2.0.0"]),
        ("~0", ["0.0.0", "0.0.5", "0.4.0"]),
        ("~0.0.0", VERSIONS),
        ("^0", ["0.0.0", "0.0.5", "0.4.0"]),
        ("^0.0", ["0.0.0", "0.0.5"]),
        ("^0.0.5", ["0.0.5"]),
        ("^1.2", ["1.2.0", "1.2.9", "1.3.0"]),
        ("1.2.x", ["1.2.0", "1.2.9"]),
        ("1.2 - 1.3", ["1.2.0", "1.2.9", "1.3.0"]),
        (">=1.0.0-0", ["1.0.0", "1.2.0", "1.2.9", "1.3.0", "2.0.0", *PRE]),
        (">=1.0.0-0 <2", ["1.0.0", "1.2.0", "1.2.9", "1.3.0", *PRE]),
        (">=1.0.0, <1.3.0-z", ["1.0.0", "1.2.0", "1.2.9", "1.2.3-beta.2", "1.3.0-rc.1"]),
        ("1.0.0 || 2.0.0-alpha", ["1.0.0", "2.0.0-alpha"]),
        ("=1.2", ["1.2.0", "1.2.9"]),
        ("=>1.3.0-0 <=1.3", ["1.3.0", "1.3.0-rc.1"]),
        ("v1.2.0", ["1.2.0"]),
    ],
)
def test_range_has_these_members(text: str, members: list[str]) -> None:
    wanted = range_of(text)
    assert [one for one in [*VERSIONS, *PRE] if version(one) in wanted] == sorted(members, key=[*VERSIONS, *PRE].index)


@pytest.mark.parametrize(
    "text", ["", " ", "one", "1.2.3.4", ">>1", "1.0.0,", "||1", "1 ||", "^1.2.3-01", "1.0<2", "9" * 2000]
)
def test_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(NoRangeError, match="is no range of versions"):
        range_of(text)


@pytest.mark.parametrize(
    ("tag", "like"),
    [("v1.2.3", "1.2.3"), ("2026.01.05", "2026.1.5"), ("v0010.2.3", "10.2.3"), ("1.2.3+build.7", "1.2.3")],
)
def test_tag_is_read_tolerantly(tag: str, like: str) -> None:
    assert version(tag) == version(like)


@pytest.mark.parametrize("tag", ["1", "1.2", "1.2.3.4", "V1.2.3", "release-1.2.3", "1.2.3-", "1.2.3-01", "", "1.2.x"])
def test_tag_without_three_numbers_is_no_version(tag: str) -> None:
    assert version_of(tag) is None


def test_versions_stand_in_the_order_of_the_specification() -> None:
    order = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ]
    order += ["1.0.0", "1.0.1-0", "1.0.1", "1.10.0"]
    shuffled = sorted(order, key=str.swapcase)
    assert sorted(shuffled, key=version) == order


def oracle() -> list[str]:
    need_go("ranges are not held against Masterminds/semver")
    return ["go", "run", "."]


def any_version(random: Random) -> str:
    numbers = ".".join(str(random.choice([0, 0, 1, 1, 2, 3, 11])) for _ in range(3))
    return numbers + random.choice(["", "", "", "-0", "-alpha", "-alpha.1", "-rc.2", "-rc.11", "+build"])


def any_term(random: Random) -> str:
    parts = [
        random.choice(["0", "0", "1", "1", "2", "3", "11", "x", "*", "X"]) for _ in range(random.choice([1, 2, 3, 3]))
    ]
    pre = random.choice(["", "", "", "", "-0", "-alpha", "-rc.2"]) if len(parts) == 3 else ""
    operator = random.choice(["", "", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"])
    return operator + random.choice(["", "", " "]) + random.choice(["", "", "v"]) + ".".join(parts) + pre


def any_range(random: Random) -> str:
    def group() -> str:
        if random.random() < 0.15:
            return f"{any_version(random)} - {any_version(random)}"
        joint = random.choice([" ", ", ", ",", " , ", "  "])
        return joint.join(any_term(random) for _ in range(random.choice([1, 1, 2, 3])))

    # The original misreads `1.0.0 - 2.0.0||3.x`, without spaces; we read it.
    return " || ".join(group() for _ in range(random.choice([1, 1, 1, 2])))


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first build of the oracle fetches a module
def test_ranges_are_those_of_the_library_that_flux_uses(seed: int) -> None:
    random = Random(seed)
    asked = [(any_range(random), any_version(random)) for _ in range(20_000)]
    lines = "\n".join(json.dumps(pair) for pair in asked)
    ran = subprocess.run(oracle(), cwd=ORACLE, input=lines, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    answers = ran.stdout.splitlines()
    assert {"true", "false"} <= set(answers)
    different = []
    for (text, tag), answer in zip(asked, answers, strict=True):
        try:
            ours = str(version(tag) in range_of(text)).lower()
        except NoRangeError:
            ours = "no range"
        if ours != answer:
            different.append((text, tag, answer, ours))
    assert not different, different[:20]
