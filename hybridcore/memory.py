"""`Cache`: the memory tier, a bounded mapping that takes the place of a dict or cachetools."""

from __future__ import annotations

import copy
import copyreg
import inspect
import math
import reprlib
import weakref
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native import MemoryStore, footprint_of
from hybridcore.errors import ConfigurationError
from hybridcore.eviction import Adaptive, Tuning, Weights
from hybridcore.stats import CacheStats
from hybridcore.units import Duration, Size, size_in_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

    from hybridcore.config import Memory
    from hybridcore.eviction import State
    from hybridcore.types import EvictionCause

K = TypeVar("K")
V = TypeVar("V")

_ABSENT = object()


class Cache(MemoryStore[K, V], MutableMapping[K, V]):
    """A bounded mapping that learns from its own history which entries to evict.

    A drop-in for a dict used as a cache and for ``cachetools.Cache(maxsize, getsizeof)``. Lookups
    are native; every operation is O(1), amortized where the table grows or entries expire.

    >>> cache = Cache(2, weights=Weights.lru())
    >>> cache["a"], cache["b"] = 1, 2
    >>> cache["a"]
    1
    >>> cache["c"] = 3          # evicts "b", the least recently used
    >>> "b" in cache
    False

    Args:
        maxsize: how many entries, or their total size when ``getsizeof`` is given. A str such as
            "256MiB" without ``getsizeof`` bounds the memory taken, as `footprint_of` estimates it
            for keys and values. None or infinity: unbounded, or a total size of 2**63 - 1.
        getsizeof: the size of a value, an int of at least 0; overriding the method does the same.
        ttl: seconds, or a str such as "5m", that an entry stays unless `put` says otherwise.
        timer: a clock in seconds. The default one is monotonic and ticks every few milliseconds.
        on_evict: called as ``on_evict(key, value, cause)`` after an entry has left and the cache
            is consistent again; what it raises goes to ``sys.unraisablehook``.
        weights: what counts when an entry must go; without ``adaptive`` they alone decide.
        adaptive: how the cache learns; by default it does, unless ``weights`` are given.
        low_water: the share of ``maxsize`` that eviction goes down to once it has begun, at most
            16 entries more with each write; 1: only as far as needed.

    Iteration is in no particular order and raises RuntimeError when entries come or go meanwhile.
    All operations are safe under threads; each is atomic unless keys have a Python ``__eq__``.
    """

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._own_get()

    def __init__(
        self,
        maxsize: Size | float | None,
        getsizeof: Callable[[V], int] | None = None,
        *,
        ttl: Duration | None = None,
        timer: Callable[[], float] | None = None,
        on_evict: Callable[[K, V, EvictionCause], object] | None = None,
        weights: Weights | None = None,
        adaptive: Adaptive | None = None,
        low_water: float = 1.0,
    ) -> None:
        for name, function in (("getsizeof", getsizeof), ("timer", timer), ("on_evict", on_evict)):
            if function is not None and not callable(function):
                raise ConfigurationError(f"{name} is expected to be callable, got {function!r}")
        if getsizeof is None and self._overrides_getsizeof():
            getsizeof = _OwnGetsizeof(self)
        for name, option, kind in (
            ("weights", weights, Weights),
            ("adaptive", adaptive, Adaptive),
        ):
            if option is not None and not isinstance(option, kind):
                raise ConfigurationError(
                    f"{name} is expected to be {kind.__name__}(...) or None, got {option!r}"
                )
        if not isinstance(low_water, int | float) or not 0 <= low_water <= 1:
            raise ConfigurationError(f"low_water is expected to be from 0 to 1, got {low_water!r}")
        if weights is None:
            weights, adaptive = Weights(), adaptive or Adaptive()
        estimates = isinstance(maxsize, str) and getsizeof is None
        limit = _limit(maxsize)
        super().__init__(
            limit, getsizeof, ttl, timer, on_evict, estimates, weights, adaptive, low_water
        )

    @property
    def maxsize(self) -> int | float:
        """The bound; infinity when there is none."""
        limit = self.options()[0]
        return math.inf if limit is None else limit

    if TYPE_CHECKING:

        def getsizeof(self, value: V, /) -> int:
            """What ``value`` counts against ``maxsize``; a subclass may override it."""

    else:

        @property
        def getsizeof(self) -> Callable[[V], int]:
            """The function that says what a value counts against ``maxsize``."""
            options = self.options()
            return options[1] or (footprint_of if options[5] else _one)

    def resize(self, maxsize: Size | float | None) -> None:
        """Set a new bound, evicting down to it. O(entries evicted).

        Other threads have a turn after every 1024 entries. What the cache has learned is void, as
        it is relative to its size.
        """
        if isinstance(maxsize, str) and self.getsizeof is _one:
            raise ConfigurationError(
                f"maxsize is expected to be a number of entries, which is what this cache counts, "
                f"got {maxsize!r}. Make it with a str or with getsizeof= to bound its size."
            )
        self.resize_to(_limit(maxsize))

    def stats(self) -> CacheStats:
        """Return a snapshot of the counters."""
        entries = len(self)  # counts what has expired, so before the counters are read
        return CacheStats(*self.counters(), entries, self.currsize, self.maxsize)

    def tuning(self) -> Tuning:
        """Return what the cache has learned and decided; `freeze` stops and starts it."""
        weights, adaptive = self.options()[6:8]
        learned = self.learned()
        if learned is None:
            return Tuning(weights, adaptive, "fixed")
        (
            lessons,
            vetoes,
            frozen,
            suspended,
            on_target,
            requests,
            until,
            hit_ratio,
            lru_hit_ratio,
            history,
        ) = learned
        state: State = "filling" if until is None else "learning"
        if frozen:
            state = "frozen"
        elif suspended:
            state = "suspended"
        elif on_target:
            state = "on_target"
        until = None if frozen else until
        return Tuning(
            weights=weights,
            adaptive=adaptive,
            state=state,
            lessons=lessons,
            vetoes=vetoes,
            requests=requests,
            next_lesson=until,
            hit_ratio=hit_ratio,
            lru_hit_ratio=lru_hit_ratio,
            history=history,
        )

    def values(self) -> ValuesView[V]:
        """A view of the values; looking at it moves no entry and counts no lookup."""
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        """A view of the items; looking at it moves no entry and counts no lookup."""
        return _Items(self)

    def copy(self) -> Self:
        """Return a cache with the same options and entries; it counts, and learns, anew.

        With LRU and LFU the order of eviction is the same, with other weights all scores are as
        old as the copy.
        """
        return copy.copy(self)

    def __or__(self, other: Mapping[K, V]) -> Self:
        """A copy of the cache with the other's items put into it."""
        if not isinstance(other, Mapping):
            return NotImplemented
        merged = self.copy()
        merged.update(other)
        return merged

    def __ror__(self, other: Mapping[K, V]) -> Self:
        """A copy of the cache with the other's items, where it has none of its own."""
        if not isinstance(other, Mapping):
            return NotImplemented
        merged = self.copy()
        merged.update({key: value for key, value in other.items() if key not in merged})
        return merged

    def __ior__(self, other: Mapping[K, V]) -> Self:
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        entries = self.entries()  # may tell of expired ones, and the listener may change the rest
        options = list(self.options())
        if isinstance(options[1], _OwnGetsizeof):
            options[1] = None  # bound to this very cache
        fields = getattr(self, "__dict__", None)
        return _new, (type(self),), (options, entries, fields, _slots(self))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        options, entries, fields, slots = state
        if options[1] is None and self._overrides_getsizeof():
            options = [options[0], _OwnGetsizeof(self), *options[2:]]
        MemoryStore.__init__(self, *options)
        if fields:
            self.__dict__.update(fields)
        for name, value in slots.items():
            setattr(self, name, value)
        self.restore(entries)

    def _overrides_getsizeof(self) -> bool:
        return inspect.getattr_static(type(self), "getsizeof") is not vars(Cache)["getsizeof"]

    @reprlib.recursive_repr("...")
    def __repr__(self) -> str:
        shown = ", ".join(f"{key!r}: {value!r}" for key, value in _some(self.items(), 10))
        more = ", ..." if len(self) > 10 else ""
        return (
            f"{type(self).__name__}({{{shown}{more}}}, "
            f"maxsize={self.maxsize}, currsize={self.currsize})"
        )


