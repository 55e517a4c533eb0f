"""Copies and pickles of a cache, and of its subclasses."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from hybridcore import Cache, Weights
from tests.model import ManualClock


class WithAttributes(Cache[Any, Any]):
    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.name = "a name"
        self.shared = [1]


class WithSlots(Cache[Any, Any]):
    __slots__ = ("_WithSlots__hidden", "name", "unset")

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.name = "a name"
        self.__hidden = 5

    def hidden(self) -> int:
        return self.__hidden


class WithBoth(WithSlots):
    """Slots from above, a __dict__ of its own."""


class Sizing(Cache[Any, Any]):
    def __init__(self, maxsize: int, factor: int) -> None:
        self.factor = factor
        super().__init__(maxsize)

    def getsizeof(self, value: Any) -> int:
        return len(value) * self.factor


STANDSTILL = ManualClock(50)


def standstill() -> float:
    return STANDSTILL()


WAYS = {
    "copy()": lambda cache: cache.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
} | {
    f"pickle {protocol}": lambda cache, protocol=protocol: pickle.loads(
        pickle.dumps(cache, protocol)
    )
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@ways
def test_entries_options_and_order(way: Any, make: Any) -> None:
    """A copy has the same entries, with what each was stored with, in the same eviction order."""
    cache = make(20, len, ttl=100, timer=standstill, weights=Weights.lru())
    cache["a"] = "aaa"
    cache.put("b", "b", ttl=math.inf, size=5)
    cache.put("c", "cc", ttl=7, cost=2.5, importance=3)
    cache["a"]
    twin = way(cache)
    twin.check()
    assert type(twin) is Cache
    assert twin is not cache
    assert twin == cache
    assert twin.coldest(9) == ["b", "c", "a"]
    assert twin.currsize == cache.currsize == 10
    assert twin.maxsize == 20
    assert twin.getsizeof is len
    assert twin.entries() == cache.entries()
    assert [twin.ttl_left(key) for key in "abc"] == [100, None, 7]
    twin["d"] = "d" * 16
    assert set(twin) == {"a", "d"}
    assert set(cache) == {"a", "b", "c"}


@ways
def test_ttls_go_on(way: Any, make: Any) -> None:
    """What was left of a ttl is left in the copy, and touch() renews the whole of it."""
    cache = make(20, timer=standstill)
    cache.put("a", 1, ttl=10)
    cache.put("old", 1, ttl=3)
    STANDSTILL.advance(4)
    twin = way(cache)
    assert dict(twin) == {"a": 1}
    assert twin.ttl_left("a") == 6
    twin.touch("a")
    assert twin.ttl_left("a") == 10
    assert cache.ttl_left("a") == 6


@ways
@pytest.mark.parametrize("kind", [WithAttributes, WithSlots, WithBoth])
def test_attributes_of_subclasses(way: Any, kind: type[Cache[Any, Any]], make: Any) -> None:
    """What a subclass keeps in its __dict__ or its __slots__ is copied."""
    cache = make(5, kind=kind)
    cache["k"] = 1
    if kind is WithBoth:
        cache.extra = 7
    twin = way(cache)
    assert type(twin) is kind
    assert twin == {"k": 1}
    assert twin.name == "a name"
    if kind is WithAttributes:
        assert twin.shared == [1]
    else:
        assert twin.hidden() == 5
        assert not hasattr(twin, "unset")
    if kind is WithBoth:
        assert twin.extra == 7


@ways
def test_a_getsizeof_of_a_subclass(way: Any, make: Any) -> None:
    """The copy measures by its own method, with its own attributes."""
    cache = make(12, 2, kind=Sizing)
    cache["a"] = "aa"
    twin = way(cache)
    cache.factor = 100
    twin["b"] = "bb"
    assert twin.currsize == 8
    twin["c"] = "ccc"
    assert set(twin) == {"b", "c"}


@ways
def test_a_cache_in_itself(way: Any, make: Any) -> None:
    """A cache that contains itself is copied once."""
    cache = make(5)
    cache["self"] = cache
    twin = way(cache)
    assert twin["self"] is (cache if way in (WAYS["copy()"], copy.copy) else twin)


def test_shallow_and_deep(make: Any) -> None:
    """copy shares the values, deepcopy does not."""
    cache = make(5)
    cache["k"] = value = [1]
    assert copy.copy(cache)["k"] is value
    assert copy.deepcopy(cache)["k"] is not value


def test_a_bound_by_memory_is_kept(make: Any) -> None:
    """Entries measured by footprint stay measured so."""
    cache = make("1MiB")
    cache["k"] = bytes(1000)
    twin = pickle.loads(pickle.dumps(cache))
    assert twin.currsize == cache.currsize
    twin["l"] = bytes(1000)
    assert twin.currsize == 2 * cache.currsize


def test_counters_and_the_cause_of_nothing(make: Any) -> None:
    """A copy counts anew, and copying tells the listener nothing."""
    heard: list[Any] = []
    cache = make(5, on_evict=lambda *removal: heard.append(removal))
    cache.update(a=1, b=2)
    cache["a"], cache.get("x")
    stats = cache.copy().stats()
    assert (stats.requests, stats.insertions, stats.entries) == (0, 2, 2)
    assert heard == []


def test_what_cannot_be_pickled_says_so(make: Any) -> None:
    """A listener without a name, such as a lambda, cannot be pickled, nor can such a value."""
    listening = make(5, on_evict=lambda *removal: None)
    holding = make(5)
    holding["k"] = lambda: None
    for cache in (listening, holding):
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            pickle.dumps(cache)


def test_a_large_cache(make: Any) -> None:
    """Ten thousand entries come back in order."""
    cache = make(None)
    for i in range(10_000):
        cache[f"key {i}"] = i
    for i in range(0, 10_000, 7):
        cache[f"key {i}"]
    twin = pickle.loads(pickle.dumps(cache))
    assert twin.coldest(10_000) == cache.coldest(10_000)
    twin.check()
