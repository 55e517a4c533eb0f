"""What a call of a decorated function does: look, call, store; by itself, locked, or waiting."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.compat.cachetools.caches import Cache

if TYPE_CHECKING:
    from collections.abc import Callable


class CacheInfo(NamedTuple):
    """What a decorated function tells; ``maxsize`` is None where the cache is just a mapping."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float


class Calls:
    """The base of every wrapper; a subclass has the attributes that are declared here."""

    cache: Any
    cache_key: Any
    cache_lock: Any
    cache_condition: Any
    _function: Callable[..., Any]
    _hits: int = 0
    _misses: int = 0

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        cache, key = self.cache, self.cache_key(*args, **kwargs)
        try:
            value = cache[key]
        except KeyError:
            self._misses += 1
        else:
            self._hits += 1
            return value
        value = self._function(*args, **kwargs)
        with suppress(ValueError):  # too large
            cache[key] = value
        return value

    def cache_clear(self) -> None:
        """Forget every result."""
        self.cache.clear()
        self._hits = self._misses = 0


class LockedCalls(Calls):
    """Looks and stores under a lock, calls without it; the first value stored is everyone's."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        cache, key, lock = self.cache, self.cache_key(*args, **kwargs), self.cache_lock
        with lock:
            try:
                value = cache[key]
            except KeyError:
                self._misses += 1
            else:
                self._hits += 1
                return value
        value = self._function(*args, **kwargs)
        with lock:
            try:
                return cache.setdefault(key, value)
            except ValueError:  # too large
                return value

    def cache_clear(self) -> None:
        """Forget every result."""
        with self.cache_lock:
            super().cache_clear()


class WaitingCalls(LockedCalls):
    """Waits on a condition while another thread makes the same call."""

    _pending: set[Any]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        cache, key, lock = self.cache, self.cache_key(*args, **kwargs), self.cache_lock
        condition = self.cache_condition
        with lock:
            while key in self._pending:
                condition.wait()
            try:
                value = cache[key]
            except KeyError:
                self._pending.add(key)
                self._misses += 1
            else:
                self._hits += 1
                return value
        try:
            value = self._function(*args, **kwargs)
            with lock, suppress(ValueError):  # too large
                cache[key] = value
            return value
        finally:
            with lock:
                self._pending.remove(key)
                condition.notify_all()


class Counted(Calls):
    """Tells the hits and misses."""

    def cache_info(self) -> CacheInfo:
        """Return hits, misses, maxsize and currsize."""
        cache = self.cache
        if isinstance(cache, Cache):
            return CacheInfo(self._hits, self._misses, cache.maxsize, cache.currsize)
        return CacheInfo(self._hits, self._misses, None, len(cache))


class LockedCounted(Counted, LockedCalls):
    """Tells the hits and misses, under the lock."""

    def cache_info(self) -> CacheInfo:
        """Return hits, misses, maxsize and currsize."""
        with self.cache_lock:
            return super().cache_info()


class WaitingCounted(LockedCounted, WaitingCalls):
    """Tells the hits and misses of calls that wait for each other."""


KINDS = (Calls, LockedCalls, WaitingCalls, Counted, LockedCounted, WaitingCounted)


def kind_of(lock: object, condition: object, info: bool) -> type[Calls]:
    """The class of a wrapper with these options."""
    if condition is not None:
        return WaitingCounted if info else WaitingCalls
    if lock is not None:
        return LockedCounted if info else LockedCalls
    return Counted if info else Calls
