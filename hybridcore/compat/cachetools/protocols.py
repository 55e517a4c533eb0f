"""What a type checker sees of a decorated function or method: its own parameters and result."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from typing_extensions import Self

    from hybridcore.compat.cachetools.calls import CacheInfo

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class Condition(AbstractContextManager[Any], Protocol):
    """What calls wait on, such as `threading.Condition`."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Let go of the lock until notified."""

    def notify_all(self) -> None:
        """Wake who waits."""


class Kept(Protocol[P, R_co]):
    """A decorated function, or a decorated method of an instance."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[..., R_co]:
        """The function itself."""

    @property
    def cache(self) -> MutableMapping[Any, Any]:
        """Where the results are."""

    @property
    def cache_key(self) -> Callable[..., Any]:
        """Makes the key of a call."""

    @property
    def cache_lock(self) -> AbstractContextManager[Any] | None:
        """What is held while the cache is used."""

    @property
    def cache_condition(self) -> Condition | None:
        """What equal calls wait on."""

    def cache_clear(self) -> None:
        """Forget every result."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The result, kept or new."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(
        self: Kept[Concatenate[S, Q], R], instance: S, owner: Any = None, /
    ) -> Kept[Q, R]: ...


class Counted(Kept[P, R_co], Protocol[P, R_co]):
    """One that counts."""

    def cache_info(self) -> CacheInfo:
        """Hits, misses, maxsize and currsize."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(
        self: Counted[Concatenate[S, Q], R], instance: S, owner: Any = None, /
    ) -> Counted[Q, R]: ...


class LikeLruCache(Counted[P, R_co], Protocol[P, R_co]):
    """One made by `hybridcore.compat.cachetools.func`."""

    def cache_parameters(self) -> dict[str, Any]:
        """What the function was decorated with."""


class Method(Protocol[S_contra, P, R_co]):
    """A decorated method in its class."""

    def __call__(self, instance: S_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The result, kept or new."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(self, instance: S_contra, owner: Any = None, /) -> Kept[P, R_co]: ...


class CountedMethod(Protocol[S_contra, P, R_co]):
    """A decorated method that counts, in its class."""

    def __call__(self, instance: S_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The result, kept or new."""

    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> Self: ...
    @overload
    def __get__(self, instance: S_contra, owner: Any = None, /) -> Counted[P, R_co]: ...


class Decorator(Protocol):
    """``cached(...)``."""

    def __call__(self, function: Callable[P, R], /) -> Kept[P, R]:
        """Decorate a function."""


class CountedDecorator(Protocol):
    """``cached(..., info=True)``."""

    def __call__(self, function: Callable[P, R], /) -> Counted[P, R]:
        """Decorate a function."""


class MethodDecorator(Protocol):
    """``cachedmethod(...)``."""

    def __call__(self, method: Callable[Concatenate[S, P], R], /) -> Method[S, P, R]:
        """Decorate a method."""


class CountedMethodDecorator(Protocol):
    """``cachedmethod(..., info=True)``."""

    def __call__(self, method: Callable[Concatenate[S, P], R], /) -> CountedMethod[S, P, R]:
        """Decorate a method."""


class LikeLruDecorator(Protocol):
    """``lru_cache(...)`` and its like."""

    def __call__(self, function: Callable[P, R], /) -> LikeLruCache[P, R]:
        """Decorate a function."""
