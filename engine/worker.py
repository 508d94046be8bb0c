"""What every worker process does: it reads messages, writes answers, and ends with the engine.

The engine's side is `tidelog.engine.framed`.
"""

import ctypes
import signal
import sys
from collections.abc import Iterator
from typing import Final

_DIE_WITH_PARENT: Final = 1
_TIMER_SLACK: Final = 29
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Has the kernel end this process when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def sleep_loosely(slack_s: float) -> None:
    """Has the kernel end sleeps of this thread, and of those that it starts, so much later (PR_SET_TIMERSLACK)."""
    _libc.prctl(_TIMER_SLACK, int(slack_s * 1e9), 0, 0, 0)


def messages() -> Iterator[bytes]:
    """The messages on stdin, to its end."""
    stream = sys.stdin.buffer
    while len(head := stream.read(4)) == 4:
        yield stream.read(int.from_bytes(head))


def write(message: bytes) -> None:
    """Writes a message to stdout."""
    sys.stdout.buffer.write(len(message).to_bytes(4) + message)
    sys.stdout.buffer.flush()
