"""Worker processes: a few that stay, so that a render does not pay for the start of an interpreter."""

import contextlib
import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tidelog.engine.render.errors import RenderError, SubstitutionError
from tidelog.engine.render.jobs import FRAME_MAX, Answer, Failed, Finish, Job, Made, Ran, Run
from tidelog.engine.render.postbuild import Finished

WORKERS: Final = max(2, min(4, os.cpu_count() or 1))
WORKER_BYTES: Final = 1024 * 1024 * 1024
"""Memory of a worker itself; of what it runs, the job says it."""
_END_S: Final = 5.0
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class _Worker:
    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - both were asked for
        assert process.stdout is not None  # noqa: S101
        self.process = process
        self._into = process.stdin
        self._from = BufferedByteReceiveStream(process.stdout)

    @classmethod
    async def start(cls) -> Self:
        return cls(
            await anyio.open_process(
                [sys.executable, "-I", "-X", "utf8", "-m", "tidelog.engine.render.worker", str(WORKER_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        )

    async def ask(self, job: Job) -> Answer:
        frame = msgspec.msgpack.encode(job)
        await self._into.send(len(frame).to_bytes(4) + frame)
        size = int.from_bytes(await self._from.receive_exactly(4))
        if size > FRAME_MAX:
            raise anyio.BrokenResourceError
        return _decoder.decode(await self._from.receive_exactly(size))

    async def end(self) -> None:
        """Ends it and all that it runs, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with anyio.move_on_after(_END_S, shield=True):
            await self.process.aclose()


class Workers:
    """Runs jobs in worker processes, a bounded number at a time.

    A job that is cancelled or takes too long costs its worker, with all that it runs; the next job gets a new one.
    """

    def __init__(self, number: int = WORKERS) -> None:
        self.number = number
        self._limiter = anyio.CapacityLimiter(number)
        self._idle: list[_Worker] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def run(self, job: Run, *, time_s: float) -> Ran:
        """Runs a program.

        Raises:
            RenderError: not final, when a limit is met.
        """
        answer = await self._ask(job, time_s)
        assert isinstance(answer, Ran)  # noqa: S101 - a worker answers each job in its own way
        if answer.limit:
            raise RenderError(f"{_program(job)} was ended: {answer.limit}", final=False)
        return answer

    async def finish(self, job: Finish, *, time_s: float) -> Finished:
        """Makes a target's objects.

        Raises:
            RenderError: when they cannot be made, or a limit is met (then it is not final).
        """
        answer = await self._ask(job, time_s)
        assert isinstance(answer, Made)  # noqa: S101 - a worker answers each job in its own way
        return answer.finished

    async def _ask(self, job: Job, time_s: float) -> Answer:
        """Waiting for a worker counts for nobody's time."""
        async with self._limiter:
            if self._closed:
                raise RuntimeError("the workers are closed")
            worker = self._idle.pop() if self._idle else await _Worker.start()
            answer = None
            try:
                with anyio.fail_after(time_s):
                    answer = await worker.ask(job)
            except TimeoutError:
                raise RenderError(f"{_program(job)} takes longer than {time_s:g} s", final=False) from None
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.IncompleteRead):
                raise RenderError(f"the worker died that ran {_program(job)}", final=False) from None
            finally:
                if answer is None or self._closed:
                    await worker.end()
                else:
                    self._idle.append(worker)
        if isinstance(answer, Failed):
            raise _error(answer)
        return answer


def _program(job: Job) -> str:
    return "kustomize" if isinstance(job, Run) else "post build"


def _error(failed: Failed) -> RenderError:
    if failed.variable:
        return SubstitutionError(failed.message, variable=failed.variable)
    return RenderError(failed.message, final=failed.final)
