"""Worker processes that are asked on stdin and answer on stdout, each message behind its length in four bytes.

This is the engine's side; `tidelog.engine.worker` is the process's own.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self

import anyio
from anyio.abc import Process

GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
"""What sending and receiving raise when the process is no more, or says more than it may."""
_HEAD: Final = 4
_END_S: Final = 5.0
_EXIT_S: Final = 0.5
"""Between the end of a process's answers and its own."""


class FramedProcess:
    """A worker process, and all that it runs: a process group of its own."""

    def __init__(self, process: Process, answer_bytes_max: int) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without pipes")
        self._process = process
        self._into = process.stdin
        self._from = process.stdout
        self._received = bytearray()
        self._answer_bytes_max = answer_bytes_max

    @classmethod
    async def start(
        cls, module: str, *arguments: str, answer_bytes_max: int, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Starts a module of ours as a program: with its arguments, and nothing of this process's environment."""
        return cls(
            await anyio.open_process(
                [sys.executable, "-I", "-X", "utf8", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8", **(environment or {})},
                cwd="/",
                start_new_session=True,
            ),
            answer_bytes_max,
        )

    @property
    def code(self) -> int | None:
        """How it ended; None while it has not."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def ask(self, question: bytes) -> bytes:
        """Sends a message, and waits for the next one."""
        await self._into.send(len(question).to_bytes(4) + question)
        return await self.receive()

    async def receive(self) -> bytes:
        """Waits for a message."""
        await self._receive(_HEAD)
        size = int.from_bytes(self._received[:_HEAD])
        if size > self._answer_bytes_max:
            raise anyio.BrokenResourceError
        await self._receive(_HEAD + size)
        message = bytes(self._received[_HEAD : _HEAD + size])
        del self._received[: _HEAD + size]
        return message

    async def _receive(self, size: int) -> None:
        """Receives so much at least; most messages come in one part."""
        while len(self._received) < size:
            self._received += await self._from.receive()

    async def end(self, within_s: float = 0) -> None:
        """Ends it and all that it runs, whatever it is doing; `within_s` is for one that is ending by itself."""
        if within_s:
            with anyio.move_on_after(within_s, shield=True):
                await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with anyio.move_on_after(_END_S, shield=True):
            await self._process.aclose()


class WorkerDiedError(Exception):
    """A worker ended while it was asked.

    Attributes:
        code: how it ended; below zero the signal that ended it.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"a worker ended with {code}")
        self.code = code


class FramedWorkers:
    """A bounded number of worker processes that stay.

    A question that is cancelled or takes too long costs its worker, with all that it runs; the next one gets a new one.
    """

    def __init__(self, number: int, start: Callable[[], Awaitable[FramedProcess]]) -> None:
        self.number = number
        self._start = start
        self._limiter = anyio.CapacityLimiter(number)
        self._idle: list[FramedProcess] = []
        self._closed = False

    async def close(self) -> None:
        """Ends the idle ones, and the others as soon as they have answered."""
        self._closed = True
        await self.end_idle()

    async def end_idle(self) -> None:
        """Ends those that have nothing to do; who asks next gets a new one."""
        while self._idle:
            await self._idle.pop().end()

    async def ask(self, question: bytes, time_s: float) -> bytes:
        """Asks the next worker that is free. Waiting for one counts for nobody's time.

        Raises:
            TimeoutError: when it takes too long.
            WorkerDiedError: when the worker ends, or says more than it may.
        """
        borrower = object()
        try:  # without a turn of the loop where none is waited for
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)
        try:
            return await self._answer(question, time_s)
        finally:
            self._limiter.release_on_behalf_of(borrower)

    async def _answer(self, question: bytes, time_s: float) -> bytes:
        if self._closed:
            raise RuntimeError("the workers are closed")
        worker = self._idle.pop() if self._idle else await self._start()
        answer = None
        gone = False
        try:
            with anyio.fail_after(time_s):
                answer = await worker.ask(question)
        except GONE:
            gone = True
        finally:
            if answer is None or self._closed:
                await worker.end(within_s=_EXIT_S if gone else 0)
            else:
                self._idle.append(worker)
        if answer is None:
            raise WorkerDiedError(worker.code)
        return answer
