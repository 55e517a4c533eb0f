"""What a type checker sees of a decorated function: its own parameters and result, and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Concatenate

    from typing_extensions import Self

    from hybridcore.memory import Cache
    from hybridcore.types import CacheInfo

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
D = TypeVar("D")
S = TypeVar("S")


class Remembered(Protocol[P, R_co]):
    """What sync and async functions have in common; ``R_co`` is what is kept."""

    __name__: str
    __qualname__: str

    @property
    def cache(self) -> Cache[Any, Any]:
        """The cache behind the function."""

    def cache_of(self, instance: object, /) -> Cache[Any, Any]:
        """The cache of one instance, of a method."""

    def cache_info(self) -> CacheInfo:
        """Hits, misses, maxsize and currsize, as functools tells them."""

    def cache_clear(self) -> None:
        """Forget every result and set the counters to zero."""

    def cache_parameters(self) -> dict[str, Any]:
        """What the function was decorated with."""

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The key under which the result of this call is kept."""

    @overload
    def get(self, *args: Any, default: None = None, **kwargs: Any) -> R_co | None: ...
    @overload
    def get(self, *args: Any, default: D, **kwargs: Any) -> R_co | D: ...
    def get(self, *args: Any, default: Any = None, **kwargs: Any) -> Any:
        """The result kept of this call, or ``default``; the function is not called."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of this call; whether there was one."""


class Cached(Remembered[P, R_co], Protocol[P, R_co]):
    """A decorated function."""

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The result, kept or new."""

    def set(self: Cached[P, R], value: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Keep a value as the result of this call."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function anew and keep its result."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(
        self: Cached[Concatenate[S, Q], R], instance: S, owner: Any = None, /
    ) -> Cached[Q, R]: ...


class AsyncCached(Remembered[P, R_co], Protocol[P, R_co]):
    """A decorated ``async def``."""

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R_co]]:
        """The function itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """The result, kept or new, to be awaited."""

    def set(self: AsyncCached[P, R], value: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Keep a value as the result of this call."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function anew and keep its result."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[S, Q], R], instance: S, owner: Any = None, /
    ) -> AsyncCached[Q, R]: ...


class LruDecorator(Protocol):
    """``lru_cache(...)``."""

    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]:
        """Decorate a function."""


class CachedDecorator(Protocol):
    """``cached(...)``."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine is a result, too
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...
