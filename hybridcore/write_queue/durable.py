"""`WriteQueue`: writes that survive the process, on their way to a target that may be down."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore._native.histogram import Histogram
from hybridcore._native.writes import Tally, record_ages
from hybridcore.disk.durability import checked as checked_durability
from hybridcore.disk.keys import encode_key
from hybridcore.disk.sharing import acquire, release
from hybridcore.errors import ConfigurationError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import RateLimitedLog
from hybridcore.origins.threads import making_room, on_background_loop, run_in_thread
from hybridcore.stats import DurableQueueStats, LevelStats
from hybridcore.units import Duration, Size, seconds, size_in_bytes
from hybridcore.write_queue.admission import Admission
from hybridcore.write_queue.committer import Committer, room_for_addresses
from hybridcore.write_queue.dead_letters import DeadLetters
from hybridcore.write_queue.drain import Drain
from hybridcore.write_queue.encoding import Encoding
from hybridcore.write_queue.exits import close_at_exit
from hybridcore.write_queue.journal import LAYOUT, Journal
from hybridcore.write_queue.levels import LEVELS, Levels
from hybridcore.write_queue.owners import Owner
from hybridcore.write_queue.redelivery import Redelivery
from hybridcore.write_queue.resident import Resident

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from typing_extensions import Self

    from hybridcore._native.writes import Write
    from hybridcore.codec import Codecs, Compression
    from hybridcore.disk.durability import Durability
    from hybridcore.origins import Origin
    from hybridcore.write_queue.admission import OnFull
    from hybridcore.write_queue.base import Operation
    from hybridcore.write_queue.dead_letters import DeadLetter
    from hybridcore.write_queue.delivery import Delivery, Handler


class WriteQueue:
    """Writes that wait on disk for a target, and survive the process and, by default, the machine.

    `put` returns when the write is on the disk; all who wait at a time share one sync. `put_nowait`
    returns when it is accepted in memory: what is **lost** when the process is killed are the
    writes of the last ``gather`` seconds and of the commit under way. The writes are brought to the
    target by threads of this process, of any other process that opened the directory with a target,
    or by whoever calls `take` and `ack`.

    **At least once.** A write whose target took it, but whose owner died before that was noted, is
    brought out again with the same idempotency key, see `Delivery`. Writes of one key come in their
    order, one at a time, also across failures. With ``coalesce`` one that waits is replaced by the
    next.

    **Levels.** Writes of the first level go before all others. So that none starves, a write counts
    as one level more urgent for every ``ageing`` that it has waited: after ``ageing`` times the
    number of levels above its own, only older ones of the first level go before it.

    Args:
        directory: of its own, made if it is not there; not that of a cache.
        target: an `Origin`, or a function that takes a list of `Delivery` and returns the errors of
            the keys that failed. Without one nothing is brought out by this object.
        levels: names, the most urgent first; a directory keeps those it was made with.
        level_of: tells the level of a key when `put` is not told; by default the middle one.
        durability: ``"power"``, each commit synced, or ``"process"``, which survives ``kill -9``.
            What a power failure may have spoiled under ``"process"`` is set aside, not deleted.
        coalesce: whether of the waiting writes of a key only the last counts.
        window: so long a write waits for others to replace it.
        gather: so long writes that nobody waits for gather before they are stored.
        wait: whether `put` waits until the write is stored; `put_nowait` never does.
        max_items, max_bytes: writes that may wait.
        on_full: ``"block"`` up to ``block`` for room, then raise; ``"raise"``; ``"shed"`` the
            newest write of the lowest level to the dead letters; ``"write_through"`` to the target.
        high_water, low_water: shares of the bounds at which ``on_high_water`` and ``on_low_water``
            are called, once per crossing.
        batch_size: writes brought out at a time.
        batch_delay: so long a write waits for a batch to fill; by level, or one for all but the
            first level.
        workers: threads that bring out batches, 0 to `work` in tasks instead; ``concurrency`` calls
            at a time of an origin that takes one value at a time.
        lease: so long a claim of a process that cannot be reached is respected; extended while
            it lives. That of a process that has died is over at once.
        redelivery: see `Redelivery`.
        keep_dead, max_dead_bytes: retention of dead letters.
        on_dead: told of each dead letter.
        codecs, compression: as of `Lmdb`.

    Raises:
        ConfigurationError: an option makes no sense.
        DiskError: the directory cannot be used.
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        target: Origin[Any, Any] | Handler | None = None,
        *,
        levels: Sequence[str] = LEVELS,
        level_of: Callable[[Any], str] | None = None,
        durability: Durability = "power",
        coalesce: bool = True,
        window: Duration = 0.0,
        gather: Duration = "5ms",
        wait: bool = True,
        max_items: int = 10_000_000,
        max_bytes: Size = "4GiB",
        on_full: OnFull = "block",
        block: Duration = 5.0,
        high_water: float = 0.8,
        low_water: float = 0.5,
        on_high_water: Callable[[WriteQueue], object] | None = None,
        on_low_water: Callable[[WriteQueue], object] | None = None,
        batch_size: int = 100,
        batch_delay: Duration | dict[str, Duration] = 0.0,
        workers: int = 1,
        concurrency: int = 1,
        lease: Duration = "30s",
        ageing: Duration = "1m",
        redelivery: Redelivery | None = None,
        keep_dead: Duration = "30d",
        max_dead_bytes: Size = "256MiB",
        on_dead: Callable[[DeadLetter], object] | None = None,
        codecs: Codecs | None = None,
        compression: Compression | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        logs: RateLimitedLog | None = None,
    ) -> None:
        self._level = Levels(levels, level_of)
        for name, number, least in (
            ("batch_size", batch_size, 1),
            ("workers", workers, 0),
            ("concurrency", concurrency, 1),
        ):
            if type(number) is not int or number < least:
                raise ConfigurationError(
                    f"{name} is expected to be a whole number of at least {least}, got {number!r}"
                )
        if durability not in ("process", "power"):
            checked_durability(durability)
            raise ConfigurationError(
                "a queue that loses its writes with the process is MemoryQueue; durability is "
                f"expected to be 'process' or 'power', got {durability!r}"
            )
        self.directory = Path(directory)
        self.redelivery = redelivery or Redelivery()
        self._coalesce = coalesce
        self._wait = wait
        self._encoding = Encoding(codecs, compression)
        self._clock = clock
        self._on_dead: tuple[Callable[[DeadLetter], object], ...] = (
            () if on_dead is None else (on_dead,)
        )
        self._retention = (seconds(keep_dead), size_in_bytes(max_dead_bytes))
        self._logs = logs or RateLimitedLog(logging.getLogger("hybridcore"))
        self._counts: Counter[str] = Counter()
        self._tally = Tally()
        self._until_durable, self._until_applied = Histogram(), Histogram()
        self._closed = False
        self._admission = Admission(
            self,
            max_items=max_items,
            max_bytes=max_bytes,
            on_full=on_full,
            block=block,
            high_water=high_water,
            low_water=low_water,
            on_high_water=on_high_water,
            on_low_water=on_low_water,
        )
        self._environment = acquire(
            self.directory, room_for_addresses(self._admission.max_bytes), durability, LAYOUT
        )
        self._journal = Journal(self._environment, coalesce=coalesce, clock=clock)
        self._resident = Resident(self._environment, self._journal)
        self._committer = Committer(
            self._environment,
            self._journal,
            gather=seconds(gather),
            window=int(seconds(window) * 1e9),
            coalesce=coalesce,
            committed=self._committed,
            logs=self._logs,
        )
        with ExitStack() as undo:
            undo.callback(release, self._environment)
            self._owner = Owner(self.directory)
            undo.callback(self._owner.close)
            self._environment.write(self._begin, buffers=False)
            self.dead_letters = DeadLetters(self)
            self._drain = Drain(
                self,
                workers=workers,
                concurrency=concurrency,
                batch_size=batch_size,
                batch_delay=self._level.delays(batch_delay),
                lease=seconds(lease),
                ageing=seconds(ageing),
            )
            if target is not None:
                self._drain.bind(target)
            undo.pop_all()
        start_afresh_after_forks(self)
        close_at_exit(self)
        self._drain.wake()

    @property
    def has_target(self) -> bool:
        """Whether this object brings writes out."""
        return self._drain.has_target

    @property
    def writes_through(self) -> bool:
        """Whether who puts calls the target when the queue is full."""
        return self._admission.on_full == "write_through"

    def bind(
        self,
        target: Origin[Any, Any] | Handler,
        *,
        on_dead: Callable[[DeadLetter], object] | None = None,
    ) -> None:
        """Bring the writes to this target from now on; ``on_dead`` is told of dead letters too.

        Raises:
            ConfigurationError: there is one already, or it takes no writes.
        """
        self._drain.bind(target)
        if on_dead is not None:
            self._on_dead += (on_dead,)
        self._drain.wake()

    # -- taking writes ----------------------------------------------------------------------

    def put(
        self, key: Any, value: Any, *, level: str | None = None, timeout: Duration | None = None
    ) -> None:
        """Take a value; returns when it is stored, or accepted with ``wait=False``.

        Raises:
            KeyEncodingError, EncodeError: the key or value cannot be stored; nothing was taken.
            QueueFullError: there is no room within ``timeout``, by default ``block``.
            DiskError: the disk failed; the write was not taken.
            ClosedError: the queue was closed.
        """
        write = self._encoding.pack(key, value, self._level.of(key, level))
        self._admission.take(write, key, value, self._wait, timeout)

    def put_nowait(self, key: Any, value: Any, *, level: str | None = None) -> None:
        """Take a value; returns when it is accepted in memory. Raises as `put`.

        It waits for nothing but the disk, when more than 4 MiB are on their way to it.
        """
        write = self._encoding.pack(key, value, self._level.of(key, level))
        self._admission.take(write, key, value, False, 0.0)

    def accept(self, key: Any, value: Any) -> bool:
        """Take a value if that is done in memory at once: with ``wait=False``, and room for it."""
        if self._wait or self._closed:
            return False
        try:
            write = self._encoding.pack(key, value, self._level.of(key, None))
        except Exception:  # `put` tells
            return False
        return self._admission.accept(write)

    async def aput(self, key: Any, value: Any, *, level: str | None = None) -> None:
        """Twin of `put`; waits without blocking the event loop."""
        write = self._encoding.pack(key, value, self._level.of(key, level))
        await self._admission.atake(write, key, value, self._wait)

    def delete(self, key: Any, *, level: str | None = None) -> None:
        """Take a delete; as `put`."""
        write = self._encoding.pack(key, None, self._level.of(key, level), True)
        self._admission.take(write, key, None, self._wait, None)

    async def adelete(self, key: Any, *, level: str | None = None) -> None:
        """Twin of `delete`."""
        write = self._encoding.pack(key, None, self._level.of(key, level), True)
        await self._admission.atake(write, key, None, self._wait)

    def pending(self, key: Any) -> Operation | None:
        """The newest write of the key that the target may not have yet. O(log n)."""
        form = encode_key(key)
        committer = self._committer
        if committer.waiting or committer.committing:
            with committer.lock:
                write = committer.newest(form)
            if write is not None:
                return self._encoding.operation(key, write)
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            found = self._journal.last_of(txn, form)
        return None if found is None else self._encoding.operation(key, found)

    # -- bringing them out by hand ----------------------------------------------------------

    def take(self, most: int = 100, *, done: Sequence[Delivery] = ()) -> list[Delivery]:
        """Claim up to so many writes; `ack` or `nack` each before its lease is over.

        Those ``done`` are acknowledged in the same commit.
        """
        return self._drain.take(most, done)

    def ack(self, deliveries: Sequence[Delivery]) -> int:
        """The target has them; returns how many of the claims were still ours. One commit."""
        return self._drain.settle(deliveries)

    def nack(self, deliveries: Sequence[Delivery], error: Exception) -> None:
        """They failed; they are tried again as `Redelivery` says, or die."""
        self._drain.settle(verdicts=[self._drain.verdict(one, error) for one in deliveries])

    async def work(self, tasks: int = 1, *, patience: Duration = 5.0) -> None:
        """Bring writes to the target in tasks of this event loop, of a queue with ``workers=0``.

        A target may be a coroutine function then. It ends when it is cancelled, as by a loop that
        is about to close, or the queue is closed: after what is ready was brought out, or so many
        seconds; the rest stays on disk.

        Raises:
            ConfigurationError: there is no target, or threads bring writes to it.
        """
        from hybridcore.write_queue.tasks import Tasks

        if type(tasks) is not int or tasks < 1:
            raise ConfigurationError(
                f"tasks is expected to be a whole number of at least 1, got {tasks!r}"
            )
        self._drain.require_tasks()
        await Tasks(self._drain, tasks, seconds(patience)).run()

    # -- waiting ----------------------------------------------------------------------------

    def sync(self, timeout: Duration | None = None) -> bool:
        """Wait until the writes taken so far are stored; False if it takes longer.

        Raises:
            DiskError: the disk failed. What `put_nowait` took is tried again.
        """
        committer = self._committer
        with committer.lock:
            stored = committer.storing()
        with making_room():
            return committer.wait_for(stored, None if timeout is None else seconds(timeout))

    def flush(self, timeout: Duration | None = None) -> bool:
        """Wait until the target has the writes taken so far, or they died; False if too late."""
        if self._drain.is_here() or on_background_loop():
            return False
        deadline = None if timeout is None else monotonic() + seconds(timeout)
        if not self.sync(timeout):
            return False
        limit = self._look().next
        with making_room(), self._drain.hurrying():
            return self._drain.wait_until(lambda: self._is_applied(limit), deadline)

    def join(self) -> None:
        """Wait until the target has all that was taken so far, or it died."""
        self.flush()

    async def aflush(self, timeout: Duration | None = None) -> bool:
        """Twin of `flush`."""
        return await run_in_thread(self.flush, timeout)

    def close(self, timeout: Duration | None = 5.0) -> bool:
        """Take no more, bring out what can be in so many seconds, leave the rest on disk.

        Returns whether nothing was left. Harmless when called twice.
        """
        if self._closed:
            return not self._tally.depth
        self._closed = True
        deadline = None if timeout is None else monotonic() + seconds(timeout)
        drained = self._drain.close(deadline)
        left = None if deadline is None else max(0.1, deadline - monotonic())
        stored = self._committer.close(left)
        if drained:  # otherwise what is under way stays claimed until its lease is over
            self._owner.close()
        release(self._environment)
        return drained and stored and not self._tally.depth

    async def aclose(self, timeout: Duration | None = 5.0) -> bool:
        """Twin of `close`."""
        return await run_in_thread(self.close, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- looking ----------------------------------------------------------------------------

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, the most urgent first."""
        return self._level.names

    def stats(self) -> DurableQueueStats:
        """A snapshot: what this object counted, and what the directory holds."""
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            tally = self._journal.tally(txn)
            claimed = txn.stat(self._journal.claims)["entries"]
            delayed = txn.stat(self._journal.delayed)["entries"]
            ages = [
                (self._journal.age_of(txn, level, tally) or 0) / 1e9
                for level in range(len(self._level.names))
            ]
        counts = self._counts
        return DurableQueueStats(
            levels={
                name: LevelStats(tally.items(level), tally.sizes(level), ages[level])
                for level, name in enumerate(self._level.names)
            },
            buffered=len(self._committer.waiting) + len(self._committer.committing),
            running=claimed,
            delayed=delayed,
            dead=tally.dead,
            dead_bytes=tally.dead_bytes,
            queued=counts["queued"] + self._committer.taken,
            coalesced=self._committer.coalesced + counts["superseded"],
            written=counts["applied"],
            attempts=counts["attempts"],
            retries=counts["delayed"],
            died=counts["dead"],
            lost_leases=counts["lost"],
            taken_back=counts["taken_back"],
            rejected=counts["rejected"],
            shed=counts["shed"],
            batches=counts["batches"],
            commits=self._committer.commits,
            queued_per_second=self._until_durable.snapshot(60).rate,
            written_per_second=self._until_applied.snapshot(60).rate,
            until_durable=self._until_durable.snapshot(),
            until_applied=self._until_applied.snapshot(),
            compression=self._encoding.stats(),
        )

    def taken_ever(self) -> int:
        """How many writes the directory ever got, of all processes, dead letters replayed too."""
        return self._look().next - 1

    def __repr__(self) -> str:
        return f"WriteQueue({str(self.directory)!r})"

    # -- inside -----------------------------------------------------------------------------

    def start_afresh(self) -> None:
        """After a fork: what had gathered is the parent's, and so is what it claimed."""
        self._owner.close(forked=True)
        self._logs.start_afresh()
        self._committer.start_afresh()
        self._drain.start_afresh()
        if not self._closed:
            self._owner = Owner(self.directory)

    def _begin(self, txn: Any) -> None:
        self._journal.bind(self._environment.current())
        self._level.use(self._journal.levels(txn, self._level.names))
        self._journal.start(txn)
        self._identity = self._journal.identity(txn)
        self._admission.note(self._journal.tally(txn))

    def _look(self) -> Tally:
        """What there is now, after what other processes made of it too."""
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            return self._journal.tally(txn)

    def _committed(self, tally: Tally, writes: list[Write], buried: list[int]) -> None:
        """What there is after a commit; in the thread that commits."""
        moved = self._committer.committing_bytes + max(0, self._tally.size - tally.size)
        self._admission.note(tally)
        if writes:
            record_ages(self._until_durable, [write.since for write in writes], self._clock())
        if tally.depth:
            self._drain.wake(len(writes) > 0)
        else:
            self._drain.told()
        if buried:
            self._drain.call(self.dead_letters.came, buried)
        self._admission.committed(tally)
        self._resident.moved(moved)

    def _is_applied(self, limit: int) -> bool:
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            oldest = self._journal.oldest(txn)
        return (oldest is None or oldest >= limit) and self._drain.is_past(limit)
