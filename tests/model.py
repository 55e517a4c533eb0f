"""A slow, obvious model of the memory tier, and the clock that tests turn by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ValueTooLargeError
from hybridcore.types import EvictionCause
from tests.orders import Recency

if TYPE_CHECKING:
    from collections.abc import Callable


class ManualClock:
    """A timer that stands still until a test moves it."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Row:
    """What the model knows of one entry; ``deadline`` is infinity when it never expires."""

    value: Any
    size: int
    ttl: float
    deadline: float
    cost: float
    importance: float


class Model:
    """The cache in a dict, and beside it the order in which its keys are evicted.

    It drops expired rows exactly where the cache promises to: before anything that counts, lists
    or evicts entries, and on every write. Causes are told when an operation is complete.
    """

    def __init__(
        self,
        maxsize: float,
        getsizeof: Callable[[Any], int] | None,
        ttl: float,
        timer: Callable[[], float],
        listener: Callable[[Any, Any, EvictionCause], object],
        order: Recency | None = None,
        low_water: float = 1.0,
    ) -> None:
        self.maxsize = maxsize
        self.order = order or Recency()
        self.low_water = low_water
        self.above_low_water = False
        self.shrinking = 0
        self.getsizeof = getsizeof or (lambda value: 1)
        self.ttl = ttl
        self.timer = timer
        self.listener = listener
        self.rows: dict[Any, Row] = {}
        self.start_counting()

    def start_counting(self) -> None:
        self.hits = self.misses = self.updates = self.evicted_size = self.rejected = 0
        self.insertions = len(self.rows)
        self.removals = dict.fromkeys(EvictionCause, 0)

    # -- the steps --------------------------------------------------------------------------

    def expired(self, key: Any) -> bool:
        return self.rows[key].deadline <= self.timer()

    def fresh(self, key: Any) -> bool:
        return key in self.rows and not self.expired(key)

    @property
    def currsize(self) -> int:
        return sum(row.size for row in self.rows.values())

    def take(self, key: Any, cause: EvictionCause) -> tuple[Any, Any, EvictionCause]:
        self.order.remove(key)
        self.removals[cause] += 1
        return self.stored(key), self.rows.pop(key).value, cause

    def stored(self, key: Any) -> Any:
        """The key that came first of those that are equal."""
        return next(stored for stored in self.rows if stored == key)

    def due(self) -> list[tuple[Any, Any, EvictionCause]]:
        keys = [key for key in self.rows if self.expired(key)]
        return [self.take(key, EvictionCause.EXPIRED) for key in keys]

    def evict_one(self, *spared: Any) -> list[tuple[Any, Any, EvictionCause]]:
        """Evict what is coldest; an empty list when there is nothing but what is spared."""
        if all(key in spared for key in self.rows):
            return []
        key = self.order.victim([*spared])
        if key in spared:
            assert self.rows[key].size > self.currsize // len(self.rows), "it was not large"
        self.evicted_size += self.rows[key].size
        self.order.evicted(len(self.rows))
        return [self.take(key, EvictionCause.SIZE)]

    def make_room(self, key: Any) -> list[tuple[Any, Any, EvictionCause]]:
        """Evict down to the bound, and from there with each write 16 entries on to low water."""
        taken: list[tuple[Any, Any, EvictionCause]] = []
        low = self.maxsize if self.maxsize == math.inf else int(self.maxsize * self.low_water)
        if self.currsize > self.maxsize:
            self.above_low_water = low < self.maxsize or bool(self.shrinking)
            while self.currsize > self.maxsize and not self.shrinking:
                taken += self.evict_one(key)
        while self.above_low_water and self.currsize > low and len(taken) < 16:
            more = self.evict_one(key)
            self.above_low_water = bool(more)
            taken += more
        self.above_low_water = self.above_low_water and self.currsize > low
        return taken

    def evict_batch(self, count: float, size: float, to_bound: bool = False) -> int:
        taken: list[tuple[Any, Any, EvictionCause]] = []
        before = self.currsize
        while len(taken) < count and before - self.currsize < size:
            if not self.rows or (to_bound and self.currsize <= self.maxsize):
                break
            taken += self.evict_one()
        return self.tell(taken)

    def tell(self, removals: list[tuple[Any, Any, EvictionCause]]) -> int:
        for key, value, cause in removals:
            self.listener(key, value, cause)
        return len(removals)

    # -- reading ----------------------------------------------------------------------------

    def look_up(self, key: Any) -> Any:
        if not self.fresh(key):
            self.misses += 1
            raise KeyError(key)
        self.hits += 1
        self.order.touch(key)
        return self.rows[key].value

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            return self.look_up(key)
        except KeyError:
            return default

    def get_many(self, keys: list[Any]) -> dict[Any, Any]:
        found = {}
        for key in keys:
            if self.fresh(key):
                found[key] = self.look_up(key)
            else:
                self.misses += 1
        return found

    def peek(self, key: Any, default: Any = None) -> Any:
        return self.rows[key].value if self.fresh(key) else default

    def ttl_left(self, key: Any) -> float | None:
        if not self.fresh(key):
            raise KeyError(key)
        left = self.rows[key].deadline - self.timer()
        return None if left == math.inf else left

    def expire(self) -> int:
        return self.tell(self.due())

    def items(self) -> dict[Any, Any]:
        self.expire()
        return {key: row.value for key, row in self.rows.items()}

    def coldest(self, n: int) -> list[Any]:
        self.expire()
        return self.order.coldest()[:n]

    def hottest(self, n: int) -> list[Any]:
        self.expire()
        return self.order.coldest()[::-1][:n]

    # -- writing ----------------------------------------------------------------------------

    def put(
        self,
        key: Any,
        value: Any,
        *,
        ttl: float | None = None,
        size: int | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
    ) -> None:
        size = self.getsizeof(value) if size is None else size
        ttl = self.ttl if ttl is None else ttl
        if size > self.maxsize:
            self.rejected += 1
            raise ValueTooLargeError
        removals = []
        if key in self.rows:
            ended = self.expired(key)
            cause = EvictionCause.EXPIRED if ended else EvictionCause.REPLACED
            removals.append((self.stored(key), self.rows[key].value, cause))
            self.removals[cause] += 1
            self.insertions += ended
            self.updates += not ended
            self.order.touch(key)
        else:
            self.insertions += 1
            self.order.add(key)
        self.rows[key] = Row(value, size, ttl, self.timer() + ttl, cost, importance)
        self.order.value(key, size, cost, importance)
        removals += self.due()
        self.tell(removals + self.make_room(key))

    def setdefault(self, key: Any, default: Any) -> Any:
        try:
            return self.look_up(key)
        except KeyError:
            self.put(key, default)
            return default

    def pop(self, key: Any) -> Any:
        if not self.fresh(key):
            raise KeyError(key)
        return self.remove(key)

    def discard(self, key: Any) -> bool:
        if key not in self.rows:
            return False
        self.remove(key)
        return True

    def popitem(self) -> tuple[Any, Any]:
        self.expire()
        if not self.rows:
            raise KeyError
        key = self.order.victim([])
        return self.stored(key), self.remove(key)

    def remove(self, key: Any) -> Any:
        removal = self.take(key, EvictionCause.EXPLICIT)
        self.tell([removal])
        return removal[1]

    def clear(self) -> None:
        self.tell([self.take(key, EvictionCause.EXPLICIT) for key in list(self.rows)])

    def touch(self, key: Any, ttl: float | None = None) -> bool:
        if not self.fresh(key):
            return False
        self.order.touch(key)
        row = self.rows[key]
        row.ttl = row.ttl if ttl is None else ttl
        row.deadline = self.timer() + row.ttl
        return True

    def resize(self, maxsize: float) -> None:
        self.expire()
        self.maxsize = maxsize
        self.shrinking += 1
        while self.currsize > self.maxsize:
            self.evict_batch(1024, math.inf, to_bound=True)
        self.shrinking -= 1

    def evict(self, n: int) -> int:
        self.expire()
        evicted = 0
        while evicted < n and self.rows:
            evicted += self.evict_batch(n - evicted, math.inf)
        return evicted

    def evict_bytes(self, size: int) -> int:
        self.expire()
        before = self.evicted_size
        while self.evicted_size - before < size and self.rows:
            self.evict_batch(1024, size - (self.evicted_size - before))
        return self.evicted_size - before

    def copied(self) -> None:
        """Go on as a copy: the counters begin anew, and the order is the one of the copy."""
        self.expire()
        self.above_low_water = False
        self.order = self.order.copied()
        self.start_counting()
