"""Evaluates expressions in one process, which is started by the first, and ended by what takes too long."""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import anyio
import msgspec

from tidelog.engine.expressions.errors import EvaluationError, EvaluatorError, InvalidExpressionError
from tidelog.engine.expressions.messages import (
    ANSWER_BYTES_MAX,
    Answer,
    AnyQuestion,
    HealthQuestion,
    HealthWord,
    ParseQuestion,
    Question,
    RuleQuestion,
)
from tidelog.engine.framed import GONE, FramedProcess
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Rule, Verdict

EXPRESSION_BYTES_MAX: Final = 16_384
TIME_S: Final = 2.0
"""For one expression; most take well below a millisecond."""
START_S: Final = 60.0
"""For the process to start; that counts for no expression's time."""
WORKER: Final = "tidelog.engine.expressions.worker"
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class Evaluator:
    """Evaluates expressions, one at a time.

    An expression that is cancelled, or takes too long or too much memory, costs the process; the next gets a new one.

    Args:
        time_s: what one expression may take.
    """

    def __init__(self, *, time_s: float = TIME_S) -> None:
        self._time_s = time_s
        self._turn = anyio.Lock()
        self._process: FramedProcess | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        await self._end()

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    async def check(self, expression: str, names: Iterable[str]) -> None:
        """Compiles an expression over some variables, each of which is an object.

        Raises:
            InvalidExpressionError: when it does not compile, or cannot give true or false.
            EvaluatorError: when that takes too long or too much.
        """
        await self._ask(Question(expression, tuple(names)))

    async def holds(self, expression: str, variables: Mapping[str, KubeObject]) -> bool:
        """Whether an expression holds of some objects.

        Raises:
            InvalidExpressionError: as `check` does.
            EvaluationError: when it has no result for these objects.
            EvaluatorError: when it takes too long or too much.
        """
        answer = await self._ask(Question(expression, tuple(variables), dict(variables)))
        return answer.outcome == "true"

    async def parse(self, expression: str) -> None:
        """Parses an expression over the fields of an object, whatever fields those are.

        Raises:
            InvalidExpressionError: when it is no expression.
            EvaluatorError: when that takes too long or too much.
        """
        await self._ask(ParseQuestion(expression))

    async def health(self, live: KubeObject, *, in_progress: str = "", failed: str = "", current: str) -> HealthWord:
        """What expressions over an object's fields say of its health: the first that holds, in this order.

        Raises:
            InvalidExpressionError: as `parse` does.
            EvaluationError: when one has no result for this object.
            EvaluatorError: when they take too long or too much together.
        """
        answer = await self._ask(HealthQuestion(in_progress, failed, current, live))
        if answer.health is None:
            raise EvaluatorError("the process that evaluates gave no answer")
        return answer.health

    async def judge(self, rules: Sequence[Rule], *, only_compile: bool = False) -> tuple[Verdict, ...]:
        """What comes of rules, all in one go.

        Raises:
            EvaluatorError: when they take too long or too much together.
        """
        answer = await self._ask(RuleQuestion(tuple(rules), only_compile))
        return answer.verdicts

    async def _ask(self, question: AnyQuestion) -> Answer:
        if any(len(one.encode()) > EXPRESSION_BYTES_MAX for one in _expressions(question)):
            raise InvalidExpressionError(f"it is longer than {EXPRESSION_BYTES_MAX} bytes")
        answer = None
        async with self._turn:
            try:
                process = await self._started()
                with anyio.fail_after(self._time_s):
                    answer = _decoder.decode(await process.ask(msgspec.msgpack.encode(question)))
            except TimeoutError:
                raise EvaluatorError(f"it takes longer than {self._time_s:g} s") from None
            except GONE:
                raise EvaluatorError("the process died that evaluated it") from None
            finally:
                if answer is None or answer.outcome == "exhausted":
                    await self._end()
        if answer.outcome == "exhausted":
            raise EvaluatorError(answer.message)
        if answer.outcome == "invalid":
            raise InvalidExpressionError(answer.message)
        if answer.outcome == "failed":
            raise EvaluationError(answer.message)
        return answer

    async def _started(self) -> FramedProcess:
        if self._closed:
            raise RuntimeError("the evaluator is closed")
        if self._process is None:
            self._process = await FramedProcess.start(WORKER, answer_bytes_max=ANSWER_BYTES_MAX)
            try:
                with anyio.fail_after(START_S):
                    await self._process.receive()
            except TimeoutError:
                raise EvaluatorError(f"the process for expressions did not start within {START_S:g} s") from None
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()


def _expressions(question: AnyQuestion) -> tuple[str, ...]:
    """Those that people wrote in a spec; rules are bounded where they are written."""
    match question:
        case Question() | ParseQuestion():
            return (question.expression,)
        case HealthQuestion():
            return question.in_progress, question.failed, question.current
        case RuleQuestion():
            return ()
