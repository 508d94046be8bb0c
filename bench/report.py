"""How results are printed and kept."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.figures import RATES, Figure, Goal
from bench.machine import Machine

WIDTH_ELSEWHERE = 160
"""Columns where output is no terminal."""
GOALS_FROM_EVENTS = 1_000_000
WITHOUT_LOG = frozenset({"client", "embedded", "embedded-memory", "mttp", "releases-memory", "render-chart"})
"""The questions that have no use for the big log."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of benchmarks says."""

    machine: Machine
    events: int
    """Of the big log."""
    quick: bool
    failed: list[str]
    """Questions that could not be answered."""
    figures: list[Figure]

    @property
    def missed(self) -> list[Figure]:
        """The figures that do not reach their goal."""
        return [figure for figure in self.figures if figure.met is False]


def keep(result: Result, path: Path) -> None:
    """Writes a result to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(result) + "\n")


def as_json(result: Result) -> str:
    """A result, indented."""
    return json.dumps(msgspec.to_builtins(result), indent=2, ensure_ascii=False)


def show(result: Result) -> None:
    """Prints a result as a table."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_ELSEWHERE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("question", no_wrap=True)
    table.add_column("what is measured, and its floor", overflow="fold")
    for name in ("measured", "floor", "ratio", "min - max", "goal"):
        table.add_column(name, justify="right", no_wrap=True)
    question = ""
    for figure in result.figures:
        table.add_row("" if figure.question == question else figure.question, *_row(figure))
        question = figure.question
    console.print(table)
    for line in _footnotes(result):
        console.print(line, style="dim", markup=False)


def _row(figure: Figure) -> list[str | Text]:
    what = Text(figure.name)
    floor = ratio = spread = ""
    if figure.floor_name:
        what.append(f"\n  to {figure.floor_name}", style="dim")
    if figure.floor is not None:
        floor = _with_unit(figure.floor.median, figure)
    if figure.ratio is not None:
        ratio = _ratio(figure, figure.ratio.median)
        if figure.ratio.runs > 1:
            spread = f"{_ratio(figure, figure.ratio.min)} - {_ratio(figure, figure.ratio.max)}"
    return [what, _with_unit(figure.measured.median, figure), floor, ratio, spread, _verdict(figure)]


def _verdict(figure: Figure) -> Text:
    if figure.goal is None:
        return Text("")
    text = _goal(figure.goal, figure)
    return Text(f"{text}  met", style="green") if figure.met else Text(f"{text}  missed", style="bold red")


def _footnotes(result: Result) -> Iterator[str]:
    for figure in result.figures:
        if figure.note:
            yield f"{figure.question}: {figure.note}"
    if result.events < GOALS_FROM_EVENTS and any(figure.question not in WITHOUT_LOG for figure in result.figures):
        yield f"The goals are for a log of {GOALS_FROM_EVENTS:,} events: in this one, fixed costs weigh more."
    machine = result.machine
    yield (
        f"{machine.date}, commit {machine.commit or '?'}, {machine.processor}, {machine.cores} cores, "
        f"{machine.memory_mib:,} MiB, {machine.file_system}, Linux {machine.kernel}, {machine.python}, "
        f"SQLite {machine.sqlite}, load {machine.load} when it began"
    )


def _goal(goal: Goal, figure: Figure) -> str:
    sign = "≥" if goal.bound == "at least" else "≤"
    if goal.what == "measured":
        return f"{sign} {_number(goal.value)} {figure.unit}"
    return f"{sign} {_ratio(figure, goal.value)}"


def _with_unit(value: float, figure: Figure) -> str:
    return f"{_number(value)} {figure.unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _ratio(figure: Figure, value: float) -> str:
    """A rate is a part of its floor, a duration a multiple of it, or a fraction where it is a small one."""
    if figure.unit in RATES:
        return f"{value:.1%}"
    if 0 < value < 0.1:
        return f"1/{1 / value:,.0f}"
    return f"{value:.2f} x"
