"""Decorators that keep the results of functions: `lru_cache` and `cached`."""

from hybridcore.decorators.cached import cached
from hybridcore.decorators.lru import lru_cache
from hybridcore.decorators.protocols import AsyncCached, Cached

__all__ = ["AsyncCached", "Cached", "cached", "lru_cache"]
