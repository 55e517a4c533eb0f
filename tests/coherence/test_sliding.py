"""Entries that are fresh for as long as they are used."""

from __future__ import annotations

import pytest

import hybridcore as hc
from hybridcore.testing import SimulatedClock


@pytest.fixture(params=["memory", "disk", "both"])
def make(request, tmp_path):
    """Makes caches on a clock of their own, of one tier or both."""
    clock = SimulatedClock()
    made = []

    def make(origin=None, **options):
        memory = hc.Cache(100, timer=clock.seconds) if request.param != "disk" else None
        disk = None
        if request.param != "memory":
            disk = hc.Lmdb(tmp_path / "cache", clock=clock.nanoseconds)
        defaults = hc.EntryOptions(**options)
        made.append(hc.HybridCache(memory, disk, origin, defaults=defaults, breaker=None))
        return made[-1]

    make.clock, make.kind = clock, request.param
    yield make
    for store in made:
        store.close()


def test_what_is_used_stays_fresh(make):
    """Each use puts the end off by the ttl; without any it comes."""
    store = make(ttl=160, sliding=True)
    store.put("k", 1)
    for _ in range(10):
        make.clock.sleep(140)
        assert store.get("k") == 1
    make.clock.sleep(161)
    assert store.get("k") is None


def test_what_is_loaded_slides_too(make):
    """A loaded value is not loaded again while it is used."""
    loads = []
    store = make(lambda key: loads.append(key) or "v", ttl=160, sliding=True)
    for _ in range(10):
        assert store.get("k") == "v"
        assert store.get_many(["k"]) == {"k": "v"}
        make.clock.sleep(140)
    assert len(loads) == 1
    make.clock.sleep(161)
    assert store.get("k") == "v"
    assert len(loads) == 2


def test_an_absolute_maximum(make):
    """Whoever is used all the time ends with max_ttl."""
    store = make(ttl=160, sliding=True, max_ttl=500)
    store.put("k", 1)
    for _ in range(4):
        make.clock.sleep(120)
        assert store.get("k") == 1
    make.clock.sleep(21)
    assert store.get("k") is None


def test_looking_is_no_use(make):
    """entry, peek and contains put nothing off."""
    store = make(ttl=160, sliding=True)
    store.put("k", 1)
    make.clock.sleep(140)
    assert store.peek("k") == 1
    assert store.entry("k").value == 1
    assert "k" in store
    make.clock.sleep(21)
    assert store.get("k") is None


def test_the_disk_slides_along(make):
    """What one cache uses is fresh for another that finds it on disk; own ttls stay."""
    if make.kind == "memory":
        pytest.skip("there is no disk")
    one = make(ttl=1600, sliding=True)
    one.put("k", 1, ttl=160)
    for _ in range(5):
        make.clock.sleep(140)
        assert one.get("k") == 1
    other = make(ttl=1600, sliding=True)
    assert other.get("k") == 1
    make.clock.sleep(161)
    assert other.get("k") is None
    assert one.get("k") is None


def test_invalidation_goes_before(make):
    """What slides has tags and dependencies like anything else."""
    store = make(ttl=160, sliding=True)
    store.put("k", 1, tags=["t"])
    make.clock.sleep(140)
    assert store.get("k") == 1
    assert store.entry("k").tags == ("t",)
    store.invalidate(tags=["t"])
    assert store.get("k") is None


def test_other_entries_pay_nothing(make):
    """Between two sixteenths of its ttl what slides is a plain hit, and others always are."""
    if make.kind == "disk":
        pytest.skip("there is no memory")
    store = make(ttl=160, sliding=True)
    store.put("k", 1)
    store.put("plain", 1, options=hc.EntryOptions(sliding=False))
    hits = store.memory.stats().hits
    for _ in range(5):
        assert store.get("k") == store.get("plain") == 1
    assert store.memory.stats().hits == hits + 10


def test_options_that_contradict_each_other():
    """Sliding needs a ttl, a maximum needs sliding, and refreshing ahead is the opposite of it."""
    for options in ({"sliding": True}, {"ttl": 5, "max_ttl": 9}):
        with pytest.raises(hc.ConfigurationError):
            hc.HybridCache(defaults=hc.EntryOptions(**options))
    with pytest.raises(hc.ConfigurationError, match="Leave one of them out"):
        hc.EntryOptions(ttl=5, sliding=True, refresh_ahead=0.5)
    with pytest.raises(hc.ConfigurationError, match="True or False"):
        hc.EntryOptions(ttl=5, sliding=3)
