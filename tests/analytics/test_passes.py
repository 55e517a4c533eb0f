"""What a recording says about sizes, against caches of these sizes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hybridcore import Cache, Weights
from hybridcore.analytics import Trace, trace_curve

KEYS = 50_000
HASHES = np.random.default_rng(3).permutation(1 << 20)[:KEYS].astype(np.uint32) << 12
SIZES = np.random.default_rng(4).integers(100, 2_000, KEYS)


@cache
def drawn():
    ranks = 1 / np.arange(1, KEYS + 1) ** 0.8
    return np.random.default_rng(1).choice(KEYS, 150_000, p=ranks / ranks.sum())


@cache
def replayed(size, policy, sized):
    options = {"weights": Weights.lru()} if policy == "lru" else {}
    cached = Cache(size, **options)
    for key in drawn().tolist():
        if cached.get(key) is None:
            cached.put(key, True, size=int(SIZES[key]) if sized else 1)
    return cached.stats().hit_ratio


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(("policy", "near"), [("lru", 0.03), ("learned", 0.1)])
@pytest.mark.parametrize("entries", [1_000, 12_000])
def test_the_size_that_hits_as_much(policy, near, entries, sized):
    """Of what a replay hits at a size, the curve finds this size, within a MiB of memory."""
    size = entries * 1_000 if sized else entries
    weights = Weights.lru() if policy == "lru" else None
    trace = Trace(HASHES[drawn()], SIZES[drawn()] if sized else None, mean_size=1_000.0)
    wanted = replayed(size, policy, sized)
    curve = trace_curve(trace, policy, sized=sized, weights=weights, hit_ratio=wanted)
    assert curve.policy == policy
    assert curve.size_for(wanted) == pytest.approx(size, rel=near)


def test_a_share_of_what_any_size_hits():
    """Where nothing is asked for, the size of nearly all hits is looked at as closely."""
    trace = Trace(HASHES[drawn()])
    curve = trace_curve(trace, "learned", share=0.9)
    wanted = 0.9 * curve.best
    assert replayed(round(curve.knee(0.9)), "learned", False) == pytest.approx(wanted, abs=0.01)
