"""`cached`: a function that looks into a mapping before it runs."""

from __future__ import annotations

import functools
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, overload

from hybridcore._native.calls import Calls
from hybridcore.compat.cachetools.calls import Counted
from hybridcore.keys import Keywords, hashkey

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
    kind = _CountedFunction if info else _Function

    def decorate(function: Callable[..., Any]) -> Any:
        return kind(function, cache, key, lock, condition)

    return decorate


class _Function(Calls):
    """A decorated function."""

    __wrapped__: Callable[..., Any]
    __qualname__: str

    def __init__(
        self, function: Callable[..., Any], cache: Any, key: Any, lock: Any, condition: Any
    ) -> None:
        functools.update_wrapper(self, function)
        mark = Keywords if key is hashkey else None
        self._native_open(function, cache, key, lock, condition, mark)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __copy__(self) -> _Function:
        return self

    def __deepcopy__(self, memo: object) -> _Function:
        return self

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self.__wrapped__!r}>"


class _CountedFunction(Counted, _Function):
    """One that tells the hits and misses."""


_Function._native_own_call()
_CountedFunction._native_own_call()
