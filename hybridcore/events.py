"""Events: what happens below the memory tier, told to listeners off the path of the caller."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from queue import SimpleQueue
from threading import Event as Signal
from threading import RLock, Thread, current_thread
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from weakref import finalize, ref

from hybridcore.errors import ClosedError, ConfigurationError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.stats import EventStats

if TYPE_CHECKING:
    from hybridcore.types import Tier

log = logging.getLogger("hybridcore")


class EventKind(str, Enum):
    """What may happen. Hits of the memory tier are not told: they would cost more than they do."""

    HIT = "hit"
    """A tier below memory had a fresh value."""
    MISS = "miss"
    """No tier and no origin had one."""
    NEGATIVE_HIT = "negative_hit"
    """It was remembered that there is no such key."""
    LOAD = "load"
    """The origin answered."""
    LOAD_FAILED = "load_failed"
    STALE_SERVED = "stale_served"
    """A copy past its ttl was served."""
    SOFT_TIMEOUT = "soft_timeout"
    """A load took too long for its caller and goes on in the background."""
    THROTTLED = "throttled"
    """The origin was not asked, because it failed a short while ago."""
    REFRESH = "refresh"
    """A load was started in the background, before the entry expires."""
    PROMOTED = "promoted"
    """A value was copied to the tier above."""
    EVICTED = "evicted"
    """Memory or disk removed an entry to make room or as it had expired; ``reason`` tells which.
    Of the disk an event stands for ``count`` entries, without their keys."""
    STORED = "stored"
    DELETED = "deleted"
    CLEARED = "cleared"
    BREAKER = "breaker"
    """A circuit breaker changed; ``reason`` is its new state."""
    TIER_DOWN = "tier_down"
    TIER_UP = "tier_up"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; there is never a value in it.

    ``seconds`` is how long it took and ``reason`` why it happened, where there is such a thing.
    ``at`` is a time stamp of the clock on the wall, ``count`` how many entries it tells of.
    """

    kind: EventKind
    key: Any = None
    tier: Tier | None = None
    seconds: float | None = None
    reason: str | None = None
    at: float = field(default_factory=time)
    count: int = 1


_NOT_OF_READS = frozenset(
    {
        EventKind.EVICTED,
        EventKind.STORED,
        EventKind.DELETED,
        EventKind.CLEARED,
        EventKind.BREAKER,
        EventKind.TIER_DOWN,
        EventKind.TIER_UP,
    }
)

EventListener = Callable[[Event], object]
"""Hears of events, one after the other, in a thread of its own."""


