"""What type checkers make of `hybridcore.compat.cachetools`; checked, never run."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Condition, Lock

from typing_extensions import assert_type

from hybridcore.compat import cachetools
from hybridcore.compat.cachetools.calls import CacheInfo
from hybridcore.compat.cachetools.func import lfu_cache, ttl_cache

cache = cachetools.LRUCache[str, int](maxsize=10)
assert_type(cache["a"], int)
assert_type(cache.get("a"), int | None)
assert_type(cache.get("a", "nothing"), int | str)
assert_type(cache.pop("a", None), int | None)
assert_type(cache.popitem(), tuple[str, int])
assert_type(cache.currsize, float)
sized: cachetools.FIFOCache[str, str] = cachetools.FIFOCache(10.5, getsizeof=len)

seconds: cachetools.TTLCache[str, int] = cachetools.TTLCache(10, ttl=60)
assert_type(seconds.timer(), float)
assert_type(seconds.expire(), list[tuple[str, int]])
days = cachetools.TTLCache[str, int, datetime](10, timedelta(days=1), datetime.now)
assert_type(days.timer(), datetime)
with days.timer as now:
    assert_type(now, datetime)


def until(key: str, value: int, now: float) -> float:
    return now + value


each: cachetools.TLRUCache[str, int] = cachetools.TLRUCache(10, until)
picked = cachetools.RRCache[str, int](10, choice=min)


@cachetools.cached(cache, condition=Condition(), info=True)
def square(x: int, *, exact: bool = True) -> float:
    return x * x


assert_type(square(3, exact=False), float)
assert_type(square.cache_info(), CacheInfo)
square.cache_clear()


@cachetools.cached({}, lock=Lock())
def name(x: int) -> str:
    return str(x)


assert_type(name(3), str)


class Account:
    def __init__(self) -> None:
        self.results: dict[object, object] = {}

    @cachetools.cachedmethod(lambda self: self.results, info=True)
    def balance(self, currency: str) -> float:
        return 1.0


assert_type(Account().balance("EUR"), float)
assert_type(Account.balance(Account(), "EUR"), float)
assert_type(Account().balance.cache_info(), CacheInfo)


@lfu_cache
def plain(x: int) -> str:
    return str(x)


@ttl_cache(maxsize=None, ttl=5)
def timed(x: int) -> str:
    return str(x)


assert_type(plain(1), str)
assert_type(timed(1), str)
