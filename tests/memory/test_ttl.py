"""How long entries last, on a clock that the test turns."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from hybridcore import Cache, Weights
from hybridcore.errors import ConfigurationError
from tests.model import ManualClock

YEAR = 31_556_952


def test_lasts_to_the_second(make: Any, clock: ManualClock) -> None:
    """An entry is there before its ttl is over, and gone when it is: not a tick early or late."""
    cache = make(10, timer=clock)
    for ttl in (1, 2, 3, 60, 3600, YEAR):
        start = clock.now
        cache.put("key", ttl, ttl=ttl)
        clock.now = start + ttl - 1
        assert cache["key"] == ttl
        assert cache.ttl_left("key") == 1
        clock.now = start + ttl
        assert cache.get("key") is None
        assert "key" not in cache


@pytest.mark.parametrize("start", [-(2.0**31), -1000, -5, -1, 0, 0.5, 1e6, 1.7e9, 4e9])
def test_clocks_may_start_anywhere(start: float, make: Any) -> None:
    """Before the epoch, at it or in the year 2096: what counts is how much time has passed."""
    clock = ManualClock(start)
    cache = make(10, ttl=5, timer=clock)
    cache["key"] = 1
    clock.now = start + 4
    assert cache.get("key") == 1
    clock.now = start + 5
    assert cache.get("key") is None
    assert len(cache) == 0


def test_default_and_own_ttl(make: Any, clock: ManualClock) -> None:
    """put(ttl=) goes before the cache's ttl; infinity means for ever."""
    cache = make(10, ttl="10s", timer=clock)
    cache["default"] = cache["setdefault"] = 1
    cache.put("short", 1, ttl="1s")
    cache.put("long", 1, ttl=20)
    cache.put("for ever", 1, ttl=math.inf)
    cache.put("none", 1, ttl=None)
    assert cache.ttl_left("default") == cache.ttl_left("none") == 10
    assert cache.ttl_left("for ever") is None
    clock.advance(1)
    assert "short" not in cache
    clock.advance(9)
    assert set(cache) == {"long", "for ever"}
    clock.advance(1000 * 365)
    assert set(cache) == {"for ever"}


def test_a_ttl_of_0_is_over_at_once(make: Any, clock: ManualClock) -> None:
    """An entry stored for 0 seconds is gone before anybody can see it, and evicts nothing."""
    heard: list[Any] = []
    cache = make(2, timer=clock, on_evict=lambda *removal: heard.append(removal))
    cache.update(a=1, b=2)
    cache.put("key", 3, ttl=0)
    assert "key" not in cache
    assert dict(cache) == {"a": 1, "b": 2}
    assert heard == [("key", 3, "expired")]
    cache.touch("a", 0)
    assert "a" not in cache


@pytest.mark.parametrize(
    "name",
    ["get", "peek", "pop", "touch", "[]", "in", "ttl_left", "del", "get_many", "iteration", "len",
     "coldest", "items", "values", "copy", "==", "repr", "popitem"],
)  # fmt: skip
def test_nothing_sees_an_expired_entry(name: str, make: Any, clock: ManualClock) -> None:
    """Whether it was removed yet or not, an expired entry is absent to every operation."""
    cache = make(10, timer=clock)
    cache["live"] = 1
    cache.put("old", 2, ttl=5)
    clock.advance(5)

    def absent(operation: Any) -> bool:
        with pytest.raises(KeyError):
            operation("old")
        return True

    operations = {
        "get": lambda: cache.get("old") is None,
        "peek": lambda: cache.peek("old") is None,
        "pop": lambda: cache.pop("old", None) is None,
        "touch": lambda: cache.touch("old") is False,
        "[]": lambda: absent(cache.__getitem__),
        "in": lambda: "old" not in cache,
        "ttl_left": lambda: absent(cache.ttl_left),
        "del": lambda: absent(cache.__delitem__),
        "get_many": lambda: cache.get_many(["live", "old"]) == {"live": 1},
        "iteration": lambda: list(cache) == ["live"],
        "len": lambda: len(cache) == 1,
        "coldest": lambda: cache.coldest(9) == cache.hottest(9) == ["live"],
        "items": lambda: list(cache.items()) == [("live", 1)],
        "values": lambda: list(cache.values()) == [1],
        "copy": lambda: dict(cache.copy()) == {"live": 1},
        "==": lambda: cache == {"live": 1},
        "repr": lambda: "old" not in repr(cache),
        "popitem": lambda: cache.popitem() == ("live", 1),
    }
    assert operations[name]()


def test_touch_renews(make: Any, clock: ManualClock) -> None:
    """touch() starts the ttl again, the entry's own or a new one, and makes it the hottest."""
    cache = make(10, ttl=10, timer=clock, weights=Weights.lru())
    cache["a"] = 1
    cache["b"] = 2
    cache.put("c", 3, ttl=math.inf)
    clock.advance(6)
    assert cache.touch("a") is True
    assert cache.ttl_left("a") == 10
    assert cache.touch("b", 100) is True
    assert cache.touch("c") is True
    assert cache.ttl_left("c") is None
    assert cache.coldest(3) == ["a", "b", "c"]
    clock.advance(60)
    assert cache.touch("b") is True
    assert cache.ttl_left("b") == 100
    assert cache.touch("b", math.inf) is True
    assert cache.ttl_left("b") is None
    assert cache.touch("a") is False
    assert cache.touch("nobody") is False
    assert cache.stats().requests == 0


