"""Decorators like `functools.lru_cache`, by other rules, where equal calls wait for each other."""

from __future__ import annotations

import math
import random
import time
from threading import Condition
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hybridcore.compat.cachetools.caches import FIFOCache, LFUCache, LRUCache, RRCache
from hybridcore.compat.cachetools.function import cached
from hybridcore.compat.cachetools.timed import TTLCache
from hybridcore.keys import hashkey, typedkey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hybridcore.compat.cachetools.protocols import LikeLruCache, LikeLruDecorator

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["fifo_cache", "lfu_cache", "lru_cache", "rr_cache", "ttl_cache"]


@overload
def fifo_cache(maxsize: Callable[P, R], typed: bool = False) -> LikeLruCache[P, R]: ...
@overload
def fifo_cache(maxsize: float | None = 128, typed: bool = False) -> LikeLruDecorator: ...
def fifo_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep up to ``maxsize`` results, None for all; the first one stored goes first."""
    return _decorator(FIFOCache, maxsize, typed)


@overload
def lfu_cache(maxsize: Callable[P, R], typed: bool = False) -> LikeLruCache[P, R]: ...
@overload
def lfu_cache(maxsize: float | None = 128, typed: bool = False) -> LikeLruDecorator: ...
def lfu_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep up to ``maxsize`` results, None for all; the least often used goes first."""
    return _decorator(LFUCache, maxsize, typed)


@overload
def lru_cache(maxsize: Callable[P, R], typed: bool = False) -> LikeLruCache[P, R]: ...
@overload
def lru_cache(maxsize: float | None = 128, typed: bool = False) -> LikeLruDecorator: ...
def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep up to ``maxsize`` results, None for all; the least recently used goes first."""
    return _decorator(LRUCache, maxsize, typed)


@overload
def rr_cache(
    maxsize: Callable[P, R],
    choice: Callable[[Sequence[Any]], Any] = random.choice,
    typed: bool = False,
) -> LikeLruCache[P, R]: ...
@overload
def rr_cache(
    maxsize: float | None = 128,
    choice: Callable[[Sequence[Any]], Any] = random.choice,
    typed: bool = False,
) -> LikeLruDecorator: ...
def rr_cache(
    maxsize: Any = 128,
    choice: Callable[[Sequence[Any]], Any] = random.choice,
    typed: bool = False,
) -> Any:
    """Keep up to ``maxsize`` results, None for all; the one that ``choice`` picks goes first."""
    return _decorator(lambda size: RRCache(size, choice), maxsize, typed)


@overload
def ttl_cache(
    maxsize: Callable[P, R],
    ttl: Any = 600,
    timer: Callable[[], Any] = time.monotonic,
    typed: bool = False,
) -> LikeLruCache[P, R]: ...
@overload
def ttl_cache(
    maxsize: float | None = 128,
    ttl: Any = 600,
    timer: Callable[[], Any] = time.monotonic,
    typed: bool = False,
) -> LikeLruDecorator: ...
def ttl_cache(
    maxsize: Any = 128,
    ttl: Any = 600,
    timer: Callable[[], Any] = time.monotonic,
    typed: bool = False,
) -> Any:
    """Keep up to ``maxsize`` results, None for all, for ``ttl`` seconds."""

    def make(size: int | None) -> Any:
        return _Unbounded(ttl, timer) if size is None else TTLCache(size, ttl, timer)

    return _decorator(make, maxsize, typed, make)


class _Unbounded(TTLCache[Any, Any, Any]):
    def __init__(self, ttl: Any, timer: Callable[[], Any]) -> None:
        super().__init__(math.inf, ttl, timer)

    @property
    def maxsize(self) -> Any:
        return None


def _decorator(
    make: Callable[[Any], Any],
    maxsize: Any,
    typed: bool,
    unbounded: Callable[[Any], Any] = lambda size: {},
) -> Any:
    if callable(maxsize):
        return _decorator(make, 128, typed)(maxsize)
    cache = unbounded(None) if maxsize is None else make(maxsize)
    key = typedkey if typed else hashkey

    def decorate(function: Callable[..., Any]) -> Any:
        wrapper: Any = cached(cache, key, condition=Condition(), info=True)(function)
        wrapper.cache_parameters = lambda: {"maxsize": maxsize, "typed": typed}
        return wrapper

    return decorate
