"""Who may put into a durable queue: its bounds, and what becomes of a write when it is full."""

from __future__ import annotations

from contextlib import nullcontext
from math import inf
from threading import TIMEOUT_MAX
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Literal, get_args

from hybridcore.errors import ClosedError, ConfigurationError, QueueFullError
from hybridcore.origins.threads import making_room, on_background_loop, run_in_thread
from hybridcore.units import Duration, Size, seconds, size_in_bytes
from hybridcore.write_queue.drain import POLL

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native.writes import Tally, Write
    from hybridcore.write_queue.committer import Round
    from hybridcore.write_queue.durable import WriteQueue

OnFull = Literal["block", "raise", "shed", "write_through"]
"""What becomes of a write when the queue is full."""

MOST_BUFFERED = 4 << 20
"""Bytes on their way to the disk beyond which producers wait until these are stored."""


class Admission:
    """Lets writes in; see `WriteQueue` for the options."""

    def __init__(
        self,
        queue: WriteQueue,
        *,
        max_items: int,
        max_bytes: Size,
        on_full: OnFull,
        block: Duration,
        high_water: float,
        low_water: float,
        on_high_water: Callable[[WriteQueue], object] | None,
        on_low_water: Callable[[WriteQueue], object] | None,
    ) -> None:
        if type(max_items) is not int or max_items < 1:
            raise ConfigurationError(
                f"max_items is expected to be a whole number of at least 1, got {max_items!r}"
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
        self._queue = queue
        self.max_items = max_items
        self.max_bytes = size_in_bytes(max_bytes)
        self.on_full = on_full
        self._block = min(seconds(block), TIMEOUT_MAX)
        self._marks = (high_water, low_water)
        self._on_marks = (on_high_water, on_low_water)
        self._high = False
        self._room: tuple[float, float] = (inf, inf)

    def take(
        self, write: Write, key: Any, value: Any, wait: bool, timeout: Duration | None
    ) -> None:
        """Have a write stored, and ``wait`` for that; for room up to ``timeout``."""
        committer = self._queue._committer
        if committer.waiting_bytes > MOST_BUFFERED:
            committer.wait_for(committer.storing())
        write.mono = write.since = self._queue._clock()
        write.wall, write.waited = time_ns(), wait
        stored: Round | None = None
        try:
            with committer.lock:
                has_room = self._has_room(write)
                leads = has_room and wait and committer.take_lead()
                if has_room and not leads:
                    stored = committer.add(write)
            if leads:
                committer.store_alone(write)
                return
        except BaseException:
            committer.forsake()
            raise
        if stored is None:
            block = self._block if timeout is None else seconds(timeout)
            stored = self._take_when_full(write, key, value, block)
        if write.waited and stored is not None:
            committer.wait_for(stored)

    def accept(self, write: Write) -> bool:
        """Take a write if nobody has to wait for that."""
        committer = self._queue._committer
        if committer.waiting_bytes > MOST_BUFFERED:
            return False
        write.mono = write.since = self._queue._clock()
        write.wall = time_ns()
        with committer.lock:
            if not self._has_room(write):
                return False
            stored = committer.add(write)
        if write.waited:  # no thread could be started
            committer.wait_for(stored)
        return True

    async def atake(self, write: Write, key: Any, value: Any, wait: bool) -> None:
        """Twin of `take`."""
        committer = self._queue._committer
        if committer.waiting_bytes > MOST_BUFFERED:
            await committer.await_for(committer.storing())
        write.mono = write.since = self._queue._clock()
        write.wall, write.waited = time_ns(), wait
        with committer.lock:
            stored = committer.add(write) if self._has_room(write) else None
        if stored is None:
            await run_in_thread(self.take, write, key, value, wait, None)
        elif write.waited:
            await committer.await_for(stored)

    def _has_room(self, write: Write) -> bool:
        committer = self._queue._committer
        room_for_items, room_for_bytes = self._room
        return (
            len(committer.waiting) + len(committer.committing) < room_for_items
            and committer.waiting_bytes + committer.committing_bytes + write.size <= room_for_bytes
        )

    def _take_when_full(self, write: Write, key: Any, value: Any, block: float) -> Round | None:
        """Take a write as ``on_full`` says; None when it was written through."""
        queue, committer = self._queue, self._queue._committer
        blocks = (
            self.on_full == "block"
            and block > 0
            and write.size <= self.max_bytes
            and not queue._drain.is_here()
            and not on_background_loop()
        )
        deadline = monotonic() + block
        with making_room() if blocks else nullcontext():
            while not queue._closed:
                self.note(queue._look())
                with committer.lock:
                    if self._has_room(write):
                        return committer.add(write)
                    left = deadline - monotonic()
                    if not blocks or left <= 0:
                        break
                    committer.wait_for_change(min(left, POLL))
        if queue._closed:
            raise ClosedError("the write queue was closed and takes no writes")
        if self.on_full != "write_through":
            raise self._full(write)
        queue._drain.write_through(key, value, deletes=write.deletes)
        return None

    def _full(self, write: Write) -> QueueFullError:
        queue, tally = self._queue, self._queue._tally
        queue._counts["rejected"] += 1
        if write.size > self.max_bytes:
            return QueueFullError(
                f"a write of {write.size} bytes has no room in {str(queue.directory)!r} even when "
                f"that is empty: max_bytes={self.max_bytes}. Raise that, or store less at once"
            )
        return QueueFullError(
            f"{tally.depth} writes of {tally.size} bytes wait in {str(queue.directory)!r}, and "
            f"max_items={self.max_items}, max_bytes={self.max_bytes}: its target fails or is slow. "
            "Try again later, raise the bounds, or choose another on_full"
        )

    def note(self, tally: Tally) -> None:
        """There is as much now."""
        self._queue._tally = tally
        if self.on_full != "shed":
            self._room = (self.max_items - tally.depth, self.max_bytes - tally.size)

    def committed(self, tally: Tally) -> None:
        """Shed what is too much, and tell when a water mark was crossed."""
        if self.on_full == "shed" and (tally.depth > self.max_items or tally.size > self.max_bytes):
            self._queue._drain.shed(self.max_items, self.max_bytes)
        share = max(tally.depth / self.max_items, tally.size / self.max_bytes)
        high, low = self._marks
        told = None
        if not self._high and share >= high:
            self._high, told = True, self._on_marks[0]
        elif self._high and share <= low:
            self._high, told = False, self._on_marks[1]
        if told is not None:
            self._queue._drain.call(told, self._queue)
