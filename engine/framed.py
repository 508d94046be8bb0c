"""Worker processes that are asked on stdin and answer on stdout, each message behind its length in four bytes.

This is the engine's side; `tidelog.engine.worker` is the process's own.
"""

import contextlib
import os
import signal
import subprocess
import sys
from typing import Final, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead)
"""What sending and receiving raise when the process is no more, or says more than it may."""
_END_S: Final = 5.0


class FramedProcess:
    """A worker process, and all that it runs: a process group of its own."""

    def __init__(self, process: Process, answer_bytes_max: int) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without pipes")
        self._process = process
        self._into = process.stdin
        self._from = BufferedByteReceiveStream(process.stdout)
        self._answer_bytes_max = answer_bytes_max

    @classmethod
    async def start(cls, module: str, *arguments: str, answer_bytes_max: int) -> Self:
        """Starts a module of ours as a program: with its arguments, and nothing of this process's environment."""
        return cls(
            await anyio.open_process(
                [sys.executable, "-I", "-X", "utf8", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            ),
            answer_bytes_max,
        )

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
        size = int.from_bytes(await self._from.receive_exactly(4))
        if size > self._answer_bytes_max:
            raise anyio.BrokenResourceError
        return await self._from.receive_exactly(size)

    async def end(self) -> None:
        """Ends it and all that it runs, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with anyio.move_on_after(_END_S, shield=True):
            await self._process.aclose()
