"""Worker processes: few, for reading an index of 40 MB takes a CPU for seconds. One of them stays when all is done."""

from types import TracebackType
from typing import Final, Self

import anyio
import msgspec

from tidelog.engine.framed import GONE, FramedProcess
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.jobs import ANSWER_BYTES_MAX, Answer, Failed, Job
from tidelog.engine.sources.limits import HELM_LIMITS, HelmLimits

WORKERS: Final = 2
WORKER_BYTES: Final = 1024 * 2**20
JOB_TIMEOUT_S: Final = 300.0
"""For one job; an index of 40 MB takes some seconds of CPU."""
WORKER: Final = "tidelog.engine.sources.helm.worker"
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class Workers:
    """Runs jobs in worker processes, a bounded number at a time.

    A job that is cancelled or takes too long costs its worker; the next job gets a new one.

    Args:
        number: jobs at a time.
        memory_bytes: that a worker may take.
        timeout_s: that a job may take.
        limits: how large charts may be.
    """

    def __init__(
        self,
        number: int = WORKERS,
        memory_bytes: int = WORKER_BYTES,
        timeout_s: float = JOB_TIMEOUT_S,
        limits: HelmLimits = HELM_LIMITS,
    ) -> None:
        self.limits = limits
        self._limiter = anyio.CapacityLimiter(number)
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._idle: list[FramedProcess] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def run(self, job: Job) -> Answer:
        """Does a job.

        Raises:
            FetchError: what went wrong; not final, when a limit of time was met or the process died.
        """
        async with self._limiter:
            if self._closed:
                raise FetchError(job.reason, "Tidelog stops")
            worker = self._idle.pop() if self._idle else await self._start()
            answer = None
            try:
                with anyio.fail_after(self._timeout_s):
                    answer = _decoder.decode(await worker.ask(msgspec.msgpack.encode(job)))
            except TimeoutError:
                raise FetchError(job.reason, f"{job.where} takes longer than {self._timeout_s:g} s to read") from None
            except GONE:
                raise FetchError(job.reason, f"{job.where}: the process that read it died") from None
            finally:
                await self._give_back(worker, is_well=answer is not None)
        if isinstance(answer, Failed):
            raise FetchError(answer.reason, answer.message, final=answer.final)
        return answer

    async def _give_back(self, worker: FramedProcess, *, is_well: bool) -> None:
        if is_well and not self._closed and not self._idle:
            self._idle.append(worker)
        else:
            await worker.end()

    async def _start(self) -> FramedProcess:
        return await FramedProcess.start(WORKER, str(self._memory_bytes), answer_bytes_max=ANSWER_BYTES_MAX)
