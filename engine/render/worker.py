"""A worker process: it is given jobs on stdin, and answers on stdout.

A process of its own, because reading what strangers wrote takes CPU and memory that they choose: the engine may end it
at any moment, and what it runs with it (they are one process group). One thread, so that it may fork.
"""

import gc
import os
import resource
import select
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from tidelog.engine.render.errors import RenderError, SubstitutionError
from tidelog.engine.render.jobs import Answer, Failed, Finish, Job, Made, Ran, Run
from tidelog.engine.render.landlock import Fence
from tidelog.engine.render.postbuild import finish
from tidelog.engine.worker import die_with_parent, messages, write

_LOOK_S: Final = 0.05
"""Between looks at the memory of what runs."""

_decode = msgspec.msgpack.Decoder(Job).decode


def main() -> None:
    """Answers until stdin ends."""
    die_with_parent()
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    for message in messages():
        write(msgspec.msgpack.encode(_answer(_decode(message))))


def _answer(job: Job) -> Answer:
    try:
        match job:
            case Run():
                return _run(job)
            case Finish():
                return _finish(job)
    except SubstitutionError as error:
        return Failed(error.message, error.final, error.variable)
    except RenderError as error:
        return Failed(error.message, error.final)
    except MemoryError:
        return Failed("reading what was built takes more memory than a render may have", final=False)
    except RecursionError:
        return Failed("what was built is too deep", final=True)
    except OSError as error:
        return Failed(f"the build cannot be run here: {error.strerror}", final=False)


def _finish(job: Finish) -> Made:
    gc.disable()  # the objects hold no cycles, and there may be a million of them
    try:
        return Made(finish(job.text, job.settings))
    finally:
        gc.enable()


def _run(job: Run) -> Ran:
    output, errors = Path(job.home, ".output"), Path(job.home, ".errors")
    fence = Fence(job.reach)
    try:
        with output.open("xb") as out, errors.open("xb") as err:
            process = subprocess.Popen(
                job.command,
                cwd=job.directory,
                env={
                    "HOME": job.home,
                    "TMPDIR": job.home,
                    "PATH": job.search,
                    "LANG": "C.UTF-8",
                    # Of git: no settings of the machine, which may hold passwords; no `file://` and no program as a
                    # transport; no questions.
                    "GIT_CONFIG_NOSYSTEM": "1",
                    "GIT_ALLOW_PROTOCOL": "https:http:git:ssh",
                    "GIT_TERMINAL_PROMPT": "0",
                    # Collecting garbage is a fifth of a small build; a large one does it before it meets the limit.
                    "GOGC": "400",
                    "GOMEMLIMIT": str(job.memory_bytes // 2),
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=lambda: _confine(fence, job),  # noqa: PLW1509 - this process has one thread
            )
        limit = _watch(process, job)
    finally:
        fence.close()
    if output.stat().st_size >= job.output_bytes:
        limit = f"it writes more than {job.output_bytes} bytes"
    return Ran(process.returncode, output.read_bytes(), errors.read_bytes()[:65_536], limit)


def _confine(fence: Fence, job: Run) -> None:
    """Between fork and exec."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (job.memory_bytes, job.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (job.output_bytes, job.output_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fence.close_around_me()


def _watch(process: "subprocess.Popen[bytes]", job: Run) -> str:
    """Waits for the end; ends what grows too large (RLIMIT_DATA does not count all memory)."""
    limit = ""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        while not poll.poll(_LOOK_S * 1_000):
            if _resident_bytes(process.pid) > job.memory_bytes:
                limit = f"it takes more than {job.memory_bytes} bytes of memory"
                process.kill()
    finally:
        os.close(ended)
    process.wait()
    return limit


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
