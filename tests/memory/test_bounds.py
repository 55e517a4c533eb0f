"""The bounds: how large entries may be, how many fit, and what resizing does."""

from __future__ import annotations

import math
import sys
from typing import Any
from unittest.mock import Mock

import pytest

from hybridcore import Cache, Weights, footprint_of
from hybridcore.errors import ConfigurationError, ValueTooLargeError

HUGE = 2**63 - 1


@pytest.mark.parametrize(
    ("maxsize", "bound"),
    [
        (10, 10),
        (10.0, 10),
        ("1KiB", 1024),
        ("1.5kB", 1500),
        (0, 0),
        (None, math.inf),
        (math.inf, math.inf),
        (2**62, 2**62),
        (sys.maxsize, math.inf),
        (2**64, math.inf),
        ("99999999TiB", math.inf),
    ],
)
def test_maxsize(maxsize: Any, bound: float, make: Any) -> None:
    """A bound is a number, a size in words or none; past 2**63 it is none."""
    assert make(maxsize).maxsize == bound


@pytest.mark.parametrize("maxsize", [-1, 1.5, math.nan, -math.inf, True, "lots", b"1", [], 1j])
def test_maxsize_that_makes_no_sense(maxsize: Any) -> None:
    """What is no size is refused with what was expected and what came."""
    with pytest.raises(ConfigurationError, match="expected") as caught:
        Cache(maxsize)
    assert str(maxsize).strip("()") in str(caught.value)


def test_sizes_by_put(make: Any) -> None:
    """put(size=) goes before getsizeof, and entries of size 0 need no room."""
    cache = make(10, getsizeof=lambda value: 4, weights=Weights.lru())
    cache.put("a", 1)
    cache.put("b", 2, size=6)
    assert cache.currsize == 10
    for i in range(100):
        cache.put(i, i, size=0)
    assert cache.currsize == 10
    assert len(cache) == 102
    cache.put("c", 3, size=1)
    assert "a" not in cache
    assert cache.currsize == 7


def test_mixed_sizes_after_plain_ones(make: Any) -> None:
    """Entries stored before the first size was given count 1 each."""
    cache = make(10, weights=Weights.lru())
    cache.update(a=1, b=2, c=3)
    cache.put("d", 4, size=7)
    assert cache.currsize == 10
    cache.put("d", 5, size=8)
    assert cache.currsize == 10
    assert set(cache) == {"b", "c", "d"}


def test_huge_sizes_do_not_overflow(make: Any) -> None:
    """Sizes that add up past 2**63 evict instead of wrapping around, bound or no bound."""
    for maxsize in (None, HUGE - 1, 2**62):
        cache = make(maxsize)
        size = min(cache.maxsize, HUGE)
        cache.put("a", 1, size=size)
        cache.check()
        cache.put("b", 2, size=size)
        cache.check()
        assert set(cache) == {"b"}
        assert cache.currsize == size
        cache.put("b", 3, size=size - 1)
        cache["c"] = 4
        assert cache.currsize == size
        cache.put("c", 5, size=size)
        assert list(cache) == ["c"]


@pytest.mark.parametrize("size", [2.7, "3", 2**63, -(2**63) - 1, 10**30, [], 1j])
def test_a_size_that_is_no_size(size: Any, make: Any) -> None:
    """A size that is no int below 2**63 is refused, wherever it comes from; nothing changes."""
    cache = make(10, getsizeof=lambda value: size)
    cache.put("a", 1, size=1)
    with pytest.raises(TypeError, match=r"int below 2\*\*63, got") as caught:
        cache["a"] = 2
    assert repr(size) in str(caught.value)
    with pytest.raises(TypeError, match=r"int below 2\*\*63"):
        cache.put("b", 2, size=size)
    assert dict(cache) == {"a": 1}


def test_a_negative_size(make: Any) -> None:
    """A negative size is refused, and nothing changes."""
    cache = make(10, getsizeof=lambda value: -1)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        cache["a"] = 1
    with pytest.raises(ValueError, match="at least 0, got -5"):
        cache.put("a", 1, size=-5)
    assert len(cache) == cache.currsize == 0


class Integer:
    def __index__(self) -> int:
        return 4


