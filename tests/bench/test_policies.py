"""The replayed policies hit what they are defined to hit."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.peers import exact_lru
from bench.policies import BOUND, POLICIES, hybridcore
from bench.references import Requests
from bench.scoring import make_requests, share
from bench.traces import SHIPPED, Trace, make_trace, read_trace

BY_NAME = {policy.name: policy for policy in POLICIES}
ONLINE = [
    policy
    for policy in POLICIES
    if not policy.peer and not policy.offline and policy.missing() is None
]
SHARES = (0.01, 0.05, 0.25)


@pytest.fixture(scope="module")
def shipped() -> Trace:
    return read_trace(SHIPPED, 20_000)


def missed_by_lru(keys: list[int], sizes: list[int], capacity: int) -> list[int]:
    held: OrderedDict[int, int] = OrderedDict()
    missed = []
    for i, key in enumerate(keys):
        if key not in held:
            missed.append(i)
        if sizes[i] <= capacity:
            held[key] = sizes[i]
            held.move_to_end(key)
        while sum(held.values()) > capacity if sizes[i] != 1 else len(held) > capacity:
            held.popitem(last=False)
    return missed


@pytest.mark.parametrize("fraction", SHARES)
def test_the_cache_misses_exactly_what_lru_misses(shipped, fraction):
    """As LRU, `Cache` misses on the shipped trace the very requests that LRU misses."""
    requests = make_requests(shipped, ["objects"], seed=1)
    capacity = int(fraction * shipped.unique)
    expected = missed_by_lru(requests.keys, requests.sizes, capacity)
    assert hybridcore(requests, capacity, **exact_lru()) == expected
    assert BY_NAME["LRU"].replay(requests, capacity) == expected


def test_the_cache_bounded_in_bytes_is_lru_too(shipped):
    """With sizes, entries leave from the cold end until the newcomer fits, if it fits at all."""
    sizes = np.random.default_rng(1).integers(2, 500, shipped.unique)[shipped.keys][:3000]
    trace = make_trace("sized", shipped.keys[:3000], sizes)
    requests = make_requests(trace, ["bytes"], seed=1)
    expected = missed_by_lru(requests.keys, requests.sizes, 400)
    assert hybridcore(requests, 400, **exact_lru()) == expected
    assert BY_NAME["LRU"].replay(requests, 400) == expected


@pytest.mark.parametrize("fraction", SHARES)
def test_no_policy_beats_belady(shipped, fraction):
    """Where all sizes are one, nobody hits more than the bound."""
    requests = make_requests(shipped, ["objects"], seed=1)
    gains = requests.gains["objects"]
    capacity = int(fraction * shipped.unique)
    bound = share(gains, BY_NAME[BOUND].replay(requests, capacity, gains))
    assert 0 < bound < 1
    for policy in ONLINE:
        assert share(gains, policy.replay(requests, capacity)) <= bound, policy.name


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=14), st.integers(1, 4))
def test_belady_is_the_optimum(keys, capacity):
    """Belady's misses are as few as the best of all ways to keep and drop entries has."""

    @lru_cache(None)
    def fewest(i: int, held: frozenset[int]) -> int:
        if i == len(keys):
            return 0
        after = held | {keys[i]}
        choices = [after] if len(after) <= capacity else [after - {key} for key in after]
        return (keys[i] not in held) + min(fewest(i + 1, choice) for choice in choices)

    ones = np.ones(len(keys))
    requests = Requests(keys, [1] * len(keys), ones.tolist(), {"objects": ones})
    missed = BY_NAME[BOUND].replay(requests, capacity, ones)
    assert len(missed) == fewest(0, frozenset())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_belady_with_sizes_keeps_within_its_capacity(keys, data):
    """What Belady holds between two requests for a key never exceeds the capacity."""
    size = data.draw(st.lists(st.integers(1, 9), min_size=6, max_size=6))
    capacity = data.draw(st.integers(1, 20))
    sizes = [size[key] for key in keys]
    ones = np.ones(len(keys))
    requests = Requests(keys, sizes, ones.tolist(), {"objects": ones})
    missed = set(BY_NAME[BOUND].replay(requests, capacity, ones))
    held = [0] * len(keys)
    last: dict[int, int] = {}
    for i, key in enumerate(keys):
        if i not in missed:
            for moment in range(last[key], i):
                held[moment] += size[key]
        last[key] = i
    assert max(held) <= capacity


@pytest.mark.parametrize("name", ["LRU", "FIFO"])
def test_the_simulator_agrees_with_what_is_written_here(shipped, name):
    """libCacheSim's LRU and FIFO miss the same requests."""
    pytest.importorskip("libcachesim")
    from bench.policies import simulated

    requests = make_requests(shipped, ["objects"], seed=1)
    assert simulated(requests, 800, name) == BY_NAME[name].replay(requests, 800)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.data())
def test_greedy_dual_drops_the_least_worth(keys, data):
    """It misses what a search through everything held for the least priority misses."""
    size = data.draw(st.lists(st.integers(1, 9), min_size=10, max_size=10))
    cost = data.draw(st.lists(st.floats(0.1, 100), min_size=10, max_size=10))
    capacity = data.draw(st.integers(1, 30))
    held: dict[int, tuple[float, int]] = {}  # priority, frequency
    base, missed = 0.0, []
    for i, key in enumerate(keys):
        if key not in held:
            missed.append(i)
            if size[key] > capacity:
                continue
            while sum(size[k] for k in held) + size[key] > capacity:
                victim = min(held, key=lambda k: (held[k][0], k))
                base = held.pop(victim)[0]
        frequency = held[key][1] + 1 if key in held else 1
        held[key] = base + frequency * (cost[key] / size[key]), frequency
    sizes, costs = [size[key] for key in keys], [cost[key] for key in keys]
    requests = Requests(keys, sizes, costs, {"objects": np.ones(len(keys))})
    assert BY_NAME["GDSF with cost"].replay(requests, capacity) == missed
