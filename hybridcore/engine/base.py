"""The state that the parts of the engine share."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import count
from random import getrandbits
from threading import RLock
from time import monotonic, perf_counter, process_time
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from hybridcore._native import Front, Straight, footprint_of
from hybridcore.engine.evictions import Evictions
from hybridcore.errors import (
    BreakerOpenError,
    BulkheadFullError,
    ClosedError,
    DecodeError,
    EncodeError,
    KeyEncodingError,
)
from hybridcore.events import EventBus, EventKind
from hybridcore.flights import Flights, begins
from hybridcore.forks import start_afresh_after_forks
from hybridcore.invalidation.coherence import Coherence, SharedCoherence
from hybridcore.lately import Costs, Lately
from hybridcore.recovery import RecoveringDisk
from hybridcore.stats.timings import Timings
from hybridcore.tiers import Tiers, copy_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native import MemoryStore
    from hybridcore.config import Rules, Strategy
    from hybridcore.disk import Lmdb
    from hybridcore.features import Feature, Flags
    from hybridcore.invalidation.adaptive_ttl import LearnedTtls
    from hybridcore.invalidation.handlers import Handlers
    from hybridcore.invalidation.outside import Attached
    from hybridcore.invalidation.retention import Retention
    from hybridcore.origins import Guard, Loaders
    from hybridcore.origins.base import Origin
    from hybridcore.types import Listener, Tier
    from hybridcore.write_queue import WriteSink
    from hybridcore.write_queue.elsewhere import Elsewhere

_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (BreakerOpenError, "breaker_open"),
    (BulkheadFullError, "bulkhead_full"),
    (TimeoutError, "timeout"),
    (EncodeError, "serialization"),
    (DecodeError, "serialization"),
    (KeyEncodingError, "serialization"),
)
"""What errors of the origin count as in statistics, the first that fits."""


class Served:
    """Counts the bytes of values handed out, by tier; each that it is told of stands for 16."""

    def __init__(self, weigh: Callable[[Any], int] | None) -> None:
        self._weigh = weigh
        self.bytes: Counter[str] = Counter()

    def __call__(self, tier: Tier, value: Any) -> None:
        if self._weigh is not None:
            self.bytes[tier.value] += 16 * self._weigh(value)


class Base:
    """What every part of the engine works with: tiers, origin, flights, options and counts."""

    def __init__(
        self,
        front: Callable[[], Front[Any, Any] | None],
        memory: MemoryStore[Any, Any] | None,
        disk: Lmdb[Any, Any] | None,
        origin: Origin[Any, Any] | None,
        strategy: Strategy,
        rules: Rules,
        features: Flags,
        guard: Guard | None,
        queue: WriteSink | None,
        spill: bool,
        listener: Listener | None,
        coherent: str | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._front = front
        self.window: Front[Any, Any] = Front(memory)
        """What ``aio`` looks into, as the blocking face looks into itself."""
        self.memory = memory
        self.disk = disk
        changed = WeakMethod(self._listeners_changed)
        self.events = EventBus(changed=lambda: _call(changed))
        self.evictions = Evictions(self.events, memory, disk, self._tell)
        self.attached: list[Attached] = []
        """What speaks to the outside, closed with the cache."""
        self.handlers: Handlers | None = None
        self.ttls: LearnedTtls | None = None
        self.coherence: Coherence
        if disk is not None:
            self.coherence = SharedCoherence(self, disk._environment, retention)
        elif coherent is not None:
            from hybridcore.invalidation.names import NamedCoherence

            self.coherence = NamedCoherence(self, coherent, retention)
        else:
            self.coherence = Coherence(self)
        self.window._follow(self.coherence.generation)
        self.tiers = Tiers(
            memory,
            None if disk is None else RecoveringDisk(disk, self.events),
            self.coherence,
            spill=spill,
        )
        self.origin = origin
        self.strategy = strategy
        self.rules = rules
        self.features = features
        self.guard = guard
        self.queue = queue
        self._elsewhere: Elsewhere | None = None
        if queue is not None and disk is None and coherent is None:
            from hybridcore.write_queue.elsewhere import beside

            self._elsewhere = beside(queue)
        self.spill = spill
        self.loaders: Loaders[Any, Any] | None = None
        self.listener = listener
        self.closed = False
        timer = None if memory is None else memory.options()[3]
        self._missing = Lately(timer)
        self._failed = Lately(timer)
        self._costs = Costs()
        self._versions = count(1)
        self._counts: Counter[str] = Counter()
        self.timings = Timings()
        self._failures: Counter[str] = Counter()
        if memory is not None:
            self.time_hits(64)
        self._weigh = None if memory is None else _weighs(memory)
        self._served = Served(self._weigh)
        self._made = monotonic()
        self._seen: dict[tuple[str, str], float] = {}
        self._well: dict[str, float] = {}
        self._most_quota = 0.0
        self.straight: Straight | None = None
        """Where both faces try first what memory missed."""
        if memory is not None:
            self.straight = Straight(
                memory,
                self.tiers,
                self.events,
                rules,
                self._missing,
                self._failed,
                self._costs,
                copy_of,
                self.timings.histogram,
                None if self._weigh is None else self._served,
            )
        self.window._go_straight(self.straight)
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Forget what is under way, and its locks: after a fork nobody is here to end it."""
        self._counting = RLock()
        self._flights = Flights()
        self.coherence.start_afresh()
        if self.straight is not None:
            self._flights.lay(self.straight)
        self._cpu_seconds = process_time()  # a forked child begins at none

    # -- what other processes did, see `hybridcore.invalidation.coherence.Follower` ------------

    def changed(self, key: Any) -> None:
        """Another process changed the key: that wins over what is held, and over loads of it."""
        with self._flights.lock(key):
            self._flights.supersede(key)
            self._missing.forget(key)
            if self.memory is not None:
                self.memory.discard(key)

    def changed_from(self, prefix: Any) -> None:
        """Another process deleted the keys that begin so."""
        with self._flights.all_locks():
            self._flights.supersede_from(prefix)
            self._missing.clear()
            self._forget_from(prefix)

    def doubt(self) -> None:
        """What has tags has to be held against them before it is served again."""
        if self.memory is not None:
            self.memory.doubt()

    def cleared(self, *, hard: bool) -> None:
        """Everything was invalidated elsewhere."""
        with self._flights.all_locks():
            self._flights.supersede_all()
            self._missing.clear()
            if self.memory is not None:
                if hard:
                    self.memory.clear()
                else:
                    self.memory.outdate_all()

    def is_loading(self) -> bool:
        """Whether there are loads under way."""
        return self._flights.any

    def _forget_from(self, prefix: Any) -> None:
        """Under all locks: delete from memory what begins so."""
        if self.memory is not None:
            for key in self.memory.coldest(sys.maxsize):
                if begins(key, prefix):
                    self.memory.discard(key)

    def answering_memory(self) -> MemoryStore[Any, Any] | None:
        """The memory that may answer before anything else is asked, if there is one."""
        if self.closed or (self.features.restricted and self.features.may_be_off("memory")):
            return None
        if not self.coherence.generation.is_current:
            return None
        return self.memory

    def _is_on(self, feature: Feature) -> bool:
        return not self.features.restricted or self.features.is_enabled(feature)

    def _is_known_missing(self, key: Any, origin: Origin[Any, Any] | None) -> bool:
        """Whether the origin, or a loader like this one, said lately that it has no such key."""
        if self._missing.of(key) is (origin is self.origin) and self._is_on("negative"):
            self._count("negative_hits")
            self._tell(EventKind.NEGATIVE_HIT, key)
            return True
        return False

    def _guard_of_now(self, guard: Guard) -> Guard:
        """The guard, less those of its parts that are switched off."""
        if not self.features.restricted:
            return guard
        return guard.less(*(not self._is_on(part) for part in ("breaker", "bulkhead", "retry")))

    def _check_key(self, key: Any) -> None:
        """Raise KeyEncodingError before the origin is written, not after."""
        if self.disk is not None:
            from hybridcore.disk.keys import encode_key

            encode_key(key)

    def _tell(
        self,
        kind: EventKind,
        key: Any = None,
        tier: Tier | None = None,
        seconds: float | None = None,
        reason: str | None = None,
        count: int = 1,
    ) -> None:
        if self.events.wanted and self._is_on("events"):
            self.events.emit(kind, key, tier, seconds, reason, count)

    def _listeners_changed(self) -> None:
        self.evictions.follow()

    def _count(self, name: str, by: int = 1) -> None:
        with self._counting:
            self._counts[name] += by

    def time_hits(self, one_in: int | None) -> None:
        """Record how long one in so many hits of memory take; None: none."""
        if self.memory is not None:
            if one_in is None:
                self.memory.time_hits(None)
            else:
                self.memory.time_hits(self.timings.histogram("memory", "get", "hit"), one_in)

    def _took(self, tier: str, operation: str, outcome: str, started: float) -> None:
        """Record how long it has been since `perf_counter` told the start."""
        self.timings.record(tier, operation, outcome, perf_counter() - started)

    def _failed_with(self, error: BaseException, otherwise: str) -> None:
        """Count an error by its class; ``otherwise`` is that of those of no class of their own."""
        name = next((name for kind, name in _CLASSES if isinstance(error, kind)), otherwise)
        with self._counting:
            self._failures[name] += 1

    def _served_by(self, tier: Tier, value: Any) -> None:
        """Count the bytes of a value that was handed out: of one in 16, which stands for them."""
        if self._weigh is not None and getrandbits(4) == 0:
            self._served(tier, value)

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError("this hybrid cache was closed")


def _call(method: WeakMethod[Any]) -> None:
    found = method()
    if found is not None:
        found()


def _weighs(memory: MemoryStore[Any, Any]) -> Callable[[Any], int] | None:
    """What memory counts a value as, if that is no mere 1."""
    options = memory.options()
    return options[1] or (footprint_of if options[5] else None)
