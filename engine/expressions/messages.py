"""What is said between the engine and the evaluating process: frames of MessagePack behind their length.

The length is 4 bytes, big-endian. Before its first answer the process says that it is ready, with an empty frame.
"""

from typing import Final

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Outcome, Rule, Verdict

ANSWER_BYTES_MAX: Final = 1_048_576


class RuleQuestion(msgspec.Struct, frozen=True, tag="rules"):
    """Rules to evaluate; or, if `only_compile`, to compile."""

    rules: tuple[Rule, ...]
    only_compile: bool = False


class Question(msgspec.Struct, frozen=True, tag="condition"):
    """An expression to compile, and to evaluate where there is something to evaluate it over."""

    expression: str
    names: tuple[str, ...]
    """Of the variables that it may use."""
    variables: dict[str, KubeObject] | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came of it."""

    outcome: Outcome
    message: str = ""
    verdicts: tuple[Verdict, ...] = ()
    """Of rules, in their order; whatever follows one that took too much is missing."""
