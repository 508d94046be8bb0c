"""What do many objects cost the embedded cluster, and does it stay linear?

A process of its own for each size (10,000, 30,000 and 100,000 objects) has a cluster, without a socket, of namespaces
with ConfigMaps, ServiceAccounts, Deployments and what the controllers make of them, each written twice. Memory is
anonymous memory (`Anonymous` of `/proc/<pid>/smaps_rollup`) beyond that of the same process with one of the namespaces;
what the objects take as JSON is taken off. What the store remembers of changes, and what the controllers know, is in
it. The goal is for the largest.

Time is CPU of the process, for each ConfigMap (two of three objects): of a list in pages of 500, decoded; of a watch
that begins with all of them; and of changes, one by one, each written, seen by the controllers and told by a watch that
was there before. Rounds go from process to process. The floor is the same at 10,000: it is linear when an object takes
at most one and a half times that at 100,000.

A fork is measured in the largest: what Python allocates for it (`tracemalloc`), as a part of the memory that the
objects take, alone, and when one of a hundred ConfigMaps, far from each other, was changed in it.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

import msgspec

from bench.crowd import Forked, Full
from bench.figures import Figure, Goal, figure
from bench.machine import ROOT
from bench.session import Session

NAME = "embedded-memory"
SIZES = (10_000, 30_000, 100_000)
SIZES_QUICK = (500, 1_000, 2_000)
ROUNDS = 5
GOAL_MEMORY = Goal("measured", "at most", 4.0)
GOAL_LINEAR = Goal("ratio", "at most", 1.5)
GOAL_FORK = Goal("measured", "at most", 5.0)
TIMED = {
    "list": "a list in pages",
    "begin": "a watch that begins with all",
    "change": "a change, written and told by a watch",
}
T = TypeVar("T")


class _Crowd:
    """A process of `bench.crowd`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.full = self._answer(Full)

    def ask(self, word: str, type: type[T]) -> T:
        """Has it measure something."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._answer(type)

    def _answer(self, type: type[T]) -> T:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process with the cluster has ended"
        return msgspec.json.decode(line, type=type)


def measure(session: Session) -> list[Figure]:
    """Memory and CPU an object, and of forks."""
    sizes = SIZES_QUICK if session.quick else SIZES
    rounds = session.rounds(ROUNDS)
    times: dict[str, list[list[float]]] = {word: [] for word in TIMED}
    forks: list[Forked] = []
    with ExitStack() as stack, session.progress(NAME, len(sizes) + rounds) as advance:
        crowds: list[_Crowd] = []
        for number, size in enumerate(sizes):
            crowds.append(_Crowd(stack.enter_context(_process(size))))
            advance(number + 1)
        for number in range(rounds):
            for word, seen in times.items():
                seen.append([crowd.ask(word, float) for crowd in crowds])
            forks.append(crowds[-1].ask("fork", Forked))
            advance(len(sizes) + number + 1)
        full = [crowd.full for crowd in crowds]
    return [*_memory(full), *_linear(full, times), *_forks(full[-1], forks)]


def _process(size: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.crowd", str(size)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _memory(full: Sequence[Full]) -> Iterator[Figure]:
    for one in full:
        yield figure(
            NAME,
            f"memory beyond the JSON, {one.objects:,} objects",
            "KiB/object",
            [(one.mib - one.json_mib) * 1024 / one.objects],
            goal=GOAL_MEMORY if one is full[-1] else None,
            note=f"the JSON of {one.objects:,} objects is {one.json_mib:.0f} MiB, and they take {one.mib:.0f} MiB",
        )


def _linear(full: Sequence[Full], times: dict[str, list[list[float]]]) -> Iterator[Figure]:
    for word, seen in times.items():
        for number, one in enumerate(full[1:], 1):
            yield figure(
                NAME,
                f"{TIMED[word]}, {one.objects:,} objects",
                "µs/object",
                [sizes[number] for sizes in seen],
                floor_name=f"{full[0].objects:,} objects",
                floor=[sizes[0] for sizes in seen],
                goal=GOAL_LINEAR if one is full[-1] else None,
            )


def _forks(full: Full, forks: Sequence[Forked]) -> Iterator[Figure]:
    yield figure(
        NAME,
        f"memory of a fork of {full.objects:,} objects, a hundredth of the ConfigMaps changed",
        "% of the original",
        [one.share_changed * 100 for one in forks],
        goal=GOAL_FORK,
        note=f"before the changes it is at most {max(one.share for one in forks):.2%} of the original",
    )
    yield figure(NAME, f"CPU of a fork of {full.objects:,} objects", "ms", [one.ms for one in forks])
