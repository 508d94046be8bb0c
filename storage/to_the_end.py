"""Work in a thread that is waited for to its end, whoever cancels the task.

anyio's own cancellation waits for a worker thread; asyncio's (`Task.cancel`) does not, and what the thread opened
would then belong to nobody.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import anyio
import msgspec

T = TypeVar("T")


class Ended(msgspec.Struct, Generic[T], frozen=True):
    """What the work gave, and the cancellation that came meanwhile: to be raised once the result is dealt with."""

    result: T
    cancelled: asyncio.CancelledError | None

    def raise_cancelled(self) -> None:
        """Goes on with the cancellation, if one came."""
        if self.cancelled is not None:
            raise self.cancelled


async def run_to_the_end(work: Callable[[], T]) -> Ended[T]:
    """Runs `work` in a thread; returns, or raises what it raises, only when it has ended."""
    executor = ThreadPoolExecutor(1, "tidelog-store")
    # No task: the end of the loop cancels every task, and this must outlive that.
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    executor.shutdown(wait=False)  # the thread ends with the work
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    return Ended(future.result(), cancelled)