class EventBus:
    """Delivers events to listeners in one daemon thread, started by the first subscription.

    Whoever emits never waits: an event that finds ``max_waiting`` others in the queue is dropped
    and counted. What a listener raises is counted, logged now and then, and harms nobody else.
    A forked child has the listeners, none of the events, and a thread when there is one.

    >>> bus = EventBus()
    >>> stop = bus.subscribe(lambda event: print(event.kind.value, event.key), kinds=["load"])
    >>> if bus.wanted:
    ...     bus.emit(EventKind.LOAD, "k")
    >>> bus.close()
    load k
    True

    Args:
        max_waiting: events that may wait for listeners.
        logs: where failures of listeners are told of.
        changed: called when somebody begins to listen or ends it.
    """

    def __init__(
        self,
        max_waiting: int = 10_000,
        *,
        logs: RateLimitedLog | None = None,
        changed: Callable[[], object] | None = None,
    ) -> None:
        if not isinstance(max_waiting, int) or max_waiting < 1:
            raise ConfigurationError(
                f"max_waiting is expected to be a number of events, at least 1, got {max_waiting!r}"
            )
        self.wanted: frozenset[EventKind] = frozenset()
        """The kinds that somebody listens to: to be tested before an event is made."""
        self.wanted_of_reads: frozenset[EventKind] = frozenset()
        """Of these, what lookups and loads tell of."""
        self._changed = changed
        self._max_waiting = max_waiting
        self._logs = logs or RateLimitedLog(log)
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._dropped = self._delivered = self._failed = 0
        self._closed = False
        self._finalize: Any = None
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """After a fork: another process delivers what was waiting."""
        self._lock = RLock()  # re-entrant: destructors may emit
        self._queue: SimpleQueue[Event | Signal | None] = SimpleQueue()  # its put is, too
        self._thread: Thread | None = None
        self._abandoned = False
        self._logs.start_afresh()
        if self._finalize is not None:
            self._finalize.detach()
            self._finalize = None

    def subscribe(
        self, listener: EventListener, kinds: Iterable[EventKind | str] | None = None
    ) -> Callable[[], None]:
        """Have a listener called with each event of these kinds, of all kinds for None.

        Returns what ends the subscription; an event that is being delivered may still come.

        Raises:
            ConfigurationError: no function, or no such kind.
            ClosedError: the bus was closed.
        """
        if not callable(listener):
            raise ConfigurationError(f"a listener is expected to be a function, got {listener!r}")
        subscription = _Subscription(listener, _kinds(kinds))
        with self._lock:
            if self._closed:
                raise ClosedError("the events of this cache are closed: it takes no listeners")
            self._start()
            self._set((*self._subscriptions, subscription))

        def unsubscribe() -> None:
            with self._lock:
                self._set(tuple(one for one in self._subscriptions if one is not subscription))

        return unsubscribe

    def emit(
        self,
        kind: EventKind,
        key: Any = None,
        tier: Tier | None = None,
        seconds: float | None = None,
        reason: str | None = None,
        count: int = 1,
    ) -> None:
        """Tell those who listen to this kind; never waits, never fails."""
        if kind not in self.wanted:
            return
        if self._queue.qsize() >= self._max_waiting:
            with self._lock:
                self._dropped += 1
            return
        if self._thread is None:  # the first event in a forked child
            with self._lock:
                try:
                    self._start()
                except RuntimeError:  # no more threads: they would not be told
                    self._dropped += 1
                    return
        self._queue.put(Event(kind, key, tier, seconds, reason, count=count))

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until what was emitted so far is delivered; False if that takes longer."""
        if self._closed or self._thread is None:
            return self._queue.qsize() == 0
        return self._drain(timeout)

    def _drain(self, timeout: float | None) -> bool:
        if self._thread is current_thread():
            return False
        done = Signal()
        self._queue.put(done)
        return done.wait(timeout)

    def close(self, timeout: float = 1.0) -> bool:
        """Take no more events, deliver those that wait, and end the thread.

        What is not delivered within ``timeout`` seconds is dropped. Returns whether all was; False
        in a listener, which cannot wait for itself.
        """
        with self._lock:
            if self._closed:
                return self._queue.qsize() == 0
            self._closed = True
            self._want(frozenset())
            thread = self._thread
        if thread is None:
            return True
        deadline = monotonic() + timeout
        delivered = self._drain(timeout)
        self._abandoned = not delivered and thread is not current_thread()
        self._queue.put(None)
        if thread is not current_thread():
            thread.join(max(0.0, deadline - monotonic()))
        return delivered

    def stats(self) -> EventStats:
        """A snapshot of what was counted."""
        with self._lock:
            return EventStats(
                delivered=self._delivered,
                dropped=self._dropped,
                failed=self._failed,
                waiting=self._queue.qsize(),
                listeners=len(self._subscriptions),
            )

    def _set(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        if not self._closed:
            self._want(frozenset().union(*(one.kinds for one in subscriptions)))

    def _want(self, kinds: frozenset[EventKind]) -> None:
        self.wanted = kinds
        self.wanted_of_reads = kinds - _NOT_OF_READS
        if self._changed is not None:
            self._changed()

    def _start(self) -> None:
        if self._thread is None:
            thread = Thread(
                target=_deliver,
                args=(ref(self), self._queue),
                name="hybridcore-events",
                daemon=True,
            )
            thread.start()
            self._thread = thread
            self._finalize = finalize(self, self._queue.put, None)

    def _tell(self, event: Event) -> None:
        for subscription in self._subscriptions:
            if event.kind not in subscription.kinds:
                continue
            try:
                subscription.listener(event)
            except BaseException as error:  # not even SystemExit ends the thread of all others
                with self._lock:
                    self._failed += 1
                self._logs.warning(
                    "a listener failed when told of %s: %s",
                    event.kind.value,
                    raised_by(error),
                    about=id(subscription),
                )
        with self._lock:
            self._delivered += 1


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    listener: EventListener
    kinds: frozenset[EventKind]


def _deliver(bus_ref: ref[EventBus], queue: SimpleQueue[Event | Signal | None]) -> None:
    """Run by the thread, which does not keep a bus alive that everybody else has forgotten."""
    while True:
        event = queue.get()
        if event is None:
            break
        if isinstance(event, Signal):
            event.set()
            continue
        bus = bus_ref()
        if bus is None or bus._abandoned:
            break
        bus._tell(event)
        del bus, event
    while not queue.empty():
        left = queue.get()
        if isinstance(left, Signal):
            left.set()


def _kinds(kinds: Iterable[EventKind | str] | None) -> frozenset[EventKind]:
    if kinds is None:
        return frozenset(EventKind)
    if isinstance(kinds, str):
        raise ConfigurationError(
            f"kinds is expected to be a list, got {kinds!r}; write [{kinds!r}]"
        )
    try:
        return frozenset(EventKind(kind) for kind in kinds)
    except ValueError as error:
        raise ConfigurationError(
            f"{error}; there are {', '.join(kind.value for kind in EventKind)}"
        ) from None