def test_sizes_of_other_integer_types(make: Any) -> None:
    """bool and anything with __index__ will do for a size."""
    cache = make(10, getsizeof=lambda value: value)
    cache["a"] = True
    cache["b"] = Integer()
    assert cache.currsize == 5


def test_resize(make: Any) -> None:
    """resize() evicts the coldest entries down to the new bound, and lets more in afterwards."""
    cache = make(5, weights=Weights.lru())
    cache.update((i, i) for i in range(5))
    cache[0]
    cache.resize(2)
    assert cache.coldest(9) == [4, 0]
    assert cache.maxsize == 2
    cache.resize(None)
    cache.update((i, i) for i in range(100))
    assert len(cache) == 100
    cache.resize(0)
    assert len(cache) == 0
    for bad in (-1, "much", 1.5):
        with pytest.raises(ConfigurationError, match="expected"):
            cache.resize(bad)
    assert cache.maxsize == 0


def test_resize_by_a_size_in_words(make: Any) -> None:
    """A size such as "1KiB" makes no sense where entries are counted."""
    sized = make("1MiB", getsizeof=len)
    sized.resize("1KiB")
    assert sized.maxsize == 1024
    counting = make(10)
    with pytest.raises(ConfigurationError, match="number of entries"):
        counting.resize("1KiB")
    assert counting.maxsize == 10


def test_expired_entries_make_room_first(make: Any, clock: Any) -> None:
    """No live entry is evicted while there are expired ones, however many they are."""
    cache = make(1000, timer=clock)
    cache.update((f"live {i}", i) for i in range(500))
    for i in range(500):
        cache.put(i, i, ttl=1)
    clock.advance(2)
    cache.put("large", 0, size=400)
    assert cache.stats().evicted == 0
    cache.put("larger", 0, size=100)
    assert cache.stats().evicted == 0
    assert sum(str(key).startswith("live") for key in cache) == 500
    for i in range(20):
        cache.put(i, i, ttl=1, size=0)
    clock.advance(2)
    cache.resize(600 + 400)
    assert cache.stats().evicted == 0
    assert len(cache) == 502


# -- sizes by footprint -------------------------------------------------------------------------


def test_bounded_by_memory(make: Any) -> None:
    """With a size in words and no getsizeof, entries count what they take in memory."""
    cache = make("100KiB")
    for i in range(1000):
        cache[i] = bytes(1000)
    assert 80 <= len(cache) <= 100
    assert cache.currsize <= 100 * 1024
    assert cache.getsizeof(bytes(1000)) == footprint_of(bytes(1000)) == sys.getsizeof(bytes(1000))
    with pytest.raises(ValueTooLargeError):
        cache["x"] = bytes(200_000)


@pytest.mark.parametrize(
    ("value", "at_least"),
    [
        ([bytes(1000)] * 10, 10_000),
        ({"k": bytes(1000)}, 1000),
        ((bytes(500), {bytes(500)}), 1000),
        ([bytes(1000)] * 100_000, 100_000_000),
        ([[[[bytes(1000)]]]], 1000),
    ],
)
def test_footprint_of_containers(value: Any, at_least: int) -> None:
    """Parts count, those of long containers by extrapolation."""
    assert at_least <= footprint_of(value) <= 1.2 * at_least + 1000


def test_footprint_ends() -> None:
    """Containers that hold themselves, or are nested deep, are measured in bounded time."""
    loop: list[Any] = []
    loop.append(loop)
    assert 0 < footprint_of(loop) < 10_000
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert 0 < footprint_of(deep) < 10_000


class Claims:
    """An object that makes something up about its size."""

    base = "not None"

    def __init__(self, size: int, nbytes: Any) -> None:
        self.size = size
        self.nbytes = nbytes

    def __sizeof__(self) -> int:
        return self.size


@pytest.mark.parametrize("nbytes", [-1, -1000, 2**62, Mock(), "many", None])
@pytest.mark.parametrize("size", [0, 2**62])
def test_footprint_of_odd_objects(size: int, nbytes: Any) -> None:
    """Whatever an object claims, its footprint is a number and no overflow."""
    for value in (Claims(size, nbytes), [Claims(size, nbytes)] * 1000):
        assert 0 <= footprint_of(value) <= 2**60
    assert footprint_of(Mock()) > 0
