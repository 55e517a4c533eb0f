"""What a cache counts, and what it tells its listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Cache

if TYPE_CHECKING:
    from hybridcore.types import EvictionCause
    from tests.model import ManualClock


def test_lookups_are_counted(make: Any, clock: ManualClock) -> None:
    """[], get, setdefault and get_many count a hit or a miss for each key, expired is a miss."""
    cache = make(10, timer=clock)
    cache["a"] = 1
    cache.put("old", 1, ttl=5)
    clock.advance(5)
    cache["a"], cache.get("a"), cache.setdefault("a", 2)
    assert cache.get_many(["a", "a", "x", "old"]) == {"a": 1}
    assert cache.get("x") is None
    with pytest.raises(KeyError):
        cache["old"]
    cache.setdefault("y", 1)
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (5, 5)
    assert stats.requests == 10
    assert stats.hit_ratio == 0.5


def test_other_operations_count_no_lookup(make: Any) -> None:
    """in, peek, ttl_left, touch, iteration, views and writes count no lookup."""
    cache = make(10)
    cache.update(a=1, b=2)
    assert "a" in cache
    assert "x" not in cache
    cache.peek("a"), cache.peek("x"), cache.ttl_left("a"), cache.touch("a"), cache.touch("x")
    list(cache), list(cache.items()), 1 in cache.values(), ("a", 1) in cache.items(), repr(cache)
    cache.coldest(2), cache.hottest(2), cache.copy(), cache.pop("x", None), cache.discard("x")
    assert cache == {"a": 1, "b": 2}
    assert cache.stats().requests == 0
    assert cache.stats().hit_ratio == 0


def test_writes_and_removals_are_counted(make: Any, clock: ManualClock) -> None:
    """Each entry is inserted once and leaves for one cause, so that the counters add up."""
    cache = make(3, timer=clock)
    cache.update(a=1, b=2, c=3, d=4)  # evicts "a"
    cache["d"] = 5
    cache.pop("b")
    del cache["c"]
    cache.put("e", 6, ttl=5)
    clock.advance(5)
    cache["e"] = 7  # the old "e" had expired: this is a new one
    stats = cache.stats()
    assert (stats.insertions, stats.updates, stats.replaced) == (6, 1, 1)
    assert (stats.evicted, stats.removed, stats.expired) == (1, 2, 1)
    assert stats.insertions == stats.evicted + stats.removed + stats.expired + stats.entries
    assert (stats.entries, stats.currsize, stats.maxsize) == (2, 2, 3)
    cache.popitem()
    cache.clear()
    assert cache.stats().removed == 4


def test_refused_writes_count_nothing(make: Any) -> None:
    """What was refused was not stored."""
    cache = make(3)
    for options in ({"size": 4}, {"size": -1}, {"ttl": -1}, {"cost": -1}, {"importance": -1}):
        with pytest.raises(ValueError, match=r"size|duration|cost|importance"):
            cache.put("a", 1, **options)
    assert cache.stats().insertions == 0


def test_stats_are_a_snapshot(make: Any, clock: ManualClock) -> None:
    """stats() tells of this moment, what has expired included, and does not change afterwards."""
    cache = make(3, ttl=5, timer=clock)
    cache["a"] = 1
    before = cache.stats()
    clock.advance(5)
    after = cache.stats()
    assert (before.entries, before.expired) == (1, 0)
    assert (after.entries, after.expired) == (0, 1)
    with pytest.raises(AttributeError):
        before.hits = 5


def test_memory_bytes(make: Any) -> None:
    """The table costs less than 60 bytes an entry, more with a ttl, and little when cleared."""
    for listener in (None, lambda *removal: None):
        cache = make(None, on_evict=listener)
        empty = cache.memory_bytes()
        assert empty < 200
        for i in range(100_000):
            cache[i] = i
        plain = cache.memory_bytes()
        assert 40 <= plain / 100_000 < 60
        cache.put(0, 0, ttl=5)
        assert plain < cache.memory_bytes() < plain + 100 * 100_000
        cache.clear()
        assert cache.memory_bytes() == empty


# -- the listener -------------------------------------------------------------------------------


class Diary:
    """A listener that writes down what it hears, and that the cache was consistent then."""

    def __init__(self) -> None:
        self.cache: Cache[Any, Any] | None = None
        self.heard: list[tuple[Any, Any, str]] = []

    def __call__(self, key: Any, value: Any, cause: EvictionCause) -> None:
        assert self.cache is not None
        self.cache.check()
        assert self.cache.peek(key) is not value
        self.heard.append((key, value, cause.value))

    def read(self) -> list[tuple[Any, Any, str]]:
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def cache(make: Any, clock: ManualClock, diary: Diary) -> Cache[Any, Any]:
    diary.cache = make(3, timer=clock, on_evict=diary)
    diary.cache.update(a=1, b=2, c=3)
    return diary.cache


def test_cause_size(cache: Cache[Any, Any], diary: Diary) -> None:
    """SIZE: evicted for room, the coldest first."""
    cache["d"] = 4
    assert diary.read() == [("a", 1, "size")]
    cache.put("e", 5, size=2)
    assert diary.read() == [("b", 2, "size"), ("c", 3, "size")]
    cache.resize(2)
    assert diary.read() == [("d", 4, "size")]


def test_cause_explicit(cache: Cache[Any, Any], diary: Diary) -> None:
    """EXPLICIT: the caller removed it."""
    del cache["a"]
    cache.pop("b")
    cache.popitem()
    assert diary.read() == [("a", 1, "explicit"), ("b", 2, "explicit"), ("c", 3, "explicit")]
    cache.update(d=4, e=5)
    cache.discard("d")
    cache.clear()
    assert diary.read() == [("d", 4, "explicit"), ("e", 5, "explicit")]
    cache["f"] = 6
    cache.__init__(3)  # type: ignore[misc]
    assert diary.read() == [("f", 6, "explicit")]


def test_cause_replaced(cache: Cache[Any, Any], diary: Diary) -> None:
    """REPLACED: another value took its place."""
    cache["a"] = 8
    cache.put("a", 9, ttl=5)
    assert diary.read() == [("a", 1, "replaced"), ("a", 8, "replaced")]


def test_cause_expired(cache: Cache[Any, Any], diary: Diary, clock: ManualClock) -> None:
    """EXPIRED: its ttl was over, whichever operation noticed."""
    noticing = [
        cache.expire,
        cache.__len__,
        cache.stats,
        lambda: list(cache),
        lambda: cache.coldest(1),
        lambda: cache.resize(3),
        lambda: cache.put("x", 2),
        lambda: cache.put("b", 2),
        lambda: cache.copy(),
    ]
    for notice in noticing:
        cache.clear()
        cache.put("x", 1, ttl=5)
        diary.read()
        clock.advance(5)
        cache.get("x"), cache.get("y"), "x" in cache
        assert diary.read() == []
        notice()
        assert diary.read() == [("x", 1, "expired")]


def test_a_dropped_cache_tells_nobody(diary: Diary) -> None:
    """A cache that is let go takes its entries along silently."""
    diary.cache = Cache(3, on_evict=diary)
    diary.cache["a"] = 1
    diary.cache = None
    assert diary.read() == []


def test_a_listener_sees_all_at_once(make: Any) -> None:
    """When several entries leave together, the first notification finds all of them gone."""
    sizes = []
    cache = make(None, on_evict=lambda *removal: sizes.append(len(cache)))
    cache.update((i, i) for i in range(20))
    cache.resize(5)
    assert sizes == [5] * 15
    sizes.clear()
    cache.clear()
    assert sizes == [0] * 5
