"""The evaluating process: `python -I -m tidelog.engine.expressions.worker`, asked on stdin, answers on stdout.

A process of its own, because whoever may write a Kustomization chooses what CPU and memory an expression takes: the
engine may end it at any moment. Once it has loaded what it needs, it reaches neither files nor the network.
"""

import ctypes
import resource
import signal
import sys
from typing import BinaryIO, Final

import msgspec

from tidelog.engine.expressions.errors import EvaluationError, InvalidExpressionError
from tidelog.engine.expressions.language import compile_condition, evaluate_condition
from tidelog.engine.expressions.messages import Answer, Question
from tidelog.engine.render.landlock import Fence, Reach

MEMORY_BYTES: Final = 256 * 1024 * 1024
TIME_ZONES: Final = "/usr/share/zoneinfo"
_DIE_WITH_PARENT: Final = 1


def main() -> None:
    """Answers until stdin ends."""
    _confine()
    decoder = msgspec.msgpack.Decoder(Question)
    _write(b"")
    while (frame := _read(sys.stdin.buffer)) is not None:
        _write(msgspec.msgpack.encode(_answer(decoder.decode(frame))))


def _confine() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fence = Fence(Reach(read=(TIME_ZONES,)))
    fence.close_around_me()
    fence.close()


def _answer(question: Question) -> Answer:
    try:
        if question.variables is None:
            compile_condition(question.expression, question.names)
            return Answer("valid")
        return Answer("true" if evaluate_condition(question.expression, question.variables) else "false")
    except InvalidExpressionError as error:
        return Answer("invalid", str(error))
    except EvaluationError as error:
        return Answer("failed", str(error))
    except MemoryError:
        return Answer("exhausted", f"it takes more than {MEMORY_BYTES // 2**20} MiB of memory")


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(4)
    return stream.read(int.from_bytes(head)) if len(head) == 4 else None


def _write(frame: bytes) -> None:
    sys.stdout.buffer.write(len(frame).to_bytes(4) + frame)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
