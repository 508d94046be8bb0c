"""Work on large objects, done aside, in a thread: whoever asks for something else meanwhile does not wait for it.

What is done aside reads no store and writes none. Whether an object was changed meanwhile is asked where it is written,
as ever: rules in CEL are waited for, too.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from tidelog.engine.objects.rules import Judge, Rule, Verdict

LARGE_BYTES: Final = 32 << 10
"""What is larger, as JSON, is worked on aside: some 10 ms and more, to which a thread adds a tenth of one."""
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


class Aside:
    """Does work, aside if it is much: one after the other, as threads would only take turns."""

    def __init__(self, judge: Judge) -> None:
        """`judge` evaluates rules in CEL."""
        self._judge = judge
        self._turns = anyio.CapacityLimiter(1)

    async def call(
        self, size: int, work: Callable[_Given, _Made], *given: _Given.args, **named: _Given.kwargs
    ) -> _Made:
        """What a function gives, of so many bytes."""
        if size <= LARGE_BYTES:
            return work(*given, **named)
        return await anyio.to_thread.run_sync(partial(work, *given, **named), limiter=self._turns)

    async def run(
        self,
        size: int,
        work: Callable[Concatenate[Judge, _Given], Coroutine[Any, Any, _Made]],
        *given: _Given.args,
        **named: _Given.kwargs,
    ) -> _Made:
        """As `call`, of what awaits nothing but a judge, which it is given first."""
        if size <= LARGE_BYTES:
            return await work(self._judge, *given, **named)
        judge = _JudgeElsewhere(self._judge)
        return await anyio.to_thread.run_sync(lambda: _driven(work(judge, *given, **named)), limiter=self._turns)


class _JudgeElsewhere:
    """A judge for a thread: it waits for the verdicts that are found in the event loop."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def judge(self, rules: Sequence[Rule], *, only_compile: bool = False) -> tuple[Verdict, ...]:
        """As `Judge`; it blocks its thread, and gives no turn to anybody."""
        return anyio.from_thread.run(partial(self._judge.judge, rules, only_compile=only_compile))


def _driven(work: Coroutine[Any, Any, _Made]) -> _Made:
    """What a coroutine gives that never gives a turn away."""
    try:
        work.send(None)
    except StopIteration as done:
        made: _Made = done.value
        return made
    work.close()
    raise RuntimeError("work that is done aside has waited for the event loop")
