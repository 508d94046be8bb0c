"""docs/reference/flux.md tells of every rule of Flux's contract what became of it, and what it names is there.

`contract_ids.txt` has the ids, as the contract has them: a rule that is to be kept is added there.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "flux.md"
IDS = (Path(__file__).parent / "contract_ids.txt").read_text().split()

ROW = re.compile(r"^\| (?P<id>[A-Z]{2}-\d{3}) \|(?P<cells>.*)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
STATUSES = {"kept", "differs", "not yet"}
REASON_LENGTH_MIN = 10
FLAGS = 23
"""Rules about flags and variables (sections 6.1 and 6.2): all of them are told, whatever they are of."""


class Row(NamedTuple):
    id: str
    rule: str
    status: str
    where: str


def rows() -> list[Row]:
    found = []
    for match in ROW.finditer(PAGE.read_text()):
        cells = [cell.strip() for cell in match["cells"].split("|")]
        assert len(cells) == 3, f"{match['id']}: a row is id | rule | status | test, or why"
        found.append(Row(match["id"], *cells))
    return found


ROWS = rows()


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    assert file.is_file(), f"there is no {path}"
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_rule_of_the_contract_is_told_once_and_no_other() -> None:
    assert sorted(row.id for row in ROWS) == sorted(IDS)
    assert len(IDS) == len(set(IDS))


def test_no_flag_of_the_contract_is_left_out() -> None:
    assert [id for id in IDS if id.startswith("FL-")] == [f"FL-{number:03}" for number in range(1, FLAGS + 1)]


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_what_a_row_says_can_be_looked_up(row: Row) -> None:
    assert row.rule
    assert row.status in STATUSES
    match row.status:
        case "kept":
            named = TEST.findall(row.where)
            assert named, f"{row.id} is kept: by which test?"
            assert TEST.sub("", row.where).strip(" ,") == "", f"{row.id}: tests, parted by commas, and nothing else"
            for path, function in named:
                assert function in functions_of(path), f"{row.id}: {path} has no {function}"
        case _:
            assert len(row.where) >= REASON_LENGTH_MIN, f"{row.id}: why?"
