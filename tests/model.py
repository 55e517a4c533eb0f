"""A slow, obvious model of the memory tier, and the clock that tests turn by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ValueTooLargeError
from hybridcore.types import EvictionCause

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
    """The cache in a dict whose order is the eviction order, coldest first.

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
    ) -> None:
        self.maxsize = maxsize
        self.getsizeof = getsizeof or (lambda value: 1)
        self.ttl = ttl
        self.timer = timer
        self.listener = listener
        self.rows: dict[Any, Row] = {}
        self.hits = self.misses = self.insertions = self.updates = 0
        self.removals = dict.fromkeys(EvictionCause, 0)

    # -- the steps --------------------------------------------------------------------------

    def expired(self, key: Any) -> bool:
        return self.rows[key].deadline <= self.timer()

    def fresh(self, key: Any) -> bool:
        return key in self.rows and not self.expired(key)

    @property
    def currsize(self) -> int:
        return sum(row.size for row in self.rows.values())

    def warm(self, key: Any) -> None:
        self.rows[key] = self.rows.pop(key)

    def take(self, key: Any, cause: EvictionCause) -> tuple[Any, Any, EvictionCause]:
        self.removals[cause] += 1
        return key, self.rows.pop(key).value, cause

    def due(self) -> list[tuple[Any, Any, EvictionCause]]:
        keys = [key for key in self.rows if self.expired(key)]
        return [self.take(key, EvictionCause.EXPIRED) for key in keys]

    def surplus(self) -> list[tuple[Any, Any, EvictionCause]]:
        taken = []
        while self.currsize > self.maxsize:
            taken.append(self.take(next(iter(self.rows)), EvictionCause.SIZE))
        return taken

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
        self.warm(key)
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
        return list(self.rows)[:n]

    def hottest(self, n: int) -> list[Any]:
        self.expire()
        return list(self.rows)[::-1][:n]

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
            raise ValueTooLargeError
        removals = []
        if key in self.rows:
            ended = self.expired(key)
            cause = EvictionCause.EXPIRED if ended else EvictionCause.REPLACED
            key = next(stored for stored in self.rows if stored == key)  # the first one stays
            removals.append(self.take(key, cause))
            self.insertions += ended
            self.updates += not ended
        else:
            self.insertions += 1
        self.rows[key] = Row(value, size, ttl, self.timer() + ttl, cost, importance)
        self.tell(removals + self.due() + self.surplus())

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
        key = next(iter(self.rows))
        return key, self.remove(key)

    def remove(self, key: Any) -> Any:
        removal = self.take(key, EvictionCause.EXPLICIT)
        self.tell([removal])
        return removal[1]

    def clear(self) -> None:
        self.tell([self.take(key, EvictionCause.EXPLICIT) for key in list(self.rows)])

    def touch(self, key: Any, ttl: float | None = None) -> bool:
        if not self.fresh(key):
            return False
        self.warm(key)
        row = self.rows[key]
        row.ttl = row.ttl if ttl is None else ttl
        row.deadline = self.timer() + row.ttl
        return True

    def resize(self, maxsize: float) -> None:
        self.expire()
        self.maxsize = maxsize
        self.tell(self.surplus())
