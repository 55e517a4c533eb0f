"""`cached`: a function that looks into a mapping before it runs."""

from __future__ import annotations

import functools
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from hybridcore.compat.cachetools.calls import KINDS, kind_of
from hybridcore.keys import hashkey

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from contextlib import AbstractContextManager

    from hybridcore.compat.cachetools.protocols import Condition, CountedDecorator, Decorator


@overload
def cached(
    cache: MutableMapping[Any, Any],
    key: Callable[..., Any] = hashkey,
    lock: AbstractContextManager[Any] | None = None,
    condition: Condition | None = None,
    info: Literal[False] = False,
) -> Decorator: ...
@overload
def cached(
    cache: MutableMapping[Any, Any],
    key: Callable[..., Any] = hashkey,
    lock: AbstractContextManager[Any] | None = None,
    condition: Condition | None = None,
    *,
    info: Literal[True],
) -> CountedDecorator: ...
def cached(
    cache: MutableMapping[Any, Any],
    key: Callable[..., Any] = hashkey,
    lock: AbstractContextManager[Any] | None = None,
    condition: Condition | None = None,
    info: bool = False,
) -> Any:
    """Keep the results of a function in ``cache``.

    Args:
        cache: any mapping, also one of `hybridcore.Cache`.
        key: makes the key of a call from its arguments.
        lock: held while the cache is looked into or changed, not while the function runs.
        condition: calls with the same key wait for the one that runs; it is the lock, too, when
            none is given.
        info: whether the decorated function has ``cache_info()``.

    Raises:
        TypeError: ``cache`` is None.
    """
    if cache is None:
        raise TypeError("cache must not be None: give a mapping, or leave the decorator out")
    kind = _KINDS[kind_of(lock, condition, info)]

    def decorate(function: Callable[..., Any]) -> Any:
        return kind(function, cache, key, condition if lock is None else lock, condition)

    return decorate


class _Function:
    """A decorated function; its attributes are public, as in cachetools."""

    __wrapped__: Callable[..., Any]
    __qualname__: str

    def __init__(
        self, function: Callable[..., Any], cache: Any, key: Any, lock: Any, condition: Any
    ) -> None:
        # Before the rest: it copies the attributes of the function.
        functools.update_wrapper(cast("Any", self), function)
        self.cache = cache
        self.cache_key = key
        self.cache_lock = lock
        self.cache_condition = condition
        self._function = function
        self._hits = self._misses = 0
        self._pending: set[Any] = set()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)  # type: ignore[arg-type]

    def __copy__(self) -> _Function:
        return self

    def __deepcopy__(self, memo: object) -> _Function:
        return self

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self.__wrapped__!r}>"


_KINDS: dict[Any, Any] = {calls: type(calls.__name__, (_Function, calls), {}) for calls in KINDS}
