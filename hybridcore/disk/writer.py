"""How records reach the disk: writes that meet share a commit, and make room for themselves."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from hybridcore._native.ledger import store_where_room_is
from hybridcore.disk.environment import MapFullError
from hybridcore.disk.eviction import NOTHING
from hybridcore.disk.ledger import Ledger
from hybridcore.errors import DiskError, ValueTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import lmdb

    from hybridcore._native.record import Packed
    from hybridcore.disk.environment import Environment
    from hybridcore.disk.eviction import Removed, Victims

T = TypeVar("T")

_GROUP_BYTES = 1 << 20
"""Records of several writers are committed together up to so many bytes."""
_EVICT_GROWTH, _DELETE_GROWTH = 0.5, 1.0
"""Shares of the map that eviction and deletes may add to it when it is full."""
_PINNED = 16
"""A reader so many transactions behind is not passing through: it holds old pages."""


@dataclass(slots=True)
class Counts:
    """What a writer did so far."""

    puts: int = 0
    written_bytes: int = 0
    commits: int = 0
    deletes: int = 0
    evicted: int = 0
    evicted_bytes: int = 0
    expired: int = 0


@dataclass(eq=False, slots=True)
class Batch:
    """Records that are stored together or not at all, waiting for a commit."""

    records: list[Packed]
    size: int
    done: bool = False
    error: BaseException | None = None


class Writer:
    """Writes to a directory that holds at most ``max_bytes`` whenever a call has returned."""

    def __init__(
        self,
        environment: Environment,
        max_bytes: int,
        victims: Victims,
        clock: Callable[[], int],
    ) -> None:
        self.counts = Counts()
        self.on_removed: Callable[[int, int], object] | None = None
        """Called with how many records a transaction evicted, and how many had expired."""
        self._environment = environment
        self._max_bytes = max_bytes
        self._low_water = max_bytes - max_bytes // 50
        self._victims = victims
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Ledger | None = None
        """The books that were settled last."""

    def store(self, records: list[Packed]) -> None:
        """Write the records, all or none, perhaps in one commit with those of other threads.

        Raises:
            ValueTooLargeError: together they are larger than ``max_bytes``.
            DiskError: the disk failed or is full; nothing was changed.
        """
        environment = self._environment
        turn = environment.turn
        if not environment.waiting and turn.acquire(blocking=False):
            try:
                self._commit(records)
            finally:
                turn.release()
            return
        batch = Batch(records, self._size(records))
        environment.waiting.append(batch)
        with turn:
            if not batch.done:
                self._commit_waiting()
        if batch.error is not None:
            raise batch.error

    def change(self, work: Callable[[Ledger], T], *, size: int = 0, puts: int = 0) -> T:
        """Run ``work`` in one write transaction and return what it returns.

        Work that stores tells how many bytes, at most, and ``puts`` is how many records count.

        Raises:
            DiskError: the disk failed or is full; nothing was changed.
        """
        environment = self._environment
        marks = environment.marks

        def run(txn: lmdb.Transaction[memoryview]) -> tuple[T, Removed, int, Ledger]:
            ledger = Ledger(environment, txn, self._known)
            newest = ledger.version
            result = work(ledger)
            removed = self._make_room(ledger, self._max_bytes, newest)  # deletes split pages too
            marks.make_room_for(ledger.entries)
            ledger.settle()
            return result, removed, newest, ledger

        if size:
            result, removed, newest, ledger = self._write_with_room(run, size)
        else:
            result, removed, newest, ledger = self._free(run, _DELETE_GROWTH)
        self._known = ledger
        marks.wrote(ledger.version, ledger.entries, full=False)
        self.count(puts, size if puts else 0, 1, removed=removed)
        if not removed.done:
            self._evict_down_to(self._max_bytes, newest)
        return result

    def delete(self, keys: Iterable[bytes]) -> int:
        """Delete the records under these LMDB keys; return how many there were."""
        deleted = self.change(lambda ledger: sum([ledger.remove(key) for key in keys]))
        self.count(deletes=deleted)
        return deleted

    def evict(self, count: int) -> int:
        """Evict up to ``count`` records, those worth least first; return how many there were."""
        left = count
        while left > 0:
            removed = self.change(partial(self._victims.evict, count=left))
            self.count(removed=removed)
            left -= removed.evicted
            if removed.done:
                break
        return count - left

    def expire(self) -> int:
        """Delete all records that have expired; return how many there were."""
        expired = 0
        done = False
        while not done:
            removed = self.change(partial(self._victims.expire, now=self._clock()))
            self.count(removed=removed)
            expired += removed.expired
            done = removed.done
        return expired

    def count(
        self,
        puts: int = 0,
        written_bytes: int = 0,
        commits: int = 0,
        *,
        deletes: int = 0,
        removed: Removed | None = None,
    ) -> None:
        """Add to the counts."""
        with self._lock:
            counts = self.counts
            counts.puts += puts
            counts.written_bytes += written_bytes
            counts.commits += commits
            counts.deletes += deletes
            if removed is not None and removed is not NOTHING:
                counts.evicted += removed.evicted
                counts.evicted_bytes += removed.evicted_bytes
                counts.expired += removed.expired
        if removed is not None and self.on_removed is not None:
            self.on_removed(removed.evicted, removed.expired)

    # -- commits --------------------------------------------------------------------------

    def _commit_waiting(self) -> None:
        """Commit the batches that wait, of all threads; whoever calls has the turn."""
        waiting = self._environment.waiting
        group = [waiting.popleft()]
        size = group[0].size
        while waiting and size + waiting[0].size <= _GROUP_BYTES:
            group.append(waiting.popleft())
            size += group[-1].size
        try:
            if len(group) > 1:
                try:
                    self._commit([packed for batch in group for packed in batch.records])
                except DiskError:
                    pass  # each for itself: what fails one need not fail the others
                else:
                    for batch in group:
                        batch.done = True
                    return
            for batch in group:
                try:
                    self._commit(batch.records)
                except Exception as error:
                    batch.error = error
                batch.done = True
        finally:  # interrupted: who waits for the rest has the next turn
            waiting.extendleft([batch for batch in reversed(group) if not batch.done])

    def _commit(self, records: list[Packed]) -> None:
        ledger = store_where_room_is(
            Ledger, self._environment, self._known, records, self._max_bytes
        )
        if ledger is None:
            self.change(
                lambda ledger: ledger.store_all(records),
                size=self._size(records),
                puts=len(records),
            )
            return
        self._known = ledger
        environment = self._environment
        environment.marks.wrote(ledger.version, ledger.entries, False)
        with self._lock:
            counts = self.counts
            counts.puts += len(records)
            counts.written_bytes += ledger.written_bytes
            counts.commits += 1

    def _size(self, records: list[Packed]) -> int:
        size = sum([len(packed.record) for packed in records])
        if size > self._max_bytes:
            raise ValueTooLargeError(
                f"put_many was given {size} bytes, more than max_bytes={self._max_bytes}: "
                "it would evict its own entries. Put fewer at a time"
            )
        return size

    def _write_with_room(self, run: Callable[[lmdb.Transaction[memoryview]], T], size: int) -> T:
        """Write; when the map is full, evict and try again."""
        environment = self._environment
        for allowed in (max(0, self._low_water - 2 * size), 0):
            try:
                return environment.write(run)
            except MapFullError:
                self._refuse_if_pinned()
                self._evict_down_to(allowed, sys.maxsize)
                for _ in range(2):  # LMDB uses pages again two commits after they were freed
                    self._free(self._commit_something, _EVICT_GROWTH)
        return self._free(run, _EVICT_GROWTH)

    def _free(self, run: Callable[[lmdb.Transaction[memoryview]], T], growth: float) -> T:
        """Write what frees space, in a map that may grow for it by that share."""
        try:
            return self._environment.write(run, growth=growth)
        except MapFullError:
            self._refuse_if_pinned(1)
            raise

    def _commit_something(self, txn: lmdb.Transaction[memoryview]) -> None:
        Ledger(self._environment, txn).settle(anyway=True)

    def _refuse_if_pinned(self, behind: int = _PINNED) -> None:
        """Fail if somebody has been reading for more than so many transactions."""
        process = self._environment.pinned_by(behind)
        if process is not None:
            raise DiskError(
                f"{str(self._environment.directory)!r} is full: process {process} has been "
                "reading it for long and holds pages that could be reused. End that process's "
                "read transaction"
            )

    def _evict_down_to(self, allowed: int, newest: int) -> None:
        """Evict in transactions of their own until no more than that is used."""

        def run(txn: lmdb.Transaction[memoryview]) -> Removed:
            ledger = Ledger(self._environment, txn)
            removed = self._make_room(ledger, allowed, min(newest, ledger.version))
            ledger.settle()
            return removed

        done = False
        while not done:
            removed = self._free(run, _EVICT_GROWTH)
            self.count(removed=removed)
            done = removed.done

    def _make_room(self, ledger: Ledger, allowed: int, newest: int) -> Removed:
        """Evict some if more than ``allowed`` is used, but nothing newer than that version."""
        if not ledger.uses_more_than(allowed):
            return NOTHING
        target = min(allowed, self._low_water)
        return self._victims.make_room(ledger, allowed, target, newest, self._clock())
