"""Rules over values of custom objects, and what comes of them: asked of whoever evaluates expressions."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeValue

Outcome: TypeAlias = Literal["true", "false", "valid", "invalid", "failed", "exhausted"]


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
