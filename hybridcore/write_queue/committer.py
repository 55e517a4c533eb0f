"""The one thread of a process that writes a queue's journal: all who wait share its commits."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ClosedError
from hybridcore.logs import RateLimitedLog, raised_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.disk.environment import Environment
    from hybridcore.write_queue.journal import Journal, Tally, Txn, Write

T = TypeVar("T")

GROWTH = 64.0
"""Times its size at opening that the map may grow: it is room for addresses, not on the disk."""
PAUSE = 0.2
"""Seconds before writes that nobody waits for are tried again after the disk failed."""


class Committer:
    """Gathers writes and jobs, and carries out what has gathered in one transaction at a time.

    The thread starts with the first work and ends when it is closed.

    Args:
        environment: of the queue.
        journal: reads and writes it.
        gather: seconds that writes wait for others when nobody waits for them.
        window: ns within which a write is not ready, so that others take its place.
        coalesce: whether of several writes of a key that gathered the last one counts.
        committed: told, in the thread, of what there is after each transaction.
    """

    def __init__(
        self,
        environment: Environment,
        journal: Journal,
        *,
        gather: float,
        window: int,
        coalesce: bool,
        committed: Callable[[Tally, list[Write], int, list[int]], None],
        logs: RateLimitedLog,
    ) -> None:
        self._environment = environment
        self._journal = journal
        self._gather = gather
        self._window = window
        self._coalesce = coalesce
        self._committed = committed
        self._logs = logs
        self.start_afresh()

    def start_afresh(self) -> None:
        """After a fork: what has gathered is the parent's to write."""
        self.changed = threading.Condition(threading.Lock())
        self.waiting: dict[Any, Write] = {}
        """Writes that are on their way to the next commit: of keys, or of numbers."""
        self.committing: dict[Any, Write] = {}
        """Those in the commit under way."""
        self.waiting_bytes = 0
        self.coalesced = 0
        self._numbered = 0
        self._jobs: deque[tuple[Callable[[Any, Any], Any], Future[Any]]] = deque()
        self._durable: Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, write: Write) -> None:
        """Have a write stored soon; with ``changed`` held."""
        if self._closed:
            raise ClosedError("the write queue was closed and takes no writes")
        if self._coalesce:
            before = self.waiting.get(write.form)
            if before is not None:
                write.mono, write.wall = before.mono, before.wall
                write.level = min(write.level, before.level)
                self.waiting_bytes -= before.size
                self.coalesced += 1
            self.waiting[write.form] = write
        else:
            self._numbered += 1
            self.waiting[self._numbered] = write
        self.waiting_bytes += write.size
        if self._thread is None or len(self.waiting) == 1:
            self._wake()

    def durable(self) -> Future[None]:
        """Done when all that was added until now is stored; with ``changed`` held."""
        if self._durable is None:
            self._durable = Future()
            self._durable.set_running_or_notify_cancel()
            if not self.waiting and not self.committing and not self._jobs:
                self._durable.set_result(None)
                done, self._durable = self._durable, None
                return done
            self._wake()
        return self._durable

    def submit(self, job: Callable[[Txn, Tally], T]) -> Future[T]:
        """Have a job carried out in the next transaction."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()
        with self.changed:
            if self._closed:
                raise ClosedError("the write queue was closed")
            self._jobs.append((job, done))
            self._wake()
        return done

    def close(self, timeout: float | None) -> bool:
        """Store what has gathered; returns whether nothing was left after so many seconds."""
        deadline = None if timeout is None else monotonic() + timeout
        with self.changed:
            self._closed = True
            if self.waiting or self._jobs:
                self._wake()
            thread = self._thread
            self.changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(None if deadline is None else max(0.0, deadline - monotonic()))
            if thread.is_alive():
                return False
        return not self.waiting

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="hybridcore-queue-commit", daemon=True
            )
            self._thread.start()
        self.changed.notify_all()

    def _run(self) -> None:
        while True:
            with self.changed:
                if not self._await_work():
                    self._thread = None
                    return
                writes, self.committing, self.waiting = self.waiting, self.waiting, {}
                self.waiting_bytes = 0
                durable, self._durable = self._durable, None
                jobs = list(self._jobs)
                self._jobs.clear()
            failed = self._commit(list(writes.values()), jobs, durable)
            with self.changed:
                self.committing = {}
                # Who waited was told; of the others nobody knows, and they may still come through.
                left = {k: w for k, w in writes.items() if not w.waited} if failed else None
                if left:
                    self.waiting = {**left, **self.waiting}
                    self.waiting_bytes = sum(write.size for write in self.waiting.values())
                    self.changed.wait_for(lambda: self._closed, PAUSE)
                    if self._closed:
                        self._thread = None
                        self.changed.notify_all()
                        return
                self.changed.notify_all()
            del writes, jobs, durable

    def _await_work(self) -> bool:
        """Wait for work, with the lock held; False when there will be none."""
        while not self.waiting and not self._jobs:
            if self._durable is not None:
                self._durable.set_result(None)
                self._durable = None
            if self._closed:
                return False
            self.changed.wait()
        if self._gather and self._durable is None and not self._jobs and not self._closed:
            self.changed.wait_for(
                lambda: self._durable is not None or self._jobs or self._closed, self._gather
            )
        return True

    def _commit(
        self,
        writes: list[Write],
        jobs: list[tuple[Callable[[Any, Any], Any], Future[Any]]],
        durable: Future[None] | None,
    ) -> bool:
        """Carry out everything in one transaction; jobs one by one if one of them fails."""
        results: list[Any] = []

        def work(txn: Txn) -> tuple[Tally, int]:
            self._journal.bind(self._environment.current())
            self._journal.buried = []
            tally = self._journal.tally(txn)
            coalesced = self._journal.accept(txn, writes, tally, self._window) if writes else 0
            results.clear()
            results.extend(job(txn, tally) for job, _ in jobs)
            self._journal.save(txn, tally)
            return tally, coalesced

        try:
            tally, coalesced = self._environment.write(work, growth=GROWTH, buffers=False)
            if writes:
                self._environment.settle()
        except BaseException as error:
            if jobs and (writes or len(jobs) > 1):
                failed = bool(writes) and self._commit(writes, [], durable)
                for job in jobs:
                    self._commit([], [job], None)
                return failed
            for _, done in jobs:
                done.set_exception(error)
            if durable is not None:
                durable.set_exception(error)
            if writes:
                self._logs.warning("the write queue cannot store writes: %s", raised_by(error))
            return bool(writes)
        self._committed(tally, writes, coalesced, self._journal.buried)
        for (_, done), result in zip(jobs, results, strict=True):
            done.set_result(result)
        if durable is not None:
            durable.set_result(None)
        return False


def room_for_addresses(max_bytes: int) -> int:
    """The size of the map of a queue that may hold so many bytes."""
    return max(4 * max_bytes, 64 << 20) // 65536 * 65536
