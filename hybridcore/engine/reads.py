"""Reads: who leads a load, who follows, and who is served a copy meanwhile."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hybridcore.engine.effects import Spawn, Steps, Wait
from hybridcore.engine.loads import Loads
from hybridcore.errors import NotFoundError, PartialLoadError
from hybridcore.events import EventKind
from hybridcore.flights import MISSING, Flight, WaitsForItselfError, led_here
from hybridcore.tiers import Copy, State
from hybridcore.types import Entry, Tier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybridcore.config import EntryOptions
    from hybridcore.origins.base import Origin


log = logging.getLogger("hybridcore")


class Reads(Loads):
    """The part of the engine that answers keys."""

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
        if self.coherence.catch_up() and (found := self._in_memory_after_all(key)) is not MISSING:
            return found
        options = self.rules.of(key, call)
        origin = loader or self._loading_origin(key, options)
        if self._is_known_missing(key, origin):
            return default
        started = perf_counter()
        flight = self._flight(key, origin, options)
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

    def _in_memory_after_all(self, key: Any) -> Any:
        """The value that memory did not give because others had invalidated something else."""
        memory = self.answering_memory()
        return MISSING if memory is None else memory.get(key, MISSING)

    def _flight(self, key: Any, origin: Origin[Any, Any] | None, options: EntryOptions) -> Flight:
        """A flight that knows what was invalidated before it begins."""
        flight = Flight(key, origin, options)
        flight.since = self.coherence.generation.seen
        return flight

    def go_on(self, flight: Flight, default: Any, looked_up: bool) -> Steps[Any]:
        """Like `read`, with a flight that came by the straight way and leads."""
        started = perf_counter()
        try:
            flight.origin = self._loading_origin(flight.key, flight.options)
            if not looked_up:
                self._look_up([flight])
            yield from self._lead_on(flight)
        finally:
            self._part(flight, started)
        if flight.error is not None:
            raise flight.error
        return default if flight.value is MISSING else flight.value

    def read_many(self, keys: Iterable[Any], call: EntryOptions | None = None) -> Steps[Any]:
        """Answer several keys, one batch per tier; only the missing ones go down."""
        self._require_open()
        self.coherence.catch_up()
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
                    flights.append(self._flight(key, origin, options))
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
        self.coherence.catch_up()
        if self._is_on("memory"):
            copy = self.tiers.in_memory(key)
            if copy is not None and copy.state is not State.STALE:
                return True
        disk = self.tiers.disk
        if disk is None or not self._is_on("disk"):
            return False
        if not self.coherence.generation.raised:
            return disk.contains(key)
        copy = self.tiers.on_disk([key], self.rules.of).get(key)
        return copy is not None and copy.state is not State.STALE

    def entry(self, key: Any) -> Entry[Any] | None:
        """What the highest tier that has the key holds, also if it is stale; counts nothing."""
        self._require_open()
        self.coherence.catch_up()
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
            tags=tuple(tag for tag in copy.tags if isinstance(tag, str) and tag[:1] != "\0"),
            cost=copy.cost,
            uses=0 if self.memory is None else self.memory.frequency(key),
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
        if (
            other.lost
            or (other.value is MISSING and self._asks_elsewhere(flight, other))
            or self._is_outdated(other, flight)
        ):
            return False
        self._flights.end(flight, other.value, other.tier, other.error)
        return True

    def _is_outdated(self, other: Flight, flight: Flight) -> bool:
        """Whether what the other one brought was invalidated, perhaps before this one began.

        Its tags were not known then. Of what was done to the key itself it was told.
        """
        if other.since == flight.since:
            return False
        if other.called_off:
            return True
        return bool(other.tags) and not self.coherence.in_memory(other.since, other.tags or ())

    def _asks_elsewhere(self, flight: Flight, other: Flight) -> bool:
        """Whether the flight could find what the other one did not: it has another origin."""
        return flight.origin is not None and (
            other.origin is None
            or (flight.origin is self.origin) is not (other.origin is self.origin)
        )

    def _lead(self, flight: Flight) -> Steps[None]:
        self._look_up([flight])
        yield from self._lead_on(flight)

    def _lead_on(self, flight: Flight) -> Steps[None]:
        """Lead a flight whose copies are known."""
        if flight.ended or not self._may_ask(flight):
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
        flight.queued = self._queued_now()
        if self._is_answered_by_queue(flight):
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

    def _part(self, flight: Flight, started: float) -> None:
        """Leave a flight behind: nobody may wait for it any more, and the listener is told."""
        if not flight.ended:
            self._flights.end_lost(flight)
        took = perf_counter() - started
        self.record_lookup(flight, took)
        if self.events.wanted and flight.error is None:
            if flight.tier is None:
                self._tell(EventKind.MISS, flight.key, seconds=took)
            elif flight.tier is Tier.DISK:
                self._tell(EventKind.HIT, flight.key, flight.tier, took)
        if self.listener is not None and self._is_on("events"):
            try:
                self.listener.looked_up(flight.key, flight.tier, took)
            except Exception:
                log.exception("a listener failed")

    def record_lookup(self, flight: Flight, took: float) -> None:
        """Record a whole lookup, and the bytes that were handed out."""
        if flight.lost:
            return
        copy = flight.copy
        outcome = "hit"
        if flight.error is not None:
            outcome = "error"
        elif flight.value is MISSING:
            outcome = "miss"
        elif flight.tier is not None:
            self._served_by(flight.tier, flight.value)
            if copy is not None and copy.state is State.STALE and copy.tier is flight.tier:
                outcome = "stale"
        self.timings.record("all", "get", outcome, took)

    def _loading_origin(self, key: Any, options: EntryOptions) -> Origin[Any, Any] | None:
        """The origin that a plain miss asks, None under cache_aside."""
        if (options.strategy or self.strategy) == "cache_aside":
            return None
        if self.loaders is not None and not self.loaders.covers(key):
            return None
        return self.origin

    def require(self, key: Any, value: Any) -> Any:
        """The value, or NotFoundError for MISSING."""
        if value is MISSING:
            raise NotFoundError(f"no tier and no loader has {key!r}")
        return value
