"""What is said between the engine and the evaluating process: frames of MessagePack behind their length.

The length is 4 bytes, big-endian. Before its first answer the process says that it is ready, with an empty frame.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeObject

ANSWER_BYTES_MAX: Final = 65_536


class Question(msgspec.Struct, frozen=True):
    """An expression to compile, and to evaluate where there is something to evaluate it over."""

    expression: str
    names: tuple[str, ...]
    """Of the variables that it may use."""
    variables: dict[str, KubeObject] | None = None


Outcome: TypeAlias = Literal["true", "false", "valid", "invalid", "failed", "exhausted"]


class Answer(msgspec.Struct, frozen=True):
    """What came of it."""

    outcome: Outcome
    message: str = ""
