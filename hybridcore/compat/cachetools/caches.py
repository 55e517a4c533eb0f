"""The caches that nothing expires in: `Cache`, `FIFOCache`, `LFUCache`, `LRUCache`, `RRCache`."""

from __future__ import annotations

import random
import reprlib
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, ClassVar, TypeVar, overload

from hybridcore._native.bounded import BoundedMapping, KeySequence

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_ABSENT: Any = object()


class Cache(BoundedMapping[K, V], MutableMapping[K, V]):
    """A bounded mapping that evicts what came first, and the base of the others.

    Subclasses may override any method; the others then go through it, as in cachetools.

    Args:
        maxsize: how many entries, or the total of what ``getsizeof`` returns for the values.
        getsizeof: the size of a value; a subclass may define it as a method instead.
    """

    _native_rule: ClassVar[str] = "arrival"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._native_own_get()

    def __init__(self, maxsize: float, getsizeof: Callable[[V], float] | None = None) -> None:
        if maxsize < 0:
            raise ValueError(f"maxsize must be non-negative, got {maxsize}")
        if getsizeof is not None:
            vars(self)["getsizeof"] = getsizeof
        self._native_start(maxsize)

    def _native_start(self, maxsize: float) -> None:
        sized = self.getsizeof is not Cache.getsizeof
        self._native_open(maxsize, self._native_rule, {}, None, sized)

    @staticmethod
    def getsizeof(value: V) -> float:
        """Return what a value counts against ``maxsize``."""
        return 1

    # What cachetools does through `self` is done so here, for the sake of subclasses.

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: T) -> V | T: ...
    def pop(self, key: K, /, default: Any = _ABSENT) -> Any:
        """Remove the entry and return its value, or ``default`` when it is not there."""
        if key in self:
            value = self[key]
            del self[key]
            return value
        if default is _ABSENT:
            raise KeyError(key)
        return default

    @overload
    def setdefault(self: Cache[K, T | None], key: K, /, default: None = None) -> T | None: ...
    @overload
    def setdefault(self, key: K, /, default: V) -> V: ...
    def setdefault(self, key: K, /, default: Any = None) -> Any:
        """Return the value of the key, storing ``default`` first if it is not there."""
        if key in self:
            return self[key]
        self[key] = default
        return default

    @reprlib.recursive_repr("...")
    def __repr__(self) -> str:
        entries = {key: self._native_peek(key) for key in self._native_order}
        return (
            f"{type(self).__name__}({entries!r}, maxsize={self.maxsize!r}, "
            f"currsize={self.currsize!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _new, (type(self),), self.__getstate__()

    def __getstate__(self) -> tuple[Any, ...]:
        return vars(self), self._native_save()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        fields, entries = state
        vars(self).update(fields)
        self._native_start(entries[0])
        self._native_load(entries)


Cache._native_own_get()


class FIFOCache(Cache[K, V]):
    """Evicts what was set first; setting a key again counts."""

    _native_rule = "fifo"


class LFUCache(Cache[K, V]):
    """Evicts what was used least often; among equals, what came to its number of uses first."""

    _native_rule = "lfu"


class LRUCache(Cache[K, V]):
    """Evicts what was used least recently."""

    _native_rule = "lru"


class RRCache(Cache[K, V]):
    """Evicts at random.

    Args:
        choice: picks one of a non-empty sequence of keys.
    """

    def __init__(
        self,
        maxsize: float,
        choice: Callable[[Sequence[K]], K] = random.choice,
        getsizeof: Callable[[V], float] | None = None,
    ) -> None:
        super().__init__(maxsize, getsizeof)
        self.__choice = choice

    @property
    def choice(self) -> Callable[[Sequence[K]], K]:
        """The function that picks what is evicted."""
        return self.__choice

    def popitem(self) -> tuple[K, V]:
        """Remove an entry that ``choice`` picks and return its ``(key, value)``."""
        keys: Sequence[K] = _Keys(self)
        if not keys:
            raise KeyError(f"{type(self).__name__} is empty") from None
        key = self.__choice(keys)
        value = self._native_peek(key)
        del self[key]
        return key, value


class _Keys(KeySequence[K], Sequence[K]):
    """With the methods of a sequence."""


def _new(kind: type[Cache[K, V]]) -> Cache[K, V]:
    return kind.__new__(kind)
