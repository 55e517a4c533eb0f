"""`Deque`: a sequence on disk with two ends, kept as a queue of a cache."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache.cache import Cache
from hybridcore.compat.diskcache.core import ENOVAL, KEPT, transact

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from hybridcore.compat.diskcache.queues import Side


class Deque(Sequence[Any]):
    """``Deque(iterable, directory, maxlen)``; without a directory a temporary one.

    The ends are quick; ``deque[n]`` walks there from the nearer end. Each write is synced and
    survives a power failure; for one that is not, give `fromcache` a `Cache` of your own.
    """

    def __init__(
        self,
        iterable: Iterable[Any] = (),
        directory: str | os.PathLike[str] | None = None,
        maxlen: int | None = None,
    ) -> None:
        self._start(Cache(directory, **KEPT), iterable, maxlen)

    @classmethod
    def fromcache(
        cls, cache: Cache, iterable: Iterable[Any] = (), maxlen: int | None = None
    ) -> Self:
        """A deque over that cache."""
        deque = cls.__new__(cls)
        deque._start(cache, iterable, maxlen)
        return deque

    @property
    def cache(self) -> Cache:
        """The cache beneath."""
        return self._cache

    @property
    def directory(self) -> str:
        """Where the items are."""
        return self._cache.directory

    @property
    def maxlen(self) -> int | None:
        """The most items it keeps; None: any number. Lowering it drops items from the front."""
        return self._maxlen

    @maxlen.setter
    def maxlen(self, value: int | None) -> None:
        self._maxlen = value
        self._trim("front")

    # -- the ends -------------------------------------------------------------------------

    def append(self, value: Any) -> None:
        """Add at the back; above maxlen the front goes."""
        self._cache.push(value)
        self._trim("front")

    def appendleft(self, value: Any) -> None:
        """Add at the front; above maxlen the back goes."""
        self._cache.push(value, side="front")
        self._trim("back")

    def extend(self, iterable: Iterable[Any]) -> None:
        """Append each."""
        for value in iterable:
            self.append(value)

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Append each at the front."""
        for value in iterable:
            self.appendleft(value)

    def pop(self) -> Any:
        """Take the last; IndexError if there is none."""
        return self._taken(self._cache.pull, "back", "pop from an empty deque")

    def popleft(self) -> Any:
        """Take the first; IndexError if there is none."""
        return self._taken(self._cache.pull, "front", "pop from an empty deque")

    def peek(self) -> Any:
        """Return the last; IndexError if there is none."""
        return self._taken(self._cache.peek, "back", "peek from an empty deque")

    def peekleft(self) -> Any:
        """Return the first; IndexError if there is none."""
        return self._taken(self._cache.peek, "front", "peek from an empty deque")

    # -- the middle -----------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        return self._at(index, lambda key: self._cache[key])

    def __setitem__(self, index: int, value: Any) -> None:
        def store(key: Any) -> None:
            if key not in self._cache:
                raise KeyError(key)
            self._cache[key] = value

        self._at(index, store)

    def __delitem__(self, index: int) -> None:
        self._at(index, self._cache.__delitem__)

    def __len__(self) -> int:
        return len(self._cache)

    def __iter__(self) -> Iterator[Any]:
        return self._values(reverse=False)

    def __reversed__(self) -> Iterator[Any]:
        return self._values(reverse=True)

    def __iadd__(self, iterable: Iterable[Any]) -> Self:
        self.extend(iterable)
        return self

    def count(self, value: Any) -> int:
        """How often the value occurs."""
        return sum(value == item for item in self)

    def remove(self, value: Any) -> None:
        """Delete the first that is equal; ValueError if there is none."""
        for key in self._cache.iterkeys():
            if self._cache.get(key, ENOVAL) == value and self._cache.delete(key):
                return
        raise ValueError("deque.remove(value): value not in deque")

    def reverse(self) -> None:
        """Turn it round in one transaction."""
        keys = list(self._cache.iterkeys())
        self._cache.set_many(zip(keys, reversed(list(self)), strict=True))

    def rotate(self, steps: int = 1) -> None:
        """Move so many items from the back to the front, or the other way if negative."""
        if type(steps) is not int:
            raise TypeError(f"steps is expected to be an int, got {type(steps).__name__}")
        if not (size := len(self)):
            return
        for _ in range(abs(steps) % size):
            if steps > 0:
                self._cache.push(self.pop(), side="front")
            else:
                self._cache.push(self.popleft())

    def clear(self) -> None:
        """Delete every item."""
        self._cache.clear()

    def copy(self) -> Deque:
        """A deque over the same items, as in diskcache."""
        return type(self).fromcache(self._cache, maxlen=self._maxlen)

    __copy__ = copy
    transact = transact

    def __eq__(self, other: object) -> Any:
        return self._compare(other, operator.eq)

    def __ne__(self, other: object) -> Any:
        return self._compare(other, operator.ne)

    def __lt__(self, other: object) -> Any:
        return self._compare(other, operator.lt)

    def __le__(self, other: object) -> Any:
        return self._compare(other, operator.le)

    def __gt__(self, other: object) -> Any:
        return self._compare(other, operator.gt)

    def __ge__(self, other: object) -> Any:
        return self._compare(other, operator.ge)

    __hash__ = None  # type: ignore[assignment]  # mutable, as a list

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).fromcache, (self._cache, (), self._maxlen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(directory={self.directory!r})"

    # -- beneath --------------------------------------------------------------------------

    def _start(self, cache: Cache, iterable: Iterable[Any], maxlen: int | None) -> None:
        self._cache = cache
        self._maxlen = maxlen
        self.extend(iterable)

    def _trim(self, side: Side) -> None:
        while self._maxlen is not None and len(self) > self._maxlen:
            self._cache.pull(side=side)

    def _taken(self, take: Callable[..., Any], side: Side, message: str) -> Any:
        _, value = take(default=(None, ENOVAL), side=side)
        if value is ENOVAL:
            raise IndexError(message)
        return value

    def _at(self, index: int, use: Callable[[Any], Any]) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise IndexError("deque index out of range")
        steps = index if index >= 0 else -1 - index
        for key in islice(self._cache.iterkeys(reverse=index < 0), steps, None):
            try:
                return use(key)
            except KeyError:
                continue  # taken meanwhile: the next one has its place
        raise IndexError("deque index out of range")

    def _values(self, reverse: bool) -> Iterator[Any]:
        for key in self._cache.iterkeys(reverse=reverse):
            value = self._cache.get(key, ENOVAL)
            if value is not ENOVAL:
                yield value

    def _compare(self, other: object, compare: Callable[[Any, Any], bool]) -> Any:
        if not isinstance(other, Sequence):
            return NotImplemented
        return compare(list(self), list(other))
