"""Commits to a queue's journal: what has gathered of all threads goes into one."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ClosedError, DiskError
from hybridcore.logs import RateLimitedLog, raised_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native.writes import Tally, Write
    from hybridcore.disk.environment import Environment
    from hybridcore.write_queue.journal import Journal, Txn

T = TypeVar("T")

GROWTH = 64.0
"""Times its size at opening that the map may grow: it is room for addresses, not on the disk."""
STEP = 1.0
"""Seconds after which who waits looks again whether somebody leads, who may have been killed."""
PAUSE = 0.2
"""Seconds before writes that nobody waits for are tried again after the disk failed."""


class Committer:
    """Gathers writes and jobs, and carries out what has gathered in one transaction at a time.

    Who waits for the outcome leads, if nobody does: it carries out what has gathered of all others
    too, without changing threads. For what nobody waits for there is a thread, which starts with
    the first such write and ends when this is closed.

    Args:
        environment: of the queue.
        journal: reads and writes it.
        gather: seconds that writes wait for others when nobody waits for them.
        window: ns within which a write is not ready, so that others take its place.
        coalesce: whether of several writes of a key that gathered the last one counts.
        committed: told, by who leads, of what there is after each transaction.
    """

    def __init__(
        self,
        environment: Environment,
        journal: Journal,
        *,
        gather: float,
        window: int,
        coalesce: bool,
        committed: Callable[[Tally, list[Write], list[int]], None],
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
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._watching = 0
        """How many are told of each commit."""
        self._wanted = threading.Condition(self.lock)
        self.waiting: dict[Any, Write] = {}
        """Writes that are on their way to the next commit: of keys, or of numbers."""
        self.committing: dict[Any, Write] = {}
        """Those in the commit under way."""
        self.waiting_bytes = self.committing_bytes = 0
        self.taken = self.coalesced = self.commits = 0
        self._numbered = 0
        self._jobs: list[Job] = []
        self._round = Round()
        self._leading = 0  # the thread that does
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, write: Write) -> Round:
        """Have a write stored soon, in the round returned; with ``lock`` held.

        Where no thread can be started the write is ``waited`` for: its caller has to lead.
        """
        if self._closed:
            raise ClosedError("the write queue was closed and takes no writes")
        waiting = self.waiting
        self.taken += 1
        if self._coalesce:
            before = waiting.get(write.form)
            if before is not None:
                write.mono, write.wall = before.mono, before.wall
                write.instead = before if not before.waited else before.instead
                write.level = min(write.level, before.level)
                self.waiting_bytes -= before.size
                self.coalesced += 1
            waiting[write.form] = write
        else:
            self._numbered += 1
            waiting[self._numbered] = write
        self.waiting_bytes += write.size
        if not (write.waited or self._round.unattended or self._wake()):
            write.waited = True
        return self._round

    def take_lead(self) -> bool:
        """Lead, if nobody does, or waits to, and nothing has gathered; with ``lock`` held."""
        if self._leading or self.waiting or self._jobs or self._round.awaited or self._closed:
            return False
        self._leading = threading.get_ident()
        return True

    def store_alone(self, write: Write) -> None:
        """Store a write, with the lead taken.

        Raises:
            DiskError: it was not stored.
        """
        try:
            self.committing, self.committing_bytes = {write.form: write}, write.size
            self.taken += 1
            error, _ = self._commit([write], [])
        finally:
            self._give_up_lead()
        if error is not None:
            raise error

    def forsake(self) -> None:
        """After an interrupt: give up the lead, if this thread had taken it and not begun."""
        if self._leading == threading.get_ident():
            self._give_up_lead()

    def _give_up_lead(self) -> None:
        with self.lock:
            self.committing, self.committing_bytes = {}, 0
            self._leading = 0
            self._round.call_one()  # it leads the next
            if self._watching:
                self._changed.notify_all()

    def newest(self, form: bytes) -> Write | None:
        """The newest write of a key form that gathers or is in the commit; with ``lock`` held."""
        for writes in (self.waiting, self.committing):
            if not self._coalesce:
                found = (write for write in reversed(writes.values()) if write.form == form)
                write = next(found, None)
            else:
                write = writes.get(form)
            if write is not None:
                return write
        return None

    def storing(self) -> Round:
        """The round after which all that was added until now is stored; with ``lock`` held."""
        return self._round

    def wait_for_change(self, timeout: float) -> None:
        """Wait for the end of a commit, or for `close`; with ``lock`` held."""
        self._watching += 1
        try:
            self._changed.wait(timeout)
        finally:
            self._watching -= 1

    def wait_for(self, wanted: Round, timeout: float | None = None) -> bool:
        """Wait until a round is over, leading it if nobody does; False if that takes longer.

        Raises:
            DiskError: it failed; nothing of it was stored.
        """
        deadline = None if timeout is None else monotonic() + timeout
        latch: threading.Lock | None = None
        try:
            while not wanted.over:
                with self.lock:
                    if wanted.over:
                        break
                    leads = not self._leading
                    left = STEP if deadline is None else deadline - monotonic()
                    if leads:
                        self._leading = threading.get_ident()
                    elif left <= 0:
                        return False
                    elif latch is None:
                        latch = wanted.latch()
                if leads:
                    self._lead()
                elif latch is not None and latch.acquire(timeout=min(left, STEP)):
                    latch = None
                    if wanted.over:
                        wanted.call_one()
        except BaseException:
            self.forsake()
            raise
        finally:
            if latch is not None:
                wanted.leave(latch)
        if wanted.error is not None:
            raise wanted.error
        return True

    async def await_for(self, wanted: Round) -> None:
        """Twin of `wait_for`; the thread leads."""
        import asyncio

        with self.lock:
            if not wanted.over:
                done: Future[None] = Future()
                wanted.told.append(done)
                led = self._wake()
            else:
                done, led = Future(), True
                wanted.tell(done)
        if not led:
            self.wait_for(wanted)
        await asyncio.wrap_future(done)

    def carry_out(self, work: Callable[[Txn, Tally], T]) -> T:
        """Have work done in the next transaction, and return what it returns."""
        job = Job(work)
        with self.lock:
            if self._closed:
                raise ClosedError("the write queue was closed")
            leads = self.take_lead()
            if not leads:
                self._jobs.append(job)
                wanted = self._round
        if leads:
            try:
                self._commit([], [job])
            finally:
                self._give_up_lead()
        else:
            self.wait_for(wanted)
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[no-any-return]

    def soon(self, work: Callable[[Txn, Tally], object]) -> None:
        """Have work done in one of the next transactions; nobody waits for it."""
        with self.lock:
            if not self._closed:
                self._jobs.append(Job(work))
                self._wake()  # without a thread the next one who commits does it

    def close(self, timeout: float | None) -> bool:
        """Store what has gathered; returns whether nothing was left after so many seconds."""
        with self.lock:
            self._closed = True
            wanted = self._round
            self._changed.notify_all()
            self._wanted.notify()
        try:
            over = self.wait_for(wanted, timeout)
        except (DiskError, OSError):
            return False
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        return over and not self.waiting

    def _wake(self) -> bool:
        """Have the thread look; False if there is none and none can be started."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="hybridcore-queue-commit", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        self._round.unattended = True
        self._wanted.notify()
        return True

    def _run(self) -> None:
        """Lead when there is something that nobody waits for."""
        while True:
            with self.lock:
                while not self._round.unattended:
                    if self._closed:
                        return
                    self._wanted.wait()
                if self._gather and not self._jobs and not self._round.told:
                    self._wanted.wait_for(
                        lambda: self._jobs or self._round.told or self._closed, self._gather
                    )
                wanted = self._round
            if not wanted.unattended:  # somebody else has led meanwhile
                continue
            try:
                self.wait_for(wanted)
            except Exception:  # those who waited were told
                with self.lock:
                    if self._wanted.wait_for(lambda: self._closed, PAUSE):
                        return

    def _lead(self) -> None:
        """Carry out what has gathered; who calls has the lead, and gives it up."""
        writes: dict[Any, Write] = {}
        here, interrupted, left = None, None, False
        try:
            with self.lock:
                here, self._round = self._round, Round()
                writes, self.committing, self.waiting = self.waiting, self.waiting, {}
                self.committing_bytes, self.waiting_bytes = self.waiting_bytes, 0
                jobs, self._jobs = self._jobs, []
            if writes or jobs:
                here.error, left = self._commit(list(writes.values()), jobs)
        except BaseException as error:
            assert here is not None
            interrupted, left = error, True
            here.error = DiskError("the thread that stored this write was interrupted")
            for job in jobs:
                job.error = job.error or here.error
        with self.lock:
            if left:
                self._keep_unstored(writes)
            self.committing, self.committing_bytes = {}, 0
            self._leading = 0
            here.end()
            self._round.call_one()  # it leads the next
            if self._watching:
                self._changed.notify_all()
        if interrupted is not None:
            raise interrupted

    def _keep_unstored(self, writes: dict[Any, Write]) -> None:
        """After a failure: who waited is told; of the others nobody knows, and they are kept."""
        left = {}
        for key, write in writes.items():
            accepted = write.instead if write.waited else write
            if accepted is not None:
                left[key] = accepted
        self.waiting = {**left, **self.waiting}
        self.waiting_bytes = sum(write.size for write in self.waiting.values())
        if left:
            self._wake()

    def _commit(self, writes: list[Write], jobs: list[Job]) -> tuple[BaseException | None, bool]:
        """Carry out everything in one transaction; jobs one by one if that fails.

        Returns why it is not sure that the writes are stored, and whether they are not.
        """

        def work(txn: Txn) -> tuple[Tally, int]:
            self._journal.bind(self._environment.current())
            self._journal.graves.buried = []
            tally = self._journal.tally(txn)
            coalesced = self._journal.accept(txn, writes, tally, self._window) if writes else 0
            for job in jobs:
                job.result = job.work(txn, tally)
            self._journal.save(txn, tally)
            return tally, coalesced

        try:
            tally, coalesced = self._environment.write(work, growth=GROWTH, buffers=False)
        except Exception as error:
            if jobs and (writes or len(jobs) > 1):
                failed = self._commit(writes, []) if writes else (None, False)
                for job in jobs:
                    self._commit([], [job])
                return failed
            for job in jobs:
                job.error = error
            if writes:
                self._logs.warning("the write queue cannot store writes: %s", raised_by(error))
            return error if writes else None, bool(writes)
        unsure: BaseException | None = None
        if writes:
            try:
                self._environment.settle()
            except Exception as error:
                self._logs.warning("the write queue cannot be synced: %s", raised_by(error))
                unsure = error
        self.commits += 1
        self.coalesced += coalesced
        try:
            self._committed(tally, writes, self._journal.graves.buried)
        except Exception as error:
            self._logs.warning("the write queue cannot go on: %s", raised_by(error))
        return unsure, False


