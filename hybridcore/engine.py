"""The engine: decides what a hybrid cache does, and never waits.

An operation is a generator. It works on the tiers by itself, and wherever it would have to wait
(for the origin, for somebody else's load) it yields an `Effect` and is resumed with the outcome.
The two faces differ only in how they carry an effect out: `hybrid` blocks, `aio` awaits.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from itertools import count
from threading import RLock
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakSet

from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    NotFoundError,
    OriginError,
    PartialLoadError,
    VersionConflictError,
)
from hybridcore.events import EventBus, EventKind
from hybridcore.flights import (
    MISSING,
    Flight,
    Flights,
    WaitsForItselfError,
    begins,
    led_here,
)
from hybridcore.lately import Costs, Lately
from hybridcore.recovery import RecoveringDisk, TierHealth
from hybridcore.tiers import Copy, State, Tiers
from hybridcore.types import (
    Answer,
    Entry,
    Held,
    Listener,
    Loaded,
    NotFound,
    NotModified,
    Tier,
    Validators,
)

if TYPE_CHECKING:
    from hybridcore._native import Front, MemoryStore
    from hybridcore.config import EntryOptions, Rules, Strategy
    from hybridcore.disk import Lmdb
    from hybridcore.features import Feature, Flags
    from hybridcore.origins import Guard, Loaders
    from hybridcore.origins.base import Origin
    from hybridcore.stats import OriginStats
    from hybridcore.write_queue import WriteSink

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
"""Seconds between two looks at whether another process has loaded a key."""

log = logging.getLogger("hybridcore")


class Call(NamedTuple):
    """Effect: call a method of the origin (its ``a`` twin under asyncio), within `leading`."""

    origin: Any
    """An `Origin`, or the `WriteSink` in front of one."""
    method: str
    args: tuple[Any, ...]
    flights: tuple[Flight, ...] = ()


class Wait(NamedTuple):
    """Effect: wait until ``flight.future`` is done; what became of it is on the flight.

    With ``patience`` no longer than so many seconds. Who blocks must not do so where the flight
    runs: it throws `WaitsForItselfError` instead.
    """

    flight: Flight
    patience: float | None = None


class Spawn(NamedTuple):
    """Effect: have another operation carried out in the background."""

    steps: Generator[Any, Any, Any]
    flights: tuple[Flight, ...]


class Pause(NamedTuple):
    """Effect: let so many seconds pass."""

    seconds: float


Effect = Call | Wait | Spawn | Pause
Steps = Generator[Effect, Any, T]
"""An operation under way: yields effects, is sent their outcomes, returns a T."""


class Engine:
    """The rules between the tiers and the origin; `Flights` has the loads that run."""

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
    ) -> None:
        self._front = front
        self.memory = memory
        self.disk = disk
        self.events = EventBus()
        self.tiers = Tiers(
            memory, None if disk is None else RecoveringDisk(disk, self.events), spill=spill
        )
        self.origin = origin
        self.strategy = strategy
        self.rules = rules
        self.features = features
        self.guard = guard
        self.queue = queue
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
        self.start_afresh()
        _reset_after_forks(self)

    def start_afresh(self) -> None:
        """Forget what is under way, and its locks: after a fork nobody is here to end it."""
        self._counting = RLock()
        self._flights = Flights()

    # -- reads ----------------------------------------------------------------------------------

    def read(
        self,
        key: Any,
        default: Any,
        loader: Origin[Any, Any] | None = None,
        call: EntryOptions | None = None,
    ) -> Steps[Any]:
        """Answer a key that was not in memory: from the tiers below, or with ``default``.

        The last of them is ``loader``, by default the origin.
        """
        self._require_open()
        options = self.rules.of(key, call)
        origin = loader or self._loading_origin(key, options)
        if self._is_known_missing(key, origin):
            return default
        started = perf_counter()
        flight = Flight(key, origin, options)
        try:
            while (other := self._flights.join(flight)) is not None:
                if self._served_meanwhile(flight, other) or (
                    yield from self._follow(flight, other)
                ):
                    break
            else:
                yield from self._lead(flight)
        finally:
            self._part(flight, started)
        if flight.error is not None:
            raise flight.error
        return default if flight.value is MISSING else flight.value

    def read_many(self, keys: Iterable[Any], call: EntryOptions | None = None) -> Steps[Any]:
        """Answer several keys, one batch per tier; only the missing ones go down."""
        self._require_open()
        wanted = list(dict.fromkeys(keys))
        found = {}
        if self.memory is not None and self._is_on("memory"):
            found = self.memory.get_many(wanted)
        started = perf_counter()
        flights = []
        for key in wanted:
            if key not in found:
                options = self.rules.of(key, call)
                origin = self._loading_origin(key, options)
                if not self._is_known_missing(key, origin):
                    flights.append(Flight(key, origin, options))
        try:
            rest = flights
            while rest:
                others = [(flight, self._flights.join(flight)) for flight in rest]
                yield from self._lead_many([flight for flight, other in others if other is None])
                rest = []
                for flight, other in others:
                    if other is None:
                        continue
                    if not self._served_meanwhile(flight, other) and not (
                        yield from self._follow(flight, other)
                    ):
                        rest.append(flight)
        finally:
            for flight in flights:
                self._part(flight, started)
        found |= {flight.key: flight.value for flight in flights if flight.value is not MISSING}
        errors = {flight.key: flight.error for flight in flights if flight.error is not None}
        if errors:
            raise PartialLoadError(found, errors)
        return {key: found[key] for key in wanted if key in found}

    def contains(self, key: Any) -> bool:
        """Whether a tier holds a fresh entry; the origin is not asked."""
        self._require_open()
        if self._is_on("memory"):
            copy = self.tiers.in_memory(key)
            if copy is not None and copy.state is not State.STALE:
                return True
        disk = self.tiers.disk
        return disk is not None and self._is_on("disk") and disk.contains(key)

    def entry(self, key: Any) -> Entry[Any] | None:
        """What the highest tier that has the key holds, also if it is stale; counts nothing."""
        self._require_open()
        options = self.rules.of(key)
        copy = self.tiers.in_memory(key) if self._is_on("memory") else None
        if copy is not None and self.disk is None and not copy.version:
            with self._flights.lock(key):
                copy = self.tiers.in_memory(key)  # nobody changes it now
                if copy is not None and not copy.version:
                    copy = copy._replace(version=next(self._versions))
                    self.tiers.stamp(key, copy.version)
        if self._is_on("disk"):
            below = self.tiers.on_disk([key], lambda _: options).get(key)
            if below is not None:  # its version is that of its value, which may be newer
                copy = below if copy is None else below._replace(tier=copy.tier)
        if copy is None:
            return None
        age = None
        if copy.whole is not None and copy.left is not None:
            age = copy.whole - copy.left
        validators = copy.validators
        return Entry(
            value=copy.value,
            tier=copy.tier,
            age=age,
            ttl_left=copy.left,
            stale=copy.state is State.STALE,
            etag=None if validators is None else validators.etag,
            tags=() if copy.tag is None else (copy.tag,),
            cost=copy.cost,
            version=copy.version,
        )

    def _served_meanwhile(self, flight: Flight, other: Flight) -> bool:
        """Whether the tiers have a copy to end the flight with while the other one goes on."""
        if other.in_background:
            self._look_up([flight])
            if not flight.ended and flight.copy is not None and self._is_servable(flight.copy):
                self._serve(flight, flight.copy)
        return flight.ended

    def _follow(self, flight: Flight, other: Flight) -> Steps[bool]:
        """End the flight as the other one ends; False when it has to be tried again."""
        if not self._is_on("single_flight"):
            yield from self._lead(flight)
            return True
        try:
            with self._flights.waiting(other):
                yield Wait(other)
        except WaitsForItselfError:
            if led_here(flight.key) > 1:
                raise RecursionError(
                    f"the loader of {flight.key!r} asks the cache for {flight.key!r} over and over"
                ) from None
            yield from self._lead(flight)  # for itself alone: not registered, so not kept
            return True
        if other.successor is not None:
            other = other.successor
        if other.lost or (other.value is MISSING and self._asks_elsewhere(flight, other)):
            return False
        self._flights.end(flight, other.value, other.tier, other.error)
        return True

    def _asks_elsewhere(self, flight: Flight, other: Flight) -> bool:
        """Whether the flight could find what the other one did not: it has another origin."""
        return flight.origin is not None and (
            other.origin is None
            or (flight.origin is self.origin) is not (other.origin is self.origin)
        )

    def _lead(self, flight: Flight) -> Steps[None]:
        self._look_up([flight])
        if flight.ended:
            return
        if not self._may_ask(flight):
            return
        if flight.copy is not None and flight.copy.state is State.DUE:
            yield from self._go_on_behind([flight])
            self._serve(flight, flight.copy)
        elif (
            flight.copy is not None
            and flight.options.soft_timeout is not None
            and self._is_servable(flight.copy)
        ):
            yield from self._go_on_behind([flight])
            yield from self._wait_a_while(flight, flight.copy, flight.options.soft_timeout)
        else:
            yield from self._ask(flight)

    def _lead_many(self, flights: list[Flight]) -> Steps[None]:
        self._look_up(flights)
        flights = [flight for flight in flights if not flight.ended and self._may_ask(flight)]
        due = [f for f in flights if f.copy is not None and f.copy.state is State.DUE]
        hasty = [
            flight
            for flight in flights
            if flight.copy is not None
            and flight.copy.state is State.STALE
            and flight.options.soft_timeout is not None
            and self._is_servable(flight.copy)
        ]
        if due or hasty:
            yield from self._go_on_behind(due + hasty)
        for flight in due:
            assert flight.copy is not None
            self._serve(flight, flight.copy)
        started = perf_counter()
        rest = [flight for flight in flights if flight.successor is None]
        if rest:
            yield from self._ask_many(rest)
        for flight in hasty:
            assert flight.copy is not None
            assert flight.options.soft_timeout is not None
            left = max(0.0, flight.options.soft_timeout - (perf_counter() - started))
            yield from self._wait_a_while(flight, flight.copy, left)

    def _may_ask(self, flight: Flight) -> bool:
        """Whether the origin is to be asked; ends the flight if it is not."""
        copy = flight.copy
        if self.queue is not None and (waiting := self.queue.pending(flight.key)) is not None:
            # the origin does not know yet
            self._flights.end(flight, MISSING if waiting.deletes else waiting.value)
            return False
        if copy is not None and (
            (flight.key in self._failed and self._is_servable(copy))
            or (copy.state is State.DUE and not self._is_on("refresh_ahead"))
        ):
            if copy.state is State.STALE:
                self._count("throttled")
                self._tell(EventKind.THROTTLED, flight.key)
            self._serve(flight, copy)
        elif flight.origin is None or not self._is_on("origin"):
            if copy is not None and copy.state is State.DUE:
                self._serve(flight, copy)
            else:
                self._flights.end(flight)
        return not flight.ended

    def _go_on_behind(self, flights: list[Flight]) -> Steps[None]:
        """Have the loads of these flights made in the background, whoever leaves."""
        others = [self._flights.hand_over(flight) for flight in flights]
        try:
            yield Spawn(self._load_in_background(others), tuple(others))
        except BaseException as error:  # such as no more threads
            for other in others:
                self._flights.end_lost(other)
            if not isinstance(error, Exception):
                raise
            log.warning("a load in the background was not started: %s", error)

    def _load_in_background(self, flights: list[Flight]) -> Steps[None]:
        try:
            for flight in flights:
                if flight.copy is not None and flight.copy.state is State.DUE:
                    self._count("refreshes")
                    self._tell(EventKind.REFRESH, flight.key)
            if len(flights) == 1:
                yield from self._ask(flights[0])
            else:
                yield from self._ask_many(flights)
        finally:
            for flight in flights:
                if not flight.ended:
                    self._flights.end_lost(flight)

    def _wait_a_while(self, flight: Flight, copy: Copy, patience: float) -> Steps[None]:
        """Wait for the load in the background, but serve the copy when it takes too long."""
        other = flight.successor
        assert other is not None
        with suppress(WaitsForItselfError):
            yield Wait(other, patience)
        if other.ended and not other.lost:
            self._flights.end(flight, other.value, other.tier, other.error)
        else:
            self._count("soft_timeouts")
            self._tell(EventKind.SOFT_TIMEOUT, flight.key, seconds=patience)
            self._serve(flight, copy)

    def _is_servable(self, copy: Copy) -> bool:
        return copy.state is not State.STALE or self._is_on("stale")

    def _serve(self, flight: Flight, copy: Copy) -> None:
        """End a flight with a copy."""
        if copy.state is State.STALE:
            self._count("stale_served")
            self._tell(EventKind.STALE_SERVED, flight.key, copy.tier)
        self._flights.end(flight, copy.value, copy.tier)

    def _ask(self, flight: Flight) -> Steps[None]:
        """Ask the origin, unless another process does and its answer comes in time."""
        disk = self.tiers.disk
        if (
            disk is None
            or self.spill
            or flight.options.lease is None
            or not (self._is_on("single_flight") and self._is_on("disk"))
        ):
            yield from self._ask_now(flight)
            return
        pause = _FIRST_PAUSE
        other = leader = disk.lease(flight.key, flight.options.lease)
        while other and other == leader:  # after it, who has to load is not waited for again
            yield Pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._look_up([flight])
            if flight.ended:
                self._count("loaded_elsewhere")
                return
            other = disk.lease(flight.key, flight.options.lease)
        try:
            yield from self._ask_now(flight)
        finally:
            with suppress(ClosedError):
                disk.release(flight.key)

    def _ask_now(self, flight: Flight) -> Steps[None]:
        answer: Answer[Any] | Exception
        origin = self._guarded(flight)
        started = perf_counter()
        try:
            answer = yield Call(origin, "load", (flight.key, self._held(flight)), (flight,))
        except Exception as error:
            answer = error
        self._settle(flight, answer, perf_counter() - started)

    def _ask_many(self, flights: list[Flight]) -> Steps[None]:
        origin = self._guarded(flights[0])
        wanted = {flight.key: self._held(flight) for flight in flights}
        started = perf_counter()
        try:
            answers = yield Call(origin, "load_many", (wanted,), tuple(flights))
            answers = {key: answers.get(key, NotFound()) for key in wanted}
        except Exception as error:
            answers = dict.fromkeys(wanted, error)
        each = (perf_counter() - started) / len(flights)
        for flight in flights:
            self._settle(flight, answers[flight.key], each)

    def _held(self, flight: Flight) -> Validators | None:
        """What a load is told of the copy that is held: loaders get its value, too."""
        copy = flight.copy
        if copy is None:
            return None
        if self.loaders is None:
            return copy.validators
        known = copy.validators or Validators()
        return Held(known.etag, known.last_modified, copy.value)

    def _guarded(self, flight: Flight) -> Origin[Any, Any]:
        """The flight's origin behind the guard, if there is one or the load has a time limit."""
        origin = flight.origin
        assert origin is not None
        limit = flight.options.hard_timeout
        if self.guard is not None and origin is self.origin:
            return self._guard_of_now(self.guard).around(origin, limit)
        if limit is None:
            return origin
        from hybridcore.origins import Guard

        if self._unguarded is None:
            self._unguarded = Guard(name=origin.name)
        return self._unguarded.around(origin, limit)

    def _guard_of_now(self, guard: Guard) -> Guard:
        """The guard, less those of its parts that are switched off."""
        if not self.features.restricted:
            return guard
        return guard.less(*(not self._is_on(part) for part in ("breaker", "bulkhead", "retry")))

    _unguarded: Guard | None = None

    def _look_up(self, flights: list[Flight]) -> None:
        """End the flights that the tiers can answer, and note the copies of the others."""
        if self._is_on("memory"):
            for flight in flights:
                copy = self.tiers.in_memory(flight.key)
                if copy is not None and copy.state is State.FRESH:
                    # it landed between the miss and the flight
                    self._flights.end(flight, copy.value, copy.tier)
                else:
                    flight.copy = copy
        below = {
            flight.key: flight
            for flight in flights
            if not flight.ended and (flight.copy is None or flight.copy.state is State.STALE)
        }
        if not below or not self._is_on("disk"):
            return
        copies = self.tiers.on_disk(below, lambda key: below[key].options)
        for key, copy in copies.items():
            flight = below[key]
            if copy.state is State.STALE:
                flight.copy = copy  # it is as new as that of memory, or newer
                continue
            with self._flights.lock(key):
                if self._flights.holds(flight):
                    self.tiers.promote(key, copy, flight.options)
                    self._count("promoted")
                    self._tell(EventKind.PROMOTED, key, Tier.MEMORY)
                if copy.state is State.FRESH:
                    self._flights.end(flight, copy.value, copy.tier)
                else:
                    flight.copy = copy

    def _settle(self, flight: Flight, answer: Answer[Any] | Exception, took: float) -> None:
        """End a flight with what the origin answered, or with its copy if it failed."""
        try:
            value = self._accept(flight, answer, took)
        except Exception as error:
            self._count("errors")
            self._tell(EventKind.LOAD_FAILED, flight.key, Tier.ORIGIN, took, type(error).__name__)
            if flight.copy is None or not self._is_servable(flight.copy):
                self._flights.end(flight, error=error)
                return
            self._failed.note(flight.key, flight.options.throttle)
            self._serve(flight, flight.copy)
        else:
            self._tell(EventKind.LOAD, flight.key, Tier.ORIGIN, took)
            self._flights.end(flight, value, None if value is MISSING else Tier.ORIGIN)

    def _accept(self, flight: Flight, answer: Answer[Any] | Exception, took: float) -> Any:
        """Keep what the origin answered, unless a write came between, and return the value."""
        if isinstance(answer, Exception) and not isinstance(answer, NotFoundError):
            raise answer
        self._count("loads")
        key, options = flight.key, flight.options
        self._failed.forget(key)
        value: Any = MISSING
        validators: Validators | None = None
        ttl = options.ttl
        if isinstance(answer, Loaded):
            value, validators = answer.value, answer.validators
        elif isinstance(answer, NotModified):
            if flight.copy is None:
                raise OriginError(
                    f"the origin answered 'not modified' for {key!r}, but no copy is held"
                )
            self._count("not_modified")
            value, validators = flight.copy.value, flight.copy.validators
        elif isinstance(answer, (NotFound, NotFoundError)):
            self._count("not_found")
        else:
            raise OriginError(
                "an origin is expected to answer Loaded, NotModified or NotFound, "
                f"got {type(answer).__name__}"
            )
        if isinstance(answer, (Loaded, NotModified)) and answer.ttl is not None:
            ttl = answer.ttl
        cost = self._costs.of(self.rules.of(key), took)
        importance = 1.0
        if isinstance(answer, Loaded):
            cost = cost if answer.cost is None else answer.cost
            importance = 1.0 if answer.importance is None else answer.importance
        try:
            with self._flights.lock(key):
                if not self._flights.holds(flight):
                    pass
                elif value is MISSING:
                    self.tiers.forget(key)
                    if self._is_on("negative"):
                        lasting = answer.ttl if isinstance(answer, NotFound) else None
                        self._missing.note(
                            key,
                            options.negative_ttl if lasting is None else lasting,
                            flight.origin is self.origin,
                        )
                else:
                    self._missing.forget(key)
                    self.tiers.keep(
                        key,
                        value,
                        ttl,
                        validators,
                        options,
                        cost=cost,
                        importance=importance,
                        loaded=True,
                    )
        except ClosedError:
            pass  # closed while it loaded: handed out, not kept
        return value

    def _is_known_missing(self, key: Any, origin: Origin[Any, Any] | None) -> bool:
        """Whether the origin, or a loader like this one, said lately that it has no such key."""
        if self._missing.of(key) is (origin is self.origin) and self._is_on("negative"):
            self._count("negative_hits")
            self._tell(EventKind.NEGATIVE_HIT, key)
            return True
        return False

    def _part(self, flight: Flight, started: float) -> None:
        """Leave a flight behind: nobody may wait for it any more, and the listener is told."""
        if not flight.ended:
            self._flights.end_lost(flight)
        if self.events.wanted and flight.error is None:
            took = perf_counter() - started
            if flight.tier is None:
                self._tell(EventKind.MISS, flight.key, seconds=took)
            elif flight.tier is Tier.DISK:
                self._tell(EventKind.HIT, flight.key, flight.tier, took)
        if self.listener is not None and self._is_on("events"):
            try:
                self.listener.looked_up(flight.key, flight.tier, perf_counter() - started)
            except Exception:
                log.exception("a listener failed")

    # -- writes ---------------------------------------------------------------------------------

    def write(
        self,
        key: Any,
        value: Any,
        call: EntryOptions | None = None,
        *,
        cost: float | None = None,
        importance: float = 1.0,
        if_version: int | None = None,
    ) -> Steps[None]:
        """Store a value; the origin comes first, or its queue, if it is to have it."""
        self._require_open()
        options = self.rules.of(key, call)
        strategy = self._writes(options)
        if cost is None:
            cost = self._costs.of(self.rules.of(key))
        if strategy is None:
            with self._flights.lock(key):
                self._check_version(key, if_version)
                self._flights.supersede(key)
                self._missing.forget(key)
                self.tiers.put(
                    key,
                    value,
                    options.ttl,
                    options,
                    cost,
                    importance,
                    None if self.disk is None else if_version,
                )
            self._tell(EventKind.STORED, key)
            return
        self._check_key(key)
        with self._flights.writing(key) as writers:
            with self._flights.lock(key):
                self._check_version(key, if_version)
            validators = yield self._written(strategy, "put", "store", (key, value))
            if strategy == "write_through":
                self._count("stores")
            with self._flights.lock(key):
                self._flights.supersede(key)
                self._missing.forget(key)
                if writers.overlapped:
                    self.tiers.forget(key)
                else:
                    self.tiers.keep(
                        key,
                        value,
                        options.ttl,
                        validators,
                        options,
                        cost=cost,
                        importance=importance,
                    )
        self._tell(EventKind.STORED, key)

    def remove(self, key: Any, call: EntryOptions | None = None) -> Steps[bool]:
        """Delete a key from the tiers; the origin comes first, or its queue, if it is to know."""
        self._require_open()
        strategy = self._writes(self.rules.of(key, call))
        if strategy is None:
            return self._drop(key)
        self._check_key(key)
        with self._flights.writing(key):
            yield self._written(strategy, "delete", "delete", (key,))
            if strategy == "write_through":
                self._count("deletes")
            return self._drop(key)

    def _written(self, strategy: Strategy, queued: str, method: str, args: tuple[Any, ...]) -> Call:
        """The call that brings a write to the origin, at once or by the queue."""
        if strategy == "write_behind":
            return Call(self.queue, queued, args)
        assert self.origin is not None
        return Call(self._guarded_writes(self.origin), method, args)

    def dropped(self, key: Any) -> None:
        """The queue gave up a write: the tiers must not tell what the origin will never have."""
        if not self.closed:
            self._drop(key)

    def _guarded_writes(self, origin: Origin[Any, Any]) -> Origin[Any, Any]:
        return origin if self.guard is None else self._guard_of_now(self.guard).around(origin)

    def _check_version(self, key: Any, expected: int | None) -> None:
        if expected is None:
            return
        entry = self.entry(key)
        found = 0 if entry is None else entry.version
        if found != expected:
            raise VersionConflictError(key, expected, found)

    def _check_key(self, key: Any) -> None:
        """Raise KeyEncodingError before the origin is written, not after."""
        if self.disk is not None:
            from hybridcore.disk.keys import encode_key

            encode_key(key)

    def _drop(self, key: Any) -> bool:
        with self._flights.lock(key):
            self._flights.supersede(key)
            self._missing.forget(key)
            there = self.tiers.forget(key)
        self._tell(EventKind.DELETED, key)
        return there

    def clear(self) -> None:
        """Empty the tiers; loads in flight are handed out but not kept."""
        self._require_open()
        with self._flights.all_locks():
            self._flights.supersede_all()
            self._missing.clear()
            self._failed.clear()
            self.tiers.clear()
        self._tell(EventKind.CLEARED)

    def clear_from(self, prefix: tuple[Any, ...]) -> None:
        """Empty the tiers of keys that begin so; loads of them in flight are not kept."""
        self._require_open()
        with self._flights.all_locks():
            self._flights.supersede_from(prefix)
            self._missing.clear()
            self._failed.clear()
            if self.memory is not None:
                for key in self.memory.coldest(sys.maxsize):
                    if begins(key, prefix):
                        self.memory.discard(key)
            if self.tiers.disk is not None:
                self.tiers.disk.delete_from(prefix)

    def close(self) -> None:
        """Stop answering, write what is queued, and close the disk tier."""
        if self.queue is not None:
            self.queue.close()
        self.events.close()
        self.closed = True
        front = self._front()
        if front is not None:
            front._detach()
        if self.tiers.disk is not None:
            self.tiers.disk.close()

    def answering_memory(self) -> MemoryStore[Any, Any] | None:
        """The memory that may answer before anything else is asked, if there is one."""
        if self.closed or (self.features.restricted and self.features.may_be_off("memory")):
            return None
        return self.memory

    def health(self) -> dict[str, TierHealth]:
        """How the tiers are that can fail."""
        tiers = {}
        if self.tiers.disk is not None:
            tiers["disk"] = self.tiers.disk.health()
        if self.guard is not None and self.guard.circuit is not None:
            circuit = self.guard.circuit
            is_closed = circuit.state == "closed"
            tiers["origin"] = TierHealth(
                "ok" if is_closed else "down", 0.0, None if is_closed else "the breaker is open", 0
            )
        return tiers

    # -- the rest -------------------------------------------------------------------------------

    def _loading_origin(self, key: Any, options: EntryOptions) -> Origin[Any, Any] | None:
        """The origin that a plain miss asks, None under cache_aside."""
        if (options.strategy or self.strategy) == "cache_aside":
            return None
        if self.loaders is not None and not self.loaders.covers(key):
            return None
        return self.origin

    def _writes(self, options: EntryOptions) -> Strategy | None:
        """What a write does to the origin: the strategy, or None when it does nothing."""
        strategy = options.strategy or self.strategy
        if strategy not in ("write_through", "write_behind") or not self._is_on("origin"):
            return None
        if self.origin is None or (strategy == "write_behind" and self.queue is None):
            raise ConfigurationError(
                f'strategy="{strategy}" needs an origin that takes writes'
                + (" and a queue: give the cache strategy= or queue=" if self.origin else "")
            )
        return strategy

    def load_by(self, pattern: Any, many: bool) -> Callable[[Any], Any]:
        """The decorator that registers a loader."""
        with self._counting:
            if self.loaders is None:
                from hybridcore.origins import Loaders

                self.loaders = self.origin = Loaders(self.origin)
        return self.loaders.register(pattern, many=many)

    def _is_on(self, feature: Feature) -> bool:
        return not self.features.restricted or self.features.is_enabled(feature)

    def require(self, key: Any, value: Any) -> Any:
        """The value, or NotFoundError for MISSING."""
        if value is MISSING:
            raise NotFoundError(f"no tier and no loader has {key!r}")
        return value

    def origin_stats(self) -> OriginStats:
        """A snapshot of what was counted."""
        from hybridcore.stats import OriginStats

        with self._counting:
            counts = dict(self._counts)
        counts["spilled"] = self.tiers.spills
        counts["disk_errors"] = 0 if self.tiers.disk is None else self.tiers.disk.errors
        return OriginStats(*(counts.get(name, 0) for name in OriginStats.__slots__))

    def _tell(
        self,
        kind: EventKind,
        key: Any = None,
        tier: Tier | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        if self.events.wanted and self._is_on("events"):
            self.events.emit(kind, key, tier, seconds, reason)

    def _count(self, name: str, by: int = 1) -> None:
        with self._counting:
            self._counts[name] += by

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError("this hybrid cache was closed")


# -- forks ------------------------------------------------------------------------------------

_engines: WeakSet[Engine] = WeakSet()
_watching_forks = False


def _reset_after_forks(engine: Engine) -> None:
    global _watching_forks
    _engines.add(engine)
    if not _watching_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
        _watching_forks = True


def _after_fork_in_child() -> None:
    for engine in _engines:
        engine.start_afresh()
