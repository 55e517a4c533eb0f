"""Locks, semaphores, averages and decorators that processes share through a cache.

What they keep must not be evicted: use a cache of the eviction policy "none".
"""

from __future__ import annotations

import functools
import math
import os
import random
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache.core import ENOVAL, full_name, key_of_call

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from typing_extensions import Self

    from hybridcore.compat.diskcache.cache import Cache

_PAUSE = 0.001
"""Seconds between two attempts."""


class Averager:
    """The average of numbers that anybody adds to."""

    def __init__(
        self, cache: Cache, key: Any, expire: float | None = None, tag: Any = None
    ) -> None:
        self._cache, self._key, self._expire, self._tag = cache, key, expire, tag

    def add(self, value: float) -> None:
        """Add a number, in one transaction."""
        self._cache._exchange(
            self._key,
            lambda sums: (sums[0] + value, sums[1] + 1),
            (0.0, 0),
            self._expire,
            self._tag,
        )

    def get(self) -> float | None:
        """The average; None before the first."""
        return _average(self._cache.get(self._key, (0.0, 0)))

    def pop(self) -> float | None:
        """The average, which starts afresh."""
        return _average(self._cache.pop(self._key, (0.0, 0)))


class _Acquired(ABC):
    """What is acquired and released under a key of a cache, by trying again and again."""

    def __init__(
        self, cache: Cache, key: Any, expire: float | None = None, tag: Any = None
    ) -> None:
        self._cache, self._key, self._expire, self._tag = cache, key, expire, tag

    def acquire(self) -> None:
        """Wait until it is acquired."""
        while not self._try():
            time.sleep(_PAUSE)

    @abstractmethod
    def release(self) -> None:
        """Give it back."""

    @abstractmethod
    def _try(self) -> bool:
        """Acquire it if that can be done now."""

    def _exchange(self, change: Callable[[Any], Any], default: Any) -> bool:
        stored = self._cache._exchange(self._key, change, default, self._expire, self._tag)
        return stored is not ENOVAL

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Lock(_Acquired):
    """A lock for all threads and processes."""

    def release(self) -> None:
        """Unlock."""
        self._cache.delete(self._key)

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._key in self._cache

    def _try(self) -> bool:
        return self._cache.add(self._key, None, self._expire, tag=self._tag)


class RLock(_Acquired):
    """A lock that its holder may take again."""

    def release(self) -> None:
        """Unlock once; AssertionError if this thread does not hold it."""
        me = _myself()

        def less(held: Any) -> Any:
            return (me, held[1] - 1) if held[0] == me and held[1] > 0 else ENOVAL

        if not self._exchange(less, (None, 0)):
            raise AssertionError("cannot release un-acquired lock")

    def _try(self) -> bool:
        me = _myself()

        def more(held: Any) -> Any:
            return (me, held[1] + 1) if held[0] == me or held[1] == 0 else ENOVAL

        return self._exchange(more, (None, 0))


class BoundedSemaphore(_Acquired):
    """A semaphore for all threads and processes, ``value`` at a time."""

    def __init__(
        self,
        cache: Cache,
        key: Any,
        value: int = 1,
        expire: float | None = None,
        tag: Any = None,
    ) -> None:
        super().__init__(cache, key, expire, tag)
        self._value = value

    def release(self) -> None:
        """Give one back; AssertionError if none is out."""
        if not self._exchange(lambda left: left + 1 if left < self._value else ENOVAL, self._value):
            raise AssertionError("cannot release un-acquired semaphore")

    def _try(self) -> bool:
        return self._exchange(lambda left: left - 1 if left > 0 else ENOVAL, self._value)


def throttle(
    cache: Cache,
    count: float,
    seconds: float,
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
    time_func: Callable[[], float] = time.time,
    sleep_func: Callable[[float], object] = time.sleep,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function be called ``count`` times in ``seconds``, by whoever shares the cache."""
    rate = count / float(seconds)

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        key = full_name(function) if name is None else name
        cache.set(key, (time_func(), count), expire, tag=tag)

        def admitted() -> float:
            """Take one call; the seconds to wait if there is none."""
            delay = 0.0

            def take(state: tuple[float, float]) -> Any:
                nonlocal delay
                last, tally = state
                now = time_func()
                tally = min(count, tally + (now - last) * rate)
                if tally >= 1:
                    delay = 0.0
                    return now, tally - 1
                delay = (1 - tally) / rate
                return ENOVAL

            cache._exchange(key, take, (time_func(), count), expire, tag)
            return delay

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            while delay := admitted():
                sleep_func(delay)
            return function(*args, **kwargs)

        return wrapper

    return decorator


def barrier(
    cache: Cache,
    lock_factory: Callable[..., Any],
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let one call of a function run at a time, or as many as the lock lets."""

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        key = full_name(function) if name is None else name
        lock = lock_factory(cache, key, expire=expire, tag=tag)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return function(*args, **kwargs)

        return wrapper

    return decorator


def memoize_stampede(
    cache: Cache,
    expire: float,
    name: str | None = None,
    typed: bool = False,
    tag: Any = None,
    beta: float = 1,
    ignore: Collection[Any] = (),
) -> Callable[[Callable[..., Any]], Any]:
    """Keep the results of a function, and renew one in a thread before it expires.

    How early is drawn at random, the earlier the longer the function takes and the greater
    ``beta`` (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention,
    VLDB 2015).
    """

    def decorator(function: Callable[..., Any]) -> Any:
        base = full_name(function) if name is None else name

        def renew(key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            cache.set(key, (result, time.perf_counter() - start), expire, tag=tag)
            return result

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            key = cache_key(*args, **kwargs)
            pair, expire_time = cache.get(key, ENOVAL, expire_time=True)
            if pair is ENOVAL:
                return renew(key, args, kwargs)
            result, took = pair
            left = expire_time - time.time()
            early = -took * beta * math.log(1 - random.random())
            if early >= left and cache.add((("renewed",), *key), None, took):
                threading.Thread(target=renew, args=(key, args, kwargs), daemon=True).start()
            return result

        def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            return key_of_call(cache._codecs, base, args, kwargs, typed, ignore)

        wrapper.__cache_key__ = cache_key  # type: ignore[attr-defined]  # diskcache's name
        return wrapper

    return decorator


def _average(sums: tuple[float, int]) -> float | None:
    total, count = sums
    return total / count if count else None


def _myself() -> str:
    return f"{os.getpid()}-{threading.get_ident()}"
