"""The process that renders charts: `python -I -m tidelog.engine.helm.worker SETTINGS`, asked on stdin.

A process of its own, because a template is a program of a stranger's: it takes what CPU and memory it likes, and Go
cannot be interrupted. The kernel keeps it to charts and to what Python is made of, before any of Go's threads starts.
"""

import gc
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from tidelog.engine.helm.jobs import OVER_MEMORY, Question, Settings
from tidelog.engine.render.landlock import Fence, Reach
from tidelog.engine.worker import die_with_parent, messages, sleep_loosely, write
from tidelog.events.typed import decoder

_LOOK_S: Final = 0.02
"""Between looks at the memory: Go takes some gigabytes a second."""
_SLACK_S: Final = 0.005
"""Go has a thread that looks after the others each 20 µs while they work: a tenth of what rendering takes."""
_GARBAGE: Final = 20_000
"""Objects that Python makes between looks for those that hold one another: what a render leaves seldom does."""
_OURS: Final = Path(__file__).resolve().parents[1]
_SYSTEM: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/usr/local/lib",
    "/dev/urandom",
    os.devnull,
)
_RESOLVER: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")
"""How names are looked up on this machine."""
_DNS_PORT: Final = 53


class _Watch:
    """Ends this process when it grows beyond its limit, while it is at work."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._at_work = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def __enter__(self) -> None:
        self._at_work.set()

    def __exit__(self, *_: object) -> None:
        self._at_work.clear()

    def _look(self) -> None:
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        page = resource.getpagesize()
        while True:
            self._at_work.wait()
            if int(os.pread(statm, 128, 0).split()[1]) * page > self._memory_bytes:
                os._exit(OVER_MEMORY)
            time.sleep(_LOOK_S)


_decode = msgspec.msgpack.Decoder(Question).decode


def main() -> None:
    """Answers until stdin ends."""
    die_with_parent()
    settings = decoder(Settings)(sys.argv[1])
    watch = _Watch(settings.memory_bytes)
    _confine(settings)
    sleep_loosely(_SLACK_S)
    # Only now: the threads that Go starts are behind the fence as well.
    from tidelog.engine.helm.rendering import Rendering  # noqa: PLC0415

    rendering = Rendering(settings)
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    for message in messages():
        question = _decode(message)
        with watch:
            answer = msgspec.msgpack.encode(rendering.answer(question))
        write(answer)


def _confine(settings: Settings) -> None:
    # Some is reserved and not used, so the watch is what counts; this is for what grows between its looks.
    memory = settings.memory_bytes * 2
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    python = {sys.prefix, sys.base_prefix, *(path for path in sys.path if path), str(_OURS)}
    ports = (settings.lookup_port,) if settings.lookup_port else ()
    resolver = _RESOLVER if settings.dns else ()
    # An answer that is too long for UDP, which is not fenced, comes by TCP.
    ports = (*ports, _DNS_PORT) if settings.dns else ports
    fence = Fence(Reach(read=(*settings.roots, *sorted(python), *_SYSTEM, *resolver), ports=ports))
    fence.close_around_me()
    fence.close()


if __name__ == "__main__":
    main()
