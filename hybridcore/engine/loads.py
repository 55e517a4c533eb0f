"""Loads: how the origin is asked, and what becomes of its answers."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hybridcore.engine.conflicts import LAST_WRITER_WINS, Conflicts
from hybridcore.engine.effects import Call, Pause, Steps
from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    NotFoundError,
    OriginError,
)
from hybridcore.events import EventKind
from hybridcore.flights import MISSING, Flight
from hybridcore.invalidation.facts import without_facts
from hybridcore.tiers import Copy, State
from hybridcore.types import (
    Answer,
    Held,
    Loaded,
    NotFound,
    NotModified,
    Tier,
    Validators,
)

if TYPE_CHECKING:
    from hybridcore.origins import Guard
    from hybridcore.origins.base import Origin
    from hybridcore.write_queue.elsewhere import Moment


_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
"""Seconds between two looks at whether another process has loaded a key."""


_MOST_TAGS = 256


def _time_limit(flight: Flight) -> float:
    limit = flight.options.hard_timeout
    return inf if limit is None else limit


class Loads(Conflicts):
    """The part of the engine that fills the tiers from the origin."""

    _unguarded: Guard | None = None

    def _look_up(self, flights: list[Flight]) -> None:
        """End the flights that the tiers can answer, and note the copies of the others."""
        if self._is_on("memory"):
            for flight in flights:
                copy = self.tiers.in_memory(flight.key)
                if copy is not None and copy.state is State.DUE:
                    copy = self.tiers.slid(flight.key, copy, flight.options, self._flights)
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
        copies = self._on_disk(below)
        for key, copy in copies.items():
            flight = below[key]
            if copy.state is State.STALE:
                flight.copy = copy  # it is as new as that of memory, or newer
                continue
            with self._flights.lock(key):
                if self._flights.holds(flight):
                    if copy.tags:
                        copy = self.tiers.slid_on_disk(key, copy)
                    self.tiers.promote(key, copy, flight.options, flight.since)
                    self._count("promoted")
                    self._tell(EventKind.PROMOTED, key, Tier.MEMORY)
                if copy.state is State.FRESH:
                    self._flights.end(flight, copy.value, copy.tier)
                else:
                    flight.copy = copy

    def _on_disk(self, below: dict[Any, Flight]) -> dict[Any, Copy]:
        """What the disk holds of these keys; how long it took counts in equal parts."""
        disk = self.tiers.disk
        if disk is None:
            return {}
        errors, is_down = disk.errors, disk.is_down
        started = perf_counter()
        copies = self.tiers.on_disk(below, lambda key: below[key].options)
        each = (perf_counter() - started) / len(below)
        if disk.errors != errors:
            self.timings.record("disk", "get", "error", each)
        elif not is_down:
            for key in below:
                self.timings.record("disk", "get", _outcome(copies.get(key)), each)
        return copies

    def _ask(self, flight: Flight) -> Steps[None]:
        """Ask the origin, unless another process does and its answer comes in time."""
        leader = self._lease(flight)
        if leader and (yield from self._wait_for_others({flight: leader})) == []:
            return
        try:
            yield from self._ask_now(flight)
        finally:
            self._release([flight])

    def _lease(self, flight: Flight) -> int:
        """Who else is loading the key; 0: nobody whom we would wait for, so we may."""
        disk, seconds = self.tiers.disk, flight.options.lease
        if disk is None or self.spill or seconds is None:
            return 0
        if not (self._is_on("single_flight") and self._is_on("disk")):
            return 0
        return disk.lease(flight.key, seconds)

    def _release(self, flights: list[Flight]) -> None:
        """The loads of these keys have ended."""
        if self.tiers.disk is not None:
            with suppress(ClosedError):
                for flight in flights:
                    self.tiers.disk.release(flight.key)

    def _wait_for_others(self, leaders: dict[Flight, int]) -> Steps[list[Flight]]:
        """Wait until some of these keys are there, or to be loaded by us: return the latter.

        After a leader that did not bring a key, who has to load it is not waited for again.
        """
        pause = _FIRST_PAUSE
        while True:
            yield Pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._look_up(list(leaders))
            ours = []
            for flight, leader in list(leaders.items()):
                if flight.ended:
                    self._count("loaded_elsewhere")
                    del leaders[flight]
                elif self._lease(flight) != leader:
                    ours.append(flight)
                    del leaders[flight]
            if ours or not leaders:
                return ours

    def _ask_now(self, flight: Flight) -> Steps[None]:
        answer: Answer[Any] | Exception
        origin = self.guarded(flight)
        self._give_version(flight)
        started = perf_counter()
        try:
            answer = yield Call(origin, "load", (flight.key, self._held(flight)), (flight,))
        except Exception as error:
            answer = error
        self.settle(flight, answer, perf_counter() - started)

    def _ask_many(self, flights: list[Flight]) -> Steps[None]:
        """Ask for what no other process loads, in one call, and then for what those did not bring.

        No lease is held while others are waited for.
        """
        leaders = {flight: leader for flight in flights if (leader := self._lease(flight))}
        ours = [flight for flight in flights if flight not in leaders]
        while ours or leaders:
            try:
                if ours:
                    yield from self._ask_many_now(ours)
            finally:
                self._release(ours)
            ours = (yield from self._wait_for_others(leaders)) if leaders else []

    def _ask_many_now(self, flights: list[Flight]) -> Steps[None]:
        origin = self.guarded(min(flights, key=_time_limit))
        for flight in flights:
            self._give_version(flight)
        wanted = {flight.key: self._held(flight) for flight in flights}
        started = perf_counter()
        try:
            answers = yield Call(origin, "load_many", (wanted,), tuple(flights))
            answers = {key: answers.get(key, NotFound()) for key in wanted}
        except Exception as error:
            answers = dict.fromkeys(wanted, error)
        each = (perf_counter() - started) / len(flights)
        self._settle_many(flights, answers, each)

    def _held(self, flight: Flight) -> Validators | None:
        """What a load is told of the copy that is held: loaders get its value, too."""
        copy = flight.copy
        if copy is None:
            return None
        if self.loaders is None:
            return copy.validators
        known = copy.validators or Validators()
        return Held(known.etag, known.last_modified, copy.value)

    def guarded(self, flight: Flight) -> Origin[Any, Any]:
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

    def _is_answered_by_queue(self, flight: Flight) -> bool:
        """End the flight with the write of its key that waits, if the origin has yet to get one."""
        waiting = None if self.queue is None else self.queue.pending(flight.key)
        if waiting is None:
            return False
        value = MISSING if waiting.deletes else waiting.value
        if isinstance(value, Loaded) and self.origin is not None and self.origin.takes_entries:
            value = value.value
        self._flights.end(flight, value)
        return True

    def _queued_now(self) -> Moment | None:
        """What the queue has taken; noted before it is asked for a write that waits."""
        return None if self._elsewhere is None else self._elsewhere.now()

    def _was_written_elsewhere(self, flight: Flight) -> bool:
        """Whether another process wrote the key since the load began, and brought that out."""
        return (
            self._elsewhere is not None
            and flight.queued is not None
            and self._elsewhere.wrote(flight.key, flight.queued)
        )

    def settle(self, flight: Flight, answer: Answer[Any] | Exception, took: float) -> None:
        """End a flight with what the origin answered, or with its copy if it failed.

        A write that was queued meanwhile, perhaps by another process, is newer than both. If it has
        reached the origin since, nobody knows which of them was first: the answer is not kept.
        """
        if self._is_answered_by_queue(flight):
            self._count("loads")
            return
        if self._was_written_elsewhere(flight):
            with self._flights.lock(flight.key):
                if self._flights.holds(flight):
                    self._flights.supersede(flight.key)
        try:
            value = self._accept(flight, answer, took)
        except Exception as error:
            self._count("errors")
            self._failed_with(error, "load_error")
            self.timings.record("origin", "load", "error", took)
            self._tell(EventKind.LOAD_FAILED, flight.key, Tier.ORIGIN, took, type(error).__name__)
            if flight.copy is None or not self._is_servable(flight.copy):
                self._flights.end(flight, error=error)
                return
            self._failed.note(flight.key, flight.options.throttle)
            self._serve(flight, flight.copy)
        else:
            self._tell(EventKind.LOAD, flight.key, Tier.ORIGIN, took)
            outcome = "miss" if value is MISSING else "hit"
            self.timings.record("origin", "load", outcome, took)
            self._flights.end(flight, value, None if value is MISSING else Tier.ORIGIN)

    def _settle_many(
        self, flights: list[Flight], answers: dict[Any, Answer[Any] | Exception], took: float
    ) -> None:
        """Settle the flights of a batch, each of which took so long; book what they share once."""
        costs: dict[int, float] = {}
        loads = 0
        for flight in flights:
            key, answer = flight.key, answers[flight.key]
            if (
                type(answer) is not Loaded
                or not answer.store
                or answer.stale is not None
                or answer.tags
                or answer.depends_on
                or self.ttls is not None
                or flight.options.is_winding
                or (self.queue is not None and self.queue.pending(key) is not None)
                or self._was_written_elsewhere(flight)
            ):
                self.settle(flight, answer, took)
                continue
            cost = answer.cost
            if cost is None:
                rule = self.rules.of(key)
                cost = costs.get(id(rule))
                if cost is None:
                    cost = costs[id(rule)] = self._costs.of(rule, took)
            try:
                self._keep(flight, answer, cost)
            except Exception as error:
                self.settle(flight, error, took)
                continue
            loads += 1
            self._failed.forget(key)
            self._tell(EventKind.LOAD, key, Tier.ORIGIN, took)
            self._flights.end(flight, answer.value, Tier.ORIGIN)
        if loads:
            self._count("loads", loads)

    def _keep(self, flight: Flight, answer: Loaded[Any], cost: float) -> None:
        """Keep a value that was loaded, unless a write came between."""
        key, options = flight.key, flight.options
        with suppress(ClosedError), self._flights.lock(key):
            if self._flights.holds(flight):
                self._missing.forget(key)
                self.tiers.keep(
                    key,
                    answer.value,
                    options.ttl if answer.ttl is None else answer.ttl,
                    answer.validators,
                    options,
                    cost=cost,
                    importance=1.0 if answer.importance is None else answer.importance,
                    loaded=True,
                    since=flight.since,
                )

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
            value, validators = flight.copy.value, answer.validators or flight.copy.validators
        elif isinstance(answer, (NotFound, NotFoundError)):
            self._count("not_found")
        else:
            raise OriginError(
                "an origin is expected to answer Loaded, NotModified or NotFound, "
                f"got {type(answer).__name__}"
            )
        stored = value is not MISSING
        if isinstance(answer, (Loaded, NotModified)):
            stored = answer.store
            if answer.ttl is not None:
                ttl = answer.ttl
            elif self.ttls is not None:
                ttl = self._learned_ttl(flight, answer)
            if answer.stale is not None:
                options = options.kept_past_ttl(answer.stale)
        cost = self._costs.of(self.rules.of(key), took)
        importance = 1.0
        tags: tuple[Any, ...] = ()
        depends_on: tuple[Any, ...] = ()
        if isinstance(answer, NotModified) and flight.copy is not None:
            tags = tuple(without_facts(flight.copy.tags))
        if isinstance(answer, Loaded):
            tags, depends_on = self._tags(answer.tags, answer.depends_on), answer.depends_on
            cost = cost if answer.cost is None else answer.cost
            importance = 1.0 if answer.importance is None else answer.importance
            if answer.version is not None:
                flight.version = answer.version
        tags = self.with_facts(tags, ttl, options, flight.version)
        settles = options.conflict != LAST_WRITER_WINS and stored
        try:
            with self._flights.lock(key):
                if not self._flights.holds(flight) or (settles and flight.met):
                    flight.called_off = True
                elif not stored:
                    self.tiers.forget(key, "load", flight.since)
                    if value is MISSING and self._is_on("negative"):
                        lasting = answer.ttl if isinstance(answer, NotFound) else None
                        self._missing.note(
                            key,
                            options.negative_ttl if lasting is None else lasting,
                            flight.origin is self.origin,
                        )
                else:
                    self._missing.forget(key)
                    started = perf_counter()
                    flight.tags = tags
                    flight.called_off = not self.tiers.keep(
                        key,
                        value,
                        ttl,
                        validators,
                        options,
                        cost=cost,
                        importance=importance,
                        loaded=True,
                        tags=tags,
                        depends_on=depends_on,
                        since=flight.since,
                    )
                    if self.disk is not None and not self.spill:
                        self._took("disk", "put", "ok", started)
            if settles and flight.called_off:
                value = self.settle_load(
                    flight,
                    value,
                    ttl,
                    validators,
                    options,
                    cost=cost,
                    importance=importance,
                    tags=tags,
                    depends_on=depends_on,
                )
        except ClosedError:
            pass  # closed while it loaded: handed out, not kept
        return value

    def _learned_ttl(self, flight: Flight, answer: Loaded[Any] | NotModified) -> float | None:
        """The ttl that this load teaches."""
        from hybridcore.invalidation.adaptive_ttl import differs

        assert self.ttls is not None
        changed = None
        if flight.copy is not None:
            changed = isinstance(answer, Loaded) and differs(answer.value, flight.copy.value)
        uses = None if self.memory is None else self.memory.frequency(flight.key)
        return self.ttls.after_load(flight.key, flight.options.ttl, changed, uses)

    def _tags(self, tags: tuple[str, ...], depends_on: tuple[Any, ...]) -> tuple[Any, ...]:
        """The tags of an entry, with those that stand for what it depends on.

        It takes over those of what it depends on, so that a change goes through to it. What a tuple
        begins with has a tag, too, for `clear_from`.
        """
        if not depends_on:
            return tags
        found = dict.fromkeys(tags)
        for key in depends_on:
            found[self.coherence.tag_of(key)] = None
            if isinstance(key, tuple):
                for length in range(1, len(key)):
                    found[self.coherence.tag_of(key[:length])] = None
            for copy in self._copies(key):
                found |= dict.fromkeys(without_facts(copy.tags))
        if len(found) > _MOST_TAGS:
            raise ConfigurationError(
                f"an entry may have up to {_MOST_TAGS} tags, those of what it depends on "
                f"included; this one has {len(found)}. Depend on fewer, or on a tag of them all"
            )
        return tuple(found)

    def _copies(self, key: Any) -> list[Copy]:
        """What the tiers hold of a key."""
        held = self.tiers.in_memory(key)
        if held is not None:
            return [held]
        return list(self.tiers.on_disk([key], self.rules.of).values())

    def end_lost(self, flight: Flight) -> None:
        """Have another one lead a load that nobody has ended."""
        if not flight.ended:
            self._flights.end_lost(flight)

    def _is_servable(self, copy: Copy) -> bool:
        if copy.state is not State.STALE:
            return True
        strict = copy.validators is not None and copy.validators.must_revalidate
        return not strict and self._is_on("stale")

    def _serve(self, flight: Flight, copy: Copy) -> None:
        """End a flight with a copy."""
        if copy.state is State.STALE:
            self._count("stale_served")
            self._tell(EventKind.STALE_SERVED, flight.key, copy.tier)
        self._flights.end(flight, copy.value, copy.tier)


def _outcome(copy: Copy | None) -> str:
    """What a lookup that found this counts as."""
    if copy is None:
        return "miss"
    return "stale" if copy.state is State.STALE else "hit"
