"""What is foretold of sizes, lives of entries and growth, against what comes."""

from __future__ import annotations

import numpy as np
import pytest

from hybridcore import Cache, Weights
from hybridcore.analytics import Estimator
from hybridcore.errors import ConfigurationError
from hybridcore.monitoring.capacity import expected_curve, expected_growth, reached_in, what_if

KEYS = 5_000
RATE = 100.0
HASHES = np.random.default_rng(3).permutation(1 << 20)[: 2 * KEYS].astype(np.uint32) << 12


def drawn(requests=100_000, keys=KEYS, seed=1):
    ranks = 1 / np.arange(1, keys + 1) ** 0.9
    return np.random.default_rng(seed).choice(keys, requests, p=ranks / ranks.sum())


def curve_of(keys):
    estimator = Estimator(samples=2 * KEYS)
    estimator.feed(HASHES[keys])
    return estimator.curve()


def replayed(keys, size, ttl=None):
    now = [0.0]
    cache = Cache(size, ttl=ttl, timer=lambda: now[0], weights=Weights.lru())
    for number, key in enumerate(keys.tolist()):
        now[0] = number / RATE
        if cache.get(key) is None:
            cache[key] = True
    return cache.stats().hit_ratio


@pytest.mark.parametrize("size", [300, 2_000, 10_000])
@pytest.mark.parametrize("ttl", [5, 60, 400])
def test_a_ttl_is_foretold(size, ttl) -> None:
    """What LRU hits where entries live so long from their load on, as a replay has it."""
    keys = drawn()
    found = what_if(curve_of(keys), requests_per_hour=3600 * RATE, size=size, current=size, ttl=ttl)
    assert found.hit_ratio == pytest.approx(replayed(keys, size, ttl), abs=0.04)


def test_more_keys_need_more_room() -> None:
    """Twice the keys in twice the size hit as much; the same keys asked for more often, too."""
    curve = curve_of(drawn())
    now = what_if(curve, requests_per_hour=1000, size=500, current=500)
    more = what_if(curve, requests_per_hour=1000, size=1000, current=500, traffic=2, keys=2)
    assert more.hit_ratio == now.hit_ratio
    assert more.origin_calls_per_hour == 2 * now.origin_calls_per_hour
    assert now.saved_per_hour == 0
    wider = np.concatenate([drawn(50_000), KEYS + drawn(50_000, seed=2)])
    mixed = np.random.default_rng(4).permutation(wider)
    found = what_if(curve, requests_per_hour=1000, size=1000, current=500, keys=2)
    assert found.hit_ratio == pytest.approx(replayed(mixed, 1000), abs=0.03)


def test_what_is_told_of_growth_comes() -> None:
    """New keys become rarer: half of a stream tells how many the whole has, within a tenth."""
    keys = drawn(200_000, 2 * KEYS)
    first = np.sort(np.unique(keys, return_index=True)[1])
    seen = np.searchsorted(first, np.linspace(0, 100_000, 33)).astype(float).tolist()
    found = expected_growth(seen)
    assert found.value == pytest.approx(len(first), rel=0.1)
    assert found.lower < found.value < found.upper
    assert expected_growth(seen, most=5_000).value == 5_000
    line = expected_growth([10.0 * number for number in range(40)])
    assert line.value == pytest.approx(780)


def test_when_a_bound_is_reached() -> None:
    """A line reaches twice what it is after as long again; what stands still never does."""
    rising = [100.0 + number for number in range(101)]
    assert reached_in(rising, 60.0, 250.0) == pytest.approx(50 * 60, rel=0.25)
    assert reached_in(rising, 60.0, 150.0) == 0
    assert reached_in([5.0] * 50, 60.0, 10.0) is None


def test_the_latest_counts_most_for_the_curve_to_come() -> None:
    """It lies between what was and what is, nearer to what is; where nothing changed it is that.

    The interval has all that came, and is not nothing where nothing ever changed.
    """
    before, after = curve_of(drawn(20_000, 500)), curve_of(drawn(20_000, KEYS))
    was, now = before.hit_ratio(200), after.hit_ratio(200)
    changed, told = expected_curve([before] * 4 + [after] * 4)
    assert abs(changed.hit_ratio(200) - now) < 0.45 * abs(was - now)
    assert changed.hit_ratio(200) - told.value + told.lower < now
    assert now < changed.hit_ratio(200) + told.upper - told.value
    same, found = expected_curve([before] * 8)
    assert same.hit_ratio(200) == pytest.approx(was)
    assert found.upper - found.lower == pytest.approx(0.04)


def test_nonsense_is_refused() -> None:
    """Factors and lives that are not above nothing, and too little of the past."""
    curve = curve_of(drawn(1_000))
    for wrong in ({"size": 0}, {"traffic": -1}, {"keys": 0}, {"ttl": 0}):
        with pytest.raises(ConfigurationError, match="above 0"):
            what_if(curve, **{"requests_per_hour": 1, "size": 1, "current": 1} | wrong)
    with pytest.raises(ConfigurationError, match="5 values or more"):
        expected_growth([1.0, 2.0])
    with pytest.raises(ConfigurationError, match="at least one curve"):
        expected_curve([])
