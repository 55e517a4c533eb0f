"""Refreshes: loads that nobody waits for, many keys at once, whatever the tiers hold of them."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hybridcore.engine.effects import Call, Steps
from hybridcore.engine.loads import _time_limit
from hybridcore.engine.writes import Writes
from hybridcore.errors import ClosedError
from hybridcore.events import EventKind
from hybridcore.flights import _NOBODY, Flight
from hybridcore.tiers import Copy, State
from hybridcore.types import NotFound, NotModified, Refreshed, Tier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybridcore.config import EntryOptions
    from hybridcore.origins.base import Origin


class Refreshes(Writes):
    """The part of the engine that loads ahead of readers."""

    def refresh(
        self,
        keys: Iterable[Any],
        unless_left: float | None,
        loader: Origin[Any, Any] | None = None,
        call: EntryOptions | None = None,
        *,
        ask: bool = True,
    ) -> Steps[Refreshed]:
        """Load keys in one call of the origin, but for those fresh for longer than ``unless_left``.

        Without ``ask`` it is not called, and what is fresh on disk is promoted. A key that
        somebody else loads, here or in another process, is left to them.
        """
        self._require_open()
        self.coherence.catch_up()
        outcome = Refreshed()
        flights = []
        queued = self._queued_now()
        for key in dict.fromkeys(keys):
            options = self.rules.of(key, call)
            origin = loader or self._loading_origin(key, options)
            if (
                (ask and (origin is None or not self._is_on("origin")))
                or not self._is_on("warming")
                or self._missing.of(key) is not None
                or (self.queue is not None and self.queue.pending(key) is not None)
            ):
                outcome.skipped.append(key)
                continue
            flight = self._flight(key, origin, options)
            flight.queued = queued
            flight.thread = _NOBODY  # readers may have the stale copy meanwhile
            if self._flights.join(flight) is None:
                flights.append(flight)
            else:
                outcome.elsewhere.append(key)
        leased: list[Any] = []
        try:
            wanted = self._not_fresh(flights, -inf if unless_left is None else unless_left, outcome)
            if ask:
                wanted = self._leased(wanted, leased, outcome)
            else:
                outcome.skipped += [flight.key for flight in wanted]
                wanted = []
            if wanted:
                yield from self._renew(wanted, outcome)
        finally:
            for flight in flights:
                self.end_lost(flight)
            if leased and self.tiers.disk is not None:
                with suppress(ClosedError):
                    for key in leased:
                        self.tiers.disk.release(key)
        return outcome

    def _not_fresh(self, flights: list[Flight], enough: float, outcome: Refreshed) -> list[Flight]:
        """Those to be loaded; a copy that is fresh enough on disk alone is promoted."""
        always = enough == -inf
        if self._is_on("memory"):
            for flight in flights:
                flight.copy = self.tiers.in_memory(flight.key)
        doubtful = {f.key: f for f in flights if always or not _lasts(f.copy, enough)}
        below = {}
        if doubtful and self._is_on("disk"):
            below = self.tiers.on_disk(doubtful, lambda key: doubtful[key].options)
        wanted = []
        for flight in flights:
            found = below.get(flight.key)
            if always or flight.key in doubtful:
                if found is None or not _lasts(found, max(enough, 0.0)) or always:
                    if found is not None and (
                        flight.copy is None or flight.copy.state is State.STALE
                    ):
                        flight.copy = found
                    wanted.append(flight)
                    continue
                with self._flights.lock(flight.key):
                    if self._flights.holds(flight):
                        self.tiers.promote(flight.key, found, flight.options, flight.since)
                        self._count("promoted")
                        self._tell(EventKind.PROMOTED, flight.key, Tier.MEMORY, reason="warming")
                outcome.promoted.append(flight.key)
                self._flights.end(flight, found.value, found.tier)
            else:
                assert flight.copy is not None
                outcome.fresh.append(flight.key)
                self._flights.end(flight, flight.copy.value, flight.copy.tier)
        return wanted

    def _leased(self, flights: list[Flight], leased: list[Any], outcome: Refreshed) -> list[Flight]:
        """Those that no other process loads."""
        disk = self.tiers.disk
        if disk is None or self.spill or not (self._is_on("single_flight") and self._is_on("disk")):
            return flights
        ours = []
        for flight in flights:
            if flight.options.lease is not None:
                if disk.lease(flight.key, flight.options.lease):
                    outcome.elsewhere.append(flight.key)
                    continue
                leased.append(flight.key)
            ours.append(flight)
        return ours

    def _renew(self, flights: list[Flight], outcome: Refreshed) -> Steps[None]:
        wanted = {flight.key: self._held(flight) for flight in flights}
        for flight in flights:
            self._count("refreshes")
            self._tell(EventKind.REFRESH, flight.key, reason="warming")
        origin = self.guarded(min(flights, key=_time_limit))
        started = perf_counter()
        try:
            answers = yield Call(origin, "load_many", (wanted,), tuple(flights))
        except Exception as error:
            answers = dict.fromkeys(wanted, error)
        answers = {key: answers.get(key, NotFound()) for key in wanted}
        outcome.seconds = perf_counter() - started
        self._settle_many(flights, answers, outcome.seconds / len(flights))
        for key, answer in answers.items():
            if isinstance(answer, Exception):
                outcome.failed[key] = answer
            elif isinstance(answer, NotModified):
                outcome.not_modified.append(key)
            elif isinstance(answer, NotFound):
                outcome.missing.append(key)
            else:
                outcome.loaded.append(key)


def _lasts(copy: Copy | None, enough: float) -> bool:
    """Whether a copy is fresh for longer than so many seconds."""
    if copy is None or copy.state is State.STALE:
        return False
    return copy.left is None or copy.left > enough
