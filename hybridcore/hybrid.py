"""`HybridCache`: memory, disk and origin as one, for callers that block."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakMethod, ref

from hybridcore._native import Front
from hybridcore.aio import AsyncFace
from hybridcore.analyzed import Analyzed
from hybridcore.blocking import carry_out
from hybridcore.breaker import Breaker
from hybridcore.config import UNSET, EntryOptions, Memory, Rules, Strategy, check_strategy, for_call
from hybridcore.engine import Engine
from hybridcore.errors import ConfigurationError
from hybridcore.events import EventKind
from hybridcore.features import Flags
from hybridcore.flights import MISSING
from hybridcore.invalidation import checked_tags
from hybridcore.invalidation.outside import Outside
from hybridcore.memory import Cache, store_of
from hybridcore.namespaces import Namespace
from hybridcore.origins import CallableOrigin, Origin
from hybridcore.units import seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from typing_extensions import Self

    from hybridcore._native import Flight
    from hybridcore.analytics import Analytics
    from hybridcore.breaker import Circuit
    from hybridcore.bulkhead import Bulkhead
    from hybridcore.disk import Lmdb
    from hybridcore.events import EventListener
    from hybridcore.features import Feature
    from hybridcore.invalidation import Invalidation
    from hybridcore.invalidation.adaptive_ttl import AdaptiveTtl, TtlExplained
    from hybridcore.invalidation.retention import Retention
    from hybridcore.patterns import Pattern
    from hybridcore.retry import Retry
    from hybridcore.settings import Settings
    from hybridcore.stats.health import Health, Limits
    from hybridcore.stats.snapshot import HybridStats
    from hybridcore.types import Entry, Listener, Refreshed
    from hybridcore.units import Duration
    from hybridcore.write_queue import DeadLetter, Operation, WriteSink

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound="Callable[..., Any]")

OriginLike: TypeAlias = "Origin[K, V] | HybridCache[K, V] | Callable[[K], V | Awaitable[V]]"
"""What `HybridCache` takes as its origin."""

_DEFAULT_BREAKER = Breaker()


class HybridCache(Front[K, V], Outside, Analyzed):
    """A cache of up to three tiers: memory, disk, and the application's origin behind them.

    A lookup goes down until a tier answers, and the answer is kept in the tiers above. Callers
    who miss the same key at the same time share one load. ``store.aio`` has the same methods for
    asyncio, over the same engine; both may be used at once.

    Args:
        memory: `Memory`, a `Cache` to use as it is, or None for no memory tier.
        disk: an `Lmdb` tier, or None. Closed with this cache.
        origin: an `Origin`, any function ``load(key)``, sync or async, or another hybrid cache.
            Closed with this cache.
        strategy: what misses and writes do to the origin, see `hybridcore.config.Strategy`.
        defaults: how long entries live unless the call says otherwise.
        rules: by key pattern, what differs from the defaults.
        breaker: leaves an origin alone that fails; None: it is asked whatever happened.
        bulkhead: bounds the calls of the origin at a time.
        retry: tries again before a load counts as failed.
        queue: where writes wait under write_behind; by default a `MemoryQueue`. A `WriteQueue`
            without a target brings them to this cache's origin. Closed with this
            cache.
        spill: True: what is loaded goes to disk when memory evicts it, and not before. Writes of a
            disk that is slow or wears are saved, and what is in memory does not survive a restart.
        features: by name, False for what this cache is to do without.
        listener: hears of every lookup that missed memory.
        coherent: without a disk, a name: caches of this name, in all processes of this user and
            host, are in step, as those with one disk tier are.
        retention: how much of the log of invalidations is kept.
        analytics: True, or `Analytics` with options: a sample of the requests is looked at, for
            `recommend` and what else `analytics` tells.
        adaptive_ttl: how long what is loaded is fresh, learned from how often it changes, for all
            keys or by key pattern; it comes before the ttl of the options, and after one that the
            origin tells.

    Raises:
        ConfigurationError: options that contradict each other.
    """

    def __init__(
        self,
        memory: Memory | Cache[K, V] | None = Memory("64MiB"),  # noqa: B008  # immutable
        disk: Lmdb[K, V] | None = None,
        origin: OriginLike[K, V] | None = None,
        *,
        strategy: Strategy = "read_through",
        defaults: EntryOptions = EntryOptions(),  # noqa: B008  # immutable
        rules: Mapping[Pattern, EntryOptions] | None = None,
        breaker: Breaker | None = _DEFAULT_BREAKER,
        bulkhead: Bulkhead | None = None,
        retry: Retry | None = None,
        queue: WriteSink | None = None,
        spill: bool = False,
        features: Mapping[Feature, bool] | None = None,
        listener: Listener | None = None,
        analytics: Analytics | bool = False,
        coherent: str | None = None,
        retention: Retention | None = None,
        adaptive_ttl: AdaptiveTtl | Mapping[Pattern, AdaptiveTtl] | None = None,
    ) -> None:
        check_strategy(strategy)
        if coherent is not None and disk is not None:
            raise ConfigurationError(
                "caches with a disk tier are in step by that: leave coherent= out, or disk="
            )
        self.rules = Rules(defaults, rules)
        switched = WeakMethod(self._features_switched)
        self.features = Flags(features, lambda: _call(switched))
        source = _as_origin(origin)
        strategies = self._strategies(strategy, source)
        store = store_of(memory)
        if store is None and disk is None:
            raise ConfigurationError(
                "a hybrid cache without memory and disk holds nothing: give it memory= or disk="
            )
        super().__init__(store)
        guard = None
        if breaker or bulkhead or retry:
            from hybridcore.origins import Guard

            guard = Guard(
                breaker, bulkhead, retry, name="origin" if source is None else source.name
            )
        if "write_behind" in strategies:
            assert source is not None
            queue = self._queue(queue, source if guard is None else guard.around(source))
        self._engine = Engine(
            ref(self),
            store,
            disk,
            source,
            strategy,
            self.rules,
            self.features,
            guard,
            queue,
            spill,
            listener,
            coherent,
            retention,
        )
        if guard is not None and guard.circuit is not None:
            events = self._engine.events
            guard.circuit.on_transition(
                lambda change: (
                    events.emit(EventKind.BREAKER, reason=change.after) if events.wanted else None
                )
            )
        if adaptive_ttl is not None:
            from hybridcore.invalidation.adaptive_ttl import LearnedTtls

            self._engine.ttls = LearnedTtls(adaptive_ttl)
        self.aio: AsyncFace[K, V] = AsyncFace(self._engine)
        self._follow(self._engine.coherence.generation)
        self._go_straight(self._engine.straight)
        self._engine.straighten()
        if analytics:
            self._analytics = self._analyze(analytics)
            self._engine.predictions = self._analytics.expectations
        if self.features.restricted:
            self._features_switched()

    @classmethod
    def from_settings(
        cls,
        settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
        origin: OriginLike[K, V] | None = None,
        *,
        listener: Listener | None = None,
    ) -> Self:
        """Make a cache of `Settings`, of a mapping of sections, or of a TOML file.

        Raises:
            ConfigurationError: they make no sense, or not with this origin.
            DiskError: the disk tier cannot be opened.
        """
        from hybridcore.settings import Settings

        if isinstance(settings, (str, os.PathLike)):
            settings = Settings.load(settings)
        elif not isinstance(settings, Settings):
            settings = Settings.of(settings)
        guards = {
            name: guard
            for name in ("breaker", "bulkhead", "retry")
            if (guard := getattr(settings, name)) is not None
        }
        if guards and origin is None:
            raise ConfigurationError(
                f"{' and '.join(guards)} guard an origin, and there is none. Give origin=, or "
                "leave them out."
            )
        disk = None if settings.disk is None else settings.disk.open()
        try:
            return cls(
                settings.memory,
                disk,
                origin,
                **guards,
                strategy=settings.strategy,
                defaults=settings.defaults,
                rules=settings.rules,
                features=settings.features,
                listener=listener,
                retention=settings.retention,
            )
        except BaseException:
            if disk is not None:
                disk.close()
            raise

    def _strategies(self, strategy: Strategy, source: Origin[Any, Any] | None) -> set[Strategy]:
        """The strategies of all keys; refuses those that write where nothing takes writes."""
        strategies = {self.rules.defaults.strategy or strategy} | {
            options.strategy for _, options in self.rules if options.strategy
        }
        writing = strategies & {"write_through", "write_behind"}
        if writing and (source is None or not source.writable):
            raise ConfigurationError(
                f'strategy="{min(writing)}" needs an origin that takes writes, got '
                f"{'none' if source is None else source.name}. Give the origin a store function, "
                'or use "read_through".'
            )
        return strategies

    def _features_switched(self) -> None:
        """Have memory answer by itself only while it is on for everybody."""
        engine = self._engine
        if not engine.closed:
            memory = None if self.features.may_be_off("memory") else engine.memory
            engine.straighten()
            self._attach(memory)
            engine.window._attach(memory)

    def _queue(self, queue: WriteSink | None, target: Origin[Any, Any]) -> WriteSink:
        """The queue given, which gets a target if it has none, or one in memory."""
        drop = WeakMethod(self._dropped)
        if queue is None:
            from hybridcore.write_queue import MemoryQueue

            return MemoryQueue(target, on_drop=lambda operation, error: _call(drop, operation))
        from hybridcore.write_queue import WriteQueue

        if isinstance(queue, WriteQueue):
            queue.dead_letters.on_replay(lambda letter: _call(drop, letter))
            if not queue.has_target:
                queue.bind(target, on_dead=lambda letter: _call(drop, letter))
        return queue

    def _dropped(self, write: Operation | DeadLetter) -> None:
        self._engine.dropped(write.key)

    def _missed(self, key: K, default: Any) -> Any:
        return carry_out(self._engine.read(key, default))

    def _led(self, flight: Flight, default: Any, looked_up: bool) -> Any:
        return carry_out(self._engine.go_on(flight, default, looked_up))

    def _settled(self, flight: Flight, answer: Any, took: float) -> None:
        self._engine.settle(flight, answer, took)
        self._engine.record_lookup(flight, took)

    def lookup(self, key: K, default: Any = None, *, options: EntryOptions | None = None) -> Any:
        """Like ``get``, with options of this call."""
        memory = self.memory
        if memory is not None and self._engine.coherence.generation.is_current:
            value = memory.get(key, MISSING)
            if value is not MISSING:
                return value
        return carry_out(self._engine.read(key, default, None, options))

    def get_many(self, keys: Iterable[K], *, options: EntryOptions | None = None) -> dict[K, V]:
        """Return the keys that some tier or the origin has; one batch per tier.

        Raises:
            PartialLoadError: the origin failed for some keys; the others are in its ``found``.
        """
        return carry_out(self._engine.read_many(keys, options))

    def refresh_many(
        self,
        keys: Iterable[K],
        *,
        unless_left: Duration | None = None,
        ask: bool = True,
        loader: Callable[[K], V | Awaitable[V]] | None = None,
        options: EntryOptions | None = None,
    ) -> Refreshed:
        """Load keys anew in one batch, conditionally where validators are held.

        What fails is told, not raised. Readers meanwhile have the copies. Keys that
        somebody else loads, here or in another process, are left to them.

        Args:
            unless_left: leave those alone that are fresh for longer than this; 0: load what is
                not fresh; None: load all.
            ask: False: call no origin, only promote what is fresh on disk.
            loader, options: as in `get_or_load`.
        """
        origin: Any = None if loader is None else CallableOrigin(loader)
        left = None if unless_left is None else seconds(unless_left)
        return carry_out(self._engine.refresh(keys, left, origin, options, ask=ask))

    def loader(self, pattern: Pattern, *, many: bool = False) -> Callable[[F], F]:
        """Decorate the function that loads the keys of a pattern, or several of them at once.

        See `Loaders.register`. Keys that no pattern matches are for the origin, if there is one.

        Raises:
            ConfigurationError: the pattern or the function makes no sense.
        """
        return self._engine.load_by(pattern, many)

    def on(
        self, listener: EventListener, kinds: Iterable[EventKind | str] | None = None
    ) -> Callable[[], None]:
        """Have the listener told what happens below memory, in a thread of its own.

        Returns a function that ends it. See `EventBus.subscribe`.
        """
        return self._engine.events.subscribe(listener, kinds)

    def flush(self, timeout: Duration | None = None) -> bool:
        """Wait until the origin has what was queued for it; False if that takes longer."""
        queue = self._engine.queue
        return queue is None or queue.flush(None if timeout is None else seconds(timeout))

    def get_or_load(
        self,
        key: K,
        loader: Callable[[K], V | Awaitable[V]],
        *,
        ttl: Duration | None = UNSET,
        options: EntryOptions | None = None,
    ) -> V:
        """Return the value, from ``loader(key)`` if no tier has it; concurrent callers share it.

        Args:
            ttl, options: of this call, before those of the key's pattern and of the cache.

        Raises:
            NotFoundError: the loader raised it.
        """
        memory = self.memory
        if memory is not None and self._engine.coherence.generation.is_current:
            value = memory.get(key, MISSING)
            if value is not MISSING:
                return value  # type: ignore[no-any-return]
        steps = self._engine.read(key, MISSING, CallableOrigin(loader), for_call(ttl, options))
        return self._engine.require(key, carry_out(steps))  # type: ignore[no-any-return]

    def put(
        self,
        key: K,
        value: V,
        *,
        ttl: Duration | None = UNSET,
        options: EntryOptions | None = None,
        cost: float | None = None,
        importance: float = 1.0,
        if_version: int | None = None,
        version: int | None = None,
        tags: Iterable[str] = (),
        depends_on: Iterable[Any] = (),
    ) -> None:
        """Store a value in the tiers, and first in the origin under write_through.

        Args:
            ttl, options: of this call, before those of the key's pattern and of the cache.
            tags: names of groups that it belongs to, for `invalidate`.
            depends_on: keys of which it is made; when one changes this entry is invalid.
            cost, importance: for eviction; by default the cost is what loads have been measured
                to take.
            if_version: store only if `entry` tells this version, 0 for no entry.
            version: what conflicts are settled by, see `EntryOptions`; by default the time.

        Raises:
            KeyEncodingError: the disk tier cannot store the key; nothing was changed.
            EncodeError, ValueTooLargeError: no tier can keep the value; nothing was changed.
            VersionConflictError: the entry is of another version; nothing was changed.

        A disk that fails is passed over, and takes the value when it works again. Under
        write_through the origin has the value by then, and so is a tier that cannot keep it.
        """
        carry_out(
            self._engine.write(
                key,
                value,
                for_call(ttl, options),
                cost=cost,
                importance=importance,
                if_version=if_version,
                version=version,
                tags=checked_tags(tags),
                depends_on=tuple(depends_on),
            )
        )

    def entry(self, key: K) -> Entry[V] | None:
        """What the highest tier that has the key holds, fresh or stale; counts as no use.

        Where there is a disk, its version is that of the disk; without one it is told from now on.
        """
        return self._engine.entry(key)

    def peek(self, key: K, default: Any = None) -> Any:
        """The fresh value if a tier has it; loads, promotes and counts nothing."""
        entry = self._engine.entry(key)
        return default if entry is None or entry.stale else entry.value

    def health(self, limits: Limits | None = None) -> Health:
        """How the cache and each of its tiers are, why, and since when.

        Also of a cache that was closed. Looks at no more than `stats` does, and costs less.

        Args:
            limits: from where on a tier counts as degraded.
        """
        return self._engine.health(limits)

    @property
    def breaker(self) -> Circuit | None:
        """The circuit breaker of the origin, to be looked at, tripped and reset."""
        guard = self._engine.guard
        return None if guard is None else guard.circuit

    def delete(self, key: K, *, options: EntryOptions | None = None) -> bool:
        """Delete the entry; a load of it under way is handed to its callers but not kept.

        Returns whether a tier held it.
        """
        return carry_out(self._engine.remove(key, options))

    def contains(self, key: K) -> bool:
        """Whether a tier holds a fresh entry; the origin is not asked."""
        return self._engine.contains(key)

    def invalidate(
        self, *keys: K, tags: Iterable[str] = (), hard: bool = True, cause: str = "invalidate"
    ) -> None:
        """Invalidate keys, and all entries that carry one of the tags, in all processes.

        What is invalidated is not served again, in no process that has the same disk tier, once
        this returns; nor is what was being loaded meanwhile kept. With ``hard=False`` it may still
        be served as a stale copy where the origin fails or is slow. The origin is not written.
        A tag costs the same however many entries carry it: O(1).

        Raises:
            DiskError: the disk failed, and others could not be told; nothing was invalidated.
        """
        self._engine.invalidate(keys, checked_tags(tags), hard=hard, cause=cause)

    def expire(self, key: K) -> None:
        """Let the entry be stale from now on: it is loaded anew, or served if that fails."""
        self._engine.invalidate((key,), (), hard=False, cause="expire")

    def keys_by_tag(self, tag: str) -> Iterator[K]:
        """The keys of valid entries that carry a tag. O(entries)."""
        return self._engine.keys_by_tag(tag)

    def ttl_of(self, key: K) -> TtlExplained:
        """How long the key is fresh when it is loaded next, and why."""
        from hybridcore.invalidation.adaptive_ttl import LearnedTtls

        ttls = self._engine.ttls or LearnedTtls({})
        return ttls.explain(key, self.rules.of(key).ttl)

    def invalidation_log(self, since: int = 0, *, last: int | None = None) -> list[Invalidation]:
        """What was invalidated after an entry of the log, by whom and why, oldest first.

        Args:
            last: at most so many, the newest.
        """
        return self._engine.invalidation_log(since, last)

    def clear(self, *, soft: bool = False) -> None:
        """Empty the tiers; the origin is left alone."""
        self._engine.clear(soft=soft)

    def clear_from(self, prefix: tuple[Any, ...]) -> None:
        """Empty the tiers of keys that are tuples with these first elements.

        O(entries in memory), and every other operation waits meanwhile.
        """
        self._engine.clear_from(prefix)

    def namespace(self, name: Any) -> Namespace[Any, V]:
        """A view of this cache for the keys of a tenant, a version or the like.

        In the tiers a key ``k`` of it is the tuple ``(name, k)``.
        """
        return Namespace(self, (name,))

    def stats(self) -> HybridStats:
        """A snapshot of what was counted and timed, and of what the cache takes."""
        return self._engine.stats()

    def time_hits(self, one_in: int | None) -> None:
        """Measure how long one in so many hits of memory take, drawn at random.

        It stands for all of them in the statistics; by default it is one in 64, and 1 measures
        every hit, which takes longer than most hits do. None: no hits are measured.

        Raises:
            ValueError: more than 65536, or less than 1.
        """
        self._engine.time_hits(one_in)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._engine.closed

    def close(self) -> None:
        """Close the disk tier and the origin; further calls raise ClosedError."""
        engine = self._engine
        if not engine.closed:
            try:
                engine.close()
            finally:
                if engine.origin is not None:
                    engine.origin.close()

    __iter__ = None  # or iter() would ask for the keys 0, 1, 2...

    def __contains__(self, key: object) -> bool:
        return self._engine.contains(key)

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        engine = self._engine
        parts = [
            f"memory={engine.memory!r}" if engine.memory is not None else "",
            f"disk={engine.disk!r}" if engine.disk is not None else "",
            f"origin={engine.origin.name}" if engine.origin is not None else "",
            f"strategy={engine.strategy!r}",
        ]
        return f"{type(self).__name__}({', '.join(part for part in parts if part)})"


HybridCache._own_get()


def _as_origin(origin: Any) -> Origin[Any, Any] | None:
    if origin is None or isinstance(origin, Origin):
        return origin
    if isinstance(origin, HybridCache):
        from hybridcore.origins import CacheOrigin

        return CacheOrigin(origin)
    if callable(origin):
        return CallableOrigin(origin)
    raise ConfigurationError(
        f"origin is expected to be an Origin, a HybridCache or a function, got {origin!r}"
    )


def _call(method: WeakMethod[Any], *args: Any) -> None:
    found = method()
    if found is not None:
        found(*args)
