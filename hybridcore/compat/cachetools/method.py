"""`cachedmethod`: a method that looks into a mapping of its instance before it runs."""

from __future__ import annotations

import functools
import inspect
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, overload

from hybridcore._native.calls import Calls
from hybridcore.compat.cachetools.calls import Counted
from hybridcore.keys import Keywords, methodkey

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from contextlib import AbstractContextManager

    from hybridcore.compat.cachetools.protocols import (
        Condition,
        CountedMethodDecorator,
        MethodDecorator,
    )

INHERITED = "__cachetools_cachedmethods"  # in an instance: what is called by super(), as there


@overload
def cachedmethod(
    cache: Callable[[Any], MutableMapping[Any, Any]],
    key: Callable[..., Any] = methodkey,
    lock: Callable[[Any], AbstractContextManager[Any]] | None = None,
    condition: Callable[[Any], Condition] | None = None,
    info: Literal[False] = False,
) -> MethodDecorator: ...
@overload
def cachedmethod(
    cache: Callable[[Any], MutableMapping[Any, Any]],
    key: Callable[..., Any] = methodkey,
    lock: Callable[[Any], AbstractContextManager[Any]] | None = None,
    condition: Callable[[Any], Condition] | None = None,
    *,
    info: Literal[True],
) -> CountedMethodDecorator: ...
def cachedmethod(
    cache: Callable[[Any], MutableMapping[Any, Any]],
    key: Callable[..., Any] = methodkey,
    lock: Callable[[Any], AbstractContextManager[Any]] | None = None,
    condition: Callable[[Any], Condition] | None = None,
    info: bool = False,
) -> Any:
    """Keep the results of a method in the mapping that ``cache(self)`` returns.

    The options are those of `cached`, with ``lock`` and ``condition`` as functions of the
    instance, and ``key`` with the instance as its first argument.

    Raises:
        TypeError: ``cache`` cannot be called.
    """
    if not callable(cache):
        raise TypeError(f"cache must be callable, as in lambda self: self.cache, got {cache!r}")
    kind = _CountedBound if info else _Bound
    options = (cache, key, lock, condition)

    def decorate(method: Callable[..., Any]) -> Any:
        return functools.update_wrapper(_Descriptor(kind, method, options), method)

    return decorate


class _Bound(Calls):
    """The method of one instance."""

    __wrapped__: Callable[..., Any]

    def __init__(
        self, descriptor: _Descriptor, instance: Any, method: Any, options: tuple[Any, ...]
    ) -> None:
        functools.update_wrapper(self, method)
        self._descriptor = descriptor
        self._instance = instance
        cache, key, lock, condition = options
        mark = Keywords if key is methodkey else None
        self._native_open(MethodType(method, instance), cache, key, lock, condition, mark, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._descriptor.__get__, (self._instance,)  # locks do not pickle, the class does

    def __repr__(self) -> str:
        return f"<cachedmethod {self.__wrapped__!r} of {object.__repr__(self._instance)}>"


class _CountedBound(Counted, _Bound):
    """One that tells the hits and misses."""


_Bound._native_own_call()
_CountedBound._native_own_call()


class _Descriptor:
    """The method in its class; it puts a wrapper into each instance that calls it."""

    __wrapped__: Callable[..., Any]

    def __init__(self, kind: Any, method: Any, options: tuple[Any, ...]) -> None:
        self._kind = kind
        self._method = method
        self._options = options
        self._owner: type | None = None
        self._name: str | None = None
        self._unbound = _Unbound(self, method)

    def __set_name__(self, owner: type, name: str) -> None:
        if self._name is None:
            self._owner, self._name = owner, name
        elif name != self._name:
            raise TypeError(
                f"a cachedmethod has one name, got {name!r} for {self._name!r}: decorate it twice"
            )

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self._name is None:
            if isinstance(instance, type):
                self()  # as classmethod does from Python 3.13 on
            raise TypeError("a cachedmethod must be made in the body of a class, to have a name")
        if instance is None:
            return self._unbound
        return self._wrapper(instance, self._name)

    def _wrapper(self, instance: Any, name: str) -> Any:
        kinds = type(instance).__mro__
        found = next((vars(kind)[name] for kind in kinds if name in vars(kind)), None)
        if found is self:
            return self._keep(instance, name, self._bind(instance))
        inherited = self._keep(instance, INHERITED, {})
        return inherited.get(self) or inherited.setdefault(self, self._bind(instance))

    def _bind(self, instance: Any) -> Any:
        return self._kind(self, instance, self._method, self._options)

    def _keep(self, instance: Any, name: str, value: Any) -> Any:
        """Put it into the instance; return what is there, if another thread was faster."""
        kind = type(instance).__name__
        try:
            return instance.__dict__.setdefault(name, value)
        except AttributeError:
            raise TypeError(
                f"No '__dict__' attribute on {kind!r} instance to cache {self._name!r}: a class "
                "without __slots__ has one"
            ) from None
        except TypeError:
            raise TypeError(
                f"The '__dict__' attribute on {kind!r} instance does not support item assignment "
                f"for caching {self._name!r}"
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return _found_in, (self._owner, self._name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "Cannot call @cachedmethod directly: it must be the outermost decorator, and a class "
            "method, static method or property cannot be one"
        )


class _Unbound:
    """The method of a class, called with the instance."""

    __wrapped__: Callable[..., Any]

    def __init__(self, descriptor: _Descriptor, method: Any) -> None:
        functools.update_wrapper(self, method)
        self._descriptor = descriptor

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._descriptor.__get__(instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if args:
            instance, *args_left = args
        else:
            instance, args_left = kwargs.pop(self._receiver(), None), []
        if instance is None:
            raise TypeError("Cannot call @cachedmethod through the class without an instance")
        return self._descriptor.__get__(instance)(*args_left, **kwargs)

    def _receiver(self) -> str:
        """The name of the first parameter, where it may be given by name."""
        first = next(iter(inspect.signature(self._descriptor._method).parameters.values()), None)
        return first.name if first and first.kind is first.POSITIONAL_OR_KEYWORD else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return self._descriptor.__get__, (None,)

    def __repr__(self) -> str:
        return f"<cachedmethod {self.__wrapped__!r}>"


def _found_in(owner: type, name: str) -> Any:
    return vars(owner)[name]
