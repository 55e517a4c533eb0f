"""`WriteQueue`: writes that survive the process, on their way to a target that may be down."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import nullcontext
from math import inf
from pathlib import Path
from threading import TIMEOUT_MAX
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Literal, get_args

from hybridcore.disk.durability import checked as checked_durability
from hybridcore.disk.keys import decode_key, encode_key
from hybridcore.disk.sharing import acquire, release
from hybridcore.errors import ClosedError, ConfigurationError, DecodeError, QueueFullError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import RateLimitedLog
from hybridcore.origins.threads import making_room, on_background_loop, run_in_thread
from hybridcore.stats import DurableQueueStats, LevelStats
from hybridcore.units import Duration, Size, seconds, size_in_bytes
from hybridcore.write_queue.base import Operation
from hybridcore.write_queue.committer import Committer, Round, room_for_addresses
from hybridcore.write_queue.dead_letters import DeadLetters
from hybridcore.write_queue.drain import POLL, Drain
from hybridcore.write_queue.exits import close_at_exit
from hybridcore.write_queue.journal import LAYOUT, Journal
from hybridcore.write_queue.owners import Owner
from hybridcore.write_queue.records import MOST_LEVELS, Tally, Verdict, Write
from hybridcore.write_queue.redelivery import Redelivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from typing_extensions import Self

    from hybridcore.codec import Codecs, Compression
    from hybridcore.disk.durability import Durability
    from hybridcore.origins import Origin
    from hybridcore.write_queue.dead_letters import DeadLetter
    from hybridcore.write_queue.delivery import Delivery, Handler

OnFull = Literal["block", "raise", "shed", "write_through"]
"""What becomes of a write when the queue is full."""

LEVELS = ("urgent", "normal", "low")
MOST_BUFFERED = 16 << 20
"""Bytes on their way to the disk beyond which producers wait until these are stored."""


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
        workers: threads that bring out batches; ``concurrency`` calls at a time of an origin that
            takes one value at a time.
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
        from hybridcore.codec import Codecs, Decompressor

        self._levels = _checked_levels(levels)
        for name, number in (
            ("max_items", max_items),
            ("batch_size", batch_size),
            ("workers", workers),
            ("concurrency", concurrency),
        ):
            if type(number) is not int or number < 1:
                raise ConfigurationError(
                    f"{name} is expected to be a whole number of at least 1, got {number!r}"
                )
        if on_full not in get_args(OnFull):
            raise ConfigurationError(
                f"on_full is expected to be one of {', '.join(get_args(OnFull))}, got {on_full!r}"
            )
        if not 0 < low_water <= high_water <= 1:
            raise ConfigurationError(
                "0 < low_water <= high_water <= 1 is expected, "
                f"got {low_water!r} and {high_water!r}"
            )
        if durability not in ("process", "power"):
            checked_durability(durability)
            raise ConfigurationError(
                "a queue that loses its writes with the process is MemoryQueue; durability is "
                f"expected to be 'process' or 'power', got {durability!r}"
            )
        self.directory = Path(directory)
        self.redelivery = redelivery or Redelivery()
        self._level_of = level_of
        self._coalesce = coalesce
        self._wait = wait
        self._max_items = max_items
        self._max_bytes = size_in_bytes(max_bytes)
        self._on_full = on_full
        self._block = min(seconds(block), TIMEOUT_MAX)
        self._marks = (high_water, low_water)
        self._on_marks = (on_high_water, on_low_water)
        self._high = False
        self._codecs = codecs or Codecs()
        self._compression = compression
        self._decompress = (compression or Decompressor()).decompress
        self._clock = clock
        self._on_dead: tuple[Callable[[DeadLetter], object], ...] = (
            () if on_dead is None else (on_dead,)
        )
        self._retention = (seconds(keep_dead), size_in_bytes(max_dead_bytes))
        self._logs = logs or RateLimitedLog(logging.getLogger("hybridcore"))
        self._counts: Counter[str] = Counter()
        self._tally = Tally.none()
        self._room: tuple[float, float] = (inf, inf)
        self._closed = False
        self._environment = acquire(
            self.directory, room_for_addresses(self._max_bytes), durability, LAYOUT
        )
        self._journal = Journal(self._environment, coalesce=coalesce, clock=clock)
        self._committer = Committer(
            self._environment,
            self._journal,
            gather=seconds(gather),
            window=int(seconds(window) * 1e9),
            coalesce=coalesce,
            committed=self._committed,
            logs=self._logs,
        )
        try:
            self._owner = Owner(self.directory)
            self._environment.write(self._begin, buffers=False)
            self.dead_letters = DeadLetters(self)
            self._drain = Drain(
                self,
                workers=workers,
                concurrency=concurrency,
                batch_size=batch_size,
                batch_delay=_delays(batch_delay, self._levels),
                lease=seconds(lease),
                ageing=seconds(ageing),
            )
        except BaseException:
            release(self._environment)
            raise
        start_afresh_after_forks(self)
        close_at_exit(self)
        if target is not None:
            self.bind(target)

    @property
    def has_target(self) -> bool:
        """Whether this object brings writes out."""
        return self._drain.has_target

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
        if self._tally.depth:
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
        self._take(self._packed(key, value, level), key, value, self._wait, timeout)

    def put_nowait(self, key: Any, value: Any, *, level: str | None = None) -> None:
        """Take a value; returns when it is accepted in memory. Raises as `put`.

        It waits for nothing but the disk, when more than 16 MiB are on their way to it.
        """
        self._take(self._packed(key, value, level), key, value, False, 0.0)

    def accept(self, key: Any, value: Any) -> bool:
        """Take a value if that is done in memory at once: with ``wait=False``, and room for it."""
        committer = self._committer
        if self._wait or self._closed or committer.waiting_bytes > MOST_BUFFERED:
            return False
        try:
            write = self._packed(key, value, None)
        except Exception:  # `put` tells
            return False
        write.mono, write.wall = self._clock(), time_ns()
        with committer.lock:
            if not self._has_room(write):
                return False
            stored = committer.add(write)
        if write.waited:  # no thread could be started
            committer.wait_for(stored)
        return True

    async def aput(self, key: Any, value: Any, *, level: str | None = None) -> None:
        """Twin of `put`; waits without blocking the event loop."""
        await self._atake(self._packed(key, value, level), key, value)

    def delete(self, key: Any, *, level: str | None = None) -> None:
        """Take a delete; as `put`."""
        self._take(self._packed(key, None, level, deletes=True), key, None, self._wait, None)

    async def adelete(self, key: Any, *, level: str | None = None) -> None:
        """Twin of `delete`."""
        await self._atake(self._packed(key, None, level, deletes=True), key, None)

    def pending(self, key: Any) -> Operation | None:
        """The newest write of the key that the target may not have yet. O(log n)."""
        form = encode_key(key)
        committer = self._committer
        if self._coalesce and (committer.waiting or committer.committing):
            with committer.changed:
                write = committer.waiting.get(form) or committer.committing.get(form)
            if write is not None:
                return self._operation(key, write.deletes, write.codec, write.flags, write.payload)
        elif committer.waiting or committer.committing:
            with committer.changed:
                both = (*committer.committing.values(), *committer.waiting.values())
            for write in reversed(both):
                if write.form == form:
                    return self._operation(
                        key, write.deletes, write.codec, write.flags, write.payload
                    )
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            found = self._journal.last_of(txn, form)
        if found is None:
            return None
        return self._operation(key, found.deletes, found.codec, found.flags, found.payload)

    # -- bringing them out by hand ----------------------------------------------------------

    def take(self, most: int = 100, *, done: Sequence[Delivery] = ()) -> list[Delivery]:
        """Claim up to so many writes; `ack` or `nack` each before its lease is over.

        Those ``done`` are acknowledged in the same commit.
        """
        return self._drain.take(most, _acks(done))

    def ack(self, deliveries: Sequence[Delivery]) -> int:
        """The target has them; returns how many of the claims were still ours. One commit."""
        return self._drain.settle(_acks(deliveries))["applied"]

    def nack(self, deliveries: Sequence[Delivery], error: Exception) -> None:
        """They failed; they are tried again as `Redelivery` says, or die."""
        self._drain.settle([self._drain.verdict(one, error) for one in deliveries])

    # -- waiting ----------------------------------------------------------------------------

    def sync(self, timeout: Duration | None = None) -> bool:
        """Wait until the writes taken so far are stored; False if it takes longer.

        Raises:
            DiskError: the disk failed. What `put_nowait` took is tried again.
        """
        committer = self._committer
        with committer.changed:
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
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            limit = self._journal.next_place(txn)
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
        return self._levels

    def stats(self) -> DurableQueueStats:
        """A snapshot: what this object counted, and what the directory holds."""
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            tally = self._journal.tally(txn)
            claimed = txn.stat(self._journal.claims)["entries"]
            delayed = txn.stat(self._journal.delayed)["entries"]
            ages = [
                (self._journal.age_of(txn, level) or 0) / 1e9 for level in range(len(self._levels))
            ]
        counts = self._counts
        return DurableQueueStats(
            levels={
                name: LevelStats(tally.items[level], tally.sizes[level], ages[level])
                for level, name in enumerate(self._levels)
            },
            buffered=len(self._committer.waiting) + len(self._committer.committing),
            running=claimed,
            delayed=delayed,
            dead=tally.dead,
            dead_bytes=tally.dead_bytes,
            queued=counts["queued"] + self._committer.taken,
            coalesced=counts["coalesced"] + self._committer.coalesced,
            written=counts["applied"],
            attempts=counts["attempts"],
            retries=counts["delayed"],
            died=counts["dead"],
            lost_leases=counts["lost"],
            taken_back=counts["taken_back"],
            rejected=counts["rejected"],
            shed=counts["shed"],
            batches=counts["batches"],
            commits=counts["commits"],
            compression=None if self._compression is None else self._compression.stats(),
        )

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
        self._journal.start(txn)
        self._levels = self._journal.levels(txn, self._levels)
        self._identity = self._journal.identity(txn)
        self._middle = len(self._levels) // 2
        self._note(self._journal.tally(txn))

    def _packed(self, key: Any, value: Any, level: str | None, *, deletes: bool = False) -> Write:
        if level is None and self._level_of is not None:
            level = self._level_of(key)
        number = self._middle if level is None else self._level(level)
        form = encode_key(key)
        if deletes:
            return Write(form, number, 0, 0, b"", True)
        codec, parts = self._codecs.encode(value)
        flags = 0
        if self._compression is not None:
            flags, parts = self._compression.compress(codec, parts)
        payload = parts[0] if len(parts) == 1 else b"".join(parts)
        if type(payload) is not bytes:
            payload = bytes(payload)
        return Write(form, number, codec, flags, payload, False)

    def _level(self, name: str) -> int:
        try:
            return self._levels.index(name)
        except ValueError:
            raise ConfigurationError(
                f"level is expected to be one of {', '.join(self._levels)}, got {name!r}"
            ) from None

    def _take(
        self, write: Write, key: Any, value: Any, wait: bool, timeout: Duration | None
    ) -> None:
        committer = self._committer
        if committer.waiting_bytes > MOST_BUFFERED:
            committer.wait_for(committer.storing())
        write.mono, write.wall, write.waited = self._clock(), time_ns(), wait
        stored: Round | None = None
        with committer.lock:
            if self._has_room(write):
                stored = committer.add(write)
        if stored is None:
            block = self._block if timeout is None else seconds(timeout)
            stored = self._take_when_full(write, key, value, block)
        if write.waited and stored is not None:
            committer.wait_for(stored)

    async def _atake(self, write: Write, key: Any, value: Any) -> None:
        committer = self._committer
        if committer.waiting_bytes > MOST_BUFFERED:
            await committer.await_for(committer.storing())
        write.mono, write.wall, write.waited = self._clock(), time_ns(), self._wait
        with committer.lock:
            stored = committer.add(write) if self._has_room(write) else None
        if stored is None:
            await run_in_thread(self._take, write, key, value, self._wait, None)
        elif write.waited:
            await committer.await_for(stored)

    def _has_room(self, write: Write) -> bool:
        committer = self._committer
        room_for_items, room_for_bytes = self._room
        return (
            len(committer.waiting) + len(committer.committing) < room_for_items
            and committer.waiting_bytes + committer.committing_bytes + write.size <= room_for_bytes
        )

    def _take_when_full(self, write: Write, key: Any, value: Any, block: float) -> Round | None:
        """Take a write as ``on_full`` says; None when it was written through."""
        committer = self._committer
        blocks = (
            self._on_full == "block"
            and block > 0
            and not self._drain.is_here()
            and not on_background_loop()
        )
        deadline = monotonic() + block
        with making_room() if blocks else nullcontext():
            while not self._closed:
                self._look_again()
                with committer.lock:
                    if self._has_room(write):
                        return committer.add(write)
                    left = deadline - monotonic()
                    if not blocks or left <= 0:
                        break
                    committer.changed.wait(min(left, POLL))
        if self._on_full != "write_through" or self._closed:
            raise self._full()
        self._drain.write_through(key, value, deletes=write.deletes)
        return None

    def _look_again(self) -> None:
        """Note what other processes may have made of it since the last commit of this one."""
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            self._note(self._journal.tally(txn))

    def _note(self, tally: Tally) -> None:
        self._tally = tally
        if self._on_full != "shed":
            self._room = (self._max_items - tally.depth, self._max_bytes - tally.size)

    def _full(self) -> Exception:
        if self._closed:
            return ClosedError("the write queue was closed and takes no writes")
        self._counts["rejected"] += 1
        return QueueFullError(
            f"{self._tally.depth} writes of {self._tally.size} bytes wait in "
            f"{str(self.directory)!r}, and max_items={self._max_items}, "
            f"max_bytes={self._max_bytes}: its target fails or is slow. Try again later, raise "
            "the bounds, or choose another on_full"
        )

    def _committed(
        self, tally: Tally, writes: list[Write], coalesced: int, buried: list[int]
    ) -> None:
        """What there is after a commit; in the thread that commits."""
        self._note(tally)
        self._counts["coalesced"] += coalesced
        self._counts["commits"] += 1
        if tally.depth:
            self._drain.wake(len(writes) > 0)
        else:
            self._drain.told()
        if self._on_full == "shed" and (
            tally.depth > self._max_items or tally.size > self._max_bytes
        ):
            self._drain.shed(self._max_items, self._max_bytes)
        if buried:
            self._drain.call(self.dead_letters.came, buried)
        self._tell_water(tally)

    def _tell_water(self, tally: Tally) -> None:
        share = max(tally.depth / self._max_items, tally.size / self._max_bytes)
        high, low = self._marks
        told = None
        if not self._high and share >= high:
            self._high, told = True, self._on_marks[0]
        elif self._high and share <= low:
            self._high, told = False, self._on_marks[1]
        if told is not None:
            self._drain.call(told, self)

    def _operation(
        self, key: Any, deletes: bool, codec: int, flags: int, payload: bytes
    ) -> Operation:
        if deletes:
            return Operation(key, deletes=True)
        return Operation(key, self._value(codec, flags, payload))

    def _value(self, codec: int, flags: int, payload: bytes) -> Any:
        raw = self._decompress(flags, payload) if flags else payload
        return self._codecs.decode(codec, raw)

    def _key(self, form: bytes) -> Any:
        try:
            return decode_key(form)
        except (ValueError, IndexError) as error:
            raise DecodeError(f"no key has the form {form[:32]!r}") from error

    def _is_applied(self, limit: int) -> bool:
        with self._environment.reading(buffers=False) as txn:
            self._journal.bind(self._environment.current())
            oldest = self._journal.oldest(txn)
        return (oldest is None or oldest >= limit) and self._drain.is_past(limit)


def _acks(deliveries: Sequence[Delivery]) -> list[Verdict]:
    return [Verdict(one.place, one.number, one.attempt) for one in deliveries]


def _checked_levels(levels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(levels)
    if (
        isinstance(levels, str)
        or not 1 <= len(names) <= MOST_LEVELS
        or len(set(names)) != len(names)
        or not all(isinstance(name, str) and name and "\n" not in name for name in names)
    ):
        raise ConfigurationError(
            f"levels is expected to be 1 to {MOST_LEVELS} different names, got {levels!r}"
        )
    return names


def _delays(delay: Duration | dict[str, Duration], levels: tuple[str, ...]) -> list[int]:
    """The delay of each level, ns."""
    if not isinstance(delay, dict):
        return [0] + [int(seconds(delay) * 1e9)] * (len(levels) - 1)
    unknown = set(delay) - set(levels)
    if unknown:
        raise ConfigurationError(
            f"batch_delay is expected to be of the levels {', '.join(levels)}, got {unknown}"
        )
    return [int(seconds(delay.get(level, 0.0)) * 1e9) for level in levels]
