"""Writes: the tiers, and what the strategy says of the origin."""

from __future__ import annotations

import sys
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hybridcore.engine.conflicts import LAST_WRITER_WINS
from hybridcore.engine.effects import Call, Steps
from hybridcore.engine.reads import Reads
from hybridcore.errors import (
    ConfigurationError,
    DiskError,
    VersionConflictError,
)
from hybridcore.events import EventKind
from hybridcore.invalidation.coherence import SharedCoherence
from hybridcore.tiers import State
from hybridcore.types import Loaded, NotFound, Validators

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridcore.config import EntryOptions, Strategy
    from hybridcore.invalidation import Invalidation
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
        version: int | None = None,
        tags: tuple[str, ...] = (),
        depends_on: tuple[Any, ...] = (),
    ) -> Steps[None]:
        """Store a value; the origin comes first, or its queue, if it is to have it."""
        self._require_open()
        options = self.rules.of(key, call)
        strategy = self._writes(options)
        self.coherence.catch_up()
        all_tags = self._tags(tags, depends_on)
        if cost is None:
            cost = self._costs.of(self.rules.of(key))
        if strategy is None and options.conflict != LAST_WRITER_WINS:
            self.settle_put(
                key, value, version, options, cost, importance, if_version, all_tags, depends_on
            )
            self._tell(EventKind.STORED, key)
            return
        all_tags = self.with_facts(all_tags, options.ttl, options, version)
        if strategy is None:
            with self._flights.lock(key):
                there = None
                if if_version is not None:
                    there = self.version_on_disk(key)
                    self._check_version(key, if_version)
                self._flights.supersede(key)
                self._missing.forget(key)
                started = perf_counter()
                self.tiers.put(
                    key,
                    value,
                    options.ttl,
                    options,
                    cost,
                    importance,
                    there,
                    all_tags,
                    depends_on,
                )
                if self.disk is not None:
                    self._took("disk", "put", "ok", started)
            self._tell(EventKind.STORED, key)
            return
        self._check_key(key)
        assert self.origin is not None
        sent = (
            Loaded(value, options.ttl, cost=cost, importance=importance)
            if self.origin.takes_entries
            else value
        )

        def keep(value: Any, validators: Validators | None) -> None:
            self.tiers.keep(
                key,
                value,
                options.ttl,
                validators,
                options,
                cost=cost,
                importance=importance,
                tags=all_tags,
                depends_on=depends_on,
            )

        if strategy == "write_behind" and not self.origin.compares:
            with self._flights.lock(key):
                self._check_version(key, if_version)
                if not self._flights.is_written(key) and self._is_queued(key, sent):
                    self._flights.supersede(key)
                    self._missing.forget(key)
                    keep(value, None)
                    self._tell(EventKind.STORED, key)
                    return
        with self._flights.writing(key) as writers:
            with self._flights.lock(key):
                self._check_version(key, if_version)
            self._tell_start(key)
            validators = yield from self._write_below(strategy, "put", "store", (key, sent))
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
                    keep(value, validators)
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
            yield from self._write_below(strategy, "delete", "delete", (key,))
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

    def _is_queued(self, key: Any, value: Any) -> bool:
        """Have the queue take a write if nobody has to wait for that."""
        assert self.queue is not None
        started = perf_counter()
        if not self.queue.accept(key, value):
            return False
        self._took("queue", "put", "ok", started)
        return True

    def _write_below(
        self, strategy: Strategy, queued: str, method: str, args: tuple[Any, ...]
    ) -> Steps[Any]:
        """Have the origin or its queue take a write, and record how that went."""
        tier, operation = ("queue", queued) if strategy == "write_behind" else ("origin", method)
        started = perf_counter()
        try:
            answer = yield self._written(strategy, queued, method, args)
        except Exception as error:
            self._failed_with(error, "store_error")
            self._took(tier, operation, "error", started)
            raise
        self._took(tier, operation, "ok", started)
        return answer

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

    # -- invalidation -----------------------------------------------------------------------

    def invalidate(
        self,
        keys: tuple[Any, ...],
        tags: tuple[str, ...],
        *,
        hard: bool,
        cause: str,
    ) -> None:
        """Invalidate keys and all that carries one of the tags, here and in other processes."""
        self._require_open()
        for key in keys:
            with self._flights.lock(key):
                self._flights.supersede(key)
                self._missing.forget(key)
                if hard:
                    self.tiers.forget(key, cause)
                else:
                    self.tiers.outdate(key, cause)
            self._tell(EventKind.DELETED, key, reason=cause)
        if tags:
            self.coherence.invalidate("tags", tags=tags, hard=hard, cause=cause)
            self.coherence.catch_up()

    def keys_by_tag(self, tag: str) -> Iterator[Any]:
        """The keys of valid entries with a tag."""
        self._require_open()
        self.coherence.catch_up()
        seen = set()
        if self.memory is not None:
            for key in self.memory.coldest(sys.maxsize):
                copy = self.tiers.in_memory(key)
                if copy is not None and copy.state is not State.STALE and tag in copy.tags:
                    seen.add(key)
                    yield key
        if self.disk is None:
            return
        for keys in self.disk.tagged(tag):
            copies = self.tiers.on_disk(keys, self.rules.of)
            for key, copy in copies.items():
                if key not in seen and copy.state is not State.STALE and tag in copy.tags:
                    yield key

    def invalidation_log(self, since: int, last: int | None) -> list[Invalidation]:
        """What was invalidated after an entry of the log, at most so many of the newest."""
        from hybridcore.invalidation import Invalidation

        self._require_open()
        shown = self.coherence.key_of
        return [Invalidation.of(entry, shown) for entry in self.coherence.entries(since, last)]

    def clear(self, *, soft: bool = False) -> None:
        """Empty the tiers; loads in flight are handed out but not kept."""
        self._require_open()
        with self._flights.all_locks():
            self._flights.supersede_all()
            self._missing.clear()
            self._failed.clear()
            with suppress(DiskError):  # a disk that fails is emptied when it works again
                self.coherence.invalidate("all", hard=not soft, cause="clear")
            if soft:
                if self.memory is not None:
                    self.memory.outdate_all()
            else:
                self.tiers.clear()
                if self.disk is not None:
                    with suppress(DiskError):  # again: what depends on what was not known meanwhile
                        self.coherence.invalidate("all", cause="clear")
        self._tell(EventKind.CLEARED)

    def clear_from(self, prefix: tuple[Any, ...]) -> None:
        """Empty the tiers of keys that begin so; loads of them in flight are not kept."""
        self._require_open()
        with self._flights.all_locks():
            self._flights.supersede_from(prefix)
            self._missing.clear()
            self._failed.clear()
            # Others are told before, so that what they load now is kept by nobody, and after, so
            # that they let go of what they took from the disk meanwhile.
            self._tell_of(prefix)
            self._forget_from(prefix)
            if self.tiers.disk is not None:
                self.tiers.disk.delete_from(prefix)
                self._tell_of(prefix)

    def _tell_of(self, prefix: tuple[Any, ...]) -> None:
        coherence = self.coherence
        forms: tuple[Any, ...] = (prefix, prefix)
        if isinstance(coherence, SharedCoherence):
            from hybridcore.disk.keys import encode_key
            from hybridcore.disk.tier import prefix_form

            forms = (prefix_form(prefix), encode_key(prefix))
        with suppress(DiskError):
            tags = (coherence.tag_of(prefix),) if prefix else ()
            coherence.invalidate("prefix", keys=forms, tags=tags, cause="clear")
