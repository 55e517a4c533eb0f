"""The drain of a durable queue: threads that claim writes, bring them out and note the outcome."""

from __future__ import annotations

import inspect
import threading
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore._native.writes import record_ages
from hybridcore.errors import (
    BreakerOpenError,
    BulkheadFullError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    DiskError,
    OriginUnavailableError,
    QueueFullError,
)
from hybridcore.logs import raised_by
from hybridcore.origins import Origin
from hybridcore.origins.threads import in_background, start_background_loop
from hybridcore.retry import asked_by
from hybridcore.write_queue.delivery import Delivery, OriginTarget
from hybridcore.write_queue.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hybridcore._native.writes import Claimed, Tally
    from hybridcore.write_queue.delivery import Handler
    from hybridcore.write_queue.durable import WriteQueue
    from hybridcore.write_queue.journal import Txn

Outcomes = tuple[list[Delivery], list[Verdict]]
"""What the target has of a batch, and what becomes of the others."""

POLL = 0.25
"""Seconds between two looks for what other processes took, or left behind."""
REFUSED = 1.0
"""Seconds that a target which refuses all calls, and does not say for how long, is left alone."""
UNSTORED = 0.5
"""Seconds before the outcome of a batch is noted again after the disk failed."""


class Drain:
    """Brings the writes of a queue to its target; see `WriteQueue` for the options."""

    def __init__(
        self,
        queue: WriteQueue,
        *,
        workers: int,
        concurrency: int,
        batch_size: int,
        batch_delay: list[int],
        lease: float,
        ageing: float,
    ) -> None:
        self._queue = queue
        self._workers = workers
        self._concurrency = concurrency
        self.batch_size = batch_size
        self._batch_delay = batch_delay
        self._lease = int(lease * 1e9)
        self._ageing = max(1, int(ageing * 1e9))
        self.beat = lease / 3
        """Seconds between two extensions of the leases of what is under way."""
        self.target: Handler | None = None
        self.listeners: set[Callable[[], None]] = set()
        """Called when there may be something to do."""
        self.start_afresh()

    def start_afresh(self) -> None:
        """After a fork: there are no threads here, and nothing is under way."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._watching = 0
        """How many wait for a change."""
        self._threads: list[threading.Thread] = []
        self._under_way: set[int] = set()
        self._woken = 0
        self._hurry = 0
        self._paused_until = 0.0
        self._is_refused = False
        self._looked = 0.0
        self.listeners.clear()
        self._closing = False
        self._deadline: float | None = None
        if isinstance(self.target, OriginTarget):
            self.target.start_afresh()

    def bind(self, target: Origin[Any, Any] | Handler) -> None:
        """See `WriteQueue.bind`."""
        if self.target is not None:
            raise ConfigurationError(f"{self._queue!r} has a target already")
        if inspect.iscoroutinefunction(target) and self._workers:
            raise ConfigurationError(
                "threads do not call a coroutine function: give workers=0 and await work(), or a "
                "plain function"
            )
        if inspect.iscoroutinefunction(target) and self._queue.writes_through:
            raise ConfigurationError(
                "who puts into a full queue does not call a coroutine function: choose another "
                "on_full than 'write_through', or give a plain function"
            )
        if isinstance(target, Origin):
            if not target.writable:
                raise ConfigurationError(
                    f"a write queue needs an origin that takes writes; {target.name} does not"
                )
            self.target = OriginTarget(target, self._concurrency)
        elif callable(target):
            self.target = target
        else:
            raise ConfigurationError(
                f"target is expected to be an Origin or a function, got {target!r}"
            )

    def require_tasks(self) -> None:
        """Raise a ConfigurationError unless tasks are to bring writes to a target."""
        if self.target is None or self._workers:
            raise ConfigurationError(
                "work() is expected of a queue that has a target and workers=0, got "
                + ("no target" if self.target is None else f"workers={self._workers}")
            )

    @property
    def has_target(self) -> bool:
        """Whether writes are brought out here."""
        return self.target is not None

    def wake(self, taken: bool = True) -> None:
        """There may be something to do."""
        if self.target is None:
            return
        if not self._threads and self._workers and not self._closing:
            self._start()
        with self._lock:
            self._woken += taken
            self._tell()
        for listener in tuple(self.listeners):
            listener()

    def told(self) -> None:
        """Something has changed that somebody may wait for."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        if self._watching:
            self._changed.notify_all()

    def _wait(self, timeout: float, over: Callable[[], bool] | None = None) -> bool:
        """Wait for a change, or until it is ``over``; with the lock held."""
        self._watching += 1
        try:
            if over is None:
                return self._changed.wait(timeout)
            return self._changed.wait_for(over, timeout)
        finally:
            self._watching -= 1

    def is_here(self) -> bool:
        """Whether this is a thread of the drain."""
        return threading.current_thread() in self._threads

    def is_past(self, place: int) -> bool:
        """Whether nothing before this place is under way here."""
        with self._lock:
            return all(each >= place for each in self._under_way)

    # -- one transaction --------------------------------------------------------------------

    def take(self, most: int, done: Sequence[Delivery]) -> list[Delivery]:
        """Note what was done and claim for whoever asks; the lease is not extended."""
        claimed, _, _ = self.exchange(done, (), most, by_hand=True)
        return claimed

    def settle(self, done: Sequence[Delivery] = (), verdicts: Sequence[Verdict] = ()) -> int:
        """Note outcomes; returns how many of those ``done`` were still claimed here."""
        return self.exchange(done, verdicts, 0)[2]

    def verdict(self, delivery: Delivery, error: BaseException) -> Verdict:
        """What becomes of a delivery that failed."""
        if isinstance(error, (BreakerOpenError, BulkheadFullError)):
            wanted = asked_by(error) or REFUSED
            return self._verdict(delivery, error, wanted, counts=False)
        pause = self._queue.redelivery.pause(delivery.attempt, error)
        reason = ""
        if pause is None:
            last = delivery.attempt >= self._queue.redelivery.attempts
            reason = "attempts" if last else "permanent"
        return self._verdict(delivery, error, pause, reason=reason)

    def _verdict(
        self, one: Delivery, error: BaseException, pause: float | None, **options: Any
    ) -> Verdict:
        return Verdict(one.place, one.number, one.attempt, error, pause, **options)

    def exchange(
        self,
        done: Sequence[Delivery],
        verdicts: Sequence[Verdict],
        most: int,
        *,
        by_hand: bool = False,
    ) -> tuple[list[Delivery], float, int]:
        """Note outcomes and claim the next batch in one transaction.

        Returns the batch, in how many seconds there may be more, and how many of those ``done``
        were still claimed here.
        """
        queue, journal = self._queue, self._queue._journal
        owner = queue._owner.number
        finished = taken_back = 0
        became: list[str] = []

        def job(txn: Txn, tally: Tally) -> tuple[list[Claimed], float]:
            nonlocal finished, taken_back, became
            finished = taken_back = 0
            if done:
                finished = journal.finish(txn, done, owner, tally)
                journal.sweep(txn, tally, finished)
            became = [journal.settle(txn, verdict, owner, tally) for verdict in verdicts]
            if most == 0:
                return [], POLL
            now = queue._clock()
            due = journal.wake(txn, now)
            if monotonic() >= self._looked + POLL:
                taken_back = journal.take_back(txn, self._is_over)
                self._looked = monotonic()
            claimed, patience = self._claim(txn, tally, most, now, owner)
            if due is not None:
                patience = min(patience, max(0.0, (due - now) / 1e9))
            return claimed, patience

        claimed, patience = queue._committer.carry_out(job)
        counts = queue._counts
        with self._lock:
            counts["applied"] += finished
            counts["lost"] += len(done) - finished
            counts["attempts"] += len(claimed)
            counts["taken_back"] += taken_back
            for outcome in became:
                counts[outcome] += 1
            self._under_way.difference_update([one.place for one in done])
            self._under_way.difference_update([verdict.place for verdict in verdicts])
            if not by_hand:
                self._under_way.update([one.write.place for one in claimed])
            self._tell()
        if done:
            record_ages(queue._until_applied, [one.mono for one in done], queue._clock())
        return self._delivered(claimed), patience, finished

    def _claim(
        self, txn: Txn, tally: Tally, most: int, now: int, owner: int
    ) -> tuple[list[Claimed], float]:
        """Claim a batch: of the level that is most urgent now, then of the others."""
        journal, ageing = self._queue._journal, self._ageing
        until = now + self._lease
        patience = POLL
        ages: dict[int, int] = {}
        levels = tally.levels()
        if len(levels) == 1 and not self._batch_delay[levels[0]]:
            return journal.claim(txn, levels[0], most, owner, until, tally), patience
        for level in levels:
            age = journal.age_of(txn, level, tally)
            if age is None:
                continue
            early = self._batch_delay[level] - age
            if early > 0 and tally.items(level) < self.batch_size and not self._hurry:
                patience = min(patience, early / 1e9)
            else:
                ages[level] = age
        claimed: list[Claimed] = []
        while ages and len(claimed) < most:
            rank, _, level = min(
                (max(0, level - age // ageing), -age, level) for level, age in ages.items()
            )
            least = (level - rank) * ageing
            claimed += journal.claim(
                txn, level, most - len(claimed), owner, until, tally, least_age=least
            )
            left = journal.age_of(txn, level, tally) if least else None
            if left is None:
                del ages[level]
            else:
                ages[level] = left
        return claimed, patience

    def _is_over(self, place: int, owner: int, until: int) -> bool:
        if owner == self._queue._owner.number and place in self._under_way:
            return False
        return until < self._queue._clock() or self._queue._owner.is_gone(owner)

    def _delivered(self, claimed: list[Claimed]) -> list[Delivery]:
        """What was claimed, decoded; what cannot be is dead."""
        queue = self._queue
        levels, identity, attempts = queue.levels, queue._identity, queue.redelivery.attempts
        key_of, value_of = queue._encoding.key, queue._encoding.value_of
        taken_at = queue._journal.taken_at
        deliveries: list[Delivery] = []
        spoiled: list[Verdict] = []
        for one in claimed:
            write, attempt = one.write, one.attempt
            if attempt > attempts:  # who tried it last did not live to tell
                lost = RuntimeError("the process died while it was being written")
                spoiled.append(
                    Verdict(
                        write.place, write.number, attempt, lost, counts=False, reason="crashed"
                    )
                )
                continue
            try:
                key, value = key_of(write.form), value_of(write)
            except DecodeError as damage:
                spoiled.append(
                    Verdict(write.place, write.number, attempt, damage, reason="undecodable")
                )
                continue
            deliveries.append(
                Delivery(
                    key,
                    value,
                    write.deletes,
                    levels[write.level],
                    f"{identity}-{write.number}",
                    write.number,
                    attempt,
                    write.wall / 1e9,
                    one.error,
                    write.place,
                    taken_at(write),
                )
            )
        if spoiled:
            self.exchange((), spoiled, 0)
        return deliveries

    # -- threads ----------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._threads:
                return
            if isinstance(self.target, OriginTarget) and self.target.awaits:
                start_background_loop()
            self._threads = [
                threading.Thread(target=self._work, name="hybridcore-queue-drain", daemon=True)
                for _ in range(self._workers)
            ]
            self._threads.append(
                threading.Thread(target=self._keep, name="hybridcore-queue-keep", daemon=True)
            )
            try:
                for thread in self._threads:
                    thread.start()
            except RuntimeError:  # no more threads: the next commit tries again
                self._threads = [thread for thread in self._threads if thread.is_alive()]

    def _work(self) -> None:
        done: list[Delivery] = []
        verdicts: list[Verdict] = []
        while True:
            seen = self._woken
            pause = self.pause()
            claims = 0 if self._is_over_time() or pause > 0 else self.most()
            try:
                batch, patience, _ = self.exchange(done, verdicts, claims)
            except ClosedError:
                return
            except Exception as error:
                self._queue._logs.warning("the write queue cannot go on: %s", raised_by(error))
                with self._lock:
                    if self._wait(UNSTORED, self._is_over_time):
                        return
                continue
            done, verdicts = self._bring_out(batch) if batch else ([], [])
            if batch:
                continue
            with self._lock:
                if self._closing and (claims == 0 or self._is_empty()):
                    return
                patience = max(patience, pause)
                self._wait(
                    0.01 if self._closing else max(0.001, min(patience, POLL)),
                    lambda seen=seen: self._woken != seen or self._closing,  # type: ignore[misc]
                )
            del batch

    def _bring_out(self, batch: list[Delivery]) -> Outcomes:
        """Give a batch to the target; a `BaseException` of one must not end the thread of all."""
        assert self.target is not None
        try:
            errors = dict(self.target(batch) or {})
        except Exception as error:
            errors = {one.key: error for one in batch}
        except BaseException as error:
            ended = RuntimeError(f"the target raised {type(error).__name__}")
            errors = {one.key: ended for one in batch}
        return self.judged(batch, errors)

    def judged(self, batch: Sequence[Delivery], errors: Mapping[Any, Exception]) -> Outcomes:
        """What becomes of a batch whose target answered with these errors."""
        self._queue._counts["batches"] += 1
        if not errors:
            self._is_refused = False
            return list(batch), []
        done: list[Delivery] = []
        verdicts: list[Verdict] = []
        for one in batch:
            failure = errors.get(one.key)
            if failure is None:
                done.append(one)
                continue
            verdict = self.verdict(one, failure)
            if not verdict.counts:
                self._is_refused = True
                self._paused_until = monotonic() + (verdict.again_in or REFUSED)
            elif isinstance(failure, OriginUnavailableError) and asked_by(failure):
                self._paused_until = monotonic() + min(asked_by(failure), verdict.again_in or 0.0)
            verdicts.append(verdict)
        return done, verdicts

    def _keep(self) -> None:
        """Keep up with time, while there are threads."""
        while True:
            with self._lock:
                if self._wait(self.beat, lambda: self._closing and not self._under_way):
                    return
            self.keep_up()

    def keep_up(self) -> None:
        """Extend the leases of what is under way, and purge letters whose time is over."""
        if self._under_way:
            with suppress(DiskError, ClosedError):
                self._queue._committer.carry_out(self._extend)
        if self._queue._tally.dead:
            self._queue.dead_letters.retain()

    def _extend(self, txn: Txn, tally: Tally) -> None:
        queue = self._queue
        until = queue._clock() + self._lease
        queue._journal.extend(txn, list(self._under_way), queue._owner.number, until)

    def most(self) -> int:
        """Writes to bring out at a time: one, while a target that refused calls has taken none."""
        return 1 if self._is_refused else self.batch_size

    def pause(self) -> float:
        """Seconds for which the target wants to be left alone; none if below 0."""
        return self._paused_until - monotonic()

    def is_closing(self) -> bool:
        """Whether the queue is about to be closed."""
        return self._closing

    def warn(self, message: str, *args: object) -> None:
        """Log what went wrong, not too often."""
        self._queue._logs.warning(message, *args)

    def _is_over_time(self) -> bool:
        return self._closing and self._deadline is not None and monotonic() >= self._deadline

    def _is_empty(self) -> bool:
        committer = self._queue._committer
        return not (self._queue._tally.depth or committer.waiting or committer.committing)

    # -- what the queue asks for ------------------------------------------------------------

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Within, no write waits for a batch to fill."""
        with self._lock:
            self._hurry += 1
            self._woken += 1
            self._tell()
        try:
            yield
        finally:
            with self._lock:
                self._hurry -= 1

    def wait_until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Wait for something that happens to the directory, here or in another process."""
        while not done():
            left = POLL if deadline is None else deadline - monotonic()
            if left <= 0:
                return False
            with self._lock:
                self._wait(min(left, POLL / 10))
        return True

    def write_through(self, key: Any, value: Any, *, deletes: bool) -> None:
        """Bring one write out at once, in this thread, past a queue that is full."""
        target, queue = self.target, self._queue
        if target is None or queue.pending(key) is not None:
            raise QueueFullError(
                f"the queue in {str(queue.directory)!r} is full, and "
                + ("has no target" if target is None else "holds an older write of the key")
            )
        delivery = Delivery(key, value, deletes, queue.levels[0], "", 0, 1, 0.0)
        errors = target([delivery]) or {}
        if key in errors:
            raise errors[key]

    def shed(self, max_items: int, max_bytes: int) -> None:
        """Let the newest writes of the lowest levels die until the rest is within the bounds."""
        queue, journal = self._queue, self._queue._journal

        def job(txn: Txn, tally: Tally) -> None:
            full = Verdict(0, 0, 0, QueueFullError("the queue was full"), reason="shed")
            level = len(queue.levels) - 1
            while level >= 0 and (tally.depth > max_items or tally.size > max_bytes):
                if journal.shed(txn, level, tally, full):
                    queue._counts["shed"] += 1
                else:
                    level -= 1

        queue._committer.soon(job)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call what the application gave, where it delays nobody."""
        with suppress(RuntimeError):  # no thread can be started when the interpreter exits
            in_background(self.contained, function, *args)

    def contained(self, function: Callable[..., object], *args: Any) -> None:
        """Call what the application gave; what it raises is logged."""
        try:
            function(*args)
        except Exception as error:
            self._queue._logs.warning("a callback of the queue failed: %s", raised_by(error))

    def close(self, deadline: float | None) -> bool:
        """Bring out what there is until the deadline; returns whether the threads have ended."""
        with self._lock:
            self._closing, self._deadline = True, deadline
            self._hurry += 1
            self._tell()
        for listener in tuple(self.listeners):
            listener()
        is_sync = self.target is not None and not inspect.iscoroutinefunction(self.target)
        if is_sync and not self._threads and not self._is_empty():
            self._work()  # when the interpreter exits no thread can be started
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(None if deadline is None else max(0.05, deadline - monotonic()))
        if isinstance(self.target, OriginTarget):
            self.target.close()
        return not any(thread.is_alive() for thread in self._threads)
