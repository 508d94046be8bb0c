"""A worker process: it reads what strangers wrote, which takes CPU and memory that they choose.

The engine may end it at any moment. It is given paths, writes files, and answers with what it found.
"""

import resource
import sys
from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.jobs import Answer, Failed, Job
from tidelog.engine.sources.helm.metadata import sanitized
from tidelog.engine.sources.helm.work import do
from tidelog.engine.worker import die_with_parent, messages, write

MESSAGE_MAX: Final = 1000
"""Signs of a message: names in it are the strangers'."""

_decode = msgspec.msgpack.Decoder(Job).decode


def main() -> None:
    """Answers until stdin ends."""
    die_with_parent()
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for message in messages():
        write(msgspec.msgpack.encode(_answer(_decode(message), memory)))


def _answer(job: Job, memory: int) -> Answer:
    try:
        return do(job)
    except FetchError as error:
        return Failed(error.reason, sanitized(error.message)[:MESSAGE_MAX], error.final)
    except MemoryError:
        return Failed(job.reason, f"{job.where} takes more than {memory >> 20} MiB of memory to read", final=True)
    except RecursionError:
        return Failed(job.reason, f"{job.where} is too deep", final=True)
    except OSError as error:
        return Failed(job.reason, f"{job.where} cannot be read or written here: {error.strerror}", final=False)


if __name__ == "__main__":
    main()
