"""Evicting on demand, to low water and by resizing, whatever the policy."""

from __future__ import annotations

import math
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Adaptive, Weights
from tests.memory.traffic import popular, replay

if TYPE_CHECKING:
    from collections.abc import Callable

POLICIES = {"learned": None, "lru": Weights.lru(), "lfu": Weights.lfu(), "weights": Weights()}
policies = pytest.mark.parametrize("weights", POLICIES.values(), ids=POLICIES)


# -- on demand ----------------------------------------------------------------------------------


@policies
def test_evict(weights: Weights | None, make: Any) -> None:
    """evict(n) evicts n entries, or all there are, and says how many; the listener hears "size"."""
    heard: list[Any] = []
    cache = make(100, weights=weights, on_evict=lambda *removal: heard.append(removal))
    replay(cache, range(50))
    assert cache.evict() == 1
    assert cache.evict(0) == 0
    assert cache.evict(9) == 9
    assert len(cache) == 40
    assert [cause for *_, cause in heard] == ["size"] * 10
    assert not {key for key, *_ in heard} & set(cache)
    assert cache.evict(1000) == 40
    assert cache.evict(1000) == 0
    assert cache.stats().evicted == cache.stats().evicted_size == 50


@pytest.mark.parametrize("weights", [Weights.lru(), Weights.lfu(), Weights()])
def test_evict_in_order(weights: Weights, make: Any) -> None:
    """With fixed weights exactly the coldest go."""
    heard: list[Any] = []
    cache = make(300, weights=weights, on_evict=lambda key, value, cause: heard.append(key))
    replay(cache, popular(400, 500))
    coldest = cache.coldest(1)
    assert cache.evict(1) == 1
    assert heard == coldest


@policies
def test_evict_bytes(weights: Weights | None, make: Any) -> None:
    """evict_bytes(size) evicts at least so much, and no entry more than needed."""
    sizes: list[int] = []
    cache = make(1000, weights=weights, on_evict=lambda key, value, cause: sizes.append(value))
    for key in range(1, 40):
        cache.put(key, key, size=key)
    before = cache.currsize
    freed = cache.evict_bytes(100)
    assert freed == sum(sizes) == before - cache.currsize
    assert freed >= 100 > freed - sizes[-1]
    assert cache.evict_bytes(0) == 0
    assert cache.evict_bytes(10**6) == before - freed
    assert cache.evict_bytes(1) == 0
    assert cache.stats().evicted_size == before


@pytest.mark.parametrize("name", ["evict", "evict_bytes"])
@pytest.mark.parametrize("amount", [-1, 2**63, 1.5, "1", None])
def test_amounts_that_are_none(name: str, amount: Any, make: Any) -> None:
    """An amount is an int of at least 0; nothing changes."""
    cache = make(9)
    cache.update(a=1, b=2)
    with pytest.raises((TypeError, ValueError), match="expected"):
        getattr(cache, name)(amount)
    assert len(cache) == 2


def test_what_expired_is_not_evicted(make: Any, clock: Any) -> None:
    """evict() removes what has expired first, and does not count it."""
    cache = make(100, timer=clock)
    for key in range(10):
        cache.put(key, 1, ttl=5)
    replay(cache, range(20, 30))
    clock.advance(5)
    assert cache.evict(3) == 3
    assert (len(cache), cache.stats().expired, cache.stats().evicted) == (7, 10, 3)


