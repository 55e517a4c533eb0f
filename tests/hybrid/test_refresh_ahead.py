"""Entries that are loaded anew before they expire: served at once, loaded behind the caller."""

import pytest

from .conftest import PATIENCE, Gate, Source, wait_until


def idle(store):
    """Whether no load is under way."""
    return not store._engine._flights._flights


@pytest.fixture(params=["memory", "disk", "both"])
def where(request):
    """Which tier has the copy."""
    return request.param


@pytest.fixture
def make_due(drive, make_store, clock, where):
    """A store whose entry ``k`` is 9 of its 10 seconds old, and due after 8."""

    def make(source, **options):
        store = make_store(source, **{"ttl": 10, "refresh_ahead": 0.8, **options})
        assert drive.get(store, "k") == "v"
        if where == "memory":
            store._engine.disk.delete("k")
        clock.now += 9
        if where == "disk":
            store.memory.discard("k")
        source.asked.clear()
        return store

    return make


def test_served_at_once_and_loaded_behind(drive, make_due, clock):
    """Whoever finds a copy that is due gets it, and a load runs that nobody waits for."""
    source = Source({"k": "v"})
    store = make_due(source)
    source.values["k"] = "new"
    source.after_load = gate = Gate()
    assert drive.get(store, "k") == "v"
    gate.wait_until_reached()
    assert drive.get(store, "k") == "v"
    gate.open()
    wait_until(lambda: drive.get(store, "k") == "new")
    assert source.asked == ["k"]
    assert store.stats().origin.refreshes == 1
    clock.now += 7.9  # from now on it is as young as any
    assert drive.get(store, "k") == "new"
    assert source.asked == ["k"]


def test_one_load_for_all_who_ask_meanwhile(drive, make_due):
    """However many ask, there is one load, and none of them waits for it."""
    source = Source({"k": "v"})
    store = make_due(source)
    source.after_load = gate = Gate()
    pending = [drive.start("get", store, "k") for _ in range(20)]
    assert [one.result(PATIENCE) for one in pending] == ["v"] * 20
    assert drive.get_many(store, ["k"]) == {"k": "v"}
    gate.open()
    wait_until(lambda: idle(store))
    assert source.asked == ["k"]


def test_only_when_someone_asks(drive, make_due, clock):
    """Nobody asked: nothing is loaded, and the entry expires as if there were no such option."""
    source = Source({"k": "v"})
    store = make_due(source)
    assert source.asked == []
    assert drive.contains(store, "k")
    assert drive.peek(store, "k") == "v"
    assert source.asked == []
    clock.now += 1.1
    assert drive.peek(store, "k") is None
    assert not drive.contains(store, "k")
    source.values["k"] = "new"
    assert drive.get(store, "k") == "new"
    assert store.stats().origin.refreshes == 0


def test_not_before_it_is_due(drive, make_store, clock):
    """An entry that is young enough is a plain hit."""
    source = Source({"k": "v"})
    store = make_store(source, ttl=10, refresh_ahead=0.8)
    drive.get(store, "k")
    clock.now += 7.9
    assert drive.get(store, "k") == "v"
    store.memory.discard("k")
    assert drive.get(store, "k") == "v"
    assert source.asked == ["k"]
    assert store.stats().memory.hits == 1


def test_a_failed_refresh_keeps_the_copy(drive, make_due, clock):
    """The copy lives out its ttl, the origin is left alone for the throttle, and then expires."""
    source = Source({"k": "v"})
    store = make_due(source, throttle=0.5)
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") == "v"
    wait_until(lambda: idle(store))
    assert source.asked == ["k"]
    assert drive.get(store, "k") == "v"
    assert source.asked == ["k"]
    clock.now += 0.6
    assert drive.get(store, "k") == "v"
    wait_until(lambda: len(source.asked) == 2 and idle(store))
    assert store.stats().origin.stale_served == 0
    clock.now += 0.5
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")


def test_not_modified_makes_it_young(drive, make_store, clock):
    """A refresh asks with the validators of the copy."""
    source = Source({"k": "v"}, etags=True)
    store = make_store(source, ttl=10, refresh_ahead=0.8)
    drive.get(store, "k")
    clock.now += 9
    drive.get(store, "k")
    wait_until(lambda: store.stats().origin.not_modified == 1 and idle(store))
    clock.now += 7.9
    assert drive.get(store, "k") == "v"
    assert len(source.asked) == 2


def test_a_refresh_that_finds_nothing(drive, make_due):
    """What the origin has no more is gone."""
    source = Source({"k": "v"})
    store = make_due(source)
    del source.values["k"]
    assert drive.get(store, "k") == "v"
    wait_until(lambda: idle(store))
    assert drive.get(store, "k", "nothing") == "nothing"
    assert not drive.contains(store, "k")


