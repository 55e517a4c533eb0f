"""The write-behind queue in memory: last write per key, batches, retries, a thread that writes."""

from __future__ import annotations

import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from threading import TIMEOUT_MAX, Condition, Thread, current_thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    EncodeError,
    QueueFullError,
    ReadOnlyOriginError,
)
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.origins.threads import (
    making_room,
    on_background_loop,
    run_in_thread,
    start_background_loop,
)
from hybridcore.retry import asked_by
from hybridcore.stats import WriteQueueStats
from hybridcore.units import Duration, seconds
from hybridcore.write_queue.base import Operation
from hybridcore.write_queue.exits import close_at_exit
from hybridcore.write_queue.redelivery import MOST_ASKED

if TYPE_CHECKING:
    from hybridcore.origins import Origin

OnDrop = Callable[[Operation, Exception], object]

LINGER = 1.0
"""Seconds that the thread waits for writes before it ends."""

_HOPELESS = (ReadOnlyOriginError, EncodeError)
"""Errors that trying again does not help against."""


class _Write:
    """A write that waits, and how it fared; a newer one of its key takes its place."""

    __slots__ = ("at", "failures", "operation", "sequence")

    def __init__(self, operation: Operation, sequence: int, at: float) -> None:
        self.operation = operation
        self.sequence = sequence
        self.at = at
        self.failures = 0