@pytest.mark.parametrize("size", [2, 32, 33, 64])
def test_evicting_everything_while_a_lesson_is_due(size: int, make: Any) -> None:
    """A lesson that begins when the last entries leave finds none, and ends well."""
    for hits in range(150, 1000, 30):
        cache = make(size)
        replay(cache, range(3 * size))
        cache.evict(size - 2)
        for key in [*cache] * (hits // 2):
            cache[key]
        cache.evict(2)
        assert len(cache) == 0
        replay(cache, popular(3 * size, 1000))
        cache.check()


# -- low water ----------------------------------------------------------------------------------


@policies
def test_low_water(weights: Weights | None, make: Any) -> None:
    """Once the bound is hit, writes evict on, 16 entries each at most, down to low water."""
    cache = make(100, weights=weights, low_water=0.5)
    replay(cache, range(100))
    lengths = [replay(cache, [key]) or len(cache) for key in range(1000, 1060)]
    assert lengths[:5] == [85, 70, 55, 50, 51]
    assert lengths[5:54] == [*range(52, 101)]
    assert lengths[54] == 85


@pytest.mark.parametrize("low_water", [0, 1e-9, 0.09])
def test_low_water_below_one_entry(low_water: float, make: Any) -> None:
    """Low water that no write can reach, as its own entry stays, is reached nonetheless."""
    cache = make(10, low_water=low_water)
    replay(cache, range(11))
    assert len(cache) == 1
    replay(cache, range(100, 109))
    assert len(cache) == 10


def test_no_low_water_evicts_only_what_is_needed(make: Any) -> None:
    """A bound that no float can hold is kept to the unit."""
    bound = 2**53 + 1
    cache = make(bound, weights=Weights.lru())
    cache.put("a", 1, size=1)
    cache.put("b", 1, size=2**53)
    cache.put("c", 1, size=1)
    assert set(cache) == {"b", "c"}
    assert cache.currsize == bound


# -- bounds -------------------------------------------------------------------------------------


@policies
@pytest.mark.parametrize("maxsize", [0, 1, 2, None])
def test_tiny_and_no_bounds(maxsize: int | None, weights: Weights | None, make: Any) -> None:
    """A cache of no, one or two entries, or unbounded, does all that others do."""
    cache = make(maxsize, weights=weights)
    bound = math.inf if maxsize is None else maxsize
    for key in popular(20, 3000) if bound else []:
        cache[key] = key
        assert cache[key] == key
        assert len(cache) <= bound
    cache.check()
    if maxsize == 0:
        for key in range(5):
            cache.put(key, 1, size=0)
    assert len(cache) == min(bound or 5, 20)
    assert len(cache.coldest(99)) == len(cache.hottest(99)) == len(cache)
    everything = len(cache)
    assert cache.evict(1) == 1
    assert cache.evict(99) == everything - 1
    assert cache.evict_bytes(99) == 0
    assert cache.coldest() == cache.hottest() == []
    with pytest.raises(KeyError):
        cache.popitem()


@policies
def test_a_written_entry_of_average_size_stays(weights: Weights | None, make: Any) -> None:
    """Whatever it is worth, an entry is there after it was put, unless it is a large one."""
    cache = make(50, weights=weights)
    for key in range(2000):
        cache.put(key, key, importance=0, cost=0)
        assert key in cache


def test_a_written_entry_stays_while_others_expire(make: Any, clock: Any) -> None:
    """The same when expired ones leave with that very write, which moves entries about."""
    cache = make(8, timer=clock)
    replay(cache, range(20))
    for round in range(200):
        clock.advance(5)
        cache.put(("due", round), 0, ttl=1)
        cache.put(("one", round), 0, importance=0)
        assert ("one", round) in cache
        clock.advance(5)
        cache.put(("two", round), 0, importance=0)
        assert ("two", round) in cache
        cache.put(("due", round), 0, ttl=1)
        clock.advance(5)
        cache.put(("large", round), 0, size=3, importance=0)
        cache.check()


@policies
def test_resize_down_while_others_read(weights: Weights | None, make: Any) -> None:
    """200 000 entries leave in steps, between which other threads read and write."""
    cache = make(210_000, weights=weights)
    cache.update((key, key) for key in range(210_000))
    done, counts = threading.Event(), [0, 0]

    def read() -> None:
        while not done.is_set():
            key = counts[0] % 210_000
            assert cache.get(key) in (None, key)
            counts[0] += 1
            if key % 16 == 0:
                cache[10**6 + key] = key
            counts[1] += len(cache) < 200_000 and cache.maxsize == 10_000

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        cache.resize(10_000)
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(before)
    cache[-1] = -1
    assert len(cache) == 10_000
    assert counts[1] > 0
    cache.check()
    cache.resize(20_000)
    replay(cache, range(10**7, 10**7 + 30_000))
    assert len(cache) == 20_000


def test_what_was_learned_is_void_after_a_resize(make: Any) -> None:
    """A resized cache learns anew, and goes on counting where it was."""
    cache = make(200)
    requests = popular(2000, 10_000)
    replay(cache, requests)
    before = cache.stats()
    assert before.readmitted > 100
    cache.resize(400)
    assert cache.tuning().lessons == 0
    assert cache.stats().readmitted == before.readmitted
    replay(cache, requests)
    assert cache.tuning().lessons > 3
    assert cache.stats().readmitted > before.readmitted


def test_memory_bytes(make: Any) -> None:
    """What a policy remembers is in memory_bytes(), and is not there before it is needed."""
    cache, lru = make(10_000), make(10_000, weights=Weights.lru())
    assert cache.memory_bytes() == lru.memory_bytes() < 1000
    replay(cache, range(20_000))
    replay(lru, range(20_000))
    ghosts = 8 * cache.tuning().history
    assert ghosts < cache.memory_bytes() - lru.memory_bytes() < ghosts + 100_000


def test_tiny_caches_are_small(make: Any) -> None:
    """A cache of few entries that never evicts remembers nothing."""
    cache = make(3)
    replay(cache, range(3))
    assert cache.memory_bytes() < 1000


def test_statistics(make: Any) -> None:
    """What was evicted, how large it was, what was refused and what came back is counted."""
    cache = make(1000, adaptive=Adaptive(seed=5))
    for key in range(100):
        cache.put(key, 1, size=20)
    stats = cache.stats()
    assert (stats.evicted, stats.evicted_size, stats.rejected) == (50, 1000, 0)
    for _ in range(3):
        with pytest.raises(ValueError, match="does not fit"):
            cache.put("large", 1, size=1001)
    assert cache.stats().rejected == 3
    gone = [key for key in range(100) if key not in cache]
    for key in gone:
        cache.put(key, 1, size=20)
    assert 10 < cache.stats().readmitted <= 50


# -- listeners that take part -------------------------------------------------------------------

EVICTING: dict[str, Callable[[Any], object]] = {
    "evict": lambda cache: cache.evict(20),
    "evict_bytes": lambda cache: cache.evict_bytes(20),
    "resize": lambda cache: cache.resize(5),
    "put": lambda cache: cache.put("large", 0, size=20),
    "init": lambda cache: cache.__init__(50, on_evict=cache.options()[4], weights=Weights()),
    "popitem": lambda cache: cache.popitem(),
}
REACTIONS: dict[str, Callable[[Any], object]] = {
    "raise": lambda cache: 1 / 0,
    "put": lambda cache: cache.put(object(), 1),
    "put large": lambda cache: cache.put(object(), 1, size=4, importance=0),
    "clear": lambda cache: cache.clear(),
    "shrink": lambda cache: cache.resize(3),
    "grow": lambda cache: cache.resize(None),
    "evict": lambda cache: cache.evict(3),
    "evict all": lambda cache: cache.evict_bytes(10**9),
    "init": lambda cache: cache.__init__(20, weights=Weights.lru()),
    "init to learn": lambda cache: cache.__init__(20),
    "expire": lambda cache: cache.touch(next(iter(cache), None), 0) and cache.expire(),
}


@policies
@pytest.mark.parametrize("operation", EVICTING)
@pytest.mark.parametrize("reaction", REACTIONS)
def test_listeners_that_take_part(
    operation: str, reaction: str, weights: Weights | None, make: Any, monkeypatch: Any
) -> None:
    """Fault 17: the n-th call of a listener does something to the cache that it is told about."""
    failures: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", failures.append)
    waits = [0]

    def listener(*removal: Any) -> None:
        if waits[0]:
            waits[0] -= 1
            cache.check()
            if waits[0] == 0:
                REACTIONS[reaction](cache)

    for nth in (1, 2, 15):
        cache = make(40, weights=weights, on_evict=listener)
        replay(cache, popular(60, 300))
        waits[0] = nth
        EVICTING[operation](cache)
        cache.check()
        waits[0] = 0
        replay(cache, popular(60, 300))
        assert cache.currsize <= cache.maxsize
    assert all(issubclass(it.exc_type, ZeroDivisionError) for it in failures)
    assert bool(failures) == (reaction == "raise")


def test_evict_in_a_listener_while_resizing(make: Any) -> None:
    """evict(n) evicts n entries although the bound holds and a resize is going on."""
    evicted: list[int] = []

    def listener(*removal: Any) -> None:
        if not evicted:
            evicted.append(-1)
            evicted[0] = cache.evict(2)

    cache = make(10, on_evict=listener)
    replay(cache, range(10))
    cache.resize(6)
    assert evicted == [2]
    assert len(cache) == 4
