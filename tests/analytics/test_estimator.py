"""Curves of LRU and of the learned policy, beside what caches of those sizes hit."""

from __future__ import annotations

import numpy as np
import pytest

from hybridcore import Cache, Weights
from hybridcore.analytics import Estimator

RNG = np.random.default_rng(3)
HASHES = RNG.permutation(1 << 21).astype(np.uint32) * np.uint32(2039)


def drawn(keys, requests, exponent=0.9):
    ranks = 1 / np.arange(1, keys + 1) ** exponent
    return np.random.default_rng(4).choice(keys, requests, p=ranks / ranks.sum())


def replayed(keys, size, **options):
    cache = Cache(size, **options)
    for key in keys.tolist():
        if cache.get(key) is None:
            cache[key] = True
    return cache.stats().hit_ratio


@pytest.fixture(scope="module")
def trace():
    """A Zipf draw with a scan in its midst."""
    keys = drawn(60_000, 300_000)
    keys[140_000:160_000] = 60_000 + np.arange(20_000)
    return keys


def test_lru_and_learned(trace):
    """Both curves are within three points of a replay, and the difference is seen."""
    sizes = (600, 3_000, 12_000)
    estimator = Estimator(sizes=sizes)
    estimator.feed(HASHES[trace])
    lru, learned = estimator.curve(), estimator.policy_curve("learned")
    assert (lru.policy, learned.policy) == ("lru", "learned")
    for size in sizes:
        truth = replayed(trace, size, weights=Weights.lru())
        assert lru.hit_ratio(size) == pytest.approx(truth, abs=0.03)
        assert learned.hit_ratio(size) == pytest.approx(replayed(trace, size), abs=0.03)
        assert learned.hit_ratio(size) > lru.hit_ratio(size)


def test_memory_stays_below_a_mebibyte(trace):
    """Also with sizes, and small caches at three of them."""
    sized = Estimator(sized=True, sizes=(1e5, 1e6, 1e7), mean_size=100.0)
    sized.feed(HASHES[trace], np.full(len(trace), 100, np.int64))
    assert sized.memory_bytes() < 1 << 20
    plain = Estimator(sizes=(500, 5_000, 50_000))
    plain.feed(HASHES[trace])
    assert plain.memory_bytes() < 1 << 20


def test_curves_rise(trace):
    """A larger cache is never predicted to hit less, and a cache of everything hits what it can."""
    estimator = Estimator(sizes=(500, 2_000))
    estimator.feed(HASHES[trace])
    for curve in (estimator.curve(), estimator.policy_curve()):
        assert (np.diff(curve.hit_ratios) >= 0).all()
        assert curve.hit_ratio(0) <= 0.15
        assert (
            curve.hit_ratio(1 << 40)
            == curve.best
            == pytest.approx(1 - len(np.unique(trace)) / len(trace), abs=0.02)
        )


def test_bytes_count_apart():
    """Where small entries are asked for most, more requests are hit than bytes."""
    keys = drawn(5_000, 60_000)
    size_of = np.where(np.arange(5_000) < 500, 10, 1_000).astype(np.int64)
    estimator = Estimator(sized=True)
    estimator.feed(HASHES[keys], size_of[keys])
    curve = estimator.curve()
    assert curve.unit == "bytes"
    assert curve.hit_ratio(20_000) > curve.byte_hit_ratio(20_000) + 0.2
    assert curve.bytes == pytest.approx(size_of[np.unique(keys)].sum(), rel=0.05)


def test_what_was_observed_corrects_the_curve():
    """At the size that the cache has, the curve says what the cache did."""
    estimator = Estimator()
    estimator.feed(HASHES[drawn(2_000, 20_000)])
    before = estimator.curve().hit_ratio(200)
    corrected = estimator.policy_curve("learned", (200.0, before + 0.05))
    assert corrected.hit_ratio(200) == pytest.approx(before + 0.05, abs=0.01)


def test_nothing_seen():
    """Without a request there is a curve of zeros and no size for anything."""
    curve = Estimator(sizes=(10, 20)).policy_curve()
    assert curve.hit_ratio(100) == 0
    assert curve.size_for(0.5) is None
    assert curve.requests == 0


def test_small_entries_crowd_no_miniature():
    """Where entries turn out to be a tenth of what was thought, memory stays as bounded."""
    keys = drawn(60_000, 120_000)
    estimator = Estimator(sized=True, sizes=(1e5, 4e5, 16e5), mean_size=1_000.0)
    estimator.feed(HASHES[keys], np.full(len(keys), 100, np.int64))
    assert estimator.memory_bytes() < 1 << 20
    assert estimator.policy_curve().hit_ratio(4e5) == pytest.approx(replayed(keys, 4_000), abs=0.05)
