"""A running cache is looked at: what it is asked, what it would hit, what it costs to know."""

from __future__ import annotations

import gc
import json
import threading
import weakref

import numpy as np
import pytest

from hybridcore import Adaptive, Cache, HybridCache, Lmdb, Memory, Weights
from hybridcore.analytics import Analytics, Analyzer, StoreAnalytics
from hybridcore.errors import ConfigurationError

ALL = Analytics(half_life=None)


def zipf(keys, requests, seed=1):
    ranks = 1 / np.arange(1, keys + 1) ** 0.9
    found = np.random.default_rng(seed).choice(keys, requests, p=ranks / ranks.sum())
    return [f"key {key}" for key in found.tolist()]


def read_through(cache, keys):
    for key in keys:
        if cache.get(key) is None:
            cache[key] = True


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, "learned"),
        ({"weights": Weights.lru()}, "lru"),
        ({"weights": Weights(frequency=1)}, "weights"),
        ({"adaptive": Adaptive(enabled=False)}, "weights"),
    ],
)
def test_the_curve_of_a_running_cache(options, policy):
    """Whatever decides, caches of other sizes hit what the curve of this one says."""
    keys = zipf(20_000, 120_000)
    cache = Cache(1_500, **options)
    analyzer = Analyzer(cache, ALL)
    read_through(cache, keys)
    curve = analyzer.curve()
    assert curve.policy == policy
    assert curve.requests == len(keys)
    for size in (800, 1_500, 4_000):
        other = Cache(size, **options)
        read_through(other, keys)
        assert curve.hit_ratio(size) == pytest.approx(other.stats().hit_ratio, abs=0.03)


def test_sizes_in_bytes():
    """A cache bounded in bytes gets a curve over bytes, and small caches when sizes are known."""
    keys = zipf(10_000, 80_000)
    caches = [Cache(size, len) for size in (100_000, 400_000)]
    analyzer = Analyzer(caches[0], ALL)
    for cache in caches:
        for key in keys:
            if cache.get(key) is None:
                cache[key] = b"x" * (20 + hash(key) % 200)
    curve = analyzer.curve()
    assert curve.unit == "bytes"
    for cache in caches:
        assert curve.hit_ratio(cache.maxsize) == pytest.approx(cache.stats().hit_ratio, abs=0.04)
    assert analyzer.memory_bytes() < 1 << 20


def test_memory_is_bounded():
    """However many keys come, looking takes less than a MiB."""
    cache = Cache(50_000)
    analyzer = Analyzer(cache, ALL)
    for key in range(400_000):
        cache[f"{key}"] = None
    analyzer.curve()
    assert analyzer.memory_bytes() < 1 << 20


def test_a_recommendation():
    """It tells a size that does reach the hit ratio, and what that saves."""
    keys = zipf(20_000, 150_000)
    now = [0.0]
    cache = Cache(500)
    analyzer = Analyzer(cache, ALL, clock=lambda: now[0])
    read_through(cache, keys)
    now[0] = 60.0
    found = analyzer.recommend(hit_ratio=0.7, cost=3.0)
    assert found.recommended is not None
    assert found.current is not None
    assert found.current.size == 500
    assert found.current.hit_ratio == pytest.approx(cache.stats().hit_ratio, abs=0.01)
    assert found.requests_per_hour == pytest.approx(60 * len(keys))
    assert found.recommended.cost_saved_per_hour == pytest.approx(
        3 * found.recommended.calls_saved_per_hour
    )
    other = Cache(found.recommended.size)
    read_through(other, keys)
    assert other.stats().hit_ratio == pytest.approx(0.7, abs=0.03)


def test_what_was_long_ago_counts_less():
    """After ten half lives the curve is that of what came since."""
    now = [0.0]
    cache = Cache(100, weights=Weights.lru())
    analyzer = Analyzer(cache, Analytics(half_life=60), clock=lambda: now[0])
    read_through(cache, [f"{key}" for key in range(20_000)])
    assert analyzer.curve().best == 0
    now[0] = 600.0
    read_through(cache, [f"{key % 50}" for key in range(5_000)])
    assert analyzer.curve().best > 0.95


def test_expired_and_deleted_keys_are_missed_at_any_size():
    """Room does not help against a ttl: what has expired counts as new."""
    now = [0.0]
    cache = Cache(100, ttl=10, timer=lambda: now[0])
    analyzer = Analyzer(cache, ALL)
    for _ in range(50):
        read_through(cache, "abcdefgh")
        now[0] += 20
    assert cache.stats().hits == 0
    assert analyzer.curve().best < 0.05
    cache = Cache(100)
    analyzer = Analyzer(cache, ALL)
    for _ in range(50):
        read_through(cache, "abcdefgh")
        for key in "abcdefgh":
            del cache[key]
    assert analyzer.curve().best == 0


def test_a_new_size_is_simulated_anew():
    """After a resize the curve is about the sizes around the new one."""
    keys = zipf(20_000, 60_000)
    cache = Cache(400)
    analyzer = Analyzer(cache, ALL)
    read_through(cache, keys)
    cache.resize(2_000)
    read_through(cache, keys)
    other = Cache(4_000)
    read_through(other, keys)
    read_through(other, keys)
    assert analyzer.curve().hit_ratio(4_000) == pytest.approx(other.stats().hit_ratio, abs=0.05)


