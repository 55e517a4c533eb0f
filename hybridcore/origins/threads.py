"""Threads that carry functions across: sync ones for asyncio, async ones for who blocks."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Condition, Lock, Thread, local
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

Outcome = tuple[T | None, BaseException | None]
"""What a function returned, or what it raised."""

MOST_WORKERS = 64
"""Sync functions that run for asyncio at a time; those that wait for another load not counted."""

LINGER = 0.5
"""Seconds that a worker waits for something to do before it ends."""


# -- sync functions for asyncio ---------------------------------------------------------------


class Workers:
    """Threads that end when there was nothing to do for a while.

    They are not asyncio's own, which may all be busy with blocking callers who wait for the very
    function that would be queued behind them. For the same reason a worker that waits for another
    load makes room for one more.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._todo: deque[Callable[[], None]] = deque()
        self._idle = 0
        self._free = MOST_WORKERS

    def submit(self, function: Callable[..., T], *args: Any) -> Future[Outcome[T]]:
        """Run a function in the context of the caller, unless the future is cancelled before.

        What it raises comes as it is: asyncio's futures cannot carry a StopIteration, and turn the
        CancelledError of another pool into their own.
        """
        future: Future[Outcome[T]] = Future()
        context = copy_context()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result((context.run(function, *args), None))
            except BaseException as error:
                future.set_result((None, error))

        self._do(work)
        return future

    def _do(self, work: Callable[[], None]) -> None:
        with self._changed:
            self._todo.append(work)
            self._changed.notify()
            try:
                self._start_one()
            except RuntimeError:  # no more threads
                self._todo.remove(work)
                raise

    def _start_one(self) -> None:
        if len(self._todo) > self._idle and self._free > 0:
            Thread(target=self._run, name="hybridcore-sync-origins", daemon=True).start()
            self._free -= 1

    def _run(self) -> None:
        _here.workers = self
        while True:
            with self._changed:
                if self._free < 0:  # room was made for a worker, and is over
                    self._free += 1
                    return
                self._idle += 1
                found = self._changed.wait_for(lambda: bool(self._todo), LINGER)
                self._idle -= 1
                if not found:
                    self._free += 1
                    return
                work = self._todo.popleft()
            work()
            del work  # or what it holds would stay as long as the worker is idle

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._changed:
            self._free += 1
            with suppress(RuntimeError):
                self._start_one()
        try:
            yield
        finally:
            with self._changed:
                self._free -= 1


class _Here(local):
    workers: Workers | None = None


_here = _Here()
_workers: dict[int, Workers] = {}  # by process: threads do not survive a fork


@contextmanager
def making_room() -> Iterator[None]:
    """While this thread waits for what may need a worker, and is one itself."""
    if _here.workers is None:
        yield
    else:
        with _here.workers.one_more():
            yield


async def run_in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a sync function in a worker thread, in the context of the caller."""
    import asyncio

    return unwrap(await asyncio.wrap_future(in_background(function, *args)))


def in_background(function: Callable[..., T], *args: Any) -> Future[Outcome[T]]:
    """Run a function in a worker thread, in a context like the caller's."""
    workers = _workers.get(os.getpid()) or _workers.setdefault(os.getpid(), Workers())
    return workers.submit(function, *args)


def unwrap(outcome: Outcome[T]) -> T:
    """Return what a function returned, or raise what it raised."""
    result, error = outcome
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # a T, as there was no error


# -- async functions for who blocks -----------------------------------------------------------


class _Background:
    """One event loop in one daemon thread, started when first needed, anew after a fork."""

    def __init__(self) -> None:
        self._locks: dict[int, Lock] = {}  # by process: a fork may copy a held lock
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}

    def loop(self) -> asyncio.AbstractEventLoop:
        import asyncio

        process = os.getpid()
        with self._locks.setdefault(process, Lock()):
            loop = self._loops.get(process)
            if loop is None:
                loop = asyncio.new_event_loop()
                try:
                    Thread(
                        target=loop.run_forever, name="hybridcore-async-origins", daemon=True
                    ).start()
                except RuntimeError:  # no more threads
                    loop.close()
                    raise
                self._loops[process] = loop
            return loop

    def runs_here(self) -> bool:
        """Whether this thread is the one of the loop."""
        running = running_loop()
        return running is not None and running is self._loops.get(os.getpid())


_background = _Background()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def on_background_loop() -> bool:
    """Whether this thread runs the async origins of sync callers; it must not wait for them."""
    return _background.runs_here()


def start_background_loop() -> None:
    """Have the loop run before it is needed: 3.12 starts no thread once the interpreter exits."""
    with suppress(RuntimeError):
        _background.loop()


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for it.

    Raises:
        RuntimeError: called on the background loop itself, where waiting would never end.
    """
    import asyncio

    if on_background_loop():
        work.close()
        raise RuntimeError(
            "an async origin called back into the sync face of the cache; use the .aio face there"
        )
    try:
        loop = _background.loop()
    except RuntimeError:
        work.close()
        raise
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        with making_room():
            return future.result()
    except BaseException:
        future.cancel()  # nobody waits any more, as after a KeyboardInterrupt
        raise
