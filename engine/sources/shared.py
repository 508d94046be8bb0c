"""What several ask for at once is done once."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc

from tidelog.engine.sources.errors import FetchError

T = TypeVar("T")


class _Call:
    def __init__(self) -> None:
        self.waiters = 0
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.result: Any = None
        self.error: Exception | None = FetchError("Failed", "Tidelog stops")


class Shared(Generic[T]):
    """Work by its key. It goes on as long as anyone waits for it, in a task group that is not the waiters'."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._calls: dict[Hashable, _Call] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, or of the same that is under way."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call()
            self._tasks.start_soon(self._work, key, call, work)
        call.waiters += 1
        try:
            await call.done.wait()
        finally:
            call.waiters -= 1
            if call.waiters == 0 and not call.done.is_set():
                self._forget(key, call)
                call.scope.cancel()
        if call.error is not None:
            raise call.error.with_traceback(None)
        result: T = call.result
        return result

    async def _work(self, key: Hashable, call: _Call, work: Callable[[], Awaitable[T]]) -> None:
        try:
            with call.scope:
                call.result = await work()
                call.error = None
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            call.error = error
        finally:
            self._forget(key, call)
            call.done.set()

    def _forget(self, key: Hashable, call: _Call) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