def test_predictions():
    """Measured every ten seconds, a cache that evicts steadily is foretold to go on."""
    now = [0.0]
    cache = Cache(1_000)
    analyzer = Analyzer(cache, Analytics(interval=10), clock=lambda: now[0])
    for key in range(60_000):
        cache[f"{key}"] = None
        now[0] += 0.01
    found = analyzer.predict("10m")
    assert found.full_in == 0
    assert found.evictions == pytest.approx(60_000, rel=0.1)
    assert set(found.growth) >= {"size", "working_set"}


def test_nobody_looks_after_the_end():
    """A closed analyzer takes nothing in, and the cache notes nothing."""
    cache = Cache(100)
    analyzer = Analyzer(cache, ALL)
    read_through(cache, "aabb")
    analyzer.close()
    analyzer.close()
    read_through(cache, "aabb")
    assert analyzer.curve().requests == 4
    assert cache.prober is None
    assert cache.probed() == (b"", 0)


def test_two_look_at_one_cache():
    """Each sees every request."""
    cache = Cache(100, weights=Weights.lru())
    first, second = Analyzer(cache, ALL), Analyzer(cache, ALL)
    read_through(cache, "abcabcabc")
    first_curve = first.curve()
    first.close()
    read_through(cache, "abc")
    assert first_curve.requests == 9
    assert second.curve().requests == 12
    assert second.curve().best == pytest.approx(0.75)


def test_a_cache_that_is_looked_at_can_go():
    """Neither keeps the other alive."""
    cache = Cache(100)
    analyzer = Analyzer(cache, ALL)
    read_through(cache, "abc")
    gone = weakref.ref(cache)
    del cache, analyzer
    gc.collect()
    assert gone() is None


def test_threads_may_ask_while_others_look():
    """Lookups, curves and recommendations at the same time lose no request."""
    cache = Cache(500)
    analyzer = Analyzer(cache, ALL)
    keys = zipf(2_000, 20_000)
    failed = []

    def ask(some):
        try:
            read_through(cache, some)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(keys[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        analyzer.recommend()
    for thread in threads:
        thread.join()
    assert not failed
    assert analyzer.curve().requests == pytest.approx(20_000, rel=0.02)
    cache.check()


def test_a_hybrid_cache(tmp_path):
    """With analytics on it recommends; misses that the disk answers are no calls of the origin."""
    keys = zipf(3_000, 20_000)
    with HybridCache(Memory(200), Lmdb(tmp_path / "tier"), origin=len, analytics=ALL) as store:
        for key in keys:
            store.get(key)
        found = store.recommend(hit_ratio=0.6, cost=0.1)
        assert found.recommended is not None
        assert found.recommended.size > 200
        curve = store.analytics.curve()
        assert curve.hit_ratio(200) == pytest.approx(store.stats().memory.hit_ratio, abs=0.01)
        assert found.current is not None
        # 3,000 loads at most for some 10,000 misses
        assert found.current.origin_calls_per_hour < 0.4 * found.requests_per_hour
        assert store.analytics.memory_bytes() < 1 << 20
        assert store.analytics.predict().growth == {}


def test_off_unless_asked_for(tmp_path):
    """Without analytics nothing is noted, and the way out is told."""
    with HybridCache(Memory(200), origin=len) as store:
        store.get("a")
        assert store.memory.prober is None
        with pytest.raises(ConfigurationError, match="analytics=True"):
            store.recommend()
    with pytest.raises(ConfigurationError, match="memory tier"):
        HybridCache(None, Lmdb(tmp_path / "tier"), analytics=True)


class Hours:
    """A clock that is moved."""

    now = 0.0

    def __call__(self):
        return self.now


def test_statistics_foretell(tmp_path, monkeypatch):
    """`stats` has growth, evictions and sizes, worked out anew with each measurement only."""
    clock = Hours()
    monkeypatch.setattr(StoreAnalytics, "clock", staticmethod(clock))
    with HybridCache(
        Memory(500), disk=Lmdb(tmp_path / "d"), origin=str.upper, analytics=ALL
    ) as store:
        keys = iter(zipf(3_000, 12_000))
        for _ in range(12):
            clock.now += 60
            for _ in range(1_000):
                store.get(next(keys))
            found = store.stats().predictions
        memory, disk = found.recommended["memory"], found.recommended["disk"]
        assert memory.unit == "entries"
        assert memory.hit_ratio == pytest.approx(0.95 * store.analytics.curve().best, abs=0.01)
        assert disk.unit == "bytes"
        assert disk.size > memory.size
        evicted = store.memory.stats().evicted
        assert found.evictions == pytest.approx(5 * evicted, rel=0.5)
        assert found.fewest <= found.evictions <= found.most
        assert found.growth_per_hour["disk"] > 0
        assert found.full_in == 0
        assert store.stats().predictions is found
        assert (store.stats() - store.stats()).predictions is found
        told = json.loads(json.dumps(store.stats().as_dict()))["predictions"]
        assert told["recommended"]["memory"]["size"] == memory.size


def test_statistics_foretell_nothing_unless_asked_to():
    """Without analytics nothing is looked at, and nothing is told."""
    with HybridCache(Memory(10), origin=str.upper) as store:
        store.get("a")
        assert store.stats().predictions is None
        assert store.stats().as_dict()["predictions"] is None
