"""Tasks that begin at once: whoever waits for what ends in its first step does not wait at all."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from contextvars import Context

T = TypeVar("T")

MOST_UNTOLD = 16
"""Tasks that have ended in their first step, and of which the loop does not know yet."""

_untold = 0


async def run_apart(work: Coroutine[Any, Any, T], keep: Callable[[asyncio.Task[Any]], object]) -> T:
    """Await a coroutine in a task of its own, which goes on if we are cancelled.

    Its first step is taken here if that can be, with the task's own context and identity. Only if
    it goes on is the task handed to ``keep`` and waited for.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task: asyncio.Task[Any]
    if loop.get_task_factory() is not None or sys.version_info < (3, 11):
        task = loop.create_task(work)
    elif sys.version_info >= (3, 12):
        task = asyncio.Task(work, loop=loop, eager_start=True)
        if task.done():
            return task.result()
    else:
        begun = _Begun(work)
        context = copy_context()
        task = asyncio.Task(begun, loop=loop, context=context)
        begun.begin(task, context, asyncio.current_task(loop))
        if begun.ended:
            if _untold >= MOST_UNTOLD:
                await asyncio.sleep(0)
            return begun.result()
    keep(task)
    return await asyncio.shield(task)


class _Begun(Coroutine[Any, Any, T]):
    """A coroutine that takes its first step before its task does, as if the task did.

    If it ends in it, the task is told nothing but that it ended.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.ended = False
        self._work = work
        self._awaited: Any = None  # in the first step, and told when the task takes its own
        self._is_told = False
        self._value: Any = None
        self._error: BaseException | None = None

    def begin(
        self, task: asyncio.Task[Any], context: Context, mine: asyncio.Task[Any] | None
    ) -> None:
        """Take the first step."""
        global _untold
        from asyncio.tasks import _enter_task, _leave_task

        loop = task.get_loop()
        if mine is not None:
            _leave_task(loop, mine)
        _enter_task(loop, task)
        try:
            self._awaited = context.run(self._work.send, None)
        except StopIteration as done:
            self.ended, self._value = True, done.value
        except BaseException as error:
            self.ended, self._error = True, error
        finally:
            _leave_task(loop, task)
            if mine is not None:
                _enter_task(loop, mine)
        _untold += self.ended

    def result(self) -> T:
        """What it returned in its first step, or what it raised there."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._value  # type: ignore[no-any-return]

    def send(self, value: Any) -> Any:
        if self._is_told:
            return self._work.send(value)
        self._tell()
        return self._awaited

    def throw(self, *error: Any) -> Any:
        if not self._is_told:
            self._tell()
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()

    def _tell(self) -> None:
        global _untold
        self._is_told = True
        if self.ended:
            _untold -= 1
            raise StopIteration
