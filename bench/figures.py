"""What a benchmark says: a measured value, its floor, their ratio, and the goal."""

import statistics
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Unit: TypeAlias = Literal[
    "events/s",
    "targets/s",
    "objects/s",
    "s",
    "ms",
    "ms/target",
    "µs/object",
    "MiB",
    "KiB/object",
    "requests",
    "requests/target",
    "% of a core",
    "% of the original",
]
RATES = frozenset({"events/s", "targets/s", "objects/s"})
"""Units in which more is better."""


class Spread(msgspec.Struct, frozen=True):
    """The values of several runs."""

    min: float
    median: float
    max: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values), len(values))


class Goal(msgspec.Struct, frozen=True):
    """What a median is to be."""

    what: Literal["ratio", "measured"]
    bound: Literal["at least", "at most"]
    value: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the result."""

    question: str
    """The name of the benchmark."""
    name: str
    unit: Unit
    measured: Spread
    floor_name: str = ""
    floor: Spread | None = None
    ratio: Spread | None = None
    """Of the measured value to its floor, run by run: what disturbs both at once cancels out."""
    goal: Goal | None = None
    met: bool | None = None
    note: str = ""


def figure(
    question: str,
    name: str,
    unit: Unit,
    measured: Sequence[float],
    *,
    floor_name: str = "",
    floor: Sequence[float] = (),
    ratios: Sequence[float] = (),
    goal: Goal | None = None,
    note: str = "",
) -> Figure:
    """A figure of values and, where there is one, of a floor that was measured beside each of them."""
    if floor and not ratios:
        ratios = [value / beside for value, beside in zip(measured, floor, strict=True)]
    ratio = Spread.of(ratios) if ratios else None
    spread = Spread.of(measured)
    return Figure(
        question=question,
        name=name,
        unit=unit,
        measured=spread,
        floor_name=floor_name,
        floor=Spread.of(floor) if floor else None,
        ratio=ratio,
        goal=goal,
        met=None if goal is None else _is_met(goal, spread, ratio),
        note=note,
    )


def _is_met(goal: Goal, measured: Spread, ratio: Spread | None) -> bool:
    spread = ratio if goal.what == "ratio" else measured
    assert spread is not None, "a goal for a ratio, without a floor"
    return spread.median >= goal.value if goal.bound == "at least" else spread.median <= goal.value
