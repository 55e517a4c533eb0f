"""A ttl that is learned: longer for what stays, shorter for what changes."""

from __future__ import annotations

import pytest

from hybridcore import AdaptiveTtl, ConfigurationError, EntryOptions, HybridCache, Memory
from hybridcore.types import Loaded, NotModified


@pytest.fixture
def store():
    origin = {"still:1": 0, "moving:1": 0}
    with HybridCache(
        Memory(10),
        None,
        lambda key: origin[key],
        adaptive_ttl={
            "still:*": AdaptiveTtl(10, 1000),
            "moving:*": AdaptiveTtl(10, 1000),
        },
    ) as cache:
        cache.values = origin
        yield cache


def load_again(store, key):
    store.expire(key)
    store.get(key)


def test_it_goes_to_its_bounds(store):
    """What never changes is fresh for the longest, what always does for the shortest time."""
    for _ in range(60):
        store.values["moving:1"] += 1
        load_again(store, "still:1")
        load_again(store, "moving:1")
    assert store.ttl_of("still:1").ttl == 1000
    assert store.ttl_of("moving:1").ttl == 10
    assert 999 < store.entry("still:1").ttl_left <= 1000
    assert 9 < store.entry("moving:1").ttl_left <= 10


def test_it_stays_where_as_many_loads_find_a_change_as_are_tolerated():
    """One change in ten loads leaves it where it is."""
    policy = AdaptiveTtl(1, 10_000, tolerated=0.1)
    ttl = policy.start
    for load in range(100):
        ttl = policy.after(ttl, load % 10 == 0)
    assert ttl == pytest.approx(policy.start)


def test_it_explains_itself(store):
    """The pattern, the counts and the reason in words."""
    assert "start" in store.ttl_of("still:1").why
    for _ in range(3):
        load_again(store, "still:1")
    told = store.ttl_of("still:1")
    assert (told.pattern, told.changed, told.unchanged) == ("still:*", 0, 2)
    assert "0 of 2 loads found a change, 10% are tolerated" in told.why
    assert store.ttl_of("other").ttl is None


def test_not_modified_is_no_change():
    """304 lengthens it; a ttl that the origin tells comes first."""
    answers = [Loaded(1), NotModified(), NotModified(), Loaded(1, ttl=5)]
    with HybridCache(
        Memory(10), None, lambda key: answers.pop(0), adaptive_ttl=AdaptiveTtl(10, 1000)
    ) as store:
        for _ in range(3):
            load_again(store, "k")
        assert (store.ttl_of("k").changed, store.ttl_of("k").unchanged) == (0, 2)
        assert store.ttl_of("k").ttl > AdaptiveTtl(10, 1000).start
        load_again(store, "k")
        assert store.entry("k").ttl_left <= 5


@pytest.mark.parametrize(
    ("bounds", "more"), [((0, 1), {}), ((2, 1), {}), ((1, 2), {"tolerated": 1})]
)
def test_bounds_that_make_no_sense_are_refused(bounds, more):
    """With what was expected."""
    with pytest.raises(ConfigurationError, match="expected to be"):
        AdaptiveTtl(*bounds, **more)


def test_how_often_something_is_used_teaches_too():
    """What is used little is fresh for longer, what is used much no longer than it is worth."""
    versions = {"quiet": 0, "busy": 0, "changing": 0}
    store = HybridCache(
        Memory(100),
        origin=lambda key: versions[key],
        defaults=EntryOptions(ttl="1h", stale="1d"),
        adaptive_ttl={
            key: AdaptiveTtl("1s", "1h", uses=10) for key in ("quiet", "busy", "changing")
        },
        breaker=None,
    )
    with store:
        for _ in range(12):
            for key, times in (("quiet", 1), ("busy", 40), ("changing", 1)):
                versions["changing"] += 1
                for _ in range(times):
                    store.get(key)
                store.expire(key)
        start = AdaptiveTtl("1s", "1h").start
        quiet, busy, changing = map(store.ttl_of, ("quiet", "busy", "changing"))
        assert quiet.ttl > start > busy.ttl
        assert changing.ttl < start
        assert quiet.uses < 10 < 20 < busy.uses
        assert "10 are worth one" in busy.why
        assert changing.changed
    for uses in (0, 101, True):
        with pytest.raises(ConfigurationError, match="from 1 to 100"):
            AdaptiveTtl(1, 2, uses=uses)
