"""Fixed weights: what goes first, exactly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hybridcore import Cache, EvictionCause, Weights
from tests.memory.traffic import popular, replay
from tests.orders import Grades

LFU = Weights.lfu()
ODD = [
    Weights(),
    LFU,
    Weights(recency=0.01),
    Weights(recency=8, frequency=0.5, size=8),
    Weights(recency=0, frequency=8, cost=0.1),
    Weights(recency=0, frequency=0, size=0, cost=1, importance=0),
]


@pytest.mark.parametrize("weights", ODD, ids=repr)
@pytest.mark.parametrize("size", [1, 2, 30, 700])
def test_agrees_with_the_model(weights: Weights, size: int) -> None:
    """Every eviction of a long run is the one that the model of grades foresees."""
    dice = random.Random(size)
    victims: list[int] = []
    foreseen: list[int] = []

    def hear(key: int, value: int, cause: EvictionCause) -> None:
        if cause is EvictionCause.SIZE:
            victims.append(key)

    cache: Cache[int, int] = Cache(size, on_evict=hear, weights=weights)
    order = Grades(weights)
    for key in popular(3 * size, 4000):
        options: Any = {}
        if dice.random() < 0.3:
            options = {"cost": dice.choice([0, 1e-9, 0.3, 5, 1e9]), "importance": dice.random()}
        if key in cache:
            order.touch(key)
        else:
            order.add(key)
        if not options and cache.get(key) is not None:
            continue
        cache.put(key, key, **options)
        order.value(key, 1, options.get("cost", 1), options.get("importance", 1))
        if len(order.seats) > size:
            foreseen.append(order.victim([key]))
            order.evicted(len(order.seats))
            order.remove(foreseen[-1])
    cache.check()
    assert cache.coldest(size) == order.coldest()
    assert len(foreseen) > 100
    assert victims == foreseen


def test_lfu_is_exact_for_small_frequencies(make: Any) -> None:
    """Keys used up to 11 times go in the order of their uses, and among equals the oldest use."""
    cache = make(100, weights=LFU)
    keys = [(uses, turn) for uses in range(1, 12) for turn in range(3)]
    random.Random(5).shuffle(keys)
    for key in keys:
        cache[key] = 1
    used = [key for key in keys for _ in range(key[0] - 1)]
    random.Random(6).shuffle(used)
    for key in used:
        cache[key]
    last_use = {key: position for position, key in enumerate(keys + used)}
    expected = sorted(keys, key=lambda key: (key[0], last_use[key]))
    assert cache.coldest(100) == expected
    assert cache.hottest(100) == expected[::-1]
    assert [cache.popitem()[0] for _ in keys] == expected


def test_lfu_keeps_the_frequent_and_not_the_recent(make: Any) -> None:
    """A key used twice outlasts any number of keys used once, for a while."""
    cache = make(10, weights=LFU)
    for key in range(5):
        cache[key] = cache[key] = 1
    replay(cache, range(100, 130))
    assert set(range(5)) <= set(cache)


def test_lfu_forgets_old_favourites(make: Any) -> None:
    """Frequencies halve with ten turnovers, so what was used a hundred times leaves in the end."""
    cache = make(10, weights=LFU)
    cache["old"] = 1
    for _ in range(99):
        cache["old"]
    turnovers = 0
    while "old" in cache:
        replay(cache, [f"{turnovers} {n}" for n in range(5) for _ in range(2)] * 2)
        turnovers += 0.5
        assert turnovers < 200
    assert 30 < turnovers < 100


def test_recency_alone_is_lru(make: Any) -> None:
    """Weights of recency alone are LRU, whatever else a put says."""
    cache = make(3, weights=Weights(recency=0.2, frequency=0, size=0, cost=0, importance=0))
    cache.put("a", 1, importance=100)
    cache.put("b", 1, cost=100)
    cache.put("c", 1)
    cache["a"]
    assert cache.coldest(3) == ["b", "c", "a"]


def test_a_product_of_factors(make: Any) -> None:
    """Cost times importance by size, each to the power of its weight."""
    only = Weights(recency=0, frequency=0, size=1, cost=2, importance=1)
    cache = make(100, weights=only)
    cache.put("1/8", 0, size=8)
    cache.put("4/2", 0, size=2, cost=2)
    cache.put("3/1", 0, importance=3)
    cache.put("100/20", 0, size=20, cost=10)
    cache.put("0.01/1", 0, cost=0.1)
    assert cache.coldest(9) == ["0.01/1", "1/8", "4/2", "3/1", "100/20"]
    cache.put("1/8", 0, size=8, importance=100)
    assert cache.hottest(1) == ["1/8"]


@pytest.mark.parametrize("weights", [None, Weights(), Weights(cost=8, importance=8, size=8)])
def test_extreme_factors(weights: Weights | None, make: Any) -> None:
    """Zero, tiny and huge costs, importances and sizes are ranked and break nothing."""
    cache = make(2**62, weights=weights)
    extremes = [0.0, 1e-45, 1e-9, 1.0, 1e9, 3.4e38]
    for n, cost in enumerate(extremes):
        for m, importance in enumerate(extremes):
            for size in (0, 1, 2**40, 2**60):
                cache.put((n, m, size), 1, cost=cost, importance=importance, size=size)
                cache.check()
    assert cache.currsize <= 2**62
    assert cache.evict(10) == 10
    wanted = min(2**60, cache.currsize)
    assert cache.evict_bytes(wanted) >= wanted
    for key in cache.coldest(20):
        cache[key]
    cache.check()
    cache.evict(10**6)
    assert cache.currsize == len(cache) == 0


def test_importance_0_goes_first(make: Any) -> None:
    """An entry of no importance goes before all others, with fixed weights and without."""
    for weights in (None, Weights()):
        cache = make(100, weights=weights)
        replay(cache, range(99))
        cache.put("nothing", 1, importance=0)
        cache["a"] = 1
        assert "nothing" not in cache


@pytest.mark.parametrize("weights", ODD, ids=repr)
def test_a_copy_has_the_same_order(weights: Weights, make: Any) -> None:
    """Frequent entries of long ago and new ones are evicted from a copy as from the cache."""
    cache = make(50, weights=weights)
    for n, key in enumerate(popular(200, 3000)):
        if cache.get(key) is None:
            cache.put(key, 1, cost=1 + n % 7, importance=1 + n % 3)
        if n % 500 == 499:
            twin = cache.copy()
            twin.check()
            assert twin.coldest(50) == cache.coldest(50)
            assert twin.entries() == cache.entries()
            cache = twin
