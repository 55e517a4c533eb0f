"""`Index`: a mapping on disk that evicts nothing, in the order of its last writes."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache.cache import Cache
from hybridcore.compat.diskcache.core import ENOVAL, KEPT, transact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from typing_extensions import Self

    from hybridcore.compat.diskcache.queues import Side


class Index(MutableMapping[Any, Any]):
    """``Index(directory, mapping or pairs, **items)``; without a directory a temporary one.

    Each write is synced and survives a power failure. Without that, or with codecs of your own:
    ``Index.fromcache(Cache(directory, eviction_policy="none", codecs=...))``.
    """

    def __init__(self, *args: Any, **items: Any) -> None:
        directory = None
        if args and (args[0] is None or isinstance(args[0], (str, os.PathLike))):
            directory, *args = args  # type: ignore[assignment]  # the rest is a list
        self._cache = Cache(directory, **KEPT)
        self.update(*args, **items)

    @classmethod
    def fromcache(cls, cache: Cache, *args: Any, **items: Any) -> Self:
        """An index over that cache."""
        index = cls.__new__(cls)
        index._cache = cache
        index.update(*args, **items)
        return index

    @property
    def cache(self) -> Cache:
        """The cache beneath."""
        return self._cache

    @property
    def directory(self) -> str:
        """Where the items are."""
        return self._cache.directory

    def update(self, *args: Any, **items: Any) -> None:
        """Store items, in one transaction."""
        if given := dict(*args, **items):
            self._cache.set_many(given)

    def __getitem__(self, key: Any) -> Any:
        return self._cache[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cache[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._cache[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cache)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._cache)

    def __len__(self) -> int:
        return len(self._cache)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value, or store ``default`` and return that."""
        while True:
            value = self._cache.get(key, ENOVAL)
            if value is not ENOVAL:
                return value
            if self._cache.add(key, default):
                return default

    def peekitem(self, last: bool = True) -> Any:
        """Return key and value of the item written last, or first; KeyError if there is none."""
        return self._cache.peekitem(last)

    def pop(self, key: Any, default: Any = ENOVAL) -> Any:
        """Delete the item in one transaction and return its value, or ``default``."""
        value = self._cache.pop(key, default)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Take the item written last, or first; of several that do so each gets another."""
        while True:
            key, _ = self._cache.peekitem(last)
            value = self._cache.pop(key, ENOVAL)
            if value is not ENOVAL:
                return key, value

    def push(self, value: Any, prefix: str | None = None, side: Side = "back") -> Any:
        """Add a value to the queue of that prefix and return its key."""
        return self._cache.push(value, prefix, side)

    def pull(
        self, prefix: str | None = None, default: Any = (None, None), side: Side = "front"
    ) -> Any:
        """Take key and value from a side of the queue, or ``default``."""
        return self._cache.pull(prefix, default, side)

    def clear(self) -> None:
        """Delete every item."""
        self._cache.clear()

    def memoize(
        self, name: str | None = None, typed: bool = False, ignore: Collection[Any] = ()
    ) -> Callable[[Callable[..., Any]], Any]:
        """Keep the results of a function; see `Cache.memoize`."""
        return self._cache.memoize(name, typed, ignore=ignore)

    transact = transact

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Index, OrderedDict)):
            return list(self.items()) == list(other.items())
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # mutable, as a dict

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).fromcache, (self._cache,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"
