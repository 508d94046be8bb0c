"""Worker processes: a few that stay, so that a render does not pay for the start of an interpreter."""

import os
from types import TracebackType
from typing import Final, Self

import msgspec

from tidelog.engine.framed import FramedProcess, FramedWorkers, WorkerDiedError
from tidelog.engine.render.errors import RenderError, SubstitutionError
from tidelog.engine.render.jobs import FRAME_MAX, Answer, Failed, Finish, Job, Made, Ran, Run
from tidelog.engine.render.postbuild import Finished

WORKERS: Final = max(2, min(4, os.cpu_count() or 1))
WORKER_BYTES: Final = 1024 * 1024 * 1024
"""Memory of a worker itself; of what it runs, the job says it."""
WORKER: Final = "tidelog.engine.render.worker"
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class Workers:
    """Runs jobs in worker processes, a bounded number at a time."""

    def __init__(self, number: int = WORKERS) -> None:
        self.number = number
        self._workers = FramedWorkers(number, _started)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._workers.close()

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
        try:
            answer = _decoder.decode(await self._workers.ask(msgspec.msgpack.encode(job), time_s))
        except TimeoutError:
            raise RenderError(f"{_program(job)} takes longer than {time_s:g} s", final=False) from None
        except WorkerDiedError:
            raise RenderError(f"the worker died that ran {_program(job)}", final=False) from None
        if isinstance(answer, Failed):
            raise _error(answer)
        return answer


async def _started() -> FramedProcess:
    return await FramedProcess.start(WORKER, str(WORKER_BYTES), answer_bytes_max=FRAME_MAX)


def _program(job: Job) -> str:
    return "kustomize" if isinstance(job, Run) else "post build"


def _error(failed: Failed) -> RenderError:
    if failed.variable:
        return SubstitutionError(failed.message, variable=failed.variable)
    return RenderError(failed.message, final=failed.final)