@pytest.mark.parametrize("write", ["put", "delete", "clear"])
def test_a_write_wins_over_the_refresh(drive, make_due, write):
    """What was written while it ran is not undone when it ends."""
    source = Source({"k": "v"})
    store = make_due(source)
    source.after_load = gate = Gate()
    assert drive.get(store, "k") == "v"
    gate.wait_until_reached()
    getattr(drive, write)(store, *{"put": ("k", "mine"), "delete": ("k",), "clear": ()}[write])
    gate.open()
    wait_until(lambda: store.stats().origin.loads == 2)
    wait_until(lambda: idle(store))
    assert drive.peek(store, "k") == ("mine" if write == "put" else None)


def test_get_many_loads_them_in_one_batch(drive, make_store, clock):
    """Those that are due are served and loaded together, apart from those that are missing."""
    source = Source({key: key for key in "abcd"})
    store = make_store(source, ttl=10, refresh_ahead=0.8)
    drive.get_many(store, "abc")
    clock.now += 9
    source.batches.clear()
    gate = Gate()
    source.after_load = lambda key: gate() if key in "abc" else None
    assert drive.get_many(store, "abcd") == {key: key for key in "abcd"}
    assert drive.get_many(store, "abcd") == {key: key for key in "abcd"}
    gate.open()
    wait_until(lambda: idle(store))
    assert sorted(source.batches) == [["a", "b", "c"], ["d"]]
    assert store.stats().origin.refreshes == 3


def test_get_or_load_refreshes_with_its_loader(drive, make_store, clock):
    """A loader that is given with the call is what runs in the background."""
    store = make_store(None, ttl=10, refresh_ahead=0.8)
    drive.get_or_load(store, "k", drive.function(lambda key: 1))
    clock.now += 9
    assert drive.get_or_load(store, "k", drive.function(lambda key: 2)) == 1
    wait_until(lambda: drive.peek(store, "k") == 2)


def test_without_an_origin_nothing_is_refreshed(drive, make_store, clock):
    """What was put is due as well, and served until it expires when there is nobody to ask."""
    store = make_store(None, ttl=10, refresh_ahead=0.8)
    drive.put(store, "k", "v")
    clock.now += 9
    assert drive.get(store, "k") == "v"
    assert drive.get_many(store, ["k"]) == {"k": "v"}
    clock.now += 1.1
    assert drive.get(store, "k") is None


def test_a_stale_copy_is_not_due(drive, make_due, clock):
    """Past its ttl a copy is loaded while the caller waits, as without the option."""
    source = Source({"k": "v"})
    store = make_due(source, stale=100)
    clock.now += 2
    source.values["k"] = "new"
    assert drive.get(store, "k") == "new"
    assert store.stats().origin.refreshes == 0


def test_jitter_shortens_the_ttl_by_chance(make_store, clock):
    """Entries stored at once expire at different times, none after its ttl or far before."""
    store = make_store(Source(), ttl=10, jitter=0.5, disk=None)
    for key in range(200):
        store.put(key, key)
    left = [store.entry(key).ttl_left for key in range(200)]
    assert len(set(left)) > 150
    assert 5 <= min(left) < 6
    assert 9 < max(left) <= 10
    clock.now += 4.9
    assert store.get_many(range(200)) == {key: key for key in range(200)}
    clock.now += 5.2
    assert not store.get_many(range(200))


def test_jitter_moves_the_refresh_too(make_store, clock):
    """The share is of the ttl that the entry got."""
    store = make_store(Source({"k": "v"}), ttl=10, jitter=0.5, refresh_ahead=0.5)
    store.get("k")
    whole = store.entry("k").ttl_left
    clock.now += 0.5 * whole - 0.1
    store.get("k")
    assert store.stats().origin.refreshes == 0
    clock.now += 0.2
    store.get("k")
    wait_until(lambda: store.stats().origin.refreshes == 1 and idle(store))


def test_a_guarded_origin_is_refreshed_within_its_limit(drive, make_due, clock):
    """A refresh that hangs fails at the hard timeout, and is made again later."""
    source = Source({"k": "v"})
    store = make_due(source, hard_timeout=0.05)
    source.before_load = gate = Gate()
    assert drive.get(store, "k") == "v"
    wait_until(lambda: store.stats().origin.errors == 1)
    source.before_load = lambda key: None
    gate.open()
    wait_until(lambda: store.stats().guard.left_behind == 0)
    source.values["k"] = "new"
    clock.now += 0.1
    wait_until(lambda: drive.get(store, "k") == "new")
