"""Group commit: the appends that wait while one commit runs share the next one.

Nothing waits for a producer: a commit takes what is there. What may wait is bounded in bytes, so that a disk
that is slower than the producers slows them down instead of filling the memory.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, TypeAlias

import anyio
import anyio.to_thread

from tidelog.storage.errors import StoreClosedError, StoreError
from tidelog.storage.log import Recorded
from tidelog.storage.log.prepare import PreparedAppend

COMMIT_EVENTS_MAX = 4_096
"""Events of one commit. More would keep the first of them waiting for the last."""
COMMIT_BYTES_MAX = 64 * 2**20
QUEUE_BYTES_MAX = 128 * 2**20
"""Bytes of all appends that wait."""

Outcome: TypeAlias = tuple[Recorded, ...] | StoreError
Commit: TypeAlias = Callable[[Sequence[PreparedAppend]], list[Outcome]]


class Waiting(NamedTuple):
    """An append in the queue."""

    append: PreparedAppend
    future: "asyncio.Future[tuple[Recorded, ...]]"
    held: int
    """Bytes of the budget, which it gives back when it has left the queue, whether or not it is still waited for."""


class Budget:
    """Bytes that may be held at once. Who asks first is served first; who asks for more than all gets all."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    async def acquire(self, size: int) -> int:
        """Waits for `size` bytes; returns what is to be released."""
        size = min(size, self._size)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        entry = size, anyio.Event()
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except BaseException:
            if entry[1].is_set():
                self.release(size)
            else:
                self._waiting.remove(entry)
                self._serve()
            raise
        return size

    def release(self, size: int) -> None:
        """Gives bytes back."""
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, ready = self._waiting.popleft()
            self._free -= size
            ready.set()


class _Answers:
    """What the commit thread has done, on its way to the loop.

    By a pipe of its own, because a lone append waits for it: `call_soon_threadsafe` reads its socket twice, and ends by
    an exception.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[["_Answer"], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._done: deque[_Answer] = deque()
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._reads, False)
        os.set_blocking(self._writes, False)
        loop.add_reader(self._reads, self._wake)

    def put(self, answer: "_Answer") -> None:
        """Hands one over; for the commit thread."""
        self._done.append(answer)
        with suppress(BlockingIOError):  # a pipe that is full wakes the loop as well
            os.write(self._writes, b"\0")

    def close(self) -> None:
        """Tells what is left, when no more will come."""
        self._loop.remove_reader(self._reads)
        self._tell_all()
        os.close(self._reads)
        os.close(self._writes)

    def _wake(self) -> None:
        os.read(self._reads, 4_096)
        self._tell_all()

    def _tell_all(self) -> None:
        while self._done:
            self._tell(self._done.popleft())


class _Answer(NamedTuple):
    """The outcomes of one commit, in the order of its appends."""

    batch: list[Waiting]
    outcomes: list[Outcome]
    held: int
    """Bytes of the budget that are free again."""


class GroupCommit:
    """Runs `commit` in a thread of its own, for all appends that wait; `published` is called after each, on the loop.

    One thread for the life of the log, and not one hop a commit: a hop costs as much as a third of an fsync.
    """

    def __init__(self, commit: Commit, published: Callable[[], None], closed: StoreClosedError) -> None:
        self._commit = commit
        self._published = published
        self._closed = closed
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._budget = Budget(QUEUE_BYTES_MAX)
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._answers = _Answers(self._loop, self._tell)
        self._is_closed = False
        self._thread = Thread(target=self._work, name="tidelog-commit", daemon=True)
        self._thread.start()

    async def submit(self, append: PreparedAppend) -> tuple[Recorded, ...]:
        """Queues an append and waits for its outcome."""
        held = await self._budget.acquire(append.size)
        if self._closing:
            self._budget.release(held)
            raise self._closed
        waiting = Waiting(append, self._loop.create_future(), held)
        self._queue.put(waiting)
        return await waiting.future

    async def close(self) -> None:
        """Takes no more appends; returns when those that wait are done. Repeated calls do nothing."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join)
        if not self._is_closed:
            self._is_closed = True
            self._answers.close()

    def _work(self) -> None:
        waiting: deque[Waiting] = deque()
        is_open = True
        while is_open or waiting:
            if is_open:
                is_open = self._collect(waiting)
            self._commit_some(waiting)

    def _collect(self, waiting: deque[Waiting]) -> bool:
        """Moves what was queued to `waiting`, and waits for something if there is nothing; False once closed."""
        while not (waiting and self._queue.empty()):
            entry = self._queue.get()
            if entry is None:
                return False
            waiting.append(entry)
        return True

    def _commit_some(self, waiting: deque[Waiting]) -> None:
        """Commits the first of what waits, as much as one commit takes, less what nobody waits for any more."""
        taken = _take(waiting)
        batch = [entry for entry in taken if not entry.future.done()]
        outcomes = self._commit([entry.append for entry in batch]) if batch else []
        self._answers.put(_Answer(batch, outcomes, sum(entry.held for entry in taken)))

    def _tell(self, answer: _Answer) -> None:
        self._budget.release(answer.held)
        self._published()
        for entry, outcome in zip(answer.batch, answer.outcomes, strict=True):
            if entry.future.done():
                continue
            if isinstance(outcome, StoreError):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)


def _take(waiting: deque[Waiting]) -> list[Waiting]:
    """Takes from the queue what fits one commit."""
    taken: list[Waiting] = []
    events = size = 0
    while waiting and (not taken or (events < COMMIT_EVENTS_MAX and size < COMMIT_BYTES_MAX)):
        entry = waiting.popleft()
        taken.append(entry)
        events += entry.append.count
        size += entry.append.size
    return taken
