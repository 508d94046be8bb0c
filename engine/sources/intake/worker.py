"""The program that forks a process for each job: `python -I -m tidelog.engine.sources.intake.worker MEMORY_BYTES`.

It has loaded what a job needs and knows nothing else: each job comes over a socket of its own, which only the
process forked for it reads. A hostile remote that gets hold of that process finds one job's credentials in it.

The standard input is a socket; each byte on it comes with the descriptor of a job's socket. Its end is ours.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.bring import bring
from tidelog.engine.sources.intake.jobs import TRANSFERRED, Answer, Failed, Job, Transfer, Unpack
from tidelog.engine.sources.intake.unpack import unpack
from tidelog.storage.artifacts import ArtifactError, ObjectMissingError

FILES_OPEN_MAX: Final = 512
JOB_BYTES_MAX: Final = 2**22
PR_SET_PDEATHSIG: Final = 1
_KINDS: Final = {Transfer: "the repository", Unpack: "the artifact"}

_decoder: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)


def main() -> None:
    """Serves jobs until the standard input ends."""
    memory = int(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    control = socket.socket(fileno=0)
    own = os.getpid()
    while True:
        said, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not said:
            return
        if os.fork() == 0:
            _one_job(descriptors[0], memory, own)
        os.close(descriptors[0])


def _one_job(descriptor: int, memory: int, parent: int) -> None:
    """Does one job in a process of its own, and never returns."""
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        with socket.socket(fileno=descriptor) as asked:
            asked.sendall(f"{os.getpid()}\n".encode())
            job = _decoder.decode(_read(asked))
            _limit(memory, job)
            asked.sendall(msgspec.json.encode(_answer(job, asked)))
        os._exit(0)
    finally:
        os._exit(1)


def _read(asked: socket.socket) -> bytes:
    parts = []
    while part := asked.recv(2**16):
        parts.append(part)
        if sum(map(len, parts)) > JOB_BYTES_MAX:
            raise ValueError("too large a job")
    return b"".join(parts)


def _limit(memory: int, job: Job) -> None:
    os.environ.clear()
    home = job.place.home
    os.environ.update(HOME=home, TMPDIR=home, LANG="C.UTF-8")
    os.chdir(home)
    size = 2 * max(job.limits.transfer_bytes, job.limits.artifact_bytes)
    for what, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, FILES_OPEN_MAX),
    ):
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    Path(home).chmod(0o700)


def _answer(job: Job, asked: socket.socket) -> Answer:
    try:
        if isinstance(job, Transfer):
            return bring(job, lambda: asked.sendall(TRANSFERRED))
        asked.sendall(TRANSFERRED)
        return unpack(job)
    except FetchError as error:
        return Failed(reason=error.reason, message=error.message, final=error.final)
    except ObjectMissingError as error:
        return Failed(reason=job.reason, message=f"what came is not whole: {error}", is_damage=True)
    except ArtifactError as error:
        return Failed(reason=job.reason, message=f"{_KINDS[type(job)]} is refused: {error}", final=True)
    except MemoryError:
        return Failed(reason=job.reason, message=f"{_KINDS[type(job)]} needs more memory than it may take")
    except OSError as error:
        return Failed(reason="ArchiveOperationFailed", message=f"the store cannot be written: {error.strerror}")
    except Exception as error:  # noqa: BLE001  # the process ends here; its caller has to hear of it
        return Failed(reason=job.reason, message=f"{job.what} cannot be taken in: {type(error).__name__}")


if __name__ == "__main__":
    main()
