"""Single flight: one load per key at a time, however many callers want it.

A load is registered under its key while it runs. A write takes the registration out, and a load
that is not registered any more when it ends is handed to its callers but not kept: the write wins.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from hybridcore._native import MISSING as MISSING
from hybridcore._native import Flight as Flight
from hybridcore._native import KeyLock
from hybridcore._native import led_in_context as led_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridcore._native import Straight
    from hybridcore.types import Tier

_NOBODY = -1


class WaitsForItselfError(Exception):
    """Waiting for this load would never end: it waits for the one who would wait."""


@dataclass(slots=True)
class Writers:
    """Those who are writing one key to the origin."""

    count: int = 0
    overlapped: bool = False  # so nobody knows whose value the origin has now


class Flights:
    """The loads under way, and the locks under which entries are changed, chosen by key.

    ``locks`` divides 64. With several, destructors that run under one and ask for another may
    wait for each other.
    """

    def __init__(self, locks: int = 64) -> None:
        self._flights: dict[Any, Flight] = {}
        # Re-entrant: listeners, destructors and the garbage collector may come back.
        self._locks = [KeyLock() for _ in range(locks)] * (64 // locks)
        self._waiting = RLock()
        self._writers: dict[Any, Writers] = {}

    def lock(self, key: Any) -> KeyLock:
        """The lock under which the key is changed; raises TypeError for unhashable keys."""
        return self._locks[hash(key) & 63]

    @property
    def any(self) -> bool:
        """Whether any load is under way."""
        return bool(self._flights)

    def lay(self, straight: Straight) -> None:
        """Have loads on the straight way registered here."""
        straight.attend(self._flights, self._locks)

    @contextmanager
    def all_locks(self) -> Iterator[None]:
        """Nobody else changes any key meanwhile."""
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            yield

    def join(self, flight: Flight) -> Flight | None:
        """Register the flight; if its key is being loaded, return that flight instead."""
        with self.lock(flight.key):
            other = self._flights.get(flight.key)
            if other is None or other.ended or other.is_abandoned():
                if other is not None:
                    self.end_lost(other)
                self._flights[flight.key] = flight
                return None
            if other.future is None:
                other.future = Future()
                other.future.set_running_or_notify_cancel()  # a follower cannot cancel it
            return other

    def hand_over(self, flight: Flight) -> Flight:
        """Return a flight of the same key that goes on in the background in its place."""
        with self.lock(flight.key):
            other = Flight(flight.key, flight.origin, flight.options)
            other.since = flight.since
            other.met = flight.met
            other.queued = flight.queued
            other.thread = _NOBODY
            other.copy = flight.copy
            other.future = flight.future or Future()
            if flight.future is None:
                other.future.set_running_or_notify_cancel()
            flight.successor = other  # from now on the future, if there is one, is its own
            if self._flights.get(flight.key) is flight:
                self._flights[flight.key] = other
        return other

    def holds(self, flight: Flight) -> bool:
        """Under the lock: whether what the flight brings is to be kept, which counts as a write."""
        self.lock(flight.key).written()
        return self._flights.get(flight.key) is flight

    def supersede(self, key: Any) -> None:
        """Under the lock: let nothing be kept of the load that runs."""
        self.lock(key).written()
        self._flights.pop(key, None)

    def meet(self, key: Any) -> None:
        """Under the lock: have the load that runs settle with what is put now."""
        self.lock(key).written()
        flight = self._flights.get(key)
        if flight is not None:
            flight.met = True

    def supersede_all(self) -> None:
        """Under all locks: let nothing be kept of any load that runs."""
        self._written()
        self._flights.clear()

    def supersede_from(self, prefix: tuple[Any, ...]) -> None:
        """Under all locks: let nothing be kept of the loads of tuples that begin so."""
        self._written()
        for key in [key for key in self._flights if begins(key, prefix)]:
            del self._flights[key]

    def _written(self) -> None:
        for lock in self._locks:
            lock.written()

    def end(
        self,
        flight: Flight,
        value: Any = MISSING,
        tier: Tier | None = None,
        error: Exception | None = None,
        *,
        lost: bool = False,
    ) -> None:
        """Tell the followers what became of the flight; of several calls the first counts."""
        with self.lock(flight.key):
            if not flight.ended:
                flight.value, flight.tier, flight.error, flight.lost = value, tier, error, lost
                flight.ended = True
            if flight.future is not None and flight.successor is None and not flight.future.done():
                flight.future.set_result(None)
            if self._flights.get(flight.key) is flight:  # last: comparing keys may raise
                del self._flights[flight.key]

    def end_lost(self, flight: Flight) -> None:
        """End a flight that nobody ended: its followers have to lead themselves."""
        self.end(flight, lost=True)

    @contextmanager
    def waiting(self, other: Flight) -> Iterator[None]:
        """While the loaders that run in this context wait for the other flight.

        Raises:
            WaitsForItselfError: the other one waits for a loader of this context.
        """
        mine = led_in_context.get()
        if not mine:
            yield
            return
        with self._waiting:
            if _reaches(other, mine):
                raise WaitsForItselfError
            for flight in mine:
                flight.waits_for.append(other)
        try:
            yield
        finally:
            with self._waiting:
                for flight in mine:
                    flight.waits_for.remove(other)

    def is_written(self, key: Any) -> bool:
        """Whether the origin, or its queue, is being written; with the key's lock held."""
        return key in self._writers

    @contextmanager
    def writing(self, key: Any) -> Iterator[Writers]:
        """While the origin is written, so that writes of one key that overlap are known."""
        with self.lock(key):
            writers = self._writers.setdefault(key, Writers())
            writers.count += 1
            writers.overlapped |= writers.count > 1
        try:
            yield writers
        finally:
            with self.lock(key):
                writers.count -= 1
                if not writers.count:
                    self._writers.pop(key, None)


def begins(key: object, prefix: tuple[Any, ...]) -> bool:
    """Whether the key is a tuple with these first elements."""
    return isinstance(key, tuple) and key[: len(prefix)] == prefix


class leading:
    """While the origin is called for these flights, so that a loader that asks back is known."""

    __slots__ = ("_flights", "_token")

    def __init__(self, flights: tuple[Flight, ...]) -> None:
        self._flights = flights

    def __enter__(self) -> None:
        self._token = led_in_context.set(led_in_context.get() + self._flights)

    def __exit__(self, *error: object) -> None:
        try:
            led_in_context.reset(self._token)
        except ValueError:  # an abandoned task is ended by the collector, anywhere
            return


def led_here(key: Any) -> int:
    """How many flights of the key have their loaders running in this context."""
    return sum(flight.key == key for flight in led_in_context.get())


def _reaches(flight: Flight, goals: tuple[Flight, ...]) -> bool:
    """Whether the flight is one of the goals, or waits for one over any number of others."""
    reached = [flight]
    for other in reached:
        if other in goals:
            return True
        reached.extend(waited for waited in other.waits_for if waited not in reached)
    return False
