"""Many operations of all kinds under threads, with keys that misbehave."""

from __future__ import annotations

import sys
import time
from random import Random

import pytest

from hybridcore import cached, lru_cache


class Key:
    """Compares in Python, and now and then raises, sleeps or changes the cache meanwhile."""

    def __init__(self, number, rng, act):
        self.number, self.rng, self.act = number, rng, act

    def __hash__(self):
        if self.rng.random() < 0.001:
            raise ZeroDivisionError
        return self.number % 7

    def __eq__(self, other):
        chance = self.rng.random()
        if chance < 0.001:
            raise ZeroDivisionError
        if chance < 0.002:
            time.sleep(0)
        if chance < 0.004:
            self.act()
        return isinstance(other, Key) and self.number == other.number


@pytest.mark.parametrize(
    "decorate",
    [lru_cache(50), lru_cache(None), cached(50), cached(50, ttl=0.001, error_ttl=0.001)],
    ids=["lru", "unbounded", "cached", "ttl"],
)
@pytest.mark.parametrize(
    "operations", [10_000, pytest.param(250_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_operations_of_all_kinds_under_8_threads(decorate, operations, together) -> None:
    """Fault 17: every answer is right, the table is sound, and nobody hangs."""

    def compute(key):
        number = key.number if isinstance(key, Key) else key
        if number % 11 == 0:
            raise LookupError(number)
        return number

    function = decorate(compute)

    def work(seed):
        rng = Random(seed)
        done = 0
        for _ in range(operations // 8):
            number = rng.randrange(100)
            key = number
            if rng.random() < 0.5:
                key = Key(number, rng, rng.choice([function.cache_clear, lambda: function(rng)]))
            try:
                chance = rng.random()
                if chance < 0.9:
                    assert function(key) == number
                elif chance < 0.95:
                    function.invalidate(key)
                elif chance < 0.97:
                    function.refresh(key)
                elif chance < 0.99:
                    assert function.get(key, default=number) == number
                else:
                    function.cache_info()
            except (ZeroDivisionError, LookupError, TypeError):
                pass
            except RuntimeError as error:
                if "while a key was compared" not in str(error):
                    raise
            done += 1
        return done

    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert together(work, *range(8)) == [operations // 8] * 8
    finally:
        sys.setswitchinterval(former)
    function.cache.check()
    function.cache_clear()
    assert function.cache_info()[3] == 0
