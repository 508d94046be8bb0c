"""Rules over values of custom objects, and what comes of them: asked of whoever evaluates expressions."""

from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeValue

Outcome: TypeAlias = Literal["true", "false", "valid", "invalid", "failed", "exhausted"]


SCALARS: Final = {
    "s": "string",
    "i": "int",
    "d": "double",
    "b": "bool",
    "t": "timestamp",
    "u": "duration",
    "y": "bytes",
}
"""Types that a part of a value may have, by their letters."""
TYPES: Final = (*SCALARS, *(f"l{one}" for one in SCALARS), *(f"m{one}" for one in SCALARS))
"""Those, and lists and maps of them."""
TYPED_MIN: Final = 4
TYPED_MAX: Final = 80


def typed_name(kind: str, length: int) -> str | None:
    """The variable of a type of `TYPES` whose name has a length: put in the place of a field, it moves nothing.

    None where there is none: a part whose name is too long is of any type.
    """
    return kind.ljust(length, "_") if TYPED_MIN <= length <= TYPED_MAX else None


class Rule(msgspec.Struct, frozen=True):
    """A rule over a value of a custom object, `self`, and what it was before, `oldSelf`."""

    expression: str
    message_expression: str = ""
    """Gives the message, where the rule does not hold."""
    value: KubeValue = None
    old: KubeValue = None
    optional_old: bool = False
    """Whether `oldSelf` is an optional value, which may be none."""


class Verdict(msgspec.Struct, frozen=True):
    """What came of a rule."""

    outcome: Outcome
    message: str = ""
    """What is wrong; or, where the rule does not hold, what its message expression gives."""


class Judge(Protocol):
    """Who evaluates rules."""

    async def judge(self, rules: Sequence[Rule], *, only_compile: bool = False) -> tuple[Verdict, ...]:
        """What comes of rules, in their order; or, if `only_compile`, whether they compile."""