class MemoryQueue:
    """Writes that wait in memory for one thread to bring them to the origin.

    **What may be lost:** whatever waits, and what is being written, when the process dies without
    exiting: by a signal, by ``os._exit``, with the machine. That is at most ``max_items`` writes,
    as a rule those of the last ``max_delay`` and as long as the origin has been failing. A write
    that failed ``retries`` times over, and what is left when the time to close is up, is dropped
    and handed to ``on_drop``.

    Writes of one key reach the origin in their order, one at a time; one that waits is replaced by
    the next. The origin gets up to ``batch_size`` of them by ``store_many`` and ``delete_many`` if
    it overrides these, and one by one otherwise. An origin may get a write twice: when a batch or
    a call fails after it had an effect.

    The thread starts with the first write, is a daemon, and ends when there is nothing to do. At
    exit of the interpreter the queues have 5 seconds in all. In a forked child a queue is empty;
    the parent keeps what waits.

    Args:
        origin: written to; async ones as well. Not closed with the queue.
        max_items: keys that may wait.
        batch_size: keys written at a time.
        max_delay: so long a write waits for others to be written with it.
        retries: tries after the first.
        base_delay, max_backoff: the pause before try *n* is drawn from 0 to ``base_delay * 2**n``,
            at most ``max_backoff``, and not less than what the origin asked for.
        block: so long a write waits for room before `QueueFullError`; 0: not at all.
        on_drop: told of what will never be written, in the thread that writes or closes.

    Raises:
        ConfigurationError: the origin takes no writes, or an option makes no sense.
    """

    def __init__(
        self,
        origin: Origin[Any, Any],
        *,
        max_items: int = 10_000,
        batch_size: int = 100,
        max_delay: Duration = 0.05,
        retries: int = 8,
        base_delay: Duration = 0.1,
        max_backoff: Duration = 30.0,
        block: Duration = 5.0,
        on_drop: OnDrop | None = None,
        logs: RateLimitedLog | None = None,
    ) -> None:
        for name, number, least in (
            ("max_items", max_items, 1),
            ("batch_size", batch_size, 1),
            ("retries", retries, 0),
        ):
            if not isinstance(number, int) or number < least:
                raise ConfigurationError(
                    f"{name} is expected to be a whole number of at least {least}, got {number!r}"
                )
        if not origin.writable:
            raise ConfigurationError(
                f"write-behind needs an origin that takes writes; {origin.name} does not. Give it "
                "a store function"
            )
        self.origin = origin
        self._max_items = max_items
        self._batch_size = batch_size
        self._max_delay = seconds(max_delay)
        self._retries = retries
        self._base_delay = seconds(base_delay)
        self._max_backoff = seconds(max_backoff)
        self._block = min(seconds(block), TIMEOUT_MAX)
        self._on_drop = on_drop
        self._logs = logs or RateLimitedLog(logging.getLogger("hybridcore"))
        self._counts: Counter[str] = Counter()
        self._closed = False
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """After a fork: what waits is the parent's to write."""
        self._changed = Condition()  # re-entrant: destructors may write
        self._waiting: dict[Any, _Write] = {}
        self._ready: deque[Any] = deque()  # keys of those that wait, and whose time has come
        self._later: list[tuple[float, int, Any]] = []  # when, and keys of the others; a heap
        self._running: dict[Any, _Write] = {}
        self._sequence = 0
        self._flushing = 0
        self._give_up_at: float | None = None
        self._worker: Thread | None = None
        self._logs.start_afresh()

    # -- what the engine calls ------------------------------------------------------------------

    def put(self, key: Any, value: Any) -> None:
        """Take a value; waits up to ``block`` for room.

        Raises:
            QueueFullError: there is no room; nothing was changed.
            ClosedError: the queue was closed.
        """
        self._take(Operation(key, value), self._block)

    def accept(self, key: Any, value: Any) -> bool:
        """Take a value if there is room for it."""
        if self._closed or not self._has_room(key):
            return False
        try:
            self._take(Operation(key, value), 0.0)
        except (ClosedError, QueueFullError):
            return False
        return True

    async def aput(self, key: Any, value: Any) -> None:
        """Twin of `put`."""
        await self._atake(Operation(key, value))

    def delete(self, key: Any) -> None:
        """Take a delete; as `put`."""
        self._take(Operation(key, deletes=True), self._block)

    async def adelete(self, key: Any) -> None:
        """Twin of `delete`."""
        await self._atake(Operation(key, deletes=True))

    def pending(self, key: Any) -> Operation | None:
        """The newest write of the key that the origin may not have yet. O(1)."""
        if not self._waiting and not self._running:
            return None
        with self._changed:
            write = self._waiting.get(key) or self._running.get(key)
        return None if write is None else write.operation

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the writes taken so far are written or dropped; False if it takes longer.

        False at once in the thread that writes, which cannot wait for itself.
        """
        with self._changed:
            if self._must_not_wait():
                return False
            last = self._sequence
            self._flushing += 1
            self._changed.notify_all()
            try:
                with making_room():
                    return self._changed.wait_for(lambda: self._oldest() > last, timeout)
            finally:
                self._flushing -= 1

    async def aflush(self, timeout: float | None = None) -> bool:
        """Twin of `flush`."""
        return await run_in_thread(self.flush, timeout)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Take no more, write what waits, and give up what is left after so many seconds.

        Returns whether nothing was left. Harmless when called twice.
        """
        with self._changed:
            self._closed = True
            if not self._must_not_wait():
                self._give_up_at = None if timeout is None else monotonic() + timeout
                self._ready.extend(key for _, _, key in self._later)  # no pause for them
                self._later.clear()
                self._changed.notify_all()
                with making_room():
                    self._changed.wait_for(self._is_idle, timeout)
            lost = list(self._waiting.values())
            left = bool(lost or self._running)
            self._waiting.clear()
            self._ready.clear()
            self._later.clear()
            self._changed.notify_all()
        for write in lost:
            self._drop(write, ClosedError("the queue was closed before the origin took the write"))
        return not left

    async def aclose(self, timeout: float | None = 5.0) -> bool:
        """Twin of `close`."""
        return await run_in_thread(self.close, timeout)

    def stats(self) -> WriteQueueStats:
        """A snapshot of what was counted."""
        with self._changed:
            counts = self._counts
            under_way = [*self._waiting.values(), *self._running.values()]
            return WriteQueueStats(
                queued=counts["queued"],
                coalesced=counts["coalesced"],
                written=counts["written"],
                batches=counts["batches"],
                retries=counts["retries"],
                dropped=counts["dropped"],
                rejected=counts["rejected"],
                waiting=len(self._waiting),
                running=len(self._running),
                oldest=monotonic() - min(write.at for write in under_way) if under_way else 0.0,
            )

    # -- taking ---------------------------------------------------------------------------------

    def _take(self, operation: Operation, block: float) -> None:
        key = operation.key
        hash(key)  # a TypeError now, not later
        with self._changed:
            if not self._has_room(key) and block > 0 and not self._must_not_wait():
                with making_room():
                    self._changed.wait_for(lambda: self._closed or self._has_room(key), block)
            if self._closed:
                raise ClosedError("the write-behind queue was closed and takes no writes")
            if not self._has_room(key):
                self._counts["rejected"] += 1
                raise QueueFullError(
                    f"{self._max_items} writes wait for {self.origin.name}, which is as many as "
                    "may; it fails or is slow. Try again later, or raise max_items"
                )
            self._start()
            self._counts["queued"] += 1
            write = self._waiting.get(key)
            if write is not None:
                write.operation, operation = operation, write.operation  # let go without the lock
                write.failures = 0
                self._counts["coalesced"] += 1
                return
            self._sequence += 1
            self._waiting[key] = _Write(operation, self._sequence, monotonic())
            self._ready.append(key)
            if len(self._ready) in (1, self._batch_size):
                self._changed.notify_all()

    def _must_not_wait(self) -> bool:
        """Whether the writes that are waited for would wait for this thread."""
        return self._worker is current_thread() or on_background_loop()

    async def _atake(self, operation: Operation) -> None:
        if self._has_room(operation.key) or self._closed or not self._block:
            self._take(operation, 0.0)
        else:
            await run_in_thread(self._take, operation, self._block)

    def _has_room(self, key: Any) -> bool:
        return key in self._waiting or len(self._waiting) + len(self._running) < self._max_items

    # -- writing --------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._worker is None:
            worker = Thread(target=self._work, name="hybridcore-write-behind", daemon=True)
            worker.start()
            self._worker = worker
            if self.origin.carries("store") or self.origin.carries("delete"):
                start_background_loop()
            close_at_exit(self)

    def _work(self) -> None:
        while True:
            with self._changed:
                batch = self._next_batch()
                if batch is None:
                    self._worker = None
                    return
                self._running = {write.operation.key: write for write in batch}
            try:
                errors = self._write(batch)
            except BaseException as error:  # the thread of all writes must not end by one
                errors = dict.fromkeys(self._running, _as_exception(error))
            dropped: list[tuple[_Write, Exception]] = []
            with self._changed:
                for key, write in self._running.items():
                    reason = errors.get(key)
                    if reason is None:
                        self._counts["written"] += 1
                    elif key in self._waiting:  # a newer one takes its place
                        self._counts["coalesced"] += 1
                    elif not self._try_again(write, reason):
                        dropped.append((write, reason))
                self._running = {write.operation.key: write for write, _ in dropped}
                self._changed.notify_all()
            if dropped:
                for write, reason in dropped:
                    self._drop(write, reason)
                with self._changed:
                    self._running = {}
                    self._changed.notify_all()
            del batch, dropped, errors  # or what they hold would stay while there is nothing to do

    def _next_batch(self) -> list[_Write] | None:
        """Wait for writes whose time has come; None when there were none for a while."""
        idle_since = monotonic()
        while True:
            now = monotonic()
            while self._later and self._later[0][0] <= now:
                self._ready.append(heappop(self._later)[2])
            if self._ready:
                wait = self._waiting[self._ready[0]].at + self._max_delay - now
                if self._flushing or self._closed or len(self._ready) >= self._batch_size:
                    wait = 0.0
                if wait <= 0:
                    size = min(len(self._ready), self._batch_size)
                    return [self._waiting.pop(self._ready.popleft()) for _ in range(size)]
            elif self._later:
                wait = self._later[0][0] - now
            elif self._closed or now - idle_since >= LINGER:
                return None
            else:
                wait = LINGER
            self._changed.wait(min(wait, TIMEOUT_MAX))

    def _write(self, batch: list[_Write]) -> dict[Any, Exception]:
        """Bring a batch to the origin; return what failed and why."""
        errors: dict[Any, Exception] = {}
        stores = {w.operation.key: w.operation.value for w in batch if not w.operation.deletes}
        deletes = [w.operation.key for w in batch if w.operation.deletes]
        origin = self.origin
        if stores and origin.does_many("store_many"):
            errors |= self._call_many(origin.store_many, stores)
        else:
            for key, value in stores.items():
                self._call(errors, key, origin.store, key, value)
        if deletes and origin.does_many("delete_many"):
            errors |= self._call_many(origin.delete_many, deletes)
        else:
            for key in deletes:
                self._call(errors, key, origin.delete, key)
        return errors

    def _call(
        self, errors: dict[Any, Exception], key: Any, function: Callable[..., Any], *args: Any
    ) -> None:
        try:
            function(*args)
        except BaseException as error:
            errors[key] = _as_exception(error)

    def _call_many(self, function: Any, keys: Any) -> dict[Any, Exception]:
        with self._changed:
            self._counts["batches"] += 1
        try:
            return dict(function(keys) or {})
        except BaseException as error:
            return dict.fromkeys(keys, _as_exception(error))

    def _try_again(self, write: _Write, error: Exception) -> bool:
        """Under the lock: have a write that failed wait for its next try, if it has one."""
        write.failures += 1
        if write.failures > self._retries or isinstance(error, _HOPELESS):
            return False
        ceiling = min(self._max_backoff, self._base_delay * 2.0 ** (write.failures - 1))
        pause = max(random.uniform(0.0, ceiling), min(asked_by(error), MOST_ASKED))
        due = monotonic() + pause
        if self._closed and (self._give_up_at is not None and due > self._give_up_at):
            return False
        key = write.operation.key
        self._waiting[key] = write
        heappush(self._later, (due, write.sequence, key))
        self._counts["retries"] += 1
        return True

    def _drop(self, write: _Write, error: Exception) -> None:
        with self._changed:
            self._counts["dropped"] += 1
        self._logs.warning(
            "a write of %s was dropped after %d tries: %s",
            self._logs.shown(write.operation.key),
            write.failures,
            raised_by(error),
        )
        if self._on_drop is None:
            return
        try:
            self._on_drop(write.operation, error)
        except BaseException as failure:
            if not isinstance(failure, Exception) and self._worker is not current_thread():
                raise
            self._logs.warning("on_drop failed: %s", raised_by(failure))

    def _oldest(self) -> float:
        """The sequence number of the oldest write under way."""
        under_way = (*self._waiting.values(), *self._running.values())
        return min((write.sequence for write in under_way), default=float("inf"))

    def _is_idle(self) -> bool:
        return not self._waiting and not self._running


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"the origin raised {type(error).__name__}")
