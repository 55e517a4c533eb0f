"""`lru_cache`: functools' own, faster."""

from __future__ import annotations

from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hybridcore._native.function import CachedFunction
from hybridcore.eviction import Weights
from hybridcore.memory import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.decorators.protocols import Cached, LruDecorator

P = ParamSpec("P")
R = TypeVar("R")


@overload
def lru_cache(maxsize: Callable[P, R], typed: bool = False) -> Cached[P, R]: ...
@overload
def lru_cache(maxsize: int | None = 128, typed: bool = False) -> LruDecorator: ...
def lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    """Keep the results of a function, exactly as `functools.lru_cache` does.

    A call that is known costs half of what it costs there. Concurrent calls with the same
    arguments all run; `cached` lets them share one.

    >>> @lru_cache
    ... def square(x):
    ...     return x * x
    >>> square(4), square(4)
    (16, 16)
    >>> square.cache_info()
    CacheInfo(hits=1, misses=1, maxsize=128, currsize=1)

    Args:
        maxsize: how many results are kept, the least recently used goes first. None: all; 0 or
            less: none.
        typed: arguments of different types that are equal have results of their own.

    Raises:
        TypeError: ``maxsize`` is something else.
    """
    if isinstance(maxsize, int):
        maxsize = max(maxsize, 0)
    elif callable(maxsize) and isinstance(typed, bool):
        return _remembering(maxsize, 128, typed)
    elif maxsize is not None:
        raise TypeError("Expected first argument to be an integer, a callable, or None")
    return lambda function: _remembering(function, maxsize, typed)


def _remembering(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    bound = None if maxsize is None else int(maxsize)
    parameters = {"maxsize": maxsize, "typed": typed}
    return update_wrapper(
        CachedFunction(
            function, lambda: _lru_store(bound), bound, typed, None, None, parameters, False, False
        ),
        function,
    )


def _lru_store(maxsize: int | None) -> Cache[Any, Any]:
    """A cache that evicts by exact LRU, as the order of functools is promised."""
    return Cache(maxsize, weights=Weights.lru())