def test_touch_gives_a_ttl_to_what_had_none(make: Any, clock: ManualClock) -> None:
    """The first ttl of a cache may come by touch()."""
    cache = make(10, timer=clock)
    cache["a"] = cache["b"] = 1
    assert cache.touch("a", 5)
    clock.advance(5)
    assert set(cache) == {"b"}


def test_replacing_gives_a_new_ttl(make: Any, clock: ManualClock) -> None:
    """A new value lasts as long as it was stored for, whatever the old one had left."""
    cache = make(10, timer=clock)
    cache.put("a", 1, ttl=5)
    cache["a"] = 2
    assert cache.ttl_left("a") is None
    cache.put("a", 3, ttl=7)
    clock.advance(6)
    cache.put("a", 4, ttl=7)
    clock.advance(6)
    assert cache["a"] == 4


def test_a_clock_set_back(make: Any, clock: ManualClock) -> None:
    """Time that is taken back is time left; no operation disagrees with another about it."""
    cache = make(10, timer=clock)
    cache.put("a", 1, ttl=10)
    clock.advance(-500)
    assert cache.ttl_left("a") == 510
    cache.put("b", 2, ttl=10)
    clock.advance(10)
    assert list(cache) == ["a"]
    assert len(cache) == 1
    assert cache.currsize == 1
    clock.advance(500)
    assert cache.expire() == 1
    assert len(cache) == 0


def test_found_due_but_set_back_in_time(make: Any, clock: ManualClock) -> None:
    """Entries that were due and not removed yet are fresh again after the clock was set back."""
    cache = make(None, timer=clock)
    for i in range(200):
        cache.put(i, i, ttl=10)
    clock.advance(10)
    cache["write"] = 1  # removes some, and knows of the others
    clock.advance(-5)
    fresh = [i for i in range(200) if i in cache]
    assert 0 < len(fresh) < 200
    cache["write"] = 2
    assert len(cache) == len(fresh) + 1


def test_one_write_removes_a_bounded_number(make: Any, clock: ManualClock) -> None:
    """When very many entries expire at once, writes share the work; counting does it all."""
    heard: list[Any] = []
    cache = make(None, ttl=10, timer=clock, on_evict=lambda *removal: heard.append(removal))
    for i in range(10_000):
        cache[i] = i
    clock.advance(10)
    for i in range(20):
        before = len(heard)
        cache[-i - 1] = i
        assert 0 < len(heard) - before <= 64
    assert len(cache) == 20
    assert len(heard) == 10_000
    assert cache.stats().expired == 10_000


def test_the_default_clock(make: Any) -> None:
    """Without a timer, time is monotonic and passes by itself."""
    cache = make(10, ttl=0.03)
    cache["a"] = 1
    cache.put("b", 1, ttl=3600)
    assert 3599 < cache.ttl_left("b") <= 3600
    deadline = time.monotonic() + 5
    while "a" in cache and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(cache) == ["b"]


@pytest.mark.parametrize(
    "ttl", [-1, -0.001, math.nan, "soon", "", "5 minutes", True, [], 1j, b"5m"]
)
def test_a_ttl_that_makes_no_sense(ttl: Any, make: Any) -> None:
    """What is no duration is refused by everything that takes one, and changes nothing."""
    cache = make(10)
    cache["a"] = 1
    for operation in (
        lambda: Cache(10, ttl=ttl),
        lambda: cache.put("a", 2, ttl=ttl),
        lambda: cache.touch("a", ttl),
    ):
        with pytest.raises(ConfigurationError, match="expected a duration") as caught:
            operation()
        assert repr(ttl) in str(caught.value)
    assert cache["a"] == 1
    assert cache.ttl_left("a") is None


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf, 1.7e18, 1.7e12, -5e9])
def test_a_timer_that_does_not_count_in_seconds(now: float, make: Any) -> None:
    """A clock in milliseconds or nanoseconds is refused when it is first read."""
    clock = ManualClock(now)
    cache = make(10, ttl=5, timer=clock)
    with pytest.raises(ValueError, match="timer is expected to return seconds"):
        cache["a"] = 1
    clock.now = 5
    assert len(cache) == 0
    cache["a"] = 1
    clock.now = now
    for operation in (cache.get, cache.pop, cache.touch, cache.peek, cache.ttl_left):
        with pytest.raises(ValueError, match="timer"):
            operation("a")
    clock.now = 5
    assert dict(cache) == {"a": 1}


def test_a_timer_that_returns_no_number(make: Any) -> None:
    """A timer must return a number."""
    cache = make(10, ttl=5, timer=lambda: "noon")
    with pytest.raises(TypeError, match="number"):
        cache["a"] = 1


@pytest.mark.parametrize(
    "collect", [list, tuple, sorted, lambda c: list(c.items()), lambda c: list(c.values())]
)
def test_entries_that_expire_while_they_are_listed(collect):
    """``list`` asks for the length in between; what expires then is no change of size."""
    now = [0.0]

    def timer():
        now[0] += 1.0
        return now[0]

    cache = Cache(100, timer=timer)
    for number in range(20):
        cache.put(number, number, ttl=100 + 0.5 * number)
    now[0] = 99.0
    assert len(collect(cache)) >= 10
    seen = 0
    for _ in cache:
        len(cache)
        seen += 1
    assert seen >= 1
    now[0] = 1000.0
    assert len(cache) == 0
    cache.check()
    assert cache.stats().expired == 20
