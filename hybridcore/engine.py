"""The engine: decides what a hybrid cache does, and never waits.

An operation is a generator. It works on the tiers by itself, and wherever it would have to wait
(for the origin, for somebody else's load) it yields an `Effect` and is resumed with the outcome.
The two faces differ only in how they carry an effect out: `hybrid` blocks, `aio` awaits.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock, get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hybridcore.errors import (
    ClosedError,
    DiskError,
    EncodeError,
    NotFoundError,
    OriginError,
    PartialLoadError,
    ValueTooLargeError,
)
from hybridcore.types import Answer, Listener, Loaded, NotFound, NotModified, Tier, Validators

if TYPE_CHECKING:
    from hybridcore._native import MemoryStore
    from hybridcore.config import EntryOptions, Strategy
    from hybridcore.disk import Lmdb
    from hybridcore.origins.base import Origin
    from hybridcore.stats import OriginStats

T = TypeVar("T")

log = logging.getLogger("hybridcore")

MISSING: Any = object()
"""No value, where None is one."""


class Call(NamedTuple):
    """Effect: call a method of the origin (its ``a`` twin under asyncio), within `leading`."""

    origin: Origin[Any, Any]
    method: str
    args: tuple[Any, ...]
    flights: tuple[Flight, ...] = ()


class Wait(NamedTuple):
    """Effect: wait for a load that somebody else leads.

    Whoever blocks must not do so in the leader's own ``thread``: it throws `LeaderIsHereError`.
    """

    future: Future[Any]
    thread: int


Effect = Call | Wait
Steps = Generator[Effect, Any, T]
"""An operation under way: yields effects, is sent their outcomes, returns a T."""


class LeaderLostError(Exception):
    """The load was cancelled or interrupted with its leader; another caller has to lead."""


class LeaderIsHereError(Exception):
    """The leader is a task of this very thread, which would wait for itself for ever."""


class Copy(NamedTuple):
    """A copy that is past its ttl: to be renewed, or served while the origin fails."""

    value: Any
    validators: Validators | None


class Flight:
    """One load, however many callers want it."""

    __slots__ = ("copy", "future", "key", "thread", "waits_for")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.thread = get_ident()
        self.copy: Copy | None = None
        self.future: Future[Any] | None = None  # made when the first follower comes
        self.waits_for: list[Flight] = []  # flights that the loader of this one waits for


_leading: ContextVar[tuple[Flight, ...]] = ContextVar("hybridcore_leading", default=())
"""The flights whose loaders are running in this context, outermost first."""


@contextmanager
def leading(flights: tuple[Flight, ...]) -> Iterator[None]:
    """While the origin is called for these flights, so that a loader that asks back is known."""
    token = _leading.set(_leading.get() + flights)
    try:
        yield
    finally:
        _leading.reset(token)


@dataclass(slots=True)
class Counts:
    """What the engine counted about the origin."""

    loads: int = 0
    not_modified: int = 0
    not_found: int = 0
    errors: int = 0
    stale_served: int = 0
    stores: int = 0
    deletes: int = 0
    disk_errors: int = 0


class Engine:
    """The tiers, the loads in flight, and the rules between them.

    A load is registered in ``_flights`` under its key. A write, delete or clear takes it out, and
    a load that is not registered any more when it ends is handed to its callers but not kept: the
    write wins. That check and the writes to the tiers happen under one of 64 locks, by key.
    """

    def __init__(
        self,
        memory: MemoryStore[Any, Any] | None,
        disk: Lmdb[Any, Any] | None,
        origin: Origin[Any, Any] | None,
        strategy: Strategy,
        defaults: EntryOptions,
        listener: Listener | None,
    ) -> None:
        self.memory = memory
        self.disk = disk
        self.origin = origin
        self.strategy = strategy
        self.ttl: float | None = defaults.ttl  # type: ignore[assignment]  # seconds since __post_init__
        self.stale: float = defaults.stale  # type: ignore[assignment]
        self.listener = listener
        self.closed = False
        self._counts = Counts()
        self._counting = Lock()
        self._flights: dict[Any, Flight] = {}
        self._locks = [Lock() for _ in range(64)]

    # -- reads ----------------------------------------------------------------------------------

    def read(
        self, key: Any, default: Any, origin: Origin[Any, Any] | None, ttl: float | None = None
    ) -> Steps[Any]:
        """Answer a key that was not in memory: from disk, from ``origin``, or with ``default``."""
        self._require_open()
        started = perf_counter() if self.listener is not None else 0.0
        value, tier = yield from self._read(key, origin, self.ttl if ttl is None else ttl)
        if self.listener is not None:
            self._tell(key, tier, perf_counter() - started)
        return default if value is MISSING else value

    def _read(
        self, key: Any, origin: Origin[Any, Any] | None, ttl: float | None
    ) -> Steps[tuple[Any, Tier | None]]:
        while True:
            flight, leads = self._join(key)
            if leads:
                break
            try:
                value = yield from self._follow(flight)
            except LeaderLostError:
                continue
            except LeaderIsHereError:
                flight = Flight(key)  # leads for itself alone: not registered, so not kept
                break
            return value, None if value is MISSING else Tier.ORIGIN
        try:
            value = self._look_up(flight)
            if value is not MISSING:
                self._land(flight, value)
                return value, Tier.MEMORY if self.disk is None else Tier.DISK
            if origin is None:
                self._land(flight, MISSING)
                return MISSING, None
            answer = yield Call(origin, "load", (key, _validators(flight)), (flight,))
            value = self._accept(flight, answer, ttl)
        except BaseException as error:
            value = self._fail(flight, error)
        return value, None if value is MISSING else Tier.ORIGIN

    def read_many(self, keys: Iterable[Any]) -> Steps[dict[Any, Any]]:
        """Answer several keys, one batch per tier; only the missing ones go down."""
        self._require_open()
        wanted = list(dict.fromkeys(keys))
        found = self.memory.get_many(wanted) if self.memory is not None else {}
        errors: dict[Any, Exception] = {}
        missing = [key for key in wanted if key not in found]
        while missing:
            joined = [self._join(key) for key in missing]
            led = {flight.key: flight for flight, leads in joined if leads}
            missing = []
            yield from self._lead_many(led, found, errors)
            for flight, leads in joined:
                if leads:
                    continue
                try:
                    value = yield from self._follow(flight)
                except LeaderLostError:
                    missing.append(flight.key)
                except LeaderIsHereError:
                    alone = {flight.key: Flight(flight.key)}
                    yield from self._lead_many(alone, found, errors)
                except Exception as error:
                    errors[flight.key] = error
                else:
                    if value is not MISSING:
                        found[flight.key] = value
        if errors:
            raise PartialLoadError(found, errors)
        return {key: found[key] for key in wanted if key in found}

    def _lead_many(
        self, led: dict[Any, Flight], found: dict[Any, Any], errors: dict[Any, Exception]
    ) -> Steps[None]:
        open_flights = dict(led)

        def settle(flight: Flight, value: Any) -> None:
            del open_flights[flight.key]
            if value is not MISSING:
                found[flight.key] = value

        try:
            for key, value in self._look_up_many(led).items():
                self._land(led[key], value)
                settle(led[key], value)
            if not open_flights:
                return
            origin = self.loading_origin()
            if origin is None:
                for flight in list(open_flights.values()):
                    self._land(flight, MISSING)
                    settle(flight, MISSING)
                return
            wanted = {key: _validators(flight) for key, flight in open_flights.items()}
            answers = yield Call(origin, "load_many", (wanted,), tuple(open_flights.values()))
            for key, flight in list(open_flights.items()):
                try:
                    answer = answers.get(key, NotFound())
                    if isinstance(answer, Exception):
                        value = self._fail(flight, answer)
                    else:
                        value = self._accept(flight, answer, self.ttl)
                except Exception as error:
                    errors[key] = error
                    value = MISSING
                settle(flight, value)
        except BaseException as error:
            for key, flight in open_flights.items():
                try:
                    value = self._fail(flight, error)
                except Exception as failure:
                    errors[key] = failure
                else:
                    if value is not MISSING:
                        found[key] = value

    def contains(self, key: Any) -> bool:
        """Whether a tier holds a fresh entry; the origin is not asked."""
        self._require_open()
        if self.memory is not None and key in self.memory:
            return True
        return self.disk is not None and key in self.disk

    # -- writes ---------------------------------------------------------------------------------

    def write(self, key: Any, value: Any, ttl: float | None) -> Steps[None]:
        """Store a value; under write_through the origin comes first."""
        self._require_open()
        if ttl is None:
            ttl = self.ttl
        validators = None
        if self.strategy == "write_through" and self.origin is not None:
            validators = yield Call(self.origin, "store", (key, value))
            self._count("stores")
        with self._lock(key):
            self._flights.pop(key, None)
            if self.disk is not None:
                self.disk.put(key, value, ttl=ttl, stale=self.stale, validators=validators)
            if not self._hold(key, value, ttl, validators) and self.disk is None:
                raise ValueTooLargeError(
                    f"the value of {key!r} is larger than the memory tier and there is no disk tier"
                )

    def remove(self, key: Any) -> Steps[bool]:
        """Delete a key from the tiers (and from the origin under write_through)."""
        self._require_open()
        if self.strategy == "write_through" and self.origin is not None:
            yield Call(self.origin, "delete", (key,))
            self._count("deletes")
        return self._drop(key)

    def clear(self) -> None:
        """Empty the tiers; loads in flight are handed out but not kept."""
        self._require_open()
        for key in list(self._flights):
            with self._lock(key):
                self._flights.pop(key, None)
        if self.disk is not None:
            self.disk.clear()
        if self.memory is not None:
            self.memory.clear()

    # -- flights --------------------------------------------------------------------------------

    def _join(self, key: Any) -> tuple[Flight, bool]:
        """Return the flight for the key and whether the caller has to lead it."""
        with self._lock(key):
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight(key)
                return flight, True
            if _closes_a_ring(flight):
                return Flight(key), True  # for itself alone
            if flight.future is None:
                flight.future = Future()
                flight.future.set_running_or_notify_cancel()
            for mine in _leading.get():
                mine.waits_for.append(flight)
            return flight, False

    def _follow(self, flight: Flight) -> Steps[Any]:
        try:
            assert flight.future is not None
            return (yield Wait(flight.future, flight.thread))
        finally:
            for mine in _leading.get():
                mine.waits_for.remove(flight)

    def _take_off(self, flight: Flight) -> bool:
        """Unregister the flight, under its lock; False when a write has superseded it."""
        if self._flights.get(flight.key) is not flight:
            return False
        del self._flights[flight.key]
        return True

    def _land(self, flight: Flight, value: Any) -> None:
        """End a flight whose value, if any, is already in the tiers."""
        with self._lock(flight.key):
            self._take_off(flight)
            future = flight.future
        if future is not None:
            future.set_result(value)

    def _accept(self, flight: Flight, answer: Answer[Any], ttl: float | None) -> Any:
        """Take in what the origin answered, end the flight, and return the value."""
        self._count("loads")
        value = MISSING
        if isinstance(answer, Loaded):
            value, validators = answer.value, answer.validators
        elif isinstance(answer, NotModified):
            if flight.copy is None:
                raise OriginError(
                    f"the origin answered 'not modified' for {flight.key!r}, "
                    "of which no copy is held"
                )
            self._count("not_modified")
            value, validators = flight.copy
        elif isinstance(answer, NotFound):
            self._count("not_found")
        else:
            raise OriginError(
                "an origin is expected to answer Loaded, NotModified or NotFound, "
                f"got {type(answer).__name__}"
            )
        with self._lock(flight.key):
            if self._take_off(flight):
                if value is MISSING:
                    self._forget(flight.key)
                else:
                    own = answer.ttl  # type: ignore[union-attr]  # NotFound has no value
                    self._keep(flight.key, value, ttl if own is None else own, validators)
            future = flight.future
        if future is not None:
            future.set_result(value)
        return value

    def _fail(self, flight: Flight, error: BaseException) -> Any:
        """End a flight that failed: with the stale copy if there is one, else raise ``error``."""
        outcome: BaseException | None = error
        if isinstance(error, NotFoundError):
            return self._accept(flight, NotFound(), None)
        if not isinstance(error, Exception):
            outcome = LeaderLostError()  # cancelled or interrupted: only the leader hears of it
        else:
            self._count("errors")
            if flight.copy is not None:
                self._count("stale_served")
                outcome = None
        with self._lock(flight.key):
            self._take_off(flight)
            future = flight.future
        if future is not None:
            if outcome is None:
                future.set_result(flight.copy[0])  # type: ignore[index]
            else:
                future.set_exception(outcome)
        if outcome is None:
            return flight.copy[0]  # type: ignore[index]
        raise error

    # -- tiers ----------------------------------------------------------------------------------

    def _look_up(self, flight: Flight) -> Any:
        """The fresh value from the tiers, or MISSING with the stale copy noted on the flight."""
        return self._look_up_many({flight.key: flight}).get(flight.key, MISSING)

    def _look_up_many(self, flights: dict[Any, Flight]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        if self.memory is not None:
            for key, flight in flights.items():
                held = self.memory.held(key)
                if held is None:
                    continue
                value, left, note = held
                if left is None or left > 0:
                    found[key] = value  # it landed between the miss and the flight
                else:
                    flight.copy = Copy(value, note)
        rest = [key for key in flights if key not in found]
        if self.disk is None or not rest:
            return found
        try:
            records = self.disk.fetch_many(rest)
        except DiskError as error:
            self._disk_failed(error)
            return found
        for key, record in records.items():
            flight = flights[key]
            if not record.fresh:
                flight.copy = Copy(record.value, record.validators)
                continue
            found[key] = record.value
            with self._lock(key):
                if self._flights.get(key) is flight:
                    self._hold(key, record.value, record.ttl_left, record.validators)
        return found

    def _keep(self, key: Any, value: Any, ttl: float | None, validators: Validators | None) -> None:
        """Put a loaded value into the tiers; one that a tier cannot take is served all the same."""
        if self.disk is not None:
            try:
                self.disk.put(key, value, ttl=ttl, stale=self.stale, validators=validators)
            except (EncodeError, ValueTooLargeError) as error:
                log.warning("%s is not kept on disk: %s", type(value).__name__, error)
                self.disk.delete(key)
            except DiskError as error:
                self._disk_failed(error)
        self._hold(key, value, ttl, validators)

    def _hold(self, key: Any, value: Any, ttl: float | None, validators: Validators | None) -> bool:
        """Put a value into memory; False, and no older value left, when it is too large."""
        if self.memory is None:
            return self.disk is not None
        try:
            self.memory.hold(key, value, validators, ttl, self.stale if ttl is not None else 0.0)
        except ValueTooLargeError:
            self.memory.discard(key)
            return False
        return True

    def _drop(self, key: Any) -> bool:
        with self._lock(key):
            self._flights.pop(key, None)
            return self._forget(key)

    def _forget(self, key: Any) -> bool:
        there = False
        if self.disk is not None:
            there = self.disk.delete(key)
        if self.memory is not None:
            there = self.memory.discard(key) or there
        return there

    def require(self, key: Any, value: Any) -> Any:
        """The value, or NotFoundError for MISSING."""
        if value is MISSING:
            raise NotFoundError(f"no tier and no loader has {key!r}")
        return value

    def close(self) -> bool:
        """Close the disk tier and stop answering; False when that was done before."""
        if self.closed:
            return False
        self.closed = True
        if self.disk is not None:
            self.disk.close()
        return True

    # -- the rest -------------------------------------------------------------------------------

    def loading_origin(self) -> Origin[Any, Any] | None:
        """The origin that a plain miss asks, None under cache_aside."""
        return None if self.strategy == "cache_aside" else self.origin

    def origin_stats(self) -> OriginStats:
        """A snapshot of what was counted."""
        from hybridcore.stats import OriginStats

        with self._counting:
            counts = self._counts
            return OriginStats(**{name: getattr(counts, name) for name in Counts.__slots__})

    def _lock(self, key: Any) -> Lock:
        return self._locks[hash(key) & 63]

    def _count(self, name: str) -> None:
        with self._counting:
            setattr(self._counts, name, getattr(self._counts, name) + 1)

    def _disk_failed(self, error: DiskError) -> None:
        first = self._counts.disk_errors == 0
        self._count("disk_errors")
        log.log(
            logging.WARNING if first else logging.DEBUG,
            "the disk tier failed and was passed over: %s",
            error,
        )

    def _tell(self, key: Any, tier: Tier | None, duration: float) -> None:
        assert self.listener is not None
        try:
            self.listener.looked_up(key, tier, duration)
        except Exception:
            log.exception("a listener failed")

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError("this hybrid cache was closed")


def _validators(flight: Flight) -> Validators | None:
    return flight.copy.validators if flight.copy is not None else None


def _closes_a_ring(flight: Flight) -> bool:
    """Whether waiting for the flight would, over others, wait for one that is led here."""
    mine = _leading.get()
    reached = [flight] if mine else []
    for other in reached:
        if other in mine:
            return True
        reached.extend(waited for waited in other.waits_for if waited not in reached)
    return False
