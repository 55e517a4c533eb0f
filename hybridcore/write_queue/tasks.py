"""Workers of a durable queue as tasks of an event loop."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ClosedError
from hybridcore.logs import raised_by
from hybridcore.origins.threads import in_background, run_in_thread, unwrap
from hybridcore.write_queue.delivery import OriginTarget
from hybridcore.write_queue.drain import POLL
from hybridcore.write_queue.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridcore.write_queue.delivery import Delivery
    from hybridcore.write_queue.drain import Drain, Outcomes

AGAIN = 0.5
"""Seconds before the disk is asked again after it failed."""


class Tasks:
    """Brings the writes of a queue to its target in tasks of the event loop that runs.

    When one of them is cancelled, as all are when the loop is about to close, they go on until
    nothing is ready or ``patience`` seconds are over; the rest stays on disk.
    """

    def __init__(self, drain: Drain, workers: int, patience: float) -> None:
        self._drain = drain
        self._workers = workers
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._deadline: float | None = None

    async def run(self) -> None:
        """Work until this is cancelled or the queue is closed."""
        workers = [self._loop.create_task(self._work()) for _ in range(self._workers)]
        beat = self._loop.create_task(self._keep())
        self._drain.listeners.add(self._wake)
        cancelled = False
        try:
            while waiting := [task for task in workers if not task.done()]:
                try:
                    await asyncio.wait(waiting)
                except asyncio.CancelledError:
                    if cancelled:
                        for task in waiting:
                            task.cancel()
                    cancelled = True
                    self._stop()
        finally:
            self._drain.listeners.discard(self._wake)
            beat.cancel()
        for task in workers:
            task.result()
        if cancelled:
            raise asyncio.CancelledError

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._woken.set)

    def _stop(self) -> None:
        if self._deadline is None:
            self._deadline = monotonic() + self._patience
        self._woken.set()

    async def _work(self) -> None:
        outcomes: Outcomes = ([], [])
        while True:
            over = self._deadline is not None and monotonic() >= self._deadline
            self._woken.clear()
            pause = self._drain.pause()
            claims = 0 if over or pause > 0 else self._drain.most()
            try:
                batch, patience, _ = await self._exchange(outcomes, claims)
            except ClosedError:
                return
            except Exception as error:
                self._drain.warn("the write queue cannot go on: %s", raised_by(error))
                if over:
                    return
                await self._rest(AGAIN)
                continue
            outcomes = await self._bring_out(batch) if batch else ([], [])
            if batch:
                continue
            if self._deadline is not None or self._drain.is_closing():
                return
            await self._rest(max(0.001, min(max(patience, pause), POLL)))

    async def _exchange(self, outcomes: Outcomes, claims: int) -> Any:
        """Note outcomes and claim; what was claimed is known even if this is cancelled."""
        future = in_background(self._drain.exchange, *outcomes, claims)
        while True:
            try:
                return unwrap(await asyncio.shield(asyncio.wrap_future(future)))
            except asyncio.CancelledError:
                self._stop()

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            pass
        except asyncio.CancelledError:
            self._stop()

    async def _bring_out(self, batch: Sequence[Delivery]) -> Outcomes:
        target = self._drain.target
        try:
            if isinstance(target, OriginTarget):
                errors = await target.deliver(batch)
            elif inspect.iscoroutinefunction(target):
                errors = dict(await target(batch) or {})
            else:
                errors = dict(await run_in_thread(target, batch) or {})  # type: ignore[arg-type]
        except asyncio.CancelledError as error:  # of what came of it nobody knows
            self._stop()
            return [], [
                Verdict(one.place, one.number, one.attempt, error, 0.0, False) for one in batch
            ]
        except Exception as error:
            errors = {one.key: error for one in batch}
        return self._drain.judged(batch, errors)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._drain.beat)
            await run_in_thread(self._drain.keep_up)
