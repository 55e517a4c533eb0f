"""The engine: decides what a hybrid cache does, and never waits.

An operation is a generator. It works on the tiers by itself, and wherever it would have to wait
(for the origin, for somebody else's load) it yields an `Effect` and is resumed with the outcome.
The two faces differ only in how they carry an effect out: `hybrid` blocks, `aio` awaits.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from threading import RLock
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakSet

from hybridcore.errors import (
    ClosedError,
    DiskError,
    EncodeError,
    NotFoundError,
    OriginError,
    PartialLoadError,
    ValueTooLargeError,
)
from hybridcore.flights import MISSING, Copy, Flight, Flights, WaitsForItselfError, led_here
from hybridcore.types import Answer, Listener, Loaded, NotFound, NotModified, Tier, Validators

if TYPE_CHECKING:
    from hybridcore._native import Front, MemoryStore
    from hybridcore.config import EntryOptions, Strategy
    from hybridcore.disk import Lmdb
    from hybridcore.origins.base import Origin
    from hybridcore.stats import OriginStats

T = TypeVar("T")

log = logging.getLogger("hybridcore")


class Call(NamedTuple):
    """Effect: call a method of the origin (its ``a`` twin under asyncio), within `leading`."""

    origin: Origin[Any, Any]
    method: str
    args: tuple[Any, ...]
    flights: tuple[Flight, ...] = ()


class Wait(NamedTuple):
    """Effect: wait until ``flight.future`` is done; what became of it is on the flight.

    Who blocks must not do so where the flight runs: it throws `WaitsForItselfError` instead.
    """

    flight: Flight


Effect = Call | Wait
Steps = Generator[Effect, Any, T]
"""An operation under way: yields effects, is sent their outcomes, returns a T."""


class Engine:
    """The tiers and the rules between them; `Flights` has the loads that run."""

    def __init__(
        self,
        front: Callable[[], Front[Any, Any] | None],
        memory: MemoryStore[Any, Any] | None,
        disk: Lmdb[Any, Any] | None,
        origin: Origin[Any, Any] | None,
        strategy: Strategy,
        defaults: EntryOptions,
        listener: Listener | None,
    ) -> None:
        self._front = front
        self.memory = memory
        self._memory_ttl = memory.options()[2] if memory is not None else None  # bounds all others
        self.disk = disk
        self.origin = origin
        self.strategy = strategy
        self.ttl: float | None = defaults.ttl
        self.stale: float = defaults.stale
        self.listener = listener
        self.closed = False
        self._counts: Counter[str] = Counter()
        self.start_afresh()
        _reset_after_forks(self)

    def start_afresh(self) -> None:
        """Forget what is under way, and its locks: after a fork nobody is here to end it."""
        self._counting = RLock()
        self._flights = Flights()

    # -- reads ----------------------------------------------------------------------------------

    def read(
        self, key: Any, default: Any, origin: Origin[Any, Any] | None, ttl: float | None = None
    ) -> Steps[Any]:
        """Answer a key that was not in memory: from disk, from ``origin``, or with ``default``."""
        self._require_open()
        started = perf_counter()
        flight = Flight(key, origin)
        try:
            while (other := self._flights.join(flight)) is not None:
                if (yield from self._follow(flight, other, ttl)):
                    break
            else:
                yield from self._lead(flight, ttl)
        finally:
            self._part(flight, started)
        if flight.error is not None:
            raise flight.error
        return default if flight.value is MISSING else flight.value

    def read_many(self, keys: Iterable[Any]) -> Steps[dict[Any, Any]]:
        """Answer several keys, one batch per tier; only the missing ones go down."""
        self._require_open()
        wanted = list(dict.fromkeys(keys))
        found = self.memory.get_many(wanted) if self.memory is not None else {}
        started = perf_counter()
        origin = self.loading_origin()
        flights = [Flight(key, origin) for key in wanted if key not in found]
        try:
            rest = flights
            while rest:
                others = [(flight, self._flights.join(flight)) for flight in rest]
                yield from self._lead_many([flight for flight, other in others if other is None])
                rest = []
                for flight, other in others:
                    if other is None:
                        continue
                    if not (yield from self._follow(flight, other, None)):
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
        if self.memory is not None and key in self.memory:
            return True
        try:
            return self.disk is not None and key in self.disk
        except DiskError as error:
            self._disk_failed(error)
            return False

    def _follow(self, flight: Flight, other: Flight, ttl: float | None) -> Steps[bool]:
        """End the flight as the other one ends; False when it has to be tried again."""
        try:
            with self._flights.waiting(other):
                yield Wait(other)
        except WaitsForItselfError:
            if led_here(flight.key) > 1:
                raise RecursionError(
                    f"the loader of {flight.key!r} asks the cache for {flight.key!r} over and over"
                ) from None
            yield from self._lead(flight, ttl)  # for itself alone: not registered, so not kept
            return True
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

    def _lead(self, flight: Flight, ttl: float | None) -> Steps[None]:
        self._look_up([flight])
        if flight.ended:
            return
        if flight.origin is None:
            self._flights.end(flight)
            return
        answer: Answer[Any] | Exception
        try:
            answer = yield Call(flight.origin, "load", (flight.key, _held(flight)), (flight,))
        except Exception as error:
            answer = error
        self._settle(flight, answer, self.ttl if ttl is None else ttl)

    def _lead_many(self, flights: list[Flight]) -> Steps[None]:
        self._look_up(flights)
        flights = [flight for flight in flights if not flight.ended]
        if not flights:
            return
        origin = flights[0].origin
        if origin is None:
            for flight in flights:
                self._flights.end(flight)
            return
        wanted = {flight.key: _held(flight) for flight in flights}
        try:
            answers = yield Call(origin, "load_many", (wanted,), tuple(flights))
            answers = {key: answers.get(key, NotFound()) for key in wanted}
        except Exception as error:
            answers = dict.fromkeys(wanted, error)
        for flight in flights:
            self._settle(flight, answers[flight.key], self.ttl)

    def _look_up(self, flights: list[Flight]) -> None:
        """End the flights that the tiers can answer, and note the stale copies of the others."""
        if self.memory is not None:
            for flight in flights:
                held = self.memory.held(flight.key)
                if held is None:
                    continue
                value, left, note = held
                if left is None or left > 0:  # it landed between the miss and the flight
                    self._flights.end(flight, value, Tier.MEMORY)
                else:
                    flight.copy = Copy(value, note, Tier.MEMORY)
        if self.disk is None:
            return
        below = {flight.key: flight for flight in flights if not flight.ended}
        if not below:
            return
        try:
            records = self.disk.fetch_many(below)
        except DiskError as error:
            self._disk_failed(error)
            return
        for key, record in records.items():
            flight = below[key]
            if not record.fresh:
                flight.copy = Copy(record.value, record.validators, Tier.DISK)
                continue
            with self._flights.lock(key):
                if self._flights.holds(flight):
                    self._hold(key, record.value, record.ttl_left, record.validators)
                self._flights.end(flight, record.value, Tier.DISK)

    def _settle(self, flight: Flight, answer: Answer[Any] | Exception, ttl: float | None) -> None:
        """End a flight with what the origin answered, or with the stale copy if it failed."""
        try:
            value = self._accept(flight, answer, ttl)
        except Exception as error:
            self._count("errors")
            if flight.copy is None:
                self._flights.end(flight, error=error)
            else:
                self._count("stale_served")
                self._flights.end(flight, flight.copy.value, flight.copy.tier)
        else:
            self._flights.end(flight, value, None if value is MISSING else Tier.ORIGIN)

    def _accept(self, flight: Flight, answer: Answer[Any] | Exception, ttl: float | None) -> Any:
        """Keep what the origin answered, unless a write came between, and return the value."""
        if isinstance(answer, Exception) and not isinstance(answer, NotFoundError):
            raise answer
        self._count("loads")
        value: Any = MISSING
        validators: Validators | None = None
        if isinstance(answer, Loaded):
            value, validators = answer.value, answer.validators
        elif isinstance(answer, NotModified):
            if flight.copy is None:
                raise OriginError(
                    f"the origin answered 'not modified' for {flight.key!r}, but no copy is held"
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
        try:
            with self._flights.lock(flight.key):
                if not self._flights.holds(flight):
                    pass
                elif value is MISSING:
                    self._forget(flight.key)
                else:
                    self._keep(flight.key, value, ttl, validators, loaded=True)
        except DiskError as error:
            self._disk_failed(error)
        except ClosedError:
            pass  # closed while it loaded: handed out, not kept
        return value

    def _part(self, flight: Flight, started: float) -> None:
        """Leave a flight behind: nobody may wait for it any more, and the listener is told."""
        if not flight.ended:
            self._flights.end_lost(flight)
        if self.listener is not None:
            try:
                self.listener.looked_up(flight.key, flight.tier, perf_counter() - started)
            except Exception:
                log.exception("a listener failed")

    # -- writes ---------------------------------------------------------------------------------

    def write(self, key: Any, value: Any, ttl: float | None) -> Steps[None]:
        """Store a value; under write_through the origin comes first."""
        self._require_open()
        ttl = self.ttl if ttl is None else ttl
        origin = self._written_origin()
        if origin is None:
            with self._flights.lock(key):
                self._flights.supersede(key)
                if self.disk is None:
                    self._put_in_memory(key, value, ttl, None)
                else:
                    self.disk.put(key, value, ttl=ttl, stale=self.stale)
                    self._hold(key, value, ttl, None)
            return
        self._check_key(key)
        with self._flights.writing(key) as writers:
            validators = yield Call(origin, "store", (key, value))
            self._count("stores")
            with self._flights.lock(key):
                self._flights.supersede(key)
                if writers.overlapped:
                    self._forget(key)
                else:
                    self._keep(key, value, ttl, validators)

    def remove(self, key: Any) -> Steps[bool]:
        """Delete a key from the tiers; under write_through the origin comes first."""
        self._require_open()
        origin = self._written_origin()
        if origin is None:
            return self._drop(key)
        self._check_key(key)
        with self._flights.writing(key):
            yield Call(origin, "delete", (key,))
            self._count("deletes")
            return self._drop(key)

    def _check_key(self, key: Any) -> None:
        """Raise KeyEncodingError before the origin is written, not after."""
        if self.disk is not None:
            from hybridcore.disk.keys import encode_key

            encode_key(key)

    def _drop(self, key: Any) -> bool:
        with self._flights.lock(key):
            self._flights.supersede(key)
            return self._forget(key)

    def clear(self) -> None:
        """Empty the tiers; loads in flight are handed out but not kept."""
        self._require_open()
        with self._flights.all_locks():
            self._flights.supersede_all()
            if self.memory is not None:
                self.memory.clear()
            if self.disk is not None:
                self.disk.clear()

    # -- tiers ----------------------------------------------------------------------------------

    def _keep(
        self,
        key: Any,
        value: Any,
        ttl: float | None,
        validators: Validators | None,
        *,
        loaded: bool = False,
    ) -> None:
        """Put what the origin has into the tiers; one that cannot take it keeps nothing older.

        What was loaded is only offered to the disk, which writes what seems worth it.

        Raises:
            DiskError: something older may still be on disk.
        """
        try:
            if self.disk is not None:
                store = self.disk.offer if loaded else self.disk.put
                store(key, value, ttl=ttl, stale=self.stale, validators=validators)
        except (EncodeError, ValueTooLargeError) as error:
            log.warning("%s is not kept on disk: %s", type(value).__name__, error)
            self._forget(key)
        except DiskError as error:
            self._disk_failed(error)
            self._forget(key)
        finally:
            self._hold(key, value, ttl, validators)

    def _put_in_memory(
        self, key: Any, value: Any, ttl: float | None, validators: Validators | None
    ) -> None:
        if self.memory is None:
            return
        if self._memory_ttl is not None:
            ttl = self._memory_ttl if ttl is None else min(ttl, self._memory_ttl)
        self.memory.hold(key, value, validators, ttl, 0.0 if ttl is None else self.stale)

    def _hold(self, key: Any, value: Any, ttl: float | None, validators: Validators | None) -> None:
        try:
            self._put_in_memory(key, value, ttl, validators)
        except BaseException as error:
            assert self.memory is not None
            self.memory.discard(key)  # no older value may stay
            if not isinstance(error, ValueTooLargeError):
                raise

    def _forget(self, key: Any) -> bool:
        """Delete a key from the tiers; return whether one had it."""
        there = self.memory is not None and self.memory.discard(key)
        if self.disk is not None:
            there = self.disk.delete(key) or there
        return there

    def close(self) -> None:
        """Stop answering and close the disk tier."""
        self.closed = True
        front = self._front()
        if front is not None:
            front._detach()
        if self.disk is not None:
            self.disk.close()

    # -- the rest -------------------------------------------------------------------------------

    def loading_origin(self) -> Origin[Any, Any] | None:
        """The origin that a plain miss asks, None under cache_aside."""
        return None if self.strategy == "cache_aside" else self.origin

    def _written_origin(self) -> Origin[Any, Any] | None:
        return self.origin if self.strategy == "write_through" else None

    def require(self, key: Any, value: Any) -> Any:
        """The value, or NotFoundError for MISSING."""
        if value is MISSING:
            raise NotFoundError(f"no tier and no loader has {key!r}")
        return value

    def origin_stats(self) -> OriginStats:
        """A snapshot of what was counted."""
        from hybridcore.stats import OriginStats

        with self._counting:
            return OriginStats(*(self._counts[name] for name in OriginStats.__slots__))

    def _count(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1

    def _disk_failed(self, error: DiskError) -> None:
        first = not self._counts["disk_errors"]
        self._count("disk_errors")
        log.log(
            logging.WARNING if first else logging.DEBUG,
            "the disk tier failed and was passed over: %s",
            error,
        )

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError("this hybrid cache was closed")


def _held(flight: Flight) -> Validators | None:
    return flight.copy.validators if flight.copy is not None else None


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
