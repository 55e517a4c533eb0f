"""Key functions for ``cached(key=...)`` and for `cachetools`: arguments in, one hashable key out.

Unlike the keys that a decorated function makes itself, these ignore the order of keywords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["hashkey", "methodkey", "typedkey", "typedmethodkey"]


class _Key(tuple[Any, ...]):
    """A tuple that asks its items for their hashes once."""

    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = found = tuple.__hash__(self)
            return found

    def __add__(self, other: Iterable[Any]) -> _Key:
        return _Key(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Iterable[Any]) -> _Key:
        return _Key(tuple.__add__(tuple(other), self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _Key, (tuple(self),)  # without the hash: those of str differ between processes


_KEYWORDS = (_Key,)  # between positional and keyword arguments; pickles as what it is


def hashkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of all arguments.

    >>> hashkey(1, x=2, y=3) == hashkey(1, y=3, x=2)
    True
    """
    return _Key(_flat(args, kwargs) if kwargs else args)


def methodkey(self: object, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of all arguments but the first: instances share their results.

    >>> methodkey("self", 1) == hashkey(1)
    True
    """
    return hashkey(*args, **kwargs)


def typedkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of all arguments and their types.

    >>> typedkey(3) == typedkey(3.0)
    False
    """
    types = [type(value) for value in args]
    types += [type(kwargs[name]) for name in sorted(kwargs)]
    return _Key((*_flat(args, kwargs), *types))


def typedmethodkey(self: object, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return `typedkey` of all arguments but the first."""
    return typedkey(*args, **kwargs)


def _flat(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    if not kwargs:
        return args
    return (*args, *_KEYWORDS, *(part for item in sorted(kwargs.items()) for part in item))
