"""Waiting no longer than told: what is late is cancelled if it can be, and left behind."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.origins.threads import Outcome, Workers, making_room, unwrap

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

Late = Callable[[BaseException | None], object]
"""Called once with the error, or None, when something ends that was left behind."""


class TooLateError(Exception):
    """The time was over. ``begun`` tells whether something was left behind, which runs on."""

    def __init__(self, begun: bool) -> None:
        super().__init__(begun)
        self.begun = begun


def run_within(
    limit: float, late: Late, workers: Workers, function: Callable[..., T], *args: Any
) -> T:
    """Run a function in a worker for at most ``limit`` seconds.

    Raises:
        TooLateError: it took longer.
    """
    future = workers.submit(function, *args)
    try:
        with making_room():
            outcome = future.result(min(limit, TIMEOUT_MAX))
    except concurrent.futures.TimeoutError:
        raise TooLateError(_leave(future, late)) from None
    except BaseException:
        _leave(future, None)
        raise
    return unwrap(outcome)


async def arun_within(
    limit: float, late: Late, workers: Workers, function: Callable[..., T], *args: Any
) -> T:
    """Twin of `run_within`."""
    import asyncio

    future = workers.submit(function, *args)
    waited = asyncio.wrap_future(future)
    try:
        await asyncio.wait([waited], timeout=limit)
    except BaseException:
        _leave(future, None)
        waited.cancel()
        raise
    if not waited.done():
        begun = _leave(future, late)
        waited.cancel()
        raise TooLateError(begun)
    return unwrap(waited.result())


async def await_within(limit: float, late: Late, work: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine for at most ``limit`` seconds, then cancel it.

    Raises:
        TooLateError: it took longer. One that does not heed its cancellation is left behind.
    """
    import asyncio

    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=limit)
    except BaseException:
        _abandon(task, None)
        raise
    if not task.done():
        _abandon(task, late)
        raise TooLateError(begun=True)
    return task.result()


def _leave(future: concurrent.futures.Future[Outcome[Any]], late: Late | None) -> bool:
    """Let nobody wait for the future; return whether the function was begun."""
    if future.cancel():
        return False
    if late is not None:
        future.add_done_callback(lambda done: late(done.result()[1]))
    return True


_abandoned: set[asyncio.Task[Any]] = set()  # a loop alone would not keep them


def _abandon(task: asyncio.Task[Any], late: Late | None) -> None:
    import asyncio

    def ended(task: asyncio.Task[Any]) -> None:
        _abandoned.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if late is not None:
            late(error)

    _abandoned.add(task)
    task.add_done_callback(ended)
    task.cancel()
