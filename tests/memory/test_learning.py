"""What the learned policy keeps, and what it tells of itself."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from hybridcore import Adaptive, Cache, Weights
from tests.memory.traffic import popular, replay, with_scans

SEEDS = [1, 2, 3]


def ahead_of_lru(size: int, requests: list[int], seed: int = 0) -> float:
    """Share of the requests by which the learned policy is ahead."""
    learned: Cache[int, int] = Cache(size, adaptive=Adaptive(seed=seed))
    lru: Cache[int, int] = Cache(size, weights=Weights.lru())
    ahead = replay(learned, requests) - replay(lru, requests)
    learned.check()
    return ahead / len(requests)


# -- what it keeps ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_scans_are_resisted(seed: int) -> None:
    """Keys that come once do not push out those that are asked for again and again."""
    assert ahead_of_lru(500, with_scans(popular(2000, 30_000, 0.9, seed), 600), seed) > 0.06


@pytest.mark.parametrize("seed", SEEDS)
def test_loops_are_resisted(seed: int) -> None:
    """Of a loop twice as long as the cache most of what fits is kept; LRU keeps nothing."""
    assert ahead_of_lru(500, [*range(1000)] * 30, seed) > 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_popular_keys_stay(seed: int) -> None:
    """Where some keys are asked for more than others they are kept."""
    assert ahead_of_lru(300, popular(3000, 30_000, 0.8, seed), seed) > 0.04


def test_where_lru_is_best_it_is_matched() -> None:
    """When every key is asked for twice, the second time soon, that is learned too."""
    requests = [key for i in range(20_000) for key in (i, max(i - 50, 0))]
    assert ahead_of_lru(200, requests) > -0.03


def test_a_change_of_phase_is_followed() -> None:
    """After everything has changed, the new favourites take the place of the old."""
    cache: Cache[int, int] = Cache(500)
    before = popular(3000, 40_000, 0.9, seed=1)
    replay(cache, before)
    after = [key + 10**6 for key in popular(3000, 20_000, 0.9, seed=2)]
    replay(cache, after[:5000])
    lru: Cache[int, int] = Cache(500, weights=Weights.lru())
    replay(lru, before + after[:5000])
    assert replay(cache, after[5000:]) > replay(lru, after[5000:])
    assert sum(key >= 10**6 for key in cache) > 450


def test_from_a_loop_to_recency() -> None:
    """What a loop has taught, to keep the old ones, is unlearned."""
    cache: Cache[int, int] = Cache(200)
    replay(cache, [*range(400)] * 50)
    requests = [key for i in range(20_000) for key in (10**6 + i, 10**6 + max(i - 50, 0))]
    replay(cache, requests[:10_000])
    assert replay(cache, requests[10_000:]) > 0.45 * len(requests[10_000:])


# -- size, cost, importance ---------------------------------------------------------------------


@pytest.mark.parametrize("factor", ["cost", "importance"])
@pytest.mark.parametrize("weights", [None, Weights()])
def test_what_costs_or_matters_more_stays(factor: str, weights: Weights | None) -> None:
    """Of keys asked for alike, those with ten times the cost or importance fill the cache."""
    cache: Cache[int, int] = Cache(500, weights=weights)
    replay(cache, popular(4000, 30_000, 0.7), **{factor: lambda key: 10 if key % 2 else 1})
    assert sum(key % 2 for key in cache) > 0.8 * len(cache)
    plain: Cache[int, int] = Cache(500, weights=weights)
    replay(plain, popular(4000, 30_000, 0.7))
    assert 0.4 < sum(key % 2 for key in plain) / len(plain) < 0.6


def kept_by(objective: Any, weights: Weights | None = None) -> tuple[int, int]:
    """Small and large entries kept, of keys asked for alike of which every other is large."""
    adaptive = Adaptive(objective=objective)
    cache: Cache[int, int] = Cache(4000, weights=weights, adaptive=adaptive)
    replay(cache, popular(4000, 30_000, 0.7), size=lambda key: 20 if key % 2 else 1)
    large = sum(key % 2 for key in cache)
    return len(cache) - large, large


def test_large_entries_make_room_for_many_small_ones() -> None:
    """For the hit ratio small entries are the better use of room; for that of bytes they are not.

    Nor are they where the weight of size is 0.
    """
    small, large = kept_by("hit_ratio")
    assert small > 10 * large
    for even in (kept_by("byte_hit_ratio"), kept_by("hit_ratio", Weights(size=0))):
        assert even[0] < 2 * even[1]
        assert even[1] > 1.5 * large


# -- what it tells ------------------------------------------------------------------------------


def test_states(make: Any) -> None:
    """A cache fills, learns, is frozen and goes on; fixed weights learn nothing."""
    cache = make(200)
    assert cache.tuning().state == "filling"
    assert cache.tuning().next_lesson is None
    requests = popular(2000, 20_000)
    replay(cache, requests[:10_000])
    tuning = cache.tuning()
    assert (tuning.state, tuning.weights, tuning.adaptive) == ("learning", Weights(), Adaptive())
    assert tuning.lessons > 3
    assert tuning.requests == 10_000
    assert tuning.history >= 2 * 200
    assert 0 < tuning.lru_hit_ratio < tuning.hit_ratio < 1
    cache.freeze()
    replay(cache, requests[10_000:12_000])  # a lesson that had begun may end
    frozen = cache.tuning()
    replay(cache, requests[12_000:16_000])
    assert cache.tuning().state == "frozen"
    assert cache.tuning().next_lesson is None
    assert cache.tuning().lessons == frozen.lessons
    cache.freeze(False)
    replay(cache, requests[16_000:])
    assert cache.tuning().state == "learning"
    assert cache.tuning().lessons > frozen.lessons
    fixed = make(200, weights=Weights())
    replay(fixed, requests[:1000])
    assert (fixed.tuning().state, fixed.tuning().lessons) == ("fixed", 0)
    assert make(9, adaptive=Adaptive(enabled=False)).tuning().state == "fixed"


def test_the_hit_ratio_it_tells_is_about_right(make: Any) -> None:
    """What tuning() says of itself and of LRU is what comes out, within four points."""
    cache, lru = make(500), make(500, weights=Weights.lru())
    requests = popular(5000, 40_000)
    replay(cache, requests[:20_000])
    replay(lru, requests[:20_000])
    hits, lru_hits = replay(cache, requests[20_000:]), replay(lru, requests[20_000:])
    assert cache.tuning().hit_ratio == pytest.approx(hits / 20_000, abs=0.04)
    assert cache.tuning().lru_hit_ratio == pytest.approx(lru_hits / 20_000, abs=0.04)


def test_on_target(make: Any) -> None:
    """Once the target is reached the cache rests, and when it is missed it learns again."""
    cache = make(200, adaptive=Adaptive(performance_target=0.25, learning_rate=0.3))
    replay(cache, popular(5000, 20_000))
    assert cache.tuning().state == "on_target"
    replay(cache, range(10**6, 10**6 + 20_000))
    replay(cache, popular(100_000, 10_000, 0.2))
    assert cache.tuning().state == "learning"


def test_suspended_when_lru_is_better(make: Any) -> None:
    """Junk that is declared important keeps out what is asked for, and the guard notices.

    It does so for eight lessons, and for twice as many when that did not help.
    """
    cache = make(500)
    states = ["filling"]
    lessons = [0]
    keys = popular(200, 18_000, 0.0)
    for junk, key in enumerate(keys, 10**6):
        cache.put(junk, junk, importance=1e6)
        replay(cache, [key], importance=lambda key: 1e-3)
        tuning = cache.tuning()
        if tuning.state != states[-1]:
            states.append(tuning.state)
            lessons.append(tuning.lessons)
    assert states == ["filling", "learning", *["suspended", "learning"] * 2]
    assert cache.tuning().vetoes == 2
    assert [lessons[3] - lessons[2], lessons[5] - lessons[4]] == [8, 16]


def test_worth(make: Any) -> None:
    """worth() ranks the entries as coldest() does; a popular one is worth more than a new one."""
    cache = make(200)
    replay(cache, [*popular(2000, 20_000), 0, 0])
    cache["new"] = 1
    worths = [cache.worth(key) for key in cache.coldest(200)]
    assert worths == sorted(worths)
    assert cache.worth(0) > 2 * cache.worth("new") > 0
    cache.put("new", 1, importance=1000)
    assert cache.worth("new") > cache.worth(0)
    with pytest.raises(KeyError, match="absent"):
        cache.worth("absent")
    fixed = make(2, weights=Weights())
    fixed["a"] = 1
    with pytest.raises(TypeError, match="this one has weights"):
        fixed.worth("a")


# -- the same again -----------------------------------------------------------------------------


def kept(seed: int) -> list[int]:
    cache: Cache[int, int] = Cache(200, adaptive=Adaptive(seed=seed))
    replay(cache, popular(3000, 10_000))
    return sorted(cache)


def test_determined_by_the_seed() -> None:
    """The same requests with the same seed evict the same, and another seed others."""
    assert kept(7) == kept(7)
    assert kept(0) == kept(0)
    assert kept(0) != kept(7)
    assert kept(0) != kept(10**6 + 1)
    assert kept(0) != kept(2**64 - 1)


@pytest.mark.parametrize("way", [copy.copy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_copies_keep_how_to_evict(way: Any, make: Any) -> None:
    """Weights, what was to be learned and how, low water and frequencies are in a copy."""
    options: list[dict[str, Any]] = [
        {"weights": Weights(size=2)},
        {"weights": Weights.lru(), "low_water": 0.5},
        {"adaptive": Adaptive(objective="cost_saved", seed=3, performance_target=0.5)},
        {"weights": Weights(cost=3), "adaptive": Adaptive(enabled=False)},
    ]
    for option in options:
        cache = make(100, **option)
        replay(cache, popular(300, 3000))
        cache.check()
        twin = way(cache)
        twin.check()
        assert twin.options() == cache.options()
        assert (twin.tuning().weights, twin.tuning().adaptive) == (
            cache.tuning().weights,
            cache.tuning().adaptive,
        )
        assert {row[0]: row[7] for row in twin.entries()} == {
            row[0]: row[7] for row in cache.entries()
        }
        assert option.get("weights") == Weights.lru() or max(row[7] for row in twin.entries()) > 5


def test_favourites_survive_in_a_copy(make: Any) -> None:
    """A copy that is scanned keeps what had been used often."""
    cache = make(200)
    replay(cache, popular(1000, 20_000))
    favourites = set(range(20))
    twin = cache.copy()
    replay(twin, range(10**6, 10**6 + 300))
    assert len(favourites & set(twin)) > 15
