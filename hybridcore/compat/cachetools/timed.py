"""The caches whose entries expire: `TTLCache`, by one ttl, and `TLRUCache`, each by its own."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from hybridcore._native.bounded import BoundedMapping
from hybridcore.compat.cachetools.caches import Cache, K, T, V

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import typing_extensions

    from hybridcore._native.bounded import NestedTimer

    Time = typing_extensions.TypeVar("Time", default=float)
else:
    Time = TypeVar("Time")

# Of the cache itself, below all subclasses.
_set = BoundedMapping.__setitem__
_delete = BoundedMapping.__delitem__
_pop_coldest = BoundedMapping.popitem

SLACK = 2  # a heap is cleaned up when it has so many items for each that counts


class TimedCache(Cache[K, V], Generic[K, V, Time]):
    """Evicts what was used least recently, and what has expired before that.

    Times are any objects that compare. What has expired stays out of sight, and leaves with the
    next write, ``len``, ``repr``, ``currsize`` or `expire`.
    """

    _native_rule = "lru"

    def __init__(
        self,
        maxsize: float,
        timer: Callable[[], Time],
        getsizeof: Callable[[V], float] | None = None,
    ) -> None:
        self.__timer = timer
        super().__init__(maxsize, getsizeof)

    def _native_start(self, maxsize: float) -> None:
        sized = self.getsizeof is not Cache.getsizeof
        self._native_open(maxsize, self._native_rule, OrderedDict(), self.__timer, sized)

    @property
    def timer(self) -> NestedTimer[Time]:
        """The clock; it stands still inside ``with cache.timer``."""
        timer: NestedTimer[Time] = self._native_timer
        return timer

    @abstractmethod
    def expire(self, time: Time | None = None) -> list[tuple[K, V]]:
        """Remove what has expired, now or at ``time``, and return it."""

    def __len__(self) -> int:
        with self._native_timer as now:
            self.expire(now)
            return super().__len__()

    @property
    def currsize(self) -> float:
        """The total size of the values that have not expired."""
        with self._native_timer as now:
            self.expire(now)
            return super().currsize

    def __repr__(self) -> str:
        with self._native_timer as now:
            self.expire(now)
            return super().__repr__()

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V) -> V: ...
    @overload
    def pop(self, key: K, /, default: T) -> V | T: ...
    def pop(self, *args: Any, **options: Any) -> Any:
        """Remove the entry and return its value, or ``default`` when it is not there."""
        with self._native_timer:
            return super().pop(*args, **options)

    @overload
    def setdefault(
        self: TimedCache[K, T | None, Any], key: K, /, default: None = None
    ) -> T | None: ...
    @overload
    def setdefault(self, key: K, /, default: V) -> V: ...
    def setdefault(self, *args: Any, **options: Any) -> Any:
        """Return the value of the key, storing ``default`` first if it is not there."""
        with self._native_timer:
            return super().setdefault(*args, **options)

    def popitem(self) -> tuple[K, V]:
        """Remove the least recently used entry that has not expired and return it."""
        with self._native_timer as now:
            self.expire(now)
            return _pop_coldest(self)


class TTLCache(TimedCache[K, V, Time]):
    """An LRU cache whose entries expire.

    Args:
        ttl: what is added to the time at which an entry is set.
        timer: the clock, in seconds unless ``ttl`` is of another kind.
    """

    @overload
    def __init__(
        self, maxsize: float, ttl: float, *, getsizeof: Callable[[V], float] | None = None
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxsize: float,
        ttl: Any,
        timer: Callable[[], Time],
        getsizeof: Callable[[V], float] | None = None,
    ) -> None: ...
    def __init__(
        self, maxsize: float, ttl: Any, timer: Any = time.monotonic, getsizeof: Any = None
    ) -> None:
        self.__ttl = ttl
        super().__init__(maxsize, timer, getsizeof)

    @property
    def ttl(self) -> Any:
        """How long an entry stays."""
        return self.__ttl

    def __setitem__(self, key: K, value: V, /) -> None:
        with self._native_timer as now:
            expires = now + self.__ttl
            self.expire(now)
            _set(self, key, value)
        if self._native_date(key, expires, expires):
            self._native_order.move_to_end(key)  # type: ignore[attr-defined]  # an OrderedDict

    def __delitem__(self, key: K, /) -> None:
        expires = self._native_order.get(key)
        _delete(self, key)
        if expires is not None and not self._native_timer() < expires:
            raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        order = self._native_order
        for key, expires in list(order.items()):
            with self._native_timer as now:
                if order.get(key) is expires and (expires is None or now < expires):
                    yield key

    def expire(self, time: Time | None = None) -> list[tuple[K, V]]:
        """Remove what has expired, now or at ``time``, and return it."""
        now: Any = self._native_timer() if time is None else time
        expired: list[tuple[K, V]] = []
        while (entry := self._native_take_due(now)) is not None:
            expired.append(entry)
        return expired

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        self.expire()


class TLRUCache(TimedCache[K, V, Time]):
    """An LRU cache whose entries expire when ``ttu(key, value, now)`` says.

    Args:
        ttu: returns the time until which a new entry may be used; if that is over, it is not kept.
        timer: the clock.
    """

    @overload
    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[K, V, float], float],
        *,
        getsizeof: Callable[[V], float] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[K, V, Time], Time],
        timer: Callable[[], Time],
        getsizeof: Callable[[V], float] | None = None,
    ) -> None: ...
    def __init__(
        self, maxsize: float, ttu: Any, timer: Any = time.monotonic, getsizeof: Any = None
    ) -> None:
        self.__ttu = ttu
        self.__heap: list[_Item] = []  # the next to expire first; has removed ones in it
        super().__init__(maxsize, timer, getsizeof)

    @property
    def ttu(self) -> Callable[[K, V, Time], Time]:
        """The function that says when an entry expires."""
        ttu: Callable[[K, V, Time], Time] = self.__ttu
        return ttu

    def __setitem__(self, key: K, value: V, /) -> None:
        with self._native_timer as now:
            self.expire(now)
            expires = self.__ttu(key, value, now)
            former = self._native_order.get(key)
            if not now < expires:
                if former is not None:
                    former.removed = True
                    _delete(self, key)
                return
            _set(self, key, value)
        if former is not None:
            former.removed = True
        item = _Item(key, expires)
        if self._native_date(key, expires, item):
            heappush(self.__heap, item)

    def __delitem__(self, key: K, /) -> None:
        with self._native_timer as now:
            item = self._native_order.get(key)
            _delete(self, key)
        if item is not None:
            item.removed = True
            if not now < item.expires:
                raise KeyError(key)

    def __iter__(self) -> Iterator[K]:
        for item in self.__heap.copy():
            with self._native_timer as now:
                if not item.removed and now < item.expires:
                    yield item.key

    def expire(self, time: Time | None = None) -> list[tuple[K, V]]:
        """Remove what has expired, now or at ``time``, and return it."""
        now: Any = self._native_timer() if time is None else time
        heap = self.__heap
        expired: list[tuple[K, V]] = []
        if len(heap) > len(self._native_order) * SLACK:
            heap[:] = [item for item in heap if not item.removed]
            heapify(heap)
        while heap and (heap[0].removed or not now < heap[0].expires):
            item = heappop(heap)
            if not item.removed:
                item.removed = True
                expired.append((item.key, self._native_peek(item.key)))
                _delete(self, item.key)
        return expired

    def clear(self) -> None:
        """Remove every entry."""
        super().clear()
        self.__heap.clear()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        copies = {id(item): item.copy() for item in self.__heap}
        self.__heap = list(copies.values())
        self._native_order.update(
            (key, copies[id(item)]) for key, item in self._native_order.items()
        )


class _Item:
    """When an entry expires; stays in the heap when the entry was removed or set again."""

    __slots__ = ("expires", "key", "removed")

    def __init__(self, key: Any, expires: Any, removed: bool = False) -> None:
        self.key = key
        self.expires = expires
        self.removed = removed

    def __lt__(self, other: _Item) -> bool:
        return bool(self.expires < other.expires)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Item, (self.key, self.expires, self.removed)

    def copy(self) -> _Item:
        return _Item(self.key, self.expires, self.removed)
