"""Writes: the tiers, and what the strategy says of the origin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hybridcore.engine.effects import Call, Steps
from hybridcore.engine.reads import Reads
from hybridcore.errors import (
    ConfigurationError,
    VersionConflictError,
)
from hybridcore.events import EventKind
from hybridcore.flights import begins
from hybridcore.types import Loaded, NotFound, Validators

if TYPE_CHECKING:
    from hybridcore.config import EntryOptions, Strategy
    from hybridcore.origins.base import Origin


class Writes(Reads):
    """The part of the engine that stores and deletes."""

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
            self._tell_start(key)
            assert self.origin is not None
            sent = (
                Loaded(value, options.ttl, cost=cost, importance=importance)
                if self.origin.takes_entries
                else value
            )
            validators = yield self._written(strategy, "put", "store", (key, sent))
            if strategy == "write_through":
                self._count("stores")
            with self._flights.lock(key):
                self._flights.supersede(key)
                self._missing.forget(key)
                if isinstance(validators, Loaded):
                    value, validators = validators.value, validators.validators
                if writers.overlapped or isinstance(validators, NotFound):
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
            self._tell_start(key)
            yield self._written(strategy, "delete", "delete", (key,))
            if strategy == "write_through":
                self._count("deletes")
            return self._drop(key)

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

    def _written(self, strategy: Strategy, queued: str, method: str, args: tuple[Any, ...]) -> Call:
        """The call that brings a write to the origin, at once or by the queue."""
        if strategy == "write_behind":
            return Call(self.queue, queued, args)
        assert self.origin is not None
        return Call(self._guarded_writes(self.origin), method, args)

    def _tell_start(self, key: Any) -> None:
        """Tell an origin that compares versions which copy a write starts from."""
        if self.origin is not None and self.origin.compares:
            entry = self.entry(key)
            if entry is not None and entry.etag is not None:
                self.origin.started_from(key, Validators(entry.etag))

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
