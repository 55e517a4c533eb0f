"""`Cache`: the memory tier, a bounded mapping that takes the place of a dict or cachetools."""

from __future__ import annotations

import copy
import copyreg
import inspect
import math
import reprlib
import weakref
from collections.abc import Callable, ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native import MemoryStore, footprint_of
from hybridcore.errors import ConfigurationError
from hybridcore.stats import CacheStats
from hybridcore.units import Duration, Size, size_in_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

    from hybridcore.types import EvictionCause

K = TypeVar("K")
V = TypeVar("V")

_ABSENT = object()


class Cache(MemoryStore[K, V], MutableMapping[K, V]):
    """A bounded mapping that evicts the least recently used entries.

    A drop-in for a dict used as a cache and for ``cachetools.Cache(maxsize, getsizeof)``. Lookups
    are native; every operation is O(1), amortized where the table grows or entries expire.

    >>> cache = Cache(2)
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
    ) -> None:
        for name, function in (("getsizeof", getsizeof), ("timer", timer), ("on_evict", on_evict)):
            if function is not None and not callable(function):
                raise ConfigurationError(f"{name} is expected to be callable, got {function!r}")
        if getsizeof is None and self._overrides_getsizeof():
            getsizeof = _OwnGetsizeof(self)
        estimates = isinstance(maxsize, str) and getsizeof is None
        super().__init__(_limit(maxsize), getsizeof, ttl, timer, on_evict, estimates)

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
            _, sizer, _, _, _, estimates = self.options()
            return sizer or (footprint_of if estimates else _one)

    def resize(self, maxsize: Size | float | None) -> None:
        """Set a new bound, evicting down to it. O(entries evicted)."""
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

    def values(self) -> ValuesView[V]:
        """A view of the values; looking at it moves no entry and counts no lookup."""
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        """A view of the items; looking at it moves no entry and counts no lookup."""
        return _Items(self)

    def copy(self) -> Self:
        """Return a cache with the same options, entries and order; it counts anew."""
        return copy.copy(self)

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
