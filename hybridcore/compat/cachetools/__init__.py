"""`cachetools` over the native memory tier: the same names, the same rules, faster hits.

>>> from hybridcore.compat import cachetools
>>> cache = cachetools.LRUCache(maxsize=2)
>>> cache.update(a=1, b=2)
>>> cache["a"]
1
>>> cache["c"] = 3
>>> cache
LRUCache({'a': 1, 'c': 3}, maxsize=2, currsize=2)
"""

from hybridcore.compat.cachetools import func, keys
from hybridcore.compat.cachetools.caches import Cache, FIFOCache, LFUCache, LRUCache, RRCache
from hybridcore.compat.cachetools.calls import CacheInfo
from hybridcore.compat.cachetools.function import cached
from hybridcore.compat.cachetools.method import cachedmethod
from hybridcore.compat.cachetools.timed import TLRUCache, TTLCache

__all__ = [
    "Cache",
    "CacheInfo",
    "FIFOCache",
    "LFUCache",
    "LRUCache",
    "RRCache",
    "TLRUCache",
    "TTLCache",
    "cached",
    "cachedmethod",
    "func",
    "keys",
]
