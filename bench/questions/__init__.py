"""The questions, one module each.

A module's docstring says what is measured, what the floor is, and why that is fair. Its function `measure`
answers with figures. One that needs more than this machine's disk (a cluster, say) has `by_default=False`, and
is asked by its name only.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

from bench.figures import Figure
from bench.questions import (
    append,
    append_alone,
    as_of,
    client,
    embedded,
    embedded_memory,
    fold,
    memory,
    mttp,
    rebuild,
    releases_memory,
    render_chart,
    verify,
)
from bench.session import Session


class Question(NamedTuple):
    """A benchmark that can be asked for by its name."""

    name: str
    explanation: str
    """Its first line is the title."""
    measure: Callable[[Session], Sequence[Figure]]
    by_default: bool

    @property
    def title(self) -> str:
        """What is asked, in a line."""
        return self.explanation.partition("\n")[0]


def _question(module: ModuleType, *, by_default: bool = True) -> Question:
    return Question(module.NAME, module.__doc__ or "", module.measure, by_default)


QUESTIONS = {
    question.name: question
    for question in (
        _question(append),
        _question(append_alone),
        _question(fold),
        _question(memory),
        # Before those that need the projections: they then find them made.
        _question(rebuild),
        _question(verify),
        _question(as_of),
        _question(client, by_default=False),
        _question(embedded, by_default=False),
        _question(embedded_memory, by_default=False),
        _question(mttp, by_default=False),
        _question(render_chart, by_default=False),
        _question(releases_memory, by_default=False),
    )
}
