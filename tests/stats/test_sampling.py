"""Hits of memory: a few are timed, at random, and stand for all."""

from __future__ import annotations

import asyncio

import pytest

import hybridcore as hc


@pytest.fixture
def store():
    with hc.HybridCache(memory=hc.Memory(1000)) as store:
        for number in range(10):
            store.put(number, "value")
        yield store


def timed(store) -> int:
    return store.stats().performance.of("memory", "get", "hit").count


def test_a_sample_stands_for_all_hits(store) -> None:
    """One in 64 is timed by default: the count is that of all hits, but for chance."""
    for number in range(200_000):
        store.get(number % 10)
    assert timed(store) == pytest.approx(200_000, rel=0.1)
    assert timed(store) % 64 == 0
    assert 0 < store.stats().performance.p99["memory"] < 0.01


def test_no_pattern_evades_the_sample(store) -> None:
    """Of lookups that hit every other time, as many are timed as hit."""
    store.time_hits(8)
    for _ in range(40_000):
        store.get(1)
        store.get("nowhere")
    assert timed(store) == pytest.approx(40_000, rel=0.1)


def test_every_hit_can_be_timed(store) -> None:
    """The rate is set at run time; of one every hit counts, by whichever face."""
    store.time_hits(1)
    for _ in range(10):
        store.get(1)
        store.lookup(2)
        assert asyncio.run(store.aio.lookup(3)) == "value"
    assert timed(store) == 30
    store.time_hits(None)
    store.get(1)
    assert timed(store) == 30
    store.time_hits(1)
    store.get(1)
    assert timed(store) == 31


@pytest.mark.parametrize("wrong", [0, 65537])
def test_a_rate_that_makes_no_sense_is_refused(store, wrong: int) -> None:
    """Nothing is changed then."""
    store.time_hits(1)
    with pytest.raises(ValueError, match="from 1 to 65536"):
        store.time_hits(wrong)
    store.get(1)
    assert timed(store) == 1


def test_bytes_of_hits_are_estimated_where_sizes_are_known() -> None:
    """Where memory counts bytes, its part of those handed out is known."""
    with hc.HybridCache(memory=hc.Cache(10_000, lambda value: 10)) as store:
        store.put("a", 1)
        store.time_hits(1)
        for _ in range(7):
            store.get("a")
        assert store.stats().served == {"memory": 70}
        assert store.stats().efficiency.byte_hit_ratio["memory"] == 1.0
        assert 0.0 <= store.stats().efficiency.fragmentation["memory"] < 1.0
