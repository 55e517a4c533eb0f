"""`cached`: keep the results of a function, a coroutine function or a method."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from hybridcore._native.function import CachedFunction
from hybridcore.decorators.bound import Bound
from hybridcore.decorators.loads import Loads, keep_while_locked
from hybridcore.errors import ConfigurationError
from hybridcore.memory import Cache
from hybridcore.units import Duration, Size, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterable

    from hybridcore.decorators.protocols import AsyncCached, Cached, CachedDecorator
    from hybridcore.hybrid import HybridCache

P = ParamSpec("P")
R = TypeVar("R")


@overload
def cached(  # type: ignore[overload-overlap]  # a coroutine is a result, too
    maxsize: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncCached[P, R]: ...
@overload
def cached(maxsize: Callable[P, R], /) -> Cached[P, R]: ...
@overload
def cached(
    maxsize: Size | None = 128,
    *,
    ttl: Duration | Callable[[Any], Duration | None] | None = None,
    key: Callable[..., Hashable] | None = None,
    typed: bool = False,
    getsizeof: Callable[[Any], int] | None = None,
    condition: Callable[[Any], object] | None = None,
    error_ttl: Duration | Callable[[Exception], Duration | None] | None = None,
    per_instance: bool | None = None,
    single_flight: bool = True,
    timer: Callable[[], float] | None = None,
    store: HybridCache[Any, Any] | None = None,
    tags: str | Iterable[str] = (),
) -> CachedDecorator: ...
def cached(maxsize: Any = 128, **options: Any) -> Any:
    """Keep the results of a function, an ``async def`` or a method.

    Callers who miss the same call at the same time share one, across threads and event loops. A
    cancelled caller takes nothing away from the others. The result is called like the function
    and has ``cache_info()``, ``cache_clear()``, ``invalidate(*args)``, ``refresh(*args)``,
    ``get(*args, default=None)``, ``set(value, *args)``, ``cache_key(*args)`` and ``__wrapped__``.

    >>> @cached(maxsize=1000, ttl="10m")
    ... def profile(uid):
    ...     return {"uid": uid}
    >>> profile(7), profile.invalidate(7)
    ({'uid': 7}, True)

    Args:
        maxsize: how many results are kept, or their total size: a str such as "64MiB", or an int
            with ``getsizeof``. None: no bound. 0: nothing is kept, calls are still shared.
        ttl: seconds, or a str such as "5m", that a result is kept; or a function of the result
            that tells them, None for ever.
        key: called with the arguments; what it returns is the key. See `hybridcore.keys`.
        typed: arguments of different types that are equal have results of their own.
        getsizeof: the size of a result, an int.
        condition: a function of the result; what it is false for is not kept.
        error_ttl: how long an Exception is kept and raised again; or a function of the error that
            tells, None for not at all. By default none is kept.
        per_instance: whether each instance, the first argument, has a cache of its own that goes
            when it goes. None: yes for a function that is found in a class body as it is and has
            no ``key``. False: the instance is an argument like the others.
        single_flight: False lets concurrent calls all run.
        timer: the clock that ``ttl`` is measured on, in seconds.
        store: a `HybridCache` that keeps the results, for all processes that share it, in the place
            of a cache of the function's own. Only ``ttl``, ``key`` and ``tags`` go with it.
        tags: of a result in a store, templates such as ``"user:{uid}"`` that the arguments fill in;
            ``store.invalidate(tags=["user:7"])`` forgets what carries one.

    Raises:
        ConfigurationError: options that make no sense.
    """
    if options.get("store") is not None or options.get("tags"):
        return _stored(maxsize, **options)
    options.pop("store", None)
    options.pop("tags", None)
    if callable(maxsize) or isinstance(maxsize, (staticmethod, classmethod, property)):
        return _Options(128, **options).decorate(maxsize)
    return _Options(maxsize, **options).decorate


def _stored(maxsize: Any, **options: Any) -> Callable[[Any], Any]:
    """The decorator of what a hybrid cache keeps."""
    from hybridcore.decorators.stored import Stored

    store = options.pop("store", None)
    tags, ttl, key = options.pop("tags", ()), options.pop("ttl", None), options.pop("key", None)
    if store is None:
        raise ConfigurationError(
            "tags= are for results that a HybridCache keeps, which can invalidate them: give store="
        )
    if options or maxsize != 128:
        given = ", ".join(options) or "maxsize"
        raise ConfigurationError(
            f"with store= the hybrid cache says how results are kept: leave {given} out"
        )
    return lambda function: Stored(function, store, tags, ttl, key)


@dataclass(frozen=True)
class _Options:
    """The arguments of `cached`, where they are explained."""

    maxsize: Any
    ttl: Any = None
    key: Callable[..., Any] | None = None
    typed: bool = False
    getsizeof: Callable[[Any], int] | None = None
    condition: Callable[[Any], object] | None = None
    error_ttl: Any = None
    per_instance: bool | None = None
    single_flight: bool = True
    timer: Callable[[], float] | None = None

    def __post_init__(self) -> None:
        for name in ("key", "condition"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise ConfigurationError(f"{name} is expected to be callable, got {function!r}")
        for duration in (self.ttl, self.error_ttl):
            if duration is not None and not callable(duration):
                seconds(duration)
        if self.key is not None and self.typed:
            raise ConfigurationError(
                "typed=True says how keys are made, and so does key=: give one of them. "
                "hybridcore.keys.typedkey makes typed keys."
            )
        self.make_cache()  # tells of what it does not accept

    def make_cache(self) -> Cache[Any, Any]:
        ttl = None if callable(self.ttl) else self.ttl
        return Cache(
            self.maxsize,
            self.getsizeof,
            ttl=ttl,
            timer=self.timer,
            on_evict=keep_while_locked,
        )

    def decorate(self, function: Any) -> Any:
        """Put a function with a cache in the place of one without."""
        if isinstance(function, staticmethod):
            return staticmethod(replace(self, per_instance=False).decorate(function.__func__))
        if isinstance(function, classmethod):
            return _ClassMethod(replace(self, per_instance=False).decorate(function.__func__))
        if isinstance(function, property):
            getter = replace(self, per_instance=self.per_instance is not False)
            return property(
                getter.decorate(function.fget), function.fset, function.fdel, function.__doc__
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function!r} returns a generator, which can be used only once. Cache a function "
                "that returns a list, or use lru_cache to keep the generator itself."
            )
        is_async = inspect.iscoroutinefunction(function)
        per_instance = self.per_instance
        if per_instance is None and self.key is not None:
            per_instance = False
        loads = Loads(
            self.ttl if callable(self.ttl) else None,
            self.error_ttl,
            self.condition,
            self.getsizeof,
            self.single_flight,
        )
        bound = self.make_cache().maxsize
        remembering = CachedFunction(
            function,
            self.make_cache,
            None if bound == math.inf else bound,
            self.typed,
            self.key,
            loads,
            {name: getattr(self, name) for name in self.__dataclass_fields__},
            is_async,
            per_instance,
        )
        update_wrapper(remembering, function)
        if is_async:
            _mark_async(remembering)
        return remembering


class _ClassMethod(classmethod):  # type: ignore[type-arg]
    """A cached class method: ``Class.method.invalidate(...)`` knows the class."""

    def __get__(self, instance: Any, owner: type[Any] | None = None, /) -> Any:
        function: Any = self.__func__
        return Bound(function, type(instance) if owner is None else owner)


def _mark_async(function: Any) -> None:
    """Let ``iscoroutinefunction`` say yes, of asyncio, and from Python 3.12 of inspect too."""
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(function)
    else:
        from asyncio import coroutines

        function._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]
