"""Stack distances: exact while every key is looked at, close in constant memory when few are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import Cache, Weights
from hybridcore._native.distances import StackDistances, edges

EDGES = edges()
SOME = np.random.default_rng(5).permutation(1 << 20).astype(np.uint32) * np.uint32(4093)
"""Hashes of the keys 0, 1, 2 and so on, all different."""


def lru_hits(keys, size, sizes=None):
    """How many requests an LRU cache hits, the slow and obvious way."""
    held: dict[int, int] = {}
    hits = 0
    for number, key in enumerate(keys):
        entry = 1 if sizes is None else sizes[number]
        if key in held:
            hits += 1
            held.pop(key)
        held[key] = entry
        while sum(held.values()) > size:
            held.pop(next(iter(held)))
    return hits


def stack_hits(keys, size, sizes):
    """How many requests find that no more than this was asked for since the last of the key."""
    hits = 0
    for number, key in enumerate(keys):
        before = [other for other in range(number) if keys[other] == key]
        if before:
            asked = {keys[other]: sizes[other] for other in range(before[-1], number)}
            hits += sum(asked.values()) <= size
    return hits


def hits_at(histogram, size):
    """What the histogram says such a cache hits."""
    return np.interp(size + 1, EDGES, np.concatenate([[0], np.cumsum(histogram)]))


@given(st.lists(st.integers(0, 40), max_size=300), st.integers(1, 31))
def test_all_keys_are_exact(keys, size):
    """As long as there is room for every key, hits are those of a real LRU cache."""
    distances = StackDistances(64)
    distances.feed(SOME[keys] if keys else np.empty(0, np.uint32))
    assert hits_at(distances.histograms()[0], size) == pytest.approx(lru_hits(keys, size))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3)), min_size=1, max_size=120))
def test_bytes_are_exact(requests):
    """With one size for each key, hits in bytes are those of an LRU cache bounded in bytes."""
    keys = [key for key, _ in requests]
    size_of: dict[int, int] = {}
    sizes = [size_of.setdefault(key, size) for key, size in requests]
    distances = StackDistances(64, True)
    distances.feed(SOME[keys], np.array(sizes, np.int64))
    for size in (3, 9, 20, 31):
        # Of entries that went together, a real cache does not take back those that fit again.
        hits = hits_at(distances.histograms()[1], size)
        assert hits >= lru_hits(keys, size, sizes)
        assert hits == stack_hits(keys, size, sizes)
    assert distances.sampled_bytes == pytest.approx(sum(sizes))


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(0, 200)), max_size=600),
    st.integers(0, 3),
)
def test_removals_and_sizes_keep_the_sums(events, deepest):
    """Whatever comes, what is known is what is there: so many keys, so many bytes."""
    distances = StackDistances(64, True, deepest * 20)
    model: dict[int, int] = {}
    for number, (operation, key) in enumerate(events):
        size = number % 5 + 1
        distances.feed(SOME[[key]], np.array([size], np.int64), np.array([operation], np.uint8))
        if operation == 2:
            model.pop(key, None)
        else:
            model[key] = size
    if distances.rate == 1 and not deepest:
        assert distances.keys == len(model)
        assert distances.bytes == sum(model.values())
    assert distances.keys * distances.rate <= 64


def test_a_removed_key_is_new_again():
    """What was deleted or has expired is missed, however large the cache."""
    distances = StackDistances(64)
    events = np.array([0, 2, 0], np.uint8)
    distances.feed(SOME[[7, 7, 7]], np.array([1, 0, 1], np.int64), events)
    assert distances.histograms()[0].sum() == 0


def test_a_lookup_without_a_size_waits_for_the_put():
    """A key that is looked up and never stored is never hit."""
    distances = StackDistances(64)
    distances.feed(
        SOME[[7, 7, 8, 8, 8]],
        np.array([0, 0, 0, 1, 1], np.int64),
        np.array([0, 0, 0, 1, 0], np.uint8),
    )
    assert distances.requests == 4
    assert distances.histograms()[0].sum() == 1


def test_many_keys_in_little_memory():
    """A hundred times more keys than samples: within two points of the truth at every size."""
    rng = np.random.default_rng(1)
    ranks = 1 / np.arange(1, 200_001) ** 0.8
    keys = rng.choice(200_000, 400_000, p=ranks / ranks.sum())
    exact, sampled = StackDistances(32_000), StackDistances(2_048)
    hashes = SOME[keys]
    exact.feed(hashes[hashes < 1 << 29])  # an eighth: all that an exact one has room for
    sampled.feed(hashes)
    assert sampled.rate < 0.03
    assert sampled.keys == pytest.approx(len(np.unique(keys)), rel=0.1)
    for size in (1_000, 5_000, 20_000, 80_000):
        truth = hits_at(exact.histograms()[0], size / 8) / exact.requests
        assert hits_at(sampled.histograms()[0], size) / sampled.requests == pytest.approx(
            truth, abs=0.04
        )
    assert sampled.memory_bytes() < 150_000


def test_what_is_too_deep_lets_the_rate_be():
    """With a deepest size, any number of keys seen once lowers the rate only so far."""
    distances = StackDistances(64, False, 640)
    distances.feed(SOME[:100_000])
    assert distances.rate == pytest.approx(0.1, rel=0.35)
    endless = StackDistances(64)
    endless.feed(SOME[:100_000])
    assert endless.rate < 0.002


def test_a_sample_stands_for_all():
    """Requests of a tenth of the keys tell what all of them would."""
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 50_000, 200_000)
    cache = Cache(25_000, weights=Weights.lru())
    for key in keys.tolist():
        cache.setdefault(key, True)
    hashes = SOME[keys]
    below = (1 << 32) // 10
    tenth = StackDistances(8192, below=below)
    tenth.feed(hashes[hashes < below], None, None, len(hashes))
    assert tenth.rate == pytest.approx(0.1)
    assert hits_at(tenth.histograms()[0], 25_000) / tenth.requests == pytest.approx(
        cache.stats().hit_ratio, abs=0.02
    )


def test_fading_keeps_ratios():
    """What has faded weighs less against what comes, and says the same as long as nothing comes."""
    distances = StackDistances(64)
    distances.feed(SOME[[1, 2, 1, 2]])
    distances.fade(0.5)
    assert distances.requests == 2
    assert distances.histograms()[0].sum() == 1


@pytest.mark.parametrize("samples", [0, 63, 32_001])
def test_samples_have_bounds(samples):
    """A number of samples that makes no sense is refused."""
    with pytest.raises(ValueError, match="64 to 32000"):
        StackDistances(samples)


def test_columns_of_one_length():
    """Columns of different lengths are refused, and nothing is counted."""
    distances = StackDistances(64)
    with pytest.raises(ValueError, match="of one length"):
        distances.feed(SOME[:3], np.array([1], np.int64))
    assert distances.requests == 0
