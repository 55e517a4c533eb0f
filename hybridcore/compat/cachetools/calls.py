"""What a decorated function tells of its calls."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

from hybridcore._native.calls import Calls
from hybridcore.compat.cachetools.caches import Cache


class CacheInfo(NamedTuple):
    """What a decorated function tells; ``maxsize`` is None where the cache is just a mapping."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float


class Counted(Calls):
    """Tells the hits and misses."""

    def cache_info(self) -> CacheInfo:
        """Return hits, misses, maxsize and currsize."""
        lock = self.cache_lock
        with nullcontext() if lock is None else lock:
            cache = self.cache
            if isinstance(cache, Cache):
                return CacheInfo(*self._native_counts(), cache.maxsize, cache.currsize)
            return CacheInfo(*self._native_counts(), None, len(cache))
