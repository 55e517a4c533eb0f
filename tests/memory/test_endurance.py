"""Many millions of operations: every invariant holds, and memory stays what it was."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Adaptive, Cache, Weights
from hybridcore.errors import ValueTooLargeError
from tests.model import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS = 10_000_000  # random ones, over all policies
OPERATIONS_FOR_A_LEAK = 20_000_000
BETWEEN_CHECKS = 100_000
BATCH = 1000
RSS = Path("/proc/self/statm")

POLICIES: list[dict[str, Any]] = [
    {},
    {"adaptive": Adaptive(objective="byte_hit_ratio", learning_rate=0.5, seed=9)},
    {"adaptive": Adaptive(performance_target=0.3), "low_water": 0.8},
    {"weights": Weights()},
    {"weights": Weights.lfu()},
    {"weights": Weights.lru(), "low_water": 0.5},
    {"weights": Weights(recency=3, frequency=0.5, size=2, cost=8, importance=0.1)},
]


def batches(seed: int) -> Iterator[tuple[str, list[int]]]:
    """Names of operations, and keys: some popular, some old, some new, some from a loop."""
    dice = random.Random(seed)
    names = ["get_many"] * 4 + ["update"] * 4 + ["put", "sized", "pop", "touch", "evict", "resize"]
    start = 0
    while True:
        start += dice.choice([0, 0, 50, 10_000])
        spread = dice.choice([30, 500, 5000])
        if dice.random() < 0.3:
            keys = [start + n for n in range(BATCH)]
        else:
            keys = [start + int(spread * dice.random() ** 3) for _ in range(BATCH)]
        yield dice.choice(names), keys


def perform(cache: Any, clock: ManualClock, name: str, keys: list[int]) -> None:
    """Do the operation to all the keys, or about so often."""
    factor = keys[0] % 9
    match name:
        case "get_many":
            cache.get_many(keys)
        case "update":
            cache.update(zip(keys, keys, strict=True))
        case "put":
            for key in keys:
                cache.put(key, key, ttl=factor, cost=key % 7, importance=factor)
            clock.advance(factor)
        case "sized":
            with suppress(ValueTooLargeError):
                for key in keys:
                    cache.put(key, key, size=key % 40)
        case "pop":
            for key in keys:
                cache.pop(key, None)
        case "touch":
            for key in keys:
                cache.touch(key)
        case "evict":
            for _ in range(BATCH // 10):
                cache.evict(factor)
                cache.evict_bytes(factor)
                cache[factor] = factor
        case "resize":
            cache.resize([0, 1, 2, 10, 300, 300, 1000, 1000, 3000][factor])
            cache.freeze(factor == 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", POLICIES, ids=repr)
def test_random_operations(options: dict[str, Any]) -> None:
    """Ten million random operations, over all policies; everything is checked now and then."""
    clock = ManualClock(1000)
    counted = [0]

    def listener(*removal: Any) -> None:
        counted[0] += 1

    cache: Cache[int, int] = Cache(1000, timer=clock, on_evict=listener, **options)
    operations = OPERATIONS // len(POLICIES) // BATCH
    for turn, (name, keys) in enumerate(batches(seed=len(repr(options)))):
        if turn == operations:
            break
        with suppress(ValueTooLargeError):  # after a resize to 0
            perform(cache, clock, name, keys)
        if turn % (BETWEEN_CHECKS // BATCH) == 0:
            cache.check()
            assert cache.currsize <= cache.maxsize
            stats = cache.stats()
            gone = stats.evicted + stats.expired + stats.removed
            # An expired entry that was replaced counts as both.
            assert stats.insertions - gone == stats.entries
            assert counted[0] == gone + stats.replaced
    cache.check()
    assert cache.stats().evicted > 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from /proc")
def test_memory_stays_flat() -> None:
    """After twenty million operations the process is not larger than after two."""
    clock = ManualClock(1000)
    caches: list[Cache[int, int]] = [
        Cache(1000, timer=clock, on_evict=lambda *removal: None, **options) for options in POLICIES
    ]
    resident = 0
    turns = OPERATIONS_FOR_A_LEAK // BATCH
    for turn, (name, keys) in enumerate(batches(seed=3)):
        if turn == turns:
            break
        cache = caches[turn % len(caches)]
        with suppress(ValueTooLargeError):
            perform(cache, clock, name, keys)
        if turn % 500 == 0:
            cache.copy()
            cache.tuning()
            cache.coldest(20)
            cache.clear()
            cache.__init__(  # type: ignore[misc]
                1000, timer=clock, on_evict=lambda *removal: None, **POLICIES[turn % len(caches)]
            )
        if turn == turns // 10:
            resident = int(RSS.read_text().split()[1])
    grown = (int(RSS.read_text().split()[1]) - resident) * 4096
    assert grown < 4 * 2**20, f"{grown} bytes more"
