"""What is said between the engine and the evaluating process: frames of MessagePack behind their length.

The length is 4 bytes, big-endian. Before its first answer the process says that it is ready, with an empty frame.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Outcome, Rule, Verdict

ANSWER_BYTES_MAX: Final = 1_048_576
HealthWord: TypeAlias = Literal["InProgress", "Failed", "Current"]
"""What expressions may say of an object's health."""


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


class ParseQuestion(msgspec.Struct, frozen=True, tag="parse"):
    """An expression over whatever fields an object may have: whether it is one."""

    expression: str


class HealthQuestion(msgspec.Struct, frozen=True, tag="health"):
    """An object, and the expressions that tell its health; an empty one says nothing."""

    in_progress: str
    failed: str
    current: str
    live: KubeObject


AnyQuestion: TypeAlias = Question | RuleQuestion | ParseQuestion | HealthQuestion


class Answer(msgspec.Struct, frozen=True):
    """What came of it."""

    outcome: Outcome
    message: str = ""
    health: HealthWord | None = None
    verdicts: tuple[Verdict, ...] = ()
    """Of rules, in their order; whatever follows one that took too much is missing."""