class Round:
    """What gathers for one commit; ``over`` when it was made, ``error`` if it failed.

    It is ``awaited`` if somebody waits for it, and ``unattended`` if for something of it nobody
    does, so that the thread has to see to it.

    Who waits for it does so at a latch of its own, and is called by the one before: many who are
    woken at once would get into each other's way.
    """

    __slots__ = ("awaited", "error", "latches", "over", "told", "unattended")

    def __init__(self) -> None:
        self.over = self.awaited = self.unattended = False
        self.error: BaseException | None = None
        self.latches: deque[threading.Lock] = deque()
        self.told: list[Future[None]] = []

    def latch(self) -> threading.Lock:
        """A lock that can be acquired when it is time to look again."""
        latch = threading.Lock()
        latch.acquire()
        self.latches.append(latch)
        self.awaited = True
        return latch

    def call_one(self) -> None:
        """Have the first of those who wait look again."""
        if self.latches:
            with suppress(IndexError):
                self.latches.popleft().release()

    def leave(self, latch: threading.Lock) -> None:
        """Wait no longer; a call that came meanwhile is for the next one."""
        try:
            self.latches.remove(latch)
        except ValueError:
            self.call_one()

    def end(self) -> None:
        """Have everybody who waits or awaits know that it is over."""
        self.over = True
        self.call_one()
        for done in self.told:
            self.tell(done)

    def tell(self, done: Future[None]) -> None:
        """Have who awaits know."""
        if done.set_running_or_notify_cancel():
            if self.error is not None:
                done.set_exception(self.error)
            else:
                done.set_result(None)


class Job:
    """Work for a transaction, and what came of it."""

    __slots__ = ("error", "result", "work")

    def __init__(self, work: Callable[[Any, Any], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None


def room_for_addresses(max_bytes: int) -> int:
    """The size of the map of a queue that may hold so many bytes."""
    return max(4 * max_bytes, 64 << 20) // 65536 * 65536
