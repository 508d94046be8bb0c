"""The evaluating process: `python -I -m tidelog.engine.expressions.worker`, asked on stdin, answers on stdout.

A process of its own, because whoever may write a Kustomization chooses what CPU and memory an expression takes: the
engine may end it at any moment. Once it has loaded what it needs, it reaches neither files nor the network.
"""

import resource
from typing import Final

import msgspec

from tidelog.engine.expressions.errors import EvaluationError, InvalidExpressionError
from tidelog.engine.expressions.language import (
    compile_condition,
    compile_rule,
    evaluate_condition,
    health_by,
    judge_rule,
    parse,
)
from tidelog.engine.expressions.messages import (
    Answer,
    AnyQuestion,
    HealthQuestion,
    ParseQuestion,
    Question,
    RuleQuestion,
)
from tidelog.engine.objects.rules import Rule, Verdict
from tidelog.engine.render.landlock import Fence, Reach
from tidelog.engine.worker import die_with_parent, messages, write

MEMORY_BYTES: Final = 256 * 1024 * 1024
TIME_ZONES: Final = "/usr/share/zoneinfo"

_decode = msgspec.msgpack.Decoder(AnyQuestion).decode


def main() -> None:
    """Answers until stdin ends."""
    _confine()
    write(b"")
    for message in messages():
        write(msgspec.msgpack.encode(_answer(_decode(message))))


def _confine() -> None:
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fence = Fence(Reach(read=(TIME_ZONES,)))
    fence.close_around_me()
    fence.close()


def _answer(question: AnyQuestion) -> Answer:
    try:
        match question:
            case RuleQuestion():
                return Answer("valid", verdicts=tuple(_verdict(rule, question) for rule in question.rules))
            case HealthQuestion():
                return Answer("valid", health=health_by(question))
            case ParseQuestion():
                parse(question.expression)
                return Answer("valid")
            case Question():
                return _condition(question)
    except InvalidExpressionError as error:
        return Answer("invalid", str(error))
    except EvaluationError as error:
        return Answer("failed", str(error))
    except MemoryError:
        return Answer("exhausted", f"it takes more than {MEMORY_BYTES // 2**20} MiB of memory")


def _condition(question: Question) -> Answer:
    if question.variables is None:
        compile_condition(question.expression, question.names)
        return Answer("valid")
    return Answer("true" if evaluate_condition(question.expression, question.variables) else "false")


def _verdict(rule: Rule, question: RuleQuestion) -> Verdict:
    try:
        if question.only_compile:
            compile_rule(rule)
            return Verdict("valid")
        return Verdict(*judge_rule(rule))
    except InvalidExpressionError as error:
        return Verdict("invalid", str(error))
    except EvaluationError as error:
        return Verdict("failed", str(error))


if __name__ == "__main__":
    main()
