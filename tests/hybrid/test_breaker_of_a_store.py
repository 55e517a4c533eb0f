"""The breaker that every store has: when its origin is left alone, and what callers get then."""

import pytest

import hybridcore as hc

from .conftest import Source

DOWN = OSError("down")


@pytest.fixture
def make(make_store, clock):
    """Make a store whose breaker goes by the clock of the test."""

    def make(source, **options):
        return make_store(source, **{"breaker": hc.Breaker(clock=clock.seconds), **options})

    return make


def trip(drive, store, key="down"):
    """Fail as often as it takes."""
    for _ in range(5):
        with pytest.raises(OSError, match="down"):
            drive.get(store, key)


def test_there_by_default(drive, make_store):
    """Five failures in a row, and the origin is left alone."""
    source = Source({"down": DOWN, "k": 1})
    store = make_store(source)
    trip(drive, store)
    with pytest.raises(hc.BreakerOpenError) as caught:
        drive.get(store, "k")
    assert 0 < caught.value.retry_after <= 60
    assert source.asked == ["down"] * 5
    assert store.breaker.state == "open"
    assert store.health()["origin"].state == "down"
    stats = store.stats()
    assert stats.guard.breaker.rejected == 1
    assert stats.origin.errors == 6


def test_tried_again_later(drive, make, clock):
    """After a minute one call at a time is let through; two that succeed close it."""
    source = Source({"down": DOWN, "k": 1, "l": 2})
    store = make(source)
    trip(drive, store)
    clock.now += 59
    with pytest.raises(hc.BreakerOpenError):
        drive.get(store, "k")
    clock.now += 2
    assert drive.get(store, "k") == 1
    assert store.breaker.state == "half_open"
    assert drive.get(store, "l") == 2
    assert store.breaker.state == "closed"
    assert store.health()["origin"].state == "ok"


def test_a_probe_that_fails(drive, make, clock):
    """It opens again for as long as before."""
    store = make(Source({"down": DOWN, "k": 1}))
    trip(drive, store)
    clock.now += 61
    with pytest.raises(OSError, match="down"):
        drive.get(store, "down")
    with pytest.raises(hc.BreakerOpenError):
        drive.get(store, "k")


def test_copies_are_served_meanwhile(drive, make, clock):
    """Fresh and stale ones are, alone and in batches, and the origin is not asked."""
    source = Source({"old": 1, "down": DOWN})
    store = make(source, ttl=10, stale=1000)
    drive.get(store, "old")
    clock.now += 11
    drive.put(store, "young", 2)
    trip(drive, store)
    source.asked.clear()
    assert drive.get(store, "old") == 1
    assert drive.get(store, "young") == 2
    with pytest.raises(hc.PartialLoadError) as caught:
        drive.get_many(store, ["old", "young", "none"])
    assert caught.value.found == {"old": 1, "young": 2}
    assert isinstance(caught.value.errors["none"], hc.BreakerOpenError)
    assert source.asked == []


def test_missing_keys_are_no_failures(drive, make):
    """An origin that says what it has not is well."""
    store = make(Source())
    for key in range(20):
        assert drive.get(store, key) is None
    assert store.breaker.state == "closed"


def test_by_hand(drive, make):
    """It can be tripped and reset."""
    store = make(Source({"k": 1}))
    store.breaker.trip()
    with pytest.raises(hc.BreakerOpenError):
        drive.get(store, "k")
    store.breaker.reset()
    assert drive.get(store, "k") == 1


def test_without_one(drive, make):
    """``breaker=None``: the origin is asked whatever happened."""
    source = Source({"down": DOWN})
    store = make(source, breaker=None)
    trip(drive, store)
    trip(drive, store)
    assert len(source.asked) == 10
    assert store.breaker is None
    assert store.health()["origin"].state == "ok"


def test_loaders_of_calls_are_not_guarded(drive, make):
    """What somebody loads by himself has nothing to do with the store's origin."""
    store = make(Source({"down": DOWN}))
    trip(drive, store)
    assert drive.get_or_load(store, "k", drive.function(lambda key: 1)) == 1

    def fail(key):
        raise DOWN

    store.breaker.reset()
    for n in range(10):
        with pytest.raises(OSError, match="down"):
            drive.get_or_load(store, f"bad {n}", drive.function(fail))
    assert store.breaker.state == "closed"


def test_writes_are_guarded(drive, make):
    """Under write_through a write that the origin would not get is refused, and changes nothing."""
    source = Source({"k": 1})
    store = make(source, strategy="write_through")
    drive.get(store, "k")
    store.breaker.trip()
    with pytest.raises(hc.BreakerOpenError):
        drive.put(store, "k", 2)
    with pytest.raises(hc.BreakerOpenError):
        drive.delete(store, "k")
    assert drive.get(store, "k") == 1
    assert source.stored == source.deleted == []


def test_a_background_load_counts(drive, make, clock):
    """What fails behind the callers opens it as well, and they do not notice."""
    from .conftest import wait_until

    source = Source({"k": 1})
    store = make(source, ttl=10, stale=1000, refresh_ahead=0.5)
    drive.get(store, "k")
    source.values["k"] = DOWN
    for n in range(5):
        clock.now += 6 if n == 0 else 0.5
        assert drive.get(store, "k") == 1
        wait_until(
            lambda n=n: store.stats().origin.errors > n and not store._engine._flights._flights
        )
    assert store.breaker.state == "open"
    assert drive.get(store, "k") == 1
