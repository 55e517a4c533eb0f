"""The disk tier as the engine sees it: its failures are counted and made up for, never raised."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.errors import (
    ClosedError,
    DiskError,
    EncodeError,
    KeyEncodingError,
    ValueTooLargeError,
)
from hybridcore.events import EventBus, EventKind
from hybridcore.logs import RateLimitedLog
from hybridcore.types import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybridcore.disk import Lmdb, Record
    from hybridcore.invalidation.coherence import Change

log = logging.getLogger("hybridcore")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 30.0
"""Seconds for which a disk that failed is left alone; doubled with every failure in a row."""
_MOST_MISSED = 10_000
"""Writes that are remembered. When more were missed the disk is emptied instead."""


class _Put(NamedTuple):
    value: Any
    until: float | None
    """When it stops being fresh, on the clock of this process; None: never."""
    options: dict[str, Any]
    offered: bool


class RecoveringDisk:
    """An `Lmdb` that may fail.

    While it does, it holds nothing: lookups find nothing and are not even tried for a while. The
    writes and deletes that it missed are remembered, the newest of each key, and made up for in
    their order when it works again. Until then no older copy of these keys is read. ``errors``
    counts its failures.
    """

    def __init__(
        self, disk: Lmdb[Any, Any], events: EventBus, clock: Callable[[], float] = monotonic
    ) -> None:
        self.disk = disk
        self._events = events
        self.errors = 0
        self._clock = clock
        self._outages = RateLimitedLog(log, clock=clock)
        self._lock = threading.RLock()
        self.owed: dict[Any, _Put | Change | None] = {}
        """Writes that it has yet to take, oldest first; of deletes what else they do."""
        self._lost = False
        self._pause = 0.0
        self._retry_at = 0.0
        self.failing: list[str] = []
        """Why it does not work, the last failure alone; empty: it does."""
        self._since = clock()

    @property
    def _reason(self) -> str | None:
        return self.failing[0] if self.failing else None

    @property
    def is_down(self) -> bool:
        """Whether its last use failed."""
        return bool(self.failing)

    @property
    def missed(self) -> int:
        """Writes that it has yet to take."""
        return len(self.owed)

    def outage(self) -> tuple[str, float] | None:
        """What its last use failed with, and for how many seconds it has been so."""
        reason = self._reason
        return None if reason is None else (reason, self._clock() - self._since)

    def fetch_many(self, keys: Iterable[Any]) -> dict[Any, Record]:
        """What is there, fresh or stale."""
        if not self._ready():
            return {}
        wanted: Iterable[Any] = keys
        if self.owed:
            wanted = [key for key in keys if key not in self.owed]
        try:
            records = self.disk.fetch_many(wanted)
        except DiskError as error:
            self._fail(error)
            return {}
        self._worked()
        return records

    def lease(self, key: Any, seconds: float) -> int:
        """Who else is loading the key; 0: nobody, so this process may."""
        return 0 if self.failing else self.disk.lease(key, seconds)

    def release(self, key: Any) -> None:
        """The load of a key has ended."""
        self.disk.release(key)

    def contains(self, key: Any) -> bool:
        """Whether it holds a fresh entry."""
        if not self._ready() or key in self.owed:
            return False
        try:
            return key in self.disk
        except DiskError as error:
            self._fail(error)
            return False

    def put(
        self,
        key: Any,
        value: Any,
        *,
        offered: bool = False,
        change: Change | None = None,
        **options: Any,
    ) -> None:
        """Store a value, now or when the disk works again; one that is offered may be refused.

        Raises:
            KeyEncodingError, EncodeError, ValueTooLargeError: it can never be stored.
        """
        if self._ready():
            try:
                store = self.disk.offer if offered else self.disk.put
                store(key, value, change=change, **options)
                if change is not None:
                    change.announce()
            except DiskError as error:
                self._fail(error)
            else:
                self._worked()
                if self.owed:
                    self.owed.pop(key, None)
                return
        ttl = options.get("ttl")
        until = None if ttl is None else self._clock() + ttl
        self._miss(key, _Put(value, until, {**options, "change": change}, offered))

    def delete(self, key: Any, change: Change | None = None) -> bool:
        """Delete an entry, now or when the disk works again; return whether it was there."""
        if self._ready():
            try:
                there = self.disk.delete(key, change=change)
                if change is not None:
                    change.announce()
            except DiskError as error:
                self._fail(error)
            else:
                self._worked()
                if self.owed:
                    there = isinstance(self.owed.pop(key, None), _Put) or there
                return there
        there = isinstance(self.owed.get(key), _Put)
        self._miss(key, change)
        return there

    def outdate(self, key: Any, change: Change | None) -> None:
        """Let an entry be stale; a disk that fails forgets it when it works again."""
        if self._ready():
            try:
                self.disk.outdate(key, change=change)
                if change is not None:
                    change.announce()
            except DiskError as error:
                self._fail(error)
            else:
                self._worked()
                return
        self._miss(key, change)

    def put_off(self, key: Any, ttl: float) -> None:
        """Let a fresh entry be fresh for so long from now on; nothing is made up for."""
        if self._ready():
            try:
                self.disk.put_off(key, ttl)
            except DiskError as error:
                self._fail(error)
            else:
                self._worked()

    def clear(self) -> None:
        """Delete everything, now or when the disk works again."""
        with self._lock:
            self.owed.clear()
            if self._ready():
                try:
                    self.disk.clear()
                except DiskError as error:
                    self._fail(error)
                else:
                    self._worked()
                    return
            self._lost = True

    def delete_from(self, prefix: tuple[Any, ...]) -> None:
        """Delete what begins so; if the disk fails, all is deleted when it works again."""
        with self._lock:
            if self._ready():
                try:
                    self.disk.delete_from(prefix)
                except DiskError as error:
                    self._fail(error)
                else:
                    self._worked()
                    return
            self.owed.clear()
            self._lost = True

    def close(self) -> None:
        """Make up for what was missed if the disk works now, and close it."""
        try:
            if self.owed or self._lost:
                self._retry_at = 0.0
                self._ready()
        except ClosedError:
            pass
        finally:
            self.disk.close()

    def _ready(self) -> bool:
        """Whether the disk is worth a try; makes up for what it missed first."""
        if not self.failing:
            return True
        if self._clock() < self._retry_at:
            return False
        with self._lock:
            try:
                if self._lost:
                    self.disk.clear()
                    self._lost = False
                while self.owed:
                    key = next(iter(self.owed))
                    self._make_up(key, self.owed[key])
                    del self.owed[key]
            except DiskError as error:
                self._fail(error)
                return False
        return True

    def _make_up(self, key: Any, missed: _Put | Change | None) -> None:
        put = missed if isinstance(missed, _Put) else None
        change = missed if not isinstance(missed, _Put) else missed.options.get("change")
        options = {} if put is None else dict(put.options)
        options.pop("if_version", None)  # it was of that version when it was written
        if put is not None and put.until is not None:
            options["ttl"] = put.until - self._clock()
        try:
            if put is None or (put.until is not None and options["ttl"] <= 0):
                self.disk.delete(key, change=change)
            else:
                store = self.disk.offer if put.offered else self.disk.put
                store(key, put.value, **options)
            if change is not None:
                change.announce()
        except KeyEncodingError:
            return  # it cannot be there
        except (EncodeError, ValueTooLargeError) as error:
            log.warning("a write that was missed is given up: %s", error)
            self.disk.delete(key)

    def _miss(self, key: Any, put: _Put | Change | None) -> None:
        with self._lock:
            self.owed.pop(key, None)  # the newest goes last
            self.owed[key] = put
            if len(self.owed) > _MOST_MISSED:
                self.owed.clear()
                self._lost = True

    def _fail(self, error: DiskError) -> None:
        with self._lock:
            now = self._clock()
            is_first = not self.failing
            if is_first:
                self._since = now
                self._pause = 0.0
                if self._events.wanted:
                    self._events.emit(EventKind.TIER_DOWN, tier=Tier.DISK, reason=str(error))
            self.failing[:] = [str(error)]
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._retry_at = now + self._pause
            self.errors += 1
        if is_first:
            self._outages.warning("the disk tier failed and was passed over: %s", error)
        else:
            log.debug("the disk tier failed and was passed over: %s", error)

    def _worked(self) -> None:
        if self.failing:
            if self._events.wanted:
                self._events.emit(EventKind.TIER_UP, tier=Tier.DISK)
            with self._lock:
                self.failing.clear()
                self._since = self._clock()
            log.info("the disk tier works again")
