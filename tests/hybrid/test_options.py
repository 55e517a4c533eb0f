"""Whose options count: those of the call before the pattern's, and those before the cache's."""

import pytest

import hybridcore as hc

from .conftest import Source

RULES = {
    "user:{id}": hc.EntryOptions(ttl=20),
    "user:{id}:orders": hc.EntryOptions(stale=50),
    "missing:*": hc.EntryOptions(negative_ttl=30),
}


@pytest.fixture
def store(make_store):
    """A store with a ttl of 10, and rules."""
    return make_store(
        Source(dict.fromkeys(("a", "user:1", "user:1:orders"), 1)), ttl=10, rules=RULES
    )


def left(drive, store, key):
    """The seconds for which an entry is fresh."""
    return drive.entry(store, key).ttl_left


def test_by_pattern(drive, store):
    """Loads and puts have the ttl of the first rule that matches their key."""
    drive.get_many(store, ["a", "user:1", "user:1:orders"])
    assert left(drive, store, "a") == pytest.approx(10)
    assert left(drive, store, "user:1") == pytest.approx(20)
    assert left(drive, store, "user:1:orders") == pytest.approx(10)
    drive.put(store, "user:2", 1)
    assert left(drive, store, "user:2") == pytest.approx(20)


def test_the_call_goes_first(drive, store):
    """What a call gives counts before its key's rule, and the rest is inherited."""
    drive.put(store, "user:1", 1, ttl=3)
    assert left(drive, store, "user:1") == pytest.approx(3)
    drive.put(store, "user:1", 1, ttl=None)
    assert left(drive, store, "user:1") is None
    drive.put(store, "user:1", 1, options=hc.EntryOptions(ttl="1m"))
    assert left(drive, store, "user:1") == pytest.approx(60)
    drive.put(store, "user:1", 1, ttl=4, options=hc.EntryOptions(stale=5))
    assert left(drive, store, "user:1") == pytest.approx(4)
    assert drive.get_or_load(store, "user:9", lambda key: 2, ttl=7) == 2
    assert left(drive, store, "user:9") == pytest.approx(7)
    drive.put(store, "user:1", 1)
    assert left(drive, store, "user:1") == pytest.approx(20)


def test_the_stale_of_a_rule(drive, store, clock):
    """Only keys of the rule are served past their ttl."""
    source = store._engine.origin
    drive.get_many(store, ["a", "user:1:orders"])
    clock.now += 11
    source.values = dict.fromkeys(source.values, OSError("down"))
    assert drive.get(store, "user:1:orders") == 1
    with pytest.raises(OSError, match="down"):
        drive.get(store, "a")
    with pytest.raises(hc.PartialLoadError) as caught:
        drive.get_many(store, ["a", "user:1:orders"])
    assert caught.value.found == {"user:1:orders": 1}


def test_the_stale_of_a_call(drive, store, clock):
    """It belongs to the entry that the call stored."""
    store._engine.origin.values = {"a": OSError("down")}
    drive.put(store, "a", 5, options=hc.EntryOptions(stale=100))
    clock.now += 11
    assert drive.get(store, "a") == 5
    store.memory.clear()
    assert drive.get(store, "a") == 5


def test_negative_by_rule(drive, store, clock):
    """Misses are remembered for keys of the rule."""
    source = store._engine.origin
    for key in ("missing:1", "b"):
        drive.get(store, key)
        drive.get(store, key)
    assert source.asked == ["missing:1", "b", "b"]


def test_a_call_that_contradicts_the_rest(drive, store):
    """It is refused before anything is done."""
    with pytest.raises(hc.ConfigurationError, match="soft_timeout"):
        drive.get_or_load(store, "a", len, options=hc.EntryOptions(soft_timeout=1))
    with pytest.raises(hc.ConfigurationError, match="stale"):
        drive.put(store, "a", 1, options=hc.EntryOptions(ttl=None, stale=5))
    assert drive.entry(store, "a") is None
    assert drive.get(store, "a") == 1


def test_hard_timeout_of_a_loader(drive, make_store):
    """A loader that is given with the call is bounded as well."""
    import threading

    store = make_store()
    gate = threading.Event()
    options = hc.EntryOptions(hard_timeout=0.01)
    with pytest.raises(hc.OriginTimeoutError):
        drive.get_or_load(store, "k", lambda key: gate.wait(20), options=options)
    gate.set()
    assert drive.get_or_load(store, "k", lambda key: 1, options=options) == 1


def test_keys_of_any_kind_have_the_options_of_the_cache(drive, make_store):
    """Rules are for keys that their patterns fit."""
    store = make_store(Source({1: 1, ("user", 1): 1, b"user:1": 1}), ttl=10, rules=RULES)
    for key in (1, ("user", 1), b"user:1"):
        drive.get(store, key)
        assert left(drive, store, key) == pytest.approx(10)
