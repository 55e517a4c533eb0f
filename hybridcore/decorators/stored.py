"""`cached` with ``store=``: results in a hybrid cache, where tags invalidate them."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import update_wrapper
from string import Formatter
from typing import TYPE_CHECKING, Any

from hybridcore.config import EntryOptions
from hybridcore.errors import ConfigurationError
from hybridcore.invalidation import checked_tags
from hybridcore.types import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybridcore.hybrid import HybridCache
    from hybridcore.units import Duration


class Templates:
    """Tags such as ``"user:{uid}"``, filled with the arguments of a call.

    ``{user.id}`` and ``{users[0]}`` look into an argument, ``{day:%Y-%m}`` formats it.

    Raises:
        ConfigurationError: a template is malformed, or names what is no parameter; says which is
            the nearest.
    """

    def __init__(self, templates: str | Iterable[str], signature: inspect.Signature) -> None:
        given = (templates,) if isinstance(templates, str) else tuple(templates)
        self._templates = checked_tags(given)
        names = list(signature.parameters)
        for template in self._templates:
            try:
                fields = [field for _, field, _, _ in Formatter().parse(template)]
            except ValueError as error:
                raise ConfigurationError(f"the tag {template!r} is malformed: {error}") from None
            for field in fields:
                if field is not None:
                    _check(template, field, names)

    def filled(self, arguments: dict[str, Any]) -> tuple[str, ...]:
        """The tags of a call."""
        return checked_tags(template.format(**arguments) for template in self._templates)


def _check(template: str, field: str, names: list[str]) -> None:
    name = field.partition(".")[0].partition("[")[0]
    if name in names:
        return
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join(names) or 'none'}"
    raise ConfigurationError(
        f"the tag {template!r} names {{{name}}}, which is no argument of the function; {hint}"
    )


class Stored:
    """A function whose results a hybrid cache keeps; called like the function."""

    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        function: Callable[..., Any],
        store: HybridCache[Any, Any],
        tags: str | Iterable[str],
        ttl: Duration | None,
        key: Callable[..., Any] | None,
    ) -> None:
        self._signature = inspect.signature(function)
        self._tags = Templates(tags, self._signature)
        self._store = store
        self._options = None if ttl is None else EntryOptions(ttl=ttl)
        self._key = key
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._is_async = inspect.iscoroutinefunction(function)
        update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        return self if instance is None else _Method(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        tags = self._tags.filled(bound.arguments)
        key = self._key_of(bound)
        if self._is_async:

            async def aload(key: Any) -> Any:
                return Loaded(await self.__wrapped__(*args, **kwargs), tags=tags)

            return self._store.aio.get_or_load(key, aload, options=self._options)
        return self._store.get_or_load(
            key,
            lambda key: Loaded(self.__wrapped__(*args, **kwargs), tags=tags),
            options=self._options,
        )

    def cache_key(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The key under which the store has the result of this call."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self._key_of(bound)

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """Forget the result of this call, everywhere."""
        self._store.invalidate(self.cache_key(*args, **kwargs))

    def cache_clear(self) -> None:
        """Forget all results of the function, everywhere."""
        self._store.clear_from((self._name,))

    def _key_of(self, bound: inspect.BoundArguments) -> tuple[Any, ...]:
        if self._key is not None:
            return self._name, self._key(*bound.args, **bound.kwargs)
        named = tuple(item for pair in sorted(bound.kwargs.items()) for item in pair)
        return (self._name, *bound.args, *named)

    def __repr__(self) -> str:
        return f"<{self._name} in {self._store!r}>"


class _Method:
    """Such a function as a method of an instance, which is its first argument."""

    def __init__(self, function: Stored, instance: Any) -> None:
        self.__func__, self.__self__ = function, instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def cache_key(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return self.__func__.cache_key(self.__self__, *args, **kwargs)

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        self.__func__.invalidate(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)
