"""A cached method, bound to its instance or class."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native import MemoryStore
    from hybridcore._native.function import CachedFunction
    from hybridcore.types import CacheInfo


class Bound:
    """What ``instance.method`` gives: every call and question is about this instance."""

    __slots__ = ("__func__", "__self__", "__weakref__")

    def __init__(self, function: CachedFunction, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]  # that of the function
        return self.__func__.__doc__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    @property
    def cache(self) -> MemoryStore[Any, Any]:
        return self.__func__.cache_of(self.__self__)

    def cache_info(self) -> CacheInfo:
        return self.__func__.info_of(self.__self__)

    def cache_clear(self) -> None:
        self.__func__.clear_of(self.__self__)

    def cache_key(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__.cache_key(self.__self__, *args, **kwargs)

    def get(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__.get(self.__self__, *args, **kwargs)

    def set(self, value: Any, /, *args: Any, **kwargs: Any) -> None:
        self.__func__.set(value, self.__self__, *args, **kwargs)

    def invalidate(self, /, *args: Any, **kwargs: Any) -> bool:
        return self.__func__.invalidate(self.__self__, *args, **kwargs)

    def refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__.refresh(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bound):
            return NotImplemented
        return self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"
