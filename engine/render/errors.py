"""What goes wrong in a render.

RenderError                  what a target's condition says
├── YamlError                a text that is no YAML, or more than we read
└── SubstitutionError        a variable without a value, or a `${` that cannot be read
"""

from typing import Literal

import msgspec

Reason = Literal["BuildFailed", "ArtifactFailed"]


class ReadEntry(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a build looked up."""

    path: str
    id: str | None
    """Of the file, or of the directory that was listed with all below it; None when nothing was there."""


class RenderError(Exception):
    """A target's objects could not be built.

    Attributes:
        reason: the reason of the target's Ready condition (contract KS-041).
        message: what happened, where (file, line, object), and what to do.
        final: whether the inputs alone explain it, so that another try gives the same; False for a time limit, a
            memory limit, a missing program, a remote base that did not answer.
        read_set: what the failure depends on, as far as it was read: while that stays, so does a final failure.
    """

    def __init__(self, message: str, *, reason: Reason = "BuildFailed", final: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.reason: Reason = reason
        self.final = final
        self.read_set: tuple[ReadEntry, ...] = ()


class YamlError(RenderError):
    """A text could not be read as YAML.

    Attributes:
        line: where, from 1; None when the whole text is meant.
        problem: what is wrong there; it quotes keys at most, and never a value.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line}: {problem}")
        self.problem = problem
        self.line = line


class SubstitutionError(RenderError):
    """A post-build substitution failed.

    Attributes:
        line: of the object's text, from 1.
        problem: what is wrong there.
        variable: the variable it is about, when it is about one.
    """

    def __init__(self, problem: str, line: int | None = None, variable: str = "") -> None:
        super().__init__(problem if line is None else f"line {line}: {problem}")
        self.problem = problem
        self.line = line
        self.variable = variable