Cache._own_get()


class _Values(ValuesView[V]):
    _mapping: Cache[Any, V]

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)

    def __iter__(self) -> Iterator[V]:
        return self._mapping.iterate(1)


class _Items(ItemsView[K, V]):
    _mapping: Cache[K, V]

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        found = self._mapping.peek(item[0], _ABSENT)
        return found is item[1] or (found is not _ABSENT and bool(found == item[1]))

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping.iterate(2)


class _OwnGetsizeof:
    """The method of a subclass, called without keeping the cache alive by a cycle."""

    def __init__(self, cache: Cache[Any, Any]) -> None:
        self._cache = weakref.ref(cache)

    def __call__(self, value: Any) -> int:
        cache = self._cache()
        assert cache is not None, "only the cache itself calls this"
        return cache.getsizeof(value)


def _slots(cache: Cache[Any, Any]) -> dict[str, Any]:
    """What a subclass keeps in ``__slots__``."""
    names = copyreg._slotnames(type(cache))  # type: ignore[attr-defined]  # as pickle finds them
    return {name: getattr(cache, name) for name in names if hasattr(cache, name)}


def _limit(maxsize: Size | float | None) -> int | None:
    """The native bound: None when unbounded."""
    if maxsize is None or maxsize == math.inf:
        return None
    if isinstance(maxsize, str):
        maxsize = size_in_bytes(maxsize)
    if isinstance(maxsize, float) and maxsize.is_integer():
        maxsize = int(maxsize)
    if isinstance(maxsize, bool) or not isinstance(maxsize, int):
        raise ConfigurationError(
            f'maxsize is expected to be an int, a str such as "256MiB" or None, got {maxsize!r}'
        )
    if maxsize < 0:
        raise ConfigurationError(f"maxsize is expected to be at least 0, got {maxsize}")
    return maxsize if maxsize < 2**63 else None


def _one(value: object, /) -> int:
    return 1


def _new(kind: type[Cache[K, V]]) -> Cache[K, V]:
    return kind.__new__(kind)


def _some(items: Iterable[tuple[K, V]], n: int) -> list[tuple[K, V]]:
    return [item for item, _ in zip(items, range(n), strict=False)]


def store_of(memory: Memory | MemoryStore[K, V] | None) -> MemoryStore[K, V] | None:
    """The store that `Memory` describes, or one that is given as it is, or none.

    Raises:
        ConfigurationError: it is something else, or its options make no sense.
    """
    from hybridcore.config import Memory

    if isinstance(memory, Memory):
        return Cache(
            memory.maxsize,
            memory.getsizeof,
            weights=memory.weights,
            adaptive=memory.adaptive,
            low_water=memory.low_water,
        )
    if memory is None or isinstance(memory, MemoryStore):
        return memory
    raise ConfigurationError(
        f"memory is expected to be Memory(...), a Cache or None, got {memory!r}"
    )
