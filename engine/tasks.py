"""Task groups whose error is the error of a task, as who called without knowing of tasks expects it."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType

import anyio
from anyio.abc import TaskGroup


@contextmanager
def one_error() -> Iterator[None]:
    """Around a task group: of the errors of its tasks, the first is raised, and not a group of them."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def tasks_in(held: AsyncExitStack) -> TaskGroup:
    """A task group that is cancelled when what is held is left."""
    tasks = await held.enter_async_context(anyio.create_task_group())
    held.callback(tasks.cancel_scope.cancel)
    return tasks


async def leave(
    held: AsyncExitStack,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> bool | None:
    """Leaves what was entered; what ends the block is handed on, and not raised anew.

    A task group raises what it was left with. An exit stack that takes this for another error links errors in a circle,
    and looks for its end for ever (contextlib, `_fix_exception_context`).
    """
    try:
        return await held.__aexit__(kind, error, traceback)
    except BaseException as raised:
        if raised is error:
            return None
        raise
