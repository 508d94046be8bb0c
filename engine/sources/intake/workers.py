"""Runs jobs in processes of their own: starts the program that forks them, watches over them, kills them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.intake.jobs import (
    ANSWER_BYTES_MAX,
    TRANSFERRED,
    Answer,
    Brought,
    Failed,
    Job,
    Transfer,
    Unpack,
    Unpacked,
)

MEMORY_BYTES: Final = 2**30
"""What a transfer may have of its own; Git repositories of 50,000 files take a tenth."""
WATCH_INTERVAL_S: Final = 0.5
BUILD_TIMEOUT_S: Final = 300.0
"""For checks and the tar.gz, after the transfer."""
AT_ONCE: Final = 4
START_TRIES: Final = 2

_decoder: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Workers:
    """Processes for jobs; `stop` leaves none behind."""

    def __init__(self, memory_bytes: int, at_once: int) -> None:
        self._memory_bytes = memory_bytes
        self._limiter = anyio.CapacityLimiter(at_once)
        self._starting = anyio.Lock()
        self._program: anyio.abc.Process | None = None
        self._control: socket.socket | None = None

    async def bring(self, job: Transfer) -> Brought:
        """Fetches from Git; see `unpack`."""
        answer = await self._answer(job)
        if not isinstance(answer, Brought):
            raise TypeError(f"no answer to a transfer: {answer}")
        return answer

    async def unpack(self, job: Unpack) -> Unpacked:
        """Takes in what was downloaded.

        Cancelling kills the process.

        Raises:
            FetchError: what the job raised, or that the process was killed, or took longer than it may.
            DamageError: when the store lacked something that it should have.
        """
        return await self._answer(job)

    async def _answer(self, job: Job) -> Unpacked:
        async with self._limiter:
            answer = await self._run(job)
        if isinstance(answer, Unpacked):
            return answer
        if answer.is_damage:
            raise DamageError(answer.reason, answer.message)
        raise FetchError(answer.reason, answer.message, final=answer.final)

    async def stop(self) -> None:
        """Ends the program, and with it all processes that it forked."""
        control, program = self._control, self._program
        self._control = self._program = None
        if control is not None:
            control.close()
        if program is not None:
            with anyio.CancelScope(shield=True):
                if program.returncode is None:
                    program.kill()
                await program.aclose()

    async def _run(self, job: Job) -> Answer:
        ours, theirs = socket.socketpair()
        try:
            await self._hand_over(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)  # noqa: FBT003  # the socket's own form
        stream = await anyio.abc.UNIXSocketStream.from_socket(ours)
        async with stream:
            process = _Process(stream)
            try:
                return await self._talk(process, job)
            finally:
                process.kill()

    async def _hand_over(self, theirs: socket.socket) -> None:
        for _ in range(START_TRIES):
            control = await self._started()
            try:
                socket.send_fds(control, [b"."], [theirs.fileno()])
                return
            except OSError:
                await self.stop()  # it died; another one is started
        raise FetchError("GitOperationFailed", "the program for transfers cannot be started: see its host's memory")

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._control is None or self._program is None or self._program.returncode is not None:
                await self.stop()
                ours, theirs = socket.socketpair()
                with theirs:
                    self._program = await anyio.open_process(
                        [sys.executable, "-I", "-m", "tidelog.engine.sources.intake.worker", str(self._memory_bytes)],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        env={"LANG": "C.UTF-8", **_authorities()},
                        start_new_session=True,
                    )
                ours.setblocking(False)  # noqa: FBT003  # the socket's own form
                self._control = ours
            return self._control

    async def _talk(self, process: "_Process", job: Job) -> Answer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.watch, self._memory_bytes)
            answer = await self._conversation(process, job)
            tasks.cancel_scope.cancel()
        return answer

    async def _conversation(self, process: "_Process", job: Job) -> Answer:
        with anyio.move_on_after(job.timeout_s) as in_time:
            await process.begin(job)
            said = await process.read_until(lambda said: said.startswith((TRANSFERRED, b"{")))
        if in_time.cancelled_caught:
            if not process.has_begun:
                await self.stop()  # the program hangs; another one is started for the next job
            return _failed(
                job,
                f"{job.what} took longer than {job.timeout_s:g} s to send: raise spec.timeout, or look at the remote",
            )
        with anyio.move_on_after(BUILD_TIMEOUT_S) as in_time:
            said += await process.read_until(lambda _: False)
        if in_time.cancelled_caught:
            return _failed(
                job, f"checking and packing took longer than {BUILD_TIMEOUT_S:g} s: leave files out with .sourceignore"
            )
        try:
            return _decoder.decode(said.removeprefix(TRANSFERRED))
        except msgspec.DecodeError:
            return _failed(
                job,
                f"the transfer's process was killed: it may take {self._memory_bytes // 2**20} MiB of memory; "
                "leave large files out of the repository",
            )


def _failed(job: Job, message: str) -> Failed:
    return Failed(reason=job.reason, message=message)


class DamageError(FetchError):
    """Raised when the store lacks something that was to be built upon."""


class _Process:
    """A process that does one job, at the other end of a socket."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._pid = 0
        self._rest = b""
        self.has_begun = False

    async def begin(self, job: Job) -> None:
        line = await self.read_until(lambda said: b"\n" in said)
        first, _, rest = line.partition(b"\n")
        if not first.isdigit():
            return
        self._rest = rest
        self._pid = int(first)
        self.has_begun = True
        await self._stream.send(msgspec.json.encode(job))
        await self._stream.send_eof()

    async def read_until(self, is_enough: Callable[[bytes], bool]) -> bytes:
        """What is said until that is enough, or the process ends, or it says too much."""
        said, self._rest = self._rest, b""
        while not (said and is_enough(said)) and len(said) <= ANSWER_BYTES_MAX:
            try:
                said += await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self._pid = 0  # it has ended, or let go of us: there is nothing to kill
                break
        return said

    async def watch(self, memory_bytes: int) -> None:
        """Kills the process when it has more memory of its own than it may: mapped files do not count."""
        while True:
            if self._pid and await anyio.to_thread.run_sync(_own_memory, self._pid) > memory_bytes:
                self.kill()
                return
            await anyio.sleep(WATCH_INTERVAL_S)

    def kill(self) -> None:
        """Kills the process, unless it said that it ends."""
        if self._pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
            self._pid = 0


def _own_memory(pid: int) -> int:
    """The anonymous memory of a process, in bytes; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return int(line.split()[1]) * 1024


def _authorities() -> dict[str, str]:
    """Where OpenSSL finds the system's authorities: who transfers trusts whom who asks does (contract CM-077)."""
    return {name: value for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if (value := os.environ.get(name))}
