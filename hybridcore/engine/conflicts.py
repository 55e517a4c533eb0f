"""Conflicts: what the tiers hold in the end of a key that was put while it was loaded, or late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore.conflicts import Versioned, settled
from hybridcore.engine.base import Base
from hybridcore.errors import VersionConflictError
from hybridcore.invalidation.coherence import SharedCoherence
from hybridcore.invalidation.facts import sliding_fact, version_fact, version_of
from hybridcore.tiers import State

if TYPE_CHECKING:
    from hybridcore.config import EntryOptions
    from hybridcore.flights import Flight
    from hybridcore.tiers import Copy
    from hybridcore.types import Validators

LAST_WRITER_WINS = "last_writer_wins"
_MOST_TRIES = 100
"""Times that others may come between before a value is given up."""


class Conflicts(Base):
    """The part of the engine that settles which of two values stays."""

    def _give_version(self, flight: Flight) -> None:
        """A load begins: what it brings is as old as this."""
        if flight.options.conflict != LAST_WRITER_WINS:
            flight.version = self.coherence.clock.stamp()

    def with_facts(
        self, tags: tuple[Any, ...], ttl: float | None, options: EntryOptions, version: int | None
    ) -> tuple[Any, ...]:
        """The tags, with what else the entry has to carry."""
        if options.is_winding:
            if options.conflict != LAST_WRITER_WINS and version is not None:
                tags = (*tags, version_fact(version))
            if options.sliding and ttl is not None:
                tags = (*tags, sliding_fact(ttl, self.tiers.ends(options.max_ttl)))
        return tags

    def settle_load(
        self,
        flight: Flight,
        value: Any,
        ttl: float | None,
        validators: Validators | None,
        options: EntryOptions,
        *,
        cost: float,
        importance: float,
        tags: tuple[Any, ...],
        depends_on: tuple[Any, ...],
    ) -> Any:
        """Settle what a load brought with what was put meanwhile; returns what stays.

        Nothing is kept if the key was invalidated: what a load brings is older than that.
        """
        key = flight.key
        assert flight.version is not None
        new = Versioned(value, flight.version, loaded=True)
        for _ in range(_MOST_TRIES):
            self.coherence.catch_up()
            seen = self.coherence.generation.seen
            copy = self._to_settle(key)
            if copy is None or not self._was_only_put(flight, tags):
                return value
            held = _versioned(copy)
            result = settled(options.conflict, key, held, new)
            if result is held:
                return held.value
            with self._flights.lock(key):
                if not _is_same(copy, self._to_settle(key)):
                    continue
                self._flights.supersede(key)
                kept = self.tiers.keep(
                    key,
                    result.value,
                    ttl,
                    validators if result is new else None,
                    options,
                    cost=cost,
                    importance=importance,
                    loaded=True,
                    tags=_retold(tags, result.version),
                    depends_on=depends_on,
                    since=seen,
                )
            if kept:
                return result.value
        return value

    def settle_put(
        self,
        key: Any,
        value: Any,
        version: int | None,
        options: EntryOptions,
        cost: float,
        importance: float,
        if_version: int | None,
        tags: tuple[Any, ...],
        depends_on: tuple[Any, ...],
    ) -> None:
        """Put a value, unless one that is held stays in its place."""
        known = self.coherence.clock.stamp() if version is None else version
        new = Versioned(value, known, loaded=False)
        tags = self.with_facts(tags, options.ttl, options, known)
        while True:
            self.coherence.catch_up()
            copy = self._to_settle(key)
            result = new
            if copy is not None:
                held = _versioned(copy)
                if held.version > new.version:  # it came late
                    result = settled(options.conflict, key, held, new)
                    if result is held:
                        return
            with self._flights.lock(key):
                there = self.version_on_disk(key)
                if not _is_same(copy, self._to_settle(key)):
                    continue
                self._check_version(key, if_version)
                self._flights.meet(key)
                self._missing.forget(key)
                try:
                    self.tiers.put(
                        key,
                        result.value,
                        options.ttl,
                        options,
                        cost,
                        importance,
                        there,
                        _retold(tags, result.version),
                        depends_on,
                    )
                except VersionConflictError:
                    continue
                return

    def version_on_disk(self, key: Any) -> int | None:
        """The version of what is on disk, valid or not, 0 for nothing; None without a disk."""
        if self.tiers.disk is None:
            return None
        record = self.tiers.disk.fetch_many((key,)).get(key)
        return 0 if record is None else record.version

    def _check_version(self, key: Any, expected: int | None) -> None:
        raise NotImplementedError

    def _to_settle(self, key: Any) -> Copy | None:
        """The valid copy that a value has to be settled with."""
        if self.disk is None:
            copy = self.tiers.in_memory(key)
        else:
            copy = self.tiers.on_disk([key], self.rules.of).get(key)
        return None if copy is None or copy.state is State.STALE else copy

    def _was_only_put(self, flight: Flight, tags: tuple[Any, ...]) -> bool:
        """Whether nothing but values of the key came since a load began."""
        coherence = self.coherence
        if not isinstance(coherence, SharedCoherence):
            return flight.met and self._flights.holds(flight)
        return coherence.only_puts(flight.since, flight.key, tags)


def _versioned(copy: Copy) -> Versioned:
    return Versioned(copy.value, version_of(copy.tags) or 0, loaded=False)


def _is_same(one: Copy | None, other: Copy | None) -> bool:
    """Whether nobody has changed an entry between two looks at it."""
    if one is None or other is None:
        return one is other
    return one.version == other.version and one.tags == other.tags and one.value == other.value


def _retold(tags: tuple[Any, ...], version: int) -> tuple[Any, ...]:
    """The tags of an entry that is of this version after all."""
    known = version_of(tags)
    if known is None or known == version:
        return tags
    return tuple(version_fact(version) if tag == version_fact(known) else tag for tag in tags)
