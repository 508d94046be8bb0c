"""The engine's side of rendering: a few processes that stay, with Helm's SDK in them."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio.to_thread
import msgspec

from tidelog.engine.framed import FramedProcess, FramedWorkers, WorkerDiedError
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.jobs import FRAME_MAX, GO_FATAL, OVER_MEMORY, Answer, Failed, Question, Settings
from tidelog.engine.helm.lookup import LookupProxy, LookupSource, Reading
from tidelog.engine.helm.spec import RenderedChart, RenderJob
from tidelog.engine.secrecy.values import SecretValues

WORKER: Final = "tidelog.engine.helm.worker"
WORKERS: Final = max(1, min(2, os.cpu_count() or 1))
MESSAGE_CHARACTERS: Final = 2_000
_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class Limits(msgspec.Struct, frozen=True):
    """What one chart may take."""

    time_s: float = 300.0
    memory_bytes: int = 1024 * 1024 * 1024
    """Of the process that renders it, 60 MiB of which are its own."""
    output_bytes: int = 64 * 1024 * 1024


class ChartRenderer:
    """Renders charts in worker processes that reach no network, no environment and no file but those of charts.

    Of the network, they reach one port of this process's, for `lookup`.

    Args:
        roots: the directories that charts lie below; nothing else can be read.
        limits: of one chart.
        workers: processes at a time.
        dns: whether templates may look names up in the network besides.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        workers: int = WORKERS,
        dns: bool = False,
    ) -> None:
        self._roots = tuple(str(root) for root in roots)
        self._limits = limits
        self._dns = dns
        self._proxy = LookupProxy()
        self._workers = FramedWorkers(workers, self._started)
        self.loads = 0
        """How often a chart was read and parsed: once by each worker, as long as that keeps it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._workers.close()
        finally:
            await self._proxy.close()

    async def render(
        self,
        job: RenderJob,
        secrets: SecretValues | None = None,
        *,
        cluster: LookupSource | None = None,
        time_s: float | None = None,
    ) -> RenderedChart:
        """Renders a chart.

        Args:
            job: the chart, and what decides how it is rendered.
            secrets: values that an error must not quote: of `valuesFrom`, and what else is known. What `lookup` finds
                in Secrets is added before the chart sees it, so that it is also known of what was rendered.
            cluster: what `lookup` answers from; None for nothing, as in `helm template`.
            time_s: what it may take, within the limits.

        Raises:
            ChartError: when it cannot be rendered, or meets a limit (then it is not final). Nor is it final when the
                cluster was asked for something, which may be another by then.
        """
        within_s = self._limits.time_s if time_s is None else min(time_s, self._limits.time_s)
        if cluster is None:
            return await self._answered(Question(job), secrets, within_s)
        known = SecretValues() if secrets is None else secrets
        with self._proxy.reading(cluster, known) as reading:
            rendered = await self._answered(Question(job, reading.token), known, within_s, reading)
        return _with_what_it_read(rendered, reading)

    async def _answered(
        self, question: Question, secrets: SecretValues | None, within_s: float, reading: Reading | None = None
    ) -> RenderedChart:
        job = question.job
        try:
            answer = _decoder.decode(await self._workers.ask(msgspec.msgpack.encode(question), within_s))
        except TimeoutError:
            raise _limit(job, f"it takes longer than {within_s:g} s") from None
        except WorkerDiedError as died:
            raise self._died(job, died.code) from None
        self.loads += answer.loads
        if isinstance(answer, Failed):
            message = await anyio.to_thread.run_sync(_shown, answer.message, secrets)
            asked, limit = (reading.has_asked, reading.limit) if reading else (False, "")
            raise ChartError(message, final=answer.final and not asked, limit=answer.limit or limit)
        return answer.chart

    async def _started(self) -> FramedProcess:
        limits = self._limits
        port = await self._proxy.port()
        settings = Settings(limits.memory_bytes, limits.output_bytes, self._roots, port, self._dns)
        return await FramedProcess.start(
            WORKER,
            msgspec.json.encode(settings).decode(),
            answer_bytes_max=FRAME_MAX,
            # Go takes these when it starts. Half of the limit: garbage is then collected before it counts. It is
            # collected less often than usual, for little stays, and by the one processor that a render has at a time:
            # waking another takes time.
            environment={
                "GOMEMLIMIT": str(limits.memory_bytes // 2),
                "GOGC": "200",
                "GOMAXPROCS": "1",
                "TZ": "UTC",
            },
        )

    def _died(self, job: RenderJob, code: int | None) -> ChartError:
        if code in {OVER_MEMORY, GO_FATAL}:
            return _limit(job, f"it takes more than {self._limits.memory_bytes} bytes of memory")
        return ChartError(f"the process died that rendered {job.shown_with_release} (exit code {code})", final=False)


def _with_what_it_read(rendered: RenderedChart, reading: Reading) -> RenderedChart:
    if not reading.has_asked:
        return rendered
    # A template that was made of values is in no file.
    impure = tuple(sorted({*rendered.impure, "lookup"}))
    return msgspec.structs.replace(rendered, looked_up=reading.looked_up, impure=impure)


def _limit(job: RenderJob, limit: str) -> ChartError:
    return ChartError(f"rendering {job.shown_with_release} was ended: {limit}", final=False, limit=limit)


def _shown(message: str, secrets: SecretValues | None) -> str:
    text = message if secrets is None else secrets.filter(message)
    # Go's errors tell where at their beginning, and why at their end.
    half = MESSAGE_CHARACTERS // 2
    return text if len(text) <= MESSAGE_CHARACTERS else f"{text[:half]} … (shortened) … {text[-half:]}"
