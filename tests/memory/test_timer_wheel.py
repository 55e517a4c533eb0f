"""The timer wheel finds exactly the entries that have expired, against a heap that sorts them."""

from __future__ import annotations

import heapq
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybridcore import Cache
from tests.model import ManualClock

TICK = 2**20 / 1e9
YEAR = 31_556_952

# Clocks that are exact in nanoseconds, though they count in floating point: (unit, longest).
FINE = (1 / 512, 2**32)
COARSE = (1.0, 60 * YEAR)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("unit", "longest"), [FINE, COARSE])
def test_thousands_of_ttls_against_a_heap(unit: float, longest: int, seed: int, make: Any) -> None:
    """Whatever the ttls and the leaps of the clock, exactly what is due is removed, when it is."""
    dice = random.Random(seed)

    def span() -> int:
        """In units, as likely in any ring of the wheel as in another."""
        return min(int(2 ** dice.uniform(0, longest.bit_length())), longest)

    now = start = dice.choice([0, -1000, 10**6])
    clock = ManualClock(start * unit)
    gone: list[int] = []
    cache = make(None, timer=clock, on_evict=lambda key, value, cause: gone.append(key))
    heap: list[tuple[int, int]] = []
    for key in range(2000):
        ttl = span()
        cache.put(key, key, ttl=ttl * unit)
        heapq.heappush(heap, (start + ttl, key))
    while heap:
        now = max(now, dice.choice([now + span() // 1000, heap[0][0] - 1, heap[0][0]]))
        clock.now = now * unit
        expected = []
        while heap and heap[0][0] <= now:
            expected.append(heapq.heappop(heap)[1])
        assert cache.expire() == len(expected)
        assert sorted(gone) == sorted(expected)
        gone.clear()
    assert len(cache) == 0


@example(clock=FINE, moves=[(1, -1_152_921_506), (1, -1_152_921_506), (1, 1)])  # odd, above 2**52
@given(
    clock=st.sampled_from([FINE, COARSE]),
    moves=st.lists(
        st.tuples(
            st.integers(1, 2**31) | st.integers(1, 100),
            st.integers(-(2**31), 2**31) | st.integers(-100, 100),
        ),
        max_size=30,
    ),
)
def test_leaps_to_and_fro(clock: tuple[float, int], moves: list[tuple[int, int]]) -> None:
    """Entries stored after any leap of the clock, forwards or backwards, go in their time."""
    unit, longest = clock
    timer = ManualClock(0)
    cache: Cache[int, int] = Cache(None, timer=timer)
    until: dict[int, int] = {}
    now = 0
    for key, (ttl, leap) in enumerate(moves):
        until[key] = now + min(ttl, longest)
        cache.put(key, key, ttl=(until[key] - now) * unit)
        now = max(-longest, min(longest, now + leap))
        timer.now = now * unit
        until = {key: end for key, end in until.items() if end > now}
        assert len(cache) == len(until)
        assert set(cache) == set(until)
        cache.check()


def test_every_bucket_of_every_ring(make: Any) -> None:
    """An entry in each bucket of each ring goes at its time, one after the other."""
    clock = ManualClock(0.0)
    gone: list[int] = []
    cache = make(None, timer=clock, on_evict=lambda key, value, cause: gone.append(key))
    ticks = sorted({(bucket + 1) * 64**ring + ring for ring in range(7) for bucket in range(64)})
    ticks = [tick for tick in ticks if tick * TICK < 100 * YEAR]
    for tick in ticks:
        cache.put(tick, None, ttl=tick * TICK)
    for tick in ticks:
        clock.now = tick * TICK - TICK / 2
        cache.expire()
        assert gone == []
        clock.now = tick * TICK + TICK / 2
        cache.expire()
        assert gone == [tick]
        gone.clear()
        cache.check()


@pytest.mark.parametrize("leap", [TICK, 1, 60, 86_400, YEAR, 60 * YEAR])
def test_writes_alone_find_what_is_due(leap: float, make: Any) -> None:
    """Nobody has to ask: storing other entries removes the expired ones, after any leap."""
    clock = ManualClock(5)
    cache = make(None, timer=clock)
    for i in range(500):
        cache.put(i, i, ttl=leap * (i + 1) / 500)
    clock.advance(leap * 1.001)
    for i in range(20):
        cache[f"other {i}"] = i
    assert cache.currsize == 20


def test_removed_entries_leave_the_wheel(make: Any, clock: ManualClock) -> None:
    """An entry that was deleted, evicted or replaced does not expire as well."""
    heard: list[Any] = []
    cache = make(50, timer=clock, on_evict=lambda key, value, cause: heard.append(str(cause.value)))
    dice = random.Random(3)
    for i in range(3000):
        cache.put(dice.randrange(80), i, ttl=dice.choice([5, 50, 500]))
        if i % 3 == 0:
            cache.pop(dice.randrange(80), None)
        if i % 7 == 0:
            cache.touch(dice.randrange(80), 90)
    cache.check()
    heard.clear()
    left = len(cache)
    clock.advance(1000)
    assert cache.expire() == left
    assert heard == ["expired"] * left


def test_a_clock_that_goes_to_and_fro(make: Any) -> None:
    """Small steps back, as threads see them, lose no entry and keep none for long."""
    clock = ManualClock(100)
    cache = make(None, timer=clock)
    dice = random.Random(1)
    for i in range(3000):
        clock.now += dice.uniform(-0.02, 0.03)
        cache.put(i, clock.now + 0.05, ttl=0.05)
        if i % 50 == 0:
            cache.expire()
            cache.check()
            assert all(until > clock.now - 0.1 for until in cache.values())
    clock.now += 10
    assert cache.expire() > 0
    assert len(cache) == 0
