"""Key functions for ``cached(key=...)`` and for `cachetools`: arguments in, one hashable key out.

Keys are plain tuples. Unlike those that a decorated function makes itself, they ignore the order of
keywords.
"""

from __future__ import annotations

from typing import Any

__all__ = ["hashkey", "methodkey", "typedkey", "typedmethodkey"]


class Keywords:
    """Stands between positional and keyword arguments; itself, so that it pickles by name."""


def hashkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of all arguments.

    >>> hashkey(1, x=2, y=3) == hashkey(1, y=3, x=2)
    True
    """
    return _flat(args, kwargs) if kwargs else args


def methodkey(self: object, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of all arguments but the first: instances share their results.

    >>> methodkey("self", 1) == hashkey(1)
    True
    """
    return _flat(args, kwargs) if kwargs else args


def typedkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of all arguments and their types.

    >>> typedkey(3) == typedkey(3.0)
    False
    """
    types = [type(value) for value in args]
    types += [type(kwargs[name]) for name in sorted(kwargs)]
    return (*_flat(args, kwargs), *types)


def typedmethodkey(self: object, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return `typedkey` of all arguments but the first."""
    return typedkey(*args, **kwargs)


def _flat(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    if not kwargs:
        return args
    return (*args, Keywords, *(part for item in sorted(kwargs.items()) for part in item))
